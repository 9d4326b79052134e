//! Compliance: the same vectors against this automount(8) or the one of the autofs package.
//!
//! `AUTOMOUNT_UNDER_TEST=ours|theirs` chooses (default ours). A vector is a configuration, what is done to it, and
//! what must come of it; all of them were recorded from automount 5.1.8 and 5.1.9. Where ours differs on purpose, the
//! vector says so in its `ours` table. Each runs in a [world](common::world) of its own; what cannot run here is listed
//! as ignored with the reason.
//!
//! Ours mounts in two ways, so its vectors run twice where that makes a difference: once with `method = "command"`,
//! so that mount(8) sees every word, once as it comes, where the mount table must show the result.

#![allow(clippy::disallowed_methods, reason = "triggering automounts is what the tests are for")]
#![allow(unreachable_pub, reason = "the modules are shared between the suites")]

#[path = "../common/mod.rs"]
mod common;

mod call;
mod run;
mod vector;

use std::process::ExitCode;

use libtest_mimic::Trial;

use common::daemon::Variant;
use common::{secs, suite, world};
use run::Way;
use vector::Vector;

fn main() -> ExitCode {
    if let Some(code) = common::part(run::body) {
        return code;
    }
    let lacking = world::lacking();
    let variant = Variant::chosen();
    let vectors = vector::all(variant, variant.version().as_deref());
    let trials = vectors.iter().flat_map(|v| Way::of(variant, v).into_iter().map(|w| trial(v, w, lacking))).collect();
    libtest_mimic::run(&suite::arguments(), trials).exit_code()
}

fn trial(vector: &Vector, way: Way, lacking: Option<&'static str>) -> Trial {
    let no_ipv6 = vector.ipv6 && std::fs::read_dir("/proc/sys/net/ipv6").is_err();
    let lacking = lacking.or(no_ipv6.then_some("needs IPv6"));
    let why = vector.ignored.clone().or(lacking.map(str::to_owned));
    let id = way.name(&vector.id);
    let deadline = secs(30 + vector.steps.iter().map(vector::Step::seconds).sum::<u64>());
    suite::trial(&id.clone(), why.as_deref(), move || world::run(&id, deadline))
}
