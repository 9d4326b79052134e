//! What must not be lost: lookups, mounts and the daemon itself, whatever dies, is restarted or is replaced.
//!
//! Each test runs in a [world](common::world) of its own, with a deadline. Without root or `/dev/autofs` all of them
//! are listed as ignored, with the reason. What the tests have measured they print.

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

mod adopt;
mod elsewhere;
mod faults;
mod foreign;
mod hang;
mod inherited;
mod pending;
mod processes;
mod replaced;
mod restart;
mod restored;
mod soak;
mod storm;
mod tracee;
mod upgrade;

use std::process::ExitCode;

use autofs::sys::children;
use common::{suite, world};

fn body(name: &str) {
    // The process group that was inherited has no number in this pid namespace.
    children::lead_group().unwrap();
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        common::table::below("/mnt").iter().for_each(|mount| eprintln!("{mount:?}"));
        eprintln!("the log:\n{}", std::fs::read_to_string("/world/log").unwrap_or_default());
    }));
    suite::body(name);
}

fn main() -> ExitCode {
    if let Some(code) = common::part(body) {
        return code;
    }
    // A test whose length is set by the environment gets the time for it.
    let run = |case: &suite::Case| world::run(case.name(), case.deadline() + storm::longer() + soak::longer());
    suite::main(&suite::arguments(), world::lacking(), run, [])
}
