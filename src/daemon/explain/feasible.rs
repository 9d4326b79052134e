//! Whether an access would succeed, by what a mount needs on this machine: a source, a device, a program or the kernel's
//! support.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::control::{Outcome, Place};
use crate::daemon::explain::below::deepest;
use crate::daemon::jobs::resolve::Explained;
use crate::exec::lanes::{Lane, Lanes};
use crate::plan::{Action, FsMount, Plan};
use crate::sys::{fstypes, path};
use crate::text::Escaped;

/// Types whose helper cannot do without the kernel's support.
const NEED_KERNEL: &[&[u8]] =
    &[b"nfs", b"nfs4", b"cifs", b"smb3", b"ceph", b"9p", b"lustre", b"ocfs2", b"gfs2", b"afs"];

/// How long looking for the sources on this machine may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(3);

/// Whether an access would succeed, and why.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) succeeds: bool,
    pub(crate) answer: String,
    pub(crate) place: Option<Place>,
}

impl Verdict {
    pub(super) fn yes(answer: impl Into<String>) -> Self {
        Self { succeeds: true, answer: answer.into(), place: None }
    }

    pub(super) fn no(answer: impl Into<String>) -> Self {
        Self { succeeds: false, answer: answer.into(), place: None }
    }
}

/// Decides from the result of a lookup whether an access to `path` would succeed. Sources below the paths of `own` are not
/// looked at: that would mount them.
pub(super) async fn verdict(explained: &Explained, path: &Path, own: Vec<PathBuf>, lanes: &Lanes) -> Verdict {
    let reason = |otherwise: &str| explained.notes.last().cloned().unwrap_or_else(|| otherwise.to_owned());
    let place = explained.place.as_ref().map(Place::from);
    let Some(plan) = explained.plan.as_deref().filter(|_| explained.outcome == Outcome::Found) else {
        return match explained.outcome {
            Outcome::NotFound => Verdict::no(reason("no map has this key")),
            Outcome::Unavailable => Verdict::no(reason("no map can be read")),
            Outcome::Invalid | Outcome::Found => Verdict { place, ..Verdict::no(reason("the entry is invalid")) },
        };
    };
    if let Some(why) = &explained.unserved {
        return Verdict { place, ..Verdict::no(why.clone()) };
    }
    let wanted = deepest(plan, path);
    let (action, root) = (wanted.action.clone(), (wanted.at != plan.at).then(|| plan.action.clone()));
    let look = move || {
        let is_ours = |path: &Path| own.iter().any(|point| path.starts_with(point));
        // Without its root mount, an offset is never reached.
        root.iter().chain([&action]).find_map(|action| lacking(action, &is_ours))
    };
    match lanes.run_at(Lane::Lookup, &wanted.at, LOOK_TIMEOUT, look).await {
        Ok(Some(lacking)) => Verdict { place, ..Verdict::no(lacking) },
        Ok(None) => Verdict::yes(what(wanted, path)),
        Err(late) => Verdict { place, ..Verdict::no(format!("the source cannot be looked at: {late}")) },
    }
}

/// Says what an access would do.
fn what(plan: &Plan, path: &Path) -> String {
    match &plan.action {
        Action::Nothing if plan.offsets.is_empty() => "a plain directory".to_owned(),
        Action::Nothing => "an access would make directories".to_owned(),
        Action::Symlink(_) => "an access would make a symbolic link".to_owned(),
        Action::Autofs(_) if plan.at == path => "an access would make a mount point of its own".to_owned(),
        Action::Autofs(_) => "an access would make a mount point and ask its map".to_owned(),
        Action::Mount(mounts) if mounts.len() > 1 => format!("an access would mount it ({} ways to try)", mounts.len()),
        Action::Leads(leads) if leads.iter().all(|lead| lead.decides) => {
            format!("an access would mount the first of {} places that exists", leads.len())
        }
        Action::Mount(_) | Action::Leads(_) => "an access would mount it".to_owned(),
    }
}

/// Returns what is lacking for all ways of an action. Sources for which `is_unknown` holds are not looked at: that would
/// mount them. May wait.
fn lacking(action: &Action, is_unknown: &dyn Fn(&Path) -> bool) -> Option<String> {
    let mounts = match action {
        Action::Mount(mounts) => mounts,
        Action::Leads(leads) if leads.iter().all(|lead| lead.decides) => {
            let mut first = None;
            for lead in leads {
                let lacking = lead.ways.iter().find_map(|way| lacking(way, is_unknown))?;
                first = first.or(Some(lacking));
            }
            return first;
        }
        _ => return None,
    };
    let lacking: Vec<String> = mounts.iter().map_while(|mount| of_mount(mount, is_unknown)).collect();
    if lacking.len() < mounts.len() { None } else { lacking.into_iter().next() }
}

fn of_mount(mount: &FsMount, is_unknown: &dyn Fn(&Path) -> bool) -> Option<String> {
    let source = Path::new(OsStr::from_bytes(&mount.source));
    let is_local = mount.fstype == b"bind" || mount.source.starts_with(b"/dev/");
    if is_local && source.is_absolute() && !is_unknown(source) {
        let gone = |error: &std::io::Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
        if path::stat(source).as_ref().is_err_and(gone) {
            return Some(format!("{} does not exist", Escaped::path(source)));
        }
    }
    if mount.fstype == b"bind" {
        return None;
    }
    // As for fuse.sshfs, one helper serves several types.
    let base = mount.fstype.split(|&b| b == b'.').next().unwrap_or_default();
    let (helper, shown) = (fstypes::has_helper(&mount.fstype) || fstypes::has_helper(base), Escaped(&mount.fstype));
    match (helper, fstypes::kernel_has(base)) {
        (_, Some(true)) => None,
        (false, _) => Some(format!("no program /sbin/mount.{shown}, and the kernel has no {shown}")),
        (true, Some(false)) if NEED_KERNEL.contains(&base) => {
            Some(format!("the kernel has no {shown}, and there is no module for it"))
        }
        (true, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::Propagation;

    fn mount(fstype: &str, source: &str) -> FsMount {
        FsMount {
            fstype: fstype.into(),
            source: source.into(),
            options: Vec::new(),
            propagation: Propagation::Slave,
            fsck: None,
            server: None,
            limit: None,
        }
    }

    #[test]
    fn what_lacks_is_named_if_no_way_is_left() {
        let lacking = |mounts: &[(&str, &str)]| {
            let mounts = mounts.iter().map(|(fstype, source)| mount(fstype, source)).collect();
            lacking(&Action::Mount(mounts), &|path| path.starts_with("/mnt/ours"))
        };
        let says = |text: &str| Some(text.to_owned());
        assert_eq!(lacking(&[("bind", "/usr")]), None);
        assert_eq!(lacking(&[("bind", "/nonexistent/x")]), says("/nonexistent/x does not exist"));
        assert_eq!(lacking(&[("bind", "/mnt/ours/x")]), None);
        assert_eq!(lacking(&[("bind", "/nonexistent/x"), ("tmpfs", "x")]), None);
        assert_eq!(lacking(&[("ext4", "/dev/nonexistent")]), says("/dev/nonexistent does not exist"));
        assert_eq!(lacking(&[("nsf", "h:/x")]), says("no program /sbin/mount.nsf, and the kernel has no nsf"));
        assert_eq!(lacking(&[("tmpfs", "x")]), None);
    }
}
