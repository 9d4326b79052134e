//! Kernel interface of autofs mounts: creating one, and all ioctls on it.
//!
//! A *root* is a file descriptor of the root directory of an autofs mount, open for reading. Close it soon: it makes the
//! mount busy, and a direct mount does not expire while two of them are open.

mod control;
mod create;
mod device_number;
mod ioctl;

pub use control::{Control, Expired, How, MountPoint};
pub use create::{NewAutofs, mount_autofs, protocol, set_propagation};
pub use device_number::{decode, encode, encode_parts};

use crate::map::Propagation;

/// `f_type` of statfs(2) for autofs, and [`MountPoint::magic`] of an autofs mount (`<linux/magic.h>`).
pub const AUTOFS_SUPER_MAGIC: u32 = 0x187;

/// Mount options of an autofs file system, except its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Seconds until an unused mount may expire; 0: never.
    pub timeout: u64,
    /// Lookups do not count as use.
    pub strictexpire: bool,
    /// Readers of the mount table are asked to leave it out. Silently dropped by kernels before 5.4.
    pub ignore: bool,
    /// How the mount passes mounts on. `None`: as the kernel decides, which depends on the mount that it is on.
    pub propagation: Option<Propagation>,
}
