//! Finds file systems that other processes have mounted on our entries.

use std::path::PathBuf;

use super::table::{MountTable, Mounted};
use crate::control::Foreign;
use crate::sys::mount_id::{self, Place};

/// What the daemon knows of the mount of an entry.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    /// The path of the entry.
    pub(crate) path: PathBuf,
    /// The device number of the autofs mount that has the entry, encoded as in packets.
    pub(crate) dev: u32,
    /// Whether the daemon has mounted a file system there.
    pub(crate) mounted: bool,
    /// The mount id of that file system, if it is known.
    pub(crate) mount_id: Option<u64>,
}

/// A file system that another process has mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) fstype: Vec<u8>,
    pub(crate) source: Vec<u8>,
    pub(crate) foreign: Foreign,
}

/// Returns what another process has mounted at an entry. Asks no file system.
pub(crate) fn find(table: &MountTable, expected: &Expected) -> Option<Found> {
    let is_gone = || expected.mount_id.is_some_and(|id| mount_id::place(id) == Place::Gone);
    compare(table, expected, is_gone)
}

/// Compares the mounts on the autofs mount with what is expected. `is_gone` returns whether the daemon's own mount is gone.
fn compare(table: &MountTable, expected: &Expected, is_gone: impl FnOnce() -> bool) -> Option<Found> {
    let here = table.at(&expected.path);
    // A direct mount may be on another file system at the same path. An indirect mount is at a path above.
    let above = here.iter().rposition(|line| line.autofs.is_some() && line.dev == expected.dev).map_or(0, |at| at + 1);
    let on_it: &[Mounted] = here.get(above..).unwrap_or_default();
    let top = on_it.last()?;
    let foreign = match (expected.mounted, on_it.len()) {
        (false, _) => Foreign::Instead,
        (true, _) if is_gone() => Foreign::Instead,
        (true, 1) => return None,
        (true, _) => Foreign::Over,
    };
    Some(Found { fstype: top.fstype.clone(), source: top.source.clone(), foreign })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mountinfo;

    #[test]
    fn what_others_have_mounted_is_told_from_our_own() {
        let autofs = "10 1 0:50 / /a rw - autofs m rw,fd=5,pgrp=9,timeout=3,direct,pipe_ino=7\n";
        let (ours, theirs) = ("11 10 0:51 / /a rw - nfs srv:/a rw\n", "12 11 0:52 / /a rw - tmpfs hand rw\n");
        let found = |lines: &[&str], mounted, gone| {
            let text = ["1 0 0:1 / / rw - ext4 /dev/vda rw\n", "9 1 0:9 / /a rw - ext4 /dev/vdb rw\n"].concat();
            // The autofs mount is on another file system.
            let text = text + &lines.concat().replace("10 1 0:50", "10 9 0:50");
            let table = MountTable::of(mountinfo::parse(text.as_bytes()).map(Mounted::from).collect());
            let expected = Expected { path: "/a".into(), dev: 50, mounted, mount_id: None };
            compare(&table, &expected, || gone).map(|found| (String::from_utf8(found.fstype).unwrap(), found.foreign))
        };
        assert_eq!(found(&[autofs], false, false), None);
        assert_eq!(found(&[autofs, ours], true, false), None);
        assert_eq!(found(&[autofs, ours], true, true), Some(("nfs".into(), Foreign::Instead)));
        assert_eq!(found(&[autofs, ours], false, false), Some(("nfs".into(), Foreign::Instead)));
        assert_eq!(found(&[autofs, ours, theirs], true, false), Some(("tmpfs".into(), Foreign::Over)));
    }
}
