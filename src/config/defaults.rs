//! The table of all settings in section `[ autofs ]` of autofs.conf, with types, defaults and descriptions.

use super::value::{NfsVersion, Value};
use crate::map::Verbosity;

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// The name in autofs.conf, in lower case.
    pub name: &'static str,
    /// The default as written in autofs.conf; empty if it is not set by default.
    pub default: &'static str,
    /// Describes valid values.
    pub expected: &'static str,
    /// Whether an environment variable with this name changes the default.
    pub environment: bool,
    /// One line for the manual.
    pub help: &'static str,
}

/// Defines a struct, its defaults, its setter and the list of its keys by one table.
macro_rules! settings {
    ($($name:ident: $type:ty = $default:literal $(, $environment:ident)?; $help:literal)*) => {
        /// The settings of `[ autofs ]`. Times are in seconds.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Settings {
            $(#[doc = $help] pub $name: $type,)*
        }

        /// All keys of `[ autofs ]`.
        pub const KEYS: &[Key] = &[$(Key {
            name: stringify!($name),
            default: $default,
            expected: <$type as Value>::EXPECTED,
            environment: false $(|| stringify!($environment).len() > 0)?,
            help: $help,
        },)*];

        impl Default for Settings {
            fn default() -> Self {
                let mut settings = Self { $($name: Default::default(),)* };
                for key in KEYS {
                    if !key.default.is_empty() {
                        settings.set(key.name, key.default.as_bytes());
                    }
                }
                settings
            }
        }

        impl Settings {
            /// Sets `name`. Returns `false` if there is no such key or `text` is not a valid value.
            pub(super) fn set(&mut self, name: &str, text: &[u8]) -> bool {
                match name {
                    $(stringify!($name) => self.$name.set(text).is_some(),)*
                    _ => false,
                }
            }
        }
    };
}

settings! {
    master_map_name: Option<Vec<u8>> = "";
        "Master map when the command line names none; without it auto.master, else auto_master."
    open_file_limit: u64 = "20480", environment;
        "How many files the daemon may have open."
    timeout: u64 = "600", environment;
        "Seconds until an unused mount is unmounted; 0: never."
    master_wait: u64 = "10", environment;
        "Seconds to wait at start for a master map that cannot be had yet."
    negative_timeout: u64 = "60", environment;
        "Seconds for which a key that could not be found or mounted is not asked for again."
    positive_timeout: u64 = "120";
        "Seconds for which an entry that was looked up alone stays known."
    browse_mode: bool = "yes", environment;
        "Whether an indirect mount shows its keys as directories before they are mounted."
    logging: Verbosity = "none", environment;
        "How much is logged."
    force_standard_program_map_env: bool = "no";
        "Give program maps USER, GROUP and so on instead of AUTOFS_USER, AUTOFS_GROUP and so on."
    append_options: bool = "yes", environment;
        "Whether the options of an entry are added to those of the master map, or replace them."
    mount_verbose: bool = "no", environment;
        "Log who asked for a mount, and pass -v to mount."
    mount_wait: Option<u64> = "-1", environment;
        "Seconds that mount may take; -1: no limit here."
    umount_wait: Option<u64> = "12", environment;
        "Seconds that umount may take; -1: no limit here."
    mount_nfs_default_protocol: NfsVersion = "3", environment;
        "NFS version that mount.nfs starts with."
    use_hostname_for_mounts: bool = "no", environment;
        "Mount from the name of a server with several addresses, not from the address that answered best."
    disable_not_found_message: bool = "no", environment;
        "Do not log keys that no map has."
    use_ignore_mount_option: bool = "no", environment;
        "Mount autofs with the option ignore, which hides it from df and the like."
    sss_master_map_wait: u64 = "0", environment;
        "How many times to ask sssd again for a master map that it does not have yet."
    use_mount_request_log_id: bool = "no", environment;
        "Mark log lines with the request that they belong to."
    map_hash_table_size: u64 = "1024";
        "Accepted, without effect: tables grow as needed."
    ldap_uri: Vec<Vec<u8>> = "";
        "LDAP servers, separated by blanks."
    ldap_timeout: Option<u64> = "-1", environment;
        "Seconds that an LDAP operation may take; -1: what the library says."
    ldap_network_timeout: Option<u64> = "8", environment;
        "Seconds that connecting to an LDAP server may take."
    search_base: Vec<Vec<u8>> = "";
        "DN below which maps are searched in LDAP."
    map_object_class: Option<Vec<u8>> = "";
        "LDAP object class of maps. This and the four below are used when all are set."
    entry_object_class: Option<Vec<u8>> = "";
        "LDAP object class of entries."
    map_attribute: Option<Vec<u8>> = "";
        "LDAP attribute with the name of a map."
    entry_attribute: Option<Vec<u8>> = "";
        "LDAP attribute with the key of an entry."
    value_attribute: Option<Vec<u8>> = "";
        "LDAP attribute with the text of an entry."
    auth_conf_file: Option<Vec<u8>> = "/etc/autofs_ldap_auth.conf", environment;
        "File that says how to log in to LDAP."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_of_its_type() {
        let mut settings = Settings::default();
        for key in KEYS.iter().filter(|k| !k.default.is_empty()) {
            assert!(settings.set(key.name, key.default.as_bytes()), "{}", key.name);
        }
        assert!(!settings.set("nonsense", b"1"));
    }

    #[test]
    fn the_table_gives_struct_and_list() {
        let s = Settings::default();
        assert_eq!((s.timeout, s.mount_wait, s.umount_wait, s.browse_mode), (600, None, Some(12), true));
        assert_eq!((s.mount_nfs_default_protocol, s.logging), (NfsVersion(3), Verbosity::Basic));
        assert_eq!(s.auth_conf_file.as_deref(), Some(&b"/etc/autofs_ldap_auth.conf"[..]));
        assert_eq!((s.master_map_name, s.ldap_uri), (None, vec![]));
        let timeout = KEYS.iter().find(|k| k.name == "timeout").unwrap();
        assert!(timeout.environment && timeout.expected == "a whole number");
        assert!(!KEYS.iter().any(|k| k.name == "map_hash_table_size" && k.environment));
    }

    #[test]
    fn values_are_checked_and_kept_when_wrong() {
        let mut s = Settings::default();
        for (name, text, ok) in [
            ("timeout", "44", true),
            ("timeout", "5m", false),
            ("timeout", "-1", false),
            ("timeout", "", false),
            ("browse_mode", "NO", true),
            ("append_options", "0", true),
            ("mount_verbose", "maybe", false),
            ("mount_wait", "10", true),
            ("umount_wait", "-1", true),
            ("ldap_timeout", "x", false),
            ("logging", "Debug", true),
            ("logging", "loud", false),
            ("mount_nfs_default_protocol", "5", false),
            ("search_base", "dc=a", true),
            ("search_base", "dc=b", true),
            ("ldap_uri", "", true),
        ] {
            assert_eq!(s.set(name, text.as_bytes()), ok, "{name} = {text}");
        }
        assert_eq!((s.timeout, s.browse_mode, s.append_options, s.mount_verbose), (44, false, false, false));
        assert_eq!((s.mount_wait, s.umount_wait, s.logging), (Some(10), None, Verbosity::Debug));
        assert_eq!(s.search_base, [b"dc=a", b"dc=b"]);
    }
}
