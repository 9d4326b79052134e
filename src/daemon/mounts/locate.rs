//! Finds our autofs mounts in the mount table after a checkpoint.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use log::error;

use super::Mounts;
use super::table::{MountTable, Mounted};
use crate::engine::{Kind, MountId};

/// The state of our autofs mounts according to the mount table.
#[derive(Debug, Default)]
pub(crate) struct Located {
    /// Catatonic mounts, which need their pipes again; parents before children.
    pub(crate) catatonic: Vec<(Arc<Path>, MountId)>,
    /// Mounts that do not exist or are not ours any more.
    pub(crate) gone: Vec<MountId>,
    /// Mounts that have lost options.
    pub(crate) lacking: Vec<MountId>,
}

/// Finds each of our autofs mounts in the mount table by its path and pipe, and stores its new device number. `ignore` is
/// whether autofs mounts should have this option. Reads the mount table on the calling thread, because no request can be
/// answered before.
pub(crate) fn locate(mounts: &Mounts, ignore: bool) -> Located {
    let table = match MountTable::read() {
        Ok(table) => table,
        Err(e) => {
            error!("cannot read the mount table: {e}");
            return Located::default();
        }
    };
    let own = mounts.inodes();
    let mut located = Located::default();
    mounts.forget_devices();
    for (id, path, kind, strictexpire) in
        mounts.filter_map(|id, mount| Some((id, mount.path.clone(), mount.kind, mount.map.options.strictexpire)))
    {
        let Some(line) = line_of(kind, table.at(&path), &own) else {
            if !mounts.is_leaving(id) {
                located.gone.push(id);
            }
            continue;
        };
        mounts.move_device(id, line.dev);
        let Some(shown) = line.autofs else { continue };
        if shown.pipe_ino == Some(-1) {
            located.catatonic.push((path, id));
        }
        // Offset mounts and submounts are remounted together with the entry they belong to.
        let lacks = id.is_top() && (strictexpire && !shown.strictexpire || ignore && !shown.ignore);
        mounts.change(id, |mount| mount.lacks_options = lacks);
        if lacks {
            located.lacking.push(id);
        }
    }
    located.catatonic.sort_unstable();
    located
}

/// Returns the line of our autofs mount among the lines at its path.
fn line_of<'t>(kind: Kind, lines: &'t [Mounted], own: &HashMap<u64, u32>) -> Option<&'t Mounted> {
    let autofs = |line: &&Mounted| line.autofs.is_some_and(|shown| shown.kind == kind);
    let alive = |line: &&Mounted| line.speaks_through(own).is_some();
    let catatonic = |line: &&Mounted| line.autofs.is_some_and(|shown| shown.pipe_ino == Some(-1));
    lines.iter().filter(autofs).rfind(alive).or_else(|| lines.iter().filter(autofs).rfind(catatonic))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mountinfo;

    fn line(dev: u32, pipe: i64, kind: &str) -> String {
        let fd = if pipe < 0 { -1 } else { 5 };
        format!(
            "30 20 0:{dev} / /m rw - autofs map rw,fd={fd},pgrp=9,timeout=300,minproto=5,maxproto=5,{kind},pipe_ino={pipe}\n"
        )
    }

    fn found(text: &str) -> Option<u32> {
        let lines: Vec<Mounted> = mountinfo::parse(text.as_bytes()).map(Mounted::from).collect();
        line_of(Kind::Direct, &lines, &HashMap::from([(100, 0)])).map(|line| line.dev)
    }

    #[test]
    fn a_mount_is_known_by_its_pipe_or_by_being_an_orphan() {
        assert_eq!(found(&line(50, 100, "direct")), Some(50));
        assert_eq!(found(&line(50, -1, "direct")), Some(50));
        assert_eq!(found(&line(50, 101, "direct")), None, "somebody else's");
        assert_eq!(found(&line(50, 100, "indirect")), None);
        assert_eq!(found(&(line(50, 100, "direct") + &line(51, -1, "direct"))), Some(50));
        assert_eq!(found("30 20 0:50 / /m rw - tmpfs tmpfs rw\n"), None);
    }
}
