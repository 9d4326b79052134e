//! Files of a directory of master maps that are not read because of their names.

use std::path::{Path, PathBuf};

use crate::sys::path;
use crate::text::{Diagnostic, Escaped, Position};

/// Endings by which editors and packages mark files that are to be ignored.
const SET_ASIDE: [&str; 16] = [
    "~",
    ".bak",
    ".backup",
    ".orig",
    ".old",
    ".save",
    ".rpmnew",
    ".rpmsave",
    ".rpmorig",
    ".dpkg-old",
    ".dpkg-new",
    ".dpkg-dist",
    ".disabled",
    ".off",
    ".swp",
    ".example",
];

/// Warns of the directory for drop-ins beside `master` if it has some, and none of `inputs` is that directory.
pub(super) fn not_included(master: &Path, inputs: &[PathBuf]) -> Option<Diagnostic> {
    let name = master.file_name()?.to_str().filter(|name| matches!(*name, "auto.master" | "auto_master"))?;
    let directory = master.with_file_name(format!("{name}.d"));
    if inputs.iter().any(|input| input.starts_with(&directory)) {
        return None;
    }
    let opened = path::open(&directory).ok()?;
    let names = path::names(std::os::fd::AsFd::as_fd(&opened)).ok()?;
    let first = names.iter().filter(|name| name.ends_with(b".autofs") && !name.starts_with(b".")).min()?;
    let message =
        format!("{}/{} is not read: no line includes the directory", Escaped::path(&directory), Escaped(first));
    let help = format!("write +dir:{} into the master map", Escaped::path(&directory));
    Some(Diagnostic::warning("master::ignored-file", Position::whole(master), message).help(help))
}

/// Warns of files of `directory` that look like master maps and do not end in `.autofs`.
pub(super) fn ignored(directory: &Path) -> Vec<Diagnostic> {
    let Ok(names) = path::open(directory).and_then(|dir| path::names(std::os::fd::AsFd::as_fd(&dir))) else {
        return Vec::new();
    };
    let set_aside = |name: &str| SET_ASIDE.iter().any(|end| name.ends_with(end));
    let mut names: Vec<String> = names.into_iter().filter_map(|name| String::from_utf8(name).ok()).collect();
    names.retain(|name| !name.ends_with(".autofs") && !name.starts_with(['.', '#']) && !set_aside(name));
    names.retain(|name| !name.to_ascii_lowercase().starts_with("readme"));
    names.sort();
    let files = names.into_iter().filter(|name| path::stat(&directory.join(name)).is_ok_and(|stat| stat.is_file()));
    files
        .map(|name| {
            let file = directory.join(&name);
            let stem = name.rsplit_once('.').map_or(&*name, |(stem, _)| stem);
            let help = format!("rename it to {}.autofs", Escaped(stem.as_bytes()));
            let message = "the file is not read: its name does not end in .autofs";
            Diagnostic::warning("master::ignored-file", Position::whole(&file), message).help(help)
        })
        .collect()
}
