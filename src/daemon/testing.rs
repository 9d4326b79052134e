//! What tests of the daemon's parts work with: autofs mounts that exist on paper only, a journal, real pipes. No test that
//! uses this needs root.

use std::cell::RefCell;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::maps::configured_map::ConfiguredMap;
use super::mounts::pipes::{Pipe, Pipes};
use super::mounts::table::{MountTable, Mounted};
use super::mounts::{Mounts, NewMount};
use super::requests::{Receiver, Refused, Requests};
use super::tools::Tools;
use super::worker::{Channels, Worker};
use crate::engine::{Kind, MountId};
use crate::exec::dirs::Made;
use crate::exec::lanes::Lanes;
use crate::link::journal::{self, Journal, Slot};
use crate::link::{Inheritance, Link, Pulse, history};
use crate::logging;
use crate::map::{MasterOptions, SourceSpec, Verbosity};
use crate::options::Options;
use crate::source::configuration::Configuration;
use crate::source::{Environment, Mode, Names, Notices, Readers, Sources, open};
use crate::sys::autofs::Control;
use crate::sys::children;
use crate::sys::{fds, mountinfo};

/// The owners of a worker, without a worker.
pub(crate) struct Parts {
    pub(crate) mounts: Rc<Mounts>,
    pub(crate) requests: Rc<Requests>,
    pub(crate) tools: Tools,
    /// The pipes that are to be read.
    pub(crate) unread: mpsc::UnboundedReceiver<Rc<Pipe>>,
    /// The keeper's end of the link.
    _keeper: OwnedFd,
}

impl Parts {
    /// Makes them. Must run in a tokio runtime.
    pub(crate) fn new() -> Self {
        let (keeper, link) = fds::pair().unwrap();
        let control = Arc::new(Control::without_device());
        let (mounts, unread) = Mounts::new(Arc::clone(&control), Pipes::new(Link::new(link), Vec::new()));
        let (journal, unanswered) = Journal::open(journal::create().unwrap(), false);
        let requests = Requests::new(journal, unanswered);
        let configuration =
            Configuration { conf: crate::config::AutofsConf::default(), native: Default::default(), names: names() };
        let lanes = Arc::new(Lanes::new(&configuration.native.limits));
        let tools = Tools::new(&configuration, control, lanes, requests.requesters(), false);
        Self { mounts, requests, tools, unread, _keeper: keeper }
    }

    /// Makes a mount known that has a pipe of its own; returns that.
    pub(crate) fn indirect(&self, id: u32, path: &str, dev: u32) -> u32 {
        let pipe = self.mounts.create_pipe().unwrap();
        self.insert(id, path, Kind::Indirect, dev, pipe);
        pipe
    }

    /// Makes a mount known that writes to `pipe`.
    pub(crate) fn insert(&self, id: u32, path: &str, kind: Kind, dev: u32, pipe: u32) {
        let (map, created) = (map(path), Made::default());
        let path = std::path::Path::new(path).into();
        let new = NewMount { path, kind, dev, mount_id: None, pipe, map, created, remote: false, found: false };
        self.mounts.insert(MountId(id), new);
    }

    /// Writes a packet into a pipe, as the kernel does.
    pub(crate) fn write(&self, pipe: u32, packet: &[u8]) {
        let mut write_end = std::fs::File::from(self.mounts.write_end(pipe).unwrap());
        write_end.write_all(packet).unwrap();
    }
}

fn names() -> Arc<Names> {
    Arc::default()
}

/// The configured map for a mount point, with the map `m`, which is not there.
pub(crate) fn map(mount_point: &str) -> Rc<ConfiguredMap> {
    map_at(mount_point, b"/nonexistent/m")
}

/// The configured map for a mount point, with the map file at `path`.
pub(crate) fn map_at(mount_point: &str, path: &[u8]) -> Rc<ConfiguredMap> {
    let spec = SourceSpec { name: path.to_vec(), ..SourceSpec::default() };
    let notices = Arc::new(Notices::keep());
    let environment = Arc::new(Environment {
        names: names(),
        readers: Readers::new(1),
        programs: crate::source::Programs::of_tests(),
        notices,
        lookups: Arc::default(),
        servers: Arc::new(crate::source::Servers::with_hosts(1)),
    });
    let source = open(&spec, Mode::Indirect, &environment);
    let source = (source, Arc::clone(&environment.names));
    Rc::new(ConfiguredMap::new(1, mount_point.as_bytes().to_vec(), spec, MasterOptions::default(), source))
}

/// A line of the mount table: what is mounted at `target`, with the device number `dev`. `rest` begins with `- type source`.
pub(crate) fn mounted(target: &str, dev: usize, rest: &str) -> Mounted {
    mounted_on(20, target, dev, rest)
}

/// The same, mounted on the mount with the id `parent`. Its own id is `30 + dev`.
fn mounted_on(parent: usize, target: &str, dev: usize, rest: &str) -> Mounted {
    let text = format!("{} {parent} 0:{dev} / {target} rw {rest}\n", 30 + dev);
    mountinfo::parse(text.as_bytes()).next().map(Mounted::from).unwrap()
}

/// A mount table with a root file system and these mounts, in the order in which they were mounted. Each is `(target, rest)`
/// as for [`mounted`]; the first one has the device number 0.
pub(crate) fn table(lines: &[(&str, &str)]) -> MountTable {
    let root = lines.len();
    let line = |(n, (target, rest)): (usize, &(&str, &str))| {
        let above = lines.iter().take(n).enumerate().filter(|(_, (above, _))| Path::new(target).starts_with(above));
        let parent = above.max_by_key(|(n, (above, _))| (above.len(), *n)).map_or(root, |(n, _)| n);
        mounted_on(30 + parent, target, n, rest)
    };
    let lines = lines.iter().enumerate().map(line);
    MountTable::of(lines.chain([mounted_on(1, "/", root, "- ext4 d rw")]).collect())
}

/// A worker of a keeper that does nothing. The engine knows none of its mounts, so it does nothing on this machine.
pub(crate) struct Alone {
    pub(crate) worker: Rc<Worker>,
    pub(crate) channels: Channels,
    /// The keeper's end of the link.
    _keeper: OwnedFd,
}

impl Alone {
    /// Starts it. Must run in a tokio runtime, in a `LocalSet`.
    pub(crate) fn new() -> Self {
        let (keeper, link) = fds::pair().unwrap();
        let inheritance = Inheritance {
            pipes: Vec::new(),
            journal: journal::create().unwrap(),
            history: history::create().unwrap(),
            pulse: Arc::new(Pulse::new().unwrap()),
            link: Link::new(link),
            before: 0,
            spared: false,
            predecessor: None,
            failed: false,
            program: "/nonexistent/automount".into(),
        };
        let configuration =
            Configuration { conf: crate::config::AutofsConf::default(), native: Default::default(), names: names() };
        let (files, notices) = Sources::configuration();
        let sources = Rc::new(Sources::new(files, notices, &configuration.native.limits));
        let logger = logging::install(logging::Sink::Stderr, Verbosity::Basic);
        let new = Worker::new(inheritance, configuration, Options::default(), logger, &sources, false);
        let (worker, channels) = new.unwrap();
        Self { worker, channels, _keeper: keeper }
    }

    /// Makes an indirect mount known, which the map file `map` serves. Returns its pipe.
    pub(crate) fn indirect(&self, id: u32, path: &str, dev: u32, map: &Path) -> u32 {
        let mounts = &self.worker.mounts;
        let pipe = mounts.create_pipe().unwrap();
        let (map, created) = (map_at(path, map.as_os_str().as_bytes()), Made::default());
        let (path, kind) = (Path::new(path).into(), Kind::Indirect);
        mounts.insert(
            MountId(id),
            NewMount { path, kind, dev, mount_id: None, pipe, map, created, remote: false, found: false },
        );
        pipe
    }
}

impl Alone {
    /// Writes a packet into a pipe, as the kernel does, and reads it into the journal.
    pub(crate) fn read(&self, pipe: u32, packet: &[u8]) -> Slot {
        let mounts = &self.worker.mounts;
        std::fs::File::from(mounts.write_end(pipe).unwrap()).write_all(packet).unwrap();
        self.worker.requests.read_one(&mounts.pipe(pipe).unwrap())
    }
}

/// Requests of the kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asks {
    /// For a name below an indirect mount.
    Name(&'static [u8]),
    /// For a direct mount.
    Direct,
    /// To expire a name, by a call of this worker or of an earlier one.
    Expire(&'static [u8], ByUs),
}

/// Whether this worker has called expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ByUs {
    Yes,
    No,
}

/// A packet for the mount with this device.
pub(crate) fn packet(dev: u32, token: u32, asks: Asks) -> Vec<u8> {
    let own = u32::try_from(children::pid()).unwrap();
    let (number, name, tgid) = match asks {
        Asks::Name(name) => (3, name, 4241),
        Asks::Direct => (5, &b"00000000c0ffee00"[..], 4241),
        Asks::Expire(name, by_us) => (4, name, if by_us == ByUs::Yes { own } else { own + 1 }),
    };
    let mut bytes = vec![0; crate::sys::packet::SIZE];
    let length = u32::try_from(name.len()).unwrap();
    for (i, word) in [5, number, token, dev, 1, 0, 1000, 100, 4242, tgid, length].iter().enumerate() {
        bytes[i * 4..][..4].copy_from_slice(&word.to_ne_bytes());
    }
    bytes[44..44 + name.len()].copy_from_slice(name);
    bytes
}

/// Takes note of what it is told.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told(Rc<RefCell<Vec<String>>>);

impl Told {
    /// Returns what came since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        self.0.take()
    }
}

impl Receiver for Told {
    fn packet(&self, _: Slot, pipe: u32) {
        self.0.borrow_mut().push(format!("packet of {pipe}"));
    }

    fn restored(&self, _: Option<Slot>) {
        self.0.borrow_mut().push("restored".to_owned());
    }

    fn served(&self) {}

    fn refused(&self, refused: Refused) {
        self.0.borrow_mut().push(format!("{} refused", refused.path.display()));
    }

    fn abandoned(&self, pipe: &Pipe) {
        self.0.borrow_mut().push(format!("{} abandoned", pipe.number));
    }
}
