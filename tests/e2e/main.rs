//! End to end: a real daemon on a real kernel.
//!
//! Each test runs in a [world](common::world) of its own, with a deadline. Without root or `/dev/autofs` all of them
//! are listed as ignored, with the reason.

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

mod alternatives;
mod amd;
mod broken;
mod control;
mod covers;
mod crash;
mod documents;
mod events;
mod expire;
mod explain_below;
mod failing_keys;
mod filters;
mod hangs;
mod hesiod;
mod history;
mod hostile;
mod hung_reads;
mod kinds;
mod ldap;
mod left;
mod life;
mod load;
mod log;
mod map_cache;
mod maps;
mod monitoring;
mod names;
mod neighbours;
mod nis;
mod own_timeouts;
mod programs;
mod reload;
mod secrets;
mod security;
mod servers;
mod services;
mod silent_services;
mod staging;
mod steer;
mod terminal;
mod toml;
mod traps;
mod true_answers;
mod users;

// Properties and requirements of mount points and entries.
mod fstab;
mod instances;
mod requires;
mod trigger_directories;

use std::process::ExitCode;

use common::{secs, suite, world};

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
    match name.strip_prefix("broken::") {
        Some(broken) => broken::run(broken),
        None => suite::body(name),
    }
}

fn main() -> ExitCode {
    if let Some(code) = common::part(body) {
        return code;
    }
    let lacking = world::lacking();
    let broken = broken::names().map(|name| {
        let name = format!("broken::{name}");
        suite::trial(&name.clone(), lacking, move || world::run(&name, secs(30)))
    });
    suite::main(&suite::arguments(), lacking, |case| world::run(case.name(), case.deadline()), broken)
}
