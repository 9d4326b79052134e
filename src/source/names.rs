//! How maps that are named without a path are found.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use super::service::DirectoryService;
use crate::config::nsswitch::Nsswitch;
use crate::map::SourceKind;
use crate::text::{Diagnostic, Position};

/// Configuration of the name services of glibc, and of automount.
pub const NSSWITCH_CONF: &str = "/etc/nsswitch.conf";

/// The services that are asked for a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Services, in order.
    pub nsswitch: Nsswitch,
    /// Directory of the service `files`.
    pub directory: Arc<Path>,
}

impl Default for Names {
    /// Files in the directory that was set when this was built.
    fn default() -> Self {
        Self { nsswitch: Nsswitch::default(), directory: Path::new(env!("AUTOFS_MAPDIR")).into() }
    }
}

impl Names {
    /// Reads `text`, the content of nsswitch.conf(5) at `conf`.
    ///
    /// # Errors
    /// The line for automount cannot be understood: what was known before (or the default) should stay in force.
    pub fn parse(text: &[u8], conf: &Arc<Path>) -> Result<(Self, Vec<Diagnostic>), Diagnostic> {
        let (nsswitch, mut diagnostics) = Nsswitch::parse(text, conf)?;
        let is_known = |kind| kind == SourceKind::File || DirectoryService::of(kind).is_some();
        for service in nsswitch.services.iter().filter(|service| !is_known(service.kind)) {
            let message = format!("nsswitch source \"{}\" is not supported yet", service.kind.name());
            let name = service.kind.name();
            let (place, line) = place(text, conf, name).unwrap_or_else(|| (Position::whole(conf), b""));
            let d = Diagnostic::warning("nsswitch::unsupported", place, message).length(name.len()).excerpt(line);
            diagnostics.push(d.help("no map is looked for there: remove it"));
        }
        Ok((Self { nsswitch, ..Self::default() }, diagnostics))
    }

    /// The file of the map called `name`, which may be a path.
    pub fn path(&self, name: &[u8]) -> Arc<Path> {
        self.directory.join(OsStr::from_bytes(name)).into()
    }
}

/// Returns where the line for automount names a service, and that line.
fn place<'a>(text: &'a [u8], conf: &Arc<Path>, name: &str) -> Option<(Position, &'a [u8])> {
    let is_automount = |line: &[u8]| line.get(..10).is_some_and(|word| word.eq_ignore_ascii_case(b"automount:"));
    let (line, number) = text.split(|&b| b == b'\n').zip(1..).find(|(line, _)| is_automount(line))?;
    let at = memchr::memmem::find(line.get(10..)?, name.as_bytes())? + 10;
    Some((Position::new(conf, number, u32::try_from(at + 1).ok()?), line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_that_cannot_be_asked_are_named() {
        let conf: Arc<Path> = Path::new("/etc/nsswitch.conf").into();
        let (names, said) = Names::parse(b"automount: foo nisplus nis files\n", &conf).unwrap();
        assert_eq!(names.nsswitch.services.len(), 3);
        assert_eq!(said[1].message, "nsswitch source \"nisplus\" is not supported yet");
        assert_eq!((said[1].place.line, said[1].place.column), (1, 16));
        assert!(said[0].message.starts_with("ignored unsupported autofs nsswitch source \"foo\""));
        assert_eq!(Names::parse(b"automount: files [\n", &conf).unwrap_err().code, "nsswitch::syntax");
    }
}
