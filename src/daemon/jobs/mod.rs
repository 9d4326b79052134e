//! Carries out what the engine asks for: resolve, mount, unmount, expire.
//!
//! A job gets [`Tools`] and what it needs of the [`Mounts`], and returns its outcome. It knows neither the worker nor the
//! engine's state, the requests or the life of the daemon.

pub(crate) mod browse;
pub(crate) mod check;
pub(crate) mod detach;
pub(crate) mod expire;
pub(crate) mod offsets;
pub(crate) mod perform;
pub(crate) mod placeholder;
pub(crate) mod resolve;
pub(crate) mod submount;
pub(crate) mod trigger;
pub(crate) mod unmount;

use std::cell::RefCell;
use std::rc::Rc;

use crate::daemon::mounts::Mounts;
use crate::daemon::state::State;
use crate::daemon::tools::Tools;

/// What jobs that make autofs mounts work with.
#[derive(Debug, Clone)]
pub(crate) struct Means {
    /// The autofs mounts: new ones are made known there.
    pub(crate) mounts: Rc<Mounts>,
    /// The maps: submounts have maps of their own.
    pub(crate) state: Rc<RefCell<State>>,
    /// The tools.
    pub(crate) tools: Tools,
}
