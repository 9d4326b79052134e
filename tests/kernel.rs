//! `sys` against the kernel that runs here: every order and every packet, with clients that wait for it.
//!
//! Each test runs in a [world](common::world) of its own, as the owner of the autofs mounts that it makes. Without
//! root or `/dev/autofs` all of them are listed as ignored.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]
#![allow(clippy::disallowed_methods, reason = "triggering automounts is what the tests are for")]
#![allow(unreachable_pub, reason = "the modules are shared between the suites")]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode};
use std::time::{Duration, Instant};

use autofs::engine::{Errno, Kind, Requester, Token};
use autofs::sys::autofs::{AUTOFS_SUPER_MAGIC, Control, Expired, How, Options, mount_autofs};
use autofs::sys::children::{self, Exit, Fork, Signal};
use autofs::sys::memory::SharedMemory;
use autofs::sys::mount::Target;
use autofs::sys::mount_events::{Changes, Known, MountEvents};
use autofs::sys::mount_id;
use autofs::sys::mountinfo::{self, AutofsOptions};
use autofs::sys::packet::{self, Packet};
use autofs::sys::pipe::{Read, ReadEnd};
use autofs::sys::{fds, path, procfs};
use common::suite::{self, case};
use common::{secs, visit, wait_for, world};
use nix::errno::Errno as Os;
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

fn main() -> ExitCode {
    if let Some(code) = common::part(body) {
        return code;
    }
    suite::main(&suite::arguments(), world::lacking(), |case| world::run(case.name(), case.deadline()), [])
}

fn body(name: &str) {
    // The owner of an autofs mount is a process group: this one has nobody else in it.
    children::lead_group().unwrap();
    suite::body(name);
}

/// An autofs mount and its owner's things.
struct Master {
    control: Control,
    pipe: ReadEnd,
    path: PathBuf,
    dev: u32,
}

/// A packet, without its buffer.
#[derive(Debug)]
struct Got {
    expire: bool,
    kind: Kind,
    token: Token,
    dev: u32,
    ino: u64,
    who: Requester,
    name: Vec<u8>,
}

/// Mounts an autofs on an existing directory.
fn mount_at(path: &str, write_end: &OwnedFd, kind: Kind, options: Options) -> std::io::Result<u32> {
    let (parent, name) = (Path::new(path).parent().unwrap(), Path::new(path).file_name().unwrap());
    let dir = path::open_exact(parent)?;
    let target = Target { dir: dir.as_fd(), name: Path::new(name), path: Path::new(path) };
    mount_autofs("/etc/auto.test".as_ref(), target, true, write_end.as_fd(), kind, options).map(|new| new.dev)
}

impl Master {
    fn mount(path: &str, kind: Kind, timeout: u64) -> Self {
        Self::mount_with(path, kind, Options { timeout, ..Options::default() })
    }

    fn mount_with(path: &str, kind: Kind, options: Options) -> Self {
        fs::create_dir_all(path).unwrap();
        let (pipe, write_end) = ReadEnd::create().unwrap();
        let dev = mount_at(path, &write_end, kind, options).unwrap();
        Self { control: Control::open().unwrap(), pipe, path: path.into(), dev }
    }

    fn root(&self) -> OwnedFd {
        self.control.open_mount(&self.path, self.dev).unwrap()
    }

    #[track_caller]
    fn take(&self) -> Got {
        let mut buffer = [0; 512];
        let length = wait_for("a packet", secs(5), || match self.pipe.read(&mut buffer).unwrap() {
            Read::Packet(length) => Some(length),
            Read::Empty => None,
            Read::End => panic!("the pipe has ended"),
        });
        Got::from(&buffer[..length])
    }

    fn is_quiet(&self) -> bool {
        self.pipe.readable().unwrap() == 0
    }

    /// Mounts something for the request and answers it.
    fn serve(&self, got: &Got) {
        assert!(!got.expire);
        let place = self.path.join(OsStr::from_bytes(&got.name));
        _ = fs::create_dir(&place);
        mount_tmpfs(&place);
        self.control.ready(self.root().as_fd(), got.token).unwrap();
    }

    #[track_caller]
    fn shown(&self) -> AutofsOptions {
        let table = mountinfo::read().unwrap();
        let options = mountinfo::parse(&table).find(|e| e.dev == self.dev).and_then(|e| e.autofs());
        options.expect("the mount is in the table")
    }

    /// Calls expire in a thread of its own, and meanwhile answers what it asks.
    fn expire(&self, how: How, answer: impl Fn(&Got) -> Option<Errno>) -> std::io::Result<Expired> {
        let root = self.root();
        std::thread::scope(|scope| {
            let caller = scope.spawn(|| self.control.expire(root.as_fd(), how));
            while !caller.is_finished() {
                if self.is_quiet() {
                    std::thread::sleep(Duration::from_millis(2));
                    continue;
                }
                let got = self.take();
                assert!(got.expire);
                match answer(&got) {
                    None => self.control.ready(root.as_fd(), got.token).unwrap(),
                    Some(error) => self.control.fail(root.as_fd(), got.token, error).unwrap(),
                }
            }
            caller.join().unwrap()
        })
    }

    /// Unmounts what an expire packet names.
    fn remove(&self, got: &Got) -> Option<Errno> {
        let place = self.path.join(OsStr::from_bytes(&got.name));
        umount2(&place, MntFlags::empty()).unwrap();
        if got.kind == Kind::Indirect {
            fs::remove_dir(&place).unwrap();
        }
        None
    }
}

impl From<&[u8]> for Got {
    fn from(bytes: &[u8]) -> Self {
        let packet = Packet::decode(bytes).unwrap();
        let request = *packet.request();
        Self {
            expire: matches!(packet, Packet::Expire(_)),
            kind: request.kind,
            token: request.token,
            dev: request.dev,
            ino: request.ino,
            who: request.who,
            name: request.name.to_vec(),
        }
    }
}

fn mount_tmpfs(place: &Path) {
    nix::mount::mount(Some("test"), place, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
}

/// The exit status of a visitor: 0, or the errno that it got.
#[track_caller]
fn end(mut client: Child) -> i32 {
    wait_for("the end of a client", secs(5), || client.try_wait().unwrap()).code().unwrap()
}

#[track_caller]
fn fails_with<T: std::fmt::Debug>(result: std::io::Result<T>, errno: Os) {
    assert_eq!(result.unwrap_err().raw_os_error(), Some(errno as i32));
}

#[case]
fn indirect() {
    let master = Master::mount("/mnt/i", Kind::Indirect, 300);
    let client = visit::process("/mnt/i/key", 1000);
    let got = master.take();
    assert!(!got.expire);
    assert_eq!((got.kind, &*got.name), (Kind::Indirect, &b"key"[..]));
    assert_eq!((got.dev, got.ino), (master.dev, 1.max(got.ino)));
    assert_eq!((got.who.uid, got.who.gid), (1000, 1000));
    assert_eq!((got.who.pid, got.who.tgid), (client.id(), client.id()));
    master.serve(&got);
    assert_eq!(end(client), 0);

    assert_eq!(end(visit::process("/mnt/i/key", 0)), 0);
    assert!(master.is_quiet(), "what is mounted needs no request");
    fails_with(master.control.ready(master.root().as_fd(), got.token), Os::EINVAL);
    fails_with(master.control.fail(master.root().as_fd(), got.token, Errno::EIO), Os::EINVAL);
}

#[case]
fn direct() {
    let master = Master::mount("/mnt/d", Kind::Direct, 300);
    let client = visit::process("/mnt/d", 1000);
    let got = master.take();
    assert_eq!((got.kind, got.dev, &*got.name), (Kind::Direct, master.dev, &b""[..]));
    mount_tmpfs(&master.path);
    let root = master.root();
    master.control.ready(root.as_fd(), got.token).unwrap();
    assert_eq!(end(client), 0);
    assert_eq!(master.control.requester(root.as_fd(), &master.path).unwrap(), (1000, 1000));
    fails_with(Control::without_device().open_mount(&master.path, master.dev), Os::ENOENT);
}

#[case]
fn offset() {
    let top = Master::mount("/mnt/m", Kind::Indirect, 300);
    let client = visit::process("/mnt/m/key/sub", 0);
    let got = top.take();
    // As in a multi-mount: a directory of the autofs file system itself, with a trigger below.
    let below = Master::mount("/mnt/m/key/sub", Kind::Offset, 300);
    assert_eq!(below.shown().kind, Kind::Offset);
    top.control.ready(top.root().as_fd(), got.token).unwrap();
    let got = below.take();
    assert_eq!((got.kind, got.dev), (Kind::Direct, below.dev));
    below.serve(&got);
    assert_eq!(end(client), 0);
}

#[case]
fn names_are_bytes() {
    let master = Master::mount("/mnt/a b\n\\", Kind::Indirect, 300);
    let table = mountinfo::read().unwrap();
    assert!(mountinfo::parse(&table).any(|e| e.path() == master.path && e.dev == master.dev));
    for name in [&b"a b\t\n\\040\xff*&$"[..], &[b'x'; 253]] {
        let client = visit::process(master.path.join(OsStr::from_bytes(name)), 0);
        let got = master.take();
        assert_eq!(got.name, name);
        master.serve(&got);
        assert_eq!(end(client), 0);
    }
    // The kernel has no room for longer ones, and says so to nobody.
    assert_eq!(end(visit::process(master.path.join("x".repeat(254)), 0)), Os::ENOENT as i32);
    assert!(master.is_quiet());
}

#[case]
fn fail_says_why() {
    let master = Master::mount("/mnt/i", Kind::Indirect, 300);
    for error in [Errno::ENOENT, Errno::EBUSY, Errno::ETIMEDOUT, Errno::ELOOP, Errno::EAGAIN, Errno::EIO] {
        let client = visit::process("/mnt/i/key", 0);
        master.control.fail(master.root().as_fd(), master.take().token, error).unwrap();
        assert_eq!(end(client), error.number());
        assert!(master.is_quiet());
    }
}

#[case]
fn two_mounts_on_one_pipe() {
    let one = Master::mount("/mnt/one", Kind::Direct, 300);
    fs::create_dir("/mnt/two").unwrap();
    // The write end of the first mount is closed by now.
    let write_end = one.pipe.write_end().unwrap();
    let dev = mount_at("/mnt/two", &write_end, Kind::Direct, Options::default()).unwrap();
    drop(write_end);
    let (first, second) = (visit::process("/mnt/two", 0), visit::process("/mnt/one", 0));
    let (a, b) = (one.take(), one.take());
    let (a, b) = if a.dev == dev { (a, b) } else { (b, a) };
    assert_eq!((a.dev, b.dev), (dev, one.dev));
    let two = one.control.open_mount("/mnt/two".as_ref(), dev).unwrap();
    fails_with(one.control.ready(two.as_fd(), b.token), Os::EINVAL);
    mount_tmpfs("/mnt/two".as_ref());
    one.control.ready(two.as_fd(), a.token).unwrap();
    one.serve(&b);
    assert_eq!((end(first), end(second)), (0, 0));
}

#[case]
fn a_packet_goes_into_shared_memory() {
    let master = Master::mount("/mnt/i", Kind::Indirect, 300);
    let memory = SharedMemory::create(NonZeroUsize::new(2).unwrap()).unwrap();
    let client = visit::process("/mnt/i/key", 0);
    let record = &memory.records()[1];
    let length = wait_for("a packet", secs(5), || match record.read(master.pipe.as_fd()).unwrap() {
        Read::Packet(length) => Some(length),
        _ => None,
    });
    assert_eq!(length, if cfg!(target_pointer_width = "64") { packet::SIZE } else { length });
    let got = Got::from(&record.packet()[..length]);
    assert_eq!(got.name, b"key");
    assert_eq!(record.token().load(std::sync::atomic::Ordering::Relaxed), got.token.0.get());
    master.serve(&got);
    assert_eq!(end(client), 0);
}

#[case]
fn expire() {
    let master = Master::mount("/mnt/i", Kind::Indirect, 300);
    let never = |_: &Got| panic!("there is nothing to expire");
    assert_eq!(master.expire(How::IMMEDIATE, never).unwrap(), Expired::Nothing);
    let client = visit::process("/mnt/i/key", 0);
    master.serve(&master.take());
    assert_eq!(end(client), 0);

    assert_eq!(master.expire(How::NORMAL, never).unwrap(), Expired::Nothing, "too young");
    fails_with(master.expire(How::IMMEDIATE, |_| Some(Errno::EBUSY)), Os::EBUSY);
    assert!(fs::read_dir("/mnt/i/key").is_ok());
    let busy = fs::File::open("/mnt/i/key").unwrap();
    assert_eq!(master.expire(How::IMMEDIATE, never).unwrap(), Expired::Nothing, "in use");
    fails_with(master.expire(How::IMMEDIATE | How::FORCED, |_| Some(Errno::EBUSY)), Os::EBUSY);
    drop(busy);
    let remove = |got: &Got| {
        assert_eq!((got.kind, got.dev, &*got.name), (Kind::Indirect, master.dev, &b"key"[..]));
        master.remove(got)
    };
    assert_eq!(master.expire(How::IMMEDIATE, remove).unwrap(), Expired::One);
    assert_eq!(master.expire(How::IMMEDIATE, never).unwrap(), Expired::Nothing);

    let master = Master::mount("/mnt/d", Kind::Direct, 300);
    let client = visit::process("/mnt/d", 0);
    master.serve(&master.take());
    assert_eq!(end(client), 0);
    assert_eq!(master.expire(How::IMMEDIATE, |got| master.remove(got)).unwrap(), Expired::One);
    let client = visit::process("/mnt/d", 0);
    master.serve(&master.take());
    assert_eq!(end(client), 0, "it serves again");
}

#[case]
fn expire_by_age() {
    let master = Master::mount("/mnt/i", Kind::Indirect, 1);
    let client = visit::process("/mnt/i/key", 0);
    master.serve(&master.take());
    assert_eq!(end(client), 0);
    let begin = Instant::now();
    wait_for("the entry's age", secs(5), || {
        (master.expire(How::NORMAL, |got| master.remove(got)).unwrap() == Expired::One).then_some(())
    });
    assert!(begin.elapsed() > Duration::from_millis(800), "after {:?}", begin.elapsed());
}

#[case]
fn timeouts() {
    let master = Master::mount("/mnt/i", Kind::Indirect, 300);
    let (control, root) = (&master.control, master.root());
    assert_eq!(master.shown().timeout, 300);
    assert_eq!(control.set_timeout(root.as_fd(), 7).unwrap(), 300);
    assert_eq!(control.set_timeout(root.as_fd(), 0).unwrap(), 7);
    assert_eq!(master.shown().timeout, 0);
    assert_eq!(control.set_timeout(root.as_fd(), 60).unwrap(), 0);

    let set = |name: &[u8], seconds| control.set_entry_timeout(root.as_fd(), name, seconds);
    if control.proto_subversion(root.as_fd()).unwrap() < 6 {
        assert_eq!(set(b"key", Some(1)).unwrap_err().kind(), std::io::ErrorKind::Unsupported);
        assert_eq!(master.shown().timeout, 60);
        return;
    }
    fails_with(set(b"key", Some(1)), Os::ENOENT);
    let client = visit::process("/mnt/i/key", 0);
    master.serve(&master.take());
    assert_eq!(end(client), 0);
    set(b"key", Some(1)).unwrap();
    wait_for("the entry's own age", secs(5), || {
        (master.expire(How::NORMAL, |_| Some(Errno::EBUSY)).is_err()).then_some(())
    });
    set(b"key", None).unwrap();
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(master.expire(How::NORMAL, |_| panic!("60 seconds have not passed")).unwrap(), Expired::Nothing);
    assert_eq!(master.shown().timeout, 60);
}

#[case]
fn what_the_kernel_shows() {
    let options = Options { timeout: 12, strictexpire: true, ignore: true, propagation: None };
    let master = Master::mount_with("/mnt/i", Kind::Indirect, options);
    let shown = master.shown();
    assert_eq!((shown.kind, shown.timeout), (Kind::Indirect, 12));
    assert_eq!((shown.strictexpire, shown.ignore), (true, true));
    assert_eq!((shown.minproto, shown.maxproto), (5, 5));
    assert_eq!(shown.pgrp, children::process_group());
    let Some(pipe) = shown.pipe_ino else { return };
    assert_eq!(pipe, i64::try_from(master.pipe.inode().unwrap()).unwrap());
    assert!(procfs::reads_pipe(shown.pgrp, master.pipe.inode().unwrap()).unwrap());
    assert!(!procfs::reads_pipe(1, master.pipe.inode().unwrap()).unwrap());
}

#[case]
fn what_is_mounted_where() {
    let master = Master::mount("/mnt/d", Kind::Direct, 300);
    let (control, path) = (&master.control, master.path.as_path());
    assert_eq!(control.version().unwrap().0, 1);
    assert_eq!(control.proto_version(master.root().as_fd()).unwrap(), 5);
    assert!(control.proto_subversion(master.root().as_fd()).unwrap() >= 5);
    assert!(control.ask_umount(master.root().as_fd()).unwrap());

    let found = control.is_mountpoint(path, None).unwrap().unwrap();
    assert_eq!((found.dev, found.magic), (master.dev, AUTOFS_SUPER_MAGIC));
    assert!(control.is_mountpoint(path, Some(Kind::Indirect)).unwrap().is_none());
    assert!(control.is_mountpoint("/mnt/nowhere".as_ref(), None).unwrap().is_none());
    fs::create_dir("/mnt/plain").unwrap();
    assert!(control.is_mountpoint("/mnt/plain".as_ref(), None).unwrap().is_none());

    mount_tmpfs(path);
    assert_ne!(control.is_mountpoint(path, None).unwrap().unwrap().magic, AUTOFS_SUPER_MAGIC);
    assert_eq!(control.is_mountpoint(path, Some(Kind::Direct)).unwrap().unwrap().dev, master.dev, "it is below");
    assert!(!control.ask_umount(master.root().as_fd()).unwrap());
    fails_with(control.open_mount(path, master.dev + 1), Os::ENOENT);
}

#[case]
fn the_end_of_a_mount_is_the_end_of_its_pipe() {
    let master = Master::mount("/mnt/i", Kind::Indirect, 300);
    assert_eq!(master.pipe.read(&mut [0; 512]).unwrap(), Read::Empty);
    umount2(&master.path, MntFlags::empty()).unwrap();
    assert_eq!(master.pipe.read(&mut [0; 512]).unwrap(), Read::End);
}

#[case]
fn a_failed_mount_leaves_nothing() {
    fs::create_dir("/mnt/i").unwrap();
    let (pipe, write_end) = ReadEnd::create().unwrap();
    let dir = path::open_exact(Path::new("/mnt")).unwrap();
    let target = Target { dir: dir.as_fd(), name: Path::new("i"), path: Path::new("/mnt/i") };
    let mount =
        |end: &dyn AsFd| mount_autofs("x".as_ref(), target, true, end.as_fd(), Kind::Indirect, Options::default());
    let is_mounted = || mountinfo::parse(&mountinfo::read().unwrap()).any(|e| &*e.target == b"/mnt/i");
    assert!(mount(&pipe).is_err(), "a read end");

    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let free = fds::duplicate(pipe.as_fd()).unwrap();
    let number = u64::try_from(std::os::fd::AsRawFd::as_raw_fd(&free)).unwrap();
    drop(free);
    setrlimit(Resource::RLIMIT_NOFILE, number, hard).unwrap();
    let result = mount(&write_end);
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    fails_with(result, Os::EMFILE);
    assert!(!is_mounted());
    mount(&write_end).unwrap();
    assert!(is_mounted());
}

#[case]
fn catatonic_and_a_new_pipe() {
    let mut master = Master::mount("/mnt/i", Kind::Indirect, 300);
    let root = master.root();
    let (pipe, write_end) = ReadEnd::create().unwrap();
    fails_with(master.control.set_pipe(root.as_fd(), write_end.as_fd()), Os::EBUSY);

    let client = visit::process("/mnt/i/key", 0);
    let got = master.take();
    master.control.catatonic(root.as_fd()).unwrap();
    assert_eq!(end(client), Os::ENOENT as i32, "who waits is thrown out");
    assert_eq!(end(visit::process("/mnt/i/other", 0)), Os::ENOENT as i32);
    assert_eq!(master.pipe.read(&mut [0; 512]).unwrap(), Read::End);
    fails_with(master.control.ready(root.as_fd(), got.token), Os::EINVAL);
    let shown = master.shown();
    assert_eq!(shown.fd, -1);
    assert!(shown.pipe_ino.is_none_or(|inode| inode == -1));

    master.control.set_pipe(root.as_fd(), write_end.as_fd()).unwrap();
    drop((root, write_end));
    master.pipe = pipe;
    let client = visit::process("/mnt/i/key", 0);
    master.serve(&master.take());
    assert_eq!(end(client), 0);
    assert_eq!(master.shown().timeout, 300, "the timeout has survived");
}

/// Forks an owner of an autofs mount at `/mnt/i`, who answers nothing.
fn owner() -> i32 {
    let (begun, tell) = fds::pair().unwrap();
    match children::fork().unwrap() {
        Fork::Child => {
            children::lead_group().unwrap();
            let _master = Master::mount("/mnt/i", Kind::Indirect, 300);
            fds::send(tell.as_fd(), b"up", None).unwrap();
            loop {
                std::thread::park();
            }
        }
        Fork::Parent(pid) => {
            drop(tell);
            assert!(fds::receive(begun.as_fd(), &mut [0; 8]).unwrap().is_some(), "the owner has mounted");
            pid
        }
    }
}

fn found() -> (u32, AutofsOptions) {
    let table = mountinfo::read().unwrap();
    let entry = mountinfo::parse(&table).find(|e| &*e.target == b"/mnt/i").unwrap();
    (entry.dev, entry.autofs().unwrap())
}

#[case]
fn take_over_from_a_dead_owner() {
    let pid = owner();
    let (dev, options) = found();
    assert_eq!(options.pgrp, pid);
    if let Some(pipe) = options.pipe_ino.and_then(|i| u64::try_from(i).ok()) {
        assert!(procfs::reads_pipe(options.pgrp, pipe).unwrap(), "it lives");
        children::kill(pid, Signal::Kill).unwrap();
        assert_eq!(children::wait_for(pid).unwrap(), Exit::Signal(9));
        assert!(!procfs::reads_pipe(options.pgrp, pipe).unwrap());
    } else {
        children::kill(pid, Signal::Kill).unwrap();
        assert_eq!(children::wait_for(pid).unwrap(), Exit::Signal(9));
    }
    assert_eq!(found().1.pgrp, pid, "the table still shows the dead");

    let (pipe, write_end) = ReadEnd::create().unwrap();
    let master = Master { control: Control::open().unwrap(), pipe, path: "/mnt/i".into(), dev };
    let root = master.root();
    master.control.catatonic(root.as_fd()).unwrap();
    master.control.set_pipe(root.as_fd(), write_end.as_fd()).unwrap();
    drop((root, write_end));
    assert_eq!(found().1.pgrp, children::process_group());
    let client = visit::process("/mnt/i/key", 0);
    master.serve(&master.take());
    assert_eq!(end(client), 0);
}

#[case]
fn other_groups_are_refused() {
    let pid = owner();
    let (control, (dev, _)) = (Control::open().unwrap(), found());
    let root = control.open_mount("/mnt/i".as_ref(), dev).unwrap();
    let (_pipe, write_end) = ReadEnd::create().unwrap();
    fails_with(control.proto_version(root.as_fd()), Os::EACCES);
    fails_with(control.set_timeout(root.as_fd(), 1), Os::EACCES);
    fails_with(control.set_pipe(root.as_fd(), write_end.as_fd()), Os::EACCES);
    children::kill(pid, Signal::Kill).unwrap();
    children::wait_for(pid).unwrap();
}

#[case]
fn without_the_device() {
    let mut master = Master::mount("/mnt/i", Kind::Indirect, 300);
    master.control = Control::without_device();
    let control = Control::without_device();
    let root = master.root();
    assert_eq!(control.proto_version(root.as_fd()).unwrap(), 5);
    assert!(control.proto_subversion(root.as_fd()).unwrap() >= 5);
    assert_eq!(control.set_timeout(root.as_fd(), 7).unwrap(), 300);
    assert!(control.ask_umount(root.as_fd()).unwrap());

    let client = visit::process("/mnt/i/key", 0);
    master.serve(&master.take());
    assert_eq!(end(client), 0);
    let client = visit::process("/mnt/i/other", 0);
    control.fail(root.as_fd(), master.take().token, Errno::EIO).unwrap();
    assert_eq!(end(client), Os::ENOENT as i32, "this way no other errno is possible");
    assert_eq!(master.expire(How::NORMAL, |_| None).unwrap(), Expired::Nothing);
    assert_eq!(master.expire(How::IMMEDIATE, |got| master.remove(got)).unwrap(), Expired::One);
    control.catatonic(root.as_fd()).unwrap();
    assert_eq!(end(visit::process("/mnt/i/key", 0)), Os::ENOENT as i32);
}

#[case]
fn mounts_by_fanotify() {
    let events = match MountEvents::fanotify() {
        Ok(events) => events,
        // Before 6.15.
        Err(e) if e.raw_os_error() == Some(Os::EINVAL as i32) => return,
        Err(e) => panic!("{e}"),
    };
    assert_eq!(events.drain().unwrap(), Changes::Known(Known::default()));
    for name in ["/mnt/a", "/mnt/b"] {
        fs::create_dir(name).unwrap();
        mount_tmpfs(name.as_ref());
    }
    assert_eq!(fds::poll([events.as_fd()], Some(secs(5))).unwrap(), [true]);
    let Changes::Known(Known { gone: 0, come }) = events.drain().unwrap() else { panic!("two mounts have come") };
    let places: Vec<_> = come.iter().copied().map(mount_id::place).collect();
    assert_eq!(places, ["/mnt/a", "/mnt/b"].map(|at| mount_id::Place::At { path: at.into(), autofs: false }));
    for name in ["/mnt/a", "/mnt/b"] {
        umount2(name, MntFlags::empty()).unwrap();
    }
    assert_eq!(fds::poll([events.as_fd()], Some(secs(5))).unwrap(), [true]);
    assert_eq!(events.drain().unwrap(), Changes::Known(Known { gone: 2, come: Vec::new() }));
    assert_eq!(
        come.into_iter().map(mount_id::place).collect::<Vec<_>>(),
        [mount_id::Place::Gone, mount_id::Place::Gone]
    );
    assert_eq!(fds::poll([events.as_fd()], Some(Duration::ZERO)).unwrap(), [false]);
}

#[case]
fn mounts_by_the_table() {
    let events = MountEvents::table().unwrap();
    // As an event loop waits: for the edge only.
    let reactor = Epoll::new(EpollCreateFlags::empty()).unwrap();
    reactor.add(&events, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0)).unwrap();
    let wakes = |timeout: u16| reactor.wait(&mut [EpollEvent::empty()], timeout).unwrap() == 1;
    assert!(!wakes(0));
    fs::create_dir("/mnt/a").unwrap();
    for _ in 0..3 {
        mount_tmpfs("/mnt/a".as_ref());
        assert!(wakes(5000));
        assert_eq!(events.drain().unwrap(), Changes::Unknown);
        assert!(!wakes(0), "it says so once");
        umount2("/mnt/a", MntFlags::empty()).unwrap();
        assert!(wakes(5000));
        assert_eq!(events.drain().unwrap(), Changes::Unknown);
    }
}
