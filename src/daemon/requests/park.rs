//! Parked packets: searches the mount table for their autofs mounts, until they are known or certainly not ours.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use log::debug;

use super::Requests;
use super::answer::Pending;
use super::elsewhere::ByDevice;
use super::read::Receiver;
use crate::blocking;
use crate::daemon::mounts::Mounts;
use crate::daemon::mounts::table::MountTable;
use crate::daemon::tools::Tools;
use crate::engine::Errno;
use crate::link::journal::Slot;
use crate::sys::packet::{Packet, Request};
use crate::task::spawn_local;

/// How long a packet stays parked at most while autofs mounts are continuously being made.
const KNOWN_WITHIN: Duration = Duration::from_secs(10);

/// Interval between two readings of the mount table.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The same when a packet has been parked for long.
const LOOK_SELDOM: Duration = Duration::from_millis(500);

/// Searches the mount table for the mounts of parked packets until no packet is parked. A packet whose mount is found is
/// served. A packet whose mount is not found is answered, unless a mount is being made that it could be for. Returns at once if
/// another search is running.
/// Lookups that have waited for `limit` milliseconds fail.
pub(crate) async fn find_mounts(
    requests: Rc<Requests>,
    mounts: Rc<Mounts>,
    tools: Tools,
    limit: u64,
    receiver: impl Receiver,
) {
    if requests.searching.replace(true) {
        return;
    }
    let begun = Instant::now();
    loop {
        let (waiting, making) = (requests.parked_slots(), mounts.is_making());
        if waiting.is_empty() {
            break;
        }
        if let Ok(table) = blocking::run(MountTable::read).await {
            mounts.find_devices(&table);
            requests.serve_parked(&mounts, &receiver);
            // Only for packets that were parked before the table was read.
            if !making || begun.elapsed() > KNOWN_WITHIN {
                requests.give_up(&waiting, &table, &mounts, &tools);
            }
        }
        requests.refuse_overdue(&mounts, &tools, limit, &receiver).await;
        tokio::time::sleep(if begun.elapsed() > KNOWN_WITHIN { LOOK_SELDOM } else { LOOK_AGAIN }).await;
    }
    requests.searching.set(false);
}

impl Requests {
    fn parked_slots(&self) -> HashSet<Slot> {
        self.parked.borrow().iter().map(|(slot, _)| *slot).collect()
    }

    /// Routes all parked packets again.
    pub(crate) fn serve_parked(&self, mounts: &Mounts, receiver: &impl Receiver) {
        for (slot, pipe) in self.parked.take() {
            receiver.packet(slot, pipe);
        }
        mounts.close_roots();
    }

    /// Answers those of these packets that are still parked. Their mounts are not ours any more, but no other process can
    /// answer them.
    fn give_up(self: &Rc<Self>, slots: &HashSet<Slot>, table: &MountTable, mounts: &Mounts, tools: &Tools) {
        let (given_up, parked): (Vec<_>, Vec<_>) =
            self.parked.take().into_iter().partition(|(slot, _)| slots.contains(slot));
        self.parked.replace(parked);
        let mut elsewhere = ByDevice::new();
        for (slot, pipe) in given_up {
            let bytes = self.journal.borrow().packet(slot);
            let Ok(packet) = Packet::decode(&bytes) else { continue };
            if mounts.route(pipe, packet.request()).is_some() {
                // Its mount is known; it is served when the entries of the mount are known, too.
                self.parked.borrow_mut().push((slot, pipe));
                continue;
            }
            let Request { dev, token, .. } = *packet.request();
            let line = table.mounts().iter().rev().find(|line| line.autofs.is_some() && line.dev == dev);
            debug!("request {} on control pipe {pipe} is for no mount of ours", token.0);
            match line {
                Some(line) => {
                    let (path, error) = (line.target.as_path().into(), Some(Errno::ENOENT));
                    let lost = self.lost(mounts, Some(slot));
                    let pending = Pending { path, dev, token, error, slot: Some(slot), lost };
                    spawn_local(Rc::clone(self).retry_until_answered(tools.clone(), pending));
                }
                None => self.lose(&mut elsewhere, mounts, slot),
            }
        }
        for (dev, lost) in elsewhere {
            spawn_local(Rc::clone(self).answer_elsewhere(tools.clone(), dev, lost));
        }
    }
}
