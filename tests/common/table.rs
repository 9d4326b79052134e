//! The mount table, proc_pid_mountinfo(5).

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// Mount id.
    pub id: u32,
    /// `major:minor`.
    pub dev: String,
    /// What of the file system is mounted.
    pub root: PathBuf,
    /// Where.
    pub target: PathBuf,
    /// Options of this mount, with commas around.
    pub flags: String,
    /// Propagation: `shared:N`, `master:N`, ...
    pub propagation: Vec<String>,
    /// Type.
    pub fstype: String,
    /// Source.
    pub source: String,
    /// Options of the file system, with commas around.
    pub options: String,
}

impl Mounted {
    /// The value of `name=` among the options of the file system.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.split(',').find_map(|o| o.strip_prefix(name)?.strip_prefix('='))
    }
}

/// The whole table, in its order.
pub fn read() -> Vec<Mounted> {
    of("self")
}

/// Reads the mount table of a process, in its order.
pub fn of(pid: &str) -> Vec<Mounted> {
    let text = fs::read(Path::new("/proc").join(pid).join("mountinfo")).unwrap_or_default();
    text.split(|&b| b == b'\n').filter(|l| !l.is_empty()).map(|l| parse(l).unwrap()).collect()
}

/// What is mounted at exactly this place, the topmost last.
pub fn at(path: impl AsRef<Path>) -> Vec<Mounted> {
    read().into_iter().filter(|m| m.target == path.as_ref()).collect()
}

/// What is mounted at or below this place.
pub fn below(path: impl AsRef<Path>) -> Vec<Mounted> {
    read().into_iter().filter(|m| m.target.starts_with(path.as_ref())).collect()
}

/// Is a file system other than autofs mounted at exactly this place?
pub fn served(path: impl AsRef<Path>) -> bool {
    at(path).iter().any(|m| m.fstype != "autofs")
}

/// The autofs mount at this place.
pub fn autofs(path: impl AsRef<Path>) -> Option<Mounted> {
    at(path).into_iter().find(|m| m.fstype == "autofs")
}

fn parse(line: &[u8]) -> Option<Mounted> {
    let words: Vec<&[u8]> = line.split(|&b| b == b' ').collect();
    let dash = words.iter().position(|w| *w == b"-")?;
    let text = |w: &[u8]| String::from_utf8_lossy(&unescape(w)).into_owned();
    let path = |w: &[u8]| PathBuf::from(OsString::from_vec(unescape(w)));
    Some(Mounted {
        id: text(words.first()?).parse().ok()?,
        dev: text(words.get(2)?),
        root: path(words.get(3)?),
        target: path(words.get(4)?),
        flags: format!(",{},", text(words.get(5)?)),
        propagation: words.get(6..dash)?.iter().map(|w| text(w)).collect(),
        fstype: text(words.get(dash + 1)?),
        source: text(words.get(dash + 2)?),
        options: format!(",{},", text(words.get(dash + 3)?)),
    })
}

/// `\040` and the like.
fn unescape(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&b, tail)) = rest.split_first() {
        let digits = tail.get(..3).and_then(|d| std::str::from_utf8(d).ok());
        match digits.and_then(|d| u8::from_str_radix(d, 8).ok()) {
            Some(value) if b == b'\\' => {
                out.push(value);
                rest = &tail[3..];
            }
            _ => {
                out.push(b);
                rest = tail;
            }
        }
    }
    out
}
