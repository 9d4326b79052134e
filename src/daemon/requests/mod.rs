//! The requests of the kernel: read from the pipes into the journal, routed to their mounts, answered.
//!
//! [`Requests`] owns the journal and what is known of each packet in it. A token that was read stays in the journal until
//! it is answered. A packet whose mount is not known is parked, until the mount is known or certainly never will be.

mod answer;
mod elsewhere;
mod park;
mod read;
pub(crate) mod readable;
mod route;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use tokio::sync::Notify;

use crate::daemon::tools::Requesters;
use crate::engine::Token;
use crate::link::journal::{Journal, Owed, Slot};

pub(crate) use park::find_mounts;
pub(crate) use read::{Receiver, serve};
pub(crate) use route::Routed;

/// The requests that were read and are not answered.
#[derive(Debug)]
pub(crate) struct Requests {
    journal: Rc<RefCell<Journal>>,
    /// The slot of each request that is being served.
    slots: RefCell<HashMap<Token, Slot>>,
    /// Packets whose mount is not known, with the pipes that they came from.
    parked: RefCell<Vec<(Slot, u32)>>,
    /// Whether the mount table is being searched for the mounts of parked packets.
    searching: Cell<bool>,
    /// Whether packets are being read: more of them may need the roots that are open.
    reading: Cell<bool>,
    /// Whether packets are left in the pipes.
    held: Cell<bool>,
    /// Told when the journal has room again, or the pipes are read again.
    room: Notify,
    /// How often all requests were forgotten: a token of an earlier age may be that of another request by now.
    age: Cell<u32>,
}

impl Requests {
    /// Takes up the journal with what an earlier worker has not answered. That is parked until its mounts are known.
    pub(crate) fn new(journal: Journal, unanswered: Vec<Owed>) -> Rc<Self> {
        let parked = unanswered.into_iter().map(|Owed { slot, pipe }| (slot, pipe)).collect();
        Rc::new(Self {
            journal: Rc::new(RefCell::new(journal)),
            slots: RefCell::default(),
            parked: RefCell::new(parked),
            searching: Cell::default(),
            reading: Cell::default(),
            held: Cell::default(),
            room: Notify::new(),
            age: Cell::default(),
        })
    }

    /// Returns the part of the journal that tells for whom trees were mounted.
    pub(crate) fn requesters(&self) -> Requesters {
        Requesters::new(Rc::clone(&self.journal))
    }

    /// Returns whether packets are being read, so that roots which are open are needed.
    pub(crate) fn is_reading(&self) -> bool {
        self.reading.get()
    }

    /// Returns whether no packet is being served. Parked ones may be there.
    pub(crate) fn none_served(&self) -> bool {
        self.slots.borrow().is_empty()
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

    /// Strikes a request out of the journal.
    fn forget(&self, slot: Slot) {
        let mut journal = self.journal.borrow_mut();
        let full = !journal.has_room();
        journal.clear(slot);
        if full {
            self.room.notify_waiters();
        }
    }

    /// Strikes out all requests that were read, except for `but`, without an answer.
    pub(crate) fn forget_all(&self, but: Option<Slot>) {
        self.age.set(self.age.get().wrapping_add(1));
        let parked = self.parked.take().into_iter().map(|(slot, _)| slot);
        let slots: HashSet<Slot> = self.slots.take().into_values().chain(parked).collect();
        slots.into_iter().filter(|slot| Some(*slot) != but).for_each(|slot| self.forget(slot));
    }
}
