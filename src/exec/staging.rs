//! A private place where a program mounts something, to be moved to its mount point by descriptor.
//!
//! Mount helpers take paths. Where a user or the server of a file system can rename a directory on the way to the mount
//! point, the path may lead elsewhere by the time the helper walks it. There the helper gets a path below a directory
//! that only root can enter, and what it has mounted is moved with move_mount(2).

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::dirs::{self, Made};
use super::place::{Site, Stands};
use crate::instance;
use crate::map::Propagation;
use crate::sys::mount::{self, Target};
use crate::sys::mount_flags::Flags;
use crate::sys::{children, path};

/// The directory in the stage on which the program mounts.
const NAME: &str = "mount";

/// A tmpfs of our own with one empty directory. It is taken away when dropped, with what is mounted in it.
#[derive(Debug)]
pub(super) struct StagingMount {
    root: OwnedFd,
    dev: u64,
    path: PathBuf,
    made: Option<Made>,
}

impl StagingMount {
    /// Makes one. May wait.
    ///
    /// # Errors
    /// Those of making a directory and of mount(2).
    pub(super) fn new() -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = instance::directory();
        let below = directory.join(format!("stage.{}.{number}", children::pid()));
        let mut maker = dirs::Maker::default();
        let point = maker.mount_point(&below).map_err(io::Error::other)?;
        if !point.guarded {
            return Err(io::Error::other(format!("others than root can write to {}", directory.display())));
        }
        mount::mount(b"autofs", point.target(), b"tmpfs", Flags::default(), b"mode=0700,size=4k")?;
        let root = path::open_at_nofollow(point.target().dir, point.target().name)?;
        let (path, made) = (point.path.join(NAME), Some(point.made));
        let dev = path::fstat(root.as_fd())?.dev;
        let stage = Self { root, dev, path, made };
        // A mount can only be moved away from a private one.
        mount::set_propagation(stage.root.as_fd(), Propagation::Private)?;
        path::mkdir_at(stage.root.as_fd(), Path::new(NAME))?;
        Ok(stage)
    }

    /// Returns the path for the program.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the place to look at for what the program has mounted.
    pub(super) fn site(&self) -> Site<'_> {
        let target = Target { dir: self.root.as_fd(), name: Path::new(NAME), path: &self.path };
        Site { target, dev: self.dev }
    }

    /// Moves what the program has mounted to `target`.
    ///
    /// # Errors
    /// `NotFound`: it has mounted nothing. Else those of move_mount(2).
    pub(super) fn move_to(&self, target: Target<'_>) -> io::Result<()> {
        if self.site().look()? != Stands::Mount {
            return Err(io::ErrorKind::NotFound.into());
        }
        let top = path::open_at_nofollow(self.root.as_fd(), Path::new(NAME))?;
        mount::move_to(top.as_fd(), target)
    }
}

impl Drop for StagingMount {
    fn drop(&mut self) {
        let _ = mount::detach(self.root.as_fd());
        self.made.take().map(Made::remove);
    }
}
