//! Unmounting an entry with all that stands on it, as a transaction: it goes as a whole, or what went is put back.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Done, Effect, Engine, Errno, JobId, Layer, Phase, Piece, Place, Repair, Shutdown, Token};
use crate::plan::{Action, Plan};

impl Engine {
    /// The kernel wants an entry unmounted.
    pub(super) fn expire(&mut self, at: Place, token: Token) {
        if !self.mounts.get(&at.mount).is_some_and(|mount| mount.has(&at.key)) {
            return self.reply(at.mount, token, Some(Errno::ENOENT));
        }
        let serves = self.stop.is_none() && self.top_of(at.mount).is_some_and(|top| top.state.serves());
        if !serves || self.held(&at).is_some() || !self.quiet(&at) {
            return self.reply(at.mount, token, Some(Errno::EBUSY));
        }
        if let Some(entry) = self.entry_or_new(&at) {
            entry.expire = Some(token);
            self.unmount(&at, false);
        }
    }

    /// Begins to unmount an entry where all is quiet. If we know of nothing that is mounted there, the shell looks.
    pub(super) fn unmount(&mut self, at: &Place, lazy: bool) {
        let known = self.pieces(at).into_iter().filter_map(|piece| Some((self.layer(&piece)?, piece)));
        let (layers, pieces) = known.unzip();
        let due = self.now.after(self.limits.unmount);
        let job = self.new_job(at);
        if let Some(entry) = self.entry_mut(at) {
            entry.phase = Phase::Unmounting(job, pieces);
            entry.due = Some(due);
        }
        self.effects.push(Effect::Unmount { job, mount: at.mount, key: at.key.clone(), layers, lazy });
        self.settle(at);
    }

    fn layer(&self, piece: &Piece) -> Option<Layer> {
        match piece {
            Piece::Entry(at) => {
                let path = self.mounts.get(&at.mount)?.path_of(&at.key);
                Some(Layer::FileSystem { mount: at.mount, key: at.key.clone(), path })
            }
            Piece::Trigger(id) => Some(Layer::Trigger(*id, self.mounts.get(id)?.path.clone())),
        }
    }

    /// An unmount has ended.
    pub(super) fn unmounted(&mut self, job: JobId, gone: usize) {
        let Some((at, Phase::Unmounting(_, pieces))) = self.take_phase(job) else { return };
        if let Some(entry) = self.entry_mut(&at) {
            // Nothing begins here before all is told.
            entry.phase = Phase::Unmounting(job, Vec::new());
        }
        let lost = self.take_down(&at, pieces.iter().take(gone));
        if gone < pieces.len() {
            let ending = self.stop.as_ref().is_some_and(|stop| stop.how != Shutdown::Detach);
            let repairs = if ending { Vec::new() } else { self.repairs(lost) };
            return self.repair(at, repairs);
        }
        if let Some(entry) = self.entry_mut(&at) {
            entry.phase = Phase::Idle;
            entry.plan = None;
            if let Some(token) = entry.expire.take() {
                self.reply(at.mount, token, None);
            }
        }
        self.serve(&at);
    }

    /// Forgets what is gone, up to the entry `at` itself; the triggers among it, by the entries on which they stood.
    fn take_down<'a>(&mut self, at: &Place, gone: impl Iterator<Item = &'a Piece>) -> BTreeMap<Place, Vec<Lost>> {
        let mut lost = BTreeMap::<Place, Vec<Lost>>::new();
        for piece in gone {
            match piece {
                Piece::Entry(place) if place == at => {}
                Piece::Entry(place) => self.clear(place),
                Piece::Trigger(id) => {
                    let Some(mount) = self.mounts.get(id) else { continue };
                    let Some(owner) = mount.owner.clone() else { continue };
                    lost.entry(owner.clone()).or_default().push(Lost(mount.plan.clone()));
                    self.drop_below(*id);
                    self.settle(&owner);
                }
            }
        }
        lost
    }

    /// What is to be mounted again: the triggers of entries that still stand.
    fn repairs(&self, lost: BTreeMap<Place, Vec<Lost>>) -> Vec<Repair> {
        let repair = |(at, lost): (Place, Vec<Lost>)| {
            let mount = self.mounts.get(&at.mount)?;
            let entry = mount.entries.get(&at.key).filter(|entry| entry.occupied())?;
            let offsets: Option<Vec<_>> = lost.into_iter().map(|Lost(plan)| plan).collect();
            let plan = match offsets {
                Some(mut offsets) => {
                    offsets.sort_by(|a, b| a.at.cmp(&b.at));
                    let at = mount.path_of(&at.key);
                    Arc::new(Plan { at, action: Action::Nothing, offsets, strict: false })
                }
                // A submount is all that its entry has.
                None => entry.plan.clone()?,
            };
            Some(Repair { at, plan })
        };
        lost.into_iter().filter_map(repair).collect()
    }

    /// Goes on with the repairs of an entry that was unmounted halfway; when there are none, it is mounted as before.
    fn repair(&mut self, at: Place, mut repairs: Vec<Repair>) {
        while repairs.last().is_some_and(|repair| self.entry(&repair.at).is_none()) {
            repairs.pop();
        }
        if let Some(repair) = repairs.last() {
            let Repair { at: place, plan } = repair;
            let (mount, key, plan) = (place.mount, place.key.clone(), plan.clone());
            let job = self.new_job(&at);
            if let Some(entry) = self.entry_mut(&at) {
                entry.phase = Phase::Restoring(job, repairs);
            }
            self.effects.push(Effect::Perform { job, mount, key, plan });
            return self.settle(&at);
        }
        let now = self.now;
        if let Some(entry) = self.entry_mut(&at) {
            entry.phase = Phase::Mounted;
            entry.seen = now;
            if let Some(token) = entry.expire.take() {
                self.reply(at.mount, token, Some(Errno::EBUSY));
            }
        }
        for place in self.waiting_below(&at) {
            self.serve(&place);
        }
        self.serve(&at);
    }

    /// One repair has ended (or failed: then that trigger is missing until the entry is mounted anew).
    pub(super) fn restored(&mut self, at: Place, mut repairs: Vec<Repair>, done: Done) {
        if let Some(Repair { at: place, .. }) = repairs.pop() {
            self.install(&place, done);
            if place != at {
                self.settle(&place);
            }
        }
        self.repair(at, repairs);
    }

    /// Whether nothing runs and nobody waits at an entry and in the tree below it.
    pub(super) fn quiet(&self, at: &Place) -> bool {
        !self.entry(at).is_some_and(|entry| entry.busy()) && self.quiet_below(at)
    }
}

/// A trigger that is gone: the plan of an offset; none: a submount.
struct Lost(Option<Arc<Plan>>);
