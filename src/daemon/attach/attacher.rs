//! Attach: from what is wanted and what the mount table says to autofs mounts that we serve.
//!
//! The same at every start: a fresh one, after a crash, after an upgrade. An autofs mount is never recognised by a
//! remembered device or mount id but by its pipe: `pipe_ino=` in the mount table is the inode of a read end of ours,
//! or it is not ours.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::daemon::attach::opener::Opener;
use crate::daemon::mounts::table::{MountTable, Mounted};
use crate::engine::{Kind, MountId};
use crate::exec::dirs::{DirError, Made, Maker, Rules};
use crate::exec::{Trigger, TriggerError, mount_trigger};
use crate::fault;
use crate::sys::autofs::{self, Control};
use crate::sys::{children, path, procfs};
use crate::text::Escaped;

/// How long a dying owner may take to die: the worker of a keeper that was killed a moment ago.
const OWNER_GRACE: Duration = Duration::from_secs(1);

/// One autofs mount that is to be there.
#[derive(Debug)]
pub(crate) struct Job {
    /// Its number.
    pub(crate) id: MountId,
    /// Mount point.
    pub(crate) path: Arc<Path>,
    /// Kind.
    pub(crate) kind: Kind,
    /// Shown as the source in the mount table: the map's name.
    pub(crate) source: Vec<u8>,
    /// Timeout and options of the mount.
    pub(crate) options: autofs::Options,
    /// Permission bits for the root directory (`--mode`).
    pub(crate) mode: Option<u32>,
    /// The pipe that it is to write to.
    pub(crate) pipe: u32,
    /// How long it may take to open one that is there.
    pub(crate) patience: Duration,
}

/// An autofs mount that is ours now.
#[derive(Debug)]
pub(crate) struct Attached {
    /// Its number.
    pub(crate) id: MountId,
    /// The pipe that it writes to: not the wanted one if it was alive already.
    pub(crate) pipe: u32,
    /// Encoded as in packets.
    pub(crate) dev: u32,
    /// Directories that were made for it, to be removed with it.
    pub(crate) created: Made,
    /// It was there before: what is mounted below is to be looked at.
    pub(crate) found: bool,
}

/// Why a mount point cannot be ours.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachError {
    /// Another master serves it.
    #[error(
        "{} is served by another automounter, process {owner} ({program}); it is left alone: stop that one, or take the \
         mount point out of the master map",
        Escaped::path(path)
    )]
    Foreign {
        /// Mount point.
        path: Arc<Path>,
        /// Leader of the group that owns it.
        owner: i32,
        /// Its program.
        program: String,
    },
    /// The owner is in a pid namespace that cannot be seen from here.
    #[error(
        "{} belongs to a process group of another pid namespace (pgrp=0); taking it over would only kill it: run the daemon \
         in that pid namespace, or unmount it first",
        Escaped::path(path)
    )]
    OtherPidNamespace {
        /// Mount point.
        path: Arc<Path>,
    },
    /// Something else is mounted there.
    #[error("{}: already mounted as other than autofs ({})", Escaped::path(path), Escaped(fstype))]
    OtherFileSystem {
        /// Mount point.
        path: Arc<Path>,
        /// What.
        fstype: Vec<u8>,
    },
    /// Its dead owner has left a request open.
    #[error(
        "{}: a process waits there for an automounter that has died; it is served as soon as that process has ended",
        Escaped::path(.0)
    )]
    Blocked(Arc<Path>),
    /// There is no directory to mount on.
    #[error("{}: {source}", Escaped::path(path))]
    Directory {
        /// Mount point.
        path: Arc<Path>,
        /// Why not.
        source: DirError,
    },
    /// A system call failed.
    #[error("{}: cannot {what}: {source}", Escaped::path(path))]
    Io {
        /// Mount point.
        path: Arc<Path>,
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// What attaching needs.
#[derive(Debug)]
pub(crate) struct Attacher {
    /// The control device.
    pub(crate) control: Arc<Control>,
    /// Opens what may block.
    pub(crate) opener: Opener,
    /// The mount table, read once for all jobs.
    pub(crate) table: Arc<MountTable>,
    /// Our pipes: inode number of each, and its number.
    pub(crate) own: HashMap<u64, u32>,
    /// Which mount points are accepted.
    pub(crate) rules: Rules,
    /// Write ends of the pipes that jobs name.
    pub(crate) write_ends: HashMap<u32, OwnedFd>,
}

impl Attacher {
    /// Does all jobs in their order, parents before children. The write ends are closed when it returns.
    pub(crate) fn run(mut self, jobs: Vec<Job>) -> Vec<(MountId, Result<Attached, AttachError>)> {
        let mut dirs = Maker::new(self.rules);
        jobs.into_iter().map(|job| (job.id, self.attach(job, &mut dirs))).collect()
    }

    fn open(&mut self, job: &Job, dev: u32) -> io::Result<OwnedFd> {
        if self.table.may_block(&job.path, &self.own) {
            self.opener.open(&job.path, dev, job.patience)
        } else {
            self.control.open_mount(&job.path, dev)
        }
    }

    fn attach(&mut self, job: Job, dirs: &mut Maker) -> Result<Attached, AttachError> {
        let table = Arc::clone(&self.table);
        let there = table.at(&job.path);
        // An autofs may lie below the file system of a direct mount.
        let Some((line, shown)) = there.iter().rev().find_map(|line| Some((line, line.autofs?))) else {
            return match there.last() {
                Some(other) if job.kind == Kind::Indirect => {
                    Err(AttachError::OtherFileSystem { path: job.path, fstype: other.fstype.clone() })
                }
                _ => self.mount(job, dirs),
            };
        };
        if shown.kind != job.kind {
            return Err(AttachError::OtherFileSystem { path: job.path, fstype: b"autofs of another kind".to_vec() });
        }
        if line.speaks_through(&self.own).is_some() && shown.timeout == job.options.timeout {
            // As it should be.
        } else if line.speaks_through(&self.own).is_some() {
            let root = self.open(&job, line.dev);
            let set = root.and_then(|root| self.control.set_timeout(root.as_fd(), job.options.timeout));
            set.map_err(AttachError::io(&job.path, "set the timeout"))?;
        } else {
            if shown.pipe_ino != Some(-1) {
                let inode = shown.pipe_ino.and_then(|inode| u64::try_from(inode).ok());
                orphaned(&job.path, shown.pgrp, inode)?;
            }
            self.take_over(&job, line)?;
        }
        Ok(Attached { id: job.id, pipe: job.pipe, dev: line.dev, created: Made::default(), found: true })
    }

    /// Takes over the mount of a dead master: what waits for it is thrown out with ENOENT, what is mounted below stays.
    fn take_over(&mut self, job: &Job, line: &Mounted) -> Result<(), AttachError> {
        let fail = |what| AttachError::io(&job.path, what);
        let root = self.open(job, line.dev).map_err(fail("open the autofs mount that is there"))?;
        let write_end = self.write_end(job)?;
        self.control.catatonic(root.as_fd()).map_err(fail("set it catatonic"))?;
        fault::point("catatonic");
        self.control.set_pipe(root.as_fd(), write_end.as_fd()).map_err(fail("give it our pipe"))?;
        fault::point("taken over");
        self.control.set_timeout(root.as_fd(), job.options.timeout).map_err(fail("set the timeout"))?;
        Ok(())
    }

    fn write_end(&self, job: &Job) -> Result<&OwnedFd, AttachError> {
        self.write_ends.get(&job.pipe).ok_or_else(|| AttachError::Io {
            path: job.path.clone(),
            what: "find its pipe",
            source: io::Error::from(io::ErrorKind::NotFound),
        })
    }

    fn mount(&mut self, job: Job, dirs: &mut Maker) -> Result<Attached, AttachError> {
        if self.table.may_block(&job.path, &self.own) {
            self.opener.walk(&job.path, job.patience).map_err(AttachError::io(&job.path, "find the way"))?;
        }
        let write_end = self.write_end(&job)?;
        fault::point("attach");
        let mounted = mount_trigger(dirs, &job.path, &job.source, write_end.as_fd(), job.kind, job.options);
        match mounted {
            Ok(Some(Trigger { dev, created, .. })) => {
                fault::point("attached");
                let created = created.sharing(&job.path);
                if let Some(mode) = job.mode {
                    let root = self.control.open_mount(&job.path, dev);
                    let set = root.and_then(|root| path::chmod(root.as_fd(), mode));
                    set.map_err(AttachError::io(&job.path, "set its mode"))?;
                }
                Ok(Attached { id: job.id, pipe: job.pipe, dev, created, found: false })
            }
            Err(TriggerError::Directory(source)) => Err(AttachError::Directory { path: job.path, source }),
            Err(TriggerError::Mount(source)) => Err(AttachError::Io { path: job.path, what: "mount autofs", source }),
            Ok(None) => Err(AttachError::OtherFileSystem { path: job.path, fstype: Vec::new() }),
        }
    }
}

impl AttachError {
    /// What a system call at `path` says; `TimedOut` only comes from the [`Opener`].
    fn io(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::TimedOut => Self::Blocked(path.into()),
            _ => Self::Io { path: path.into(), what, source },
        }
    }
}

/// Makes sure that nobody serves the autofs mount at `path` any more. The group's number alone proves nothing: it may
/// have been used again, and the group may live without its leader.
fn orphaned(path: &Path, pgrp: i32, inode: Option<u64>) -> Result<(), AttachError> {
    if pgrp == 0 {
        return Err(AttachError::OtherPidNamespace { path: path.into() });
    }
    if !children::group_exists(pgrp) {
        return Ok(());
    }
    let deadline = Instant::now() + OWNER_GRACE;
    while let Some(owner) = procfs::group_reader(pgrp, inode) {
        // One of our own kind that was killed a moment ago is waited for.
        if !procfs::same_kind(owner, children::pid()) || Instant::now() >= deadline {
            return Err(AttachError::Foreign { path: path.into(), owner, program: procfs::name(owner) });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
