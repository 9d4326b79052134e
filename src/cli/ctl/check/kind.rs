//! Kinds of files: master maps, maps and configuration files.

use std::path::Path;

use clap::ValueEnum;

use crate::map::toml;

/// Kind as which a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// A master map
    Master,
    /// An indirect map in Sun format
    Indirect,
    /// A direct map in Sun format
    Direct,
    /// A map in Sun format; direct if its first key is a path
    Sun,
    /// A map in the format of am-utils
    Amd,
    /// A map or a master map in TOML
    Toml,
    /// A file in the format of fstab(5): its lines with x-systemd.automount or x-autofs.automount
    Fstab,
    /// The configuration file autofs.conf
    #[value(name = "autofs.conf", alias = "conf")]
    AutofsConf,
    /// The configuration file autofs.toml
    #[value(name = "autofs.toml")]
    AutofsToml,
    /// The configuration file nsswitch.conf
    #[value(name = "nsswitch.conf", alias = "nsswitch")]
    NsswitchConf,
    /// The settings of the service: /etc/default/autofs or /etc/sysconfig/autofs
    #[value(name = "default", alias = "sysconfig")]
    Service,
    /// The logins of LDAP servers, autofs_ldap_auth.conf
    #[value(name = "autofs_ldap_auth.conf", alias = "auth")]
    LdapAuth,
}

impl Kind {
    /// Returns what a file is by its name and its text. Master maps in Sun format are known by their names alone.
    pub(super) fn of(file: &Path, text: &[u8]) -> Self {
        let name = file.file_name().unwrap_or_default().as_encoded_bytes();
        let is_toml = name.ends_with(b".toml");
        let directory = file.parent().and_then(Path::file_name).unwrap_or_default().as_encoded_bytes();
        if name == b"autofs" && matches!(directory, b"default" | b"sysconfig" | b"conf.d") {
            Self::Service
        } else if name == b"fstab" {
            Self::Fstab
        } else if name == b"nsswitch.conf" {
            Self::NsswitchConf
        } else if name == b"autofs_ldap_auth.conf" {
            Self::LdapAuth
        } else if name.ends_with(b".conf") {
            Self::AutofsConf
        } else if is_toml && (toml::is_map(text) || toml::master::is_master(text) || !is_settings(name, text)) {
            Self::Toml
        } else if is_toml {
            Self::AutofsToml
        } else {
            Self::Sun
        }
    }
}

/// Returns whether a file in TOML is autofs.toml, by its name or by one of its tables.
fn is_settings(name: &[u8], text: &[u8]) -> bool {
    const TABLES: &str =
        "mount deadlines limits exit log security helpers programs wildcards cache history mount_points";
    name == b"autofs.toml"
        || text.split(|&b| b == b'\n').any(|line| {
            let word = line.strip_prefix(b"[").unwrap_or_default().split(|&b| b == b']').next().unwrap_or_default();
            TABLES.split(' ').any(|table| table.as_bytes() == word.trim_ascii())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_what_its_name_and_text_say() {
        let of = |name: &str, text: &str| Kind::of(Path::new(name), text.as_bytes());
        assert_eq!(of("/etc/nsswitch.conf", ""), Kind::NsswitchConf);
        assert_eq!(of("/etc/autofs.conf", ""), Kind::AutofsConf);
        assert_eq!(of("/etc/autofs_ldap_auth.conf", ""), Kind::LdapAuth);
        assert_eq!(of("/etc/fstab", ""), Kind::Fstab);
        assert_eq!(of("/etc/default/autofs", ""), Kind::Service);
        assert_eq!(of("/etc/sysconfig/autofs", ""), Kind::Service);
        assert_eq!(of("/etc/autofs", ""), Kind::Sun);
        assert_eq!(of("/etc/autofs.toml", "[limits]\nmounts = 5\n"), Kind::AutofsToml);
        assert_eq!(of("/etc/other.toml", "# x\n[limits]\nmounts = 5\n"), Kind::AutofsToml);
        assert_eq!(of("/etc/home.toml", "[entry]\na = \"h:/a\"\n"), Kind::Toml);
        assert_eq!(of("/etc/home.toml", "[entries]\na = \"h:/a\"\n"), Kind::Toml);
        assert_eq!(of("/etc/auto.home", "[entries]\n"), Kind::Sun);
    }
}
