//! `[security]` of autofs.toml: what is refused, and what is imposed on entries because of where they are from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use crate::map::{OptionList, Pattern, Provider, Pseudo};
use crate::plan::Restriction;
use crate::text::Escaped;

use super::native::AbsolutePath;

/// Section `[security]`. The profile gives a value to each key that is not set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(from = "Written")]
pub struct Security {
    /// The profile, which sets the other keys.
    pub profile: Profile,
    /// Mount points of the master map and direct keys below a directory that others than root can write to.
    pub user_parents: UserParents,
    /// Symbolic links on the way to the source of a bind mount.
    pub source_links: SourceLinks,
    /// Files with maps, and programs, to which others than root can write, or that lie in a directory of others.
    pub writable_maps: WritableMaps,
    /// Options that every mount of an entry gets, by the provider of the entry.
    pub mandatory_options: BTreeMap<Concerned, MandatoryOptions>,
    /// The types that entries may mount, by the provider of the entry.
    pub allowed_types: BTreeMap<Concerned, Vec<Pattern>>,
    /// Attempts per second of a user at keys without an entry of their own; 0: any number.
    pub attempts_per_second: u32,
    /// Users and groups that may trigger mounts.
    pub requesters: Vec<Requesters>,
}

/// Section `[security]` as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    profile: Profile,
    user_parents: Option<UserParents>,
    source_links: Option<SourceLinks>,
    writable_maps: Option<WritableMaps>,
    mandatory_options: Option<BTreeMap<Concerned, MandatoryOptions>>,
    allowed_types: Option<BTreeMap<Concerned, Vec<Pattern>>>,
    attempts_per_second: Option<u32>,
    requesters: Vec<Requesters>,
}

/// Values for all keys of `[security]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Those that automount has.
    #[default]
    None,
    /// The strictest ones.
    Strict,
}

/// Treatment of a mount point below a directory that other users than root can write to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserParents {
    /// It is mounted.
    #[default]
    Allow,
    /// It is refused, with an error in the log.
    Refuse,
}

/// Symbolic links that are followed on the way to the source of a bind mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceLinks {
    /// All, as by mount(8).
    #[default]
    Follow,
    /// Those that only root can have made.
    Root,
}

/// Treatment of a map or program that other users than root can change or replace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WritableMaps {
    /// It is used.
    #[default]
    Allow,
    /// It is not read and not run; what was read before stays in force.
    Refuse,
}

/// Users and groups that may trigger mounts at a path and below it. Root always may.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requesters {
    /// The path.
    pub path: AbsolutePath,
    /// Users.
    #[serde(default)]
    pub uids: Vec<Ids>,
    /// Groups.
    #[serde(default)]
    pub gids: Vec<Ids>,
}

/// A number of a user or group, or a range of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    first: u32,
    last: u32,
}

impl Ids {
    fn contains(self, id: u32) -> bool {
        (self.first..=self.last).contains(&id)
    }
}

impl<'de> Deserialize<'de> for Ids {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IdsVisitor)
    }
}

struct IdsVisitor;

impl Visitor<'_> for IdsVisitor {
    type Value = Ids;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the number of a user or group as id(1) shows it, or a range as in \"1000-1999\"")
    }

    fn visit_i64<E: de::Error>(self, id: i64) -> Result<Ids, E> {
        let id = u32::try_from(id).map_err(|_| E::invalid_value(Unexpected::Signed(id), &self))?;
        Ok(Ids { first: id, last: id })
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Ids, E> {
        let range = text.split_once('-').and_then(|(first, last)| {
            let ids = Ids { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? };
            (ids.first <= ids.last).then_some(ids)
        });
        range.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

/// Provider of entries that a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Concerned {
    /// [`Provider::File`].
    File,
    /// [`Provider::ForeignFile`].
    ForeignFile,
    /// [`Provider::Program`].
    Program,
    /// [`Provider::Hosts`].
    Hosts,
    /// [`Provider::Nis`].
    Nis,
    /// [`Provider::Ldap`].
    Ldap,
    /// [`Provider::Sss`].
    Sss,
    /// [`Provider::Hesiod`].
    Hesiod,
    /// All but local files of root, where nothing is said about them.
    Others,
}

impl From<Provider> for Concerned {
    fn from(provider: Provider) -> Self {
        match provider {
            Provider::File => Self::File,
            Provider::ForeignFile => Self::ForeignFile,
            Provider::Program => Self::Program,
            Provider::Hosts => Self::Hosts,
            Provider::Nis => Self::Nis,
            Provider::Ldap => Self::Ldap,
            Provider::Sss => Self::Sss,
            Provider::Hesiod => Self::Hesiod,
        }
    }
}

/// Mount options, separated by commas.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "String")]
pub struct MandatoryOptions(OptionList);

impl TryFrom<String> for MandatoryOptions {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        if text.bytes().any(|b| b.is_ascii_whitespace() || b.is_ascii_control()) {
            return Err("a blank in mount options, expected words separated by commas, as in \"nosuid,nodev\"");
        }
        let options = OptionList::parse(text.as_bytes());
        if options.words().any(|word| Pseudo::of(word).is_some()) {
            return Err("an option for the automounter, expected options for mounts, as in \"nosuid,nodev\"");
        }
        Ok(Self(options))
    }
}

/// Options that the profile `strict` adds to entries that are not from a local file of root.
const STRICT_OPTIONS: &str = "nosuid,nodev";

/// Types that such entries may mount.
const STRICT_TYPES: [&str; 4] = ["nfs", "nfs4", "cifs", "smb3"];

/// How many keys without an entry of their own a user may try each second.
const STRICT_ATTEMPTS: u32 = 20;

impl From<Written> for Security {
    fn from(written: Written) -> Self {
        let is_strict = written.profile == Profile::Strict;
        let options = || MandatoryOptions(OptionList::parse(STRICT_OPTIONS.as_bytes()));
        let types = || STRICT_TYPES.iter().filter_map(|&name| Pattern::try_from(name.to_owned()).ok()).collect();
        let of_others = |value: Option<_>| value.into_iter().map(|value| (Concerned::Others, value)).collect();
        Self {
            profile: written.profile,
            user_parents: written.user_parents.unwrap_or(if is_strict {
                UserParents::Refuse
            } else {
                UserParents::Allow
            }),
            source_links: written.source_links.unwrap_or(if is_strict {
                SourceLinks::Root
            } else {
                SourceLinks::Follow
            }),
            writable_maps: written.writable_maps.unwrap_or(if is_strict {
                WritableMaps::Refuse
            } else {
                WritableMaps::Allow
            }),
            attempts_per_second: written.attempts_per_second.unwrap_or(if is_strict { STRICT_ATTEMPTS } else { 0 }),
            requesters: written.requesters,
            mandatory_options: written.mandatory_options.unwrap_or_else(|| of_others(is_strict.then(options))),
            allowed_types: written
                .allowed_types
                .unwrap_or_else(|| is_strict.then(types).into_iter().map(|t| (Concerned::Others, t)).collect()),
        }
    }
}

impl Security {
    /// Returns what is imposed on the entries of a provider.
    pub fn restriction(&self, provider: Provider) -> Restriction {
        Restriction {
            options: rule(&self.mandatory_options, provider).map(|options| options.0.clone()).unwrap_or_default(),
            types: rule(&self.allowed_types, provider).cloned(),
        }
    }
}

impl Security {
    /// Returns why a user may not trigger a mount at `path`, if so. `groups` returns the supplementary groups.
    pub fn refusal(&self, path: &Path, (uid, gid): (u32, u32), groups: impl FnOnce() -> Vec<u32>) -> Option<String> {
        let rule = self.requesters.iter().filter(|rule| path.starts_with(&rule.path.0));
        let rule = rule.max_by_key(|rule| rule.path.0.as_os_str().len()).filter(|_| uid != 0)?;
        let has = |ids: &[Ids], id| ids.iter().any(|ids| ids.contains(id));
        let is_listed = has(&rule.uids, uid)
            || has(&rule.gids, gid)
            || !rule.gids.is_empty() && groups().into_iter().any(|group| has(&rule.gids, group));
        (!is_listed).then(|| {
            let (path, rule) = (Escaped::path(path), Escaped::path(&rule.path.0));
            format!("user {uid} may not trigger {path}: requesters of {rule} in [security] of autofs.toml")
        })
    }
}

/// Returns the rule for a provider.
fn rule<T>(rules: &BTreeMap<Concerned, T>, provider: Provider) -> Option<&T> {
    let others = || (provider != Provider::File).then(|| rules.get(&Concerned::Others)).flatten();
    rules.get(&provider.into()).or_else(others)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Security, String> {
        let file = std::path::Path::new("/etc/autofs.toml").into();
        let parsed = super::super::Native::parse(format!("[security]\n{text}").as_bytes(), &file);
        parsed.map(|(native, _)| native.security).map_err(|d| d[0].to_string())
    }

    #[test]
    fn the_profile_sets_what_is_not_said() {
        let strict = parse("profile = \"strict\"").unwrap();
        assert_eq!(strict.user_parents, UserParents::Refuse);
        assert_eq!(strict.source_links, SourceLinks::Root);
        assert_eq!(strict.writable_maps, WritableMaps::Refuse);
        assert!(strict.restriction(Provider::File).is_none());
        let ldap = strict.restriction(Provider::Ldap);
        assert_eq!((ldap.options.as_bytes(), ldap.types.unwrap().len()), (&b"nosuid,nodev"[..], 4));
        let own = parse("profile = \"strict\"\nsource_links = \"follow\"\nallowed_types = {}").unwrap();
        assert_eq!((own.source_links, own.user_parents), (SourceLinks::Follow, UserParents::Refuse));
        assert_eq!(own.restriction(Provider::Ldap).types, None);
        assert_eq!(parse("").unwrap(), Security::default());
    }

    #[test]
    fn a_rule_for_one_provider_replaces_that_for_others() {
        let security = parse("mandatory_options = { others = \"nosuid\", nis = \"ro\", file = \"nodev\" }").unwrap();
        let options = |provider| security.restriction(provider).options.as_bytes().to_vec();
        assert_eq!(options(Provider::Sss), b"nosuid");
        assert_eq!(options(Provider::Nis), b"ro");
        assert_eq!(options(Provider::File), b"nodev");
    }

    #[test]
    fn the_longest_path_says_who_may_trigger_mounts() {
        let security = parse(
            "requesters = [{ path = \"/data\", uids = [7, \"1000-1999\"], gids = [100] }, { path = \"/data/own\", uids = [8] }]",
        )
        .unwrap();
        let may = |path: &str, uid, gid, groups: &[u32]| {
            security.refusal(Path::new(path), (uid, gid), || groups.to_vec()).is_none()
        };
        assert!(may("/data/x", 0, 0, &[]) && may("/data/x", 7, 7, &[]) && may("/data/x", 1500, 7, &[]));
        assert!(may("/data/x", 9, 100, &[]) && may("/data/x", 9, 9, &[5, 100]));
        assert!(!may("/data/x", 9, 9, &[5]) && !may("/data", 2000, 9, &[]));
        assert!(may("/data/own/x", 8, 8, &[]) && !may("/data/own", 7, 7, &[100]));
        assert!(may("/database", 9, 9, &[]));
    }

    #[test]
    fn errors_say_what_is_expected() {
        for (text, expected) in [
            ("mandatory_options = { nis = \"no suid\" }", "2:29: a blank in mount options"),
            ("mandatory_options = { nis = \"fstype=nfs\" }", "2:29: an option for the automounter"),
            ("mandatory_options = { yp = \"ro\" }", "2:23: unknown variant `yp`"),
            ("allowed_types = { others = [\"\"] }", "2:28: an empty pattern"),
            ("requesters = [{ path = \"data\" }]", "2:24: a relative path: expected the path of a mount point"),
            (
                "requesters = [{ path = \"/d\", uids = [\"joe\"] }]",
                "2:38: invalid value: string \"joe\": expected the number",
            ),
            ("profile = \"paranoid\"", "2:11: unknown variant `paranoid`: expected `none` or `strict`"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(&format!("/etc/autofs.toml:{expected}")), "{error}");
        }
    }
}
