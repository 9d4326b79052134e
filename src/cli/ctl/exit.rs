//! The exit status of autofsctl.

use std::process::ExitCode;

use super::client::ClientError;
use crate::control::ControlError;

/// The exit status. The argument parser uses 2 as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Success, or the answer is yes.
    Yes = 0,
    /// The answer is no: not mounted, not found, errors in a check.
    No = 1,
    /// Wrong usage.
    Usage = 2,
    /// The daemon is not running (3 as in systemctl and LSB).
    NotRunning = 3,
    /// Permission denied.
    Denied = 4,
    /// The daemon has refused or failed to carry out the call, or the output could not be written.
    Failed = 5,
    /// No reply in time (124 as in timeout(1)).
    TimedOut = 124,
}

impl Exit {
    /// Returns the name of the status in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Usage => "usage",
            Self::NotRunning => "not_running",
            Self::Denied => "denied",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        (exit as u8).into()
    }
}

impl From<&ClientError> for Exit {
    fn from(error: &ClientError) -> Self {
        match error {
            ClientError::NotRunning(_) => Self::NotRunning,
            ClientError::Usage(_) => Self::Usage,
            ClientError::Denied(_) | ClientError::Refused(ControlError::PermissionDenied) => Self::Denied,
            ClientError::Refused(ControlError::NoSuchMount { .. } | ControlError::NotBlocked { .. }) => Self::No,
            ClientError::TimedOut(_) | ClientError::NotMounted(..) | ClientError::Silent(_) => Self::TimedOut,
            ClientError::Refused(_)
            | ClientError::Gone
            | ClientError::Died(_)
            | ClientError::Io(_)
            | ClientError::NoSocket(_)
            | ClientError::Output(_)
            | ClientError::Malformed(_)
            | ClientError::TooLong(_) => Self::Failed,
        }
    }
}
