//! Reads the control pipes: each packet goes into the journal and to the [`Receiver`].

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use log::error;

use super::Requests;
use crate::daemon::mounts::Mounts;
use crate::daemon::mounts::pipes::Pipe;
use crate::engine::{Errno, Requester, Token};
use crate::link::journal::{Read, Slot};
use crate::source;

/// Receives what is read from a pipe.
pub(crate) trait Receiver {
    /// Serves the packet in `slot`, which came from the pipe with this number.
    fn packet(&self, slot: Slot, pipe: u32);

    /// Reacts to a restore of this process. The packet in `fresh` was read after the restore.
    fn restored(&self, fresh: Option<Slot>);

    /// Does what can wait until the packets that were read together are served.
    fn served(&self);

    /// Notes a lookup that has failed because no worker served it in time.
    fn refused(&self, refused: Refused);

    /// Reacts to a pipe without writers: the last copies of its mounts were unmounted, by us or from outside, or set catatonic.
    fn abandoned(&self, pipe: &Pipe);
}

/// A lookup that no worker served in time.
#[derive(Debug)]
pub(crate) struct Refused {
    /// The mount point of the autofs mount.
    pub(crate) mount_point: PathBuf,
    /// What was looked up.
    pub(crate) path: PathBuf,
    pub(crate) token: Token,
    pub(crate) who: Requester,
    /// For how long it has waited.
    pub(crate) waited: Duration,
    pub(crate) error: Errno,
}

/// Reads a pipe as long as mounts write to it.
pub(crate) async fn serve(requests: Rc<Requests>, mounts: Rc<Mounts>, pipe: Rc<Pipe>, receiver: impl Receiver) {
    loop {
        let Some(registration) = pipe.registration() else { return };
        let Ok(mut ready) = registration.readable().await else { return };
        let closed = ready.ready().is_read_closed();
        match serve_all(&requests, &mounts, &pipe, &receiver) {
            Halt::Empty if closed => {
                drop(ready);
                if let Err(e) = pipe.register_again(registration) {
                    return error!("control pipe {} cannot be read any more: {e}", pipe.number);
                }
            }
            Halt::Empty => ready.clear_ready(),
            Halt::Full => requests.room.notified().await,
            Halt::End => {
                pipe.read.set(false);
                return receiver.abandoned(&pipe);
            }
        }
    }
}

/// Why reading a pipe stops for now.
enum Halt {
    /// The pipe is empty.
    Empty,
    /// The journal is full, or packets are to be left in the pipes.
    Full,
    /// The pipe has no writer any more.
    End,
}

/// Maximum number of packets that are read before the first of them is served. What they have in common is done once, such as the
/// look at the map file. The first packet that comes is served before the next one is read.
const BATCH: usize = 16;

/// Serves all packets that are now in a pipe.
fn serve_all(requests: &Requests, mounts: &Mounts, pipe: &Pipe, receiver: &impl Receiver) -> Halt {
    let (mut slots, mut most) = (Vec::new(), 1);
    loop {
        let halt = read_together(requests, pipe, receiver, &mut slots, most);
        most = BATCH.min(2 * most);
        requests.reading.set(true);
        source::look_once(|| {
            for (place, slot) in slots.drain(..).enumerate() {
                // A restore since they were read has invalidated all that are left.
                if place > 0 && pipe.was_restored() {
                    return receiver.restored(None);
                }
                receiver.packet(slot, pipe.number);
            }
        });
        slots.clear();
        requests.reading.set(false);
        receiver.served();
        mounts.close_roots();
        if let Some(halt) = halt {
            return halt;
        }
    }
}

/// Reads at most so many packets that are now in a pipe. Returns why it has stopped, or `None` if there may be more.
fn read_together(
    requests: &Requests,
    pipe: &Pipe,
    receiver: &impl Receiver,
    slots: &mut Vec<Slot>,
    most: usize,
) -> Option<Halt> {
    while slots.len() < most {
        match requests.read(pipe) {
            None => return Some(Halt::Full),
            Some(Ok(Read::Packet(slot))) => {
                // Checked after the read, so that this packet certainly comes from after the restore.
                if pipe.was_restored() {
                    slots.clear();
                    receiver.restored(Some(slot));
                }
                slots.push(slot);
            }
            Some(Ok(Read::Nothing)) => return Some(Halt::Empty),
            Some(Ok(Read::End)) => return Some(Halt::End),
            Some(Err(e)) => {
                error!("cannot read control pipe {}: {e}", pipe.number);
                return Some(Halt::Empty);
            }
        }
    }
    None
}

impl Requests {
    /// Reads one packet into the journal. Returns `None` if packets must not be read now.
    fn read(&self, pipe: &Pipe) -> Option<std::io::Result<Read>> {
        let mut journal = self.journal.borrow_mut();
        if self.held.get() {
            return None;
        }
        if !journal.has_room(pipe.number) {
            self.short_of_room.set(true);
            return None;
        }
        Some(journal.read(pipe.number, pipe.fd()))
    }

    /// Reads and drops all packets of these pipes, because no process waits for an answer any more.
    pub(crate) fn discard(&self, pipes: &[Rc<Pipe>]) {
        let mut journal = self.journal.borrow_mut();
        for pipe in pipes {
            while let Ok(Read::Packet(slot)) = journal.read(pipe.number, pipe.fd()) {
                journal.clear(slot);
            }
        }
    }
}
