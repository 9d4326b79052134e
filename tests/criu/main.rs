//! Checkpoint and restore by CRIU: a container with the daemon in it is dumped and comes back, idle and in use.
//!
//! Each test runs on a private [host](host): namespaces of its own over the root file system of the labs, which
//! `.ci/labs` makes (`AUTOFS_LAB_ROOT`: another place for it). Without it the tests are listed as ignored. The test
//! program plays all parts itself: the host's first process, the test, the container's first process, its visitors.

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

mod cases;
mod container;
mod directory;
mod host;
mod init;
mod limits;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;

use common::suite;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    match &args.iter().map(|a| a.as_bytes()).collect::<Vec<_>>()[..] {
        [_, b"--first", act] => return common::world::first(OsStr::from_bytes(act)),
        [_, b"--body", act] => {
            host::build();
            cases::body(&String::from_utf8_lossy(act));
            return ExitCode::SUCCESS;
        }
        [_, b"--init", root, b"--", ..] => return init::enter(OsStr::from_bytes(root), &args[4..]),
        [_, b"--inside", ..] => return init::main(&args[2..]),
        [_, b"--visit", path] => return common::visit::main(OsStr::from_bytes(path)),
        [_, b"--look-up", below, keys] => {
            return init::look_up(OsStr::from_bytes(below), String::from_utf8_lossy(keys).parse().unwrap());
        }
        _ => {}
    }
    let arguments = suite::arguments();
    if cases::ALL.iter().any(|case| case.lacking().is_none()) && !arguments.list {
        host::make_layer();
    }
    let trials = cases::ALL.iter().map(|case| suite::trial(case.name, case.lacking(), || host::run(case)));
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
