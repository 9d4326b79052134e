//! How maps are kept in LDAP: the classes of their entries, and the attributes with their names, keys and values.

/// The classes and attributes of one schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// Object class of maps.
    pub map_class: Vec<u8>,
    /// Attribute with the name of a map.
    pub map_attribute: Vec<u8>,
    /// Object class of entries.
    pub entry_class: Vec<u8>,
    /// Attribute with the key of an entry.
    pub key: Vec<u8>,
    /// Attribute with the text of an entry.
    pub value: Vec<u8>,
}

impl Schema {
    fn new([map_class, map_attribute, entry_class, key, value]: [&str; 5]) -> Self {
        let owned = |text: &str| text.as_bytes().to_vec();
        Self {
            map_class: owned(map_class),
            map_attribute: owned(map_attribute),
            entry_class: owned(entry_class),
            key: owned(key),
            value: owned(value),
        }
    }

    /// Returns the schemas that are tried where none is configured, in the order in which they are: RFC 2307, autofs.schema,
    /// RFC 2307bis.
    pub fn known() -> Vec<Self> {
        [
            ["nisMap", "nisMapName", "nisObject", "cn", "nisMapEntry"],
            ["automountMap", "ou", "automount", "cn", "automountInformation"],
            ["automountMap", "automountMapName", "automount", "automountKey", "automountInformation"],
        ]
        .map(Self::new)
        .into()
    }

    /// Returns whether keys may be written with percent signs before capital letters: only RFC 2307 has a key attribute
    /// that cannot tell `A` from `a`.
    pub fn has_percent_keys(&self) -> bool {
        self.entry_class.eq_ignore_ascii_case(b"nisObject")
    }

    /// Returns whether a DN may begin with the attribute `name`: automount knows those of the usual schemas.
    pub fn is_map_attribute(schema: Option<&Self>, name: &[u8]) -> bool {
        let usual: [&[u8]; 4] = [b"cn", b"ou", b"automountMapName", b"nisMapName"];
        usual.iter().any(|known| known.eq_ignore_ascii_case(name))
            || schema.is_some_and(|schema| schema.map_attribute.eq_ignore_ascii_case(name))
    }
}
