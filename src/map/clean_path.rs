//! Absolute paths as the mount table shows them.

use std::borrow::Cow;

/// Returns an absolute path without `.`, `..`, repeated slashes and slashes at the end; empty for the root directory. A `..` removes
/// the name before it, without a look at symbolic links.
pub fn clean_path(path: &[u8]) -> Cow<'_, [u8]> {
    let is_clean = |name: &[u8]| !matches!(name, b"" | b"." | b"..");
    if path.strip_prefix(b"/").is_some_and(|rest| rest.split(|&b| b == b'/').all(is_clean)) {
        return Cow::Borrowed(path);
    }
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|&b| b == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    Cow::Owned(names.iter().flat_map(|name| [b"/", *name]).collect::<Vec<_>>().concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_as_the_mount_table_shows_them() {
        for path in ["/a/b", "/a//b/", "//a/./b", "/./a/b/.", "/a/c/../b", "/../a/b"] {
            assert_eq!(*clean_path(path.as_bytes()), *b"/a/b", "{path}");
        }
        assert_eq!(*clean_path(b"/.a/..b/c."), *b"/.a/..b/c.");
        assert!(["/", "/.", "///", "/a/.."].iter().all(|path| clean_path(path.as_bytes()).is_empty()));
    }
}
