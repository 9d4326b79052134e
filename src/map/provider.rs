//! Providers of entries, which decide about the restrictions of an entry.

use serde::Deserialize;

/// Provider of an entry of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// A local file of root that no other user can write to.
    #[default]
    File,
    /// Another file: its owner is not root, its group or everybody can write to it, or it is on a server.
    ForeignFile,
    /// A program.
    Program,
    /// A server that was asked what it exports.
    Hosts,
    /// NIS.
    Nis,
    /// LDAP.
    Ldap,
    /// sssd(8).
    Sss,
    /// Hesiod.
    Hesiod,
}

impl Provider {
    /// Returns the name, as autofs.toml writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::ForeignFile => "foreign_file",
            Self::Program => "program",
            Self::Hosts => "hosts",
            Self::Nis => "nis",
            Self::Ldap => "ldap",
            Self::Sss => "sss",
            Self::Hesiod => "hesiod",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_configuration() {
        use Provider::{File, ForeignFile, Hesiod, Hosts, Ldap, Nis, Program, Sss};
        for provider in [File, ForeignFile, Program, Hosts, Nis, Ldap, Sss, Hesiod] {
            let text = format!("\"{}\"", provider.name());
            assert_eq!(serde_json::from_str::<Provider>(&text).unwrap(), provider);
        }
    }
}
