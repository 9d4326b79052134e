//! Finds the processes that use a mount: by the mount ids of their directories, open files and mappings in `/proc`.
//!
//! Device numbers would not do: a bind mount has those of the file system that it shows a part of, which others use as well.
//! Nothing here opens a path below the mount, and no automount is triggered: `/proc/PID/cwd` and its like lead to the
//! directory itself.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::{children, mountinfo, procfs};

/// How a process uses a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Use {
    /// Its working directory is there.
    Cwd,
    /// Its root directory is there.
    Root,
    /// Its program is there.
    Program,
    /// It has this descriptor open.
    Descriptor(u32),
    /// It has a file mapped.
    Mapping,
    /// Its mount namespace, with this inode number, has a copy of the mount.
    Namespace(u64),
}

/// A process that uses a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub pid: i32,
    /// Its name.
    pub name: String,
    /// Its effective user id, if it is visible.
    pub uid: Option<u32>,
    /// How it uses the mount.
    pub by: Use,
    /// The file or directory.
    pub path: Option<PathBuf>,
}

/// The users of a mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Users {
    /// One use of each process.
    pub users: Vec<User>,
    /// How many processes could not be looked at.
    pub hidden: usize,
}

/// A mount and what it stands on, to find copies of it in other mount namespaces.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Shape {
    dev: u32,
    root: Vec<u8>,
    above: u32,
    /// The mount point, relative to the mount point of the mount above.
    at: Vec<u8>,
}

/// Returns the shape of each mount at and below `path`, with its id.
fn shapes(table: &[u8], is_in: impl Fn(&Path) -> bool) -> Vec<(u32, Shape)> {
    let by_id: HashMap<u32, (u32, Vec<u8>)> =
        mountinfo::parse(table).map(|entry| (entry.id, (entry.dev, entry.target.to_vec()))).collect();
    let shape = |entry: mountinfo::Entry<'_>| {
        let (above, target) = by_id.get(&entry.parent)?;
        let at = entry.target.strip_prefix(target.as_slice()).unwrap_or(&entry.target).to_vec();
        Some((entry.id, Shape { dev: entry.dev, root: entry.root.to_vec(), above: *above, at }))
    };
    mountinfo::parse(table).filter(|entry| is_in(entry.path())).filter_map(shape).collect()
}

/// Returns the mount id of what a path in `/proc` leads to.
fn mount_id(path: &str) -> Option<u32> {
    let flags = AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    u32::try_from(statx(CWD, path, flags, StatxFlags::MNT_ID).ok()?.stx_mnt_id).ok()
}

/// Returns the processes that use what is mounted at `path` or below it.
///
/// # Errors
/// Returns the errors of reading the mount table and `/proc`.
pub fn users(path: &Path) -> io::Result<Users> {
    let table = mountinfo::read()?;
    let is_in = |target: &Path| target.starts_with(path);
    // The autofs mount of a trigger is at the path as well. It is in use by nobody but us.
    let own = shapes(&table, is_in);
    let ids: HashSet<u32> = own.iter().map(|(id, _)| *id).collect();
    let wanted: HashSet<Shape> = own.into_iter().map(|(_, shape)| shape).collect();
    let own_namespace = procfs::mount_namespace(children::pid())?;
    let mut found = Users::default();
    let mut copies: BTreeMap<u64, (HashSet<u32>, Option<User>, bool)> = BTreeMap::new();
    for pid in pids()? {
        if pid == children::pid() {
            continue;
        }
        let namespace = match procfs::mount_namespace(pid) {
            Ok(namespace) => namespace,
            Err(e) => {
                found.hidden += usize::from(e.kind() == io::ErrorKind::PermissionDenied);
                continue;
            }
        };
        if namespace == own_namespace {
            found.users.extend(of_process(pid, &ids, path));
            continue;
        }
        let copy = copies.entry(namespace).or_insert_with(|| {
            let table = mountinfo::read_of(pid).unwrap_or_default();
            let same = shapes(&table, |_| true).into_iter().filter(|(_, shape)| wanted.contains(shape));
            (same.map(|(id, _)| id).collect(), None, false)
        });
        if copy.0.is_empty() {
            continue;
        }
        match of_process(pid, &copy.0, path) {
            Some(user) => {
                copy.2 = true;
                found.users.push(user);
            }
            None => {
                copy.1.get_or_insert_with(|| user(pid, Use::Namespace(namespace), None));
            }
        }
    }
    // A namespace in which a process is named needs no line of its own.
    found.users.extend(copies.into_values().filter(|(_, _, named)| !named).filter_map(|(_, user, _)| user));
    Ok(found)
}

fn pids() -> io::Result<Vec<i32>> {
    let names = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut pids: Vec<i32> = names.collect();
    pids.sort_unstable();
    Ok(pids)
}

fn user(pid: i32, by: Use, path: Option<PathBuf>) -> User {
    User { pid, name: procfs::name(pid), uid: procfs::uid(pid), by, path }
}

/// Returns the first use of these mounts by a process.
fn of_process(pid: i32, ids: &HashSet<u32>, path: &Path) -> Option<User> {
    let named = [("cwd", Use::Cwd), ("root", Use::Root), ("exe", Use::Program)];
    let of_name = named.into_iter().map(|(name, by)| (format!("/proc/{pid}/{name}"), by));
    let is_used = |link: &String| mount_id(link).is_some_and(|id| ids.contains(&id));
    let found = of_name
        .into_iter()
        .find(|(link, _)| is_used(link))
        .or_else(|| descriptor(pid, ids))
        .or_else(|| mapping(pid, path).into_iter().find(is_used).map(|link| (link, Use::Mapping)))?;
    let (link, by) = found;
    Some(user(pid, by, fs::read_link(link).ok()))
}

/// Returns the first descriptor that is open on one of these mounts.
fn descriptor(pid: i32, ids: &HashSet<u32>) -> Option<(String, Use)> {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).ok()?;
    let mut numbers: Vec<u32> = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers.into_iter().find_map(|number| {
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).ok()?;
        let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()?;
        ids.contains(&id).then(|| (format!("/proc/{pid}/fd/{number}"), Use::Descriptor(number)))
    })
}

/// Returns the mappings of a process whose files are shown below `path`, as links in `/proc`.
fn mapping(pid: i32, path: &Path) -> Vec<String> {
    let maps = fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
    let shown = path.as_os_str().as_encoded_bytes();
    let link = |line: &[u8]| {
        let file = memchr::memchr(b'/', line).and_then(|at| line.get(at..))?;
        // In another mount namespace the path may be another one.
        memchr::memmem::find(file, shown)?;
        let range = String::from_utf8(line.split(|b| *b == b' ').next()?.to_vec()).ok()?;
        let (from, to) = range.split_once('-')?;
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        Some(format!("/proc/{pid}/map_files/{:x}-{:x}", number(from)?, number(to)?))
    };
    maps.split(|b| *b == b'\n').filter_map(link).collect()
}

impl User {
    /// Returns the path without what the kernel adds for files that were removed.
    pub fn shown_path(&self) -> Option<PathBuf> {
        let bytes = self.path.clone()?.into_os_string().into_vec();
        let kept = bytes.strip_suffix(b" (deleted)").map(<[u8]>::to_vec);
        Some(OsString::from_vec(kept.unwrap_or(bytes)).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_recognised_by_what_they_show_and_what_they_stand_on() {
        let ours =
            b"20 1 0:5 / / rw - ext4 d rw\n21 20 0:40 / /auto rw - autofs m rw\n22 21 0:5 / /auto/k rw - ext4 d rw\n";
        let copy = b"90 1 0:5 / / rw - ext4 d rw\n91 90 0:40 / /c/auto rw - autofs m rw\n92 91 0:5 / /c/auto/k rw - ext4 d rw\n";
        let at = |path: &'static str| move |target: &Path| target.starts_with(path);
        let wanted: HashSet<Shape> = shapes(ours, at("/auto/k")).into_iter().map(|(_, shape)| shape).collect();
        assert_eq!(wanted.len(), 1);
        let found: Vec<u32> =
            shapes(copy, |_| true).into_iter().filter(|(_, shape)| wanted.contains(shape)).map(|(id, _)| id).collect();
        assert_eq!(found, [92], "not the root, which shows the same file system");
    }

    #[test]
    fn this_process_uses_the_root_of_its_files() {
        let me = children::pid();
        let root = mount_id("/proc/self/root").unwrap();
        assert!(of_process(me, &[root].into(), Path::new("/")).is_some());
        assert!(of_process(me, &[u32::MAX].into(), Path::new("/")).is_none());
        assert!(of_process(-1, &[root].into(), Path::new("/")).is_none());
    }
}
