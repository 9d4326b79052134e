//! The face of automount(8): options, messages and exit codes as scripts and unit files know them.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use super::{dump, set_log};
use crate::options::{self, Command};
use crate::text::Escaped;
use crate::{control, daemon, exec, keeper, sys};

/// Runs the program.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let program = arguments.next().unwrap_or_else(|| "automount".into());
    // Helpers of the daemon: see exec::Mounter and daemon::attach::opener.
    match (arguments.next(), arguments.next(), arguments.next()) {
        (Some(first), Some(to), None) if first == exec::WALK => {
            return if exec::walk(Path::new(&to)) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        (Some(first), None, None) if first == daemon::OPENER => return daemon::open_for_others(),
        (Some(first), ..) if first == daemon::UPGRADE_CHECK => {
            return daemon::check_upgrade(std::env::args_os().skip(2));
        }
        _ => {}
    }
    let program = Escaped(program.as_encoded_bytes());
    let command = match options::parse(std::env::args_os(), &mut io::stdout()) {
        Ok(command) => command,
        Err(error) => {
            say(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    match command {
        Command::Help => {
            say(usage(program).trim_end());
            ExitCode::SUCCESS
        }
        Command::Version => {
            // Nobody is there to hear of a closed stdout.
            let _ = io::stdout().write_all(version().as_bytes());
            ExitCode::SUCCESS
        }
        _ if sys::user::effective_uid() != 0 => {
            say(&format!("{program}: this program must be run by root."));
            ExitCode::FAILURE
        }
        Command::Run(options) => keeper::run(options, daemon::run),
        Command::SetLogPriority { priority, paths } => set_log::run(Path::new(control::SOCKET), priority, &paths),
        Command::Dump { options, map } => dump::run(&options, map.as_ref()),
    }
}

/// A line on stderr; `eprintln!` would panic where stderr is closed.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn usage(program: Escaped<'_>) -> String {
    format!(
        "\
Usage: {program} [options] [master_map_name]
  -h, --help                 print this and exit
  -V, --version              print version and build directories and exit
  -p, --pid-file FILE        write the daemon's process id to FILE
  -t, --timeout SECONDS      unmount what was not used for so long (0: never)
  -M, --master-wait SECONDS  wait so long for an unavailable master map (0: no limit)
  -n, --negative-timeout SECONDS
                             remember a failed lookup for so long
  -P, --positive-timeout SECONDS
                             keep an entry of a map that was not read whole for so long
  -v, --verbose              log what is done
  -d[N], --debug[=N]         log everything; N: debug bitmap of the LDAP library
  -D, --define NAME=VALUE    define a macro for all maps
  -S, --systemd-service      stay in the foreground as a service of systemd
  -f, --foreground           stay in the foreground and log to stderr
  -r, --random-multimount-selection
                             choose among replicated servers by chance
  -O, --global-options OPTIONS
                             mount options for all entries
  -m, --dumpmaps [TYPE NAME [MASTER]]
                             print the maps, or the one of this type and name, and exit
  -l, --set-log-priority PRIORITY PATH...
                             change how much a running daemon logs about mount points
  -C, --dont-check-daemon    start even if another daemon seems to run
  -F, --force                at start, lazily unmount what is left at the mount points
  -U, --force-exit           do the same and exit
      --on-exit clean|detach unmount what is unused at exit, or leave all for the next start
"
    )
}

/// What of automount's build options describes this program: no lock file is needed around mount(8), USR2 forces a
/// shutdown, busy mounts do not prevent one, systemd is notified. Each word is followed by a blank.
const COMPILE_OPTIONS: &str =
    "  DISABLE_MOUNT_LOCKING ENABLE_FORCED_SHUTDOWN ENABLE_IGNORE_BUSY_MOUNTS \n  WITH_SYSTEMD \n";

fn version() -> String {
    format!(
        "\nLinux automount version {} (autofs-rs)\n\nDirectories:\n\tconfig dir:\t{}\n\tmaps dir:\t{}\n\tmodules dir:\t{}\n\
         \nCompile options:\n{COMPILE_OPTIONS}\n",
        env!("AUTOFS_VERSION"),
        env!("AUTOFS_SYSCONFDIR"),
        env!("AUTOFS_MAPDIR"),
        env!("AUTOFS_LIBDIR"),
    )
}
