//! autofs.toml: what autofs.conf has no words for.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub use super::security::{Security, SourceLinks, UserParents, WritableMaps};
use crate::map::toml::{Source, master};
use crate::map::{Item, MasterEntry, Pattern, pattern};
use crate::text::Diagnostic;

/// The content of autofs.toml; whatever is not said there has its default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Native {
    /// `[mount]`
    pub mount: Mount,
    /// `[deadlines]`
    pub deadlines: Deadlines,
    /// `[limits]`
    pub limits: Limits,
    /// `[exit]`
    pub exit: Exit,
    /// `[log]`
    pub log: Log,
    /// `[security]`
    pub security: Security,
    /// `[helpers]`
    pub helpers: Helpers,
    /// `[programs]`
    pub programs: Programs,
    /// `[wildcards]`
    pub wildcards: Wildcards,
    /// `[cache]`
    pub cache: Cache,
    /// `[history]`
    pub history: History,
    /// `[[mount_points]]`: lines of a master map.
    #[serde(deserialize_with = "read_apart")]
    pub mount_points: Vec<MasterEntry>,
}

/// The programs that mount and unmount.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Helpers {
    /// Names of variables of the daemon's own environment that programs get, beside PATH and LANG.
    pub environment: Vec<String>,
    /// Types that are mounted with the credentials of the requester.
    pub requester_credentials: Vec<CredentialType>,
}

/// A type of file systems whose helper can be told whose credentials to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CredentialType {
    /// SMB.
    Cifs,
    /// SMB, version 3 or later.
    Smb3,
}

impl CredentialType {
    /// Returns the name of the type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cifs => "cifs",
            Self::Smb3 => "smb3",
        }
    }
}

/// Program maps.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Programs {
    /// For how long the output of a program is given again without running it.
    pub keep: Keep,
}

/// Section `[wildcards]`: keys that wildcards do not serve.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wildcards {
    /// Names that desktops look for in every directory.
    pub desktop_probes: DesktopProbes,
    /// Keys that no wildcard serves.
    pub except: Vec<Pattern>,
}

/// Treatment of names that desktops look for in every directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DesktopProbes {
    /// It is a key like others.
    #[default]
    Allow,
    /// No wildcard serves it.
    Refuse,
}

impl Wildcards {
    /// Returns whether no wildcard serves `key`.
    pub fn except(&self, key: &[u8]) -> bool {
        self.desktop_probes == DesktopProbes::Refuse && pattern::is_desktop_probe(key)
            || self.except.iter().any(|pattern| pattern.matches(key))
    }
}

/// Section `[cache]`: storage for maps of directory services.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// A directory that only root can write to. `None`, written as an empty string: they are not stored.
    #[serde(deserialize_with = "absolute")]
    pub directory: Option<PathBuf>,
    /// The maximum for all files together.
    #[serde(deserialize_with = "count")]
    pub megabytes: NonZeroU32,
}

impl Default for Cache {
    fn default() -> Self {
        Self { directory: None, megabytes: NonZeroU32::new(64).unwrap_or(NonZeroU32::MIN) }
    }
}

/// Section `[history]`: what is kept in memory of the past.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct History {
    /// Whether requests are kept and counted.
    pub requests: bool,
}

impl Default for History {
    fn default() -> Self {
        Self { requests: true }
    }
}

/// For how long something is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// For the negative timeout of the mount point, as automount does.
    #[default]
    NegativeTimeout,
    /// For `positive_timeout` of autofs.conf.
    PositiveTimeout,
    /// Not at all.
    Never,
}

/// How file systems are mounted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mount {
    /// By what.
    pub method: Method,
    /// Where something stands below a multi-mount that has no mount of its own.
    pub placeholder: When,
    /// Paths below which programs mount in a private directory, from which the mount is moved to its place.
    pub staging: Vec<AbsolutePath>,
    /// Seconds between two looks whether the servers of FUSE mounts are alive; 0: none.
    pub fuse_check: FuseCheck,
}

/// An absolute path.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct AbsolutePath(pub PathBuf);

impl TryFrom<String> for AbsolutePath {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        if text.starts_with('/') {
            Ok(Self(text.into()))
        } else {
            Err("a relative path, expected the path of a mount point, as in \"/home\"")
        }
    }
}

/// The number of seconds between two looks at FUSE mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct FuseCheck(pub u32);

impl Default for FuseCheck {
    fn default() -> Self {
        Self(10)
    }
}

/// When something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// Only where it is needed.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// By what a file system is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// By system call where no helper is needed, by the helper `mount.TYPE` where there is one, else by mount(8).
    #[default]
    Auto,
    /// By mount(8), always.
    Command,
}

/// How long things may take, in whole seconds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Deadlines {
    /// From the access to the answer, whatever happens.
    #[serde(deserialize_with = "seconds")]
    pub request: Duration,
    /// One question to one source of maps; for a program map, its run.
    #[serde(deserialize_with = "seconds")]
    pub lookup: Duration,
    /// One mount.
    #[serde(deserialize_with = "seconds")]
    pub mount: Duration,
    /// One path that an entry requires: from the access to it until it is there.
    #[serde(deserialize_with = "seconds")]
    pub requires: Duration,
    /// One umount.
    #[serde(deserialize_with = "seconds")]
    pub umount: Duration,
    /// Between asking a program to end (SIGTERM) and ending it (SIGKILL).
    #[serde(deserialize_with = "seconds")]
    pub helper_kill: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            // More than the two minutes for which mount.nfs tries by itself (nfs(5), retry=).
            request: Duration::from_secs(180),
            lookup: Duration::from_secs(60),
            mount: Duration::from_secs(150),
            requires: Duration::from_secs(60),
            umount: Duration::from_secs(60),
            helper_kill: Duration::from_secs(5),
        }
    }
}

/// How much is done at the same time.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Mounts.
    #[serde(deserialize_with = "count")]
    pub mounts: NonZeroU32,
    /// Questions to sources of maps.
    #[serde(deserialize_with = "count")]
    pub lookups: NonZeroU32,
    /// Requests to the kernel for what can be unmounted.
    #[serde(deserialize_with = "count")]
    pub expires: NonZeroU32,
    /// Unmounts.
    #[serde(deserialize_with = "count")]
    pub umounts: NonZeroU32,
    /// Programs of program maps.
    #[serde(deserialize_with = "count")]
    pub programs: NonZeroU32,
    /// Mounts from one server, so that a dead one cannot take all places.
    #[serde(deserialize_with = "count")]
    pub per_server: NonZeroU32,
    /// Failed keys that are remembered.
    #[serde(deserialize_with = "count")]
    pub failed_keys: NonZeroU32,
}

impl Default for Limits {
    fn default() -> Self {
        let limit = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        Self {
            mounts: limit(64),
            lookups: limit(64),
            expires: limit(16),
            umounts: limit(32),
            programs: limit(64),
            per_server: limit(16),
            failed_keys: limit(65_536),
        }
    }
}

/// Section `[exit]`: behaviour at the end of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Exit {
    /// On SIGTERM and SIGINT.
    pub on_exit: OnExit,
}

/// Behaviour on SIGTERM and SIGINT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnExit {
    /// All that is not in use is unmounted.
    #[default]
    Clean,
    /// All stays mounted, for the next start to take over.
    Detach,
}

/// How the log looks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// The form of a line on standard error.
    pub format: LogFormat,
}

/// The form of a line of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

impl Native {
    /// Reads `text`, the content of `file`. Returns the settings, and what is wrong with mount points: each of them costs only
    /// itself.
    ///
    /// # Errors
    /// Something else is wrong, and so no setting can be relied upon.
    pub fn parse(text: &[u8], file: &Arc<Path>) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        let source = Source { text, file };
        let text = source.utf8().map_err(|error| vec![error])?;
        let table = DeTable::parse(text).map_err(|error| vec![source.of(&error, 0..0)])?;
        let span = table.span();
        let (settings, points): (Vec<_>, Vec<_>) =
            table.into_inner().into_iter().partition(|(key, _)| key.get_ref() != master::MOUNT_POINTS);
        let mut native = Self::settings(&source, settings.into_iter().collect(), span)?;
        let Some((_, points)) = points.into_iter().next() else { return Ok((native, Vec::new())) };
        let (items, mut diagnostics) = master::mount_points(points, &source);
        for (_, item) in items {
            match item {
                Item::Entry(entry) => native.mount_points.push(entry),
                Item::Include(include) => {
                    let error = Diagnostic::error("toml::include", include.place, "autofs.toml includes no master map");
                    diagnostics.push(error.help("write the include into a master map"));
                }
            }
        }
        Ok((native, diagnostics))
    }

    /// Reads the settings. After an error it goes on without what is wrong, to find all errors.
    fn settings(source: &Source<'_>, mut table: DeTable<'_>, span: Range<usize>) -> Result<Self, Vec<Diagnostic>> {
        let mut errors = Vec::new();
        loop {
            let settings = toml::de::Deserializer::from(Spanned::new(span.clone(), table.clone()));
            match Self::deserialize(settings) {
                Ok(native) if errors.is_empty() => return Ok(native),
                Ok(_) => break,
                Err(error) => {
                    errors.push(source.of(&error, 0..0));
                    let is_removed = error.span().is_some_and(|span| remove_at(&mut table, span.start));
                    if !is_removed || errors.len() >= ERRORS {
                        break;
                    }
                }
            }
        }
        errors.sort_by_key(|error| (error.place.line, error.place.column));
        Err(errors)
    }
}

/// Maximum number of errors that are reported for one file.
const ERRORS: usize = 50;

/// Removes the value, or the key with its value, that is at an offset of the text. Returns whether there is one.
fn remove_at(table: &mut DeTable<'_>, at: usize) -> bool {
    for (_, value) in table.iter_mut() {
        if let DeValue::Table(inner) = value.get_mut() {
            if remove_at(inner, at) {
                return true;
            }
        }
    }
    let before = table.len();
    let others = std::mem::take(table).into_iter();
    *table = others.filter(|(key, value)| !key.span().contains(&at) && !value.span().contains(&at)).collect();
    table.len() < before
}

/// Names the field among those that there are; it has been read before.
fn read_apart<'de, D: Deserializer<'de>>(value: D) -> Result<Vec<MasterEntry>, D::Error> {
    de::IgnoredAny::deserialize(value).map(|_| Vec::new())
}

fn seconds<'de, D: Deserializer<'de>>(value: D) -> Result<Duration, D::Error> {
    value.deserialize_u32(Positive).map(|n| Duration::from_secs(n.get().into()))
}

fn count<'de, D: Deserializer<'de>>(value: D) -> Result<NonZeroU32, D::Error> {
    value.deserialize_u32(Positive)
}

fn absolute<'de, D: Deserializer<'de>>(value: D) -> Result<Option<PathBuf>, D::Error> {
    let path = PathBuf::deserialize(value)?;
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    let is_plain = path.is_absolute() && path.parent().is_some();
    let wrong =
        || de::Error::invalid_value(Unexpected::Str(&path.to_string_lossy()), &"the absolute path of a directory");
    if is_plain { Ok(Some(path)) } else { Err(wrong()) }
}

/// A whole number from 1 on, with an error that says so.
struct Positive;

impl Visitor<'_> for Positive {
    type Value = NonZeroU32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number, 1 or more")
    }

    fn visit_i64<E: de::Error>(self, n: i64) -> Result<NonZeroU32, E> {
        let positive = u32::try_from(n).ok().and_then(NonZeroU32::new);
        positive.ok_or_else(|| E::invalid_value(Unexpected::Signed(n), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Native, String> {
        let parsed = Native::parse(text.as_bytes(), &Path::new("/etc/autofs.toml").into());
        parsed.map(|(native, _)| native).map_err(|d| d[0].to_string())
    }

    #[test]
    fn control_characters_are_escaped_in_messages() {
        let said = parse("[mount]\nmethod = \"\tauto\\u001b\"\n").unwrap_err();
        assert!(said.contains(r"unknown variant `\x09auto\x1b`"), "{said}");
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        assert_eq!(parse(""), Ok(Native::default()));
        let native = parse(
            "[mount]\nmethod = \"command\"\n[deadlines]\nmount = 5\n[limits]\nper_server = 2\n\
             [exit]\non_exit = \"detach\"\n[log]\nformat = \"json\"\n",
        )
        .unwrap();
        assert_eq!((native.mount.method, native.exit.on_exit), (Method::Command, OnExit::Detach));
        assert_eq!(native.deadlines, Deadlines { mount: Duration::from_secs(5), ..Deadlines::default() });
        assert_eq!((native.limits.per_server.get(), native.limits.mounts), (2, Limits::default().mounts));
        assert_eq!(native.log.format, LogFormat::Json);
    }

    #[test]
    fn errors_say_where_and_what_is_expected() {
        for (text, expected) in [
            ("[mount]\nmethod = \"magic\"", "2:10: unknown variant `magic`: expected `auto` or `command`"),
            (
                "[mount]\nmehtod = 1",
                "2:1: unknown field `mehtod`: did you mean method? expected one of `method`, `placeholder`, `staging`, `fuse_check`",
            ),
            (
                "[amd]",
                "1:2: unknown field `amd`: expected one of `mount`, `deadlines`, `limits`, `exit`, `log`, `security`, `helpers`, `programs`, `wildcards`, `cache`, `history`, `mount_points`",
            ),
            ("[limits]\nmounts = 0", "2:10: invalid value: integer `0`: expected a whole number, 1 or more"),
            ("[deadlines]\nmount = -5", "2:9: invalid value: integer `-5`: expected a whole number, 1 or more"),
            (
                "[cache]\ndirectory = \"here\"",
                "2:13: invalid value: string \"here\": expected the absolute path of a directory",
            ),
            ("[deadlines]\nmount = \"5s\"", "2:9: invalid type: string \"5s\": expected a whole number, 1 or more"),
        ] {
            assert_eq!(parse(text), Err(format!("/etc/autofs.toml:{expected}")), "{text}");
        }
        let text =
            "[deadline]\nmount = 1\n[deadlines]\nrequest = \"5x\"\nmont = 3\nmount = 4\n[log]\nformat = \"jsn\"\n";
        let all = Native::parse(text.as_bytes(), &Path::new("/t").into()).unwrap_err();
        let places: Vec<_> = all.iter().map(|d| (d.place.line, d.place.column)).collect();
        assert_eq!(places, [(1, 2), (4, 11), (5, 1), (8, 10)], "{all:?}");
        let d = &Native::parse(b"# a\nx = \"\xff\"", &Path::new("/t").into()).unwrap_err()[0];
        assert_eq!(d.to_string(), "/t:2:6: not UTF-8: TOML is UTF-8: save the file in that encoding");
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "(\\[limits\\]\n|mounts|mount|[=\"' 0-9\n.#-]|\\PC){0,30}") {
            for d in Native::parse(text.as_bytes(), &Path::new("/t").into()).err().into_iter().flatten() {
                let line = text.split('\n').nth(d.place.line as usize - 1).unwrap();
                prop_assert!((d.place.column + d.length) as usize <= line.len() + 1 && d.help.is_some());
            }
        }
    }
}
