//! The face of autofsctl(8): one verb per question. Data goes to stdout, everything else to stderr.

mod check;
pub mod client;
pub mod exit;
mod explain;
mod mounts;
mod status;
pub mod table;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use serde::Serialize;

use self::client::ClientError;
use self::exit::Exit;
use crate::control::{self, Answer, Bytes, Call, Level};

/// Ask and control a running automounter, and check its configuration.
#[derive(Debug, Parser)]
#[command(name = "autofsctl", version = env!("AUTOFS_VERSION"), max_term_width = 100, after_help = EXIT_HELP)]
struct Arguments {
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    /// When to use bold type
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: Color,
    /// Socket of the daemon
    #[arg(long, global = true, value_name = "PATH", default_value = control::SOCKET)]
    socket: PathBuf,
    /// Seconds to wait for the daemon
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 15)]
    timeout: u64,
    #[command(subcommand)]
    verb: Verb,
}

const EXIT_HELP: &str = "\
Exit status: 0 yes or done, 1 no (not mounted, not found, errors in a check), 2 wrong usage, 3 the daemon is not \
running, 4 permission denied, 5 the daemon cannot do it, 124 no answer in time.";

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// See whether the daemon works
    Ping,
    /// Show the mount points, or whether PATH is mounted
    Status {
        /// A mount point, or a path below one
        path: Option<PathBuf>,
    },
    /// List what is mounted
    Mounts,
    /// Read configuration and maps again
    Reload,
    /// Unmount what is unused
    Expire {
        /// Only below this mount point
        path: Option<PathBuf>,
    },
    /// Change how much is logged about a mount point
    LogLevel {
        /// The mount point
        path: PathBuf,
        /// How much
        level: LevelName,
    },
    /// Show what an access to PATH would do, without doing it
    Explain {
        /// A path below a mount point
        path: PathBuf,
    },
    /// Show what is wrong with the configuration and the maps
    Check {
        /// Only these files; what they are is told by their names
        files: Vec<PathBuf>,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LevelName {
    Basic,
    Verbose,
    Debug,
}

/// How to ask and how to show.
struct Session {
    socket: PathBuf,
    patience: Duration,
    json: bool,
    bold: bool,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let session = Session {
        bold: match arguments.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => bold_by_environment(),
        },
        socket: arguments.socket,
        patience: Duration::from_secs(arguments.timeout),
        json: arguments.json,
    };
    match session.run(arguments.verb) {
        Ok(exit) => exit.into(),
        Err(error) => {
            let _ = writeln!(io::stderr(), "autofsctl: {error}");
            Exit::from(&error).into()
        }
    }
}

/// What NO_COLOR, CLICOLOR_FORCE and TERM say, and whether anybody watches.
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
                self.show(&pong, || format!("automount {} works, pid {}\n", pong.version, pong.pid));
                Ok(Exit::Yes)
            }
            Verb::Status { path: None } => status::all(self),
            Verb::Status { path: Some(path) } => status::one(self, &absolute(&path)?),
            Verb::Mounts => mounts::list(self),
            Verb::Reload => self.order(Call::Reload),
            Verb::Expire { path } => {
                let path = path.map(|path| absolute(&path)).transpose()?;
                self.order(Call::Expire { path })
            }
            Verb::LogLevel { path, level } => {
                let level = match level {
                    LevelName::Basic => Level::Basic,
                    LevelName::Verbose => Level::Verbose,
                    LevelName::Debug => Level::Debug,
                };
                self.order(Call::SetLogLevel { path: absolute(&path)?, level })
            }
            Verb::Check { files } => Ok(check::check(self, &files)),
            Verb::Explain { path } => explain::explain(self, absolute(&path)?),
        }
    }

    fn ask(&self, call: Call) -> Result<Answer, ClientError> {
        client::ask(&self.socket, call, self.patience)
    }

    /// Something to be done, of which there is nothing to show.
    fn order(&self, call: Call) -> Result<Exit, ClientError> {
        self.ask(call)?;
        self.show(&serde_json::Map::new(), String::new);
        Ok(Exit::Yes)
    }

    /// Prints `value` as JSON, or else `text`.
    fn show(&self, value: &impl Serialize, text: impl FnOnce() -> String) {
        let text = match serde_json::to_string_pretty(value) {
            Ok(json) if self.json => json + "\n",
            _ => text(),
        };
        // Nobody is there to hear of a closed stdout.
        let _ = io::stdout().write_all(text.as_bytes());
    }
}

/// The path as the daemon knows it: absolute, without slashes at the end. Nothing is looked up.
fn absolute(path: &Path) -> Result<Bytes, ClientError> {
    let mut bytes = Bytes::from(std::path::absolute(path)?.as_path()).0;
    while bytes.len() > 1 && bytes.last() == Some(&b'/') {
        bytes.pop();
    }
    Ok(Bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn paths_are_made_absolute_without_looking() {
        assert_eq!(absolute(Path::new("/home/a//")).unwrap().0, b"/home/a");
        assert_eq!(absolute(Path::new("/")).unwrap().0, b"/");
        assert_eq!(absolute(Path::new("/-")).unwrap().0, b"/-");
        assert!(absolute(Path::new("x")).unwrap().0.starts_with(b"/"));
    }
}
