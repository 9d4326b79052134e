//! The order of paths.

use std::cmp::Ordering;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

/// Compares absolute paths by components, so that the paths below a path directly follow it. The order is that of `Path`, whose
/// comparison takes several times as long because it supports relative paths and dots.
pub fn path_order(a: &Path, b: &Path) -> Ordering {
    fn parts(rest: &[u8]) -> impl Iterator<Item = &[u8]> {
        rest.split(|byte| *byte == b'/').filter(|part| !part.is_empty())
    }
    let (a, b) = (a.as_os_str().as_bytes(), b.as_os_str().as_bytes());
    // The first component in which they differ begins after the last slash that they have in common.
    let equal = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let common = a.get(..equal).and_then(|equal| memchr::memrchr(b'/', equal)).unwrap_or(0);
    parts(a.get(common..).unwrap_or_default()).cmp(parts(b.get(common..).unwrap_or_default()))
}

/// An absolute path that is compared by [`path_order`].
#[derive(Debug, Clone)]
pub struct Ordered(pub Arc<Path>);

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> Ordering {
        path_order(&self.0, &other.0)
    }
}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ordered {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ordered {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_in_the_order_of_their_components() {
        let paths = ["/", "/a", "/a/b", "/a/b/c", "/a b", "/a-b", "/a.b/c", "/ab", "/b", "/\u{1}", "//a/", "/a//b"]
            .map(Path::new);
        for a in paths {
            for b in paths {
                assert_eq!(path_order(a, b), a.cmp(b), "{a:?} {b:?}");
                assert_eq!(Ordered(a.into()) == Ordered(b.into()), a == b, "{a:?} {b:?}");
            }
        }
    }
}
