//! How maps that are named without a path are found.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use crate::config::nsswitch::Nsswitch;
use crate::map::SourceKind;
use crate::text::{Diagnostic, Position};

use super::{SourceError, Stamp, read};

/// Where the services of glibc are configured, and with them automount.
pub const NSSWITCH_CONF: &str = "/etc/nsswitch.conf";

/// The services that are asked for a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Which, and in which order.
    pub nsswitch: Nsswitch,
    /// Where `files` looks.
    pub directory: Arc<Path>,
    /// What was read; `None` for a file that was not there.
    pub stamp: Option<Stamp>,
}

impl Default for Names {
    /// Files in the directory that was set when this was built.
    fn default() -> Self {
        Self { nsswitch: Nsswitch::default(), directory: Path::new(env!("AUTOFS_MAPDIR")).into(), stamp: None }
    }
}

impl Names {
    /// Reads nsswitch.conf(5). A file that is not there means files; one that cannot be read or understood is an error,
    /// and what was known before (or the default) should stay in force.
    pub fn read(conf: &Arc<Path>) -> Result<(Self, Vec<Diagnostic>), Diagnostic> {
        let content = match read::read(conf, false) {
            Ok(content) => content,
            Err(SourceError::Missing { .. }) => return Ok((Self::default(), Vec::new())),
            Err(error) => {
                return Err(Diagnostic::error("nsswitch::read", Position::whole(conf), error.to_string()));
            }
        };
        let (nsswitch, mut diagnostics) = Nsswitch::parse(&content.text, conf)?;
        for service in nsswitch.services.iter().filter(|service| service.kind != SourceKind::File) {
            let message = format!("nsswitch source \"{}\" is not supported yet", service.kind.name());
            let d = Diagnostic::warning("nsswitch::unsupported", Position::whole(conf), message);
            diagnostics.push(d.help("no map is looked for there"));
        }
        Ok((Self { nsswitch, stamp: Some(content.stamp), ..Self::default() }, diagnostics))
    }

    /// The file of the map called `name`, which may be a path.
    pub fn path(&self, name: &[u8]) -> Arc<Path> {
        self.directory.join(OsStr::from_bytes(name)).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn nsswitch_conf_is_read_from_disk() {
        let dir = tempfile::tempdir().unwrap();
        let conf: Arc<Path> = dir.path().join("nsswitch.conf").into();
        assert_eq!(Names::read(&conf).unwrap(), (Names::default(), Vec::new()));
        fs::write(&conf, "automount: foo nis files\n").unwrap();
        let (names, said) = Names::read(&conf).unwrap();
        assert_eq!(names.nsswitch.services.len(), 2);
        assert!(names.stamp.is_some());
        assert_eq!(said[1].message, "nsswitch source \"nis\" is not supported yet");
        assert!(said[0].message.starts_with("ignored unsupported autofs nsswitch source \"foo\""));
        fs::write(&conf, "automount: files [\n").unwrap();
        assert_eq!(Names::read(&conf).unwrap_err().code, "nsswitch::syntax");
        assert_eq!(Names::read(&dir.path().into()).unwrap_err().code, "nsswitch::read");
    }
}
