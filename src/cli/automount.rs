//! The program automount(8), with the options, messages and exit codes that scripts and unit files rely on.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use super::{dump, set_log};
use crate::options::{self, Command};
use crate::text::Escaped;
use crate::{daemon, exec, instance, keeper, lookup, sys};

/// Runs the program.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let program = arguments.next().unwrap_or_else(|| "automount".into());
    // The daemon executes itself as a helper: see exec::Mounter and daemon::attach::opener.
    match (arguments.next(), arguments.next(), arguments.next()) {
        (Some(first), Some(to), who) if first == exec::WALK => {
            let who = who.map(|who| who.to_string_lossy().into_owned());
            return exec::walk(Path::new(&to), who.as_deref()).map_or_else(
                |error| {
                    say(&error.to_string());
                    ExitCode::FAILURE
                },
                |()| ExitCode::SUCCESS,
            );
        }
        (Some(first), Some(service), None) if first == lookup::ARGUMENT => return lookup::main(&service),
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
    if let Some(name) = command.instance() {
        instance::set(name);
    }
    match command {
        Command::Help => {
            say(usage(program).trim_end());
            ExitCode::SUCCESS
        }
        Command::Version => {
            // Errors are ignored: stdout may be closed.
            let _ = io::stdout().write_all(version().as_bytes());
            ExitCode::SUCCESS
        }
        _ if sys::user::effective_uid() != 0 => {
            say(&format!("{program}: this program must be run by root."));
            ExitCode::FAILURE
        }
        Command::Run(options) => keeper::run(options, daemon::run),
        Command::SetLogPriority { priority, paths, .. } => set_log::run(&instance::socket(), priority, &paths),
        Command::Dump { options, map } => dump::run(&options, map.as_ref()),
    }
}

/// Writes a line to stderr. `eprintln!` would panic if stderr is closed.
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
  -t, --timeout SECONDS      unmount mounts unused for this time (0: never)
  -M, --master-wait SECONDS  how long to wait for an unavailable master map (0: no limit)
  -n, --negative-timeout SECONDS
                             do not repeat failed lookups for this time
  -P, --positive-timeout SECONDS
                             cache entries of maps that are not read as a whole for this time
  -v, --verbose              log mounts and unmounts
  -d[N], --debug[=N]         log everything; N: bit mask for the LDAP library
  -D, --define NAME=VALUE    define a variable for all maps
  -S, --systemd-service      stay in the foreground as a systemd service
  -f, --foreground           stay in the foreground and log to stderr
  -r, --random-multimount-selection
                             choose among replicated servers at random
  -O, --global-options OPTIONS
                             mount options for all entries
  -m, --dumpmaps [TYPE NAME [MASTER]]
                             print all maps, or the map with this type and name, and exit
  -l, --set-log-priority PRIORITY PATH...
                             change the log level of mount points of a running daemon
  -C, --dont-check-daemon    start even if another daemon appears to be running
  -F, --force                at the start, lazily unmount everything left at the mount points
  -U, --force-exit           unmount like --force and exit
      --on-exit clean|detach unmount unused mounts at shutdown, or leave all to the next start
      --instance NAME        run beside other daemons, with the master map auto.master@NAME
"
    )
}

/// The build options of automount that apply to this program: no lock file around mount(8), SIGUSR2 forces a shutdown, busy
/// mounts do not prevent one, systemd is notified. Each word is followed by a blank.
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
