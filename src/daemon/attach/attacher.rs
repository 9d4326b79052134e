//! Attaches autofs mounts: compares the configured mounts with the mount table, and mounts or takes over each of them.
//!
//! This is the same at every start: the first one, after a crash, after an upgrade. Our autofs mounts are not identified by
//! device number or mount id but by their pipe: `pipe_ino=` in the mount table is the inode of one of our read ends.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::opener::Opener;
use super::verdict::{Verdict, verdict};
use crate::daemon::mounts::table::{MountTable, Mounted};
use crate::engine::{Kind, MountId};
use crate::exec::dirs::{DirError, Made, Maker, Rules};
use crate::exec::{Trigger, TriggerError, mount_trigger};
use crate::fault;
use crate::sys::autofs::{self, Control};
use crate::sys::{children, path, procfs};
use crate::text::Escaped;

/// How long to wait for the death of an owner, for example the worker of a keeper that was just killed.
const OWNER_GRACE: Duration = Duration::from_secs(1);

/// One autofs mount to attach.
#[derive(Debug)]
pub(crate) struct Job {
    /// The id.
    pub(crate) id: MountId,
    /// The mount point.
    pub(crate) path: Arc<Path>,
    /// Indirect or direct.
    pub(crate) kind: Kind,
    /// The source shown in the mount table: the name of the map.
    pub(crate) source: Vec<u8>,
    /// The timeout and options.
    pub(crate) options: autofs::Options,
    /// Permission bits of the root directory (`--mode`).
    pub(crate) mode: Option<u32>,
    /// The number of its pipe.
    pub(crate) pipe: u32,
    /// How long opening an existing mount may take.
    pub(crate) time_limit: Duration,
}

/// An attached autofs mount.
#[derive(Debug)]
pub(crate) struct Attached {
    /// The id.
    pub(crate) id: MountId,
    /// The number of its pipe. Not the one in the job if the mount was alive already.
    pub(crate) pipe: u32,
    /// The device number, encoded as in packets.
    pub(crate) dev: u32,
    /// The mount id in the mount table, if it is known.
    pub(crate) mount_id: Option<u32>,
    /// Directories that were created for it, to be removed with it.
    pub(crate) created: Made,
    /// Whether it existed before, so that mounts below it must be adopted.
    pub(crate) found: bool,
}

/// Why an autofs mount could not be attached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachError {
    /// Another automounter serves it.
    #[error(
        "{} is served by another automounter, process {owner} ({program}); it is left alone: stop that one, or take the \
         mount point out of the master map",
        Escaped::path(path)
    )]
    Foreign {
        /// The mount point.
        path: Arc<Path>,
        /// Leader of the group that owns it.
        owner: i32,
        /// The name of its program.
        program: String,
    },
    /// The owner is in a pid namespace that is not visible.
    #[error(
        "{} belongs to a process group of another pid namespace (pgrp=0); taking it over would only make it fail: run the daemon \
         in that pid namespace, or unmount it first",
        Escaped::path(path)
    )]
    OtherPidNamespace {
        /// The mount point.
        path: Arc<Path>,
    },
    /// Another file system is mounted there.
    #[error("{}: already mounted as other than autofs ({})", Escaped::path(path), Escaped(fstype))]
    OtherFileSystem {
        /// The mount point.
        path: Arc<Path>,
        /// The type of the file system.
        fstype: Vec<u8>,
    },
    /// It has an unanswered request of a dead owner.
    #[error(
        "{}: a process waits there for an automounter that has died; the mount point is served when that process has ended",
        Escaped::path(.0)
    )]
    Blocked(Arc<Path>),
    /// The server of a file system on the way does not answer.
    #[error(
        "{}: the file system on {} does not answer; the mount point is served when it does",
        Escaped::path(path),
        Escaped::path(on)
    )]
    Silent {
        /// The mount point.
        path: Arc<Path>,
        /// Where the file system is mounted.
        on: PathBuf,
    },
    /// The mount point directory does not exist and could not be created.
    #[error("{}: {source}", Escaped::path(path))]
    Directory {
        /// The mount point.
        path: Arc<Path>,
        /// The error.
        source: DirError,
    },
    /// A system call failed.
    #[error("{}: cannot {what}: {source}", Escaped::path(path))]
    Io {
        /// The mount point.
        path: Arc<Path>,
        /// The operation.
        what: &'static str,
        /// The error.
        source: io::Error,
    },
}

/// Attaches autofs mounts.
#[derive(Debug)]
pub(crate) struct Attacher {
    /// The control device.
    pub(crate) control: Arc<Control>,
    /// Opens roots whose opening may block.
    pub(crate) opener: Opener,
    /// The mount table, read once for all jobs.
    pub(crate) table: Arc<MountTable>,
    /// The numbers of our pipes by inode number.
    pub(crate) own: HashMap<u64, u32>,
    /// Rules for mount points.
    pub(crate) rules: Rules,
    /// Write ends of the pipes of the jobs.
    pub(crate) write_ends: HashMap<u32, OwnedFd>,
    /// The file systems whose servers have not answered.
    pub(crate) silent: HashSet<PathBuf>,
}

impl Attacher {
    /// Carries out all jobs in order, parents before children, and returns their results and durations. Closes the write ends.
    pub(crate) fn run(mut self, jobs: Vec<Job>) -> Vec<(MountId, Result<Attached, AttachError>, Duration)> {
        let mut dirs = Maker::new(self.rules);
        let mut attach = |job: Job| {
            let (id, begun) = (job.id, Instant::now());
            (id, self.attach(job, &mut dirs), begun.elapsed())
        };
        jobs.into_iter().map(&mut attach).collect()
    }

    fn open(&mut self, job: &Job, dev: u32) -> io::Result<OwnedFd> {
        if self.table.may_block(&job.path, &self.own) {
            self.opener.open(&job.path, dev, job.time_limit)
        } else {
            self.control.open_mount(&job.path, dev)
        }
    }

    /// Walks to the mount point in another process, if that may block.
    fn find_way(&mut self, job: &Job) -> Result<(), AttachError> {
        if !self.table.may_block(&job.path, &self.own) {
            return Ok(());
        }
        let Some(on) = self.table.server_above(&job.path).map(|line| line.target.clone()) else {
            return self.opener.walk(&job.path, job.time_limit).map_err(AttachError::io(&job.path, "find the way"));
        };
        if self.silent.contains(&on) || self.opener.walk(&job.path, job.time_limit).is_err() {
            self.silent.insert(on.clone());
            return Err(AttachError::Silent { path: job.path.clone(), on });
        }
        Ok(())
    }

    fn attach(&mut self, job: Job, dirs: &mut Maker) -> Result<Attached, AttachError> {
        let table = Arc::clone(&self.table);
        if table.server_above(&job.path).is_some() {
            self.find_way(&job)?;
        }
        let line = match verdict(table.at(&job.path), job.kind, job.options.timeout, &self.own) {
            Verdict::Mount => return self.mount(job, dirs),
            Verdict::Leave(fstype) => {
                return Err(AttachError::OtherFileSystem { path: job.path, fstype: fstype.to_vec() });
            }
            Verdict::Keep(line) => line,
            Verdict::SetTimeout(line) => {
                let root = self.open(&job, line.dev);
                let set = root.and_then(|root| self.control.set_timeout(root.as_fd(), job.options.timeout));
                set.map_err(AttachError::io(&job.path, "set the timeout"))?;
                line
            }
            Verdict::TakeOver(line) => {
                self.take_over(&job, line)?;
                line
            }
            Verdict::TakeOverOrphan(line, pgrp, inode) => {
                orphaned(&job.path, pgrp, inode)?;
                self.take_over(&job, line)?;
                line
            }
        };
        let (dev, mount_id) = (line.dev, Some(line.id));
        Ok(Attached { id: job.id, pipe: job.pipe, dev, mount_id, created: Made::default(), found: true })
    }

    /// Takes over the mount of a dead owner. Waiting lookups fail with ENOENT; mounts below it stay.
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
        if self.table.server_above(&job.path).is_none() {
            self.find_way(&job)?;
        }
        let write_end = self.write_end(&job)?;
        fault::point("attach");
        let mounted = mount_trigger(dirs, &job.path, &job.source, write_end.as_fd(), job.kind, job.options);
        match mounted {
            Ok(Some(Trigger { dev, mount_id, created, .. })) => {
                fault::point("attached");
                let created = created.sharing(&job.path);
                if let Some(mode) = job.mode {
                    let root = self.control.open_mount(&job.path, dev);
                    let set = root.and_then(|root| path::chmod(root.as_fd(), mode));
                    set.map_err(AttachError::io(&job.path, "set its mode"))?;
                }
                Ok(Attached { id: job.id, pipe: job.pipe, dev, mount_id, created, found: false })
            }
            Err(TriggerError::Directory(source)) => Err(AttachError::Directory { path: job.path, source }),
            Err(TriggerError::Mount(source)) => Err(AttachError::Io { path: job.path, what: "mount autofs", source }),
            Ok(None) => Err(AttachError::OtherFileSystem { path: job.path, fstype: Vec::new() }),
        }
    }
}

impl AttachError {
    /// Converts the error of a system call at `path`. `TimedOut` only comes from the [`Opener`].
    fn io(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::TimedOut => Self::Blocked(path.into()),
            _ => Self::Io { path: path.into(), what, source },
        }
    }
}

/// Checks that no process serves the autofs mount at `path` any more. The process group number alone is not sufficient: it may
/// have been reused, and the group may exist without its leader.
///
/// # Errors
/// Returns the owner if there is one.
fn orphaned(path: &Path, pgrp: i32, inode: Option<u64>) -> Result<(), AttachError> {
    if pgrp == 0 {
        return Err(AttachError::OtherPidNamespace { path: path.into() });
    }
    if !children::group_exists(pgrp) {
        return Ok(());
    }
    let deadline = Instant::now() + OWNER_GRACE;
    while let Some(owner) = procfs::group_reader(pgrp, inode) {
        // Wait for an automounter of the same program that was just killed.
        if !procfs::same_kind(owner, children::pid()) || Instant::now() >= deadline {
            return Err(AttachError::Foreign { path: path.into(), owner, program: procfs::name(owner) });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
