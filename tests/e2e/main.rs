//! End to end: a real daemon on a real kernel.
//!
//! Each test runs in a [world](common::world) of its own, with a deadline. Without root or `/dev/autofs` all of them
//! are listed as ignored, with the reason.

#![allow(clippy::disallowed_methods, reason = "triggering automounts is what the tests are for")]
#![allow(unreachable_pub, reason = "the modules are shared between the suites")]

#[path = "../common/mod.rs"]
mod common;

mod broken;
mod crash;
mod expire;
mod kinds;
mod life;
mod load;
mod maps;
mod names;
mod neighbours;
mod reload;
mod site;
mod traps;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

use common::{secs, world};

/// One test.
struct Case {
    /// Module and function.
    name: &'static str,
    /// Deadline in seconds.
    seconds: u64,
    /// Panics when it fails.
    run: fn(),
}

/// The tests of a module: `name` or `name: seconds`.
macro_rules! cases {
    ($($name:ident $(: $seconds:literal)?),* $(,)?) => {
        pub(super) const CASES: &[super::Case] = &[$(super::Case {
            name: concat!(module_path!(), "::", stringify!($name)),
            seconds: { let _default = 60; $(let _default = $seconds;)? _default },
            run: $name,
        }),*];
    };
}
use cases;

fn all() -> impl Iterator<Item = &'static Case> {
    let modules = [
        life::CASES,
        kinds::CASES,
        names::CASES,
        maps::CASES,
        expire::CASES,
        reload::CASES,
        crash::CASES,
        traps::CASES,
        neighbours::CASES,
        load::CASES,
    ];
    modules.into_iter().flatten()
}

fn body(name: &str) {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        let log = std::fs::read("/world/log").unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let skip = log.lines().count().saturating_sub(80);
        eprintln!("the end of the log:");
        log.lines().skip(skip).for_each(|line| eprintln!("| {line}"));
    }));
    if let Some(broken) = name.strip_prefix("broken::") {
        return broken::run(broken);
    }
    let case = all().find(|c| short(c.name) == name);
    (case.unwrap_or_else(|| panic!("there is no test {name}")).run)();
}

/// Without the name of the program.
fn short(name: &'static str) -> &'static str {
    name.split_once("::").map_or(name, |(_, rest)| rest)
}

fn main() -> ExitCode {
    if let Some(code) = common::part(body) {
        return code;
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(2);
    let lacking = world::lacking();
    let trial = |name: String, seconds| {
        let title = lacking.map_or_else(|| name.clone(), |why| format!("{name} ({why})"));
        Trial::test(title, move || Ok(world::run(&name, secs(seconds))?)).with_ignored_flag(lacking.is_some())
    };
    let mut trials: Vec<_> = all().map(|c| trial(short(c.name).to_owned(), c.seconds)).collect();
    trials.extend(broken::names().map(|n| trial(format!("broken::{n}"), 30)));
    libtest_mimic::run(&arguments, trials).exit_code()
}
