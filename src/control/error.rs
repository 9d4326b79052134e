//! Why the daemon does not do what is asked.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Bytes;

/// Why a call was refused. On the wire an error is an object with its full name and its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "error", content = "parameters")]
pub enum ControlError {
    /// Only root may make this call.
    #[error("permission denied: only root may ask this")]
    #[serde(rename = "org.varlink.service.PermissionDenied")]
    PermissionDenied,
    /// The path is at or below no mount point of the daemon.
    #[error("{path} is not below a mount point of the daemon")]
    #[serde(rename = "org.autofs-rs.Control.NoSuchMount")]
    NoSuchMount {
        /// The path.
        path: Bytes,
    },
    /// It could not be done.
    #[error("{message}")]
    #[serde(rename = "org.autofs-rs.Control.Failed")]
    Failed {
        /// The reason, as half a sentence.
        message: String,
    },
    /// A parameter is unknown, missing or of another type.
    #[error("invalid parameter {parameter}")]
    #[serde(rename = "org.varlink.service.InvalidParameter")]
    InvalidParameter {
        /// The parameter's name.
        parameter: String,
    },
    /// The daemon does not know the method.
    #[error("the daemon does not know the method {method}")]
    #[serde(rename = "org.varlink.service.MethodNotFound")]
    MethodNotFound {
        /// The method's full name.
        method: String,
    },
    /// The daemon does not know the interface.
    #[error("the daemon does not know the interface {interface}")]
    #[serde(rename = "org.varlink.service.InterfaceNotFound")]
    InterfaceNotFound {
        /// The interface's name.
        interface: String,
    },
}

impl ControlError {
    /// Reads an error. One that this program does not know becomes `Failed`.
    pub(super) fn from_wire(name: &str, parameters: Map<String, Value>) -> Self {
        let parameters = (!parameters.is_empty()).then(|| ("parameters".to_owned(), Value::Object(parameters)));
        let error = [("error".to_owned(), Value::from(name))].into_iter().chain(parameters);
        serde_json::from_value(error.collect())
            .unwrap_or_else(|_| Self::Failed { message: format!("the daemon answers {name}") })
    }
}
