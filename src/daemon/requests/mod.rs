//! The requests of the kernel: read from the pipes into the journal, routed to their mounts, answered.
//!
//! [`Requests`] owns the journal and what is known of each packet in it. A token that was read stays in the journal until
//! it is answered. A packet whose mount is not known is parked, until the mount is known or certainly never will be.

mod answer;
mod elsewhere;
mod overdue;
mod park;
mod read;
mod route;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Instant;

use hashbrown::HashMap;
use tokio::sync::Notify;

use crate::daemon::process_names::ProcessNames;
use crate::daemon::tools::Requesters;
use crate::engine::Token;
use crate::link::journal::{Journal, Slot, Unanswered};

pub(crate) use park::find_mounts;
pub(crate) use read::{Receiver, Refused, serve};
pub(crate) use route::Routed;

/// The requests that were read and are not answered.
#[derive(Debug)]
pub(crate) struct Requests {
    journal: Rc<RefCell<Journal>>,
    /// Each request that is being served.
    served: RefCell<HashMap<Token, Served>>,
    names: ProcessNames,
    /// Packets whose mount is not known, with the pipes that they came from.
    parked: RefCell<Vec<(Slot, u32)>>,
    /// Whether the mount table is being searched for the mounts of parked packets.
    searching: Cell<bool>,
    /// Whether packets are being read: more of them may need the roots that are open.
    reading: Cell<bool>,
    /// Whether packets are left in the pipes.
    held: Cell<bool>,
    /// Whether a pipe is not read because the journal has no room for it.
    short_of_room: Cell<bool>,
    /// When the log has last said that lookups are refused.
    refused: Cell<Option<Instant>>,
    /// Told when the journal has room again, or the pipes are read again.
    room: Notify,
    /// How often all requests were forgotten: a token of an earlier age may belong to another request by now.
    age: Cell<u32>,
}

/// A request that is being served.
#[derive(Debug)]
struct Served {
    slot: Slot,
    /// The process whose name is kept for it.
    named: Option<u32>,
}

impl Requests {
    /// Takes up the journal with what an earlier worker has not answered. That is parked until its mounts are known.
    pub(crate) fn new(journal: Journal, unanswered: Vec<Unanswered>) -> Rc<Self> {
        let parked = unanswered.into_iter().map(|Unanswered { slot, pipe }| (slot, pipe)).collect();
        Rc::new(Self {
            journal: Rc::new(RefCell::new(journal)),
            served: RefCell::default(),
            names: ProcessNames::default(),
            parked: RefCell::new(parked),
            searching: Cell::default(),
            reading: Cell::default(),
            held: Cell::default(),
            short_of_room: Cell::default(),
            refused: Cell::default(),
            room: Notify::new(),
            age: Cell::default(),
        })
    }

    /// Returns the part of the journal that records for which user each multi-mount was mounted.
    pub(crate) fn requesters(&self) -> Requesters {
        Requesters::new(Rc::clone(&self.journal))
    }

    /// Returns the name of a process whose request is unanswered.
    pub(crate) fn name_of(&self, pid: u32) -> Rc<str> {
        self.names.get(pid)
    }

    /// Keeps the name of the requester until the answer, if the request has not been answered yet.
    pub(crate) fn keep_name(&self, token: Token, pid: u32) {
        if let Some(served) = self.served.borrow_mut().get_mut(&token).filter(|served| served.named.is_none()) {
            self.names.begin(pid);
            served.named = Some(pid);
        }
    }

    /// Returns whether packets are being read, so that roots which are open are needed.
    pub(crate) fn is_reading(&self) -> bool {
        self.reading.get()
    }

    /// Returns whether no packet is being served. Parked ones may be there.
    pub(crate) fn none_served(&self) -> bool {
        self.served.borrow().is_empty()
    }

    /// Returns whether no packet is parked.
    pub(crate) fn none_parked(&self) -> bool {
        self.parked.borrow().is_empty()
    }

    /// Leaves packets in the pipes from now on.
    pub(crate) fn hold(&self) {
        self.held.set(true);
    }

    /// Reads the pipes again after [`hold`](Self::hold).
    pub(crate) fn read_on(&self) {
        self.held.set(false);
        self.room.notify_waiters();
    }

    /// Removes a request from the journal.
    fn forget(&self, slot: Slot) {
        self.journal.borrow_mut().clear(slot);
        if self.short_of_room.take() {
            self.room.notify_waiters();
        }
    }

    /// Removes all requests from the journal that were read, except for `but`, without an answer.
    pub(crate) fn forget_all(&self, but: Option<Slot>) {
        self.age.set(self.age.get().wrapping_add(1));
        let parked = self.parked.take().into_iter().map(|(slot, _)| slot);
        let served = self.served.take().into_values().map(|served| served.slot);
        let slots: HashSet<Slot> = served.chain(parked).collect();
        self.names.clear();
        slots.into_iter().filter(|slot| Some(*slot) != but).for_each(|slot| self.forget(slot));
    }
}

#[cfg(test)]
impl Requests {
    /// Reads one packet from a pipe into the journal.
    pub(crate) fn read_one(&self, pipe: &crate::daemon::mounts::pipes::Pipe) -> Slot {
        match self.journal.borrow_mut().read(pipe.number, pipe.fd()) {
            Ok(crate::link::journal::Read::Packet(slot)) => slot,
            other => panic!("{other:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::daemon::testing::{Asks, ByUs, Parts, Told, packet};
    use crate::engine::{EntryId, Errno, Event, Key, MountId, Requester};

    fn token(number: u32) -> Token {
        Token(number.try_into().unwrap())
    }

    /// Writes a packet and reads it into the journal.
    fn read(parts: &Parts, pipe: u32, bytes: &[u8]) -> Slot {
        parts.write(pipe, bytes);
        parts.requests.read_one(&parts.mounts.pipe(pipe).unwrap())
    }

    /// Routes a packet. The time for which its lookup has waited already is left out: this machine may be busy.
    fn route(parts: &Parts, slot: Slot, pipe: u32) -> Routed {
        let mut routed = parts.requests.route(slot, pipe, &parts.mounts, |_| true, true);
        if let Routed::Event(Event::Missing { waited, .. }) = &mut routed {
            *waited = 0;
        }
        routed
    }

    fn missing(mount: u32, number: u32, name: &[u8]) -> Routed {
        let at = EntryId { mount: MountId(mount), key: Key::from(name) };
        let who = Requester { uid: 1000, gid: 100, pid: 4242, tgid: 4241 };
        Routed::Event(Event::Missing { at, token: token(number), who, waited: 0 })
    }

    #[tokio::test]
    async fn a_lookup_goes_to_the_mount_of_its_device() {
        let parts = Parts::new();
        let pipe = parts.indirect(1, "/a", 70);
        let shared = parts.mounts.create_pipe().unwrap();
        parts.insert(2, "/d", crate::engine::Kind::Direct, 71, shared);
        parts.insert(3, "/e", crate::engine::Kind::Direct, 72, shared);
        let slot = read(&parts, pipe, &packet(70, 5, Asks::Name(b"k")));
        assert_eq!(route(&parts, slot, pipe), missing(1, 5, b"k"));
        let slot = read(&parts, shared, &packet(72, 6, Asks::Direct));
        assert_eq!(route(&parts, slot, shared), missing(3, 6, b""));
    }

    #[tokio::test]
    async fn a_pipe_of_its_own_decides_when_the_device_has_changed() {
        let parts = Parts::new();
        let pipe = parts.indirect(1, "/a", 70);
        let slot = read(&parts, pipe, &packet(99, 5, Asks::Name(b"k")));
        assert_eq!(route(&parts, slot, pipe), missing(1, 5, b"k"));
        assert_eq!(parts.mounts.get(MountId(1)).unwrap().dev, 99);
    }

    #[tokio::test]
    async fn a_packet_for_an_unknown_mount_is_parked_until_the_mount_is_known() {
        let parts = Parts::new();
        let pipe = parts.mounts.create_pipe().unwrap();
        let slot = read(&parts, pipe, &packet(70, 5, Asks::Name(b"k")));
        assert_eq!(route(&parts, slot, pipe), Routed::Parked);
        assert!(!parts.requests.none_parked() && parts.requests.none_served());
        parts.insert(1, "/a", crate::engine::Kind::Indirect, 70, pipe);
        let told = Told::default();
        parts.requests.serve_parked(&parts.mounts, &told);
        assert_eq!(told.take(), [format!("packet of {pipe}")]);
        assert_eq!(route(&parts, slot, pipe), missing(1, 5, b"k"));
    }

    #[tokio::test]
    async fn a_packet_waits_for_the_engine_and_for_the_entries_of_its_mount() {
        let parts = Parts::new();
        let pipe = parts.indirect(1, "/a", 70);
        let slot = read(&parts, pipe, &packet(70, 5, Asks::Name(b"k")));
        let unknown = parts.requests.route(slot, pipe, &parts.mounts, |_| false, true);
        assert_eq!(unknown, Routed::Parked, "the engine does not know the mount");
        assert!(parts.requests.none_served());
    }

    #[tokio::test]
    async fn an_expiry_of_a_dead_worker_makes_lookups_begin_anew() {
        let parts = Parts::new();
        let pipe = parts.indirect(1, "/a", 70);
        let answer = |has_device, number, by_us| {
            let slot = read(&parts, pipe, &packet(70, number, Asks::Expire(b"k", by_us)));
            parts.requests.route(slot, pipe, &parts.mounts, |_| true, has_device)
        };
        let at = EntryId { mount: MountId(1), key: Key::from(&b"k"[..]) };
        assert_eq!(answer(true, 5, ByUs::Yes), Routed::Event(Event::Expire { at, token: token(5) }));
        assert_eq!(answer(true, 6, ByUs::No), Routed::Answer(MountId(1), token(6), Some(Errno::ESTALE)));
        // Without the device FAIL has no errno, and ENOENT would not be true.
        assert_eq!(answer(false, 7, ByUs::No), Routed::Answer(MountId(1), token(7), None));
    }

    #[tokio::test]
    async fn a_request_on_which_workers_die_is_answered_with_an_error() {
        let parts = Parts::new();
        let pipe = parts.indirect(1, "/a", 70);
        let slot = read(&parts, pipe, &packet(70, 5, Asks::Name(b"k")));
        let mut routed: Vec<Routed> = (0..4).map(|_| route(&parts, slot, pipe)).collect();
        assert_eq!(routed.pop(), Some(Routed::Answer(MountId(1), token(5), Some(Errno::EIO))));
        assert!(routed.into_iter().all(|routed| routed == missing(1, 5, b"k")));
    }

    #[tokio::test]
    async fn a_packet_that_makes_no_sense_takes_no_slot() {
        let parts = Parts::new();
        let pipe = parts.indirect(1, "/a", 70);
        let mut bytes = packet(70, 5, Asks::Name(b"k"));
        bytes[4] = 99;
        let slot = read(&parts, pipe, &bytes);
        assert_eq!(route(&parts, slot, pipe), Routed::Dropped);
        assert_eq!(read(&parts, pipe, &packet(70, 6, Asks::Name(b"k"))), slot, "the slot is free");
    }

    #[tokio::test]
    async fn all_is_forgotten_except_for_the_packet_that_came_last() {
        let parts = Parts::new();
        let pipe = parts.indirect(1, "/a", 70);
        let slots: Vec<Slot> = (5..8)
            .map(|number| {
                let slot = read(&parts, pipe, &packet(70, number, Asks::Name(b"k")));
                route(&parts, slot, pipe);
                slot
            })
            .collect();
        parts.requests.forget_all(Some(slots[2]));
        assert!(parts.requests.none_served() && parts.requests.none_parked());
        let taken = |slot: &Slot| parts.requests.journal.borrow().packet(*slot).iter().any(|byte| *byte != 0);
        assert_eq!(slots.iter().map(taken).collect::<Vec<_>>(), [false, false, true]);
    }

    #[tokio::test]
    async fn pipes_are_read_until_no_mount_writes_to_them() {
        let mut parts = Parts::new();
        let pipe = parts.indirect(1, "/a", 70);
        let unread = parts.unread.recv().await.unwrap();
        assert_eq!(unread.number, pipe);
        let write_end = parts.mounts.write_end(pipe).unwrap();
        parts.write(pipe, &packet(70, 5, Asks::Name(b"k")));
        parts.write(pipe, &packet(70, 6, Asks::Name(b"l")));
        drop(write_end);
        let told = Told::default();
        serve(Rc::clone(&parts.requests), Rc::clone(&parts.mounts), unread, told.clone()).await;
        let packet = format!("packet of {pipe}");
        assert_eq!(told.take(), [packet.clone(), packet, format!("{pipe} abandoned")]);
    }

    #[tokio::test]
    async fn packets_stay_in_the_pipes_while_they_are_held() {
        let mut parts = Parts::new();
        let pipe = parts.indirect(1, "/a", 70);
        let unread = parts.unread.recv().await.unwrap();
        parts.write(pipe, &packet(70, 5, Asks::Name(b"k")));
        parts.requests.hold();
        let told = Told::default();
        let reading = serve(Rc::clone(&parts.requests), Rc::clone(&parts.mounts), unread, told.clone());
        let look = async {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            assert_eq!(told.take(), [""; 0]);
            assert!(!parts.mounts.pipe(pipe).unwrap().is_empty());
            parts.requests.read_on();
        };
        tokio::join!(reading, look);
        assert_eq!(told.take(), [format!("packet of {pipe}"), format!("{pipe} abandoned")]);
    }

    #[tokio::test]
    async fn who_a_tree_was_mounted_for_is_remembered() {
        let requesters = Parts::new().requests.requesters();
        requesters.remember(Path::new("/a/k"), 1000, 100);
        assert_eq!(requesters.get(Path::new("/a/k")), Some((1000, 100)));
        requesters.forget(Path::new("/a/k"));
        assert_eq!(requesters.get(Path::new("/a/k")), None);
    }
}
