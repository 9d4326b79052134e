//! The name of this daemon among several on one machine, `--instance`, and what follows from it: the directory for runtime
//! data, the control socket, the flag file, the name in the log, the default master map.
//!
//! The daemon without a name has the places that automount(8) has. The name is set once, before anything else is done.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The longest name.
const LONGEST: usize = 64;

static NAME: OnceLock<String> = OnceLock::new();

/// Returns whether `text` can be the name of an instance.
pub fn is_name(text: &[u8]) -> bool {
    let is_plain = |b: &u8| b.is_ascii_alphanumeric() || b"_.-".contains(b);
    !text.is_empty() && text.len() <= LONGEST && text.iter().all(is_plain) && !text.starts_with(b".")
}

/// Help for an invalid name.
pub const EXPECTED: &str = "letters, digits, \"_\", \"-\" and \".\", not first a \".\", at most 64 of them";

/// Sets the name of this process. Later calls change nothing.
pub fn set(name: &str) {
    let _ = NAME.set(name.to_owned());
}

/// Returns the name, if this daemon has one.
pub fn name() -> Option<&'static str> {
    NAME.get().map(String::as_str)
}

/// Returns `stem`, with the name of this daemon behind it.
fn named(stem: &str) -> String {
    name().map_or_else(|| stem.to_owned(), |name| format!("{stem}@{name}"))
}

/// Returns the directory for runtime data: `/run/autofs`, or `/run/autofs@NAME`.
pub fn directory() -> PathBuf {
    Path::new(env!("AUTOFS_RUNDIR")).join(named("autofs"))
}

/// Returns the control socket.
pub fn socket() -> PathBuf {
    directory().join("control")
}

/// Returns the name of the flag file in the run directory.
pub fn flag() -> String {
    named("autofs-running")
}

/// Returns the name of the program in the system log.
pub fn identifier() -> String {
    named("automount")
}

/// Returns the name of the master map unless another one is given.
pub fn master_map() -> Option<String> {
    name().map(|_| named("auto.master"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_words() {
        for (text, is) in [
            ("a", true),
            ("site-2_b.c", true),
            ("", false),
            (".", false),
            ("..", false),
            ("a/b", false),
            ("a b", false),
            ("a@b", false),
        ] {
            assert_eq!(is_name(text.as_bytes()), is, "{text}");
        }
        assert!(is_name(&[b'x'; LONGEST]) && !is_name(&[b'x'; LONGEST + 1]));
    }

    #[test]
    fn without_a_name_the_places_are_those_of_automount() {
        assert_eq!(socket(), Path::new(crate::control::SOCKET));
        assert_eq!((flag().as_str(), identifier().as_str(), master_map()), ("autofs-running", "automount", None));
    }
}
