//! The interface's name and definition; `interface.varlink` says to others what the neighbouring modules say in Rust.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ControlError;

/// The interface's name.
pub const INTERFACE: &str = "org.autofs-rs.Control";

/// The interface in Varlink's definition language.
pub const DEFINITION: &str = include_str!("interface.varlink");

/// The interface that every Varlink service has.
pub(super) const SERVICE: &str = "org.varlink.service";

/// The fields of a value.
pub(super) fn object(value: &impl Serialize) -> serde_json::Result<Map<String, Value>> {
    match serde_json::to_value(value)? {
        Value::Object(fields) => Ok(fields),
        _ => Err(serde::ser::Error::custom("parameters must be an object")),
    }
}

/// One parameter, if it is there and not null.
pub(super) fn parameter<T: for<'de> Deserialize<'de>>(
    parameters: &Map<String, Value>,
    name: &str,
) -> Result<Option<T>, ControlError> {
    match parameters.get(name) {
        None => Ok(None),
        Some(value) => {
            Option::deserialize(value).map_err(|_| ControlError::InvalidParameter { parameter: name.to_owned() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Bytes, Call, Level, Quiesce};

    #[test]
    fn the_definition_names_every_method_and_error() {
        let path = Bytes::default();
        for call in [
            Call::Ping,
            Call::Status,
            Call::Mounts,
            Call::Reload,
            Call::Upgrade,
            Call::Detach,
            Call::Expire { path: None },
            Call::SetLogLevel { path: path.clone(), level: Level::Basic },
            Call::Explain { path: path.clone() },
            Call::Quiesce(Quiesce::default()),
            Call::Resume,
            Call::MigrateCheck,
        ] {
            let (method, _) = call.to_wire().unwrap();
            let name = method.rsplit('.').next().unwrap();
            assert!(DEFINITION.contains(&format!("method {name}(")), "{name}");
        }
        for error in [ControlError::NoSuchMount { path }, ControlError::Failed { message: String::new() }] {
            let (name, _) = error.to_wire();
            assert!(DEFINITION.contains(&format!("error {} (", name.rsplit('.').next().unwrap())), "{name}");
        }
        assert!(DEFINITION.contains(&format!("interface {INTERFACE}\n")));
    }
}
