//! Mounts that a daemon has left, found in the mount table when no daemon runs.

use std::collections::BTreeMap;

use crate::sys::{mountinfo, procfs};
use crate::text::Escaped;

/// Maximum number of mount points that are named.
const NAMED: usize = 8;

/// Says which autofs mounts are left by processes that are gone. Returns nothing if there are none.
pub(super) fn told() -> String {
    let Ok(table) = mountinfo::read() else { return String::new() };
    let mut left: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    for mount in mountinfo::parse(&table) {
        let Some(options) = mount.autofs() else { continue };
        // The process groups of other pid namespaces are 0, and the mounts of systemd are its own matter.
        let is_ours = options.pgrp > 0 && &*mount.source != b"systemd-1";
        let inode = options.pipe_ino.and_then(|inode| u64::try_from(inode).ok());
        if is_ours && procfs::is_left(options.pgrp, inode) {
            left.entry(options.pgrp).or_default().push(Escaped(&mount.target).to_string());
        }
    }
    left.iter().map(|(owner, paths)| line(*owner, paths)).collect()
}

fn line(owner: i32, paths: &[String]) -> String {
    let more = paths.len().saturating_sub(NAMED);
    let named = paths.iter().take(NAMED).cloned().collect::<Vec<_>>().join(" ");
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let (mounts, are) = if paths.len() == 1 { ("mount", "is") } else { ("mounts", "are") };
    format!(
        "{} autofs {mounts} {are} left by process {owner}, which is gone: {named}{more}; what is mounted below stays in use, \
         other accesses fail with ENOENT\n",
        paths.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_named() {
        let paths: Vec<String> = (0..9).map(|n| format!("/m{n}")).collect();
        let text = line(245, &paths);
        assert!(text.starts_with("9 autofs mounts are left by process 245, which is gone: /m0 /m1"), "{text}");
        assert!(text.contains(" /m7 and 1 more; what is mounted below stays in use"), "{text}");
        assert!(line(5, &["/home".into()]).starts_with("1 autofs mount is left by process 5, which is gone: /home;"));
    }
}
