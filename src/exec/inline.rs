//! Carries out plans that cannot wait, on the thread of the reactor.
//!
//! A bind mount whose source the dentry cache knows, a tmpfs and a symbolic link need no disk, no server and no program,
//! and cost less than handing them to another thread.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use log::{debug, info};

use super::options::Options;
use super::place::{Site, Stands};
use super::way;
use super::{Mounter, Performed, Place};
use crate::engine::Kind;
use crate::fault;
use crate::plan::{Action, FsMount, Plan};
use crate::sys::{mount, mount_id, path};
use crate::text::Escaped;

/// A mount that is prepared: everything that may wait is done.
enum Ready {
    Bind(OwnedFd, Options),
    Tmpfs(Options),
}

impl Mounter {
    /// Carries the plan out at once, if that can be done without waiting for anything. `root` is the root of the autofs
    /// mount, open at least with `O_PATH`. Returns `None` if it cannot, or if it failed, and nothing was changed; then
    /// [`perform`](Self::perform) does it, or says why it does not work.
    ///
    /// No descriptor stays open: who has triggered the mount can unmount it, and its source, as soon as the request is
    /// answered.
    pub fn try_now(&self, plan: &Plan, place: &Place, root: BorrowedFd<'_>) -> Option<Performed> {
        if !self.in_process() || !plan.offsets.is_empty() {
            return None;
        }
        let path = place.path();
        let site = place.site(root, &path)?;
        let mount = match &plan.action {
            Action::Symlink(text) if place.kind == Kind::Indirect => return link(site, text, &place.label),
            Action::Mount(mounts) => mounts.first()?,
            _ => return None,
        };
        let ready = ready(mount, &path, self.settings().strict_sources)?;
        let made = match place.kind {
            Kind::Indirect => site.make().ok()?,
            // An earlier worker may have mounted it. Another device may also mean that a directory above was renamed:
            // then the long way finds the mount.
            Kind::Direct | Kind::Offset => {
                let top = path::open_cached_exact(&path).ok()?;
                if path::fstat(top.as_fd()).ok()?.dev != place.dev {
                    let dir = path::open_cached_exact(path.parent()?).ok()?;
                    let ours = mount_id::is_over(top.as_fd(), dir.as_fd(), place.dev).ok()?;
                    return ours.then_some(Performed::Already);
                }
                true
            }
        };
        if !made {
            match site.look().ok()? {
                Stands::Mount => return Some(Performed::Already),
                Stands::Directory => {}
                Stands::Link | Stands::Nothing => return None,
            }
        }
        let done = match ready {
            Ready::Bind(source, options) => mount::bind(source.as_fd(), site.target, options.flags, mount.propagation),
            Ready::Tmpfs(options) => mount::mount(&mount.source, site.target, b"tmpfs", options.flags, &options.data),
        };
        if let Err(e) = done {
            debug!(target: &place.label, "{} is not mounted at once: {e}", Escaped::path(&path));
            if made {
                let _ = site.remove(Stands::Directory);
            }
            return None;
        }
        fault::point("mounted");
        info!(target: &place.label, "mounted {}", Escaped::path(&path));
        Some(Performed::Now)
    }
}

fn link(site: Site<'_>, text: &[u8], label: &str) -> Option<Performed> {
    if site.look().ok()? == Stands::Mount {
        return Some(Performed::Already);
    }
    site.link(text).ok()?;
    info!(target: label, "mounted {}", Escaped::path(site.target.path));
    Some(Performed::Now)
}

fn ready(mount: &FsMount, path: &Path, strict: bool) -> Option<Ready> {
    match &*mount.fstype {
        b"bind" => {
            let source = Path::new(OsStr::from_bytes(&mount.source));
            if !source.is_absolute() || source == path {
                return None;
            }
            let options = way::bind_options(&mount.options)?;
            let source = if strict { path::open_cached_exact(source) } else { path::open_cached(source) }.ok()?;
            // A trigger has to be triggered first. To ask the file system for its type could wait for its server.
            (!mount_id::is_autofs(source.as_fd())?).then_some(Ready::Bind(source, options))
        }
        b"tmpfs" => Options::for_kernel(&mount.options).map(Ready::Tmpfs),
        _ => None,
    }
}
