//! Unmounts the file systems of entries, and removes what is left of them.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use log::debug;
use tokio::sync::oneshot;

use super::lanes::{Claim, Lane, Lanes, Late};
use super::place::{Opened, Stands};
use super::program_run::{Call, Runner};
use super::settings::{Method, Settings};
use super::way;
use super::{Failure, Place};
use crate::engine::Kind;
use crate::mutex::lock;
use crate::record::{Exit, Run};
use crate::sys::mount::UnmountDir;
use crate::sys::process::Program;
use crate::sys::{mount, mount_id, path};
use crate::text::Escaped;

/// The pauses between two looks whether a program has unmounted the file system: the first, and the longest.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));

/// Unmounts file systems. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Unmounter {
    runner: Runner,
}

impl Unmounter {
    /// Makes one with these settings, in these lanes.
    pub fn new(settings: Arc<Settings>, lanes: Arc<Lanes>) -> Self {
        Self { runner: Runner { settings, lanes } }
    }

    /// Unmounts the file system at `place`. With `lazy`, it disappears now and ends when it is no longer in use. That
    /// nothing is mounted there is no error. Never touches the autofs mount itself.
    ///
    /// # Errors
    /// [`Failure::is_busy`]: it is in use, or was not unmounted in time.
    pub async fn unmount(&self, place: &Arc<Place>, lazy: bool) -> Result<(), Failure> {
        match self.by_call(place, lazy, Helpers::Needed, |_| ()).await? {
            Attempt::Unmounted(()) | Attempt::Gone => Ok(()),
            Attempt::NeedsProgram => self.by_program(place, lazy).await.map(drop),
        }
    }

    /// Does [`unmount`](Self::unmount) and [`clear`](Self::clear), in one step where no program is needed. Leftovers of
    /// the entry are not an error. Returns the failure of umount(8) if the system call had to do its work.
    ///
    /// # Errors
    /// Those of [`unmount`](Self::unmount).
    pub async fn remove(&self, place: &Arc<Place>, lazy: bool, keep: bool) -> Result<Option<Failure>, Failure> {
        let mut late = None;
        let cleared = match self.by_call(place, lazy, Helpers::Needed, move |place| clear(place, keep)).await? {
            Attempt::Unmounted(cleared) => cleared,
            Attempt::Gone => self.clear(place, keep).await,
            Attempt::NeedsProgram => {
                late = self.by_program(place, lazy).await?;
                self.clear(place, keep).await
            }
        };
        if let Err(e) = cleared {
            debug!(target: &place.label, "cannot clear up after {}: {e}", Escaped::path(&place.path()));
        }
        Ok(late)
    }

    /// Unmounts it by system call, and then does `finish` in the same step. The deadline begins when it is its turn: at the end of the
    /// daemon, hundreds may wait for each other. Returns without waiting for the call when the mount has left the mount table (Linux
    /// 6.8): the kernel may then wait for a server, and nothing here depends on that.
    async fn by_call<T: Send + 'static>(
        &self,
        place: &Arc<Place>,
        lazy: bool,
        helpers: Helpers,
        finish: impl FnOnce(&Arc<Place>) -> T + Send + 'static,
    ) -> Result<Attempt<T>, Failure> {
        let (lanes, settings) = (&self.runner.lanes, Arc::clone(&self.runner.settings));
        let path = place.path();
        let late = |late| Failure::Late { path: path.clone(), late };
        let call = Arc::new(UnmountCall::new(lanes.claim(Lane::Umount, &path).map_err(late)?));
        let deadline = settings.umount_deadline;
        let (begin, begun) = oneshot::channel();
        let work = {
            let (place, call) = (Arc::clone(place), Arc::clone(&call));
            lanes.run(Lane::Umount, move || {
                let _ = begin.send(());
                let done = step(&place, &settings, lazy, helpers, &call);
                // A later mount may be there now.
                let claimed = call.end();
                Ok(match done? {
                    true if claimed.is_some() => Attempt::Unmounted(finish(&place)),
                    true => Attempt::Gone,
                    false => Attempt::NeedsProgram,
                })
            })
        };
        tokio::pin!(work);
        if let Some(done) = lanes.turn(Lane::Umount, work.as_mut(), begun, deadline).await.map_err(late)? {
            return done;
        }
        let ends = tokio::time::Instant::now() + deadline;
        let mut pause = LOOK_AGAIN.0;
        loop {
            let look_at = (tokio::time::Instant::now() + pause).min(ends);
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep_until(look_at) => {}
            }
            if call.is_gone() {
                let closing = Arc::clone(&call);
                let close = lanes.run(Lane::Umount, move || closing.give_up());
                if let Ok(true) = tokio::time::timeout_at(ends, close).await {
                    return Ok(Attempt::Gone);
                }
            }
            if look_at == ends {
                return Err(late(Late::Deadline));
            }
            pause = (pause * 2).min(LOOK_AGAIN.1);
        }
    }

    /// Unmounts it with umount(8). Returns when nothing is mounted there any more, even if the program still runs, so that
    /// lookups of the expired entry do not wait for it. If the program ends at its deadline without having unmounted, the system
    /// call does it: before NFS version 4, umount.nfs first tells the server, and for a dead one it waits longer than that. Returns
    /// the failure of the program then.
    async fn by_program(&self, place: &Arc<Place>, lazy: bool) -> Result<Option<Failure>, Failure> {
        let settings = &self.runner.settings;
        let mut program = Program::new(&settings.umount, settings.umount_deadline, settings.grace).arg("-c");
        if lazy {
            program = program.arg("-l");
        }
        let call = Call {
            program: program.arg(place.path()),
            server: None,
            path: place.path(),
            label: Arc::clone(&place.label),
            time_limit: settings.umount_deadline,
        };
        let runner = self.runner.clone();
        // A task of its own: the program is ended at its deadline even when nothing waits for it any more.
        let mut running = tokio::spawn(async move { runner.run(call).await });
        let mut pause = LOOK_AGAIN.0;
        let run = loop {
            tokio::select! {
                ended = &mut running => break ended.map_err(|e| Failure::Start {
                    program: settings.umount.clone(),
                    source: io::Error::other(e),
                })??,
                () = tokio::time::sleep(pause) => {
                    if !self.is_mounted(place).await? {
                        return Ok(None);
                    }
                    pause = (pause * 2).min(LOOK_AGAIN.1);
                }
            }
        };
        if !self.is_mounted(place).await? {
            return Ok(None);
        }
        if run.exit == Exit::Deadline {
            match self.by_call(place, lazy, Helpers::PassedOver, |_| ()).await {
                Ok(_) => return Ok(Some(Failure::Program(Box::new(run)))),
                Err(e) => debug!(target: &place.label, "umount(8) was late, and the system call fails: {e}"),
            }
        }
        // A status of 0 with a mount left: there were several, one over the other.
        let exit = if run.exit == Exit::Status(0) { Exit::Status(32) } else { run.exit };
        Err(Failure::Program(Box::new(Run { exit, ..run })))
    }

    async fn is_mounted(&self, place: &Arc<Place>) -> Result<bool, Failure> {
        let there = Arc::clone(place);
        self.block(place, move || is_mounted(&Opened::new(&there)?)).await
    }

    /// Removes what is left of an entry when nothing is mounted there: its symbolic link, or its directory with the
    /// directories in it that are part of the same autofs mount. With `keep`, the directory itself stays (browse mode); a
    /// link is removed in any case.
    ///
    /// # Errors
    /// [`Failure::Place`].
    pub async fn clear(&self, place: &Arc<Place>, keep: bool) -> Result<(), Failure> {
        let clear = {
            let place = Arc::clone(place);
            move || clear(&place, keep)
        };
        self.block(place, clear).await
    }

    async fn block<T: Send + 'static>(
        &self,
        place: &Place,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let path = place.path();
        match self.runner.lanes.run_in_turn(Lane::Umount, &path, self.runner.settings.umount_deadline, work).await {
            Ok(result) => result,
            Err(late) => Err(Failure::Late { path, late }),
        }
    }
}

/// Whether umount(8) is called for file systems that have a helper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Helpers {
    /// It is.
    Needed,
    /// It has had its time.
    PassedOver,
}

/// The result of an attempt to unmount by system call.
#[derive(Debug)]
enum Attempt<T> {
    /// It is unmounted, and this is what the step after it has returned.
    Unmounted(T),
    /// It has left the mount table, and the system call goes on.
    Gone,
    /// umount(8) has to do it.
    NeedsProgram,
}

/// A system call that unmounts, as the thread that makes it and the task that waits for it see it.
#[derive(Debug)]
struct UnmountCall {
    /// `None` when the task does not wait for the call any more, or the call has ended.
    claim: Mutex<Option<Claim>>,
    /// The unique id of the mount that is being unmounted, and the directory that holds it.
    mount: OnceLock<(Option<u64>, UnmountDir)>,
}

impl UnmountCall {
    fn new(claim: Claim) -> Self {
        Self { claim: Mutex::new(Some(claim)), mount: OnceLock::new() }
    }

    /// Unmounts the top mount at `opened`, which has this unique id (`None` before Linux 6.8).
    fn unmount(&self, opened: Opened, id: Option<u64>) -> io::Result<()> {
        let (dir, name) = opened.into_unmount_dir();
        let (_, dir) = self.mount.get_or_init(|| (id, dir));
        dir.unmount(&name)
    }

    /// Returns whether the mount has left the mount table. Never waits.
    fn is_gone(&self) -> bool {
        let id = self.mount.get().and_then(|(id, _)| *id);
        id.is_some_and(|id| mount_id::place(id) == mount_id::Place::Gone)
    }

    /// Gives the call up: closes the directory, and frees the place for later work. Returns `false` if the call has ended or the
    /// directory stays open. May wait.
    fn give_up(&self) -> bool {
        let claim = lock(&self.claim).take();
        claim.is_some() && self.mount.get().is_some_and(|(_, dir)| dir.close().is_ok())
    }

    /// Ends the call. Returns the claim to the place, or `None` if the call was given up.
    fn end(&self) -> Option<Claim> {
        lock(&self.claim).take()
    }
}

fn is_mounted(opened: &Opened) -> Result<bool, Failure> {
    let stands = opened.site().look().map_err(|source| Failure::Place { path: opened.path.clone(), source })?;
    Ok(stands == Stands::Mount)
}

/// Unmounts by system call. Returns false if umount(8) has to do it.
fn step(
    place: &Arc<Place>,
    settings: &Settings,
    lazy: bool,
    helpers: Helpers,
    call: &UnmountCall,
) -> Result<bool, Failure> {
    let opened = Opened::new(place)?;
    if !is_mounted(&opened)? {
        return Ok(true);
    }
    let top = opened.open_top();
    let has_helper = || !lazy && top.as_ref().is_ok_and(|top| has_helper(settings, top.as_fd()));
    let by_program = settings.method == Method::Command || in_utab(settings, &opened.path) || has_helper();
    // umount(8) takes a path, and where that may lead elsewhere it would unmount something else.
    if by_program && helpers == Helpers::Needed && opened.is_guarded() {
        return Ok(false);
    }
    let path = opened.path.clone();
    let done = if lazy {
        top.and_then(|top| mount::detach(top.as_fd()))
    } else {
        // An open root would keep the mount busy.
        let id = top.ok().and_then(|top| mount_id::unique_id(top.as_fd()));
        call.unmount(opened, id)
    };
    match done {
        Ok(()) => {}
        // It was unmounted meanwhile.
        Err(e) if mount::is_not_mounted(&e) => {}
        Err(source) => return Err(Failure::Kernel { path, source }),
    }
    if is_mounted(&Opened::new(place)?)? {
        return Err(Failure::Kernel { path, source: io::ErrorKind::ResourceBusy.into() });
    }
    Ok(true)
}

/// Returns whether there is an `umount.TYPE` for the mounted file system. umount.nfs tells the server, before NFS version 4.
fn has_helper(settings: &Settings, top: BorrowedFd<'_>) -> bool {
    let Some(fs_type) = mount_id::fs_type_or_table(top) else { return false };
    let program = settings.sbin.join(way::program_name("umount.", &fs_type));
    fs_type != b"nfs4" && path::stat(&program).is_ok_and(|found| found.is_file())
}

/// Returns whether libmount keeps something about this mount, which umount(8) has to remove.
fn in_utab(settings: &Settings, path: &Path) -> bool {
    let Ok(table) = std::fs::read(&settings.utab) else { return false };
    let mut word = b"TARGET=".to_vec();
    for b in path.as_os_str().as_bytes() {
        match b {
            b' ' | b'\t' | b'\n' | b'\\' => word.extend_from_slice(format!("\\{b:03o}").as_bytes()),
            _ => word.push(*b),
        }
    }
    table.split(|b| matches!(b, b' ' | b'\n')).any(|other| other == word)
}

fn clear(place: &Arc<Place>, keep: bool) -> Result<(), Failure> {
    let opened = Opened::new(place)?;
    let site = opened.site();
    let cleared = (|| match site.look()? {
        Stands::Nothing | Stands::Mount => Ok(()),
        Stands::Link => site.remove(Stands::Link),
        Stands::Directory => {
            if place.kind != Kind::Indirect {
                return Ok(());
            }
            clear_below(site.target.dir, site.target.name, place.dev)?;
            if keep { Ok(()) } else { site.remove(Stands::Directory) }
        }
    })();
    cleared.map_err(|source| Failure::Place { path: opened.path, source })
}

/// Removes the directories in `name` that are on the device `dev`: those of an autofs mount are all ours. Others stay,
/// and so do those that are not empty and what is above them.
fn clear_below(dir: BorrowedFd<'_>, name: &Path, dev: u64) -> io::Result<()> {
    let opened = path::open_dir_at(dir, name)?;
    for name in path::names(opened.as_fd())? {
        let name = Path::new(OsStr::from_bytes(&name));
        let found = path::lstat_at(opened.as_fd(), name)?;
        if found.is_dir() && found.dev == dev {
            clear_below(opened.as_fd(), name, dev)?;
            path::rmdir_at(opened.as_fd(), name)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utab_is_read_as_libmount_writes_it() {
        let utab = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(utab.path(), "SRC=/dev/loop0 TARGET=/m/a\\040b ROOT=/ OPTS=user\nTARGET=/m/c\n").unwrap();
        let settings = Settings { utab: utab.path().into(), ..Settings::default() };
        assert!(in_utab(&settings, Path::new("/m/a b")) && in_utab(&settings, Path::new("/m/c")));
        assert!(!in_utab(&settings, Path::new("/m/a")) && !in_utab(&settings, Path::new("/m")));
    }
}
