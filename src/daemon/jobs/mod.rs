//! Carries out what the engine asks for: resolve, mount, unmount, expire.
//!
//! A job gets [`Tools`] and what it needs of the [`Mounts`], and returns its outcome. Jobs may read the
//! maps. They know neither the worker nor the engine, the requests or the life of the daemon.

pub(crate) mod alternatives;
pub(crate) mod amd_host_tree;
pub(crate) mod browse;
mod busy;
pub(crate) mod check;
pub(crate) mod copies;
pub(crate) mod covered;
pub(crate) mod detach;
pub(crate) mod expire;
pub(crate) mod fuse;
pub(crate) mod mount;
pub(crate) mod offsets;
pub(crate) mod own_timeout;
pub(crate) mod placeholder;
pub(crate) mod question;
mod ranking;
pub(crate) mod resolve;
mod servers;
pub(crate) mod submount;
pub(crate) mod unmount;
pub(crate) mod unmount_nested;

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use crate::daemon::mounts::Mounts;
use crate::daemon::state::State;
use crate::daemon::tools::Tools;
use crate::exec::TriggerError;
use crate::source::SourceError;
use crate::text::Escaped;

/// Tools of jobs that make autofs mounts.
#[derive(Debug, Clone)]
pub(crate) struct Means {
    /// The autofs mounts: new ones are made known there.
    pub(crate) mounts: Rc<Mounts>,
    /// The maps: submounts have maps of their own.
    pub(crate) state: Rc<RefCell<State>>,
    /// The tools.
    pub(crate) tools: Tools,
}

/// Why an offset mount or a submount could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MakeError {
    /// The autofs mount above it was unmounted meanwhile.
    #[error("the autofs mount above it is gone")]
    Gone,
    /// It has no control pipe.
    #[error("cannot make a control pipe: {0}")]
    Pipe(#[source] io::Error),
    /// The file system on which it would be made does not answer.
    #[error("the file system on {} does not answer", Escaped::path(.0))]
    Silent(PathBuf),
    /// The map of a submount cannot be read.
    #[error("{0}")]
    Map(#[from] Arc<SourceError>),
    /// autofs could not be mounted.
    #[error("{0}")]
    Trigger(#[from] TriggerError),
    /// Another file system is mounted at the place of a submount.
    #[error("{} is a mount point already", Escaped::path(.0))]
    Taken(PathBuf),
}
