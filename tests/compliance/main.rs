//! Compliance: the same vectors against this automount(8) or the one of the autofs package.
//!
//! `AUTOMOUNT_UNDER_TEST=ours|theirs` chooses (default ours). A vector is a configuration, what is done to it, and
//! what must come of it; all of them were recorded from automount 5.1.8 and 5.1.9. Where ours differs on purpose, the
//! vector says so in its `ours` table. Each runs in a [world](common::world) of its own; what cannot run here is listed
//! as ignored with the reason.
//!
//! With `AUTOFS_TRY_IGNORED` in the environment, only the ignored vectors are run that lack nothing but a feature of
//! ours, and each that passes is a failure: it is to be ignored no longer.
//!
//! Ours mounts in two ways, so its vectors run twice where that makes a difference: once with `method = "command"`,
//! so that mount(8) sees every word, once as it comes, where the mount table must show the result.

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

mod call;
mod run;
mod vector;

use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::Trial;

use common::daemon::Variant;
use common::{ldap_server, secs, sss_library, suite, world};
use run::Way;
use vector::Vector;

fn main() -> ExitCode {
    if let Some(code) = common::part(run::body) {
        return code;
    }
    let lacking = world::lacking();
    let variant = Variant::chosen();
    let vectors = vector::all(variant, variant.version().as_deref());
    if run::tries_ignored() {
        let trials = vectors.iter().filter(|vector| vector.can_be_tried()).map(|v| gate(v, variant, lacking)).collect();
        return libtest_mimic::run(&suite::arguments(), trials).exit_code();
    }
    let trials = vectors.iter().flat_map(|v| Way::of(variant, v).into_iter().map(|w| trial(v, w, lacking))).collect();
    libtest_mimic::run(&suite::arguments(), trials).exit_code()
}

fn trial(vector: &Vector, way: Way, lacking: Option<&'static str>) -> Trial {
    let why = vector.ignored.clone().or(lacks(vector, lacking).map(str::to_owned));
    let (id, deadline) = (way.name(&vector.id), deadline(vector));
    suite::trial(&id.clone(), why.as_deref(), move || world::run(&id, deadline))
}

/// A test that fails if an ignored vector passes in every way in which it would be run.
fn gate(vector: &Vector, variant: Variant, lacking: Option<&'static str>) -> Trial {
    let as_others = Vector { ignored: None, ..vector.clone() };
    let names: Vec<String> = Way::of(variant, &as_others).into_iter().map(|way| way.name(&vector.id)).collect();
    let deadline = deadline(vector);
    suite::trial(&vector.id, lacks(vector, lacking), move || {
        let passes = names.iter().all(|name| world::run(name, deadline).is_ok());
        if passes { Err("it passes: take `ignored` out of the vector".to_owned()) } else { Ok(()) }
    })
}

/// Returns what this machine lacks for a vector.
fn lacks(vector: &Vector, lacking: Option<&'static str>) -> Option<&'static str> {
    let no_ipv6 = vector.ipv6 && std::fs::read_dir("/proc/sys/net/ipv6").is_err();
    let no_library = if vector.ldap.is_empty() { None } else { ldap_server::lacking() };
    let no_compiler = if vector.sss.is_empty() { None } else { sss_library::lacking() };
    lacking.or(no_ipv6.then_some("needs IPv6")).or(no_library).or(no_compiler)
}

fn deadline(vector: &Vector) -> Duration {
    secs(30 + vector.steps.iter().map(vector::Step::seconds).sum::<u64>())
}
