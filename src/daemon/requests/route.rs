//! Routes packets: from the bytes in a slot to the event for the engine, or to the answer where there is none.

use log::error;

use super::Requests;
use crate::daemon::mounts::Mounts;
use crate::engine::{EntryId, Errno, Event, Key, MountId, Token};
use crate::link::journal::Slot;
use crate::sys::children;
use crate::sys::packet::Packet;

/// What is to be done with a packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Routed {
    /// Nothing: it makes no sense and is forgotten.
    Dropped,
    /// Its mount is to be found; it is parked until then.
    Parked,
    /// The token is to be answered at once.
    Answer(MountId, Token, Option<Errno>),
    /// The engine is to be told.
    Event(Event),
}

impl Requests {
    /// Routes the packet in a slot. `knows` says whether the engine knows a mount; `has_device` whether /dev/autofs could
    /// be opened, without which FAIL carries no errno.
    pub(crate) fn route(
        &self,
        slot: Slot,
        pipe: u32,
        mounts: &Mounts,
        knows: impl Fn(MountId) -> bool,
        has_device: bool,
    ) -> Routed {
        let bytes = self.journal.borrow().packet(slot);
        let packet = match Packet::decode(&bytes) {
            Ok(packet) => packet,
            Err(e) => {
                error!("a packet that makes no sense came by control pipe {pipe}: {e}");
                self.forget(slot);
                return Routed::Dropped;
            }
        };
        let request = packet.request();
        let serves = |id: &MountId| knows(*id) && !mounts.is_adopting(*id);
        let Some(mount) = mounts.route(pipe, request).filter(serves) else {
            self.parked.borrow_mut().push((slot, pipe));
            return Routed::Parked;
        };
        self.slots.borrow_mut().insert(request.token, slot);
        mounts.begin_request(mount);
        if matches!(packet, Packet::Expire(_)) && u32::try_from(children::pid()) != Ok(request.who.tgid) {
            // The process that called expire is dead, an earlier worker, and with that the kernel holds up no lookup of
            // this entry any more: to unmount it now could interrupt a process that has just entered it. But the token is
            // there, and lookups that have come since wait for it as if it were theirs (autofs_wait of Linux 6.18): they
            // have to begin anew, as to them neither success nor an error would be true.
            return Routed::Answer(mount, request.token, has_device.then_some(Errno::ESTALE));
        }
        if let Err(ended) = self.journal.borrow().begin(slot) {
            error!("request {} has ended {ended} workers; it is answered with an error", request.token.0);
            return Routed::Answer(mount, request.token, Some(Errno::EIO));
        }
        // For direct mounts the name is empty, as their one key is.
        let (at, token) = (EntryId { mount, key: Key::from(request.name) }, request.token);
        Routed::Event(match packet {
            Packet::Missing(_) => Event::Missing { at, token, who: request.who, waited: 0 },
            Packet::Expire(_) => Event::Expire { at, token },
        })
    }
}
