//! The real paths of mount points that are configured by way of symbolic links.
//!
//! The mount table shows paths without symbolic links, and an autofs mount is found again by its path in the mount table.
//! So a mount point like `/home/alice`, where `/home` is a link to `var/home`, is known by its real path everywhere; only
//! a direct map is asked for its key as it is written.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::dirs;
use crate::sys::{mountinfo, path};

/// Calls a function for each mount point, as it is written.
type ForEach<'a> = &'a dyn Fn(&mut dyn FnMut(&Path));

/// The mount points whose real path differs from the written one.
#[derive(Debug, Default)]
pub struct RealPaths(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// The real paths, by the written ones.
    real: HashMap<Arc<Path>, Arc<Path>>,
    /// The written paths, by the real ones. If several lead to the same place, the first that was found.
    written: HashMap<Arc<Path>, Arc<Path>>,
}

impl RealPaths {
    fn known<T>(&self, with: impl FnOnce(&mut Known) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Finds the real paths of all mount points, and forgets others. A path that cannot be resolved is taken as it is
    /// written. May wait; what was found until then is known.
    pub fn learn(&self, all: ForEach<'_>) {
        let linked = self.add(all);
        self.known(|known| {
            known.real.retain(|written, _| linked.contains(written));
            known.written.retain(|_, written| linked.contains(written));
        });
    }

    /// Finds the real paths of these mount points too. Returns the written paths of those that links lead to. May wait.
    pub fn add(&self, more: ForEach<'_>) -> HashSet<Arc<Path>> {
        // What is mounted is no symbolic link. Below an autofs mount nothing is looked at: a lookup there waits for its
        // daemon, which may be dead, or be the caller.
        let table = mountinfo::read().unwrap_or_default();
        let (mut mounted, mut autofs) = (HashSet::new(), HashSet::new());
        for mount in mountinfo::parse(&table) {
            if mount.autofs().is_some() {
                autofs.insert(mount.path().to_owned());
            }
            mounted.insert(mount.path().to_owned());
        }
        // `None` for a directory that is not looked at.
        let mut parents: HashMap<PathBuf, Option<PathBuf>> = HashMap::new();
        let mut linked = HashSet::new();
        more(&mut |at| {
            let (Some(parent), Some(name)) = (at.parent(), at.file_name()) else { return };
            if !parents.contains_key(parent) {
                let is_below_autofs = parent.ancestors().any(|above| autofs.contains(above));
                let real = (!is_below_autofs).then(|| real_directory(parent));
                parents.insert(parent.to_owned(), real);
            }
            let Some(Some(above)) = parents.get(parent) else { return };
            let beside = above.join(name);
            let is_link = !mounted.contains(&beside) && path::lstat(&beside).is_ok_and(|found| found.is_symlink());
            let real = if is_link { dirs::resolve(&beside).unwrap_or(beside) } else { beside };
            self.known(|known| known.set(at, &real));
            if real != at {
                linked.insert(at.into());
            }
        });
        linked
    }

    /// Returns the real path of a mount point that is configured as `written`.
    pub fn real(&self, written: &Arc<Path>) -> Arc<Path> {
        self.known(|known| Arc::clone(known.real.get(written).unwrap_or(written)))
    }

    /// Returns how the mount point with this real path is written in the configuration, if a link leads to it.
    pub fn written(&self, real: &Path) -> Option<Arc<Path>> {
        self.known(|known| known.written.get(real).map(Arc::clone))
    }

    /// Returns whether a symbolic link leads to this path, or it is a path that a link leads to.
    pub fn is_linked(&self, path: &Path) -> bool {
        self.known(|known| known.real.contains_key(path) || known.written.contains_key(path))
    }

    /// Returns the real path of what is at or below a mount point that is configured by way of a link.
    pub fn translate(&self, path: &Path) -> PathBuf {
        self.known(|known| {
            let above = path.ancestors().find_map(|above| Some((above, known.real.get(above)?)));
            let rest = above.and_then(|(above, real)| Some((real, path.strip_prefix(above).ok()?)));
            match rest {
                Some((real, rest)) if rest.as_os_str().is_empty() => real.to_path_buf(),
                Some((real, rest)) => real.join(rest),
                None => path.to_owned(),
            }
        })
    }
}

impl Known {
    /// Takes note of the real path of a mount point.
    fn set(&mut self, at: &Path, real: &Path) {
        if self.real.get(at).is_some_and(|old| **old != *real) {
            if let Some(old) = self.real.remove(at) {
                if self.written.get(&old).is_some_and(|written| **written == *at) {
                    self.written.remove(&old);
                }
            }
        }
        if at != real {
            let (at, real): (Arc<Path>, Arc<Path>) = (at.into(), real.into());
            self.written.entry(Arc::clone(&real)).or_insert_with(|| Arc::clone(&at));
            self.real.insert(at, real);
        }
    }
}

/// Returns the real path of a directory, or the written one if it cannot be resolved.
fn real_directory(written: &Path) -> PathBuf {
    dirs::resolve(written).unwrap_or_else(|_| written.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_configured_by_way_of_a_link_is_known_by_its_real_path() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| -> Arc<Path> { dir.path().join(path).into() };
        dirs::make(&at("var/home")).unwrap();
        symlink("var/home", at("home")).unwrap();
        let paths = RealPaths::default();
        let configured = [at("home"), at("home/alice"), at("home/bob/x"), at("var/home/carol"), at("missing/x")];
        paths.learn(&|each| configured.iter().for_each(|path| each(path)));
        let real: Vec<Arc<Path>> = configured.iter().map(|path| paths.real(path)).collect();
        assert_eq!(
            real,
            [at("var/home"), at("var/home/alice"), at("var/home/bob/x"), at("var/home/carol"), at("missing/x")]
        );
        assert_eq!(paths.written(&at("var/home/alice")), Some(at("home/alice")));
        assert_eq!(paths.written(&at("var/home/carol")), None);
        assert_eq!(paths.translate(&at("home/alice/deep/er")), *at("var/home/alice/deep/er"));
        assert_eq!(paths.translate(&at("home/bob/x")), *at("var/home/bob/x"));
        assert_eq!(paths.translate(&at("other")), *at("other"));
        paths.add(&|each| each(&at("home/dave")));
        assert_eq!(paths.real(&at("home/dave")), at("var/home/dave"));
        assert_eq!(paths.real(&at("home/alice")), at("var/home/alice"), "what was known stays known");
        paths.learn(&|each| each(&at("home/alice")));
        assert_eq!(paths.real(&at("home/dave")), at("home/dave"), "it is not configured any more");
        assert_eq!(paths.written(&at("var/home/dave")), None);
        std::fs::remove_file(at("home")).unwrap();
        paths.learn(&|each| configured.iter().for_each(|path| each(path)));
        assert_eq!(paths.real(&at("home/alice")), at("home/alice"));
        assert_eq!(paths.written(&at("var/home/alice")), None);
    }
}
