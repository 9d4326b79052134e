//! Work in a private copy of the mount namespace.

use std::io;

use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountPropagationFlags, mount_change};

/// Calls `work` in a thread of its own, in a copy of our mount namespace that nothing propagates from or to. What is unmounted in it
/// stays mounted outside. The copy ends with the thread. It takes time in proportion to the number of mounts, and no mount that is
/// in it can be unmounted for good meanwhile.
///
/// # Errors
/// Returns the errors of unshare(2): EPERM without CAP_SYS_ADMIN; of making the copy private; and of `work`.
pub fn in_private_copy<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let run = || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
        work()
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("namespace".to_owned()).spawn_scoped(scope, run)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the work in a copy of the mount namespace has failed")))
    })
}

/// Number of the calling thread, under which `/proc` has it.
pub fn thread() -> i32 {
    nix::unistd::gettid().as_raw()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::sys::{children, mount, path, procfs};
    use std::os::fd::AsFd as _;

    #[test]
    fn what_is_unmounted_in_the_copy_stays_outside() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let here = procfs::mount_namespace(children::pid()).unwrap();
        let there = in_private_copy(|| {
            let proc = path::open(Path::new("/proc"))?;
            let there = procfs::mount_namespace(thread())?;
            mount::detach(proc.as_fd())?;
            Ok(there)
        });
        assert_ne!(there.unwrap(), here);
        assert_eq!(procfs::mount_namespace(children::pid()).unwrap(), here);
    }
}
