//! The requests of the kernel: from the pipes into the journal, to the mount that each is about, and back as an answer.
//!
//! A token that was read stands in the journal until it is answered. A packet whose mount is not known is parked, until the
//! mount is, or certainly never will be.

mod elsewhere;
pub(crate) mod readable;

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, error, warn};
use tokio::task::spawn_local;

use crate::daemon::attach::top;
use crate::daemon::checkpoint::restore;
use crate::daemon::mounts::pipes::Pipe;
use crate::daemon::mounts::table::MountTable;
use crate::daemon::state::{State, Trigger};
use crate::daemon::worker::Worker;
use crate::engine::{EntryId, Errno, Event, Key, Kind, MountId, Token};
use crate::exec::lanes::Lane;
use crate::fault;
use crate::link::journal::{Owed, Read, Slot};
use crate::sys::autofs::Control;
use crate::sys::children;
use crate::sys::packet::{Packet, Request};
use crate::text::Escaped;

/// Between two tries to answer what could not be answered: the first pause, doubled up to the second.
const INSIST: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

impl State {
    /// Where the packets stand whose mounts are not known.
    pub(crate) fn parked_slots(&self) -> HashSet<Slot> {
        self.parked.iter().map(|(slot, _)| *slot).collect()
    }

    /// The root directory of an autofs mount, for the requests at hand.
    pub(crate) fn root(&mut self, mount: MountId) -> io::Result<std::os::fd::BorrowedFd<'_>> {
        let trigger = self.triggers.get_mut(&mount).ok_or(io::ErrorKind::NotFound)?;
        if trigger.root.is_none() {
            trigger.root = Some(self.control.open_mount(&trigger.path, trigger.dev)?);
            self.opened.push(mount);
        }
        trigger.root.as_ref().map(OwnedFd::as_fd).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(crate) fn close_roots(&mut self) {
        let triggers = &mut self.triggers;
        self.opened.retain(|mount| match triggers.get_mut(mount) {
            Some(trigger) if trigger.owed > 0 => true,
            Some(trigger) => {
                trigger.root = None;
                false
            }
            None => false,
        });
    }

    /// The mount that a packet is about. The device decides where several mounts share a pipe; a pipe of its own
    /// decides for an indirect mount even when the device has changed.
    fn route(&mut self, pipe: u32, request: &Request<'_>) -> Option<MountId> {
        let Request { dev, kind, .. } = *request;
        if let Some(mount) = self.devices.get(&dev) {
            if self.triggers.get(mount).is_some_and(|t| t.pipe == pipe) {
                return Some(*mount);
            }
        }
        if kind != Kind::Indirect {
            return None;
        }
        let (mount, old) = self
            .triggers
            .iter()
            .find(|(_, t)| t.pipe == pipe && t.kind == Kind::Indirect)
            .map(|(mount, t)| (*mount, t.dev))?;
        self.move_device(mount, old, dev);
        Some(mount)
    }
}

impl Worker {
    /// Takes up what a dead worker owed. It is served as soon as its mounts are.
    pub(crate) fn take_up(&self, owed: Vec<Owed>) {
        let mut state = self.state.borrow_mut();
        state.parked.extend(owed.into_iter().map(|Owed { slot, pipe }| (slot, pipe)));
    }

    /// Reads a pipe for as long as mounts write to it.
    pub(crate) async fn serve(self: Rc<Self>, pipe: Rc<Pipe>) {
        loop {
            let Some(registration) = pipe.registration() else { return };
            let Ok(mut ready) = registration.readable().await else { return };
            let closed = ready.ready().is_read_closed();
            match self.read(&pipe) {
                Halt::Empty if closed => {
                    drop(ready);
                    if let Err(e) = pipe.register_again(registration) {
                        return error!("control pipe {} cannot be read any more: {e}", pipe.number);
                    }
                }
                Halt::Empty => ready.clear_ready(),
                Halt::Full => self.room.notified().await,
                Halt::End => {
                    pipe.read.set(false);
                    return self.abandoned(&pipe);
                }
            }
        }
    }

    /// Serves all packets that are in a pipe now.
    fn read(self: &Rc<Self>, pipe: &Pipe) -> Halt {
        self.state.borrow_mut().reading = true;
        let halt = loop {
            let read = {
                let mut state = self.state.borrow_mut();
                if state.hold || !state.journal.has_room() {
                    break Halt::Full;
                }
                state.journal.read(pipe.number, pipe.fd())
            };
            match read {
                Ok(Read::Packet(slot)) => {
                    // Looked at after the read: so this packet is of the machine on which we are now.
                    if pipe.was_restored() {
                        restore::notice(self, Some(slot));
                    }
                    self.packet(slot, pipe.number);
                }
                Ok(Read::Nothing) => break Halt::Empty,
                Ok(Read::End) => break Halt::End,
                Err(e) => {
                    error!("cannot read control pipe {}: {e}", pipe.number);
                    break Halt::Empty;
                }
            }
        };
        let mut state = self.state.borrow_mut();
        state.reading = false;
        state.close_roots();
        halt
    }

    /// No mount writes to the pipe any more: they were unmounted behind our back, or made catatonic.
    fn abandoned(self: &Rc<Self>, pipe: &Pipe) {
        let lost: Vec<MountId> = {
            let state = self.state.borrow();
            let ours = |id: &MountId, t: &Trigger| t.pipe == pipe.number && !state.leaving.contains(id);
            state.triggers.iter().filter(|(id, t)| ours(id, t)).map(|(id, _)| *id).collect()
        };
        for mount in lost {
            let gone = self.state.borrow_mut().triggers.get(&mount).map(|t| t.path.clone());
            // At the end it is we who have let go of it.
            if let Some(path) = gone.filter(|_| !self.is_stopping()) {
                warn!(target: &path.to_string_lossy(), "{} is no longer ours: it was unmounted", Escaped::path(&path));
            }
            self.vanished(mount);
        }
        // A pipe whose last writer has gone is not used again: the reactor would find it readable for ever.
        let mut state = self.state.borrow_mut();
        if pipe.mounts.get() == 0 {
            state.pipes.release(pipe.number);
            for line in state.lines.values().filter(|line| line.pipe.get() == Some(pipe.number)) {
                line.pipe.set(None);
            }
        }
    }

    fn packet(self: &Rc<Self>, slot: Slot, pipe: u32) {
        fault::point("read");
        let mut guard = self.state.borrow_mut();
        let state = &mut *guard;
        let bytes = state.journal.packet(slot);
        let packet = match Packet::decode(&bytes) {
            Ok(packet) => packet,
            Err(e) => {
                error!("a packet that makes no sense came by control pipe {pipe}: {e}");
                self.forget(state, Some(slot));
                return;
            }
        };
        let request = packet.request();
        let serves = |state: &State, id: &MountId| state.engine.mount(*id).is_some() && !state.adopting.contains(id);
        let Some(mount) = state.route(pipe, request).filter(|id| serves(state, id)) else {
            state.parked.push((slot, pipe));
            if !std::mem::replace(&mut state.rescanning, true) {
                spawn_local(top::rescan(Rc::clone(self)));
            }
            return;
        };
        state.slots.insert(request.token, slot);
        if let Some(trigger) = state.triggers.get_mut(&mount) {
            trigger.owed += 1;
            if !trigger.remote {
                let _ = state.root(mount);
            }
        }
        if matches!(packet, Packet::Expire(_)) && u32::try_from(children::pid()) != Ok(request.who.tgid) {
            // Who called expire is dead, a worker before this one, and with that the kernel holds nobody up at this
            // entry any more: to unmount it now would pull it away from under somebody's feet. But the token stands,
            // and lookups that have come since wait for it as if it were theirs (autofs_wait of Linux 6.18): they have
            // to begin anew, as to them neither success nor an error would be true.
            let again = state.control.has_device().then_some(Errno::ESTALE);
            return self.reply(state, mount, request.token, again);
        }
        if let Err(ended) = state.journal.begin(slot) {
            error!("request {} has ended {ended} workers; it is answered with an error", request.token.0);
            return self.reply(state, mount, request.token, Some(Errno::EIO));
        }
        drop(guard);
        // For direct mounts the name is empty, as their one key is.
        let (at, token) = (EntryId { mount, key: Key::from(request.name) }, request.token);
        self.event(match packet {
            Packet::Missing(_) => Event::Missing { at, token, who: request.who, waited: 0 },
            Packet::Expire(_) => Event::Expire { at, token },
        });
    }

    /// Tries again to find the mounts of parked packets.
    pub(crate) fn unpark(self: &Rc<Self>) {
        let parked = std::mem::take(&mut self.state.borrow_mut().parked);
        for (slot, pipe) in parked {
            self.packet(slot, pipe);
        }
        self.state.borrow_mut().close_roots();
    }

    /// Answers those of these parked packets that are still parked: requests for mounts that are not ours any more, which
    /// nobody else can answer.
    pub(crate) fn give_up(self: &Rc<Self>, slots: &HashSet<Slot>, table: &MountTable) {
        let mut guard = self.state.borrow_mut();
        let state = &mut *guard;
        let (given_up, parked): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.parked).into_iter().partition(|(slot, _)| slots.contains(slot));
        state.parked = parked;
        let mut lost = HashMap::new();
        for (slot, pipe) in given_up {
            let bytes = state.journal.packet(slot);
            let Ok(packet) = Packet::decode(&bytes) else { continue };
            if state.route(pipe, packet.request()).is_some() {
                // Its mount is known, and will serve it when what stands below is known too.
                state.parked.push((slot, pipe));
                continue;
            }
            let Request { dev, token, .. } = *packet.request();
            let path = table.mounts().iter().rev().find(|line| line.autofs.is_some() && line.dev == dev);
            debug!("request {} on control pipe {pipe} is for no mount of ours", token.0);
            match path.map(|line| line.target.as_path().into()) {
                Some(path) => {
                    drop(spawn_local(Rc::clone(self).insist(path, dev, token, Some(Errno::ENOENT), Some(slot))));
                }
                None => state.lose(&mut lost, slot),
            }
        }
        for (dev, lost) in lost {
            spawn_local(Rc::clone(self).answer_elsewhere(dev, lost));
        }
    }

    pub(crate) fn reply(self: &Rc<Self>, state: &mut State, mount: MountId, token: Token, error: Option<Errno>) {
        let slot = state.slots.remove(&token);
        let Some(trigger) = state.triggers.get(&mount) else {
            // Its mount is gone here; who waits is in another mount namespace.
            let mut lost = HashMap::new();
            slot.into_iter().for_each(|slot| state.lose(&mut lost, slot));
            for (dev, lost) in lost {
                spawn_local(Rc::clone(self).answer_elsewhere(dev, lost));
            }
            return;
        };
        let (path, dev, control) = (trigger.path.clone(), trigger.dev, Arc::clone(&state.control));
        let answered = if trigger.remote {
            Err(io::ErrorKind::WouldBlock.into())
        } else {
            state.root(mount).and_then(|root| say(&control, root, token, error))
        };
        fault::point("answered");
        if let Some(trigger) = state.triggers.get_mut(&mount) {
            trigger.owed = trigger.owed.saturating_sub(1);
        }
        match answered {
            // EINVAL: the waiter was served by a worker that died before it could strike the request out.
            Err(e) if e.kind() != io::ErrorKind::InvalidInput => {
                spawn_local(Rc::clone(self).insist(path, dev, token, error, slot));
            }
            _ => self.forget(state, slot),
        }
    }

    /// Answers a token in a lane: where it may take time to reach the mount, and where the short way has failed. What
    /// fails now may succeed later, and nobody else will answer; so it ends only when there is nobody to be answered.
    async fn insist(self: Rc<Self>, path: Arc<Path>, dev: u32, token: Token, error: Option<Errno>, slot: Option<Slot>) {
        let (control, lanes, restores) = {
            let state = self.state.borrow();
            (Arc::clone(&state.control), Arc::clone(&state.context.lanes), state.restores)
        };
        let mut pause = INSIST.0;
        let mut lost = HashMap::new();
        // After a restore the token is that of another request.
        while self.state.borrow().restores == restores {
            let (control, path) = (Arc::clone(&control), path.clone());
            let answer = move || match top::find_root(&control, &path, dev)? {
                Some(root) => say(&control, &root, token, error).map(|()| true),
                None => Ok(false),
            };
            match lanes.run(Lane::Umount, answer).await {
                Err(e) if e.kind() != io::ErrorKind::InvalidInput => {
                    debug!("cannot answer token {} now: {e}", token.0);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(INSIST.1);
                }
                Ok(false) => {
                    slot.into_iter().for_each(|slot| self.state.borrow().lose(&mut lost, slot));
                    break;
                }
                _ => break,
            }
        }
        if lost.is_empty() {
            return self.forget(&mut self.state.borrow_mut(), slot);
        }
        for (dev, lost) in lost {
            Rc::clone(&self).answer_elsewhere(dev, lost).await;
        }
    }

    /// Strikes a request out of the journal.
    fn forget(&self, state: &mut State, slot: Option<Slot>) {
        let Some(slot) = slot else { return };
        let full = !state.journal.has_room();
        state.journal.clear(slot);
        if full {
            self.room.notify_waiters();
        }
    }

    /// Strikes out all requests that were read, but for one, without an answer.
    pub(crate) fn forget_requests(&self, state: &mut State, but: Option<Slot>) {
        state.triggers.values_mut().for_each(|trigger| trigger.owed = 0);
        state.close_roots();
        let parked = std::mem::take(&mut state.parked).into_iter().map(|(slot, _)| slot);
        let slots: Vec<Slot> = state.slots.drain().map(|(_, slot)| slot).chain(parked).collect();
        for slot in slots.into_iter().filter(|slot| Some(*slot) != but) {
            self.forget(state, Some(slot));
        }
    }

    /// Reads all that waits in the pipes, for nothing: nobody waits for an answer.
    pub(crate) fn discard_packets(&self) {
        let mut state = self.state.borrow_mut();
        let pipes: Vec<Rc<Pipe>> = state.pipes.iter().map(Rc::clone).collect();
        for pipe in pipes {
            while let Ok(Read::Packet(slot)) = state.journal.read(pipe.number, pipe.fd()) {
                state.journal.clear(slot);
            }
        }
    }

    /// Reads the pipes again after they were held.
    pub(crate) fn read_on(&self) {
        self.state.borrow_mut().hold = false;
        self.room.notify_waiters();
    }
}

/// Why no more packets are read now.
enum Halt {
    /// There are none.
    Empty,
    /// The journal has no room.
    Full,
    /// There will never be any.
    End,
}

fn say(control: &Control, root: impl AsFd, token: Token, error: Option<Errno>) -> io::Result<()> {
    match error {
        None => control.ready(root.as_fd(), token),
        Some(error) => control.fail(root.as_fd(), token, error),
    }
}
