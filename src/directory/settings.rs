//! Settings that a lookup process is started with: those of autofs.conf for directory services.

use super::schema::Schema;
use crate::wire::{Reader, WireError, Writer};

/// Settings for directory services.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// `ldap_uri`: LDAP servers, in the order in which they are tried. Empty: those of ldap.conf(5).
    pub uris: Vec<Vec<u8>>,
    /// `search_base`: where LDAP maps are searched. Empty: the base of ldap.conf(5).
    pub bases: Vec<Vec<u8>>,
    /// The schema, if all five of its settings are there.
    pub schema: Option<Schema>,
    /// `ldap_timeout` in seconds.
    pub timeout: Option<u32>,
    /// `ldap_network_timeout` in seconds.
    pub network_timeout: Option<u32>,
    /// `auth_conf_file`.
    pub auth_file: Vec<u8>,
    /// Some map names a server behind a socket of this machine, which asks who calls.
    pub has_local_maps: bool,
    /// The bit mask for debug output of the LDAP library.
    pub debug: Option<u32>,
}

impl Settings {
    /// Appends the settings to a message.
    pub fn write(&self, writer: &mut Writer) {
        writer.list(&self.uris).list(&self.bases);
        match &self.schema {
            None => writer.u8(0),
            Some(schema) => {
                let Schema { map_class, map_attribute, entry_class, key, value } = schema;
                writer.u8(1).bytes(map_class).bytes(map_attribute).bytes(entry_class).bytes(key).bytes(value)
            }
        };
        writer.optional(self.timeout).optional(self.network_timeout).bytes(&self.auth_file).optional(self.debug);
        writer.u8(self.has_local_maps.into());
    }

    /// Reads settings.
    ///
    /// # Errors
    /// The message does not hold settings.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let (uris, bases) = (reader.list()?, reader.list()?);
        let schema = match reader.u8()? {
            0 => None,
            1 => Some(Schema {
                map_class: reader.bytes()?,
                map_attribute: reader.bytes()?,
                entry_class: reader.bytes()?,
                key: reader.bytes()?,
                value: reader.bytes()?,
            }),
            _ => return Err(WireError::Kind),
        };
        let (timeout, network_timeout) = (reader.optional()?, reader.optional()?);
        let (auth_file, debug) = (reader.bytes()?, reader.optional()?);
        let has_local_maps = reader.u8()? != 0;
        Ok(Self { uris, bases, schema, timeout, network_timeout, auth_file, has_local_maps, debug })
    }
}
