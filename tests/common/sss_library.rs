//! A stand-in for sssd's client library, compiled when a test begins.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::world::put;

const LIBRARY: &str = "/usr/lib64/sssd/modules/libsss_autofs.so";

/// The file with the keys that the library was asked for, one in a line.
pub const ASKED: &str = "/world/sss-asked";

/// Returns why there can be no stand-in here, if so.
pub fn lacking() -> Option<&'static str> {
    Command::new("cc").arg("--version").output().is_err().then_some("needs a C compiler")
}

/// Installs it. Maps are files `/etc/fake.NAME`. False: there is no C compiler.
pub fn install() -> bool {
    fs::create_dir_all(Path::new(LIBRARY).parent().unwrap()).unwrap();
    put("/world/sss_autofs.c", include_str!("../fakes/sss_autofs.c"));
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o", LIBRARY, "/world/sss_autofs.c"]);
    match compiler.status() {
        Ok(status) => assert!(status.success()),
        Err(_) => return false,
    }
    true
}
