//! Version and path constants: the packager's `./configure`.
//!
//! Each path comes from an environment variable of the same name, so that a distribution can say where its files
//! live without patching the source; the defaults are Debian's. Nothing is generated into `src`, and no network,
//! git or compiler is needed.

use std::env;

/// Name of the constant and of the environment variable, and the value when that is not set.
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
    // A distribution may add its own revision ("0.1.0-2.fc44").
    println!("cargo:rerun-if-env-changed=AUTOFS_VERSION");
    let version = env::var("AUTOFS_VERSION").unwrap_or_else(|_| env::var("CARGO_PKG_VERSION").unwrap_or_default());
    println!("cargo:rustc-env=AUTOFS_VERSION={version}");
    println!("cargo:rerun-if-changed=build.rs");
}
