//! The real paths of mount points that are configured by way of symbolic links, or with dots and repeated slashes.
//!
//! The mount table shows paths without symbolic links, and an autofs mount is found again by its path in the mount table.
//! So a mount point like `/home/alice`, where `/home` is a link to `var/home`, is known by its real path everywhere; only
//! a direct map is asked for its key as it is written.

use std::cell::RefCell;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::dirs;
use crate::map::clean_path;
use crate::mutex::lock;
use crate::sys::path::Magic;
use crate::sys::{fstypes, mountinfo, path};

/// Calls a function for each mount point, as it is written.
type ForEach<'a> = &'a dyn Fn(&mut dyn FnMut(&Path));

/// The mount points whose real path differs from the written one.
#[derive(Debug, Default)]
pub struct RealPaths(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// The real paths, by the written ones.
    real: HashMap<Arc<Path>, Arc<Path>>,
    /// The written paths that lead to each real one, in the order in which they were found.
    written: HashMap<Arc<Path>, Vec<Arc<Path>>>,
}

impl RealPaths {
    fn known<T>(&self, with: impl FnOnce(&mut Known) -> T) -> T {
        with(&mut lock(&self.0))
    }

    /// Finds the real paths of all mount points, and forgets others. A path that cannot be resolved is taken as it is
    /// written. May wait; what was found until then is known.
    pub fn learn(&self, all: ForEach<'_>) {
        let linked = self.add(all);
        self.known(|known| {
            known.real.retain(|written, _| linked.contains(written));
            known.written.retain(|_, written| {
                written.retain(|written| linked.contains(written));
                !written.is_empty()
            });
        });
    }

    /// Finds the real paths of these mount points too. Returns the written paths of those that links lead to. May wait.
    pub fn add(&self, more: ForEach<'_>) -> HashSet<Arc<Path>> {
        let (walk, mut linked) = (RefCell::new(Walk::default()), HashSet::new());
        more(&mut |written| {
            let clean = clean_path(written.as_os_str().as_bytes());
            let at = Path::new(OsStr::from_bytes(&clean));
            let real = walk.borrow_mut().real(at);
            let real = real.as_deref().unwrap_or(at);
            self.known(|known| known.set(written, real));
            // Paths are equal if they differ in slashes only.
            if real.as_os_str() != written.as_os_str() {
                linked.insert(written.into());
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
        self.known(|known| known.written.get(real)?.first().map(Arc::clone))
    }

    /// Returns whether this mount point, configured as `written`, is the only one known to lead to its real path by way of
    /// a link, or no link leads there at all.
    pub fn is_only_way(&self, written: &Path) -> bool {
        self.known(|known| match known.real.get(written) {
            Some(real) => known.written.get(real).is_some_and(|written| written.len() == 1),
            None => !known.written.contains_key(written),
        })
    }

    /// Forgets a mount point that is not configured any more.
    pub fn forget(&self, written: &Path) {
        self.known(|known| known.remove(written));
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
    /// Records the real path of a mount point.
    fn set(&mut self, at: &Path, real: &Path) {
        if self.real.get(at).is_some_and(|old| **old != *real) {
            self.remove(at);
        }
        if at.as_os_str() != real.as_os_str() && !self.real.contains_key(at) {
            let (at, real): (Arc<Path>, Arc<Path>) = (at.into(), real.into());
            self.written.entry(Arc::clone(&real)).or_default().push(Arc::clone(&at));
            self.real.insert(at, real);
        }
    }

    /// Forgets the real path of a mount point.
    fn remove(&mut self, at: &Path) {
        let Some(old) = self.real.remove(at) else { return };
        if let Entry::Occupied(mut written) = self.written.entry(old) {
            written.get_mut().retain(|written| **written != *at);
            if written.get().is_empty() {
                written.remove();
            }
        }
    }
}

/// Looks for symbolic links on the way to many mount points. The way to a directory is walked once, and a directory with
/// many mount points is listed, so that ten thousand mount points in it cost little more than one.
///
/// What is mounted is no symbolic link. Below an autofs mount nothing is looked at that the dentry cache does not have: a
/// lookup there waits for its daemon, which may be dead, or be the caller. The same holds below file systems with a server, which may
/// not answer; no symbolic link on them is followed.
#[derive(Default)]
struct Walk {
    /// The mount table, once it is needed: reading it takes milliseconds with many mounts.
    table: Option<Table>,
    /// How often a directory was searched to do without it.
    searched: usize,
    parents: HashMap<PathBuf, Parent>,
}

/// The mount points in the mount table.
#[derive(Default)]
struct Table {
    all: HashSet<PathBuf>,
    /// Autofs mounts, and file systems with a server.
    waiting: HashSet<PathBuf>,
}

/// A directory that holds mount points.
enum Parent {
    /// It is missing, or not to be looked at: what is in it is taken as it is written.
    AsWritten,
    Directory(Directory),
}

struct Directory {
    /// The real path, if it is another than the written one.
    real: Option<PathBuf>,
    /// How many mount points in it were looked at.
    count: usize,
    /// The names in it that may be symbolic links, once it was listed.
    links: Option<HashSet<OsString>>,
}

/// A directory is listed when it holds so many mount points, and again after twice as many if it was too long.
const LIST_FROM: usize = 16;

/// How many entries are read for each mount point in the directory. To look at one of them takes as long.
const LIST_MOST: usize = 16;

/// How many directories are searched for a name instead of reading the mount table, and how many entries of each.
const SEARCHES: usize = 16;
const SEARCH_MOST: usize = 2048;

impl Walk {
    /// Returns the real path of a mount point, or `None` if it is the written one.
    fn real(&mut self, at: &Path) -> Option<PathBuf> {
        let (parent, name) = (at.parent()?, at.file_name()?);
        if !self.parents.contains_key(parent) {
            let found = self.parent(parent);
            self.parents.insert(parent.to_owned(), found);
        }
        let Some(Parent::Directory(dir)) = self.parents.get_mut(parent) else { return None };
        dir.count += 1;
        if dir.links.is_none() && dir.count >= LIST_FROM && dir.count.is_power_of_two() {
            dir.links = list(dir.real.as_deref().unwrap_or(parent), dir.count.saturating_mul(LIST_MOST));
        }
        let beside = dir.real.as_ref().map(|real| real.join(name));
        if dir.links.as_ref().is_some_and(|links| !links.contains(name)) {
            return beside;
        }
        self.follow(beside.as_deref().unwrap_or(at)).or(beside)
    }

    /// Finds a directory.
    fn parent(&mut self, written: &Path) -> Parent {
        let real = match path::open_cached_exact(written) {
            Ok(_) => None,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Parent::AsWritten,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && self.is_unused(written) => return Parent::AsWritten,
            Err(_) if self.table().may_wait_below(written) => return Parent::AsWritten,
            Err(_) => match path::open_exact(written) {
                Ok(_) => None,
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Parent::AsWritten,
                Err(_) => dirs::resolve(written).ok().filter(|real| real != written),
            },
        };
        Parent::Directory(Directory { real, count: 0, links: None })
    }

    /// Returns where the symbolic link `at` leads, which lies in a real directory. `None` if it is none, or leads nowhere.
    fn follow(&mut self, at: &Path) -> Option<PathBuf> {
        match path::open_cached_exact(at) {
            Ok(_) => return None,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && self.is_unused(at) => return None,
            Err(_) => {}
        }
        let table = self.table();
        if table.all.contains(at) || at.parent().is_some_and(|parent| table.may_wait_below(parent)) {
            return None;
        }
        let is_link = path::lstat(at).is_ok_and(|found| found.is_symlink());
        if is_link { dirs::resolve(at).ok() } else { None }
    }

    /// Returns whether a part of the way is missing, as far as this can be told without the mount table.
    fn is_unused(&mut self, at: &Path) -> bool {
        if self.table.is_some() || self.searched >= SEARCHES {
            return false;
        }
        self.searched += 1;
        path::is_unused_name(at, SEARCH_MOST).unwrap_or(false)
    }

    fn table(&mut self) -> &Table {
        self.table.get_or_insert_with(|| {
            let (text, mut table) = (mountinfo::read().unwrap_or_default(), Table::default());
            for mount in mountinfo::parse(&text) {
                let is_root = mount.path().parent().is_none();
                if mount.autofs().is_some() || fstypes::has_server(mount.fstype) && !is_root {
                    table.waiting.insert(mount.path().to_owned());
                }
                table.all.insert(mount.path().to_owned());
            }
            table
        })
    }
}

impl Table {
    fn may_wait_below(&self, dir: &Path) -> bool {
        dir.ancestors().any(|above| self.waiting.contains(above))
    }
}

/// Returns the names in a directory that may be symbolic links, if it is on a local file system and has at most `most`
/// entries.
fn list(dir: &Path, most: usize) -> Option<HashSet<OsString>> {
    let dir = path::open_cached_exact(dir).ok()?;
    if !Magic::of(&dir).ok()?.is_local() {
        return None;
    }
    Some(path::possible_links(dir.as_fd(), most).ok()??.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn dots_and_repeated_slashes_are_left_out() {
        let paths = RealPaths::default();
        let configured =
            ["/nonexistent/./a//b", "/nonexistent/x/../c", "/nonexistent/d"].map(|path| Arc::from(Path::new(path)));
        paths.learn(&|each| configured.iter().for_each(|path| each(path)));
        let real = configured.each_ref().map(|path| paths.real(path));
        assert_eq!(
            real.map(|path| path.to_str().unwrap().to_owned()),
            ["/nonexistent/a/b", "/nonexistent/c", "/nonexistent/d"]
        );
        let written = paths.written(Path::new("/nonexistent/a/b")).unwrap();
        assert_eq!(written.as_os_str(), "/nonexistent/./a//b");
    }

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
        let (dave, alice) = (at("home/dave"), at("home/alice"));
        paths.add(&|each| each(&dave));
        assert!(paths.is_only_way(&dave) && paths.is_only_way(&at("var/home/carol")));
        assert!(!paths.is_only_way(&at("var/home/alice")), "a link leads there too");
        symlink("home", at("also")).unwrap();
        paths.add(&|each| each(&at("also/alice")));
        assert!(!paths.is_only_way(&alice) && !paths.is_only_way(&at("also/alice")));
        paths.forget(&at("also/alice"));
        paths.forget(&dave);
        assert!(paths.is_only_way(&alice));
        assert_eq!((paths.real(&dave), paths.written(&at("var/home/dave"))), (at("home/dave"), None));
        std::fs::remove_file(at("home")).unwrap();
        paths.learn(&|each| configured.iter().for_each(|path| each(path)));
        assert_eq!(paths.real(&at("home/alice")), at("home/alice"));
        assert_eq!(paths.written(&at("var/home/alice")), None);
    }

    /// A directory with many mount points is listed, and the links among them are found all the same.
    #[test]
    fn links_are_found_among_many_mount_points_in_one_directory() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let at = |path: String| -> Arc<Path> { dir.path().join(path).into() };
        for parent in ["d", "elsewhere"] {
            std::fs::create_dir(dir.path().join(parent)).unwrap();
        }
        symlink("d", dir.path().join("linked")).unwrap();
        for number in (0..200).step_by(3) {
            match number % 2 {
                0 => symlink("../elsewhere", at(format!("d/k{number}"))).unwrap(),
                _ => std::fs::create_dir(at(format!("d/k{number}"))).unwrap(),
            }
        }
        let keys = |parent: &str| (0..200).map(|number| at(format!("{parent}/k{number}"))).collect::<Vec<_>>();
        for parent in ["d", "linked"] {
            let (paths, keys) = (RealPaths::default(), keys(parent));
            paths.learn(&|each| keys.iter().for_each(|key| each(key)));
            for (number, key) in keys.iter().enumerate() {
                let expected = match number % 6 {
                    0 => at("elsewhere".to_owned()),
                    _ => at(format!("d/k{number}")),
                };
                assert_eq!(paths.real(key), expected, "{key:?}");
            }
        }
    }
}
