//! The log: to standard error in the foreground, otherwise to syslog.
//!
//! There are three levels, as in automount: errors and unconditional messages (`error!`), operations (`info!`, `warn!`), and
//! their details (`debug!`). A mount point can have its own level; the target of a log record is the path it is about.

pub mod fields;

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
use crate::instance;
use crate::map::Verbosity;
use crate::sys::{children, fds};
use crate::text::secrets::masked_text;

/// Returns the target of log records about `path`. The level of a mount point applies to targets at and below its path.
pub(crate) fn target(path: &Path) -> Cow<'_, str> {
    path.to_string_lossy()
}

/// The destination of log messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sink {
    /// One line per message on standard error, without time and pid.
    Stderr,
    /// The socket of journald if there is one, with fields beside the message; else `/dev/log`, facility daemon. Each message
    /// is sent as a datagram from an unconnected socket, unlike in syslog(3). So a restart of the syslog daemon loses nothing,
    /// a full queue blocks nothing, and a checkpoint contains no connection.
    Syslog,
}

/// The logger. There is one per process.
#[derive(Debug)]
pub struct Logger {
    sink: Sink,
    levels: RwLock<Levels>,
    /// How many messages were dropped since the last one that was written.
    lost: AtomicU64,
}

#[derive(Debug)]
struct Levels {
    global: Verbosity,
    format: LogFormat,
    mounts: HashMap<PathBuf, Verbosity>,
    /// Levels that were chosen at run time; those of `/-` are for all direct mounts.
    chosen: HashMap<PathBuf, Verbosity>,
}

/// Returns the highest level of the `log` crate that `verbosity` enables.
fn filter(verbosity: Verbosity) -> LevelFilter {
    match verbosity {
        Verbosity::Basic => LevelFilter::Error,
        Verbosity::Verbose => LevelFilter::Info,
        Verbosity::Debug => LevelFilter::Debug,
    }
}

/// Creates the logger and installs it for the `log` crate. A later call returns a logger that is not installed; only tests call
/// this twice.
pub fn install(sink: Sink, global: Verbosity) -> &'static Logger {
    let levels =
        RwLock::new(Levels { global, format: LogFormat::Text, mounts: HashMap::new(), chosen: HashMap::new() });
    let logger = Box::leak(Box::new(Logger { sink, levels, lost: AtomicU64::new(0) }));
    // Fails on a second call; the first logger stays installed.
    let _ = log::set_logger(logger);
    log::set_max_level(filter(global));
    logger
}

impl Levels {
    /// Returns the chosen level of a mount point, or else the level of its map.
    fn own(&self, path: &Path) -> Option<Verbosity> {
        self.chosen.get(path).or_else(|| self.mounts.get(path)).copied()
    }
}

impl Logger {
    /// Sets the minimum level of all messages.
    pub fn set_global(&self, verbosity: Verbosity) {
        self.change(|levels| levels.global = verbosity);
    }

    /// Sets the format of lines on standard error.
    pub fn set_format(&self, format: LogFormat) {
        self.change(|levels| levels.format = format);
    }

    /// Sets the level of one mount point. `None` removes its own level.
    pub fn set_mount(&self, path: &Path, verbosity: Option<Verbosity>) {
        self.change(|levels| {
            match verbosity {
                Some(verbosity) => levels.mounts.insert(path.to_owned(), verbosity),
                None => levels.mounts.remove(path),
            };
        });
    }

    /// Chooses the level of one mount point, whatever the maps say. `None` ends that.
    pub fn choose(&self, path: &Path, verbosity: Option<Verbosity>) {
        self.change(|levels| {
            match verbosity {
                Some(verbosity) => levels.chosen.insert(path.to_owned(), verbosity),
                None => levels.chosen.remove(path),
            };
        });
    }

    /// Returns the effective level of a mount point.
    pub fn level(&self, path: &Path) -> Verbosity {
        let Ok(levels) = self.levels.read() else { return Verbosity::Basic };
        levels.own(path).unwrap_or_default().max(levels.global)
    }

    /// Writes a line to standard error. Drops it if the write would block, because a reader that has stopped reading must not
    /// delay mounts.
    fn write(&self, line: &[u8]) {
        let mut stderr = std::io::stderr().lock();
        if !fds::is_writable(stderr.as_fd()) {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let note = match self.lost.swap(0, Ordering::Relaxed) {
            0 => String::new(),
            lost => format!("{lost} messages were lost because standard error was not read\n"),
        };
        for piece in note.as_bytes().chunks(fds::ATOMIC).chain(line.chunks(fds::ATOMIC)) {
            if !fds::is_writable(stderr.as_fd()) {
                return;
            }
            // An error could only be reported here.
            let _ = stderr.write_all(piece);
        }
    }

    fn change(&self, change: impl FnOnce(&mut Levels)) {
        let Ok(mut levels) = self.levels.write() else { return };
        change(&mut levels);
        let own = levels.mounts.values().chain(levels.chosen.values());
        let highest = own.copied().fold(levels.global, Verbosity::max);
        log::set_max_level(filter(highest));
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let Ok(levels) = self.levels.read() else { return true };
        let mut verbosity = levels.global;
        if !(levels.mounts.is_empty() && levels.chosen.is_empty()) && metadata.target().starts_with('/') {
            // The paths of entries are below the path of their mount point.
            for path in Path::new(metadata.target()).ancestors() {
                if let Some(own) = levels.own(path) {
                    verbosity = verbosity.max(own);
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
        let message = record.args().to_string();
        let message = masked_text(&message);
        match self.sink {
            Sink::Stderr => {
                let json = self.levels.read().is_ok_and(|levels| levels.format == LogFormat::Json);
                let line = if json { json_line(record, &message) } else { format!("{message}\n") };
                self.write(line.as_bytes());
            }
            Sink::Syslog => system_log(record, &message),
        }
    }

    fn flush(&self) {}
}

/// Formats a record as a JSON object for log collectors. `mount` is the path it is about, if any.
fn json_line(record: &Record<'_>, message: &str) -> String {
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    let mut event = json!({
        "time": time,
        "level": record.level().as_str().to_ascii_lowercase(),
        "message": message,
    });
    if let Some(event) = event.as_object_mut() {
        if record.target().starts_with('/') {
            event.insert("mount".to_owned(), record.target().into());
        }
        event.extend(fields::current().into_iter().map(|(name, value)| (name.to_owned(), value.into())));
    }
    format!("{event}\n")
}

/// The socket of journald.
const JOURNAL: &str = "/run/systemd/journal/socket";

const FACILITY: u8 = 3;

/// Sends a message to journald with its fields, or to the syslog daemon. Each message is a datagram of its own.
fn system_log(record: &Record<'_>, message: &str) {
    let severity: u8 = match record.level() {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    let Ok(socket) = UnixDatagram::unbound() else { return };
    if socket.set_nonblocking(true).is_err() {
        return;
    }
    let identifier = instance::identifier();
    let (priority, facility, pid) = (severity.to_string(), FACILITY.to_string(), children::pid().to_string());
    let mut all = vec![
        ("MESSAGE", message),
        ("PRIORITY", &*priority),
        ("SYSLOG_FACILITY", &*facility),
        ("SYSLOG_IDENTIFIER", &*identifier),
        ("SYSLOG_PID", &*pid),
    ];
    if record.target().starts_with('/') {
        all.push(("AUTOFS_PATH", record.target()));
    }
    let own = fields::current();
    all.extend(own.iter().map(|(name, value)| (*name, value.as_str())));
    if socket.send_to(&fields::journal_entry(&all), JOURNAL).is_err() {
        let datagram = format!("<{}>{identifier}[{pid}]: {message}", (FACILITY << 3) | severity);
        let _ = socket.send_to(datagram.as_bytes(), "/dev/log");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_can_say_more_than_the_rest() {
        let levels = RwLock::new(Levels {
            global: Verbosity::Basic,
            format: LogFormat::Text,
            mounts: HashMap::new(),
            chosen: HashMap::new(),
        });
        let logger = Logger { sink: Sink::Stderr, levels, lost: AtomicU64::new(0) };
        let enabled = |target, level| logger.enabled(&Metadata::builder().target(target).level(level).build());
        logger.set_mount(Path::new("/home"), Some(Verbosity::Debug));
        assert!(enabled("/home/anna", Level::Debug));
        assert!(enabled("/home", Level::Info));
        assert!(!enabled("/homes", Level::Info));
        assert!(enabled("autofs", Level::Error));
        // What was chosen stays when the maps are read again.
        logger.choose(Path::new("/home"), Some(Verbosity::Basic));
        logger.set_mount(Path::new("/home"), Some(Verbosity::Debug));
        assert!(!enabled("/home", Level::Info));
        logger.choose(Path::new("/home"), None);
        assert!(enabled("/home", Level::Debug));
        logger.set_mount(Path::new("/home"), None);
        assert!(!enabled("/home", Level::Info));
    }

    #[test]
    fn an_event_is_one_line_of_json_whatever_it_says() {
        let record = Record::builder().target("/home").level(Level::Warn).args(format_args!("a \"b\"\nc")).build();
        let mut line = String::new();
        fields::with(vec![("AUTOFS_UID", "5".to_owned())], || line = json_line(&record, &record.args().to_string()));
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line.matches('\n').count(), 1);
        assert_eq!((&event["level"], &event["mount"]), (&"warn".into(), &"/home".into()));
        assert_eq!((&event["message"], &event["AUTOFS_UID"]), (&"a \"b\"\nc".into(), &"5".into()));
    }
}
