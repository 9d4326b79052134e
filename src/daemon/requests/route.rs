//! Routes packets: makes an event for the engine from the bytes in a slot, or a direct answer.

use std::time::{Duration, Instant};

use log::{error, warn};

use super::{Requests, Served};
use crate::daemon::mounts::Mounts;
use crate::engine::{EntryId, Errno, Event, Key, MountId, Token};
use crate::link::journal::Slot;
use crate::sys::children;
use crate::sys::packet::Packet;

/// Between two log lines about refused lookups.
const REFUSED: Duration = Duration::from_secs(60);

/// Decision about a packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Routed {
    /// Drop it, because it is invalid.
    Dropped,
    /// Park it until its mount is known.
    Parked,
    /// Answer the token at once.
    Answer(MountId, Token, Option<Errno>),
    /// Pass an event to the engine.
    Event(Event),
}

impl Requests {
    /// Routes the packet in a slot. `knows` returns whether the engine knows a mount. `has_device` is whether /dev/autofs could
    /// be opened; without it, FAIL carries no errno.
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
                error!("invalid packet in control pipe {pipe}: {e}");
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
        self.served.borrow_mut().insert(request.token, Served { slot, named: None });
        mounts.begin_request(mount);
        if matches!(packet, Packet::Expire(_)) && u32::try_from(children::pid()) != Ok(request.who.tgid) {
            // The expire request was made by an earlier worker, which is dead. So the kernel no longer suspends lookups of this
            // entry, and unmounting it now could interrupt a process that has just entered it. But later lookups wait for this
            // token (autofs_wait of Linux 6.18). Neither success nor failure would be right for them; ESTALE makes them start
            // again. Without the device, FAIL carries no errno, and READY does less harm.
            return Routed::Answer(mount, request.token, has_device.then_some(Errno::ESTALE));
        }
        if let Err(ended) = self.journal.borrow().begin(slot) {
            error!("{ended} workers died while serving request {}; it is answered with an error", request.token.0);
            return Routed::Answer(mount, request.token, Some(Errno::EIO));
        }
        if matches!(packet, Packet::Missing(_)) && !self.journal.borrow().has_share(slot) {
            if self.refused.get().is_none_or(|last| last.elapsed() > REFUSED) {
                self.refused.set(Some(Instant::now()));
                warn!("user {} has too many lookups under way: more of them fail with EAGAIN", request.who.uid);
            }
            return Routed::Answer(mount, request.token, Some(Errno::EAGAIN));
        }
        let waited = self.journal.borrow().waited(slot);
        // For direct mounts the name is empty, like their only key.
        let (at, token) = (EntryId { mount, key: Key::from(request.name) }, request.token);
        Routed::Event(match packet {
            Packet::Missing(_) => Event::Missing { at, token, who: request.who, waited },
            Packet::Expire(_) => Event::Expire { at, token },
        })
    }
}
