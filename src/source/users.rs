//! The user database, asked in lanes of its own.
//!
//! Modules of the name service switch may ask servers. The users of requests and the names of keys have a lane each: a walk over
//! names that hang delays no request that needs the name of its user.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use log::warn;
use tokio::time::Instant;

use super::asked::Asked;
use crate::map::User;
use crate::sys::user;
use crate::text::Escaped;

/// The user database with what is known of it.
#[derive(Debug)]
pub struct Users {
    users: Asked<(u32, u32), Arc<User>>,
    /// Whether there is a user of this name; `None`: the database could not tell.
    names: Asked<Arc<[u8]>, Option<bool>>,
}

impl Users {
    /// The user database of this machine, asked by so many threads at a time in each lane.
    pub fn new(width: usize) -> Self {
        Self { users: Asked::new(look_up, width), names: Asked::new(is_name, width) }
    }

    /// Returns the names of a user and a group if they were asked for a moment ago. Never waits.
    pub fn cached(&self, uid: u32, gid: u32) -> Option<Arc<User>> {
        self.users.cached(&(uid, gid))
    }

    /// Asks for the names of a user and a group. Returns what was known before if there is no answer by the deadline, and
    /// `None` if nothing was known.
    pub async fn find(&self, uid: u32, gid: u32, deadline: Instant) -> Option<Arc<User>> {
        self.users.find(&(uid, gid), deadline).await
    }

    /// Returns whether there is a user of this name, if that was asked a moment ago. Never waits.
    pub fn cached_name(&self, name: &[u8]) -> Option<bool> {
        self.names.cached(&name.into()).flatten()
    }

    /// Returns whether there is a user of this name, as the database said last. Never waits.
    pub fn known_name(&self, name: &[u8]) -> Option<bool> {
        self.names.known(&name.into()).flatten()
    }

    /// Asks whether there is a user of this name. Returns what was known before if there is no answer by the deadline, and `None`
    /// if nothing was known or the database cannot tell.
    pub async fn has_name(&self, name: &[u8], deadline: Instant) -> Option<bool> {
        self.names.find(&name.into(), deadline).await.flatten()
    }
}

/// Asks the user database. Blocks.
fn look_up(&(uid, gid): &(u32, u32)) -> Arc<User> {
    let bytes = |text: std::ffi::OsString| text.as_bytes().to_vec();
    let entry = user::user(uid).ok().flatten();
    let group = user::group(gid).ok().flatten().map(bytes);
    let (name, home) = entry.map_or((None, None), |entry| (Some(bytes(entry.name)), Some(bytes(entry.home))));
    Arc::new(User { uid, gid, name, group, home })
}

/// Asks the user database for a name. Blocks.
fn is_name(name: &Arc<[u8]>) -> Option<bool> {
    let is_there = user::is_name(OsStr::from_bytes(name));
    if let Err(error) = &is_there {
        warn!("whether there is a user {} is not known: {error}", Escaped(name));
    }
    is_there.ok()
}
