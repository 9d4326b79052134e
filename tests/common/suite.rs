//! The tests of a suite, each registered by `#[case]` at its function, and the harness that lists and runs them.

use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};

#[allow(unused_imports, reason = "two suites take their tests from a table")]
pub use autofs_test_case::case;

pub use super::trial::trial;
use super::{daemon, secs};

/// One test.
#[derive(Debug)]
pub struct Case {
    /// Path of its function, with the name of the suite.
    pub path: &'static str,
    /// Deadline in seconds.
    pub seconds: u64,
    /// Says what this machine lacks for it, besides what all tests of the suite need.
    pub lacking: fn() -> Option<&'static str>,
    /// Runs it; panics when it fails.
    pub run: fn(),
}

inventory::collect!(Case);

impl Case {
    /// A test with a deadline of a minute and no special needs.
    pub const fn new(path: &'static str, run: fn()) -> Self {
        Self { path, seconds: 60, lacking: || None, run }
    }

    /// `module::function`.
    pub fn name(&self) -> &'static str {
        self.path.split_once("::").map_or(self.path, |(_, name)| name)
    }

    /// Its deadline.
    pub fn deadline(&self) -> Duration {
        secs(self.seconds)
    }
}

/// Values for [`Case::lacking`].
pub mod needs {
    use super::daemon::Variant;

    /// The automount(8) of the autofs package.
    pub fn theirs() -> Option<&'static str> {
        Variant::Theirs.lacking()
    }

    /// Fault injection, which release builds do not have.
    pub fn debug_build() -> Option<&'static str> {
        (!cfg!(debug_assertions)).then_some("needs a debug build")
    }

    /// A test that reads and writes registers.
    pub fn x86_64() -> Option<&'static str> {
        (!cfg!(target_arch = "x86_64")).then_some("needs x86_64")
    }
}

/// All tests of this suite, by name.
pub fn cases() -> Vec<&'static Case> {
    let mut cases: Vec<_> = inventory::iter::<Case>().collect();
    cases.sort_by_key(|case| case.path);
    cases
}

/// Runs the body of the test with this name.
pub fn body(name: &str) {
    let case = cases().into_iter().find(|case| case.name() == name);
    (case.unwrap_or_else(|| panic!("there is no test {name}")).run)();
}

/// The harness' arguments. Two tests run at once unless `--test-threads` says otherwise: most of the time they wait.
pub fn arguments() -> Arguments {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(2);
    arguments
}

/// Runs all tests of this suite by `run`, and `more`. `lacking`: what this machine lacks for all of them.
pub fn main(
    arguments: &Arguments,
    lacking: Option<&'static str>,
    run: fn(&'static Case) -> Result<(), String>,
    more: impl IntoIterator<Item = Trial>,
) -> ExitCode {
    let trials = cases().into_iter().map(|case| {
        let lacking = lacking.or_else(case.lacking);
        trial(case.name(), lacking, move || run(case))
    });
    libtest_mimic::run(arguments, trials.chain(more).collect()).exit_code()
}
