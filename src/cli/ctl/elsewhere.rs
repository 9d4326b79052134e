//! What the mount namespace of this process shows of the daemon's mounts.

use super::Session;
use crate::control::{Answer, Bytes, Call};
use crate::sys::mountinfo::{self, Entry};
use crate::sys::procfs;

/// Returns why an access by a process of this mount namespace does not reach what the daemon mounts at `entry`, a path below
/// `mount_point`. Returns `None` if it does, or if the mount namespace of the daemon cannot be looked at.
pub(super) fn unreachable(session: &Session, mount_point: &Bytes, entry: &Bytes) -> Option<String> {
    let Ok(Answer::Pong(pong)) = session.ask(Call::Ping) else { return None };
    let daemon = i32::try_from(pong.pid).ok()?;
    let own = i32::try_from(std::process::id()).ok()?;
    if procfs::mount_namespace(daemon).ok()? == procfs::mount_namespace(own).ok()? {
        return None;
    }
    compare(&mountinfo::read_of(daemon).ok()?, &mountinfo::read().ok()?, mount_point, entry)
}

/// Compares the daemon's mount table with that of this process.
fn compare(daemons: &[u8], own: &[u8], mount_point: &Bytes, entry: &Bytes) -> Option<String> {
    let is_autofs = |line: &Entry<'_>| line.fstype == b"autofs" && *line.target == mount_point.0;
    if !mountinfo::parse(daemons).any(|line| is_autofs(&line)) {
        // The number of the process belongs to another process here, or the mount point has another name.
        return None;
    }
    let path = entry.as_path();
    let above = mountinfo::parse(own).filter(|line| path.starts_with(line.path()));
    let nearest = above.max_by_key(|line| line.target.len())?;
    if nearest.path().starts_with(mount_point.as_path()) {
        if nearest.fstype != b"autofs" || receives(&nearest) {
            return None;
        }
        let at = Bytes::from(nearest.path());
        return Some(format!(
            "{at} is private in the mount namespace of this process: what is mounted there does not reach it, and an access fails \
             with ELOOP"
        ));
    }
    Some(format!("{mount_point} is not in the mount namespace of this process: an access does not reach the daemon"))
}

/// Returns whether mounts of the daemon reach this mount.
pub(super) fn receives(entry: &Entry<'_>) -> bool {
    entry.propagation.shared.is_some() || entry.propagation.master.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(own: &str, entry: &str) -> Option<String> {
        let daemons = "20 1 0:20 / / rw - ext4 /dev/vda rw\n30 20 0:30 / /home rw - autofs auto.home rw,fd=5\n";
        compare(daemons.as_bytes(), own.as_bytes(), &b"/home"[..].into(), &entry.as_bytes().into())
    }

    #[test]
    fn a_private_mount_point_is_reached_by_no_new_mount() {
        let root = "20 1 0:20 / / rw - ext4 /dev/vda rw\n";
        let private = format!("{root}30 20 0:30 / /home rw - autofs auto.home rw,fd=5\n");
        let why = compared(&private, "/home/alice").unwrap();
        assert!(why.starts_with("/home is private in the mount namespace of this process"), "{why}");
        let copied = format!("{private}40 30 0:40 / /home/alice rw - nfs srv:/alice rw\n");
        assert_eq!(compared(&copied, "/home/alice"), None);
        assert!(compared(&copied, "/home/bob").is_some());
        let slave = private.replace("rw - autofs", "rw master:7 - autofs");
        assert_eq!(compared(&slave, "/home/alice"), None);
        let why = compared(root, "/home/alice").unwrap();
        assert!(why.starts_with("/home is not in the mount namespace of this process"), "{why}");
    }

    #[test]
    fn an_unknown_daemon_says_nothing() {
        let table = b"20 1 0:20 / / rw - ext4 /dev/vda rw\n";
        assert_eq!(compare(table, table, &b"/home"[..].into(), &b"/home/a"[..].into()), None);
    }
}
