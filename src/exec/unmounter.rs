//! What was mounted, taken away again.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use log::debug;

use super::lanes::{Lane, Lanes};
use super::place::{Opened, Stands};
use super::settings::{Method, Settings};
use super::way;
use super::{Failure, Place};
use crate::sys::mount;
use crate::sys::path;
use crate::sys::process::{Exit, Program};
use crate::text::Escaped;

/// Takes mounts away. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Unmounter {
    settings: Arc<Settings>,
    lanes: Arc<Lanes>,
}

impl Unmounter {
    /// One with these settings, in these lanes.
    pub fn new(settings: Arc<Settings>, lanes: Arc<Lanes>) -> Self {
        Self { settings, lanes }
    }

    /// Unmounts the file system at `place`; `lazy`: out of sight now, gone when no longer in use. That nothing is mounted
    /// there (any more) is no error. Never touches the autofs mount itself. What does not end in time counts as in use.
    pub async fn unmount(&self, place: &Arc<Place>, lazy: bool) -> Result<(), Failure> {
        let step = {
            let (place, settings) = (Arc::clone(place), Arc::clone(&self.settings));
            move || step(&place, &settings, lazy)
        };
        if self.block(place, step).await? { Ok(()) } else { self.by_program(place, lazy).await }
    }

    /// [`unmount`](Self::unmount) and [`clear`](Self::clear), in one go where no program is needed. That something is
    /// left of the entry is no failure.
    pub async fn remove(&self, place: &Arc<Place>, lazy: bool, keep: bool) -> Result<(), Failure> {
        let step = {
            let (place, settings) = (Arc::clone(place), Arc::clone(&self.settings));
            move || Ok(step(&place, &settings, lazy)?.then(|| clear(&place, keep)))
        };
        let cleared = match self.block(place, step).await? {
            Some(cleared) => cleared,
            None => {
                self.by_program(place, lazy).await?;
                self.clear(place, keep).await
            }
        };
        if let Err(e) = cleared {
            debug!(target: &place.label, "cannot clear up after {}: {e}", Escaped::path(&place.path()));
        }
        Ok(())
    }

    /// Has umount(8) do it.
    async fn by_program(&self, place: &Arc<Place>, lazy: bool) -> Result<(), Failure> {
        let mut program =
            Program::new(&self.settings.umount, self.settings.umount_deadline, self.settings.grace).arg("-c").arg("-n");
        if lazy {
            program = program.arg("-l");
        }
        let ended = {
            let _permit = self.lanes.program(None).await;
            program.arg(place.path()).run().await
        };
        let program = self.settings.umount.clone();
        let ended = ended.map_err(|source| Failure::Start { program: program.clone(), source })?;
        for line in ended.lines() {
            debug!(target: &place.label, ">> {}", Escaped(line));
        }
        let look = {
            let place = Arc::clone(place);
            move || is_mounted(&place)
        };
        match (ended.how, self.block(place, look).await?) {
            (_, false) => Ok(()),
            (how, true) => {
                let said = ended.lines().last().unwrap_or_default().to_vec();
                // A status of 0 with a mount left: there were several, one over the other.
                let how = if how == Exit::Status(0) { Exit::Status(32) } else { how };
                Err(Failure::Program { program, how, said })
            }
        }
    }

    /// Removes what is left of an entry when nothing is mounted there: its symbolic link, or its directory with the
    /// directories in it that are part of the same autofs mount. `keep`: the directory itself stays (browse mode); a link
    /// goes in any case.
    pub async fn clear(&self, place: &Arc<Place>, keep: bool) -> Result<(), Failure> {
        let clear = {
            let place = Arc::clone(place);
            move || clear(&place, keep)
        };
        self.block(place, clear).await
    }

    async fn block<T: Send + 'static>(
        &self,
        place: &Place,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let path = place.path();
        match self.lanes.run_at(Lane::Umount, &path, self.settings.umount_deadline, work).await {
            Ok(result) => result,
            Err(late) => Err(Failure::Late { path, late }),
        }
    }
}

fn is_mounted(place: &Arc<Place>) -> Result<bool, Failure> {
    let Some(opened) = Opened::new(place)? else { return Ok(true) };
    let stands = opened.site().look().map_err(|source| Failure::Place { path: opened.path.clone(), source })?;
    Ok(stands == Stands::Mount)
}

/// Unmounts by system call. False: umount(8) has to do it.
fn step(place: &Arc<Place>, settings: &Settings, lazy: bool) -> Result<bool, Failure> {
    if !is_mounted(place)? {
        return Ok(true);
    }
    let path = place.path();
    if settings.method == Method::Command || in_utab(settings, &path) || !lazy && has_helper(settings, &path) {
        return Ok(false);
    }
    match mount::unmount(&path, lazy) {
        Ok(()) => {}
        // Somebody was faster.
        Err(e) if mount::is_not_mounted(&e) => {}
        Err(source) => return Err(Failure::Kernel { path, source }),
    }
    if is_mounted(place)? {
        return Err(Failure::Kernel { path, source: io::ErrorKind::ResourceBusy.into() });
    }
    Ok(true)
}

/// Is there an `umount.TYPE` for what is mounted? That of NFS before version 4 tells the server.
fn has_helper(settings: &Settings, path: &Path) -> bool {
    let Some(fs_type) = path::open_nofollow(path).ok().and_then(|fd| mount::fs_type(fd.as_fd())) else { return false };
    let program = settings.sbin.join(way::program_name("umount.", &fs_type));
    fs_type != b"nfs4" && path::stat(&program).is_ok_and(|found| found.is_file())
}

/// Does libmount keep something about this mount, which umount(8) has to remove?
fn in_utab(settings: &Settings, path: &Path) -> bool {
    let Ok(table) = std::fs::read(&settings.utab) else { return false };
    let mut word = b"TARGET=".to_vec();
    for b in path.as_os_str().as_bytes() {
        match b {
            b' ' | b'\t' | b'\n' | b'\\' => word.extend_from_slice(format!("\\{b:03o}").as_bytes()),
            _ => word.push(*b),
        }
    }
    table.split(|b| matches!(b, b' ' | b'\n')).any(|other| other == word)
}

fn clear(place: &Arc<Place>, keep: bool) -> Result<(), Failure> {
    let Some(opened) = Opened::new(place)? else { return Ok(()) };
    let site = opened.site();
    let cleared = (|| match site.look()? {
        Stands::Nothing | Stands::Mount => Ok(()),
        Stands::Link => site.remove(Stands::Link),
        Stands::Directory => {
            if !site.target.name.as_os_str().is_empty() {
                clear_below(site.target.dir, site.target.name, place.dev)?;
            }
            if keep { Ok(()) } else { site.remove(Stands::Directory) }
        }
    })();
    cleared.map_err(|source| Failure::Place { path: opened.path, source })
}

/// Removes the directories in `name` that are on the device `dev`: those of an autofs mount are all ours. Others, and
/// what is not empty, stay, and with them what is above.
fn clear_below(dir: BorrowedFd<'_>, name: &Path, dev: u64) -> io::Result<()> {
    let opened = path::open_dir_at(dir, name)?;
    for name in path::names(opened.as_fd())? {
        let name = Path::new(OsStr::from_bytes(&name));
        let found = path::lstat_at(opened.as_fd(), name)?;
        if found.is_dir() && found.dev == dev {
            clear_below(opened.as_fd(), name, dev)?;
            path::rmdir_at(opened.as_fd(), name)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utab_is_read_as_libmount_writes_it() {
        let utab = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(utab.path(), "SRC=/dev/loop0 TARGET=/m/a\\040b ROOT=/ OPTS=user\nTARGET=/m/c\n").unwrap();
        let settings = Settings { utab: utab.path().into(), ..Settings::default() };
        assert!(in_utab(&settings, Path::new("/m/a b")) && in_utab(&settings, Path::new("/m/c")));
        assert!(!in_utab(&settings, Path::new("/m/a")) && !in_utab(&settings, Path::new("/m")));
    }
}
