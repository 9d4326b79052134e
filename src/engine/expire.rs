//! Unmounts an entry with everything mounted on it as a transaction: all of it, or the unmounted parts are mounted again.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{
    Done, Effect, Engine, Entry, EntryId, Errno, JobId, Kind, Layer, Mount, MountId, Phase, Piece, Reason, Remount,
    Requester, Shutdown, Token,
};
use crate::plan::{Action, Plan};

impl Engine {
    /// The kernel wants an entry unmounted.
    pub(super) fn expire(&mut self, at: EntryId, token: Token) {
        if !self.tree.may_have(&at) {
            return self.reply(at.mount, token, Some(Errno::ENOENT));
        }
        if self.only_leads_on(&at) {
            return self.reply(at.mount, token, Some(Errno::EBUSY));
        }
        let serves = self.stop.is_none() && self.tree.top_of(at.mount).is_some_and(|top| top.state().serves());
        if !serves || self.tree.held(&at).is_some() || !self.quiet(&at) {
            return self.reply(at.mount, token, Some(Errno::EBUSY));
        }
        if self.keeps(&at) || self.is_required(&at) {
            return self.reply(at.mount, token, Some(Errno::EBUSY));
        }
        self.tree.make_entry(&at);
        self.update(&at, |entry| entry.expire = Some(token));
        self.unmount(&at, false);
    }

    /// Returns whether nothing is mounted at an entry, and it is a directory on the way to a top-level mount, such as a direct
    /// mount inside an indirect one. The kernel takes it for unused, and would ask again and again.
    fn only_leads_on(&self, at: &EntryId) -> bool {
        let is_idle = |mount: &Mount| mount.kind == Kind::Indirect && mount.entry(&at.key).is_none();
        let Some(mount) = self.tree.mount(at.mount).filter(|mount| is_idle(mount)) else { return false };
        let path = mount.path_of(&at.key);
        let is_below = |id: &MountId| self.tree.top(*id).is_some_and(|top| top.wanted.path.starts_with(&path));
        self.tree.top_ids().iter().any(is_below)
    }

    /// Begins to unmount an entry where all is quiet. If we know of nothing that is mounted there, the shell looks.
    pub(super) fn unmount(&mut self, at: &EntryId, lazy: bool) {
        let known = self.tree.pieces(at).into_iter().filter_map(|piece| Some((self.layer(&piece)?, piece)));
        let (layers, pieces) = known.unzip();
        let due = self.now.after(self.limits.unmount);
        let job = self.new_job(at);
        self.update(at, |entry| {
            entry.phase = Phase::Unmounting(job, pieces);
            entry.due = Some(due);
        });
        self.effects.push(Effect::Unmount { job, at: at.clone(), layers, lazy });
        self.settle(at);
    }

    fn layer(&self, piece: &Piece) -> Option<Layer> {
        match piece {
            Piece::Entry(at) => {
                let path = self.tree.mount(at.mount)?.path_of(&at.key);
                Some(Layer::FileSystem { at: at.clone(), path })
            }
            Piece::Trigger(id) => Some(Layer::Trigger(*id, self.tree.mount(*id)?.path.clone())),
        }
    }

    /// An unmount has ended.
    pub(super) fn unmounted(&mut self, job: JobId, gone: usize, error: Option<Reason>) {
        let Some((at, Phase::Unmounting(_, pieces))) = self.take_phase(job) else { return };
        let lost = self.take_down(&at, pieces.iter().take(gone));
        self.update(&at, |entry| entry.trouble = error);
        if gone < pieces.len() {
            // Also at shutdown, so that the next start takes over a complete tree.
            let forced = self.stop.as_ref().is_some_and(|stop| stop.how == Shutdown::Forced);
            let remounts = if forced { Vec::new() } else { self.remounts(lost) };
            return self.remount(at, remounts);
        }
        let expire = self.update(&at, |entry| {
            entry.phase = Phase::Idle;
            entry.plan = None;
            entry.expire.take()
        });
        if let Some(token) = expire.flatten() {
            self.reply(at.mount, token, None);
        }
        self.serve(&at);
    }

    /// Forgets the layers that are gone, up to the entry `at` itself. Returns the triggers among them, by the entries on which they
    /// were mounted.
    fn take_down<'a>(&mut self, at: &EntryId, gone: impl Iterator<Item = &'a Piece>) -> BTreeMap<EntryId, Vec<Lost>> {
        let mut lost = BTreeMap::<EntryId, Vec<Lost>>::new();
        for piece in gone {
            match piece {
                Piece::Entry(place) if place == at => {}
                Piece::Entry(place) => self.clear(place),
                Piece::Trigger(id) => {
                    let Some(mount) = self.tree.mount(*id) else { continue };
                    let Some(owner) = mount.owner().cloned() else { continue };
                    lost.entry(owner.clone()).or_default().push(Lost(mount.plan().cloned()));
                    self.drop_below(*id);
                    self.settle(&owner);
                }
            }
        }
        lost
    }

    /// Returns the triggers to mount again, of entries that remain mounted.
    fn remounts(&self, lost: BTreeMap<EntryId, Vec<Lost>>) -> Vec<Remount> {
        let remount = |(at, lost): (EntryId, Vec<Lost>)| {
            let mount = self.tree.mount(at.mount)?;
            let entry = mount.entry(&at.key).filter(|entry| entry.occupied())?;
            let offsets: Option<Vec<_>> = lost.into_iter().map(|Lost(plan)| plan).collect();
            let plan = match offsets {
                Some(mut offsets) => {
                    offsets.sort_unstable_by(|a, b| a.at.cmp(&b.at));
                    let at = mount.path_of(&at.key);
                    Arc::new(Plan {
                        at,
                        action: Action::Nothing,
                        offsets,
                        strict: false,
                        timeout: None,
                        requires: Vec::new(),
                    })
                }
                // A submount is all that its entry has.
                None => entry.plan.clone()?,
            };
            Some(Remount { at, plan })
        };
        lost.into_iter().filter_map(remount).collect()
    }

    /// Mounts triggers that are missing below an entry, if it is mounted and all is quiet there.
    pub(super) fn remount_triggers(&mut self, at: EntryId, plan: Arc<Plan>) {
        let offsets = self.tree.renew_offsets(&at, &plan);
        if offsets.is_empty() {
            return;
        }
        let plan = Arc::new(Plan {
            at: plan.at.clone(),
            action: Action::Nothing,
            offsets,
            strict: false,
            timeout: None,
            requires: Vec::new(),
        });
        let serves = self.tree.top_of(at.mount).is_some_and(|top| top.state().serves());
        let stands = self.tree.entry(&at).is_some_and(|entry| matches!(entry.phase, Phase::Mounted));
        let may = serves && stands && !self.paused && self.stop.is_none();
        if may && self.tree.held(&at).is_none() && self.quiet(&at) {
            self.remount(at.clone(), vec![Remount { at, plan }]);
        }
    }

    /// Goes on with the remounts of an entry that was unmounted halfway; when there are none, it is mounted as before.
    fn remount(&mut self, at: EntryId, mut remounts: Vec<Remount>) {
        while remounts.last().is_some_and(|remount| self.tree.entry(&remount.at).is_none()) {
            remounts.pop();
        }
        if let Some(remount) = remounts.last() {
            let (place, plan) = (remount.at.clone(), remount.plan.clone());
            let job = self.new_job(&at);
            self.update(&at, |entry| entry.phase = Phase::Remounting(job, remounts));
            self.effects.push(Effect::Perform { job, at: place, plan, who: Requester::default() });
            return self.settle(&at);
        }
        let now = self.now;
        let expire = self.update(&at, |entry| {
            entry.phase = Phase::Mounted;
            entry.seen = now;
            Some((entry.expire.take()?, entry.trouble.clone()))
        });
        if let Some((token, reason)) = expire.flatten() {
            self.refuse(at.mount, token, Errno::EBUSY, reason);
        }
        for place in self.tree.waiting_below(&at) {
            self.serve(&place);
        }
        self.serve(&at);
    }

    /// One remount has ended (or failed: then that trigger is missing until the entry is mounted anew).
    pub(super) fn remounted(&mut self, at: EntryId, mut remounts: Vec<Remount>, done: Done) {
        if let Some(Remount { at: place, .. }) = remounts.pop() {
            self.install(&place, done);
            if place != at {
                self.settle(&place);
            }
        }
        self.remount(at, remounts);
    }

    /// Returns whether no job runs and no lookup waits at an entry and in the tree below it.
    pub(super) fn quiet(&self, at: &EntryId) -> bool {
        !self.tree.entry(at).is_some_and(Entry::busy) && self.tree.is_quiet_below(at)
    }
}

/// A trigger that is gone. `Some(plan)`: an offset mount; `None`: a submount.
struct Lost(Option<Arc<Plan>>);

#[cfg(test)]
mod tests {
    use super::super::testing::{TestEngine, offsets, plan, reason, submount};
    use super::super::{Done, EntryId, Event};

    /// A multi-mount with a mounted offset, on which another trigger stands.
    fn tree() -> TestEngine {
        let mut stage = TestEngine::new(&["/net"]);
        stage.mount("/net/srv", offsets(&[(5, "/net/srv/a"), (6, "/net/srv/b")]));
        stage.mount("#6", offsets(&[(7, "/net/srv/b/x")]));
        stage
    }

    #[test]
    fn an_entry_is_unmounted_and_forgotten() {
        let mut stage = TestEngine::new(&["/home"]);
        stage.mount("/home/joe", Done::default());
        stage.expire("/home/joe", 1);
        assert_eq!(stage.said(), ["unmount /home/joe"]);
        stage.unmounted("/home/joe", 1);
        assert_eq!(stage.said(), ["ready 1"]);
        assert_eq!((stage.entries(), stage.engine.deadline()), (0, None));
    }

    #[test]
    fn a_directory_on_the_way_to_another_mount_stays() {
        let mut stage = TestEngine::new(&["/home", "/home/joe/mail"]);
        stage.expire("/home/joe", 1);
        assert_eq!(stage.said(), ["fail 1 EBUSY"]);
        stage.expire("/home/jo", 2);
        assert_eq!(stage.said(), ["unmount /home/jo"]);
    }

    #[test]
    fn what_is_in_use_stays() {
        let mut stage = TestEngine::new(&["/home"]);
        stage.mount("/home/joe", Done::default());
        stage.expire("/home/joe", 1);
        stage.unmounted("/home/joe", 0);
        assert_eq!(stage.said(), ["unmount /home/joe", "fail 1 EBUSY"]);
    }

    #[test]
    fn a_tree_goes_deepest_first() {
        let mut stage = tree();
        stage.expire("/net/srv", 1);
        assert_eq!(stage.said(), ["unmount ^/net/srv/a ^/net/srv/b/x /net/srv/b ^/net/srv/b /net/srv"]);
        stage.unmounted("/net/srv", 5);
        assert_eq!(stage.said(), ["ready 1"]);
        assert_eq!((stage.entries(), stage.engine.mounts().count()), (0, 1));
    }

    #[test]
    fn half_a_tree_is_put_together_again_before_anybody_sees_it() {
        let mut stage = tree();
        stage.expire("/net/srv", 1);
        stage.missing("#6", 2);
        stage.said();
        stage.unmounted("/net/srv", 2);
        assert_eq!(stage.said(), ["perform /net/srv +/net/srv/a"]);
        stage.performed("/net/srv", Ok(offsets(&[(8, "/net/srv/a")])));
        assert_eq!(stage.said(), ["perform /net/srv/b +/net/srv/b/x"]);
        stage.performed("/net/srv/b", Ok(offsets(&[(9, "/net/srv/b/x")])));
        assert_eq!(stage.said(), ["fail 1 EBUSY", "check /net/srv/b"]);
        stage.checked("/net/srv/b", true);
        stage.missing("#9", 3);
        stage.missing("#7", 4);
        assert_eq!(stage.said(), ["ready 2", "perform /net/srv/b/x", "fail 4 ENOENT"]);
    }

    #[test]
    fn who_waits_at_a_trigger_that_is_gone_asks_anew() {
        let mut stage = tree();
        stage.expire("/net/srv", 1);
        stage.missing("#5", 2);
        stage.missing("#7", 3);
        stage.said();
        stage.unmounted("/net/srv", 2);
        assert_eq!(stage.said(), ["fail 2 ENOENT", "fail 3 ENOENT", "perform /net/srv +/net/srv/a"]);
    }

    #[test]
    fn a_repair_that_fails_leaves_the_rest_standing() {
        let mut stage = tree();
        stage.expire("/net/srv", 1);
        stage.unmounted("/net/srv", 1);
        stage.said();
        stage.performed("/net/srv", Err(reason("no such server")));
        assert_eq!(stage.said(), ["fail 1 EBUSY"]);
        stage.expire("/net/srv", 2);
        assert_eq!(stage.said(), ["unmount ^/net/srv/b/x /net/srv/b ^/net/srv/b /net/srv"]);
    }

    #[test]
    fn lookups_during_an_unmount_are_served_after_it() {
        let mut stage = TestEngine::new(&["/home"]);
        stage.mount("/home/joe", Done::default());
        stage.mount("/home/ann", Done::default());
        for (path, number) in [("/home/joe", 1), ("/home/ann", 2)] {
            stage.expire(path, number);
            stage.missing(path, number + 10);
        }
        stage.said();
        stage.unmounted("/home/joe", 1);
        stage.unmounted("/home/ann", 0);
        assert_eq!(stage.said(), ["ready 1", "resolve /home/joe", "fail 2 EBUSY", "check /home/ann"]);
    }

    #[test]
    fn an_entry_at_work_is_not_unmounted() {
        let mut stage = tree();
        stage.missing("#5", 1);
        stage.missing("/net/new", 2);
        for (number, path) in [(3, "#5"), (4, "/net/srv"), (5, "/net/new")] {
            stage.expire(path, number);
        }
        assert_eq!(stage.said()[2..], ["fail 3 EBUSY", "fail 4 EBUSY", "fail 5 EBUSY"]);
    }

    #[test]
    fn what_is_not_known_is_unmounted_too() {
        let mut stage = TestEngine::new(&["/home"]);
        stage.expire("/home/joe", 1);
        stage.unmounted("/home/joe", 1);
        assert_eq!(stage.said(), ["unmount /home/joe", "ready 1"]);
        stage.expire("/home/joe", 2);
        stage.unmounted("/home/joe", 0);
        stage.missing("/home/joe", 3);
        assert_eq!(stage.said(), ["unmount /home/joe", "fail 2 EBUSY", "check /home/joe"]);
    }

    #[test]
    fn an_unmount_that_hangs_blocks_nobody_for_ever() {
        let mut stage = tree();
        stage.expire("/net/srv", 1);
        stage.missing("#5", 2);
        stage.pass(10_000);
        stage.missing("/net/srv", 3);
        stage.pass(10_000);
        stage.missing("/net/srv", 4);
        stage.missing("#5", 5);
        let said: Vec<_> = stage.said().into_iter().filter(|said| said.starts_with("fail")).collect();
        let times = ["fail 2 ETIMEDOUT", "fail 1 EBUSY", "fail 3 ETIMEDOUT", "fail 4 ETIMEDOUT", "fail 5 ETIMEDOUT"];
        assert_eq!(said, times);
        stage.unmounted("/net/srv", 5);
        stage.missing("/net/srv", 6);
        assert_eq!(stage.said().last().unwrap(), "resolve /net/srv");
    }

    #[test]
    fn a_tree_is_mended_when_nothing_goes_on_there() {
        let mut stage = tree();
        let mount = stage.id("/net");
        let (a, c) = (plan("/net/srv/a", &[plan("/net/srv/a/in", &[])]), plan("/net/srv/c", &[]));
        let whole = plan("/net/srv", &[a, c]);
        let mend = |key: &[u8]| Event::RemountTriggers { at: EntryId { mount, key: key.into() }, plan: whole.clone() };
        stage.missing("#5", 1);
        stage.said();
        stage.event(mend(b"srv"));
        stage.event(mend(b"other"));
        assert!(stage.said().is_empty(), "somebody waits, and nothing is mounted");
        stage.performed("/net/srv/a", Ok(Done::default()));
        stage.said();
        stage.event(Event::Pause(true));
        stage.event(mend(b"srv"));
        assert!(stage.said().is_empty(), "a checkpoint is expected");
        stage.event(Event::Pause(false));
        stage.event(mend(b"srv"));
        assert_eq!(stage.said(), ["perform /net/srv +/net/srv/c"]);
        stage.missing("#6", 2);
        assert!(stage.said().is_empty(), "all wait meanwhile");
        stage.performed("/net/srv", Ok(offsets(&[(8, "/net/srv/c")])));
        stage.missing("#8", 3);
        assert_eq!(stage.said().last().unwrap(), "perform /net/srv/c");
        stage.performed("/net/srv/c", Ok(Done::default()));
        stage.event(mend(b"srv"));
        stage.said();
        stage.expire("#5", 4);
        stage.unmounted("/net/srv/a", 1);
        stage.missing("#5", 5);
        assert_eq!(stage.said().last().unwrap(), "perform /net/srv/a +/net/srv/a/in", "by its new plan");
    }

    #[test]
    fn a_submount_that_cannot_go_is_mounted_again_by_its_plan() {
        let mut stage = TestEngine::new(&["/home"]);
        stage.mount("/home/sub", submount(6, "/home/sub"));
        stage.expire("/home/sub", 1);
        stage.unmounted("/home/sub", 1);
        assert_eq!(stage.said(), ["unmount ^/home/sub /home/sub", "perform /home/sub"]);
    }
}
