//! Permissions of a map file that make it something else than it looks like, or let others change it.

use std::path::Path;
use std::sync::Arc;

use crate::map::{SourceKind, SourceSpec};
use crate::sys::path;
use crate::text::{Diagnostic, Escaped, Position};

/// Examines the file that `spec` names, or that its map includes.
pub(super) fn of(file: &Arc<Path>, spec: &SourceSpec) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let Ok(stat) = path::stat(file) else { return found };
    let shown = Escaped::path(file);
    let mut warn = |code, message: String, help: String| {
        found.push(Diagnostic::warning(code, Position::whole(file), message).help(help));
    };
    if stat.mode & 0o002 != 0 {
        let message = "every user may change the map, and mounts what he likes as root".to_owned();
        warn("file::writable", message, format!("chmod o-w {shown}"));
    }
    let is_program = starts_program(file);
    match spec.kind {
        None if spec.name.starts_with(b"/") && stat.is_executable() && !is_program => {
            let message = "the file is executable, so it is run and not read".to_owned();
            warn("file::executable", message, format!("chmod a-x {shown}, or write file:{shown} in the master map"));
        }
        Some(SourceKind::File) if is_program => {
            let message = "the map is a program, but it is read as a text".to_owned();
            warn("file::program", message, format!("write program:{shown} in the master map"));
        }
        _ => {}
    }
    found
}

fn starts_program(file: &Path) -> bool {
    use std::io::Read as _;
    let mut start = [0; 4];
    let read = path::open_to_read(file).and_then(|mut file| file.read(&mut start)).unwrap_or(0);
    let start = start.get(..read).unwrap_or_default();
    start.starts_with(b"#!") || start.starts_with(b"\x7fELF")
}
