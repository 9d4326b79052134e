//! Why a plan could not be carried out.

use std::io;
use std::path::PathBuf;

use super::lanes::Late;
use crate::sys::process::Exit;
use crate::text::Escaped;

/// Why something is not mounted, or still is.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The key is no file name.
    #[error("{} is no place for an entry", Escaped::path(.0))]
    Key(PathBuf),
    /// Somebody has mounted something over an autofs mount of ours, or unmounted it.
    #[error("{} is not our autofs mount any more", Escaped::path(.0))]
    Covered(PathBuf),
    /// The place cannot be prepared or looked at.
    #[error("cannot use {}: {source}", Escaped::path(.path))]
    Place {
        /// The place.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The plan has no mount to try.
    #[error("there is nothing to mount on {}", Escaped::path(.0))]
    Empty(PathBuf),
    /// The source cannot be reached.
    #[error("cannot open {}: {source}", Escaped(.path))]
    Source {
        /// The source.
        path: Vec<u8>,
        /// Why not.
        source: io::Error,
    },
    /// A bind mount of a trigger that nothing is mounted on.
    #[error("can't bind to an autofs mount: {}", Escaped(.0))]
    AutofsSource(Vec<u8>),
    /// A bind mount of a place on itself, or of no absolute path.
    #[error("{} cannot be bound there", Escaped(.0))]
    BindSource(Vec<u8>),
    /// No name of a file system type.
    #[error("{} is no type of a file system", Escaped(.0))]
    Type(Vec<u8>),
    /// `fsck` has found what it cannot repair, or wants a reboot.
    #[error("fsck refuses {}: {how}", Escaped(.device))]
    Fsck {
        /// The device.
        device: Vec<u8>,
        /// How it ended.
        how: Exit,
    },
    /// The kernel refuses the mount or the unmount.
    #[error("{}: {source}", Escaped::path(.path))]
    Kernel {
        /// The place.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program cannot be started.
    #[error("cannot start {}: {source}", Escaped::path(.program))]
    Start {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A program has failed.
    #[error("{}: {how}{}{}", Escaped::path(.program), if .said.is_empty() { "" } else { ": " }, Escaped(.said))]
    Program {
        /// The program.
        program: PathBuf,
        /// How it ended.
        how: Exit,
        /// The last line that it said.
        said: Vec<u8>,
    },
    /// A program has said that it has mounted something, but it has not.
    #[error("{} succeeded, but nothing is mounted on {}", Escaped::path(.program), Escaped::path(.path))]
    Nothing {
        /// The program.
        program: PathBuf,
        /// The place.
        path: PathBuf,
    },
    /// It takes too long.
    #[error("{}: {late}", Escaped::path(.path))]
    Late {
        /// The place.
        path: PathBuf,
        /// Since when.
        late: Late,
    },
}

impl Failure {
    /// Is something in use that was to be unmounted (or so it must be taken, as it cannot be done in time)?
    pub fn is_busy(&self) -> bool {
        match self {
            Self::Kernel { source, .. } => source.kind() == io::ErrorKind::ResourceBusy,
            Self::Program { .. } | Self::Late { .. } => true,
            _ => false,
        }
    }

    /// Has it failed for lack of time?
    pub fn is_late(&self) -> bool {
        matches!(self, Self::Late { .. } | Self::Program { how: Exit::Deadline, .. })
    }
}
