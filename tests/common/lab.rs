//! The root file system of the labs, which `.ci/labs` makes (`AUTOFS_LAB_ROOT`: another place for it). It lies below
//! overlays only, and so stays as it is.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

/// Where it is.
pub fn root() -> PathBuf {
    match std::env::var_os("AUTOFS_LAB_ROOT") {
        Some(path) => path.into(),
        None => Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("labs").join("root"),
    }
}

/// Whether this program is in it.
pub fn has(program: &str) -> bool {
    fs::exists(root().join(program)).unwrap_or(false)
}

/// Whether this shared library is in it.
pub fn has_library(name: &str) -> bool {
    let dirs = fs::read_dir(root().join("usr/lib")).into_iter().flatten().flatten();
    dirs.map(|dir| dir.path().join(name)).any(|path| fs::exists(path).unwrap_or(false))
}

/// Mounts it with `layer` over it; what is written goes below `upper`.
pub fn overlay(at: &Path, layer: &Path, upper: &Path) {
    let (up, work) = (upper.join("upper"), upper.join("work"));
    fs::create_dir_all(&up).unwrap();
    fs::create_dir_all(&work).unwrap();
    let (layer, root) = (layer.display(), root());
    let options = format!("lowerdir={layer}:{},upperdir={},workdir={}", root.display(), up.display(), work.display());
    mount(Some("overlay"), at, Some("overlay"), MsFlags::empty(), Some(options.as_str())).unwrap();
}
