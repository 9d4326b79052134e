//! The settings of autofs.conf for maps in am-utils format: section `[ amd ]`, and sections for mount points.

use std::collections::BTreeMap;

use super::autofs_conf::{Section, Setting};
use super::defaults::KEYS;
use super::value::Value;
use crate::map::amd::Settings;
use crate::map::known;
use crate::map::{Macros, SourceKind, System, Verbosity};
use crate::text::{Diagnostic, Escaped, Position};

/// Settings for maps in am-utils format.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AmdConf {
    /// `[ amd ]`.
    pub global: AmdSection,
    /// `[ /mount/point ]`.
    pub mounts: BTreeMap<Vec<u8>, AmdSection>,
}

/// One section. `None`: not set there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AmdSection {
    /// `map_name`, and where it is set: the section makes a mount point.
    pub map_name: Option<(Vec<u8>, Position)>,
    /// `map_type`.
    pub map_type: Option<SourceKind>,
    /// `map_defaults`.
    pub map_defaults: Option<Vec<u8>>,
    /// `search_path`.
    pub search_path: Option<Vec<Vec<u8>>>,
    /// `browsable_dirs`.
    pub browsable_dirs: Option<bool>,
    /// `dismount_interval`, in seconds.
    pub dismount_interval: Option<u64>,
    /// `selectors_in_defaults`.
    pub selectors_in_defaults: Option<bool>,
    /// `auto_dir`.
    pub auto_dir: Option<Vec<u8>>,
    /// `autofs_use_lofs`.
    pub use_lofs: Option<bool>,
    /// `normalize_hostnames`.
    pub normalize_hostnames: Option<bool>,
    /// `domain_strip`.
    pub domain_strip: Option<bool>,
    /// `normalize_slashes`.
    pub normalize_slashes: Option<bool>,
    /// `linux_ufs_mount_type`.
    pub ufs: Option<Vec<u8>>,
    /// `log_options`.
    pub verbosity: Option<Verbosity>,
    /// `local_domain`.
    pub local_domain: Option<Vec<u8>>,
    /// `arch`, `karch`, `os`, `osver`, `full_os`, `vendor` and `cluster`.
    pub variables: BTreeMap<&'static str, Vec<u8>>,
}

/// Settings that are variables of the same name.
const VARIABLES: [&str; 7] = ["arch", "karch", "os", "osver", "full_os", "vendor", "cluster"];

/// Settings that mean something only where others do the work of am-utils.
const UNUSED: &[&str] = &[
    "use_tcpwrappers",
    "auto_attrcache",
    "print_pid",
    "print_version",
    "log_file",
    "preferred_amq_port",
    "truncate_log",
    "debug_mtab_file",
    "debug_options",
    "sun_map_syntax",
    "portmap_program",
    "nfs_vers",
    "nfs_vers_ping",
    "nfs_proto",
    "nfs_allow_any_interface",
    "nfs_allow_insecure_port",
    "nfs_retransmit_counter",
    "nfs_retransmit_counter_udp",
    "nfs_retransmit_counter_tcp",
    "nfs_retransmit_counter_toplvl",
    "nfs_retry_interval",
    "nfs_retry_interval_udp",
    "nfs_retry_interval_tcp",
    "nfs_retry_interval_toplvl",
    "ldap_cache_maxmem",
    "ldap_cache_seconds",
    "show_statfs_entries",
    "cache_duration",
    "map_reload_interval",
    "map_options",
];

/// Settings that are accepted without a word, as automount does.
const SILENT: &[&str] = &[
    "exec_map_timeout",
    "forced_unmounts",
    "fully_qualified_hosts",
    "unmount_on_exit",
    "localhost_address",
    "ldap_proto_version",
    "nis_domain",
    "hesiod_base",
    "ldap_base",
    "ldap_hostports",
];

/// Settings that sections for mount points may have.
const OF_MOUNTS: &[&str] = &[
    "map_name",
    "map_type",
    "map_defaults",
    "map_options",
    "search_path",
    "browsable_dirs",
    "dismount_interval",
    "selectors_in_defaults",
    "selectors_on_default",
];

/// Other settings that have an effect, or about which more is said.
const USED: &[&str] = &[
    "map_name",
    "map_defaults",
    "search_path",
    "auto_dir",
    "linux_ufs_mount_type",
    "local_domain",
    "sub_domain",
    "browsable_dirs",
    "selectors_in_defaults",
    "selectors_on_default",
    "autofs_use_lofs",
    "normalize_hostnames",
    "domain_strip",
    "normalize_slashes",
    "dismount_interval",
    "map_type",
    "log_options",
    "restart_mounts",
    "pid_file",
    "mount_type",
];

/// Returns whether the section `[ amd ]` may have a setting of this name.
pub(super) fn is_setting(name: &str) -> bool {
    [USED, UNUSED, SILENT, &VARIABLES].iter().any(|names| names.contains(&name))
}

impl AmdConf {
    /// Applies one setting. Returns an error or a warning if it does not mean what it says.
    pub(super) fn apply(&mut self, setting: &Setting<'_>) -> Option<Diagnostic> {
        let (section, of_mount) = match &setting.section {
            Section::Mount(path) => (self.mounts.entry(path.clone()).or_default(), true),
            _ => (&mut self.global, false),
        };
        if of_mount && !OF_MOUNTS.contains(&&*setting.name) {
            let message =
                format!("\"{}\" has no effect for one mount point", Escaped::start_of(setting.name.as_bytes()));
            let help = format!("write it in [ amd ]; here are used: {}", OF_MOUNTS.join(", "));
            return Some(setting.name_error("conf::amd", message).help(help).into_warning());
        }
        section.set(setting)
    }

    /// Defines the variables of am-utils that others do not have.
    pub fn define(&self, macros: &mut Macros, system: &System) {
        let AmdSection { variables, local_domain, auto_dir, .. } = &self.global;
        let (host, domain) =
            match memchr::memchr(b'.', &system.nodename).and_then(|dot| system.nodename.split_at_checked(dot)) {
                Some((host, rest)) => (host, rest.get(1..).unwrap_or_default()),
                None => (&*system.nodename, &b""[..]),
            };
        let domain = if system.domain.is_empty() { domain } else { &system.domain };
        if let Some(domain) = local_domain {
            macros.define(b"domain", domain);
            macros.define(b"hostd", &[host, b".", domain].concat());
        }
        let cluster = local_domain.as_deref().unwrap_or(domain);
        let standard: [(&str, &[u8]); 6] = [
            ("arch", &system.machine),
            ("karch", &system.machine),
            ("os", &system.sysname),
            ("osver", &system.release),
            ("vendor", b"unknown"),
            ("cluster", cluster),
        ];
        for (name, value) in standard.into_iter().filter(|(_, value)| !value.is_empty()) {
            macros.define(name.as_bytes(), value);
        }
        for (name, value) in variables {
            macros.define(name.as_bytes(), value);
        }
        macros.define(b"autodir", auto_dir.as_deref().unwrap_or(b"/a"));
    }

    /// Returns the section of the mount point `path`, or of the nearest one above it.
    pub fn section(&self, path: &[u8]) -> Option<&AmdSection> {
        let mut path = path;
        loop {
            if let Some(section) = self.mounts.get(path) {
                return Some(section);
            }
            path = path.get(..memchr::memrchr(b'/', path).filter(|&at| at > 0)?)?;
        }
    }

    /// Returns what entries below `path` are evaluated with.
    pub fn settings(&self, path: &[u8]) -> Settings {
        let (global, none) = (&self.global, AmdSection::default());
        let own = self.section(path).unwrap_or(&none);
        let standard = Settings::default();
        let or = |set: Option<bool>, standard: bool| set.unwrap_or(standard);
        Settings {
            auto_dir: global.auto_dir.clone().unwrap_or(standard.auto_dir),
            use_lofs: or(global.use_lofs, standard.use_lofs),
            map_defaults: own.map_defaults.clone().or_else(|| global.map_defaults.clone()),
            map_type: own.map_type.or(global.map_type),
            search_path: own.search_path.clone().or_else(|| global.search_path.clone()).unwrap_or_default(),
            selectors_in_defaults: or(
                own.selectors_in_defaults.or(global.selectors_in_defaults),
                standard.selectors_in_defaults,
            ),
            normalize_hostnames: or(global.normalize_hostnames, standard.normalize_hostnames),
            domain_strip: or(global.domain_strip, standard.domain_strip),
            normalize_slashes: or(global.normalize_slashes, standard.normalize_slashes),
            ufs: global.ufs.clone().unwrap_or(standard.ufs),
        }
    }

    /// Returns whether keys of the mount point `path` are shown before they are mounted.
    pub fn browse(&self, path: &[u8]) -> bool {
        let own = self.mounts.get(path).and_then(|section| section.browsable_dirs);
        own.or(self.global.browsable_dirs).unwrap_or(false)
    }

    /// Returns the seconds until an unused mount below the mount point `path` goes, if they are set.
    pub fn timeout(&self, path: &[u8]) -> Option<u64> {
        self.mounts.get(path).and_then(|section| section.dismount_interval).or(self.global.dismount_interval)
    }
}

impl AmdSection {
    fn set(&mut self, setting: &Setting<'_>) -> Option<Diagnostic> {
        let Setting { name, value, .. } = setting;
        let text = || Some(value.to_vec()).filter(|text| !text.is_empty());
        let switch = |target: &mut Option<bool>| switch(target, setting);
        match &**name {
            "map_name" => self.map_name = text().map(|text| (text, setting.place())),
            "map_defaults" => self.map_defaults = text(),
            "search_path" => self.search_path = text().map(|text| paths(&text)),
            "auto_dir" => return directory(&mut self.auto_dir, setting),
            "linux_ufs_mount_type" => self.ufs = text(),
            "local_domain" | "sub_domain" => self.local_domain = text(),
            "browsable_dirs" if value.eq_ignore_ascii_case(b"full") => {
                let error = setting.value_error("conf::value", "browsable_dirs = full is not supported");
                return Some(error.help("expected yes or no"));
            }
            "browsable_dirs" => return switch(&mut self.browsable_dirs),
            "selectors_in_defaults" | "selectors_on_default" => return switch(&mut self.selectors_in_defaults),
            "autofs_use_lofs" => return switch(&mut self.use_lofs),
            "normalize_hostnames" => return switch(&mut self.normalize_hostnames),
            "domain_strip" => return switch(&mut self.domain_strip),
            "normalize_slashes" => return switch(&mut self.normalize_slashes),
            "dismount_interval" => {
                let mut seconds = 0_u64;
                if seconds.set(value).is_none() {
                    return Some(invalid(setting, u64::EXPECTED));
                }
                self.dismount_interval = Some(seconds);
            }
            "map_type" => match &**value {
                b"file" | b"nis" | b"nisplus" | b"ldap" | b"hesiod" | b"exec" => {
                    self.map_type = SourceKind::from_word(value);
                }
                _ => return Some(invalid(setting, "file, nis, nisplus, ldap, hesiod or exec")),
            },
            "log_options" => self.verbosity = verbosity(value),
            "restart_mounts" | "pid_file" | "mount_type" => {
                let help = match &**name {
                    "restart_mounts" => "mounts that are there at the start are always taken over",
                    "pid_file" => "write --pid-file on the command line",
                    _ => "mounts are always made by autofs",
                };
                let message = format!("{name} is ignored");
                return Some(setting.name_error("conf::amd", message).help(help).into_warning());
            }
            name if SILENT.contains(&name) => {}
            name if UNUSED.contains(&name) => {
                let message = format!("{name} is not used");
                return Some(setting.name_error("conf::amd", message).help("leave it out").into_warning());
            }
            name => match VARIABLES.iter().find(|variable| **variable == name) {
                Some(variable) => {
                    self.variables.insert(variable, value.to_vec());
                }
                None => {
                    let message = format!("unknown setting \"{}\" is ignored", Escaped::start_of(name.as_bytes()));
                    let all = [USED, UNUSED, SILENT, &VARIABLES].concat();
                    let help = match known::nearest(name.as_bytes(), all.into_iter()) {
                        _ if KEYS.iter().any(|key| key.name == name) => {
                            "it belongs in the section [ autofs ]".to_owned()
                        }
                        Some(near) => format!("did you mean {near}?"),
                        None => "the settings of [ amd ] are listed in autofs.conf(5)".to_owned(),
                    };
                    return Some(setting.name_error("conf::unknown-key", message).help(help).into_warning());
                }
            },
        }
        None
    }
}

fn switch(target: &mut Option<bool>, setting: &Setting<'_>) -> Option<Diagnostic> {
    let mut on = false;
    match on.set(setting.value) {
        Some(()) => {
            *target = Some(on);
            None
        }
        None => Some(invalid(setting, bool::EXPECTED)),
    }
}

fn directory(target: &mut Option<Vec<u8>>, setting: &Setting<'_>) -> Option<Diagnostic> {
    let path = match setting.value {
        [b'/', b'/', ..] | [] => None,
        [path @ .., b'/'] if !path.is_empty() => Some(path),
        path => Some(path),
    };
    match path.filter(|path| path.starts_with(b"/") && path.len() > 1) {
        Some(path) => {
            *target = Some(path.to_vec());
            None
        }
        None => Some(invalid(setting, "an absolute path")),
    }
}

fn paths(text: &[u8]) -> Vec<Vec<u8>> {
    text.split(|&b| b == b':').filter(|path| !path.is_empty()).map(<[u8]>::to_vec).collect()
}

/// The level that `log_options` of am-utils means.
fn verbosity(value: &[u8]) -> Option<Verbosity> {
    let value = value.to_ascii_lowercase();
    let has = |wanted: &[&[u8]]| value.split(|&b| b == b',').any(|word| wanted.contains(&word));
    if value == b"defaults" {
        return None;
    }
    Some(if has(&[b"debug", b"all"]) {
        Verbosity::Debug
    } else if has(&[b"notice", b"warn", b"warning", b"map", b"stats", b"error", b"fatal"]) && !has(&[b"info", b"user"])
    {
        Verbosity::Basic
    } else {
        Verbosity::Verbose
    })
}

fn invalid(setting: &Setting<'_>, expected: &str) -> Diagnostic {
    let message = format!("invalid {} \"{}\"", setting.name, Escaped::start_of(setting.value));
    setting.value_error("conf::value", message).help(format!("expected {expected}"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::AutofsConf;

    fn read(text: &str) -> (AmdConf, Vec<String>) {
        let file = Path::new("/etc/autofs.conf").into();
        let (all, said) = AutofsConf::read(Some((&file, text.as_bytes())), None, |_| None);
        (all.amd, said.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn sections_of_mount_points_come_first() {
        let (conf, said) = read(
            "[ amd ]\nauto_dir = /x/\nautofs_use_lofs = no\nsearch_path = /etc/a:/etc/b\nbrowsable_dirs = yes\n\
             dismount_interval = 9\narch = arm\nmap_defaults = type:=link;opts:=ro\nselectors_on_default = yes\n\
             [ /home ]\nmap_name = amd.home\nmap_type = file\nbrowsable_dirs = no\ndismount_interval = 5\n\
             search_path = /etc/c\nmap_defaults = opts:=rw\n",
        );
        assert_eq!(said, [""; 0]);
        assert_eq!(conf.mounts[b"/home".as_slice()].map_name.as_ref().unwrap().0, b"amd.home");
        assert_eq!((conf.browse(b"/home"), conf.browse(b"/other")), (false, true));
        assert_eq!((conf.timeout(b"/home"), conf.timeout(b"/other")), (Some(5), Some(9)));
        let (home, other) = (conf.settings(b"/home/sub/key"), conf.settings(b"/homes"));
        assert_eq!((&*home.auto_dir, home.use_lofs), (&b"/x"[..], false));
        assert_eq!(
            (home.map_defaults.unwrap(), other.map_defaults.unwrap()),
            (b"opts:=rw".to_vec(), b"type:=link;opts:=ro".to_vec())
        );
        assert_eq!((home.search_path.len(), other.search_path.len()), (1, 2));
        assert!(home.selectors_in_defaults && home.map_type == Some(SourceKind::File) && other.map_type.is_none());
        assert_eq!(conf.global.variables["arch"], b"arm");
        assert_eq!(AmdConf::default().settings(b"/m"), Settings::default());
    }

    #[test]
    fn what_is_wrong_is_said() {
        let (conf, said) = read(
            "[ amd ]\nauto_dir = a\nbrowsable_dirs = full\ndismount_interval = 5m\nmap_type = sun\npid_file = /x\n\
             nfs_proto = udp\nfully_qualified_hosts = yes\nnonsense = 1\nautofs_use_lofs = maybe\n[ /h ]\narch = arm\n",
        );
        assert_eq!(conf, AmdConf { mounts: [(b"/h".to_vec(), AmdSection::default())].into(), ..AmdConf::default() });
        let text = "/etc/autofs.conf";
        assert_eq!(
            said,
            [
                format!("{text}:2:12: invalid auto_dir \"a\": expected an absolute path"),
                format!("{text}:3:18: browsable_dirs = full is not supported: expected yes or no"),
                format!("{text}:4:21: invalid dismount_interval \"5m\": expected a whole number"),
                format!("{text}:5:12: invalid map_type \"sun\": expected file, nis, nisplus, ldap, hesiod or exec"),
                format!("{text}:6:1: pid_file is ignored: write --pid-file on the command line"),
                format!("{text}:7:1: nfs_proto is not used: leave it out"),
                format!(
                    "{text}:9:1: unknown setting \"nonsense\" is ignored: the settings of [ amd ] are listed in autofs.conf(5)"
                ),
                format!("{text}:10:19: invalid autofs_use_lofs \"maybe\": expected yes or no"),
                format!(
                    "{text}:12:1: \"arch\" has no effect for one mount point: write it in [ amd ]; here are used: {}",
                    OF_MOUNTS.join(", ")
                ),
            ]
        );
    }

    #[test]
    fn log_options_of_am_utils() {
        for (value, want) in [
            ("defaults", None),
            ("all", Some(Verbosity::Debug)),
            ("fatal,error", Some(Verbosity::Basic)),
            ("user,error", Some(Verbosity::Verbose)),
            ("whatever", Some(Verbosity::Verbose)),
        ] {
            assert_eq!(verbosity(value.as_bytes()), want, "{value}");
        }
    }
}
