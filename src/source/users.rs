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
    /// The ids of users and groups, by name.
    ids: Asked<Account, Result<Option<u32>, String>>,
}

/// A user or group, by its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Account {
    /// A user.
    User(String),
    /// A group.
    Group(String),
}

impl Account {
    /// The user with this name or number.
    pub fn user(name: &[u8]) -> Self {
        Self::User(String::from_utf8_lossy(name).into_owned())
    }

    /// The group with this name or number.
    pub fn group(name: &[u8]) -> Self {
        Self::Group(String::from_utf8_lossy(name).into_owned())
    }

    /// Returns the id. A number is its own id. Blocks.
    ///
    /// # Errors
    /// Returns half a sentence: an error of the database, or that no user has this name.
    pub fn id(&self) -> Result<u32, String> {
        self.number().map_or_else(|| self.found(&look_up_id(self)), Ok)
    }

    fn number(&self) -> Option<u32> {
        let (Self::User(name) | Self::Group(name)) = self;
        name.parse().ok()
    }

    fn found(&self, answer: &Result<Option<u32>, String>) -> Result<u32, String> {
        let (kind, name) = match self {
            Self::User(name) => ("user", name),
            Self::Group(name) => ("group", name),
        };
        let name = Escaped(name.as_bytes());
        match answer {
            Ok(Some(id)) => Ok(*id),
            Ok(None) => Err(format!("there is no {kind} {name}")),
            Err(error) => Err(format!("whether there is a {kind} {name} is not known: {error}")),
        }
    }
}

impl Users {
    /// The user database of this machine, asked by so many threads at a time in each lane.
    pub fn new(width: usize) -> Self {
        Self { users: Asked::new(look_up, width), names: Asked::new(is_name, width), ids: Asked::new(look_up_id, 1) }
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

    /// Returns the id of a user or group.
    ///
    /// # Errors
    /// Returns what [`Account::id`] does, and that there is no answer by the deadline.
    pub async fn id(&self, account: &Account, deadline: Instant) -> Result<u32, String> {
        if let Some(number) = account.number() {
            return Ok(number);
        }
        match self.ids.find(account, deadline).await {
            Some(answer) => account.found(&answer),
            None => account.found(&Err("the user database does not answer".to_owned())),
        }
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

/// Asks the user database for an id. Blocks.
fn look_up_id(account: &Account) -> Result<Option<u32>, String> {
    let found = match account {
        Account::User(name) => user::uid(name),
        Account::Group(name) => user::gid(name),
    };
    found.map_err(|error| error.to_string())
}

/// Asks the user database for a name. Blocks.
fn is_name(name: &Arc<[u8]>) -> Option<bool> {
    let is_there = user::is_name(OsStr::from_bytes(name));
    if let Err(error) = &is_there {
        warn!("whether there is a user {} is not known: {error}", Escaped(name));
    }
    is_there.ok()
}
