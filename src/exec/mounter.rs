//! The slow way of a plan: whatever may wait for a disk, a server or a program.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use log::{debug, info, warn};
use tokio::time::timeout;

use super::lanes::{Lane, Lanes, Late};
use super::place::{Opened, Stands};
use super::settings::{Method, Settings};
use super::way::{self, Way};
use super::{Failure, Place};
use crate::fault;
use crate::plan::{Action, Fsck, Mount, Plan};
use crate::sys::mount;
use crate::sys::path::{self, Magic};
use crate::sys::process::{Ended, Exit, Program};
use crate::text::Escaped;

/// How a plan was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Performed {
    /// It stands now.
    Now,
    /// It stood already: a predecessor had done it.
    Already,
}

/// Carries out plans. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Mounter {
    settings: Arc<Settings>,
    lanes: Arc<Lanes>,
}

/// How far one attempt came without a program.
enum Attempt {
    Mounted,
    /// Something on the way to the source is an automount that has to be triggered first.
    Trigger,
    /// Up to a program.
    Run(Box<Program>),
}

/// First argument of our own program that makes it do [`walk`] and nothing else.
pub const WALK: &str = "--walk-to";

/// Opens a directory, which triggers the automounts on the way to it and at its end. True: it is there.
pub fn walk(to: &Path) -> bool {
    path::open_through(to).is_ok()
}

impl Mounter {
    /// One with these settings, in these lanes.
    pub fn new(settings: Arc<Settings>, lanes: Arc<Lanes>) -> Self {
        Self { settings, lanes }
    }

    /// May mounts be made by system call?
    pub(super) fn in_process(&self) -> bool {
        self.settings.method == Method::Auto
    }

    /// Does the plan's action at `place`: makes the directory, then tries its mounts until one succeeds. Offsets and
    /// submounts are for the caller to mount after it. What stands there already is left as it is. After a failure the
    /// place is as before. The failure of each mount has been logged when this returns.
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

    /// One mount of a plan.
    async fn mount(&self, mount: &Mount, opened: &Arc<Opened>) -> Result<(), Failure> {
        if !way::is_type(&mount.fstype) {
            return Err(Failure::Type(mount.fstype.clone()));
        }
        if let Some(fsck) = mount.fsck {
            self.check(fsck, mount, opened).await?;
        }
        let mut triggered = false;
        loop {
            let attempt = {
                let (mount, opened, settings) = (mount.clone(), Arc::clone(opened), Arc::clone(&self.settings));
                move || attempt(&mount, &opened, &settings, triggered)
            };
            match self.block(&opened.place, attempt).await? {
                Attempt::Mounted => return Ok(()),
                Attempt::Trigger => {
                    self.trigger(mount, opened).await;
                    triggered = true;
                }
                Attempt::Run(program) => return self.run(*program, mount, opened).await,
            }
        }
    }

    /// Runs a program that is to mount, and looks whether it has.
    async fn run(&self, program: Program, mount: &Mount, opened: &Arc<Opened>) -> Result<(), Failure> {
        let ended = self.say_and_run(program, mount, opened).await?;
        let look = {
            let (mount, opened) = (mount.clone(), Arc::clone(opened));
            move || {
                let place = |source| Failure::Place { path: opened.path.clone(), source };
                let stands = opened.site().look().map_err(place)?;
                if stands == Stands::Mount && mount.fstype == b"bind" {
                    mount::set_propagation(&opened.path, mount.propagation).map_err(place)?;
                }
                Ok(stands == Stands::Mount)
            }
        };
        let mounted = self.block(&opened.place, look).await?;
        match ended.1.how {
            Exit::Status(0) if mounted => Ok(()),
            Exit::Status(0) => Err(Failure::Nothing { program: ended.0, path: opened.path.clone() }),
            // What is mounted is mounted, and to say otherwise would make the next request mount it again.
            how if mounted => {
                warn!(target: &opened.place.label, "{}: {how}, but {} is mounted",
                    Escaped::path(&ended.0), Escaped::path(&opened.path));
                Ok(())
            }
            how => {
                let said = ended.1.lines().last().unwrap_or_default().to_vec();
                Err(Failure::Program { program: ended.0, how, said })
            }
        }
    }

    /// `fsck.TYPE` before a mount: its exit status is a set of bits, of which 2 (reboot) and 4 (errors left) refuse,
    /// fsck(8).
    async fn check(&self, fsck: Fsck, mount: &Mount, opened: &Arc<Opened>) -> Result<(), Failure> {
        let how = match fsck {
            Fsck::Preen => "-p",
            Fsck::ReadOnly => "-n",
        };
        let path = self.settings.sbin.join(way::program_name("fsck.", &mount.fstype));
        let program = self.program(&path).arg(how).arg(OsStr::from_bytes(&mount.source));
        match self.say_and_run(program, mount, opened).await {
            Ok((_, Ended { how: Exit::Status(status), .. })) if status & 6 == 0 => Ok(()),
            Ok((_, Ended { how, .. })) => Err(Failure::Fsck { device: mount.source.clone(), how }),
            // A machine without it mounts without it.
            Err(Failure::Start { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                debug!(target: &opened.place.label, "there is no {}", Escaped::path(&path));
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    async fn say_and_run(
        &self,
        program: Program,
        mount: &Mount,
        opened: &Arc<Opened>,
    ) -> Result<(std::path::PathBuf, Ended), Failure> {
        let label = &*opened.place.label;
        let words = program.words();
        let path = Path::new(words.first().map_or(OsStr::new(""), |word| word)).to_owned();
        let level = if self.settings.verbose { log::Level::Info } else { log::Level::Debug };
        if log::log_enabled!(target: label, level) {
            let call = words.get(1..).unwrap_or_default().join(OsStr::new(" "));
            let name = path.file_name().unwrap_or_default();
            let (name, call) = (Escaped(name.as_bytes()), Escaped(call.as_bytes()));
            log::log!(target: label, level, "mount({}): calling {name} {call}", way::module(&mount.fstype));
        }
        let late = |_| Failure::Late { path: opened.path.clone(), late: Late::Deadline };
        let permit = self.lanes.program(way::server(&mount.source));
        let _permit = timeout(self.settings.mount_deadline, permit).await.map_err(late)?;
        let ended = program.run().await.map_err(|source| Failure::Start { program: path.clone(), source })?;
        for line in ended.lines() {
            debug!(target: label, ">> {}", Escaped(line));
        }
        Ok((path, ended))
    }

    fn program(&self, path: &Path) -> Program {
        Program::new(path, self.settings.mount_deadline, self.settings.grace)
    }

    /// Walks to the source in a process outside our group: for the group, automounts are bare directories.
    async fn trigger(&self, mount: &Mount, opened: &Arc<Opened>) {
        let who = opened.place.who;
        let mut program = self.program(Path::new("/proc/self/exe")).outside();
        program = program.arg(WALK).arg(OsStr::from_bytes(&mount.source));
        if who.uid != 0 {
            program = program.as_user(who.uid, who.gid);
        }
        debug!(target: &opened.place.label, "triggering {} first", Escaped(&mount.source));
        // Whether it helped the next attempt sees.
        let _ = program.run().await;
    }

    async fn block<T: Send + 'static>(
        &self,
        place: &Place,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let path = place.path();
        match self.lanes.run_at(Lane::Mount, &path, self.settings.mount_deadline, work).await {
            Ok(result) => result,
            Err(late) => Err(Failure::Late { path, late }),
        }
    }
}

/// Looks at the place and makes its directory or its link: the place, and whether a directory was made. `None`: something
/// is mounted there already.
fn prepare(plan: &Plan, place: &Arc<Place>) -> Result<Option<(Arc<Opened>, bool)>, Failure> {
    let Some(opened) = Opened::new(place)? else { return Ok(None) };
    let site = opened.site();
    let prepared = (|| {
        let stands = site.look()?;
        if stands == Stands::Mount {
            return Ok(None);
        }
        if let Action::Symlink(text) = &plan.action {
            site.link(text)?;
            return Ok(Some(false));
        }
        if stands == Stands::Link {
            // The map has changed since it was made.
            site.remove(stands)?;
        }
        site.make().map(Some)
    })();
    match prepared {
        Ok(made) => Ok(made.map(|made| (Arc::new(opened), made))),
        Err(source) => Err(Failure::Place { path: opened.path, source }),
    }
}

/// Makes a mount as far as that goes without a program. `triggered`: what could be triggered has been.
fn attempt(mount: &Mount, opened: &Opened, settings: &Settings, triggered: bool) -> Result<Attempt, Failure> {
    let is_bind = mount.fstype == b"bind";
    let local = mount.source.starts_with(b"/") && memchr::memmem::find(&mount.fstype, b"cifs").is_none();
    let path = Path::new(OsStr::from_bytes(&mount.source));
    if is_bind && (!local || path == opened.path) {
        return Err(Failure::BindSource(mount.source.clone()));
    }
    let source = if local { Some(open_source(path)) } else { None };
    match &source {
        Some(Source::Automount) if !triggered => return Ok(Attempt::Trigger),
        Some(Source::Automount) if is_bind => return Err(Failure::AutofsSource(mount.source.clone())),
        _ => {}
    }
    let exists = |program: &Path| path::stat(program).is_ok_and(|found| found.is_file());
    let command = || Ok(Attempt::Run(Box::new(way::command(mount, &opened.path, settings))));
    let done = match (Way::choose(mount, settings, exists), source) {
        (Way::Bind(options), Some(Source::Open(source))) => {
            mount::bind(source.as_fd(), opened.site().target, options.flags, mount.propagation)
        }
        (Way::Bind(_), Some(Source::Failed(e))) => {
            return Err(Failure::Source { path: mount.source.clone(), source: e });
        }
        (Way::Kernel(options), _) => {
            mount::mount(&mount.source, opened.site().target, &mount.fstype, options.flags, &options.data)
        }
        (Way::Helper { program, subtype }, _) => {
            let program = way::helper(&program, subtype, mount, &opened.path, settings);
            return Ok(Attempt::Run(Box::new(program)));
        }
        (Way::Command | Way::Bind(_), _) => return command(),
    };
    match done {
        Ok(()) => Ok(Attempt::Mounted),
        // mount(8) may know a way (a loop device, another type, read-only) or at least says more.
        Err(e) if mount::is_refusal(&e) => command(),
        Err(source) => Err(Failure::Kernel { path: opened.path.clone(), source }),
    }
}

enum Source {
    Open(OwnedFd),
    /// An automount stands at its end, or in the way to it.
    Automount,
    Failed(io::Error),
}

fn open_source(path: &Path) -> Source {
    let is_autofs = |fd: &OwnedFd| match mount::is_autofs(fd.as_fd()) {
        Some(known) => known,
        None => Magic::of(fd).is_ok_and(Magic::is_autofs),
    };
    match path::open(path) {
        Ok(fd) if is_autofs(&fd) => Source::Automount,
        Ok(fd) => Source::Open(fd),
        Err(e) => {
            let nearest = path.ancestors().skip(1).find_map(|above| path::open(above).ok());
            if nearest.is_some_and(|fd| is_autofs(&fd)) { Source::Automount } else { Source::Failed(e) }
        }
    }
}

fn report(mount: &Mount, opened: &Opened, failure: Option<&Failure>) {
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
