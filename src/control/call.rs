//! The calls, and which of them are restricted to root.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Answer, Bytes, ControlError, Description, HistoryQuery, Info, interface};
use super::{Block, Expire, Explain, Flush, Reload, SetLogLevel};
use crate::map::Verbosity;

/// A call. On the wire it is an object with the full name of the method and the parameters. Unknown parameters are errors,
/// because otherwise a misspelt `path` of `Expire` would unmount everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", content = "parameters", deny_unknown_fields)]
pub enum Call {
    /// Checks whether the reactor runs. Answered by `Pong`.
    #[serde(rename = "org.autofs-rs.Control.Ping")]
    Ping,
    /// Returns the mount points. Answered by `Status`.
    #[serde(rename = "org.autofs-rs.Control.Status")]
    Status,
    /// Returns what is being done now. Answered by `Activity`.
    #[serde(rename = "org.autofs-rs.Control.Activity")]
    Activity,
    /// Returns the mounted entries. Answered by `Mounts`.
    #[serde(rename = "org.autofs-rs.Control.Mounts")]
    Mounts,
    /// Reads configuration and maps again, like SIGHUP. Answered by `Reloaded`.
    #[serde(rename = "org.autofs-rs.Control.Reload")]
    Reload(Reload),
    /// Replaces the program by the file now at its path. No lookup fails and nothing is unmounted. Answered by `Done` when the
    /// new program runs; the connection is closed when the old worker exits.
    #[serde(rename = "org.autofs-rs.Control.Upgrade")]
    Upgrade,
    /// Unmounts what a dead daemon has left and no map names. Answered by `Done` when all of it is gone.
    #[serde(rename = "org.autofs-rs.Control.Clean")]
    Clean,
    /// Ends the daemon and leaves all mounts to the next start. Answered by `Done` when the shutdown has begun.
    #[serde(rename = "org.autofs-rs.Control.Detach")]
    Detach,
    /// Unmounts unused entries, like SIGUSR1. Answered by `Expired` when they are unmounted.
    #[serde(rename = "org.autofs-rs.Control.Expire")]
    Expire(Expire),
    /// Forgets which keys have failed. Answered by `Flushed`.
    #[serde(rename = "org.autofs-rs.Control.Flush")]
    Flush(Flush),
    /// Lets new accesses to a path fail. Answered by `Blocked`.
    #[serde(rename = "org.autofs-rs.Control.Block")]
    Block(Block),
    /// Ends a block. Answered by `Blocked`.
    #[serde(rename = "org.autofs-rs.Control.Unblock")]
    Unblock {
        /// The path.
        path: Bytes,
    },
    /// Sets the log level of a mount point. Answered by `LogLevelSet`.
    #[serde(rename = "org.autofs-rs.Control.SetLogLevel")]
    SetLogLevel(SetLogLevel),
    /// Returns what an access to a path would do. Mounts nothing. Answered by `Explanation`.
    #[serde(rename = "org.autofs-rs.Control.Explain")]
    Explain(Explain),
    /// Returns the state of a path below a mount point. Answered by `PathStatus`.
    #[serde(rename = "org.autofs-rs.Control.StatusOf")]
    StatusOf {
        /// The path.
        path: Bytes,
    },
    /// Returns requests that were answered, or events of the daemon. Answered by `History`.
    #[serde(rename = "org.autofs-rs.Control.History")]
    History(HistoryQuery),
    /// Returns the counters. Answered by `Metrics`.
    #[serde(rename = "org.autofs-rs.Control.Metrics")]
    Metrics,
    /// Prepares the daemon for a checkpoint. Answered by `Quiesced` when the checkpoint can be made.
    #[serde(rename = "org.autofs-rs.Control.Quiesce")]
    Quiesce(Quiesce),
    /// Resumes after a checkpoint, or without one. Answered by `Done` when resuming has begun.
    #[serde(rename = "org.autofs-rs.Control.Resume")]
    Resume,
    /// Checks the conditions of a checkpoint. Answered by `Checks`.
    #[serde(rename = "org.autofs-rs.Control.MigrateCheck")]
    MigrateCheck,
    /// Returns information about the service, a method of every Varlink service. Answered by `Info`.
    #[serde(rename = "org.varlink.service.GetInfo")]
    GetInfo,
    /// Returns the definition of an interface, a method of every Varlink service. Answered by `Description`.
    #[serde(rename = "org.varlink.service.GetInterfaceDescription")]
    GetInterfaceDescription {
        /// The name of the interface.
        interface: String,
    },
}

/// The parameters of `Quiesce`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quiesce {
    /// The mode of the autofs mounts.
    pub mode: Mode,
    /// How many seconds the operations in progress may take to end.
    pub timeout: u64,
    /// Seconds after which the daemon resumes by itself if no checkpoint was made.
    pub lease: u64,
    /// Mounts that are unmounted first.
    pub umount: Umount,
}

impl Default for Quiesce {
    fn default() -> Self {
        Self { mode: Mode::Park, timeout: 10, lease: 60, umount: Umount::Unsupported }
    }
}

/// The mode of the autofs mounts while the daemon is quiesced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The autofs mounts are catatonic: lookups of entries that are not mounted fail at once. Works with any number of autofs
    /// mounts, under any load.
    Park,
    /// Lookups are served; a checkpoint fails if a lookup is in progress at that moment.
    Live,
}

/// Mounts that are unmounted before a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Umount {
    /// File systems that CRIU does not support.
    Unsupported,
    /// All unused mounts.
    Idle,
    /// No mount.
    None,
}

impl Call {
    /// Returns whether the call changes nothing, so that it can be made twice.
    pub fn is_read_only(&self) -> bool {
        !self.is_privileged() || matches!(self, Self::Explain(_) | Self::MigrateCheck)
    }

    /// Returns whether the call is restricted to root. These are all calls that change something, and `Explain`, because it
    /// shows the content of maps, which may contain passwords, and may run program maps.
    pub fn is_privileged(&self) -> bool {
        match self {
            Self::Quiesce(_) | Self::Resume | Self::MigrateCheck => true,
            Self::Upgrade | Self::Detach | Self::Clean => true,
            Self::Reload(_) | Self::Expire(_) | Self::Flush(_) | Self::Block(_) | Self::Unblock { .. } => true,
            Self::SetLogLevel(_) | Self::Explain(_) => true,
            // Users see their own requests only.
            Self::History(_) | Self::Metrics | Self::StatusOf { .. } | Self::Activity => false,
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
        // Null is treated like a missing value.
        let given: Map<String, Value> = parameters.into_iter().filter(|(_, value)| !value.is_null()).collect();
        let parse = |given: &Map<String, Value>| {
            // Serde does not accept an object for a call without parameters.
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
            // The parameter with the wrong type is the one without which the error changes.
            let wrong = missing.or_else(|| given.keys().find(without).map(String::as_str));
            ControlError::InvalidParameter { parameter: wrong.unwrap_or_default().to_owned() }
        })
    }

    /// Returns the result of a call about the interfaces, which does not need the daemon. Returns `None` for all other calls.
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
    /// Also operations.
    Verbose,
    /// Also their details.
    Debug,
}

impl Level {
    /// Returns the name of the level on the command line and on the wire.
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
        assert!(Call::Upgrade.is_privileged() && Call::Detach.is_privileged() && Call::Clean.is_privileged());
        assert!(Call::Reload(Reload::default()).is_privileged() && Call::Expire(Expire::default()).is_privileged());
        assert!(Call::Explain(Explain::default()).is_privileged());
        let path = Bytes::default();
        assert!(Call::Flush(Flush::default()).is_privileged() && Call::Block(Block::default()).is_privileged());
        assert!(Call::Unblock { path: path.clone() }.is_privileged());
        let level = SetLogLevel { path, level: Level::Basic, seconds: None };
        assert!(Call::SetLogLevel(level).is_privileged());
        assert!(Call::Quiesce(Quiesce::default()).is_privileged() && Call::Resume.is_privileged());
        assert!(Call::MigrateCheck.is_privileged());
    }
}
