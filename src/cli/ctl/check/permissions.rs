//! Map files that are something else than they look like, that others may change, or that cannot be run.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use crate::map::{MasterEntry, SourceKind, SourceSpec};
use crate::source::Account;
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

/// Warns of an owner or group of a mount point that this machine does not know.
pub(super) fn owner(entry: &MasterEntry) -> Vec<Diagnostic> {
    let owner = entry.options.user().map(Account::user);
    let group = entry.options.group().map(Account::group);
    let unknown = owner.into_iter().chain(group).filter_map(|account| account.id().err());
    let warn = |reason: String| {
        Diagnostic::warning("master::owner", entry.place.clone(), reason)
            .help("until then the mount point belongs to root; a number needs no name")
    };
    unknown.map(warn).collect()
}

/// Examines the directory of the map cache that `file` names.
pub(super) fn cache(directory: &Path, file: &Path) -> Option<Diagnostic> {
    let shown = Escaped::path(directory);
    let error =
        |why: String, help: String| Some(Diagnostic::error("cache::directory", Position::whole(file), why).help(help));
    let stat = match path::lstat(directory) {
        Ok(stat) => stat,
        Err(_) => {
            let parent = directory.parent()?;
            if path::stat(parent).is_ok_and(|stat| stat.is_dir()) {
                return None;
            }
            let why = format!("the map cache {shown} cannot be made: there is no directory {}", Escaped::path(parent));
            return error(why, format!("mkdir -p {}", Escaped::path(parent)));
        }
    };
    if !stat.is_dir() {
        return error(
            format!("the map cache {shown} is not a directory"),
            "name a directory that only root uses".to_owned(),
        );
    }
    if stat.uid != 0 {
        return error(format!("the map cache {shown} does not belong to root"), format!("chown root {shown}"));
    }
    let why = format!("others than root can write to the map cache {shown}");
    if stat.mode & 0o022 != 0 { error(why, format!("chmod go-w {shown}")) } else { None }
}

/// Warns of a script whose interpreter does not exist, as `is_missing` says.
pub(super) fn interpreter(text: &[u8], file: &Arc<Path>, is_missing: impl Fn(&Path) -> bool) -> Option<Diagnostic> {
    let first = text.strip_prefix(b"#!")?.split(|&b| b == b'\n').next()?;
    let mut words = first.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let mut program = words.next()?;
    let ends_badly = first.ends_with(b"\r");
    let is_found = |program: &[u8]| !is_missing(Path::new(OsStr::from_bytes(program)));
    let mut is_there = is_found(program);
    if let Some(name) = words.next().filter(|name| program.ends_with(b"/env") && is_there && is_plain(name)) {
        let path = [&b"/usr/local/bin/"[..], b"/usr/bin/", b"/bin/", b"/usr/local/sbin/", b"/usr/sbin/", b"/sbin/"];
        program = name;
        is_there = path.iter().any(|directory| is_found(&[directory, name].concat()));
    }
    if !ends_badly && is_there {
        return None;
    }
    let (message, help) = if ends_badly {
        (
            "the first line ends in CR LF: no program has that name".to_owned(),
            "save the file with the line ends of Unix",
        )
    } else {
        (format!("there is no program {} to run the map", Escaped(program)), "install it, or name another one")
    };
    let place = Position::new(file, 1, 3);
    Some(
        Diagnostic::warning("file::interpreter", place, message)
            .help(help)
            .excerpt(text.split(|&b| b == b'\n').next()?),
    )
}

/// Returns whether a word after env is the name of a program, and neither an option nor a variable.
fn is_plain(name: &[u8]) -> bool {
    !name.starts_with(b"-") && memchr::memchr2(b'=', b'/', name).is_none()
}

fn starts_program(file: &Path) -> bool {
    use std::io::Read as _;
    let mut start = [0; 4];
    let read = path::open_to_read(file).and_then(|mut file| file.read(&mut start)).unwrap_or(0);
    let start = start.get(..read).unwrap_or_default();
    start.starts_with(b"#!") || start.starts_with(b"\x7fELF")
}
