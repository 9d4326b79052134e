//! Errors that the daemon returns.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Bytes;

/// Why a call was refused or has failed. On the wire it is an object with the full name of the error and its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "error", content = "parameters")]
pub enum ControlError {
    /// The call is restricted to root.
    #[error("permission denied: only root may make this call")]
    #[serde(rename = "org.varlink.service.PermissionDenied")]
    PermissionDenied,
    /// The path is neither a mount point of the daemon nor below one.
    #[error("{path} is not below a mount point of the daemon")]
    #[serde(rename = "org.autofs-rs.Control.NoSuchMount")]
    NoSuchMount {
        /// The path.
        path: Bytes,
    },
    /// The path is not blocked.
    #[error("{path} is not blocked")]
    #[serde(rename = "org.autofs-rs.Control.NotBlocked")]
    NotBlocked {
        /// The path.
        path: Bytes,
    },
    /// The user has too many connections, or all users together have.
    #[error("the daemon is busy: too many connections are open; try again")]
    #[serde(rename = "org.autofs-rs.Control.Busy")]
    Busy,
    /// The operation has failed.
    #[error("{message}")]
    #[serde(rename = "org.autofs-rs.Control.Failed")]
    Failed {
        /// The reason, without a period.
        message: String,
    },
    /// A parameter is unknown, missing or of another type.
    #[error("invalid parameter {parameter}")]
    #[serde(rename = "org.varlink.service.InvalidParameter")]
    InvalidParameter {
        /// The name of the parameter.
        parameter: String,
    },
    /// The method is unknown.
    #[error("the daemon does not know the method {method}")]
    #[serde(rename = "org.varlink.service.MethodNotFound")]
    MethodNotFound {
        /// The full name of the method.
        method: String,
    },
    /// The interface is unknown.
    #[error("the daemon does not know the interface {interface}")]
    #[serde(rename = "org.varlink.service.InterfaceNotFound")]
    InterfaceNotFound {
        /// The name of the interface.
        interface: String,
    },
}

impl ControlError {
    /// Parses an error. An unknown error becomes `Failed`.
    pub(super) fn from_wire(name: &str, parameters: Map<String, Value>) -> Self {
        let parameters = (!parameters.is_empty()).then(|| ("parameters".to_owned(), Value::Object(parameters)));
        let error = [("error".to_owned(), Value::from(name))].into_iter().chain(parameters);
        serde_json::from_value(error.collect())
            .unwrap_or_else(|_| Self::Failed { message: format!("the daemon answers {name}") })
    }
}
