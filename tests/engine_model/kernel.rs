//! The model's kernel: a mount table.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use autofs::engine::{Done, Key, Kind, MountId, Wanted};
use autofs::plan::{Action, Plan};

use crate::maps;

/// An entry: the kernel's number of the autofs mount, and the key.
pub(crate) type Place = (u32, Key);

/// An autofs mount.
#[derive(Debug, Clone)]
pub(crate) struct Autofs {
    pub(crate) wanted: Wanted,
    /// The entry that it is mounted on; `None` for a top-level mount.
    pub(crate) owner: Option<Place>,
    /// Offsets.
    pub(crate) plan: Option<Arc<Plan>>,
}

/// What is mounted at an entry.
#[derive(Debug)]
pub(crate) struct FileSystem {
    pub(crate) plan: Arc<Plan>,
    pub(crate) used: bool,
    /// All triggers of the plan stand on it, as far as we are to see to that.
    pub(crate) whole: bool,
}

impl FileSystem {
    /// How many autofs mounts the plan puts on it.
    pub(crate) fn triggers(&self) -> usize {
        self.plan.offsets.len() + usize::from(matches!(self.plan.action, Action::Autofs(_)))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Kernel {
    pub(crate) autofs: BTreeMap<u32, Autofs>,
    pub(crate) mounted: BTreeMap<Place, FileSystem>,
    last: u32,
}

impl Kernel {
    pub(crate) fn depth(&self, number: u32) -> usize {
        let owner = self.autofs.get(&number).and_then(|autofs| autofs.owner.as_ref());
        owner.map_or(0, |owner| 1 + self.depth(owner.0))
    }

    pub(crate) fn path(&self, at: &Place) -> PathBuf {
        let wanted = &self.autofs[&at.0].wanted;
        match wanted.kind {
            Kind::Indirect => wanted.path.join(std::str::from_utf8(&at.1.0).unwrap()),
            _ => wanted.path.to_path_buf(),
        }
    }

    /// The autofs mounts that stand on an entry.
    pub(crate) fn children(&self, at: &Place) -> Vec<u32> {
        let on = |(_, autofs): &(&u32, &Autofs)| autofs.owner.as_ref() == Some(at);
        self.autofs.iter().filter(on).map(|(number, _)| *number).collect()
    }

    /// The same as the shell tells it.
    pub(crate) fn done(&self, at: &Place) -> Done {
        let mut done = Done::default();
        for number in self.children(at) {
            let autofs = &self.autofs[&number];
            match &autofs.plan {
                Some(plan) => done.offsets.push((MountId(number), plan.clone())),
                None => done.submount = Some((MountId(number), autofs.wanted.clone())),
            }
        }
        done
    }

    /// The mounted entries of one autofs mount.
    pub(crate) fn entries(&self, number: u32) -> impl Iterator<Item = &Place> {
        let from = (number, Key::default());
        self.mounted.range(from..).map(|(at, _)| at).take_while(move |at| at.0 == number)
    }

    /// All mounted entries in the tree at one, itself included.
    pub(crate) fn tree(&self, at: &Place) -> Vec<Place> {
        let below = self.children(at).into_iter().flat_map(|child| self.entries(child)).flat_map(|at| self.tree(at));
        [at.clone()].into_iter().chain(below).collect()
    }

    pub(crate) fn add(&mut self, wanted: Wanted, owner: Option<Place>, plan: Option<Arc<Plan>>) -> u32 {
        self.last += 1;
        self.autofs.insert(self.last, Autofs { wanted, owner, plan });
        self.last
    }

    /// What the plan above it or the map says of an entry.
    pub(crate) fn whole(&self, at: &Place) -> Arc<Plan> {
        self.autofs[&at.0].plan.clone().unwrap_or_else(|| maps::plan_of(&self.path(at), &at.1))
    }

    /// Carries a plan out, as far as it is not there already.
    pub(crate) fn mount(&mut self, at: &Place, plan: &Arc<Plan>) {
        let fs = FileSystem { plan: plan.clone(), used: false, whole: self.whole(at) == *plan };
        self.mounted.entry(at.clone()).or_insert(fs);
        let path = |child: &u32| self.autofs[child].wanted.path.clone();
        let there: BTreeSet<_> = self.children(at).iter().map(path).collect();
        for offset in plan.offsets.iter().filter(|offset| !there.contains(offset.at.as_path())) {
            let wanted = maps::wanted(&offset.at, Kind::Offset, 0);
            self.add(wanted, Some(at.clone()), Some(offset.clone()));
        }
        if matches!(plan.action, Action::Autofs(_)) && !there.contains(plan.at.as_path()) {
            self.add(maps::wanted(&plan.at, Kind::Indirect, 0), Some(at.clone()), None);
        }
    }

    fn covered(&self, path: &Path) -> bool {
        self.autofs.values().any(|autofs| &*autofs.wanted.path != path && autofs.wanted.path.starts_with(path))
    }

    /// Unmounts what an entry mounted; false: it is in use.
    pub(crate) fn unmount(&mut self, at: &Place, lazy: bool) -> bool {
        let Some(fs) = self.mounted.get(at) else { return true };
        if !lazy && (fs.used || !self.children(at).is_empty() || self.covered(&self.path(at))) {
            return false;
        }
        for child in self.children(at) {
            self.unmount_autofs(child, true, true);
        }
        self.mounted.remove(at);
        true
    }

    /// Unmounts an autofs mount, that may be held by who waits there; false: it is in use.
    pub(crate) fn unmount_autofs(&mut self, number: u32, lazy: bool, held: bool) -> bool {
        let entries: Vec<_> = self.entries(number).cloned().collect();
        if !lazy && (held || !entries.is_empty() || self.covered(&self.autofs[&number].wanted.path)) {
            return false;
        }
        for at in entries {
            self.unmount(&at, true);
        }
        self.autofs.remove(&number);
        true
    }
}
