//! The format of the vectors in `vectors/*.toml`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::call::Call;
use super::common::daemon::Variant;

const FILES: &[&str] = &[
    include_str!("vectors/command-line.toml"),
    include_str!("vectors/master.toml"),
    include_str!("vectors/sun.toml"),
    include_str!("vectors/program.toml"),
    include_str!("vectors/replicas.toml"),
    include_str!("vectors/amd.toml"),
    include_str!("vectors/runtime.toml"),
    include_str!("vectors/unrecorded.toml"),
    include_str!("vectors/field.toml"),
    include_str!("vectors/words.toml"),
];

/// A configuration, what is done to it, and what must come of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vector {
    /// Its name.
    pub id: String,
    /// What it shows.
    #[expect(dead_code, reason = "for the reader of the vectors")]
    pub about: String,
    /// Why it cannot run.
    pub ignored: Option<String>,
    /// The recorded behaviour is hardly meant so; what would be better.
    #[expect(dead_code, reason = "for the reader of the vectors")]
    pub quirk: Option<String>,
    /// Is a daemon started? Else the steps start the program.
    #[serde(default = "yes")]
    pub daemon: bool,
    /// Lines of the master map.
    #[serde(default)]
    pub master: Vec<String>,
    /// The word for the master map on the command line; by default the file with these lines. Empty: none.
    pub argument: Option<String>,
    /// Options, by default `-v`.
    #[serde(default = "verbose")]
    pub args: Vec<String>,
    /// Environment variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// `/etc/autofs.conf`.
    pub conf: Option<String>,
    /// `/etc/nsswitch.conf`.
    pub nsswitch: Option<String>,
    /// Appended to `/etc/hosts`.
    #[serde(default)]
    pub hosts: String,
    /// Other files.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// Directories.
    #[serde(default)]
    pub mkdir: Vec<String>,
    /// Sources whose mount fails.
    #[serde(default)]
    pub fail: Vec<String>,
    /// Devices whose check fails.
    #[serde(default)]
    pub fsck_fail: Vec<String>,
    /// Directories inside of sources.
    #[serde(default)]
    pub content: Vec<(String, String)>,
    /// File servers, see [`Server::parse`](super::common::servers::Server::parse).
    #[serde(default)]
    pub servers: Vec<String>,
    /// What they export.
    #[serde(default)]
    pub exports: Vec<String>,
    /// Maps in LDAP below `dc=ex`: entries by key.
    #[serde(default)]
    pub ldap: BTreeMap<String, BTreeMap<String, String>>,
    /// Maps in NIS.
    #[serde(default)]
    pub nis: BTreeMap<String, BTreeMap<String, String>>,
    /// Maps of sssd.
    #[serde(default)]
    pub sss: BTreeMap<String, BTreeMap<String, String>>,
    /// Needs IPv6.
    #[serde(default)]
    pub ipv6: bool,
    /// Autofs mounts that must appear.
    #[serde(default)]
    pub ready: Vec<String>,
    /// Autofs mounts that must not appear.
    #[serde(default)]
    pub absent: Vec<String>,
    /// All autofs mounts after the start, if more than `ready`.
    pub autofs: Option<Vec<String>>,
    /// Options that autofs mounts must show.
    #[serde(default)]
    pub autofs_options: BTreeMap<String, Vec<String>>,
    /// What is done.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// What is mounted (and run) meanwhile, in order.
    pub mounts: Option<Vec<Call>>,
    /// Their order does not matter.
    #[serde(default)]
    pub any_order: bool,
    /// What the log must contain.
    #[serde(default)]
    pub log: Vec<String>,
    /// How the daemon ends: `exit 0`.
    pub end: Option<String>,
}

fn yes() -> bool {
    true
}

fn verbose() -> Vec<String> {
    vec!["-v".to_owned()]
}

impl Vector {
    /// Returns whether an ignored vector can be tried here: it says what must come of it, and lacks only a feature of ours,
    /// no stand-in.
    pub fn can_be_tried(&self) -> bool {
        let says = !self.ready.is_empty() || self.mounts.is_some() || self.end.is_some();
        says && self.ignored.as_deref().is_some_and(|why| why.ends_with(" not served yet"))
    }
}

/// One thing that is done, and what must come of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Step {
    /// `stat -L PATH/.` by a user.
    Visit {
        visit: String,
        #[serde(default)]
        uid: u32,
        #[serde(default = "yes")]
        ok: bool,
    },
    /// The names in a directory.
    List { ls: String, names: Vec<String> },
    /// The text of a symbolic link; none: there is no link.
    Link { readlink: String, is: Option<String> },
    /// A shell script: exit status; output as it is, by its lines in any order, or as a pattern (`*` one word).
    Shell {
        sh: String,
        #[serde(default)]
        status: i32,
        out: Option<String>,
        lines: Option<String>,
        like: Option<String>,
        seconds: Option<u64>,
    },
    /// A file is written.
    Write { write: String, text: String },
    /// The daemon gets a signal; then a pause.
    Signal { signal: String, seconds: Option<f64> },
    /// A pause.
    Sleep { sleep: f64 },
}

impl Step {
    /// How long it may take beyond the usual.
    pub fn seconds(&self) -> u64 {
        match self {
            Self::Shell { seconds, .. } => seconds.unwrap_or(20),
            _ => 2,
        }
    }
}

/// Reads all vectors, with the expectations for `variant`. `@MACHINE@` is replaced by the machine of uname(2).
pub fn all(variant: Variant, version: Option<&str>) -> Vec<Vector> {
    let mine = if variant == Variant::Ours { "ours" } else { version.unwrap_or_default() };
    let mut all = Vec::new();
    let machine = nix::sys::utsname::uname().map(|u| u.machine().to_string_lossy().into_owned()).unwrap_or_default();
    for text in FILES {
        let mut file: toml::Table =
            text.replace("@MACHINE@", &machine).parse().unwrap_or_else(|e| panic!("vectors: {e}"));
        let shared = file.remove("files");
        let Some(toml::Value::Array(vectors)) = file.remove("vector") else { panic!("vectors: a file has none") };
        for vector in vectors {
            let toml::Value::Table(mut vector) = vector else { panic!("vectors: not a table") };
            for name in ["ours", "5.1.8", "5.1.9"] {
                if let Some(toml::Value::Table(own)) = vector.remove(name) {
                    if name == mine {
                        vector.extend(own);
                    }
                }
            }
            if let (Some(toml::Value::Table(shared)), false) = (&shared, vector.contains_key("files")) {
                vector.insert("files".into(), toml::Value::Table(shared.clone()));
            }
            let id = vector.get("id").map(ToString::to_string).unwrap_or_default();
            all.push(toml::Value::Table(vector).try_into().unwrap_or_else(|e| panic!("vector {id}: {e}")));
        }
    }
    all
}
