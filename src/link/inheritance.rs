//! The descriptors and data that the keeper gives to a new worker.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Link, Pulse};
use crate::sys::children::Exit;
use crate::sys::memory::SharedMemory;

/// The descriptors and data of a new worker.
#[derive(Debug)]
pub struct Inheritance {
    /// The pipes that earlier workers have handed over: number and read end.
    pub pipes: Vec<(u32, OwnedFd)>,
    /// The journal's memory.
    pub journal: SharedMemory,
    /// The memory of the history.
    pub history: OwnedFd,
    /// Counter of the turns of the worker's loop.
    pub pulse: Arc<Pulse>,
    /// The worker's end of the socket to the keeper.
    pub link: Link,
    /// How many workers this daemon has had before.
    pub before: u32,
    /// Whether the worker before was killed from outside, so that no request is to be blamed for its death.
    pub spared: bool,
    /// How the worker before has ended.
    pub predecessor: Option<Predecessor>,
    /// Whether the worker before has died before it served.
    pub failed: bool,
    /// The path of the program, which may have been replaced since the daemon was started.
    pub program: PathBuf,
}

/// How a worker has ended that another one replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Predecessor {
    /// It has died.
    Died(Exit),
    /// It did not go on, and was killed by the keeper.
    Hung,
    /// Another program has replaced it.
    Retired,
}
