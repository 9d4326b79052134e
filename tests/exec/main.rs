//! Plans carried out for real: below an autofs mount of the test's own, without the daemon.
//!
//! Each test runs in a [world](common::world) of its own. Without root or `/dev/autofs` all of them are listed as ignored.

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

mod fixture;
mod helpers;
mod mounts;
mod unmounts;
mod users;

use std::path::Path;
use std::process::ExitCode;

use autofs::exec;
use autofs::sys::children;
use common::{suite, world};

fn body(name: &str) {
    // The owner of an autofs mount is a process group: this one has no other members.
    children::lead_group().unwrap();
    suite::body(name);
}

fn main() -> ExitCode {
    // The walk to a source, which the program of the daemon makes in a process of its own.
    let arguments: Vec<_> = std::env::args_os().collect();
    if let [_, first, to] = arguments.as_slice() {
        if first == exec::WALK {
            return if exec::walk(Path::new(to), None).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
    }
    if let Some(code) = common::part(body) {
        return code;
    }
    suite::main(&suite::arguments(), world::lacking(), |case| world::run(case.name(), case.deadline()), [])
}
