//! The program autofsctl(8). Results go to stdout, all other messages to stderr.

mod check;
pub mod client;
mod completions;
mod convert;
mod doctor;
mod elsewhere;
pub mod exit;
mod explain;
mod health;
mod history;
mod leftovers;
mod maps;
mod metrics;
mod migrate;
mod monitor;
mod mounts;
mod names;
mod output;
mod path;
mod progress;
mod reload;
mod status;
mod steer;
pub mod table;

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgGroup, CommandFactory as _, Parser, Subcommand, ValueEnum};
use serde::Serialize;

use self::client::ClientError;
use self::exit::Exit;
use crate::control::{Answer, Block, Bytes, Call, Level, Mode, Quiesce, Reload, SetLogLevel, Umount};
use crate::sys::terminal;
use crate::{instance, lookup};

/// Query and control a running automounter, and check its configuration.
#[derive(Debug, Parser)]
#[command(name = "autofsctl", version = env!("AUTOFS_VERSION"), max_term_width = 100, after_help = EXIT_HELP)]
struct Arguments {
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    /// When to use bold type
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: Color,
    /// Socket of the daemon [default: /run/autofs/control]
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The daemon that was started with this name
    #[arg(long, global = true, value_name = "NAME", value_parser = instance_name)]
    instance: Option<String>,
    /// How long to wait for the daemon [default: 15s, or 60s for commands that wait for mounts]
    #[arg(long, global = true, value_name = "TIME", value_parser = time)]
    timeout: Option<u64>,
    /// The default is status
    #[command(subcommand)]
    verb: Option<Verb>,
}

const EXIT_HELP: &str = "\
Exit status: 0 success or yes, 1 no (not mounted, not found, errors in a check), 2 wrong usage, 3 the daemon is not \
running, 4 permission denied, 5 the daemon has refused or failed, or the output could not be written, 124 no reply in time.";

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Check whether the daemon responds
    Ping,
    /// Show the mount points, or all about PATH
    Status {
        /// A mount point, or a path below one
        path: Option<PathBuf>,
        /// Do not look for the processes that use what is mounted at PATH
        #[arg(long)]
        no_users: bool,
    },
    /// List all mounted entries, since when, and the processes that caused the mounts
    Mounts {
        /// Show the mount points they belong to, too
        #[arg(long, short)]
        wide: bool,
    },
    /// List the maps, or the entries of MAP, as the files and services have them now
    Maps(maps::Arguments),
    /// Read configuration and maps again, and show what has changed
    Reload {
        /// Only show what would change
        #[arg(long)]
        dry_run: bool,
        /// Do not wait for the end of the reload
        #[arg(long, conflicts_with = "dry_run")]
        no_wait: bool,
    },
    /// Replace the program of the daemon by the installed one
    Upgrade,
    /// End the daemon, and leave all mounts to the next start
    Detach,
    /// Unmount what a dead daemon has left and no map names
    Clean {
        /// Only list what would be tried
        #[arg(long)]
        dry_run: bool,
    },
    /// Unmount unused entries
    Expire {
        /// Only this mount point, or only this entry
        path: Option<PathBuf>,
        /// Only list what would be tried
        #[arg(long)]
        dry_run: bool,
    },
    /// Forget which keys have failed, so that the next access tries them again
    #[command(group(ArgGroup::new("keys").required(true)))]
    Flush {
        /// Only this key, or the keys of this mount point
        #[arg(group = "keys")]
        path: Option<PathBuf>,
        /// All keys
        #[arg(long, group = "keys")]
        all: bool,
    },
    /// Let new accesses to PATH fail
    Block {
        /// A mount point, or a path below one
        path: PathBuf,
        /// End the block after this time
        #[arg(long = "for", value_name = "TIME", value_parser = span)]
        duration: Option<u64>,
        /// What the log and explain say about it
        #[arg(long, value_name = "TEXT")]
        say: Option<String>,
    },
    /// End a block
    Unblock {
        /// The blocked path
        #[arg(id = "blocked", value_name = "PATH")]
        path: PathBuf,
    },
    /// Access PATH, which mounts it, and wait until it is there
    Wait {
        /// A path at or below a mount point
        path: PathBuf,
    },
    /// Change the log level of a mount point
    LogLevel {
        /// The mount point
        path: PathBuf,
        /// The log level
        level: LevelName,
        /// Return to the level of the configuration after this time
        #[arg(long = "for", value_name = "TIME", value_parser = span)]
        duration: Option<u64>,
    },
    /// Show what an access to PATH would do, and whether it would succeed
    Explain(explain::Arguments),
    /// Show the last requests that were answered, or what happened to the daemon
    History {
        /// Only requests for this path and below it, or all about the request with this number
        #[arg(value_name = "PATH|ID")]
        which: Option<String>,
        /// Only requests that failed
        #[arg(long)]
        failed: bool,
        /// Only those of the last time, such as 5m
        #[arg(long, value_name = "TIME", value_parser = time)]
        since: Option<u64>,
        /// What has happened to the daemon: starts, reloads, deaths of workers
        #[arg(long, conflicts_with_all = ["which", "failed"])]
        daemon: bool,
    },
    /// Show requests and events as they happen
    Monitor {
        /// A line for each, on a terminal, too
        #[arg(long)]
        lines: bool,
    },
    /// Print counters for Prometheus in OpenMetrics format
    Metrics {
        /// Serve them by HTTP at this address and port, such as 127.0.0.1:9810
        #[arg(long, value_name = "ADDRESS")]
        listen: Option<String>,
    },
    /// Tell by the exit status whether all mount points are served
    Health {
        /// Whether the daemon responds
        #[arg(long)]
        live: bool,
        /// Whether all mount points are served; the default
        #[arg(long, conflicts_with = "live")]
        ready: bool,
    },
    /// Prepare the daemon for a checkpoint
    Quiesce {
        /// Mode of the autofs mounts: park (lookups fail) or live (lookups prevent the checkpoint)
        #[arg(long, default_value = "park")]
        mode: ModeName,
        /// Resume after this time if no checkpoint was made
        #[arg(long, value_name = "TIME", default_value = "60s", value_parser = time)]
        lease: u64,
        /// Unmount first: file systems that CRIU does not support, all unused mounts, or nothing
        #[arg(long, value_name = "WHAT", default_value = "unsupported")]
        umount: UmountName,
    },
    /// Resume after a quiesce
    Resume,
    /// Check the conditions for a checkpoint by CRIU
    MigrateCheck,
    /// Look for what keeps the daemon, or a process, from using automounts
    Doctor {
        /// Look at the mount points in the mount namespace of this process, too
        #[arg(long, value_name = "N")]
        pid: Option<i32>,
    },
    /// Report errors in the configuration and the maps
    Check(check::Arguments),
    /// Convert a map to TOML, or from TOML to Sun format, and print it
    Convert {
        /// The map or master map
        file: PathBuf,
        /// It is a master map, whatever its name
        #[arg(long)]
        master: bool,
    },
    /// Print the script by which a shell completes the command line
    Completions {
        /// The shell
        shell: completions::Shell,
    },
    /// Print what the last word may become, for the scripts of `completions`
    #[command(hide = true)]
    Complete {
        /// The command line up to the cursor, without the name of the program
        #[arg(last = true)]
        words: Vec<OsString>,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LevelName {
    Basic,
    Verbose,
    Debug,
}

/// How long `wait` waits for a mount without --timeout.
const MOUNTED: Duration = Duration::from_secs(60);

/// How long to wait for the daemon without --timeout.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ModeName {
    Park,
    Live,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum UmountName {
    Unsupported,
    Idle,
    None,
}

/// The options that all commands share.
struct Session {
    socket: PathBuf,
    timeout: Option<Duration>,
    json: bool,
    bold: bool,
    /// The columns of the terminal, if the output goes to one.
    width: Option<usize>,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if let (Some(first), Some(second), None) = (words.next(), words.next(), words.next()) {
        // `check` asks directory services in a process of its own, as the daemon does.
        if first == lookup::ARGUMENT {
            return lookup::main(&second);
        }
        if first == steer::ACCESS {
            return steer::access_now(Path::new(&second));
        }
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return unparsed(&error),
    };
    if let Some(name) = &arguments.instance {
        instance::set(name);
    }
    let session = Session {
        bold: match arguments.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => bold_by_environment(),
        },
        width: terminal::width(),
        socket: arguments.socket.unwrap_or_else(instance::socket),
        timeout: arguments.timeout.map(Duration::from_secs),
        json: arguments.json,
    };
    match session.run(arguments.verb.unwrap_or(Verb::Status { path: None, no_users: false })) {
        Ok(exit) => exit.into(),
        Err(error) => {
            if session.json && !matches!(error, ClientError::Output(_)) {
                let _ = output::print(&output::error_document(&error));
            }
            let _ = writeln!(io::stderr(), "autofsctl: {error}");
            Exit::from(&error).into()
        }
    }
}

/// Prints help, or what is wrong with the command line.
fn unparsed(error: &clap::Error) -> ExitCode {
    let wants_json = || std::env::args_os().skip(1).take_while(|word| word != "--").any(|word| word == "--json");
    if error.use_stderr() && wants_json() {
        let text = error.to_string();
        let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let _ = output::print(&output::error_document(&ClientError::Usage(message)));
    }
    match error.print().and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let error = ClientError::Output(error);
            let _ = writeln!(io::stderr(), "autofsctl: {error}");
            Exit::from(&error).into()
        }
        _ if error.use_stderr() => Exit::Usage.into(),
        _ => Exit::Yes.into(),
    }
}

/// Parses the name of a daemon.
fn instance_name(text: &str) -> Result<String, String> {
    if instance::is_name(text.as_bytes()) {
        Ok(text.to_owned())
    } else {
        Err(format!("expected {}", instance::EXPECTED))
    }
}

/// Returns whether to use bold type according to NO_COLOR, CLICOLOR_FORCE, TERM and whether stdout is a terminal.
fn bold_by_environment() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if set("NO_COLOR") {
        return false;
    }
    set("CLICOLOR_FORCE") || (io::stdout().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb"))
}

impl Session {
    fn run(&self, verb: Verb) -> Result<Exit, ClientError> {
        match verb {
            Verb::Ping => {
                let Answer::Pong(pong) = self.ask(Call::Ping)? else { return Err(ClientError::unexpected()) };
                self.show(&pong, || format!("automount {} works, pid {}\n", pong.version, pong.pid))?;
                Ok(Exit::Yes)
            }
            Verb::Status { path: None, .. } => status::all(self),
            Verb::Status { path: Some(path), no_users } => status::one(self, &absolute(&path)?, !no_users),
            Verb::Mounts { wide } => mounts::list(self, wide),
            Verb::Maps(arguments) => maps::list(self, arguments),
            Verb::Reload { dry_run, no_wait } => reload::reload(self, Reload { dry_run, no_wait }),
            Verb::Upgrade => {
                self.ask(Call::Upgrade)?;
                client::wait_for_answer(&self.socket, self.timeout.unwrap_or(DEFAULT_TIMEOUT))?;
                self.done("the program is replaced")
            }
            Verb::Detach => self.order(Call::Detach, "the daemon ends, and its mounts stay"),
            Verb::Clean { dry_run: true } => status::left(self),
            Verb::Clean { dry_run: false } => self.order(Call::Clean, "nothing is left of daemons that have ended"),
            Verb::Expire { path, dry_run } => {
                let path = path.map(|path| absolute(&path)).transpose()?;
                steer::expire(self, path, dry_run)
            }
            Verb::Flush { path, .. } => steer::flush(self, path.map(|path| absolute(&path)).transpose()?),
            Verb::Block { path, duration, say } => {
                steer::block(self, Block { path: absolute(&path)?, seconds: duration, say })
            }
            Verb::Unblock { path } => steer::unblock(self, absolute(&path)?),
            Verb::Wait { path } => steer::wait(self, &path, self.timeout.unwrap_or(MOUNTED)),
            Verb::LogLevel { path, level, duration } => {
                let level = match level {
                    LevelName::Basic => Level::Basic,
                    LevelName::Verbose => Level::Verbose,
                    LevelName::Debug => Level::Debug,
                };
                steer::log_level(self, SetLogLevel { path: absolute(&path)?, level, seconds: duration })
            }
            Verb::Quiesce { mode, lease, umount } => {
                let mode = match mode {
                    ModeName::Park => Mode::Park,
                    ModeName::Live => Mode::Live,
                };
                let umount = match umount {
                    UmountName::Unsupported => Umount::Unsupported,
                    UmountName::Idle => Umount::Idle,
                    UmountName::None => Umount::None,
                };
                let timeout = self.timeout.map_or(Quiesce::default().timeout, |given| given.as_secs());
                migrate::quiesce(self, Quiesce { mode, timeout, lease, umount })
            }
            Verb::Resume => self.order(Call::Resume, "the daemon serves"),
            Verb::MigrateCheck => migrate::check(self),
            Verb::Doctor { pid } => doctor::doctor(self, pid),
            Verb::Check(arguments) => check::check(self, &arguments),
            Verb::Explain(arguments) => explain::explain(self, arguments),
            Verb::Monitor { lines } => monitor::run(self, lines),
            Verb::Metrics { listen: None } => metrics::print(self),
            Verb::Metrics { listen: Some(address) } => metrics::listen(self, &address),
            Verb::Health { live: true, .. } => health::live(self),
            Verb::Health { .. } => health::ready(self),
            Verb::History { which, failed, since, daemon } => {
                history::show(self, which.as_deref(), failed, since, daemon)
            }
            Verb::Completions { shell } => completions::script(self, shell),
            Verb::Complete { words } => completions::complete(Arguments::command(), &words, &self.socket),
            Verb::Convert { file, master } => convert::convert(self, &file, master),
        }
    }

    fn ask(&self, call: Call) -> Result<Answer, ClientError> {
        let time_limit = match &call {
            // The daemon limits this time itself.
            Call::Quiesce(wish) => Duration::from_secs(wish.timeout) + DEFAULT_TIMEOUT,
            // They wait for mounts.
            Call::Reload(_) | Call::Expire(_) | Call::Block(_) => self.timeout.unwrap_or(DEFAULT_TIMEOUT * 4),
            _ => self.timeout.unwrap_or(DEFAULT_TIMEOUT),
        };
        let _line = progress::Progress::of(&call, &self.socket);
        client::ask(&self.socket, call, time_limit)
    }

    /// Makes a call whose answer has no values, and says what is done.
    fn order(&self, call: Call, done: &str) -> Result<Exit, ClientError> {
        self.ask(call)?;
        self.done(done)
    }

    fn done(&self, done: &str) -> Result<Exit, ClientError> {
        self.show(&serde_json::Map::new(), || format!("{done}\n"))?;
        Ok(Exit::Yes)
    }

    /// Prints `object` as JSON, or else `text`.
    ///
    /// # Errors
    /// Returns an error if it could not be written.
    fn show(&self, object: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), ClientError> {
        output::print(&if self.json {
            output::document(object)?
        } else {
            output::fitted(output::plain(text()), self.width)
        })
    }
}

/// Parses a time (`90`, `90s`, `2m`, `1h`) and returns it in seconds.
fn time(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(number) => (number, text.chars().last()),
        None => (text, None),
    };
    let factor = match unit {
        Some('m') => 60,
        Some('h') => 3600,
        _ => 1,
    };
    let seconds = number.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).filter(|n| *n <= 86_400);
    seconds.ok_or_else(|| "a time like 10s, 2m or 1h, at most 24h".to_owned())
}

/// Parses a time that is not zero.
fn span(text: &str) -> Result<u64, String> {
    time(text).ok().filter(|seconds| *seconds > 0).ok_or_else(|| "a time like 10s, 2m or 1h, from 1s to 24h".to_owned())
}

/// Makes a path absolute, takes `..` for the directory above, and removes trailing slashes, as the daemon expects it. Does not
/// access the file system.
fn absolute(path: &Path) -> Result<Bytes, ClientError> {
    let mut plain = PathBuf::new();
    for component in std::path::absolute(path)?.components() {
        match component {
            Component::ParentDir => drop(plain.pop()),
            other => plain.push(other),
        }
    }
    Ok(Bytes::from(plain.as_path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn times_have_units() {
        assert_eq!(["0", "5", "5s", "2m", "1h"].map(|text| time(text).unwrap()), [0, 5, 5, 120, 3600]);
        assert!(span("1s").is_ok() && span("0").is_err());
        for text in ["", "s", "-1", "25h", "99999999999999999999", "1d"] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn paths_are_made_absolute_without_looking() {
        assert_eq!(absolute(Path::new("/home/a//")).unwrap().0, b"/home/a");
        assert_eq!(absolute(Path::new("/")).unwrap().0, b"/");
        assert_eq!(absolute(Path::new("/home/./a/../../srv/b/..")).unwrap().0, b"/srv");
        assert_eq!(absolute(Path::new("/-")).unwrap().0, b"/-");
        assert!(absolute(Path::new("x")).unwrap().0.starts_with(b"/"));
    }
}
