//! What a worker knows: the engine, the autofs mounts with their maps, and what is under way.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crate::daemon::attach::opener::Memory;
use crate::daemon::checkpoint::quiesce::Quiet;
use crate::daemon::jobs::resolve;
use crate::daemon::maps::context::Context;
use crate::daemon::maps::line::Line;
use crate::daemon::mounts::pipes::{Pipe, Pipes};
use crate::daemon::mounts::table::Mounted;
use crate::daemon::reload;
use crate::engine::{Engine, JobId, Key, Kind, Limits, MountId, Requester, Shutdown, Token, Wanted};
use crate::exec::dirs::Made;
use crate::exec::lanes::Lanes;
use crate::link::journal::{Journal, Slot};
use crate::logging::Logger;
use crate::map::MasterEntry;
use crate::options::Options;
use crate::plan::Plan;
use crate::source::configuration::Configuration;
use crate::source::master::Master;
use crate::source::{Mode, Source};
use crate::sys::autofs::Control;

/// An autofs mount of ours.
#[derive(Debug)]
pub(crate) struct Trigger {
    pub(crate) path: Arc<Path>,
    pub(crate) kind: Kind,
    /// Encoded as in packets.
    pub(crate) dev: u32,
    pub(crate) pipe: u32,
    pub(crate) line: Rc<Line>,
    /// Directories that were made for it and go with it.
    pub(crate) created: Made,
    /// Its parent is a network file system: even to reach it may block.
    pub(crate) remote: bool,
    /// Its root directory, opened when a request comes and closed when none is left: it is the only way to answer when
    /// somebody has meanwhile taken the mount out of the tree; at other times an open one would keep direct mounts
    /// from expiring and a checkpoint from working.
    pub(crate) root: Option<OwnedFd>,
    /// Requests that are not answered.
    pub(crate) owed: u32,
    /// A restore has lost `strictexpire` or `ignore`: it is to be mounted anew when nothing is mounted on it.
    pub(crate) weak: bool,
}

impl Trigger {
    /// The path of an entry.
    pub(crate) fn entry(&self, key: &Key) -> PathBuf {
        use std::os::unix::ffi::OsStrExt as _;
        match self.kind {
            Kind::Indirect => self.path.join(std::ffi::OsStr::from_bytes(&key.0)),
            Kind::Direct | Kind::Offset => self.path.to_path_buf(),
        }
    }
}

/// All that changes.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) engine: Engine,
    pub(crate) control: Arc<Control>,
    /// What could not be opened a moment ago.
    pub(crate) blocked: Memory,
    pub(crate) journal: Journal,
    pub(crate) pipes: Pipes,
    pub(crate) triggers: HashMap<MountId, Box<Trigger>>,
    pub(crate) devices: HashMap<u32, MountId>,
    /// The lines in force, submounts' included.
    pub(crate) lines: HashMap<u32, Rc<Line>>,
    /// Those of the master map, in its order.
    pub(crate) order: Vec<u32>,
    pub(crate) master: Option<Arc<Master>>,
    /// Direct keys below a direct key, and their lines, by the path of the one above.
    pub(crate) nested: HashMap<Arc<Path>, Vec<(Arc<Path>, u32)>>,
    /// All maps that it names could be read.
    pub(crate) whole: bool,
    /// What is to be done at offset triggers.
    pub(crate) plans: HashMap<MountId, Arc<Plan>>,
    pub(crate) options: Options,
    pub(crate) configuration: Configuration,
    pub(crate) context: Rc<Context>,
    pub(crate) logger: &'static Logger,
    /// Where the packet of an unanswered token stands.
    pub(crate) slots: HashMap<Token, Slot>,
    /// Packets whose mount is not known (yet): it is being mounted, or a restore has changed its device.
    pub(crate) parked: Vec<(Slot, u32)>,
    /// The mount table is being searched for their mounts.
    pub(crate) rescanning: bool,
    /// Jobs under way that make triggers.
    pub(crate) making: usize,
    /// Those of them that attach top-level mounts.
    pub(crate) attaching: usize,
    /// Directories that were made for mounts that are gone, and that others still stand in.
    pub(crate) left: Vec<Made>,
    /// Triggers that are being unmounted.
    pub(crate) leaving: HashSet<MountId>,
    /// Triggers that were there before this worker, as long as what stands below them is not known.
    pub(crate) adopting: HashSet<MountId>,
    /// Mounts of ours that have been unmounted since somebody looked.
    pub(crate) unmounted: usize,
    /// Effects of one kind that are carried out together.
    pub(crate) attach: Vec<(MountId, Wanted)>,
    pub(crate) detach: Vec<(MountId, bool)>,
    pub(crate) check: Vec<(JobId, MountId, Key)>,
    pub(crate) opened: Vec<MountId>,
    /// Packets are being read: more requests may want the same roots.
    pub(crate) reading: bool,
    pub(crate) next: u32,
    pub(crate) next_line: u32,
    /// The start is over.
    pub(crate) serving: bool,
    /// The end has begun, or begins when the start is over.
    pub(crate) stopping: Option<Shutdown>,
    pub(crate) reloading: bool,
    pub(crate) reload_again: bool,
    pub(crate) reloaded: Instant,
    /// How often this process has come back from a checkpoint.
    pub(crate) restores: u32,
    /// A checkpoint is expected.
    pub(crate) quiet: Option<Quiet>,
    /// After a checkpoint, our autofs mounts are being found again.
    pub(crate) regaining: bool,
    /// Packets are left in the pipes.
    pub(crate) hold: bool,
}

impl State {
    /// That of a worker that knows of no mount yet.
    pub(crate) fn new(
        journal: Journal,
        pipes: Pipes,
        configuration: Configuration,
        options: Options,
        logger: &'static Logger,
    ) -> io::Result<Self> {
        let deadlines = &configuration.native.deadlines;
        let limits = Limits {
            request: u64::try_from(deadlines.request.as_millis()).unwrap_or(u64::MAX),
            unmount: u64::try_from(deadlines.umount.as_millis()).unwrap_or(u64::MAX),
            ..Limits::default()
        };
        let lanes = Arc::new(Lanes::new(&configuration.native.limits));
        Ok(Self {
            engine: Engine::new(limits),
            control: Arc::new(Control::open()?),
            blocked: Memory::default(),
            journal,
            pipes,
            triggers: HashMap::new(),
            devices: HashMap::new(),
            lines: HashMap::new(),
            order: Vec::new(),
            master: None,
            nested: HashMap::new(),
            whole: false,
            plans: HashMap::new(),
            context: Rc::new(Context::new(&configuration, &options, &lanes)),
            options,
            configuration,
            logger,
            slots: HashMap::new(),
            parked: Vec::new(),
            rescanning: false,
            making: 0,
            attaching: 0,
            left: Vec::new(),
            leaving: HashSet::new(),
            adopting: HashSet::new(),
            unmounted: 0,
            attach: Vec::new(),
            detach: Vec::new(),
            check: Vec::new(),
            opened: Vec::new(),
            reading: false,
            next: 1,
            next_line: 1,
            serving: false,
            stopping: None,
            reloading: false,
            reload_again: false,
            reloaded: Instant::now(),
            restores: 0,
            quiet: None,
            regaining: false,
            hold: false,
        })
    }

    /// Puts a configuration in force. False: nothing is other than before.
    pub(crate) fn configure(&mut self, configuration: Configuration) -> bool {
        if configuration == self.configuration {
            return false;
        }
        self.context = Rc::new(Context::new(&configuration, &self.options, &self.context.lanes));
        self.logger.set_global(self.options.verbosity.max(configuration.conf.autofs.logging));
        self.configuration = configuration;
        true
    }

    /// The number of a line.
    pub(crate) fn line_number(&mut self) -> u32 {
        let number = self.next_line;
        self.next_line += 1;
        number
    }

    /// The line of an entry of the master map: the one that is in force, if it says the same, else a new one. Says
    /// which.
    pub(crate) fn line(&mut self, entry: &MasterEntry) -> (Rc<Line>, bool) {
        let options = reload::effective(&entry.options, &self.configuration.conf.autofs, &self.options);
        let same_map = |line: &&Rc<Line>| line.mount_point == entry.mount_point && line.spec == entry.source;
        let known = self.order.iter().filter_map(|number| self.lines.get(number)).find(same_map).map(Rc::clone);
        if let Some(line) = known.as_ref().filter(|line| line.options == options) {
            return (Rc::clone(line), true);
        }
        let number = self.line_number();
        let (mount_point, spec) = (entry.mount_point.clone(), entry.source.clone());
        // The same map with other options: what is known of it, and the pipe of its mounts, stay.
        let (source, pipe, known) = match known {
            Some(line) => (Arc::clone(&line.source), line.pipe.get(), true),
            None => {
                let mode = if entry.direct { Mode::Direct } else { Mode::Indirect };
                (Arc::new(Source::from_spec(&spec, mode, &self.configuration.names)), None, false)
            }
        };
        let line = Line::new(number, mount_point, spec, options, source);
        line.pipe.set(pipe);
        (Rc::new(line), known)
    }

    /// Lets go of pipes to which no mount writes and none will: with their lines, those of direct maps that the master map
    /// does not name any more. The pipe of a direct map that it names stays for keys that are added.
    pub(crate) fn release_unused(&mut self) {
        let in_force: HashSet<u32> = self.order.iter().copied().collect();
        let named = |line: &Line| in_force.contains(&line.number);
        let shared: HashSet<u32> =
            self.lines.values().filter(|line| named(line)).filter_map(|l| l.pipe.get()).collect();
        let is_unused =
            |pipe: &Rc<Pipe>| pipe.mounts.get() == 0 && !pipe.awaited.get() && !shared.contains(&pipe.number);
        let unused: HashSet<u32> = self.pipes.iter().filter(|pipe| is_unused(pipe)).map(|pipe| pipe.number).collect();
        self.lines.retain(|_, line| named(line) || line.pipe.get().is_none_or(|pipe| !unused.contains(&pipe)));
        unused.into_iter().for_each(|pipe| self.pipes.release(pipe));
    }

    /// The lines of submounts.
    pub(crate) fn submount_lines(&self) -> Vec<Rc<Line>> {
        self.lines.values().filter(|line| !self.order.contains(&line.number)).map(Rc::clone).collect()
    }

    /// The number of a trigger that the shell makes.
    pub(crate) fn number(&mut self) -> MountId {
        let id = MountId(self.next & 0x7fff_ffff);
        self.next = self.next.wrapping_add(1);
        id
    }

    /// What is to be asked for a lookup.
    pub(crate) fn question(&self, mount: MountId, key: Key, who: Requester) -> Option<resolve::Question> {
        let Trigger { line, kind, .. } = &**self.triggers.get(&mount)?;
        let at = self.triggers.get(&mount)?.entry(&key);
        let below = if *kind == Kind::Direct { self.below(&at, who) } else { Vec::new() };
        let (line, context) = (Rc::clone(line), Rc::clone(&self.context));
        Some(resolve::Question { line, context, at, kind: *kind, key, who, below })
    }

    /// The questions for the direct keys that stand below another one.
    fn below(&self, at: &Path, who: Requester) -> Vec<resolve::Question> {
        let question = |(at, line): &(Arc<Path>, u32)| {
            let (line, context) = (Rc::clone(self.lines.get(line)?), Rc::clone(&self.context));
            let (at, below) = (at.to_path_buf(), self.below(at, who));
            Some(resolve::Question { line, context, at, kind: Kind::Direct, key: Key::default(), who, below })
        };
        self.nested.get(at).map(|nested| nested.iter().filter_map(question).collect()).unwrap_or_default()
    }

    /// Whether an autofs mount of the mount table is known already.
    pub(crate) fn serves(&self, line: &Mounted) -> bool {
        let known = self.devices.get(&line.dev).and_then(|id| self.triggers.get(id));
        known.is_some_and(|trigger| *trigger.path == *line.target)
    }

    /// A mount has a new device number: it was restored.
    pub(crate) fn move_device(&mut self, mount: MountId, old: u32, new: u32) {
        if self.devices.get(&old) == Some(&mount) {
            self.devices.remove(&old);
        }
        self.devices.insert(new, mount);
        if let Some(trigger) = self.triggers.get_mut(&mount) {
            trigger.dev = new;
        }
    }
}
