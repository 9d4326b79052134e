//! The flag file: one daemon at a time.
//!
//! `autofs-running` in the run directory holds the pid of the daemon. It comes into being by link(2), so it is there
//! with its content or not at all; a file left behind by a dead daemon is recognised by its pid and removed.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::instance;
use crate::sys::{children, procfs};
use crate::text::Escaped;

/// The file while we hold it; removed when dropped.
#[derive(Debug)]
pub(super) struct Flag(PathBuf);

/// How taking the flag ended.
#[derive(Debug)]
pub(super) enum Taken {
    /// It is ours.
    Ours(Flag),
    /// Another daemon runs.
    Running,
}

impl Flag {
    /// Returns the flag that the previous program has taken.
    pub(super) fn inherited(path: PathBuf) -> Self {
        Self(path)
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Takes the flag file in `directory`, which is made if it is missing.
    pub(super) fn take(directory: &Path) -> io::Result<Taken> {
        let name = instance::flag();
        let path = directory.join(&name);
        let own = directory.join(format!("{name}.{}", children::pid()));
        let mut file = fs::File::create(&own)?;
        writeln!(file, "{}", children::pid())?;
        let taken = Self::link(&own, &path);
        let _ = fs::remove_file(&own);
        taken
    }

    fn link(own: &Path, path: &Path) -> io::Result<Taken> {
        // Two attempts are enough unless other daemons start and die meanwhile.
        for _ in 0..8 {
            match fs::hard_link(own, path) {
                Ok(()) => return Ok(Taken::Ours(Self(path.to_owned()))),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
            let holder = fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<i32>().ok());
            match holder {
                Some(pid) if pid != children::pid() && procfs::same_kind(pid, children::pid()) => {
                    return Ok(Taken::Running);
                }
                _ => match fs::remove_file(path) {
                    Ok(()) => {}
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => return Err(e),
                },
            }
        }
        Err(io::Error::other(format!("{} is created again each time it is removed", Escaped::path(path))))
    }
}

impl Drop for Flag {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_flag_is_taken_over_and_our_own_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("autofs-running");
        fs::write(&path, "999999999\n").unwrap();
        let Taken::Ours(flag) = Flag::take(dir.path()).unwrap() else { panic!("a dead pid holds nothing") };
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", children::pid()));
        drop(flag);
        assert!(fs::read_dir(dir.path()).unwrap().next().is_none());
    }
}
