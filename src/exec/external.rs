//! File systems outside of autofs mounts, to which entries in am-utils format lead: each is mounted for the first entry
//! that needs it, and unmounted with the last one.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError};

use log::{debug, info};

use super::dirs::{self, Maker, MountPoint, Rules};
use super::lanes::Lane;
use super::made::Made;
use super::program_run::Call;
use super::{Failure, Mounter, Place, Unmounter};
use crate::engine::{Kind, Requester};
use crate::plan::{Action, Command, External, MountedBy, Plan};
use crate::record::{Exit, Run};
use crate::sys::process::Program;
use crate::sys::{mount, mount_id, mountinfo, path};
use crate::text::Escaped;

/// The file systems that are mounted outside, and the entries that lead to them. Clones are views of the same.
#[derive(Debug, Clone, Default)]
pub struct Externals {
    known: Arc<std::sync::Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    /// By their paths, as maps write them.
    slots: HashMap<PathBuf, Slot>,
    /// The directories that entries lead to, by the path of the entry.
    of_entry: HashMap<PathBuf, PathBuf>,
}

/// A file system. It is locked while something is mounted or unmounted there.
type Slot = Arc<tokio::sync::Mutex<State>>;

#[derive(Debug, Default)]
struct State {
    /// The mount that was made; `None`: no mount.
    mounted: Option<MountedBy>,
    /// The number of this mount, if it is known: a user can put a mount of others in its place.
    id: Option<u64>,
    /// It was there before, and stays.
    foreign: bool,
    /// The entries that lead there.
    users: HashSet<PathBuf>,
    /// The directories that were made for it.
    made: Made,
}

/// An entry that needs a file system.
#[derive(Debug, Clone)]
pub struct User {
    /// The path of the entry.
    pub entry: PathBuf,
    /// The requester.
    pub who: Requester,
    /// The target of log lines.
    pub label: Arc<str>,
}

impl Externals {
    /// Mounts a file system, unless that has been done for another entry or by others.
    ///
    /// # Errors
    /// It cannot be mounted, or another one is mounted there.
    pub async fn mount(
        &self,
        external: &External,
        user: &User,
        mounter: &Mounter,
        rules: Rules,
    ) -> Result<(), Failure> {
        let slot = self.slot(&external.at);
        let mut state = slot.lock().await;
        let site = self.prepare(external, user, mounter, rules, &mut state).await?;
        let is_mounted = look(mounter, &site).await?;
        match &state.mounted {
            Some(by) if is_mounted => {
                if !by.has_same_sources(&external.by) {
                    return Err(Failure::Occupied(site.path()));
                }
                debug!(target: &user.label, "{} is mounted already", Escaped::path(&external.at));
            }
            None if is_mounted => {
                debug!(target: &user.label, "{} was mounted by others", Escaped::path(&external.at));
                *state = State { mounted: Some(external.by.clone()), foreign: true, ..State::default() };
            }
            _ => {
                if let Err(failure) = make(external, &site, mounter).await {
                    if state.users.is_empty() {
                        std::mem::take(&mut state.made).remove_in(mounter, &site).await;
                        state.mounted = None;
                    }
                    return Err(failure);
                }
                info!(target: &user.label, "mounted {}", Escaped::path(&external.at));
                (state.mounted, state.foreign) = (Some(external.by.clone()), false);
                state.id = id_of(mounter, &site).await;
            }
        }
        state.users.insert(user.entry.clone());
        self.lock().of_entry.insert(user.entry.clone(), external.at.clone());
        Ok(())
    }

    /// Records that an entry of an earlier worker leads to a file system, which is therefore ours.
    pub async fn adopt(&self, external: &External, user: &User, mounter: &Mounter) {
        let (entry, at, of) = (&user.entry, external.at.clone(), user.clone());
        let slot = self.slot(&external.at);
        let mut state = slot.lock().await;
        let site = block(mounter, at.clone(), move || site(&real(&at)?, &of)).await;
        state.id = match &site {
            Ok(site) => id_of(mounter, site).await,
            Err(_) => None,
        };
        state.mounted = Some(external.by.clone());
        state.users.insert(entry.clone());
        self.lock().of_entry.insert(entry.clone(), external.at.clone());
    }

    /// Records that an entry is gone. Unmounts what no entry leads to any more; what is in use stays until the next time.
    pub async fn release(&self, user: &User, tools: (&Mounter, &Unmounter), lazy: bool) {
        let Some(at) = self.lock().of_entry.remove(&user.entry) else { return };
        self.slot(&at).lock().await.users.remove(&user.entry);
        let slots: Vec<(PathBuf, Slot)> =
            self.lock().slots.iter().map(|(at, slot)| (at.clone(), Arc::clone(slot))).collect();
        for (at, slot) in slots {
            // A mount is being made there.
            let Ok(mut state) = slot.try_lock() else { continue };
            if !state.users.is_empty() {
                continue;
            }
            match self.unmount(&at, &mut state, user, tools, lazy).await {
                Ok(()) => self.forget(&at, &slot),
                Err(failure) => debug!(target: &user.label, "{} stays mounted: {failure}", Escaped::path(&at)),
            }
        }
    }

    async fn unmount(
        &self,
        at: &Path,
        state: &mut State,
        user: &User,
        (mounter, unmounter): (&Mounter, &Unmounter),
        lazy: bool,
    ) -> Result<(), Failure> {
        let Some(by) = state.mounted.clone().filter(|_| !state.foreign) else { return Ok(()) };
        let site = {
            let (at, user, id) = (at.to_owned(), user.clone(), state.id);
            block(mounter, at.clone(), move || ours(&at, &user, id)).await?
        };
        if let Some(site) = site {
            match &by {
                MountedBy::Command { unmount: Some(command), .. } if site.path() == at => {
                    run(command, &site, mounter).await?;
                }
                _ => unmounter.unmount(&site, lazy).await?,
            }
            // A bind mount of a directory of the same file system is not told from a directory by its device.
            let (at, user, id) = (at.to_owned(), user.clone(), state.id);
            let unmount = move || match ours(&at, &user, id)? {
                Some(site) => unmount_by_call(&site, lazy),
                None => Ok(()),
            };
            block(mounter, site.path(), unmount).await?;
            std::mem::take(&mut state.made).remove_in(mounter, &site).await;
        }
        info!(target: &user.label, "unmounted {}", Escaped::path(at));
        (state.mounted, state.id) = (None, None);
        Ok(())
    }

    /// Makes the directory, and returns it as a place.
    async fn prepare(
        &self,
        external: &External,
        user: &User,
        mounter: &Mounter,
        rules: Rules,
        state: &mut State,
    ) -> Result<Arc<Place>, Failure> {
        let (at, user) = (external.at.clone(), user.clone());
        let is_command = matches!(external.by, MountedBy::Command { .. });
        let (site, made) = block(mounter, at.clone(), move || {
            let failed = |source: io::Error| Failure::Place { path: at.clone(), source };
            let mut maker = Maker::new(rules);
            let MountPoint { path, made, .. } =
                maker.mount_point(&at).map_err(|e| failed(io::Error::other(e.to_string())))?;
            if is_command && !dirs::is_guarded(&path) {
                made.remove();
                let why = "others than root can write to the directories on the way, where no command of a map is run";
                return Err(failed(io::Error::other(why)));
            }
            Ok((site(&path, &user)?, made))
        })
        .await?;
        if !made.is_empty() {
            state.made = made;
        }
        Ok(site)
    }

    fn slot(&self, at: &Path) -> Slot {
        Arc::clone(self.lock().slots.entry(at.to_owned()).or_default())
    }

    /// Forgets a file system, unless a request waits for it. `slot` is the only clone besides.
    fn forget(&self, at: &Path, slot: &Slot) {
        let mut known = self.lock();
        if Arc::strong_count(slot) == 2 {
            known.slots.remove(at);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Made {
    async fn remove_in(self, mounter: &Mounter, site: &Arc<Place>) {
        let _ = block(mounter, site.path(), move || Ok(self.remove())).await;
    }
}

/// Returns the path without symbolic links; those of users are not followed. Blocks.
fn real(at: &Path) -> Result<PathBuf, Failure> {
    dirs::resolve(at).map_err(|e| Failure::Place { path: at.to_owned(), source: io::Error::other(e.to_string()) })
}

/// Returns the directory at `real`, a path without symbolic links, as a place of its parent directory. Blocks.
fn site(real: &Path, user: &User) -> Result<Arc<Place>, Failure> {
    let failed = |source| Failure::Place { path: real.to_owned(), source };
    let (Some(root), Some(name)) = (real.parent(), real.file_name()) else {
        return Err(failed(io::ErrorKind::InvalidInput.into()));
    };
    let dev = path::open_exact(root).and_then(|dir| path::fstat(dir.as_fd())).map_err(failed)?.dev;
    let (root, key) = (root.to_owned(), name.as_bytes().into());
    let (who, label) = (user.who, Arc::clone(&user.label));
    Ok(Arc::new(Place { kind: Kind::Indirect, root, dev, key, who, label }))
}

/// Returns the place where the mount with the number `id` is now, if it is mounted: at `at`, or where a user has moved it with a
/// directory above. Without a number, that is what is mounted at `at`. Blocks.
fn ours(at: &Path, user: &User, id: Option<u64>) -> Result<Option<Arc<Place>>, Failure> {
    let table = mountinfo::read().map_err(|source| Failure::Place { path: at.to_owned(), source })?;
    let is_mounted = |at: &Path| mountinfo::parse(&table).any(|line| line.path() == at);
    let moved = id.and_then(|id| match mount_id::place(id) {
        mount_id::Place::At { path, .. } => Some(path),
        _ => None,
    });
    for path in real(at).ok().into_iter().chain(moved).filter(|path| is_mounted(path)) {
        let site = site(&path, user)?;
        if id.is_none() || id == site.mount_id() {
            return Ok(Some(site));
        }
    }
    Ok(None)
}

/// Returns the number of the mount at a directory.
async fn id_of(mounter: &Mounter, site: &Arc<Place>) -> Option<u64> {
    let at = Arc::clone(site);
    block(mounter, site.path(), move || Ok(at.mount_id())).await.ok().flatten()
}

/// Returns whether something is mounted at a directory.
async fn look(mounter: &Mounter, site: &Arc<Place>) -> Result<bool, Failure> {
    let at = site.path();
    block(mounter, at.clone(), move || {
        let table = mountinfo::read().map_err(|source| Failure::Place { path: at.clone(), source })?;
        Ok(mountinfo::parse(&table).any(|line| line.path() == at))
    })
    .await
}

async fn make(external: &External, site: &Arc<Place>, mounter: &Mounter) -> Result<(), Failure> {
    let failure = match &external.by {
        MountedBy::Mounts(mounts) => {
            let (at, action) = (site.path(), Action::Mount(mounts.clone()));
            let plan =
                Arc::new(Plan { at, action, offsets: Vec::new(), strict: false, timeout: None, requires: Vec::new() });
            match mounter.perform(&plan, site).await {
                Ok(_) => return Ok(()),
                Err(failure) => failure,
            }
        }
        MountedBy::Command { mount, .. } => match run(mount, site, mounter).await {
            Ok(_) if look(mounter, site).await? => return Ok(()),
            Ok(run) => Failure::Nothing { run: Box::new(run), path: site.path() },
            Err(failure) => failure,
        },
    };
    // A program may have failed after it has mounted.
    if look(mounter, site).await? { Ok(()) } else { Err(failure) }
}

/// Runs a command of a map.
async fn run(command: &Command, site: &Arc<Place>, mounter: &Mounter) -> Result<Run, Failure> {
    let settings = mounter.settings();
    let path = Path::new(OsStr::from_bytes(&command.program));
    let mut program = Program::new(path, settings.mount_deadline, settings.grace);
    for argument in command.arguments.iter().skip(1) {
        program = program.arg(OsStr::from_bytes(argument));
    }
    let (path, label) = (site.path(), Arc::clone(&site.label));
    let call = Call { program, server: None, path, label, time_limit: settings.mount_deadline };
    mounter.runner().announce(&call, "program");
    let run = mounter.runner().run(call).await?;
    match run.exit {
        Exit::Status(0) => Ok(run),
        _ => Err(Failure::Program(Box::new(run))),
    }
}

fn unmount_by_call(site: &Place, lazy: bool) -> Result<(), Failure> {
    let done = path::open_exact(&site.root).and_then(|dir| {
        let name = Path::new(OsStr::from_bytes(&site.key.0));
        mount::unmount(dir.as_fd(), name, lazy)
    });
    match done {
        Err(e) if !mount::is_not_mounted(&e) => Err(Failure::Kernel { path: site.path(), source: e }),
        _ => Ok(()),
    }
}

async fn block<T: Send + 'static>(
    mounter: &Mounter,
    path: PathBuf,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match mounter.runner().lanes.run_at(Lane::Mount, &path, mounter.settings().mount_deadline, work).await {
        Ok(result) => result,
        Err(late) => Err(Failure::Late { path, late }),
    }
}
