//! The daemon as a service of systemd: start, reload, upgrade of the package, restart, crash and stop, on the real thing.
//!
//! Each test runs as a unit of a [machine](machine) of its own: namespaces over the root file system of the labs, which
//! `.ci/labs` makes, with systemd as the first process. Without that root the tests are listed as ignored. What looks
//! keys up is thus never in the daemon's process group, nor in its control group.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]
#![allow(clippy::disallowed_methods, reason = "triggering automounts is what the tests are for")]
#![allow(unreachable_pub, reason = "the modules are shared between the suites")]

#[path = "../common/mod.rs"]
mod common;

mod crash;
mod hostile;
mod instances;
mod life;
mod look;
mod lookups;
mod machine;
mod package;
mod reload;
mod service;
mod switch;
mod upgrade;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;

use common::suite;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    match &args.iter().map(|a| a.as_bytes()).collect::<Vec<_>>()[..] {
        [_, b"--enter", cgroup, name] => return machine::enter(OsStr::from_bytes(cgroup), OsStr::from_bytes(name)),
        [_, b"--boot", name] => return machine::boot(&String::from_utf8_lossy(name)),
        [_, b"--body", name] => {
            machine::play(&String::from_utf8_lossy(name));
            return ExitCode::SUCCESS;
        }
        [_, b"--visit", path] => return common::visit::main(OsStr::from_bytes(path)),
        _ => {}
    }
    let arguments = suite::arguments();
    let lacking = machine::lacking();
    if lacking.is_none() && !arguments.list {
        machine::make_layer();
    }
    suite::main(&arguments, lacking, |case| machine::run(case.name()), [])
}
