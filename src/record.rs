//! Records of what failed: the one value from which the log line, the history and the metrics of a failure are made.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use crate::text::Escaped;

/// How many bytes of what a program wrote to standard error are kept.
pub const STDERR_LIMIT: usize = 4096;

/// Why something failed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// One sentence that names what failed and why.
    pub message: String,
    /// errno(3), if a system call failed.
    pub errno: Option<i32>,
    /// The programs that were run, in their order.
    pub runs: Vec<Run>,
    /// How long the attempt took.
    pub duration: Duration,
}

impl Record {
    /// Creates a record with a message only.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }

    /// Creates the record of an error after an attempt of this duration. Its errno comes from the first system call among the
    /// error and its sources.
    pub fn of(error: &(dyn Error + 'static), duration: Duration) -> Self {
        let mut causes = std::iter::successors(Some(error), |cause| (*cause).source());
        let errno = causes.find_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error());
        Self { message: error.to_string(), errno, runs: Vec::new(), duration }
    }

    /// Returns the record with another duration.
    pub fn lasting(self, duration: Duration) -> Self {
        Self { duration, ..self }
    }
}

/// One run of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The path of the program and its arguments.
    pub command: Vec<Vec<u8>>,
    /// How it ended.
    pub exit: Exit,
    /// Its standard error, at most [`STDERR_LIMIT`] bytes.
    pub stderr: Vec<u8>,
    /// From its start to its end.
    pub duration: Duration,
}

impl Run {
    /// Returns the path of the program.
    pub fn program(&self) -> &[u8] {
        self.command.first().map_or(b"", |path| path)
    }

    /// Returns the first line that the program wrote, or nothing: helpers give the reason first and advice after it.
    pub fn first_line(&self) -> &[u8] {
        self.stderr.split(|b| *b == b'\n').find(|line| !line.is_empty()).unwrap_or_default()
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", Escaped(self.program()), self.exit)?;
        match self.first_line() {
            b"" => Ok(()),
            line => write!(f, ": {}", Escaped(line)),
        }
    }
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    /// With this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
    /// It was stopped at its deadline.
    Deadline,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "exit status {status}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
            Self::Deadline => f.write_str("ended at its deadline"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read {path}: {source}")]
    struct Outer {
        path: &'static str,
        source: io::Error,
    }

    #[test]
    fn the_record_of_an_error_has_the_errno_of_its_cause() {
        let error = Outer { path: "/a", source: io::Error::from_raw_os_error(libc::ESTALE) };
        let record = Record::of(&error, Duration::from_millis(7));
        assert_eq!((record.errno, record.duration), (Some(libc::ESTALE), Duration::from_millis(7)));
        assert!(record.message.starts_with("cannot read /a: "), "{}", record.message);
        let record = Record::of(&fmt::Error, Duration::ZERO);
        assert_eq!(record.errno, None, "no system call failed");
    }

    #[test]
    fn a_run_is_shown_with_the_first_line_that_says_something() {
        let run = |exit, stderr: &[u8]| Run {
            command: vec![b"/sbin/mount.x".to_vec(), b"a b".to_vec()],
            exit,
            stderr: stderr.to_vec(),
            duration: Duration::ZERO,
        };
        let shown = run(Exit::Status(32), b"\nno such server\nsee mount(8)\n").to_string();
        assert_eq!(shown, "/sbin/mount.x: exit status 32: no such server");
        assert_eq!(run(Exit::Signal(9), b"").to_string(), "/sbin/mount.x: killed by signal 9");
        assert_eq!(run(Exit::Deadline, b"\n\n").to_string(), "/sbin/mount.x: ended at its deadline");
    }
}
