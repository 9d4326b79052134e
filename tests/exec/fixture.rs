//! The fixture of the suite: an autofs mount, and mounters and unmounters for it.

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use autofs::engine::{Key, Kind, Requester};
use autofs::exec::dirs::Maker;
use autofs::exec::{Failure, Mounter, Performed, Place, Settings, Unmounter, mount_trigger};
use autofs::map::Propagation;
use autofs::plan::{Action, FsMount, Plan};
use autofs::sys::autofs::Options;
use autofs::sys::pipe::ReadEnd;
use autofs::sys::{mountinfo, path};
use nix::mount::{MsFlags, mount as mount2};
use nix::sched::{CloneFlags, unshare};

/// A mount namespace with an indirect autofs mount at `auto`, a directory for sources and one for programs.
pub struct Fixture {
    pub base: PathBuf,
    pub pipe: ReadEnd,
    pub settings: Settings,
    pub runtime: tokio::runtime::Runtime,
}

impl Fixture {
    pub fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount2(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let base = PathBuf::from("/tmp");
        mount2(Some("base"), &base, Some("tmpfs"), MsFlags::empty(), none).unwrap();
        // Where stages are made.
        mount2(Some("run"), Path::new("/run"), Some("tmpfs"), MsFlags::empty(), Some("mode=755")).unwrap();
        for name in ["auto", "source", "sbin", "direct"] {
            fs::create_dir(base.join(name)).unwrap();
        }
        mount2(Some("source"), &base.join("source"), Some("tmpfs"), MsFlags::empty(), none).unwrap();
        fs::create_dir(base.join("source/a")).unwrap();
        fs::write(base.join("source/a/file"), "content").unwrap();
        let (pipe, write_end) = ReadEnd::create().unwrap();
        let mount = |at: &str, kind| {
            let (mut maker, at) = (Maker::default(), base.join(at));
            mount_trigger(&mut maker, &at, b"test", write_end.as_fd(), kind, Options::default()).unwrap().unwrap();
        };
        mount("auto", Kind::Indirect);
        mount("direct", Kind::Direct);
        let settings = Settings {
            sbin: base.join("sbin"),
            utab: base.join("utab"),
            mount_deadline: Duration::from_secs(5),
            umount_deadline: Duration::from_secs(5),
            ..Settings::default()
        };
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().unwrap();
        Self { base, pipe, settings, runtime }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.base.join(name)
    }

    pub fn mounter(&self) -> Mounter {
        Mounter::new(Arc::new(self.settings.clone()), Arc::default())
    }

    pub fn unmounter(&self) -> Unmounter {
        Unmounter::new(Arc::new(self.settings.clone()), Arc::default())
    }

    pub fn root(&self) -> OwnedFd {
        path::open(&self.path("auto")).unwrap()
    }

    pub fn place(&self, key: &str) -> Arc<Place> {
        let dev = path::fstat(self.root().as_fd()).unwrap().dev;
        let (who, label) = (Requester::default(), "/auto".into());
        Arc::new(Place { kind: Kind::Indirect, root: self.path("auto"), dev, key: key.as_bytes().into(), who, label })
    }

    pub fn direct(&self) -> Arc<Place> {
        let root = self.path("direct");
        // Before anything is mounted there: later the daemon knows it.
        let dev = mount_dev(&root, "autofs").unwrap();
        let (who, label) = (Requester::default(), "/direct".into());
        Arc::new(Place { kind: Kind::Direct, root, dev, key: Key::default(), who, label })
    }

    /// A direct mount at `home/mnt/x`, where `home` belongs to a user.
    pub fn below_a_user(&self) -> Arc<Place> {
        let root = self.path("home/mnt/x");
        fs::create_dir_all(self.path("home/mnt")).unwrap();
        for dir in ["home", "home/mnt"] {
            std::os::unix::fs::chown(self.path(dir), Some(1000), None).unwrap();
        }
        let write_end = self.pipe.write_end().unwrap();
        let (mut maker, kind) = (Maker::default(), Kind::Direct);
        mount_trigger(&mut maker, &root, b"test", write_end.as_fd(), kind, Options::default()).unwrap().unwrap();
        let dev = mount_dev(&root, "autofs").unwrap();
        let (who, label) = (Requester::default(), "/home".into());
        Arc::new(Place { kind, root, dev, key: Key::default(), who, label })
    }

    /// What the user does: his directory goes, and a link to a directory of others takes its place, in which something
    /// is mounted.
    pub fn swap(&self) {
        fs::create_dir_all(self.path("victim/x")).unwrap();
        mount2(Some("genuine"), &self.path("victim/x"), Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        fs::rename(self.path("home/mnt"), self.path("home/away")).unwrap();
        std::os::unix::fs::symlink("../victim", self.path("home/mnt")).unwrap();
    }

    /// Undoes [`swap`](Self::swap).
    pub fn swap_back(&self) {
        nix::mount::umount(&self.path("victim/x")).unwrap();
        fs::remove_file(self.path("home/mnt")).unwrap();
        fs::rename(self.path("home/away"), self.path("home/mnt")).unwrap();
    }

    /// Returns the number of mounts where the user's directory is now, and on the directory of others.
    pub fn after_the_swap(&self) -> (usize, usize) {
        (table(&self.path("home/away/x")).len(), table(&self.path("victim/x")).len())
    }

    pub fn bind(&self, source: &str, options: &str) -> FsMount {
        mount("bind", self.path(source).to_str().unwrap(), options)
    }

    pub fn perform(&self, place: &Arc<Place>, action: Action) -> Result<Performed, Failure> {
        let plan = Arc::new(plan(place, action));
        self.runtime.block_on(self.mounter().perform(&plan, place))
    }

    pub fn perform_mount(&self, place: &Arc<Place>, mount: FsMount) -> Result<Performed, Failure> {
        self.perform(place, Action::Mount(vec![mount]))
    }

    pub fn try_now(&self, place: &Place, mount: FsMount) -> Option<Performed> {
        let root = path::open(&place.root).unwrap();
        self.mounter().try_now(&plan(place, Action::Mount(vec![mount])), place, root.as_fd())
    }

    pub fn unmount(&self, place: &Arc<Place>, lazy: bool) -> Result<(), Failure> {
        self.runtime.block_on(self.unmounter().unmount(place, lazy))
    }

    /// A program in `sbin`.
    pub fn program(&self, name: &str, script: &str) {
        let path = self.path("sbin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

pub fn plan(place: &Place, action: Action) -> Plan {
    Plan { at: place.path(), action, offsets: Vec::new(), strict: false, timeout: None, requires: Vec::new() }
}

pub fn mount(fstype: &str, source: &str, options: &str) -> FsMount {
    let propagation = Propagation::Slave;
    FsMount {
        fstype: fstype.into(),
        source: source.into(),
        options: options.into(),
        propagation,
        fsck: None,
        server: None,
        limit: None,
    }
}

/// The lines of the mount table for `path`.
pub fn table(path: &Path) -> Vec<String> {
    let text = String::from_utf8(mountinfo::read().unwrap()).unwrap();
    let here = |line: &&str| line.split(' ').nth(4) == path.to_str();
    text.lines().filter(here).map(str::to_owned).collect()
}

pub fn mount_dev(path: &Path, fstype: &str) -> Option<u64> {
    let line = table(path).into_iter().find(|line| line.contains(&format!(" - {fstype} ")))?;
    let (major, minor) = line.split(' ').nth(2)?.split_once(':')?;
    Some(nix::sys::stat::makedev(major.parse().ok()?, minor.parse().ok()?))
}

pub fn is_empty(path: &Path) -> bool {
    path::names(path::open(path).unwrap().as_fd()).unwrap().is_empty()
}
