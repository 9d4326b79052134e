//! Carries out plans that may wait for a disk, a server or a program.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, info, warn};

use super::lanes::{Lane, Lanes};
use super::place::{Opened, Stands};
use super::program_run::{Call, Runner};
use super::settings::{Method, Settings};
use super::staging::StagingMount;
use super::way::{self, Way};
use super::{Failure, Place, credentials, dirs};
use crate::fault;
use crate::plan::{Action, FsMount, Fsck, Plan};
use crate::record::{Exit, Run};
use crate::sys::path::{self, Magic};
use crate::sys::process::Program;
use crate::sys::{children, mount, mount_id};
use crate::text::Escaped;

/// How long a helper that has ended with success may take until its mount appears: some start a server in the background
/// and do not wait for it.
const APPEARS_WITHIN: Duration = Duration::from_secs(2);

/// The pauses between two looks for such a mount: the first, and the longest.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(100));

/// How a plan was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Performed {
    /// It was mounted now.
    Now,
    /// It was mounted before, by an earlier worker.
    Already,
}

/// Carries out plans. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Mounter {
    runner: Runner,
}

/// How far one attempt came without a program.
enum Attempt {
    Mounted,
    /// Up to an automount on the way to the source, which has to be triggered first.
    Trigger,
    /// Up to a program. With a stage, the program mounts there.
    Run(Box<Program>, Option<StagingMount>),
}

/// First argument of our own program that makes it do [`walk`] and nothing else.
pub const WALK: &str = "--walk-to";

/// Opens a directory or looks at a file, which triggers the automounts on the way to it and at its end. With `who`, `UID:GID`, it
/// does so as this user, who may not look into the process: it is a program of root, started by a service of root.
///
/// # Errors
/// Those of open(2): there is no such path, or what should be mounted there is not. Those of becoming the user.
pub fn walk(to: &Path, who: Option<&str>) -> io::Result<()> {
    if let Some(who) = who {
        let ids = who.split_once(':').and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
        let (uid, gid) = ids.ok_or(io::ErrorKind::InvalidInput)?;
        children::become_user(uid, gid)?;
    }
    match path::open_through(to) {
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => path::open(to).map(drop),
        opened => opened.map(drop),
    }
}

impl Mounter {
    /// Makes one with these settings, in these lanes.
    pub fn new(settings: Arc<Settings>, lanes: Arc<Lanes>) -> Self {
        Self { runner: Runner { settings, lanes } }
    }

    pub(super) fn runner(&self) -> &Runner {
        &self.runner
    }

    pub(super) fn settings(&self) -> &Arc<Settings> {
        &self.runner.settings
    }

    /// Returns whether mounts may be made by system call.
    pub(super) fn in_process(&self) -> bool {
        self.settings().method == Method::Auto
    }

    /// Does the plan's action at `place`: makes the directory, then tries its mounts until one succeeds. The caller mounts
    /// offsets and submounts afterwards. What is mounted already stays. After a failure the place is as before, and the
    /// failure of each mount has been logged.
    ///
    /// # Errors
    /// The [`Failure`] of the last mount that was tried.
    pub async fn perform(&self, plan: &Arc<Plan>, place: &Arc<Place>) -> Result<Performed, Failure> {
        let prepare = {
            let (plan, place) = (Arc::clone(plan), Arc::clone(place));
            move || prepare(&plan, &place)
        };
        let Some((opened, made)) = self.block(place, prepare).await? else {
            debug!(target: &place.label, "{} is mounted already", Escaped::path(&place.path()));
            return Ok(Performed::Already);
        };
        let Action::Mount(mounts) = &plan.action else {
            if matches!(plan.action, Action::Symlink(_)) {
                info!(target: &place.label, "mounted {}", Escaped::path(&opened.path));
            }
            return Ok(Performed::Now);
        };
        let mut result = Err(Failure::Empty(opened.path.clone()));
        for mount in mounts {
            result = self.mount(mount, &opened).await;
            report(mount, &opened, result.as_ref().err());
            if result.is_ok() {
                fault::point("mounted");
                info!(target: &place.label, "mounted {}", Escaped::path(&opened.path));
                return Ok(Performed::Now);
            }
        }
        if made {
            let opened = Arc::clone(&opened);
            let _ = self.block(place, move || Ok(opened.site().remove(Stands::Directory))).await;
        }
        result.map(|()| Performed::Now)
    }

    /// Tries one mount of a plan.
    async fn mount(&self, mount: &FsMount, opened: &Arc<Opened>) -> Result<(), Failure> {
        if !way::is_type(&mount.fstype) {
            return Err(Failure::Type(mount.fstype.clone()));
        }
        if let Some(fsck) = mount.fsck {
            self.check(fsck, mount, opened).await?;
        }
        let mut triggered = false;
        loop {
            let attempt = {
                let (mount, opened, settings) = (mount.clone(), Arc::clone(opened), Arc::clone(self.settings()));
                move || attempt(&mount, &opened, &settings, triggered)
            };
            match self.block(&opened.place, attempt).await? {
                Attempt::Mounted => return Ok(()),
                Attempt::Trigger => {
                    self.trigger(mount, opened).await;
                    triggered = true;
                }
                Attempt::Run(program, stage) => return self.run(*program, stage.map(Arc::new), mount, opened).await,
            }
        }
    }

    /// Runs a program that is to mount, and looks whether it has mounted something.
    async fn run(
        &self,
        program: Program,
        stage: Option<Arc<StagingMount>>,
        mount: &FsMount,
        opened: &Arc<Opened>,
    ) -> Result<(), Failure> {
        let run = self.say_and_run(program, mount, opened).await?;
        let mut mounted = self.take_mount(&stage, mount, opened).await?;
        if run.exit == Exit::Status(0) && !mounted {
            let (mut pause, end) = (LOOK_AGAIN.0, tokio::time::Instant::now() + APPEARS_WITHIN);
            while !mounted && tokio::time::Instant::now() < end {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LOOK_AGAIN.1);
                mounted = self.take_mount(&stage, mount, opened).await?;
            }
        }
        match run.exit {
            Exit::Status(0) if mounted => Ok(()),
            Exit::Status(0) => Err(Failure::Nothing { run: Box::new(run), path: opened.path.clone() }),
            // To report a failure would make the next request mount it again.
            exit if mounted => {
                warn!(target: &opened.place.label, "{}: {exit}, but {} is mounted",
                    Escaped(run.program()), Escaped::path(&opened.path));
                Ok(())
            }
            _ => Err(Failure::Program(Box::new(run))),
        }
    }

    /// Returns whether the program has mounted something, which is moved from the stage to its place.
    async fn take_mount(
        &self,
        stage: &Option<Arc<StagingMount>>,
        mount: &FsMount,
        opened: &Arc<Opened>,
    ) -> Result<bool, Failure> {
        let (stage, opened) = (stage.clone(), Arc::clone(opened));
        let bind = (mount.fstype == b"bind").then_some(mount.propagation);
        let place = Arc::clone(&opened.place);
        let look = move || {
            let failed = |source| Failure::Place { path: opened.path.clone(), source };
            if let Some(stage) = stage {
                match stage.move_to(opened.mount_target()) {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
                    done => done.map_err(failed)?,
                }
            } else if opened.site().look().map_err(failed)? != Stands::Mount {
                return Ok(false);
            }
            if let Some(propagation) = bind {
                let top = opened.open_top().map_err(failed)?;
                mount::set_propagation(top.as_fd(), propagation).map_err(failed)?;
            }
            Ok(true)
        };
        self.block(&place, look).await
    }

    /// Runs `fsck.TYPE` before a mount. Its exit status is a set of bits, of which 2 (reboot) and 4 (errors left) refuse the
    /// mount, fsck(8).
    async fn check(&self, fsck: Fsck, mount: &FsMount, opened: &Arc<Opened>) -> Result<(), Failure> {
        let how = match fsck {
            Fsck::Preen => "-p",
            Fsck::ReadOnly => "-n",
        };
        let path = self.settings().sbin.join(way::program_name("fsck.", &mount.fstype));
        let program = self.program(&path).arg(how).arg(OsStr::from_bytes(&mount.source));
        match self.say_and_run(program, mount, opened).await {
            Ok(Run { exit: Exit::Status(status), .. }) if status & 6 == 0 => Ok(()),
            Ok(run) => Err(Failure::Fsck { device: mount.source.clone(), run: Box::new(run) }),
            // A machine without the program mounts without the check.
            Err(Failure::Start { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                debug!(target: &opened.place.label, "there is no {}", Escaped::path(&path));
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    async fn say_and_run(&self, program: Program, mount: &FsMount, opened: &Arc<Opened>) -> Result<Run, Failure> {
        let call = Call {
            program,
            server: way::server(&mount.source).map(<[u8]>::to_vec),
            path: opened.path.clone(),
            label: Arc::clone(&opened.place.label),
            time_limit: self.settings().mount_deadline,
        };
        self.runner.announce(&call, way::module(&mount.fstype));
        self.runner.run(call).await
    }

    fn program(&self, path: &Path) -> Program {
        Program::new(path, self.settings().mount_deadline, self.settings().grace).confined()
    }

    /// Walks to the source in a process outside our group: for the group, automounts are bare directories.
    async fn trigger(&self, mount: &FsMount, opened: &Arc<Opened>) {
        let who = opened.place.who;
        let mut program = self.program(Path::new("/proc/self/exe")).outside();
        program = program.arg(WALK).arg(OsStr::from_bytes(&mount.source));
        if who.uid != 0 {
            program = program.arg(format!("{}:{}", who.uid, who.gid));
        }
        debug!(target: &opened.place.label, "triggering {} first", Escaped(&mount.source));
        // The next attempt shows whether it helped.
        let _ = program.run().await;
    }

    async fn block<T: Send + 'static>(
        &self,
        place: &Place,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let path = place.path();
        match self.runner.lanes.run_at(Lane::Mount, &path, self.settings().mount_deadline, work).await {
            Ok(result) => result,
            Err(late) => Err(Failure::Late { path, late }),
        }
    }
}

/// Looks at the place and makes its directory or its link. Returns the place, and whether a directory was made; `None` if
/// something is mounted there already.
fn prepare(plan: &Plan, place: &Arc<Place>) -> Result<Option<(Arc<Opened>, bool)>, Failure> {
    let opened = Opened::new(place)?;
    let site = opened.site();
    let prepared = (|| {
        let stands = site.look()?;
        if stands == Stands::Mount {
            return Ok(None);
        }
        if let Action::Symlink(text) = &plan.action {
            if place.kind != crate::engine::Kind::Indirect {
                return Err(io::ErrorKind::Unsupported.into());
            }
            site.link(text)?;
            return Ok(Some(false));
        }
        if stands == Stands::Link {
            // The map has changed since it was made.
            site.remove(stands)?;
        }
        if place.kind == crate::engine::Kind::Indirect { site.make().map(Some) } else { Ok(Some(false)) }
    })();
    match prepared {
        Ok(made) => Ok(made.map(|made| (Arc::new(opened), made))),
        Err(source) => Err(Failure::Place { path: opened.path, source }),
    }
}

/// Makes a mount as far as that goes without a program. `triggered`: the automounts on the way to the source have been
/// triggered.
fn attempt(mount: &FsMount, opened: &Opened, settings: &Settings, triggered: bool) -> Result<Attempt, Failure> {
    let mount = credentials::of_requester(mount, opened.place.who, settings);
    let mount = &*mount;
    let is_bind = mount.fstype == b"bind";
    let local = mount.source.starts_with(b"/") && memchr::memmem::find(&mount.fstype, b"cifs").is_none();
    let path = Path::new(OsStr::from_bytes(&mount.source));
    if is_bind && (!local || path == opened.path) {
        return Err(Failure::BindSource(mount.source.clone()));
    }
    let source = if local { Some(open_source(path, settings.strict_sources && is_bind)) } else { None };
    match &source {
        Some(Source::Automount) if !triggered => return Ok(Attempt::Trigger),
        Some(Source::Automount) if is_bind => return Err(Failure::AutofsSource(mount.source.clone())),
        _ => {}
    }
    let exists = |program: &Path| path::stat(program).is_ok_and(|found| found.is_file());
    // A program finds the place by its path, so where that may lead elsewhere, it mounts in a stage. Where the configuration
    // wants a stage, no process of the program can run into the trigger.
    let staged = |call: &dyn Fn(&Path, bool) -> Program| {
        let failed = |source| Failure::Place { path: opened.path.clone(), source };
        let in_place = !settings.is_staged(&opened.path) && opened.is_guarded();
        let stage = if in_place { None } else { Some(StagingMount::new().map_err(failed)?) };
        let program = call(stage.as_ref().map_or(&opened.path, StagingMount::path), stage.is_some());
        Ok(Attempt::Run(Box::new(program), stage))
    };
    let command = || match (&source, is_bind && settings.strict_sources) {
        (Some(Source::Failed(e)), true) => {
            let source = io::Error::new(e.kind(), e.to_string());
            Err(Failure::Source { path: mount.source.clone(), source })
        }
        _ => staged(&|target, staged| way::command(mount, target, staged, settings)),
    };
    let target = opened.mount_target();
    let done = match (Way::choose(mount, settings, exists), &source) {
        (Way::Bind(options), Some(Source::Open(source))) => {
            mount::bind(source.as_fd(), target, options.flags, mount.propagation)
        }
        (Way::Bind(_), Some(Source::Failed(e))) => {
            let source =
                e.raw_os_error().map_or_else(|| io::Error::new(e.kind(), e.to_string()), io::Error::from_raw_os_error);
            return Err(Failure::Source { path: mount.source.clone(), source });
        }
        (Way::Kernel(options), _) => mount::mount(&mount.source, target, &mount.fstype, options.flags, &options.data),
        (Way::Helper { program, subtype }, _) => {
            return staged(&|target, _| way::helper(&program, subtype, mount, target, settings));
        }
        (Way::Command | Way::Bind(_), _) => return command(),
    };
    match done {
        Ok(()) => Ok(Attempt::Mounted),
        // mount(8) may know a way (a loop device, another type, read-only) or at least says more.
        Err(e) if mount::is_refusal(&e) => command(),
        // The kernel does not say which of the two paths is missing.
        Err(e) if e.kind() == io::ErrorKind::NotFound && matches!(source, Some(Source::Failed(_))) => {
            Err(Failure::Source { path: mount.source.clone(), source: e })
        }
        Err(source) => Err(Failure::Kernel { path: opened.path.clone(), source }),
    }
}

enum Source {
    Open(OwnedFd),
    /// An automount is at its end, or in the way to it.
    Automount,
    Failed(io::Error),
}

/// Opens the source of a mount. `strict`: a symbolic link is followed only if nobody but root can have made it.
fn open_source(path: &Path, strict: bool) -> Source {
    let is_autofs = |fd: &OwnedFd| match mount_id::is_autofs(fd.as_fd()) {
        Some(known) => known,
        None => Magic::of(fd).is_ok_and(Magic::is_autofs),
    };
    let opened = if strict { open_strictly(path) } else { path::open(path) };
    match opened {
        Ok(fd) if is_autofs(&fd) => Source::Automount,
        Ok(fd) => Source::Open(fd),
        Err(e) => {
            let nearest = path.ancestors().skip(1).find_map(|above| path::open(above).ok());
            if nearest.is_some_and(|fd| is_autofs(&fd)) { Source::Automount } else { Source::Failed(e) }
        }
    }
}

fn open_strictly(path: &Path) -> io::Result<OwnedFd> {
    match path::open_exact(path) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::ELOOP | libc::ENOTDIR)) => {
            path::open_exact(&dirs::resolve(path).map_err(io::Error::other)?)
        }
        opened => opened,
    }
}

fn report(mount: &FsMount, opened: &Opened, failure: Option<&Failure>) {
    let label = &*opened.place.label;
    let module = way::module(&mount.fstype);
    let (source, fstype, path) = (Escaped(&mount.source), Escaped(&mount.fstype), Escaped::path(&opened.path));
    match (failure, module) {
        (None, "nfs") => debug!(target: label, "mount(nfs): mounted {source} on {path}"),
        (None, _) => debug!(target: label, "mount({module}): mounted {source} type {fstype} on {path}"),
        (Some(e), "bind") => info!(target: label, "mount(bind): failed to mount {source} on {path}: {e}"),
        (Some(e), "nfs") => info!(target: label, "mount(nfs): nfs: mount failure {source} on {path}: {e}"),
        (Some(e), _) => {
            info!(target: label, "mount({module}): failed to mount {source} (type {fstype}) on {path}: {e}")
        }
    }
}
