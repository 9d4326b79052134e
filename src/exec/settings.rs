//! How mounts are made: what `autofs.conf` and the packager say of it.

use std::path::PathBuf;
use std::time::Duration;

/// Which way mounts go.
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
    /// Which way mounts go.
    pub method: Method,
    /// How long one attempt to mount may take: `mount_wait`.
    pub mount_deadline: Duration,
    /// How long an unmount may take: `umount_wait`.
    pub umount_deadline: Duration,
    /// Between asking a program that is late to end and ending it.
    pub grace: Duration,
    /// Log how mounts are made as information, not as debugging: `mount_verbose`.
    pub verbose: bool,
    /// mount(8).
    pub mount: PathBuf,
    /// umount(8).
    pub umount: PathBuf,
    /// Where `mount.TYPE`, `umount.TYPE` and `fsck.TYPE` are.
    pub sbin: PathBuf,
    /// Where libmount keeps what the kernel does not know of mounts; umount(8) tidies it up.
    pub utab: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            method: Method::Auto,
            mount_deadline: Duration::from_secs(180),
            umount_deadline: Duration::from_secs(12),
            grace: Duration::from_secs(2),
            verbose: false,
            mount: env!("AUTOFS_MOUNT").into(),
            umount: env!("AUTOFS_UMOUNT").into(),
            sbin: env!("AUTOFS_SBIN").into(),
            utab: "/run/mount/utab".into(),
        }
    }
}
