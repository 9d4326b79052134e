//! Decides how a configured autofs mount is attached, from the lines of the mount table at its mount point.

use std::collections::HashMap;

use crate::daemon::mounts::table::Mounted;
use crate::engine::Kind;

/// Decision about a mount point.
#[derive(Debug)]
pub(super) enum Verdict<'t> {
    /// Mount autofs: nothing is in the way.
    Mount,
    /// Leave a file system of this type alone.
    Leave(&'t [u8]),
    /// Do nothing: the autofs mount is ours and has a daemon.
    Keep(&'t Mounted),
    /// Set the timeout of an autofs mount that is ours and alive.
    SetTimeout(&'t Mounted),
    /// Take over an autofs mount, because it is catatonic or its owner has died.
    TakeOver(&'t Mounted),
    /// Take over an autofs mount if its owner has died: if no process of the group reads the pipe with this inode. Kernels that
    /// show no inode give `None`.
    TakeOverOrphan(&'t Mounted, i32, Option<u64>),
}

/// Decides what to do with a mount of this kind and timeout (in seconds). `there` are the lines at the mount point, `own` are
/// the numbers of our pipes by inode.
pub(super) fn verdict<'t>(there: &'t [Mounted], kind: Kind, timeout: u64, own: &HashMap<u64, u32>) -> Verdict<'t> {
    // The autofs mount may be covered by the file system of a direct mount.
    let Some((line, shown)) = there.iter().rev().find_map(|line| Some((line, line.autofs?))) else {
        return match there.last() {
            Some(other) if kind == Kind::Indirect => Verdict::Leave(&other.fstype),
            _ => Verdict::Mount,
        };
    };
    if shown.kind != kind {
        return Verdict::Leave(b"autofs of another kind");
    }
    match (line.speaks_through(own), shown.pipe_ino) {
        (Some(_), _) if shown.timeout == timeout => Verdict::Keep(line),
        (Some(_), _) => Verdict::SetTimeout(line),
        (None, Some(-1)) => Verdict::TakeOver(line),
        (None, inode) => Verdict::TakeOverOrphan(line, shown.pgrp, inode.and_then(|inode| u64::try_from(inode).ok())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::testing::mounted;

    const DIRECT: &str = "- autofs m rw,fd=5,pgrp=9,timeout=3,direct,pipe_ino=";
    const INDIRECT: &str = "- autofs m rw,fd=5,pgrp=9,timeout=3,indirect,pipe_ino=";

    /// Decides for a mount with a timeout of three seconds at `/a`; our pipe has the inode 100.
    fn decide(there: &[&str], kind: Kind) -> String {
        let there: Vec<Mounted> = there.iter().enumerate().map(|(n, rest)| mounted("/a", n, rest)).collect();
        match verdict(&there, kind, 3, &HashMap::from([(100, 0)])) {
            Verdict::Mount => "mount".to_owned(),
            Verdict::Leave(fstype) => format!("leave {}", String::from_utf8_lossy(fstype)),
            Verdict::Keep(line) => format!("keep {}", line.dev),
            Verdict::SetTimeout(line) => format!("set timeout of {}", line.dev),
            Verdict::TakeOver(line) => format!("take over {}", line.dev),
            Verdict::TakeOverOrphan(line, pgrp, inode) => format!("take over {} if {pgrp} {inode:?} is dead", line.dev),
        }
    }

    #[test]
    fn a_free_mount_point_is_mounted_on() {
        assert_eq!(decide(&[], Kind::Indirect), "mount");
        assert_eq!(decide(&[], Kind::Direct), "mount");
    }

    #[test]
    fn another_file_system_is_left_alone_on_an_indirect_mount_point_only() {
        assert_eq!(decide(&["- tmpfs t rw"], Kind::Indirect), "leave tmpfs");
        assert_eq!(decide(&["- tmpfs t rw"], Kind::Direct), "mount");
    }

    #[test]
    fn an_autofs_of_another_kind_is_left_alone() {
        assert_eq!(decide(&[&format!("{DIRECT}100")], Kind::Indirect), "leave autofs of another kind");
        assert_eq!(decide(&[&format!("{INDIRECT}-1")], Kind::Direct), "leave autofs of another kind");
    }

    #[test]
    fn ours_is_kept_also_below_its_file_system() {
        assert_eq!(decide(&[&format!("{INDIRECT}100")], Kind::Indirect), "keep 0");
        assert_eq!(decide(&[&format!("{DIRECT}100"), "- nfs s:/x rw"], Kind::Direct), "keep 0");
        let later = format!("{INDIRECT}100").replace("timeout=3", "timeout=4");
        assert_eq!(decide(&[&later], Kind::Indirect), "set timeout of 0");
    }

    #[test]
    fn the_topmost_autofs_counts() {
        let (dead, ours) = (format!("{DIRECT}-1"), format!("{DIRECT}100"));
        assert_eq!(decide(&[&dead, &ours], Kind::Direct), "keep 1");
        assert_eq!(decide(&[&ours, &dead], Kind::Direct), "take over 1");
    }

    #[test]
    fn the_owner_of_a_foreign_pipe_must_be_dead() {
        assert_eq!(decide(&[&format!("{INDIRECT}101")], Kind::Indirect), "take over 0 if 9 Some(101) is dead");
        // A kernel that shows no inode.
        let unknown = INDIRECT.trim_end_matches(",pipe_ino=");
        assert_eq!(decide(&[unknown], Kind::Indirect), "take over 0 if 9 None is dead");
    }
}
