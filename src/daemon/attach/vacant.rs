//! Finds out whether mount points are free without reading the mount table, which takes milliseconds with many mounts.

use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

use crate::sys::path;

/// Maximum number of mount points that are checked one by one. Reading the mount table once is cheaper for more.
const FEW: usize = 16;

/// Maximum number of directory entries that are read to find a name.
const ENTRIES: usize = 2048;

/// Returns whether nothing is mounted at any of these mount points, and walking to them cannot block. Returns `false` if
/// this cannot be told quickly. May wait for a disk.
pub(crate) fn all_vacant<'p>(mut paths: impl ExactSizeIterator<Item = &'p Path>) -> bool {
    paths.len() <= FEW && paths.all(|path| is_vacant(path).unwrap_or(false))
}

/// Checks one mount point. All directories above it are found in the dentry cache, so no request is open on any trigger on
/// the way.
///
/// # Errors
/// Returns the errors of the system calls. `WouldBlock`: the dentry cache does not have the way.
fn is_vacant(path: &Path) -> io::Result<bool> {
    let mut above = path.ancestors().skip(1);
    match path::open_cached_exact(path) {
        Ok(found) => {
            let Some(parent) = above.next() else { return Ok(false) };
            let parent = path::fstat(path::open_cached_exact(parent)?.as_fd())?.mnt_id;
            Ok(parent.is_some() && path::fstat(found.as_fd())?.mnt_id == parent)
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => path::is_unused_name(path, ENTRIES),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::path::Magic;

    #[test]
    fn a_free_place_is_vacant_and_a_mount_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let known = root.join("known");
        std::fs::create_dir(&known).unwrap();
        // Kernels before 5.12 cannot tell.
        if path::open_cached_exact(&known).is_ok() {
            assert!(is_vacant(&known).unwrap());
            let is_local = Magic::of(path::open(&root).unwrap()).unwrap().is_local();
            assert_eq!(is_vacant(&root.join("never/seen")).unwrap(), is_local);
            assert!(all_vacant([known.as_path()].into_iter()));
        }
        for mounted in ["/", "/proc", "/proc/self/fd"] {
            assert!(!all_vacant([Path::new(mounted)].into_iter()), "{mounted}");
        }
        let many = vec![known.as_path(); FEW + 1];
        assert!(!all_vacant(many.into_iter()));
    }

    #[test]
    fn a_link_is_not_vacant() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/", &link).unwrap();
        let _ = path::lstat(&link);
        assert!(!is_vacant(&link).unwrap_or(false));
        assert!(!is_vacant(&link.join("proc")).unwrap_or(false));
    }
}
