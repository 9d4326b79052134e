//! Where messages go: standard error in the foreground, syslog else.
//!
//! Three levels, as automount has them: errors and unconditional messages (`error!`), what is done (`info!`, `warn!`),
//! and how (`debug!`). A mount point can say more than the rest: a record's target is its path.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::RwLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use log::{Level, LevelFilter, Log, Metadata, Record};
use serde_json::json;

use crate::config::native::LogFormat;
use crate::map::Verbosity;
use crate::sys::{children, fds};

/// Returns the target of log records about `path`, by which a mount point can have a level of its own.
pub(crate) fn target(path: &Path) -> Cow<'_, str> {
    path.to_string_lossy()
}

/// Where messages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sink {
    /// One line per message on standard error, without time and pid.
    Stderr,
    /// `/dev/log`, facility daemon. Each message is a datagram of its own from a socket that is not connected: a
    /// restarted syslog daemon loses nothing, a full one blocks nobody, and there is no connection that a checkpoint
    /// could trip over. syslog(3) keeps one.
    Syslog,
}

/// The logger. There is one per process.
#[derive(Debug)]
pub struct Logger {
    sink: Sink,
    levels: RwLock<Levels>,
    /// Messages that could not be written since the last one that could.
    lost: AtomicU64,
}

#[derive(Debug)]
struct Levels {
    global: Verbosity,
    format: LogFormat,
    mounts: HashMap<PathBuf, Verbosity>,
}

/// The level of the `log` crate up to which `verbosity` lets messages through.
fn filter(verbosity: Verbosity) -> LevelFilter {
    match verbosity {
        Verbosity::Basic => LevelFilter::Error,
        Verbosity::Verbose => LevelFilter::Info,
        Verbosity::Debug => LevelFilter::Debug,
    }
}

/// Installs the logger. Messages go through from now on.
pub fn install(sink: Sink, global: Verbosity) -> &'static Logger {
    let levels = RwLock::new(Levels { global, format: LogFormat::Text, mounts: HashMap::new() });
    let logger = Box::leak(Box::new(Logger { sink, levels, lost: AtomicU64::new(0) }));
    // A second call is a programming error of a test at most; the first logger stays.
    let _ = log::set_logger(logger);
    log::set_max_level(filter(global));
    logger
}

impl Logger {
    /// Sets the level for everything that no mount point's own level is above.
    pub fn set_global(&self, verbosity: Verbosity) {
        self.change(|levels| levels.global = verbosity);
    }

    /// Sets the form of a line on standard error.
    pub fn set_format(&self, format: LogFormat) {
        self.change(|levels| levels.format = format);
    }

    /// Sets the level of one mount point; `None`: that of everything.
    pub fn set_mount(&self, path: &Path, verbosity: Option<Verbosity>) {
        self.change(|levels| {
            match verbosity {
                Some(verbosity) => levels.mounts.insert(path.to_owned(), verbosity),
                None => levels.mounts.remove(path),
            };
        });
    }

    /// How much is logged about a mount point.
    pub fn level(&self, path: &Path) -> Verbosity {
        let Ok(levels) = self.levels.read() else { return Verbosity::Basic };
        levels.mounts.get(path).copied().unwrap_or_default().max(levels.global)
    }

    /// Writes a line to standard error, if that does not block: whoever reads it may have stopped reading, and nobody
    /// is to wait for a file system because of that.
    fn write(&self, line: &[u8]) {
        let mut stderr = std::io::stderr().lock();
        if !fds::is_writable(stderr.as_fd()) {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let note = match self.lost.swap(0, Ordering::Relaxed) {
            0 => String::new(),
            lost => format!("{lost} messages were lost, as nobody read them\n"),
        };
        for piece in note.as_bytes().chunks(fds::ATOMIC).chain(line.chunks(fds::ATOMIC)) {
            if !fds::is_writable(stderr.as_fd()) {
                return;
            }
            // Nobody can be told when it fails.
            let _ = stderr.write_all(piece);
        }
    }

    fn change(&self, change: impl FnOnce(&mut Levels)) {
        let Ok(mut levels) = self.levels.write() else { return };
        change(&mut levels);
        let highest = levels.mounts.values().copied().fold(levels.global, Verbosity::max);
        log::set_max_level(filter(highest));
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let Ok(levels) = self.levels.read() else { return true };
        let mut verbosity = levels.global;
        if !levels.mounts.is_empty() && metadata.target().starts_with('/') {
            // The path of an entry stands below that of its mount point.
            for path in Path::new(metadata.target()).ancestors() {
                if let Some(own) = levels.mounts.get(path) {
                    verbosity = verbosity.max(*own);
                    break;
                }
            }
        }
        metadata.level() <= filter(verbosity)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        match self.sink {
            Sink::Stderr => {
                let json = self.levels.read().is_ok_and(|levels| levels.format == LogFormat::Json);
                let line = if json { json_line(record) } else { format!("{}\n", record.args()) };
                self.write(line.as_bytes());
            }
            Sink::Syslog => syslog(record.level(), &record.args().to_string()),
        }
    }

    fn flush(&self) {}
}

/// One event for a log collector. `mount` is the path that it is about, where it is about one.
fn json_line(record: &Record<'_>) -> String {
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    let mut event = json!({
        "time": time,
        "level": record.level().as_str().to_ascii_lowercase(),
        "message": record.args().to_string(),
    });
    if record.target().starts_with('/') {
        event["mount"] = record.target().into();
    }
    format!("{event}\n")
}

fn syslog(level: Level, message: &str) {
    const DAEMON: u8 = 3 << 3;
    let severity = match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    let Ok(socket) = UnixDatagram::unbound() else { return };
    if socket.set_nonblocking(true).is_ok() {
        let datagram = format!("<{}>automount[{}]: {message}", DAEMON | severity, children::pid());
        let _ = socket.send_to(datagram.as_bytes(), "/dev/log");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_can_say_more_than_the_rest() {
        let levels = RwLock::new(Levels { global: Verbosity::Basic, format: LogFormat::Text, mounts: HashMap::new() });
        let logger = Logger { sink: Sink::Stderr, levels, lost: AtomicU64::new(0) };
        let enabled = |target, level| logger.enabled(&Metadata::builder().target(target).level(level).build());
        logger.set_mount(Path::new("/home"), Some(Verbosity::Debug));
        assert!(enabled("/home/anna", Level::Debug));
        assert!(enabled("/home", Level::Info));
        assert!(!enabled("/homes", Level::Info));
        assert!(enabled("autofs", Level::Error));
        logger.set_mount(Path::new("/home"), None);
        assert!(!enabled("/home", Level::Info));
    }

    #[test]
    fn an_event_is_one_line_of_json_whatever_it_says() {
        let record = Record::builder().target("/home").level(Level::Warn).args(format_args!("a \"b\"\nc")).build();
        let line = json_line(&record);
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line.matches('\n').count(), 1);
        assert_eq!((&event["level"], &event["mount"]), (&"warn".into(), &"/home".into()));
        assert_eq!(event["message"], "a \"b\"\nc");
    }
}
