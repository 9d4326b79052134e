//! Sets version and path constants at build time, in place of a `./configure`.
//!
//! Each path is taken from the environment variable of the same name, so that distributions can set their paths without
//! patching the source. The defaults are those of Debian. The script generates no files and needs no network, git or C
//! compiler.

use std::env;

/// The name of each constant and environment variable, and its default value.
const PATHS: &[(&str, &str)] = &[
    ("AUTOFS_MAPDIR", "/etc"),
    ("AUTOFS_SYSCONFDIR", "/etc/default"),
    ("AUTOFS_RUNDIR", "/run"),
    ("AUTOFS_LIBDIR", "/usr/lib/autofs"),
    ("AUTOFS_MOUNT", "/bin/mount"),
    ("AUTOFS_UMOUNT", "/bin/umount"),
    ("AUTOFS_SBIN", "/sbin"),
];

fn main() {
    for (name, default) in PATHS {
        println!("cargo:rerun-if-env-changed={name}");
        let value = env::var(name).unwrap_or_else(|_| (*default).to_owned());
        println!("cargo:rustc-env={name}={value}");
    }
    // Where the client library of sssd is, which is no directory of the library path.
    let arch = match env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default().as_str() {
        "x86" => "i386-linux-gnu".to_owned(),
        "arm" => "arm-linux-gnueabihf".to_owned(),
        "powerpc64" => "powerpc64le-linux-gnu".to_owned(),
        arch => format!("{arch}-linux-gnu"),
    };
    println!("cargo:rerun-if-env-changed=AUTOFS_SSSD_MODULES");
    let modules = env::var("AUTOFS_SSSD_MODULES").unwrap_or_else(|_| format!("/usr/lib/{arch}/sssd/modules"));
    println!("cargo:rustc-env=AUTOFS_SSSD_MODULES={modules}");
    // A distribution can set a version with its own revision ("0.1.0-2.fc44").
    println!("cargo:rerun-if-env-changed=AUTOFS_VERSION");
    let version = env::var("AUTOFS_VERSION").unwrap_or_else(|_| env::var("CARGO_PKG_VERSION").unwrap_or_default());
    println!("cargo:rustc-env=AUTOFS_VERSION={version}");
    println!("cargo:rerun-if-changed=build.rs");
}
