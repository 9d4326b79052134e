//! Why the daemon does not do what is asked.

use serde_json::{Map, Value};

use super::Bytes;
use super::interface::{INTERFACE, SERVICE, parameter};

/// Why a call was not obeyed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// Only root may ask this.
    #[error("permission denied: only root may ask this")]
    PermissionDenied,
    /// Nothing of ours is at this path.
    #[error("{path} is not below a mount point of the daemon")]
    NoSuchMount {
        /// The path.
        path: Bytes,
    },
    /// It could not be done.
    #[error("{message}")]
    Failed {
        /// Why, as half a sentence.
        message: String,
    },
    /// A parameter is missing or has the wrong type.
    #[error("invalid parameter {parameter}")]
    InvalidParameter {
        /// Which.
        parameter: String,
    },
    /// The daemon does not know the method.
    #[error("the daemon does not know the method {method}")]
    MethodNotFound {
        /// Which.
        method: String,
    },
    /// The daemon does not know the interface.
    #[error("the daemon does not know the interface {interface}")]
    InterfaceNotFound {
        /// Which.
        interface: String,
    },
}

impl ControlError {
    pub(super) fn to_wire(&self) -> (String, Map<String, Value>) {
        let (interface, name, parameter) = match self {
            Self::PermissionDenied => (SERVICE, "PermissionDenied", None),
            Self::NoSuchMount { path } => {
                (INTERFACE, "NoSuchMount", serde_json::to_value(path).ok().map(|v| ("path", v)))
            }
            Self::Failed { message } => (INTERFACE, "Failed", Some(("message", message.as_str().into()))),
            Self::InvalidParameter { parameter } => {
                (SERVICE, "InvalidParameter", Some(("parameter", parameter.as_str().into())))
            }
            Self::MethodNotFound { method } => (SERVICE, "MethodNotFound", Some(("method", method.as_str().into()))),
            Self::InterfaceNotFound { interface } => {
                (SERVICE, "InterfaceNotFound", Some(("interface", interface.as_str().into())))
            }
        };
        let parameters = parameter.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        (format!("{interface}.{name}"), parameters)
    }

    pub(super) fn from_wire(name: &str, parameters: &Map<String, Value>) -> Self {
        let text = |key: &str| parameters.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (interface, short) = name.rsplit_once('.').unwrap_or(("", name));
        match (interface, short) {
            (SERVICE, "PermissionDenied") => Self::PermissionDenied,
            (SERVICE, "InvalidParameter") => Self::InvalidParameter { parameter: text("parameter") },
            (SERVICE, "MethodNotFound") => Self::MethodNotFound { method: text("method") },
            (SERVICE, "InterfaceNotFound") => Self::InterfaceNotFound { interface: text("interface") },
            (INTERFACE, "NoSuchMount") => {
                Self::NoSuchMount { path: parameter(parameters, "path").ok().flatten().unwrap_or_default() }
            }
            (INTERFACE, "Failed") => Self::Failed { message: text("message") },
            _ => Self::Failed { message: format!("the daemon answers {name}") },
        }
    }
}
