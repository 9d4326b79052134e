//! Compares our autofs mounts with the mount table. Pure: it runs on any thread.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::daemon::mounts::table::{MountTable, Mounted};
use crate::engine::{Kind, MountId};
use crate::text::Escaped;

/// What was last known of one of our autofs mounts.
#[derive(Debug, Clone)]
pub(super) struct KnownMount {
    pub(super) id: MountId,
    pub(super) path: Arc<Path>,
    pub(super) kind: Kind,
    pub(super) dev: u32,
    pub(super) mount_id: Option<u32>,
    /// Whether it was covered or elsewhere when it was looked at last.
    pub(super) troubled: bool,
}

/// How an autofs mount stands in the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// At its mount point; with its mount id.
    InPlace(u32),
    /// Another file system was mounted on it.
    Occupied(Cover),
    /// No path leads to it, because another file system was mounted over a directory above it.
    Hidden(Cover),
    /// It is at another path: it was moved, or a directory above it was.
    Moved(PathBuf),
    /// It is not in the mount table.
    Gone,
}

/// The mount that covers an autofs mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cover {
    fstype: Vec<u8>,
    at: PathBuf,
}

impl From<&Mounted> for Cover {
    fn from(line: &Mounted) -> Self {
        Self { fstype: line.fstype.clone(), at: line.target.clone() }
    }
}

impl Standing {
    /// Returns what is wrong, for log and status. `None` if the mount is where it belongs, or gone.
    pub(super) fn trouble(&self) -> Option<String> {
        match self {
            Self::InPlace(_) | Self::Gone => None,
            Self::Occupied(Cover { fstype, .. }) => {
                Some(format!("covered: a file system of type {} was mounted on it", Escaped(fstype)))
            }
            Self::Hidden(Cover { fstype, at }) => Some(format!(
                "covered: a file system of type {} was mounted over {}; a reload mounts it there anew",
                Escaped(fstype),
                Escaped::path(at)
            )),
            Self::Moved(to) => Some(format!("moved to {}", Escaped::path(to))),
        }
    }
}

/// Returns the mounts whose state has changed, with their state: they are not where they belong, or are there again, or were not
/// looked at before. Offset mounts and submounts are covered and moved together with their
/// top-level mount, so only their end counts.
pub(super) fn judge(rows: Vec<KnownMount>, table: &MountTable) -> Vec<(KnownMount, Standing)> {
    let by_dev = |lines: &'_ [Mounted]| -> HashMap<u32, Vec<usize>> {
        let mut found: HashMap<u32, Vec<usize>> = HashMap::new();
        for (index, line) in lines.iter().enumerate().filter(|(_, line)| line.autofs.is_some()) {
            found.entry(line.dev).or_default().push(index);
        }
        found
    };
    let (seen, hidden) = (by_dev(table.mounts()), by_dev(table.hidden()));
    let lines = |found: &HashMap<u32, Vec<usize>>, all: &'_ [Mounted], dev: u32| -> Vec<Mounted> {
        let indexes = found.get(&dev).map(Vec::as_slice).unwrap_or_default();
        indexes.iter().filter_map(|index| all.get(*index)).cloned().collect()
    };
    let mut judged = Vec::new();
    for row in rows {
        let here = table.at(&row.path);
        let standing = if let Some(index) = here.iter().position(|line| line.autofs.is_some() && line.dev == row.dev) {
            // What is on a direct mount is mostly our own.
            let over = here.get(index + 1..).and_then(<[Mounted]>::last).filter(|_| row.kind == Kind::Indirect);
            match (over, here.get(index)) {
                (Some(over), _) if row.id.is_top() => Standing::Occupied(over.into()),
                (_, Some(line)) => Standing::InPlace(line.id),
                _ => continue,
            }
        } else {
            let (seen, hidden) = (lines(&seen, table.mounts(), row.dev), lines(&hidden, table.hidden(), row.dev));
            match (row.id.is_top(), &*seen, &*hidden) {
                (_, [], []) if here.iter().any(|line| line.autofs.is_some()) => continue,
                (_, [], []) => Standing::Gone,
                (false, ..) => continue,
                (true, ..) => displaced(&row, &seen, &hidden, table),
            }
        };
        let news = match &standing {
            Standing::InPlace(id) => row.troubled || row.mount_id != Some(*id),
            _ => true,
        };
        if news {
            judged.push((row, standing));
        }
    }
    judged
}

/// Returns the standing of a mount whose file system is mounted, but not at its mount point. Copies of it in other places
/// (bind mounts) have other mount ids.
fn displaced(row: &KnownMount, seen: &[Mounted], hidden: &[Mounted], table: &MountTable) -> Standing {
    let is_it = |line: &&Mounted| match row.mount_id {
        Some(id) => line.id == id,
        None => seen.len() + hidden.len() == 1,
    };
    if let Some(line) = seen.iter().find(is_it) {
        return Standing::Moved(line.target.clone());
    }
    let at_its_path = |line: &&Mounted| line.target == *row.path;
    match hidden.iter().find(|line| is_it(line)).or_else(|| hidden.iter().find(at_its_path)) {
        Some(line) => Standing::Hidden(table.cover(line).map_or_else(|| Cover::from(line), Cover::from)),
        None => Standing::Gone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mountinfo;

    fn table(text: &str) -> MountTable {
        MountTable::of(mountinfo::parse(text.as_bytes()).map(Mounted::from).collect())
    }

    fn autofs(id: u32, parent: u32, dev: u32, at: &str) -> String {
        format!("{id} {parent} 0:{dev} / {at} rw - autofs m rw,fd=5,pgrp=9,timeout=3,indirect,pipe_ino=7\n")
    }

    fn tmpfs(id: u32, parent: u32, at: &str) -> String {
        format!("{id} {parent} 0:{id} / {at} rw - tmpfs t rw\n")
    }

    fn row(kind: Kind, mount_id: Option<u32>) -> KnownMount {
        KnownMount {
            id: MountId(MountId::TOP | 1),
            path: Path::new("/x/a").into(),
            kind,
            dev: 50,
            mount_id,
            troubled: false,
        }
    }

    /// Returns how the autofs mount `/x/a` with the device 50 stands in a table.
    fn standing(row: KnownMount, lines: &[String]) -> Option<Standing> {
        judge(vec![row], &table(&(tmpfs(1, 0, "/") + &lines.concat()))).pop().map(|(_, standing)| standing)
    }

    #[test]
    fn only_news_is_told() {
        let lines = [autofs(10, 1, 50, "/x/a")];
        assert_eq!(standing(row(Kind::Indirect, None), &lines), Some(Standing::InPlace(10)));
        assert_eq!(standing(row(Kind::Indirect, Some(10)), &lines), None);
        let troubled = KnownMount { troubled: true, ..row(Kind::Indirect, Some(10)) };
        assert_eq!(standing(troubled, &lines), Some(Standing::InPlace(10)));
    }

    #[test]
    fn a_cover_above_and_one_on_it_are_told_apart() {
        let above = standing(row(Kind::Indirect, Some(10)), &[autofs(10, 1, 50, "/x/a"), tmpfs(11, 1, "/x")]);
        assert_eq!(above, Some(Standing::Hidden(Cover { fstype: b"tmpfs".to_vec(), at: "/x".into() })));
        let on_it = [autofs(10, 1, 50, "/x/a"), tmpfs(11, 10, "/x/a")];
        let over = standing(row(Kind::Indirect, Some(10)), &on_it);
        assert_eq!(over, Some(Standing::Occupied(Cover { fstype: b"tmpfs".to_vec(), at: "/x/a".into() })));
        assert_eq!(standing(row(Kind::Direct, Some(10)), &on_it), None, "the file system of a direct mount");
    }

    #[test]
    fn a_moved_mount_is_not_taken_for_its_copy() {
        let moved = [autofs(10, 1, 50, "/y/a")];
        assert_eq!(standing(row(Kind::Indirect, Some(10)), &moved), Some(Standing::Moved("/y/a".into())));
        assert_eq!(standing(row(Kind::Indirect, None), &moved), Some(Standing::Moved("/y/a".into())));
        assert_eq!(standing(row(Kind::Indirect, Some(9)), &moved), Some(Standing::Gone), "a bind mount of it is left");
        assert_eq!(standing(row(Kind::Indirect, Some(9)), &[]), Some(Standing::Gone));
        // As after a restore: another device number.
        assert_eq!(standing(row(Kind::Indirect, Some(9)), &[autofs(12, 1, 51, "/x/a")]), None);
    }
}
