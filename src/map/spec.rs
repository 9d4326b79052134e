//! What a line of a master map names: a map, and the options of the mount point.

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
}

/// A map as it is named: `[type[,format]:]name [arguments]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SourceSpec {
    /// The type, if one is written; without, a path is a file (or program) and a name goes through nsswitch.
    pub kind: Option<SourceKind>,
    /// The format, if one is written.
    pub format: Option<Format>,
    /// The map: a path, a name or a DN, unescaped. For `Hosts` and `Null`: empty.
    pub name: Vec<u8>,
    /// The parts of a `multi` map; else empty.
    pub parts: Vec<(SourceSpec, MasterOptions)>,
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
    /// `-DNAME=VALUE`, in order.
    pub defines: Vec<(Vec<u8>, Vec<u8>)>,
    /// `--slashify-colons` or `--no-slashify-colons`.
    pub slashify_colons: Option<bool>,
    /// All other words, joined by commas: mount options for the entries.
    pub mount_options: Vec<u8>,
}
