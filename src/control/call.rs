//! What can be asked of the daemon, and by whom.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::interface::{INTERFACE, SERVICE, object, parameter};
use super::{Bytes, ControlError};
use crate::map::Verbosity;

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Does the daemon's loop turn? Answered by `Pong`.
    Ping,
    /// The mount points. Answered by `Status`.
    Status,
    /// What is mounted below them. Answered by `Mounts`.
    Mounts,
    /// Read configuration and maps again, as HUP does. Answered by `Done` when that has begun.
    Reload,
    /// Replace the program by the one that stands at its path now; nothing fails and nothing is unmounted. Answered by
    /// `Done` when that has begun; the connection ends with the old program's worker.
    Upgrade,
    /// End, and leave all mounts for the next start. Answered by `Done` when that has begun.
    Detach,
    /// Unmount what is unused, as USR1 does. Answered by `Done` when that has begun.
    Expire {
        /// Only below this mount point.
        path: Option<Bytes>,
    },
    /// Log that much about a mount point. Answered by `Done`.
    SetLogLevel {
        /// The mount point.
        path: Bytes,
        /// How much.
        level: Level,
    },
    /// What an access to this path would do; nothing is mounted. Answered by `Explanation`.
    Explain {
        /// A path at or below a mount point.
        path: Bytes,
    },
    /// Come to rest for a checkpoint. Answered by `Quiesced` when it may be made.
    Quiesce(Quiesce),
    /// The checkpoint is over (or will not be made). Answered by `Done` when all is served again or has begun to be.
    Resume,
    /// What stands in the way of a checkpoint. Answered by `Checks`.
    MigrateCheck,
    /// Varlink's own: who are you. Answered by `Info`.
    GetInfo,
    /// Varlink's own: the definition of an interface. Answered by `Description`.
    GetInterfaceDescription {
        /// Its name.
        interface: String,
    },
}

/// The parameters of all calls; each has some of them.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Parameters {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<Bytes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    level: Option<Level>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    interface: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<Mode>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lease: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    umount: Option<Umount>,
}

/// How to come to rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quiesce {
    /// What becomes of the autofs mounts.
    pub mode: Mode,
    /// Seconds that it may take.
    pub timeout: u64,
    /// Seconds after which the daemon goes on by itself when no checkpoint has been made.
    pub lease: u64,
    /// What is unmounted before.
    pub umount: Umount,
}

impl Default for Quiesce {
    fn default() -> Self {
        Self { mode: Mode::Park, timeout: 10, lease: 60, umount: Umount::Unsupported }
    }
}

/// What becomes of the autofs mounts for the time of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Lookups of what is not mounted fail at once. Any number of autofs mounts, any load.
    Park,
    /// Lookups go on; a checkpoint fails if one is under way in that moment.
    Live,
}

/// What is unmounted before a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Umount {
    /// File systems that a checkpoint cannot hold.
    Unsupported,
    /// All that is not in use.
    Idle,
    /// Nothing.
    None,
}

impl Call {
    /// Whether only root may ask it: all that changes something, and `Explain`, which shows what maps say (passwords
    /// among it) and may run what they name.
    pub fn is_privileged(&self) -> bool {
        match self {
            Self::Quiesce(_) | Self::Resume | Self::MigrateCheck => true,
            Self::Upgrade | Self::Detach => true,
            Self::Reload | Self::Expire { .. } | Self::SetLogLevel { .. } | Self::Explain { .. } => true,
            Self::Ping | Self::Status | Self::Mounts | Self::GetInfo | Self::GetInterfaceDescription { .. } => false,
        }
    }

    /// The full name of the method, and its parameters.
    pub(super) fn to_wire(&self) -> serde_json::Result<(String, Map<String, Value>)> {
        let mut p = Parameters::default();
        let (interface, name) = match self {
            Self::Ping => (INTERFACE, "Ping"),
            Self::Status => (INTERFACE, "Status"),
            Self::Mounts => (INTERFACE, "Mounts"),
            Self::Reload => (INTERFACE, "Reload"),
            Self::Upgrade => (INTERFACE, "Upgrade"),
            Self::Detach => (INTERFACE, "Detach"),
            Self::Expire { path } => {
                p.path.clone_from(path);
                (INTERFACE, "Expire")
            }
            Self::SetLogLevel { path, level } => {
                p.path = Some(path.clone());
                p.level = Some(*level);
                (INTERFACE, "SetLogLevel")
            }
            Self::Explain { path } => {
                p.path = Some(path.clone());
                (INTERFACE, "Explain")
            }
            Self::Quiesce(wish) => {
                p.mode = Some(wish.mode);
                p.timeout = Some(wish.timeout);
                p.lease = Some(wish.lease);
                p.umount = Some(wish.umount);
                (INTERFACE, "Quiesce")
            }
            Self::Resume => (INTERFACE, "Resume"),
            Self::MigrateCheck => (INTERFACE, "MigrateCheck"),
            Self::GetInfo => (SERVICE, "GetInfo"),
            Self::GetInterfaceDescription { interface } => {
                p.interface = Some(interface.clone());
                (SERVICE, "GetInterfaceDescription")
            }
        };
        Ok((format!("{interface}.{name}"), object(&p)?))
    }

    pub(super) fn from_wire(method: &str, parameters: Map<String, Value>) -> Result<Self, ControlError> {
        let not_found = || ControlError::MethodNotFound { method: method.to_owned() };
        let (interface, name) = method.rsplit_once('.').ok_or_else(not_found)?;
        let path = || parameter::<Bytes>(&parameters, "path");
        let missing = |name: &str| ControlError::InvalidParameter { parameter: name.to_owned() };
        Ok(match (interface, name) {
            (INTERFACE, "Ping") => Self::Ping,
            (INTERFACE, "Status") => Self::Status,
            (INTERFACE, "Mounts") => Self::Mounts,
            (INTERFACE, "Reload") => Self::Reload,
            (INTERFACE, "Upgrade") => Self::Upgrade,
            (INTERFACE, "Detach") => Self::Detach,
            (INTERFACE, "Expire") => Self::Expire { path: path()? },
            (INTERFACE, "SetLogLevel") => Self::SetLogLevel {
                path: path()?.ok_or_else(|| missing("path"))?,
                level: parameter(&parameters, "level")?.ok_or_else(|| missing("level"))?,
            },
            (INTERFACE, "Explain") => Self::Explain { path: path()?.ok_or_else(|| missing("path"))? },
            (INTERFACE, "Quiesce") => {
                let default = Quiesce::default();
                Self::Quiesce(Quiesce {
                    mode: parameter(&parameters, "mode")?.unwrap_or(default.mode),
                    timeout: parameter(&parameters, "timeout")?.unwrap_or(default.timeout),
                    lease: parameter(&parameters, "lease")?.unwrap_or(default.lease),
                    umount: parameter(&parameters, "umount")?.unwrap_or(default.umount),
                })
            }
            (INTERFACE, "Resume") => Self::Resume,
            (INTERFACE, "MigrateCheck") => Self::MigrateCheck,
            (SERVICE, "GetInfo") => Self::GetInfo,
            (SERVICE, "GetInterfaceDescription") => Self::GetInterfaceDescription {
                interface: parameter(&parameters, "interface")?.ok_or_else(|| missing("interface"))?,
            },
            (INTERFACE | SERVICE, _) => return Err(not_found()),
            _ => return Err(ControlError::InterfaceNotFound { interface: interface.to_owned() }),
        })
    }
}

/// How much is logged about a mount point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Errors and unconditional messages.
    Basic,
    /// And what is done.
    Verbose,
    /// And how.
    Debug,
}

impl Level {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::Verbose => "verbose",
            Self::Debug => "debug",
        }
    }
}

impl From<Verbosity> for Level {
    fn from(verbosity: Verbosity) -> Self {
        match verbosity {
            Verbosity::Basic => Self::Basic,
            Verbosity::Verbose => Self::Verbose,
            Verbosity::Debug => Self::Debug,
        }
    }
}

impl From<Level> for Verbosity {
    fn from(level: Level) -> Self {
        match level {
            Level::Basic => Self::Basic,
            Level::Verbose => Self::Verbose,
            Level::Debug => Self::Debug,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_something_or_shows_secrets_is_for_root() {
        assert!(!Call::Ping.is_privileged() && !Call::Status.is_privileged() && !Call::Mounts.is_privileged());
        let path = Bytes::default();
        assert!(Call::Upgrade.is_privileged() && Call::Detach.is_privileged());
        assert!(Call::Reload.is_privileged() && Call::Expire { path: None }.is_privileged());
        assert!(Call::Explain { path: path.clone() }.is_privileged());
        assert!(Call::SetLogLevel { path, level: Level::Basic }.is_privileged());
        assert!(Call::Quiesce(Quiesce::default()).is_privileged() && Call::Resume.is_privileged());
        assert!(Call::MigrateCheck.is_privileged());
    }
}
