//! How mounts are made, as the configuration and the packager want it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// By what mounts are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// By system call where no program is needed, by `mount.TYPE` where there is one, else by mount(8).
    #[default]
    Auto,
    /// All by mount(8) and umount(8): `mount_method = command`.
    Command,
}

/// Settings of the executor. A reload makes a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// By what mounts are made.
    pub method: Method,
    /// How long one attempt to mount may take: `mount_wait`.
    pub mount_deadline: Duration,
    /// How long an unmount may take: `umount_wait`.
    pub umount_deadline: Duration,
    /// The time between SIGTERM and SIGKILL for a program that is late.
    pub grace: Duration,
    /// Variables of the service's environment that programs get: `[helpers] environment` in autofs.toml.
    pub environment: Vec<(OsString, OsString)>,
    /// Follow a symbolic link on the way to a bind source only if nobody but root can have made it: `[security]
    /// source_links` in autofs.toml.
    pub strict_sources: bool,
    /// Types that are mounted with the credentials of the requester: `[helpers] requester_credentials`.
    pub requester_credentials: Vec<String>,
    /// Paths below which programs mount in a stage: `[mount] staging`.
    pub staging: Vec<PathBuf>,
    /// Log how mounts are made as information, not as debugging: `mount_verbose`.
    pub verbose: bool,
    /// mount(8).
    pub mount: PathBuf,
    /// umount(8).
    pub umount: PathBuf,
    /// The directory of `mount.TYPE`, `umount.TYPE` and `fsck.TYPE`.
    pub sbin: PathBuf,
    /// The file in which libmount keeps what the kernel does not know about mounts; umount(8) tidies it up.
    pub utab: PathBuf,
}

impl Settings {
    /// Returns whether programs mount what belongs to `path` in a stage.
    pub(super) fn is_staged(&self, path: &Path) -> bool {
        self.staging.iter().any(|staged| path.starts_with(staged))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            method: Method::Auto,
            mount_deadline: Duration::from_secs(180),
            umount_deadline: Duration::from_secs(12),
            grace: Duration::from_secs(2),
            environment: Vec::new(),
            strict_sources: false,
            requester_credentials: Vec::new(),
            staging: Vec::new(),
            verbose: false,
            mount: env!("AUTOFS_MOUNT").into(),
            umount: env!("AUTOFS_UMOUNT").into(),
            sbin: env!("AUTOFS_SBIN").into(),
            utab: "/run/mount/utab".into(),
        }
    }
}
