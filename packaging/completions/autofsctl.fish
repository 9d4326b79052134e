# Completion of autofsctl for fish. The program itself knows its commands, options and mount points.

function __autofsctl_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l found ($words[1] complete -- $words[2..-1] 2>/dev/null)
    # Files are completed where the program knows nothing.
    if test (count $found) -gt 0
        printf '%s\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end

complete -c autofsctl -f -a '(__autofsctl_complete)'
