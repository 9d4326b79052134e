//! Names of maps in a line of a master map, and the options of the mount point.

use super::fstab;
use crate::text::Escaped;

/// A kind of map source, as the word before the colon (or the leading `-`) says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SourceKind {
    /// `file`: a plain text map.
    File,
    /// `program` or `exec`: a program that prints the entry.
    Program,
    /// `sss`.
    Sss,
    /// `yp`.
    Yp,
    /// `nis`.
    Nis,
    /// `nisplus`.
    NisPlus,
    /// `ldap`.
    Ldap,
    /// `ldaps`.
    Ldaps,
    /// `hesiod`.
    Hesiod,
    /// `userdir`.
    Userdir,
    /// `multi`: several maps, parted by `--`.
    Multi,
    /// `dir`: only for `+dir:` includes of a master map.
    Dir,
    /// The built-in `-hosts`.
    Hosts,
    /// The built-in `-null`.
    Null,
}

impl SourceKind {
    /// The word as written in a master map (`hosts` for `-hosts`).
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Program => "program",
            Self::Sss => "sss",
            Self::Yp => "yp",
            Self::Nis => "nis",
            Self::NisPlus => "nisplus",
            Self::Ldap => "ldap",
            Self::Ldaps => "ldaps",
            Self::Hesiod => "hesiod",
            Self::Userdir => "userdir",
            Self::Multi => "multi",
            Self::Dir => "dir",
            Self::Hosts => "hosts",
            Self::Null => "null",
        }
    }

    /// The type that the word before the colon means. `exec` is another word for `program`; the built-in maps have
    /// none.
    pub fn from_word(word: &[u8]) -> Option<Self> {
        Some(match word {
            b"file" => Self::File,
            b"program" | b"exec" => Self::Program,
            b"sss" => Self::Sss,
            b"yp" => Self::Yp,
            b"nis" => Self::Nis,
            b"nisplus" => Self::NisPlus,
            b"ldap" => Self::Ldap,
            b"ldaps" => Self::Ldaps,
            b"hesiod" => Self::Hesiod,
            b"userdir" => Self::Userdir,
            b"multi" => Self::Multi,
            b"dir" => Self::Dir,
            _ => return None,
        })
    }
}

/// The language in which a map is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// Sun's, the default.
    #[default]
    Sun,
    /// am-utils'.
    Amd,
    /// Hesiod's file system records.
    Hesiod,
    /// TOML, of files only.
    Toml,
    /// The format of fstab(5), for files only, as a direct map.
    Fstab,
}

impl Format {
    /// The format that the word after the comma means.
    pub fn from_word(word: &[u8]) -> Option<Self> {
        Some(match word {
            b"sun" => Self::Sun,
            b"amd" => Self::Amd,
            b"hesiod" => Self::Hesiod,
            b"toml" => Self::Toml,
            b"fstab" => Self::Fstab,
            _ => return None,
        })
    }
}

/// A map as it is named: `[type[,format]:]name [arguments]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct SourceSpec {
    /// The type, if one is written; without, a path is a file (or program) and a name goes through nsswitch.
    pub kind: Option<SourceKind>,
    /// The format, if one is written.
    pub format: Option<Format>,
    /// The map: a path, a name or a DN, unescaped. For `Hosts` and `Null`: empty.
    pub name: Vec<u8>,
    /// The parts of a `multi` map; else empty.
    pub parts: Vec<(SourceSpec, MasterOptions)>,
    /// `list`: a program lists its keys when it is called without an argument.
    pub lists: bool,
}

/// Why a word names no map.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not one of the types.
    #[error("unknown map type \"{0}\"")]
    Type(String),
    /// Not one of the formats.
    #[error("unknown map format \"{0}\"")]
    Format(String),
    /// A type without a map.
    #[error("map type \"{0}\" without a map")]
    NoMap(String),
    /// `-xfn`, or something else with a dash.
    #[error("built-in map \"{0}\" is not supported")]
    BuiltIn(String),
}

/// The one of `words` that was probably meant.
fn nearest(word: &str, words: &'static str) -> Option<&'static str> {
    let words = words.split([' ', ',']).filter(|word| !word.is_empty() && *word != "and");
    words.clone().find(|other| *other == word).or_else(|| super::known::nearest(word.as_bytes(), words))
}

impl ParseError {
    /// Returns the text to write instead.
    pub fn help(&self) -> String {
        const TYPES: &str = "file, program, exec, sss, yp, nis, nisplus, ldap, ldaps, hesiod, userdir and multi";
        const BUILT_IN: &str = "built-in maps are -hosts, -null and -fstab";
        match self {
            Self::Type(word) => match nearest(&word.to_ascii_lowercase(), TYPES) {
                Some(near) => format!("did you mean {near}:? map types are {TYPES}"),
                None if word.eq_ignore_ascii_case("prog") => format!("did you mean program:? map types are {TYPES}"),
                None => format!("map types are {TYPES}"),
            },
            Self::Format(_) => "map formats are sun, amd, hesiod, toml and fstab".to_owned(),
            Self::NoMap(_) => "write a path or a map name behind the type".to_owned(),
            Self::BuiltIn(word) => match nearest(word, "-hosts -null -fstab") {
                Some(near) => format!("did you mean {near}? {BUILT_IN}"),
                None => BUILT_IN.to_owned(),
            },
        }
    }
}

impl SourceSpec {
    /// Returns whether the map may be a program: it is called one, or its permissions decide.
    pub fn may_be_program(&self) -> bool {
        matches!(self.kind, None | Some(SourceKind::Program))
    }

    /// The map that `word` names, without quotes or escapes: `[type[,format]:]name`, `-hosts` or `-null`.
    ///
    /// A colon alone makes no type: a name as `server:ou=auto.home` is one for LDAP.
    pub fn parse(word: &[u8]) -> Result<Self, ParseError> {
        let text = |bytes| Escaped::start_of(bytes).to_string();
        let named =
            |kind, format, name: &[u8]| Self { kind, format, name: name.to_vec(), parts: Vec::new(), lists: false };
        match word {
            b"-hosts" => return Ok(named(Some(SourceKind::Hosts), None, b"")),
            b"-null" => return Ok(named(Some(SourceKind::Null), None, b"")),
            b"-fstab" | b"fstab:" => return Ok(named(Some(SourceKind::File), Some(Format::Fstab), fstab::FILE)),
            [b'-', ..] => return Err(ParseError::BuiltIn(text(word))),
            [b'f', b's', b't', b'a', b'b', b':', path @ ..] => {
                return Ok(named(Some(SourceKind::File), Some(Format::Fstab), path));
            }
            _ => {}
        }
        let Some((head, name)) = memchr::memchr(b':', word).and_then(|n| Some((word.get(..n)?, word.get(n + 1..)?)))
        else {
            return Ok(named(None, None, word));
        };
        match Self::parse_type(head) {
            Some(typed) => {
                let (kind, format) = typed?;
                let name = name.trim_ascii_start();
                if name.is_empty() { Err(ParseError::NoMap(text(head))) } else { Ok(named(Some(kind), format, name)) }
            }
            None if name.starts_with(b"/") && head.iter().all(u8::is_ascii_alphanumeric) => {
                Err(ParseError::Type(text(head)))
            }
            None => Ok(named(None, None, word)),
        }
    }

    /// `type[,format]` without a name; `None` if `word` does not start with a type.
    pub(crate) fn parse_type(word: &[u8]) -> Option<Result<(SourceKind, Option<Format>), ParseError>> {
        let mut parts = word.splitn(2, |&b| b == b',');
        let kind = SourceKind::from_word(parts.next()?)?;
        Some(match parts.next() {
            None => Ok((kind, None)),
            Some(format) => match Format::from_word(format) {
                Some(format) => Ok((kind, Some(format))),
                None => Err(ParseError::Format(Escaped::start_of(format).to_string())),
            },
        })
    }
}

/// How a bind mount passes mounts on, `mount_namespaces(7)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Propagation {
    /// Receives, does not send: the default, so that triggers do not spread.
    #[default]
    Slave,
    /// Neither.
    Private,
    /// Both.
    Shared,
}

/// How much is logged about a mount point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Verbosity {
    /// Errors and unconditional messages.
    #[default]
    Basic,
    /// And what is done.
    Verbose,
    /// And how.
    Debug,
}

/// The owner and the group of a mount point, each by name or number.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Owner {
    /// The user.
    pub user: Option<Vec<u8>>,
    /// The group.
    pub group: Option<Vec<u8>>,
}

/// The options of a master map line. `None` and `false`: not said there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct MasterOptions {
    /// `--timeout`: seconds until an unused mount goes; 0 = never.
    pub timeout: Option<u64>,
    /// `--negative-timeout`: seconds.
    pub negative_timeout: Option<u64>,
    /// `browse` or `nobrowse`.
    pub browse: Option<bool>,
    /// `nobind`.
    pub nobind: bool,
    /// `symlink`.
    pub symlink: bool,
    /// `strictexpire`.
    pub strictexpire: bool,
    /// `slave`, `private` or `shared`.
    pub propagation: Option<Propagation>,
    /// `--random-multimount-selection`.
    pub random: bool,
    /// `--use-weight-only`.
    pub use_weight_only: bool,
    /// `--verbose` or `--debug`.
    pub verbosity: Option<Verbosity>,
    /// `--mode`: permission bits of the mount point.
    pub mode: Option<u32>,
    /// `--owner` and `--group`: who owns the mount point.
    pub owner: Option<Box<Owner>>,
    /// `--trigger-propagation`: how the autofs mounts themselves pass mounts on.
    pub trigger_propagation: Option<Propagation>,
    /// `list`: the program lists its keys. Only while a line is read; then the map has it, see [`SourceSpec::lists`].
    pub list: bool,
    /// `-DNAME=VALUE`, in order.
    pub defines: Vec<(Vec<u8>, Vec<u8>)>,
    /// `--slashify-colons` or `--no-slashify-colons`.
    pub slashify_colons: Option<bool>,
    /// All other words, joined by commas: mount options for the entries.
    pub mount_options: Vec<u8>,
    /// The words of `defines` and `mount_options` as written, joined by blanks: what `automount -m` shows.
    pub arguments: Vec<u8>,
}

impl MasterOptions {
    /// Returns the user that owns the mount point, if the line says so.
    pub fn user(&self) -> Option<&[u8]> {
        self.owner.as_ref()?.user.as_deref()
    }

    /// Returns the group of the mount point, if the line says so.
    pub fn group(&self) -> Option<&[u8]> {
        self.owner.as_ref()?.group.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_names_a_map() {
        use SourceKind as K;
        let cases: &[(&str, Option<K>, Option<Format>, &str)] = &[
            ("/etc/auto.home", None, None, "/etc/auto.home"),
            ("auto.home", None, None, "auto.home"),
            ("file:/etc/auto.home", Some(K::File), None, "/etc/auto.home"),
            ("file: /etc/auto.home", Some(K::File), None, "/etc/auto.home"),
            ("file,amd:/etc/amd.home", Some(K::File), Some(Format::Amd), "/etc/amd.home"),
            ("exec:/etc/auto.net", Some(K::Program), None, "/etc/auto.net"),
            ("ldap://server/ou=x,dc=y", Some(K::Ldap), None, "//server/ou=x,dc=y"),
            ("ou=auto.home,dc=example,dc=com", None, None, "ou=auto.home,dc=example,dc=com"),
            ("server:ou=auto.home", None, None, "server:ou=auto.home"),
            ("-hosts", Some(K::Hosts), None, ""),
            ("-null", Some(K::Null), None, ""),
            ("-fstab", Some(K::File), Some(Format::Fstab), "/etc/fstab"),
            ("fstab:", Some(K::File), Some(Format::Fstab), "/etc/fstab"),
            ("fstab:/etc/fstab.d", Some(K::File), Some(Format::Fstab), "/etc/fstab.d"),
        ];
        for (word, kind, format, name) in cases {
            let spec = SourceSpec::parse(word.as_bytes()).unwrap();
            assert_eq!((spec.kind, spec.format, spec.name.as_slice()), (*kind, *format, name.as_bytes()), "{word}");
        }
    }

    #[test]
    fn a_word_that_names_none_says_why() {
        for (word, message) in [
            ("files:/etc/x", "unknown map type \"files\""),
            ("file,xml:/etc/x", "unknown map format \"xml\""),
            ("nis:", "map type \"nis\" without a map"),
            ("-xfn", "built-in map \"-xfn\" is not supported"),
        ] {
            assert_eq!(SourceSpec::parse(word.as_bytes()).unwrap_err().to_string(), message);
        }
    }
}
