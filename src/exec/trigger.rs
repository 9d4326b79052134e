//! Autofs mounts themselves: mounted at their mount points and unmounted.

use std::ffi::OsStr;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::dirs::{DirError, Made, Maker};
use crate::engine::Kind;
use crate::sys::autofs::{self, NewAutofs, Options};

/// An autofs mount that was made.
#[derive(Debug)]
pub struct Trigger {
    /// Device number, encoded as in packets.
    pub dev: u32,
    /// The mount id in the mount table, if the kernel tells it.
    pub mount_id: Option<u32>,
    /// The directories that were made for it.
    pub created: Made,
    /// Whether it is mounted on a file system of another machine.
    pub remote: bool,
}

/// Why no autofs mount could be made.
#[derive(Debug, thiserror::Error)]
pub enum TriggerError {
    /// There is no directory to mount on.
    #[error("{0}")]
    Directory(#[from] DirError),
    /// The mount failed.
    #[error("{0}")]
    Mount(#[from] io::Error),
}

/// Mounts an autofs at `at`, with the directories that are missing. Returns `None` if it is to be an offset and something
/// is mounted there already: a file server may bring a mount of its own along. May wait.
///
/// # Errors
/// [`TriggerError`]. Then no directory is left.
pub fn mount_trigger(
    maker: &mut Maker,
    at: &Path,
    source: &[u8],
    write_end: BorrowedFd<'_>,
    kind: Kind,
    options: Options,
) -> Result<Option<Trigger>, TriggerError> {
    let point = maker.mount_point(at)?;
    if kind == Kind::Offset && point.is_mounted {
        return Ok(None);
    }
    let mounted = point.is_remote().and_then(|remote| {
        let source = OsStr::from_bytes(source);
        let new = autofs::mount_autofs(source, point.target(), point.guarded, write_end, kind, options)?;
        Ok((new, remote))
    });
    match mounted {
        Ok((NewAutofs { dev, mount_id }, remote)) => Ok(Some(Trigger { dev, mount_id, created: point.made, remote })),
        Err(e) => {
            point.made.remove();
            Err(e.into())
        }
    }
}
