//! Combines the settings of autofs.conf: built-in defaults, environment, autofs.conf, the file of the init system. Each
//! overrides those before it.

use std::path::Path;
use std::sync::Arc;

use super::amd::AmdConf;
use super::autofs_conf::{self, Section, Setting};
use super::defaults::Settings;
use super::defaults::{KEYS, Key};
use crate::map::known;
use crate::text::{Diagnostic, Escaped, Position};

/// All settings of both files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AutofsConf {
    /// `[ autofs ]`.
    pub autofs: Settings,
    /// `[ amd ]` and `[ /mount/point ]`.
    pub amd: AmdConf,
}

/// A file and its content.
pub type Text<'a> = (&'a Arc<Path>, &'a [u8]);

impl AutofsConf {
    /// Combines autofs.conf and the file of the init system (`/etc/default/autofs`, `/etc/sysconfig/autofs`), if they exist.
    /// `environment` returns the value of a variable. Invalid settings are reported and ignored.
    pub fn read(
        conf: Option<Text<'_>>,
        init: Option<Text<'_>>,
        environment: impl Fn(&str) -> Option<Vec<u8>>,
    ) -> (Self, Vec<Diagnostic>) {
        let mut all = Self::default();
        let mut diagnostics = Vec::new();
        for key in KEYS.iter().filter(|key| key.environment) {
            if let Some(value) = environment(key.name) {
                if !all.autofs.set(key.name, &value) {
                    let place = Position::whole(Path::new("environment"));
                    diagnostics
                        .push(Diagnostic::error("conf::value", place, invalid(key, &value)).help(help(key, &value)));
                }
            }
        }
        // The file of the init system also has other settings, so unknown names in it are not errors.
        for ((file, text), foreign) in [(conf, false), (init, true)].into_iter().filter_map(|(t, f)| Some((t?, f))) {
            let (settings, syntax) = autofs_conf::parse(text, file);
            let mut said: Vec<_> = settings.iter().filter_map(|setting| all.apply(setting, foreign)).collect();
            said.extend(syntax.into_iter().filter(|_| !foreign));
            said.sort_by_key(|d| d.place.line);
            diagnostics.append(&mut said);
        }
        let standard = Settings::default();
        for (value, default) in [
            (&mut all.autofs.negative_timeout, standard.negative_timeout),
            (&mut all.autofs.positive_timeout, standard.positive_timeout),
        ] {
            if *value == 0 {
                *value = default;
            }
        }
        (all, diagnostics)
    }

    /// Takes the number at the beginning of an invalid timeout, as automount does. Returns it.
    fn take_number(&mut self, key: &Key, value: &[u8]) -> Option<u64> {
        let digits =
            value.split(|b| !b.is_ascii_digit()).next().filter(|digits| key.name == "timeout" && !digits.is_empty())?;
        self.autofs.set(key.name, digits).then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
    }

    /// Applies one setting. Returns an error if it is invalid.
    fn apply(&mut self, setting: &Setting<'_>, foreign: bool) -> Option<Diagnostic> {
        let Setting { name, value, .. } = setting;
        match &setting.section {
            Section::Autofs => match KEYS.iter().find(|key| key.name == name) {
                Some(key) if !self.autofs.set(name, value) => {
                    let taken = self.take_number(key, value).map(|number| format!("; {number} is taken"));
                    let help = help(key, value) + &taken.unwrap_or_default();
                    Some(setting.value_error("conf::value", invalid(key, value)).help(help))
                }
                None if !foreign => {
                    let message = format!("unknown setting \"{}\" is ignored", Escaped::start_of(name.as_bytes()));
                    let near = known::nearest(name.as_bytes(), KEYS.iter().map(|key| key.name));
                    let help = match near {
                        _ if super::amd::is_setting(name) => "it belongs in the section [ amd ]".to_owned(),
                        Some(near) => format!("did you mean {near}?"),
                        None => "the settings are listed in autofs.conf(5)".to_owned(),
                    };
                    Some(setting.name_error("conf::unknown-key", message).help(help).into_warning())
                }
                _ => None,
            },
            Section::Amd | Section::Mount(_) => self.amd.apply(setting),
            Section::Other(section) if !foreign => {
                let message = format!("setting in the unknown section \"{section}\" is ignored");
                let help = "sections are autofs, amd and paths of amd mount points";
                Some(setting.name_error("conf::unknown-section", message).help(help).into_warning())
            }
            Section::Other(_) => None,
        }
    }
}

fn invalid(key: &Key, value: &[u8]) -> String {
    format!("invalid {} \"{}\"", key.name, Escaped::start_of(value))
}

/// Returns what is expected, and how a value with a unit or another word for yes or no is written.
fn help(key: &Key, value: &[u8]) -> String {
    let lower = value.to_ascii_lowercase();
    let digits = lower.iter().take_while(|b| b.is_ascii_digit()).count();
    let (number, unit) = lower.split_at_checked(digits).unwrap_or_default();
    let number = std::str::from_utf8(number).ok().and_then(|number| number.parse::<u64>().ok());
    let factor = match unit.trim_ascii() {
        b"s" | b"sec" | b"seconds" => Some(1),
        b"m" | b"min" | b"minutes" => Some(60),
        b"h" | b"hours" => Some(3600),
        b"d" | b"days" => Some(86400),
        _ => None,
    };
    let is_number = key.expected.starts_with("a whole number");
    let seconds = number.zip(factor.filter(|_| is_number)).and_then(|(number, factor)| number.checked_mul(factor));
    let written = match lower.as_slice() {
        b"true" | b"on" | b"enabled" if key.expected == "yes or no" => Some("yes".to_owned()),
        b"false" | b"off" | b"disabled" if key.expected == "yes or no" => Some("no".to_owned()),
        _ => seconds.map(|seconds| seconds.to_string()),
    };
    match written {
        Some(written) => format!("expected {}: write {}={written}", key.expected, key.name),
        None => format!("expected {}", key.expected),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(conf: &str, init: &str, env: &[(&str, &str)]) -> (AutofsConf, Vec<String>) {
        let files: [Arc<Path>; 2] = [Path::new("/etc/autofs.conf").into(), Path::new("/etc/default/autofs").into()];
        let lookup = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_bytes().to_vec());
        let (all, diagnostics) =
            AutofsConf::read(Some((&files[0], conf.as_bytes())), Some((&files[1], init.as_bytes())), lookup);
        (all, diagnostics.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn later_ones_win() {
        let timeout = |conf, init, env| read(conf, init, env).0.autofs.timeout;
        assert_eq!(timeout("", "", &[]), 600);
        assert_eq!(timeout("", "", &[("timeout", "5")]), 5);
        assert_eq!(timeout("timeout = 44", "", &[("timeout", "5")]), 44);
        assert_eq!(timeout("timeout = 44\ntimeout = 45", "", &[]), 45);
        assert_eq!(timeout("timeout = 44", "TIMEOUT=66", &[]), 66);
        assert_eq!(timeout("[ autofs ]\n  timeout = 44", "", &[]), 600);
        assert_eq!(timeout("[ amd ]\ntimeout = 44", "", &[]), 600);
        assert_eq!(AutofsConf::read(None, None, |_| None).0, AutofsConf::default());
    }

    #[test]
    fn only_some_names_come_from_the_environment() {
        let (all, said) = read("", "", &[("positive_timeout", "5"), ("negative_timeout", "0"), ("browse_mode", "?")]);
        assert_eq!((all.autofs.positive_timeout, all.autofs.negative_timeout, all.autofs.browse_mode), (120, 60, true));
        assert_eq!(said, ["environment: invalid browse_mode \"?\": expected yes or no"]);
    }

    #[test]
    fn what_is_wrong_is_said_and_the_rest_counts() {
        let conf = "timeout = 5m\ntimeuot = 3\nmount_wait = 10\n[ x ]\na = b\n[ /mnt/a ]\nmap_name = amd.x\n";
        let (all, said) = read(conf, "OPTIONS=\"-v\"\nexport X\nmaster_wait=never\n", &[]);
        assert_eq!((all.autofs.timeout, all.autofs.mount_wait), (5, Some(10)));
        assert_eq!(all.amd.mounts[b"/mnt/a".as_slice()].map_name.as_ref().unwrap().0, b"amd.x");
        assert_eq!(
            said,
            [
                "/etc/autofs.conf:1:11: invalid timeout \"5m\": expected a whole number: write timeout=300; 5 is taken",
                "/etc/autofs.conf:2:1: unknown setting \"timeuot\" is ignored: did you mean timeout?",
                "/etc/autofs.conf:5:1: setting in the unknown section \"x\" is ignored: \
                 sections are autofs, amd and paths of amd mount points",
                "/etc/default/autofs:3:13: invalid master_wait \"never\": expected a whole number",
            ]
        );
    }

    #[test]
    fn lists_grow_over_both_files() {
        let (all, _) = read("ldap_uri = ldap://a ldap://b\nsearch_base = dc=a", "LDAP_URI=\"ldap://c\"", &[]);
        assert_eq!(all.autofs.ldap_uri, [b"ldap://a ldap://b".as_slice(), b"ldap://c"]);
        assert_eq!(all.autofs.search_base, [b"dc=a"]);
    }
}
