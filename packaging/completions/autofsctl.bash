# Completion of autofsctl for bash. The program itself knows its commands, options and mount points.

_autofsctl() {
    local line lines
    COMPREPLY=()
    lines=$("${COMP_WORDS[0]}" complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    while IFS= read -r line; do
        [ -z "$line" ] || COMPREPLY+=("$(printf '%q' "${line%%$'\t'*}")")
    done <<<"$lines"
}

# Files are completed where the program knows nothing.
complete -o default -F _autofsctl autofsctl
