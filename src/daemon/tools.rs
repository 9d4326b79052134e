//! The tools of jobs: control device, lanes, mounter. They are handles and cheap to clone.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::config::native::{self, When};
use crate::daemon::attach::opener::Memory;
use crate::daemon::maps::configured_map::ConfiguredMap;
use crate::daemon::requirements::Requirements;
use crate::exec::dirs::Rules;
use crate::exec::lanes::Lanes;
use crate::exec::{self, Externals, Mounter, Unmounter};
use crate::link::journal::Journal;
use crate::source::configuration::Configuration;
use crate::sys::autofs::{self, Control};
use crate::sys::clock::bounded;
use crate::sys::{path, procfs};

/// The tools of jobs. A reload creates new ones; running jobs keep theirs.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    /// The control device.
    pub(crate) control: Arc<Control>,
    /// The lanes for blocking work.
    pub(crate) lanes: Arc<Lanes>,
    /// Makes mounts.
    pub(crate) mounter: Mounter,
    /// Unmounts file systems.
    pub(crate) unmounter: Unmounter,
    /// File systems outside of autofs mounts, to which entries in am-utils format lead.
    pub(crate) externals: Externals,
    /// Paths whose opening has blocked recently.
    pub(crate) blocked: Memory,
    /// The users for whom multi-mounts were mounted.
    pub(crate) requesters: Requesters,
    /// The paths that entries require.
    pub(crate) requirements: Requirements,
    /// How long the way to one of them may take, and how long a process may take to end when asked to.
    pub(crate) requires: (Duration, Duration),
    /// Whether this daemon runs in a container.
    container: bool,
    /// Whether a placeholder is mounted where a multi-mount has no root.
    pub(crate) placeholder: bool,
    /// Whether autofs mounts get the option `ignore`.
    pub(crate) ignore: bool,
    /// Rules for mount points.
    pub(crate) rules: Rules,
}

impl Tools {
    /// Creates the tools for a configuration. `container` is what [`is_in_container`] has returned.
    pub(crate) fn new(
        configuration: &Configuration,
        control: Arc<Control>,
        lanes: Arc<Lanes>,
        requesters: Requesters,
        container: bool,
    ) -> Self {
        let settings = Arc::new(settings(configuration));
        Self {
            control,
            mounter: Mounter::new(Arc::clone(&settings), Arc::clone(&lanes)),
            unmounter: Unmounter::new(settings, Arc::clone(&lanes)),
            lanes,
            externals: Externals::default(),
            blocked: Memory::default(),
            requesters,
            requirements: Requirements::default(),
            requires: (
                bounded(configuration.native.deadlines.requires),
                bounded(configuration.native.deadlines.helper_kill),
            ),
            container,
            placeholder: match configuration.native.mount.placeholder {
                When::Always => true,
                When::Never => false,
                When::Auto => container,
            },
            ignore: configuration.conf.autofs.use_ignore_mount_option,
            rules: Rules {
                user_parents: configuration.native.security.user_parents == native::UserParents::Allow,
                ..Rules::default()
            },
        }
    }

    /// Returns whether this daemon runs in a container.
    pub(crate) fn is_in_container(&self) -> bool {
        self.container
    }

    /// Creates the tools for another configuration, with the same lanes, device and blocked paths.
    pub(crate) fn configured(&self, configuration: &Configuration) -> Self {
        let (control, lanes) = (Arc::clone(&self.control), Arc::clone(&self.lanes));
        let new = Self::new(configuration, control, lanes, self.requesters.clone(), self.container);
        Self {
            blocked: Arc::clone(&self.blocked),
            externals: self.externals.clone(),
            requirements: self.requirements.clone(),
            ..new
        }
    }

    /// Returns the options for the autofs mounts of a line of the master map.
    pub(crate) fn mount_options(&self, map: &ConfiguredMap) -> autofs::Options {
        autofs::Options {
            timeout: map.timeout(),
            strictexpire: map.options.strictexpire,
            ignore: self.ignore,
            propagation: map.options.trigger_propagation,
        }
    }
}

/// The users for whom multi-mounts were mounted. They are stored in the journal for the next worker, because the kernel does
/// not keep them.
#[derive(Debug, Clone)]
pub(crate) struct Requesters(Rc<RefCell<Journal>>);

impl Requesters {
    /// Creates a view of this journal.
    pub(crate) fn new(journal: Rc<RefCell<Journal>>) -> Self {
        Self(journal)
    }

    /// Stores the user and group for whom the multi-mount at `path` is made.
    pub(crate) fn remember(&self, path: &Path, uid: u32, gid: u32) {
        self.0.borrow_mut().remember(path, uid, gid);
    }

    /// Returns the user and group for whom the multi-mount at `path` was made.
    pub(crate) fn get(&self, path: &Path) -> Option<(u32, u32)> {
        self.0.borrow().requester(path)
    }

    /// Removes the record of the multi-mount at `path`.
    pub(crate) fn forget(&self, path: &Path) {
        self.0.borrow_mut().forget(path);
    }
}

fn native_names(types: &[native::CredentialType]) -> Vec<String> {
    types.iter().map(|fstype| fstype.name().to_owned()).collect()
}

fn settings(configuration: &Configuration) -> exec::Settings {
    let settings = &configuration.conf.autofs;
    let deadlines = &configuration.native.deadlines;
    exec::Settings {
        method: match configuration.native.mount.method {
            native::Method::Auto => exec::Method::Auto,
            native::Method::Command => exec::Method::Command,
        },
        mount_deadline: bounded(settings.mount_wait.map_or(deadlines.mount, Duration::from_secs)),
        umount_deadline: bounded(settings.umount_wait.map_or(deadlines.umount, Duration::from_secs)),
        grace: bounded(deadlines.helper_kill),
        verbose: settings.mount_verbose,
        environment: crate::source::variables(&configuration.native.helpers.environment),
        requester_credentials: native_names(&configuration.native.helpers.requester_credentials),
        staging: configuration.native.mount.staging.iter().map(|path| path.0.clone()).collect(),
        strict_sources: configuration.native.security.source_links == native::SourceLinks::Root,
        ..exec::Settings::default()
    }
}

/// Files by which podman and systemd mark a container.
const CONTAINER_MARKS: [&str; 2] = ["/run/.containerenv", "/run/systemd/container"];

/// The file by which docker marks the root file system of a container. Virtual machines that are made from such a file system
/// have it, too.
const DOCKER_MARK: &str = "/.dockerenv";

/// The control group namespace of the machine, PROC_CGROUP_INIT_INO of linux/proc_ns.h.
const FIRST_CGROUP_NAMESPACE: &str = "cgroup:[4026531835]";

/// Returns whether this process runs in a container: such a file exists, the environment says so, or the process is in other
/// namespaces than the machine. May wait for a disk, so the reactor does not call it.
pub(crate) fn is_in_container() -> bool {
    let is_there = |mark: &str| path::lstat(mark.as_ref()).is_ok();
    CONTAINER_MARKS.iter().any(|mark| is_there(mark))
        || std::env::var_os("container").is_some_and(|value| !value.is_empty())
        || is_there(DOCKER_MARK) && is_in_control_group_of_container()
        || procfs::is_apart()
}

/// Returns whether the control groups of this process are those of a container: in a namespace of their own, or with a name
/// that container managers give.
fn is_in_control_group_of_container() -> bool {
    let namespace = std::fs::read_link("/proc/self/ns/cgroup");
    let names = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    namespace.map_or(true, |namespace| namespace.as_os_str() != FIRST_CGROUP_NAMESPACE)
        || ["docker", "containerd", "kubepods", "libpod"].iter().any(|manager| names.contains(manager))
}
