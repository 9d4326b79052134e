//! What can be asked of the daemon, and by whom.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Answer, Bytes, ControlError, Description, Info, interface};
use crate::map::Verbosity;

/// What can be asked. On the wire a call is an object with the full name of its method and its parameters; an unknown
/// parameter is an error, as a misspelt `path` of `Expire` would otherwise unmount everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", content = "parameters", deny_unknown_fields)]
pub enum Call {
    /// Does the daemon's loop turn? Answered by `Pong`.
    #[serde(rename = "org.autofs-rs.Control.Ping")]
    Ping,
    /// The mount points. Answered by `Status`.
    #[serde(rename = "org.autofs-rs.Control.Status")]
    Status,
    /// What is mounted below them. Answered by `Mounts`.
    #[serde(rename = "org.autofs-rs.Control.Mounts")]
    Mounts,
    /// Read configuration and maps again, as HUP does. Answered by `Done` when that has begun.
    #[serde(rename = "org.autofs-rs.Control.Reload")]
    Reload,
    /// Replace the program by the one that is at its path now; nothing fails and nothing is unmounted. Answered by
    /// `Done` when that has begun; the connection ends with the old program's worker.
    #[serde(rename = "org.autofs-rs.Control.Upgrade")]
    Upgrade,
    /// End, and leave all mounts for the next start. Answered by `Done` when that has begun.
    #[serde(rename = "org.autofs-rs.Control.Detach")]
    Detach,
    /// Unmount what is unused, as USR1 does. Answered by `Done` when that has begun.
    #[serde(rename = "org.autofs-rs.Control.Expire")]
    Expire {
        /// Only below this mount point.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<Bytes>,
    },
    /// Set the log level of a mount point. Answered by `Done`.
    #[serde(rename = "org.autofs-rs.Control.SetLogLevel")]
    SetLogLevel {
        /// The mount point.
        path: Bytes,
        /// Its new level.
        level: Level,
    },
    /// What an access to this path would do; nothing is mounted. Answered by `Explanation`.
    #[serde(rename = "org.autofs-rs.Control.Explain")]
    Explain {
        /// A path at or below a mount point.
        path: Bytes,
    },
    /// Come to rest for a checkpoint. Answered by `Quiesced` when it may be made.
    #[serde(rename = "org.autofs-rs.Control.Quiesce")]
    Quiesce(Quiesce),
    /// The checkpoint is over (or will not be made). Answered by `Done` when all is served again or has begun to be.
    #[serde(rename = "org.autofs-rs.Control.Resume")]
    Resume,
    /// What prevents a checkpoint. Answered by `Checks`.
    #[serde(rename = "org.autofs-rs.Control.MigrateCheck")]
    MigrateCheck,
    /// Varlink's own: which service is this? Answered by `Info`.
    #[serde(rename = "org.varlink.service.GetInfo")]
    GetInfo,
    /// Varlink's own: the definition of an interface. Answered by `Description`.
    #[serde(rename = "org.varlink.service.GetInterfaceDescription")]
    GetInterfaceDescription {
        /// Its name.
        interface: String,
    },
}

/// How to come to rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
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
    /// Everything that is not in use.
    Idle,
    /// Nothing.
    None,
}

impl Call {
    /// Returns whether only root may make the call: each one that changes something, and `Explain`, which shows what maps
    /// say (passwords among it) and may run the programs that they name.
    pub fn is_privileged(&self) -> bool {
        match self {
            Self::Quiesce(_) | Self::Resume | Self::MigrateCheck => true,
            Self::Upgrade | Self::Detach => true,
            Self::Reload | Self::Expire { .. } | Self::SetLogLevel { .. } | Self::Explain { .. } => true,
            Self::Ping | Self::Status | Self::Mounts | Self::GetInfo | Self::GetInterfaceDescription { .. } => false,
        }
    }

    /// Reads a call.
    ///
    /// # Errors
    /// The interface or the method is unknown, or a parameter is unknown, missing or of another type.
    pub(super) fn from_wire(method: &str, parameters: Map<String, Value>) -> Result<Self, ControlError> {
        let not_found = || ControlError::MethodNotFound { method: method.to_owned() };
        let (interface, name) = method.rsplit_once('.').ok_or_else(not_found)?;
        let definition = interface::definition(interface)
            .ok_or_else(|| ControlError::InterfaceNotFound { interface: interface.to_owned() })?;
        let known = interface::parameters_of(definition, name).ok_or_else(not_found)?;
        if let Some(unknown) = parameters.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(ControlError::InvalidParameter { parameter: unknown.clone() });
        }
        // Null is as good as absent.
        let given: Map<String, Value> = parameters.into_iter().filter(|(_, value)| !value.is_null()).collect();
        let parse = |given: &Map<String, Value>| {
            // Serde takes no object for a call without parameters.
            let content = (!known.is_empty()).then(|| ("parameters".to_owned(), Value::Object(given.clone())));
            let method = ("method".to_owned(), Value::from(method));
            serde_json::from_value::<Self>([method].into_iter().chain(content).collect())
        };
        parse(&given).map_err(|error| {
            let error = error.to_string();
            let missing = error.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
            let without = |name: &&String| {
                let mut rest = given.clone();
                rest.remove(*name);
                parse(&rest).err().is_none_or(|other| other.to_string() != error)
            };
            // One of another type is that without which the error is another one.
            let wrong = missing.or_else(|| given.keys().find(without).map(String::as_str));
            ControlError::InvalidParameter { parameter: wrong.unwrap_or_default().to_owned() }
        })
    }

    /// The answer to a call that asks about the interfaces and not about the daemon; `None` for all others.
    pub fn answer_about_service(&self) -> Option<Result<Answer, ControlError>> {
        match self {
            Self::GetInfo => Some(Ok(Answer::Info(Info::own()))),
            Self::GetInterfaceDescription { interface } => Some(match interface::definition(interface) {
                Some(text) => Ok(Answer::Description(Description { description: text.to_owned() })),
                None => Err(ControlError::InterfaceNotFound { interface: interface.clone() }),
            }),
            _ => None,
        }
    }
}

/// The log level of a mount point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Errors and unconditional messages.
    Basic,
    /// Also what the daemon does.
    Verbose,
    /// Also how it does it.
    Debug,
}

impl Level {
    /// The word for it on the command line and on the wire.
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
