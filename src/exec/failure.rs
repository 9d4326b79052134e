//! Why a plan could not be carried out.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::lanes::Late;
use crate::record::{Exit, Record, Run};
use crate::text::Escaped;

/// Why something could not be mounted or unmounted.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The key is no file name.
    #[error("{} is no place for an entry", Escaped::path(.0))]
    Key(PathBuf),
    /// Another file system was mounted over an autofs mount of ours, or it was unmounted.
    #[error("{} is not our autofs mount any more", Escaped::path(.0))]
    Covered(PathBuf),
    /// The place cannot be prepared or looked at.
    #[error("cannot use {}: {source}", Escaped::path(.path))]
    Place {
        /// The place.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// The plan has no mount to try.
    #[error("there is nothing to mount on {}", Escaped::path(.0))]
    Empty(PathBuf),
    /// None of the servers serves.
    #[error("no hosts available: {0}")]
    NoServer(String),
    /// The source cannot be reached.
    #[error("cannot open {}: {source}", Escaped(.path))]
    Source {
        /// The source.
        path: Vec<u8>,
        /// The error.
        source: io::Error,
    },
    /// A bind mount of a trigger that nothing is mounted on.
    #[error("can't bind to an autofs mount: {}", Escaped(.0))]
    AutofsSource(Vec<u8>),
    /// A bind mount of a place on itself, or of no absolute path.
    #[error("{} cannot be bound there", Escaped(.0))]
    BindSource(Vec<u8>),
    /// Another file system is mounted there.
    #[error("another file system is mounted on {}", Escaped::path(.0))]
    Occupied(PathBuf),
    /// No name of a file system type.
    #[error("{} is no type of a file system", Escaped(.0))]
    Type(Vec<u8>),
    /// fsck(8) has found errors that it cannot repair, or asks for a reboot.
    #[error("fsck refuses {}: {run}", Escaped(.device))]
    Fsck {
        /// The device.
        device: Vec<u8>,
        /// The run.
        run: Box<Run>,
    },
    /// The kernel refuses the mount or the unmount.
    #[error("{}: {source}", Escaped::path(.path))]
    Kernel {
        /// The place.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// A program cannot be started.
    #[error("cannot start {}: {source}", Escaped::path(.program))]
    Start {
        /// The program.
        program: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// A program has failed.
    #[error("{0}")]
    Program(Box<Run>),
    /// A program has ended with success, but nothing is mounted.
    #[error("{} succeeded, but nothing is mounted on {}", Escaped(.run.program()), Escaped::path(.path))]
    Nothing {
        /// The run.
        run: Box<Run>,
        /// The place.
        path: PathBuf,
    },
    /// The deadline has passed.
    #[error("{}: {late}", Escaped::path(.path))]
    Late {
        /// The place.
        path: PathBuf,
        /// The step that took too long.
        late: Late,
    },
}

impl Failure {
    /// Returns whether the unmount failed because the mount is in use, or may be in use: it was not unmounted in time.
    pub fn is_busy(&self) -> bool {
        match self {
            Self::Kernel { source, .. } => source.kind() == io::ErrorKind::ResourceBusy,
            Self::Program(_) | Self::Late { .. } => true,
            _ => false,
        }
    }

    /// Returns whether a deadline has passed.
    pub fn is_late(&self) -> bool {
        match self {
            Self::Late { .. } => true,
            Self::Program(run) => run.exit == Exit::Deadline,
            _ => false,
        }
    }

    /// Returns the run of the program that failed, if one did.
    pub fn run(&self) -> Option<&Run> {
        match self {
            Self::Program(run) | Self::Fsck { run, .. } | Self::Nothing { run, .. } => Some(run),
            _ => None,
        }
    }

    /// Makes the record of this failure, of an attempt that took `duration`.
    pub fn record(&self, duration: Duration) -> Record {
        Record { runs: self.run().cloned().into_iter().collect(), ..Record::of(self, duration) }
    }
}
