//! A mount in a normalised form, however it was made, and the comparison of two mounts.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::common::stand_in::{Called, MountWords};
use super::common::table::Mounted;

/// One mount, or another program that was run on the way.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Call {
    /// `mount -t FSTYPE -o OPTIONS SOURCE TARGET`, or its like.
    Mount {
        #[serde(rename = "type")]
        fstype: String,
        source: String,
        target: String,
        #[serde(default)]
        options: String,
    },
    /// Name and arguments.
    Run { run: Vec<String> },
}

/// The calls of the stand-ins that mount or check something, in order.
pub fn of(called: &[Called]) -> Vec<Call> {
    called.iter().filter_map(one).collect()
}

fn one(called: &Called) -> Option<Call> {
    let name = called.program.as_str();
    if name.starts_with("umount") {
        return None;
    }
    if name != "mount" && !name.starts_with("mount.") {
        let run = std::iter::once(called.program.clone()).chain(called.arguments.iter().cloned()).collect();
        return Some(Call::Run { run });
    }
    let words = MountWords::parse(name, &called.arguments);
    // What a daemon tries out in scratch directories is its own affair.
    if words.words.get(1).is_some_and(|t| ["/tmp/", "/run/", "/var/run/"].iter().any(|d| t.starts_with(d))) {
        return None;
    }
    let mut places = words.words.iter().cloned();
    Some(Call::Mount {
        fstype: words.fstype.unwrap_or_default(),
        source: places.next().unwrap_or_default(),
        target: places.next().unwrap_or_default(),
        options: words.options.unwrap_or_default(),
    })
}

/// Returns whether `seen` matches `expected`.
pub fn same(expected: &Call, seen: &Call) -> bool {
    match (expected, seen) {
        (Call::Run { run: a }, Call::Run { run: b }) => a == b,
        (
            Call::Mount { fstype, source, target, options },
            Call::Mount { fstype: fstype2, source: source2, target: target2, options: options2 },
        ) => {
            let bind = fstype == "bind";
            fstype == fstype2
                && (source == source2 || bind && no_slash(source) == no_slash(source2))
                && no_slash(target) == no_slash(target2)
                && (options.trim_end_matches(',') == options2.trim_end_matches(',')
                    || meaning(options, bind) == meaning(options2, bind))
        }
        _ => false,
    }
}

/// Returns whether one of these mount table lines shows the `expected` mount. Only bind mounts and tmpfs can be recognised.
/// A bind mount of a mount point shows the root of what is mounted there.
pub fn shown(expected: &Call, table: &[Mounted]) -> bool {
    let Call::Mount { fstype, source, target, options } = expected else { return false };
    table.iter().any(|m| {
        let is_bound = |of: &Mounted| of.target == Path::new(source) && (&of.dev, &of.root) == (&m.dev, &m.root);
        let what = match fstype.as_str() {
            "bind" => {
                let is_plain = m.root.to_str() == Some(no_slash(source));
                m.fstype != "autofs" && (is_plain || table.iter().any(is_bound))
            }
            _ => m.fstype == *fstype && m.source == *source,
        };
        let read_only = meaning(options, false).0.contains_key("ro");
        what && m.target.to_str() == Some(no_slash(target))
            && read_only == (m.flags.contains(",ro,") || m.options.contains(",ro,"))
    })
}

fn no_slash(path: &str) -> &str {
    let short = path.trim_end_matches('/');
    if short.is_empty() { path } else { short }
}

/// Generic flags that come in pairs: word, flag, whether the word sets it.
const PAIRS: &[(&str, &str, bool)] = &[
    ("rw", "ro", false),
    ("ro", "ro", true),
    ("sync", "sync", true),
    ("async", "sync", false),
    ("dirsync", "dirsync", true),
    ("nosuid", "nosuid", true),
    ("suid", "nosuid", false),
    ("nodev", "nodev", true),
    ("dev", "nodev", false),
    ("noexec", "noexec", true),
    ("exec", "noexec", false),
    ("noatime", "noatime", true),
    ("atime", "noatime", false),
    ("nodiratime", "nodiratime", true),
    ("diratime", "nodiratime", false),
    ("relatime", "norelatime", false),
    ("norelatime", "norelatime", true),
    ("strictatime", "strictatime", true),
    ("nostrictatime", "strictatime", false),
];

/// Words that mount(8) keeps to itself.
const USERLAND: &[&str] = &[
    "_netdev", "auto", "noauto", "user", "nouser", "users", "owner", "noowner", "group", "nogroup", "nofail",
    "defaults", "silent", "loud",
];

/// What an option string means: the generic flags that are set in the end, and the words for the file system in order
/// (a bind mount has none).
fn meaning(options: &str, bind: bool) -> (BTreeMap<&'static str, ()>, Vec<&str>) {
    let mut flags = BTreeMap::new();
    let mut rest = Vec::new();
    for word in options.split(',').filter(|w| !w.is_empty()) {
        if USERLAND.contains(&word) || ["x-", "X-", "comment="].iter().any(|p| word.starts_with(p)) {
            continue;
        }
        match PAIRS.iter().find(|(w, ..)| *w == word) {
            Some((_, flag, true)) => _ = flags.insert(*flag, ()),
            Some((_, flag, false)) => _ = flags.remove(flag),
            None if !bind => rest.push(word),
            None => {}
        }
    }
    (flags, rest)
}
