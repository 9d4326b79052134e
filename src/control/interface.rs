//! The names and definitions of the interfaces. The `.varlink` files define, in Varlink's language, the values that the
//! neighbouring modules define in Rust.

use serde::Serialize;
use serde_json::{Map, Value};

/// The name of the interface of the daemon.
pub const INTERFACE: &str = "org.autofs-rs.Control";

/// The name of the interface that every Varlink service has.
pub const SERVICE: &str = "org.varlink.service";

/// The definition of [`INTERFACE`].
pub const DEFINITION: &str = include_str!("interface.varlink");

/// Returns the definition of the interface with this name, if the daemon has it.
pub fn definition(interface: &str) -> Option<&'static str> {
    match interface {
        INTERFACE => Some(DEFINITION),
        SERVICE => Some(include_str!("service.varlink")),
        _ => None,
    }
}

/// Returns the names of the parameters of a method. Returns `None` if the interface does not define the method.
pub(super) fn parameters_of(definition: &'static str, method: &str) -> Option<Vec<&'static str>> {
    let methods = definition.split("\nmethod ").skip(1);
    let signature = methods.filter_map(|text| text.split_once('(')).find(|(name, _)| *name == method)?.1;
    let parameters = signature.split(')').next().unwrap_or_default().split(',');
    Some(parameters.filter_map(|parameter| Some(parameter.split_once(':')?.0.trim())).collect())
}

/// Returns the names of the fields of a value.
pub(super) fn object(value: &impl Serialize) -> serde_json::Result<Map<String, Value>> {
    match serde_json::to_value(value)? {
        Value::Object(fields) => Ok(fields),
        _ => Err(serde::ser::Error::custom("parameters must be an object")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_from_the_definition() {
        assert_eq!(parameters_of(DEFINITION, "Ping"), Some(vec![]));
        assert_eq!(parameters_of(DEFINITION, "SetLogLevel"), Some(vec!["path", "level", "seconds"]));
        assert_eq!(parameters_of(DEFINITION, "Quiesce"), Some(vec!["mode", "timeout", "lease", "umount"]));
        let history = vec!["path", "id", "failed", "since", "daemon", "after"];
        assert_eq!(parameters_of(DEFINITION, "History"), Some(history), "on several lines");
        assert_eq!(parameters_of(DEFINITION, "Pin"), None);
    }

    #[test]
    fn every_interface_that_is_listed_is_described() {
        for name in crate::control::Info::own().interfaces {
            assert!(definition(&name).is_some_and(|text| text.contains(&format!("interface {name}\n"))), "{name}");
        }
        assert_eq!(definition("org.example"), None);
    }
}
