//! The autofs mounts below entries: offset triggers and submounts that come and go.

use super::tree::Dropped;
use super::{Done, Engine, EntryId, Errno, MountId, Phase};

impl Engine {
    /// Adds the autofs mounts below an entry; those that are known there already stay as they are.
    pub(super) fn install(&mut self, at: &EntryId, done: Done) {
        let numbers = done.offsets.iter().map(|(id, _)| *id).chain(done.submount.iter().map(|(id, _)| *id));
        let elsewhere = |id: &MountId| {
            !id.is_top() && self.tree.mount(*id).is_some_and(|known| known.owner().is_some_and(|owner| owner != at))
        };
        for id in numbers.filter(elsewhere).collect::<Vec<_>>() {
            self.drop_below(id);
        }
        for replaced in self.tree.install(&mut self.timers, at, done) {
            self.drop_below(replaced);
        }
    }

    /// Forgets the autofs mounts below an entry that is gone. While something is in flight there, they stay: no second
    /// job may begin at such an entry.
    pub(super) fn forget_below(&mut self, at: &EntryId) {
        if self.tree.is_quiet_below(at) {
            for child in self.tree.children(at) {
                self.drop_below(child);
            }
        }
    }

    /// Forgets a trigger or submount that is gone, with all below it. The entry on which it was is not settled.
    pub(super) fn drop_below(&mut self, id: MountId) {
        let Some(mount) = self.tree.mount(id) else { return };
        let (top, owner) = (mount.top, mount.owner().cloned());
        if let Some(owner) = owner {
            self.update(&owner, |entry| {
                if let Some(index) = entry.children.iter().position(|child| *child == id) {
                    entry.children.remove(index);
                }
            });
        }
        let dropped = self.tree.drop_mount(&mut self.timers, id);
        self.abort(dropped);
        self.level_done(top);
    }

    /// Answers pending lookups of dropped mounts with ENOENT; the results of their jobs will be ignored.
    pub(super) fn abort(&mut self, dropped: Dropped) {
        for job in dropped.phases.iter().filter_map(Phase::job) {
            self.jobs.remove(&job);
        }
        for (mount, token) in dropped.tokens {
            self.reply(mount, token, Some(Errno::ENOENT));
        }
    }
}
