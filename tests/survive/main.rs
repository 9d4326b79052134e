//! What must not be lost: lookups, mounts and the daemon itself, whatever dies, is restarted or is replaced.
//!
//! Each test runs in a [world](common::world) of its own, with a deadline. Without root or `/dev/autofs` all of them
//! are listed as ignored, with the reason. What the tests have measured they print.

#![allow(clippy::disallowed_methods, reason = "triggering automounts is what the tests are for")]
#![allow(unreachable_pub, reason = "the modules are shared between the suites")]

#[path = "../common/mod.rs"]
mod common;

mod adopt;
mod faults;
mod foreign;
mod pending;
mod processes;
mod replaced;
mod restart;
mod restored;
mod site;
mod storm;
mod tracee;
mod upgrade;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

use autofs::sys::children;
use common::{secs, world};

/// One test.
struct Case {
    /// Module and function.
    name: &'static str,
    /// Deadline in seconds.
    seconds: u64,
    /// What it cannot do without, besides what all need.
    lacking: fn() -> Option<&'static str>,
    /// Panics when it fails.
    run: fn(),
}

impl Case {
    /// One that needs nothing special.
    const fn new(name: &'static str, seconds: u64, run: fn()) -> Self {
        Self { name, seconds, lacking: || None, run }
    }

    /// One that needs the automount(8) of the autofs package.
    const fn with_theirs(name: &'static str, seconds: u64, run: fn()) -> Self {
        Self { name, seconds, lacking: || common::daemon::Variant::Theirs.lacking(), run }
    }
}

fn all() -> impl Iterator<Item = &'static Case> {
    [
        storm::CASES,
        restart::CASES,
        adopt::CASES,
        foreign::CASES,
        pending::CASES,
        faults::CASES,
        upgrade::CASES,
        replaced::CASES,
        restored::CASES,
    ]
    .into_iter()
    .flatten()
}

fn body(name: &str) {
    // A group whose number can be seen in here: the one that was inherited has none.
    children::lead_group().unwrap();
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        say(panic);
        common::table::below("/mnt").iter().for_each(|mount| eprintln!("{mount:?}"));
        eprintln!("the daemon has said:\n{}", std::fs::read_to_string("/world/log").unwrap_or_default());
    }));
    (all().find(|case| case.name == name).unwrap().run)();
}

fn main() -> ExitCode {
    if let Some(code) = common::part(body) {
        return code;
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(2);
    let trials = all().map(|case| {
        let lacking = world::lacking().or_else(case.lacking);
        let title = lacking.map_or_else(|| case.name.to_owned(), |why| format!("{} ({why})", case.name));
        // What takes its length from the environment gets the time for it.
        let deadline = secs(case.seconds) + storm::longer();
        Trial::test(title, move || Ok(world::run(case.name, deadline)?)).with_ignored_flag(lacking.is_some())
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
