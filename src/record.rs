//! Records of what failed: the one value from which the log line, the history and the metrics of a failure are made.

use std::fmt;
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
}

/// One run of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The path of the program and its arguments.
    pub command: Vec<Vec<u8>>,
    /// How it ended.
    pub exit: Exit,
    /// What it wrote to standard error, at most [`STDERR_LIMIT`] bytes.
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
