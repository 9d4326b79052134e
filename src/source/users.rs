//! The user database, asked in a lane of its own.
//!
//! Modules of the name service switch may ask servers. What was asked a moment ago is not asked again, one user is asked for
//! by one thread at a time, and a database that does not answer is answered for by what it said before.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{Flight, Readers};
use crate::map::User;
use crate::mutex::lock;
use crate::sys::user;

/// For so long a user is not asked for again.
const FRESH: Duration = Duration::from_secs(5);

/// Users kept at most.
const KEPT_MAX: usize = 4096;

/// The user database with what is known of it.
#[derive(Debug)]
pub struct Users {
    readers: Readers,
    look_up: fn(u32, u32) -> User,
    slots: Mutex<HashMap<(u32, u32), Arc<Slot>>>,
}

#[derive(Debug, Default)]
struct Slot {
    asking: Flight,
    known: Mutex<Option<(Arc<User>, Instant)>>,
    /// Callers that have stopped waiting for the question that is under way.
    gave_up: Mutex<usize>,
}

impl Users {
    /// The user database of this machine, asked by so many threads at a time.
    pub fn new(width: usize) -> Self {
        Self::with(look_up, width)
    }

    fn with(look_up: fn(u32, u32) -> User, width: usize) -> Self {
        Self { readers: Readers::new(width), look_up, slots: Mutex::default() }
    }

    /// Returns the names of a user and a group if they were asked for a moment ago. Never waits.
    pub fn cached(&self, uid: u32, gid: u32) -> Option<Arc<User>> {
        lock(&self.slots).get(&(uid, gid))?.fresh()
    }

    /// Asks for the names of a user and a group. Returns what was known before if there is no answer by the deadline, and
    /// `None` if nothing was known.
    pub async fn find(&self, uid: u32, gid: u32, deadline: Instant) -> Option<Arc<User>> {
        let slot = self.slot(uid, gid);
        if let Some(user) = slot.fresh() {
            return Some(user);
        }
        // An earlier question has not been answered in time: nobody waits as long again.
        let deadline = if *lock(&slot.gave_up) > 0 { Instant::now() } else { deadline };
        let work = {
            let (slot, look_up, readers) = (Arc::clone(&slot), self.look_up, self.readers.clone());
            move |_| async move {
                if let Ok(user) = readers.run(move || look_up(uid, gid)).await {
                    *lock(&slot.known) = Some((Arc::new(user), Instant::now()));
                }
                *lock(&slot.gave_up) = 0;
            }
        };
        if timeout_at(deadline, slot.asking.join(work)).await.is_err() {
            *lock(&slot.gave_up) += 1;
        }
        let known = lock(&slot.known);
        known.as_ref().map(|(user, _)| Arc::clone(user))
    }

    fn slot(&self, uid: u32, gid: u32) -> Arc<Slot> {
        let mut slots = lock(&self.slots);
        if slots.len() >= KEPT_MAX && !slots.contains_key(&(uid, gid)) {
            // A slot that is in use is known to its user, too.
            slots.retain(|_, slot| Arc::strong_count(slot) > 1 || slot.fresh().is_some());
        }
        Arc::clone(slots.entry((uid, gid)).or_default())
    }
}

impl Slot {
    fn fresh(&self) -> Option<Arc<User>> {
        let known = lock(&self.known);
        known.as_ref().filter(|(_, asked)| asked.elapsed() < FRESH).map(|(user, _)| Arc::clone(user))
    }
}

/// Asks the user database. Blocks.
fn look_up(uid: u32, gid: u32) -> User {
    let bytes = |text: std::ffi::OsString| text.as_bytes().to_vec();
    let entry = user::user(uid).ok().flatten();
    let group = user::group(gid).ok().flatten().map(bytes);
    let (name, home) = entry.map_or((None, None), |entry| (Some(bytes(entry.name)), Some(bytes(entry.home))));
    User { uid, gid, name, group, home }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// A database that does not answer for odd numbers.
    fn hang(uid: u32, gid: u32) -> User {
        if uid % 2 == 1 {
            thread::sleep(Duration::from_secs(3600));
        }
        User { uid, gid, name: Some(uid.to_string().into_bytes()), ..User::default() }
    }

    #[test]
    fn a_user_who_is_not_found_in_time_delays_no_other() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let users = Users::with(hang, 2);
        runtime.block_on(async {
            let within = |ms| Instant::now() + Duration::from_millis(ms);
            for uid in [1, 3, 5, 1, 3, 5] {
                assert!(users.find(uid, 0, within(150)).await.is_none());
            }
            let found = users.find(2, 0, within(20_000)).await.unwrap();
            assert_eq!(found.name.as_deref(), Some(&b"2"[..]));
            assert_eq!(users.cached(2, 0), Some(found));
            assert!(users.cached(1, 0).is_none());
        });
        runtime.shutdown_background();
    }
}
