//! Limits and rules that all program maps share.

use std::ffi::OsString;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};

use super::Users;
use crate::mutex::lock;
use crate::record::Run;
use crate::sys::process::{Ended, Program};

/// How programs are run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Variables of the daemon's own environment that programs get.
    pub environment: Vec<(OsString, OsString)>,
    /// The requester's variables are called USER, HOME and so on, not AUTOFS_USER and AUTOFS_HOME:
    /// `force_standard_program_map_env`.
    pub standard_names: bool,
    /// From SIGTERM at the deadline to SIGKILL.
    pub grace: Duration,
    /// For how long output is given again without running the program.
    pub keep: Keep,
    /// Whether maps and programs that others than root can change are not used.
    pub refuse_writable: bool,
    /// Whether programs are run at all. `autofsctl check` reads maps without that.
    pub run: bool,
}

impl Default for Rules {
    fn default() -> Self {
        let grace = Duration::from_secs(5);
        Self {
            environment: Vec::new(),
            standard_names: false,
            grace,
            keep: Keep::Negative,
            refuse_writable: false,
            run: true,
        }
    }
}

/// For how long the output of a program is given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// For the negative timeout of the mount point, as automount does.
    Negative,
    /// For this time; zero is never.
    For(Duration),
}

/// The programs of all program maps. One value for the whole process.
#[derive(Debug)]
pub struct Programs {
    places: Semaphore,
    width: usize,
    rules: Mutex<Arc<Rules>>,
    /// Whether all programs are to end.
    ending: watch::Sender<bool>,
    /// The user database.
    pub(super) users: Arc<Users>,
}

/// Why a program was not run.
#[derive(Debug)]
pub(super) enum NotRun {
    /// No place became free by the deadline, or all programs were ended.
    Late,
    /// The program could not be started.
    Start(std::io::Error),
}

impl Programs {
    /// Creates programs with the default rules; at most this many run at a time.
    pub fn new(width: usize, users: Arc<Users>) -> Self {
        let width = width.clamp(1, Self::WIDEST);
        let (ending, _) = watch::channel(false);
        Self { places: Semaphore::new(width), width, rules: Mutex::default(), ending, users }
    }

    /// Programs at a time at most, whatever is configured.
    pub const WIDEST: usize = 1024;

    /// Programs for tests.
    #[cfg(test)]
    pub(crate) fn of_tests() -> Arc<Self> {
        Arc::new(Self::new(4, Arc::new(Users::new(1))))
    }

    /// Sets the rules for programs that are run from now on.
    pub fn set_rules(&self, rules: Rules) {
        *lock(&self.rules) = Arc::new(rules);
    }

    /// Returns the rules in force.
    pub fn rules(&self) -> Arc<Rules> {
        Arc::clone(&lock(&self.rules))
    }

    /// Kills the programs that run, and runs no others from now on.
    pub fn end(&self) {
        self.ending.send_replace(true);
    }

    /// Returns whether no program runs.
    pub fn is_idle(&self) -> bool {
        self.places.available_permits() == self.width
    }

    /// Runs a program that has until `deadline`; `make` gets the time that is left when it is started, and the grace.
    ///
    /// It stays in our process group, for which the kernel mounts nothing. In another one, a program that looks at the key
    /// that it is asked for would wait for itself, and without a request that could be refused: the kernel adds a second
    /// lookup of one name to the first.
    pub(super) async fn run(
        &self,
        make: impl FnOnce(Duration, Duration) -> Program,
        deadline: Instant,
    ) -> Result<(Ended, Run), NotRun> {
        let Ok(place) = timeout_at(deadline, self.places.acquire()).await else { return Err(NotRun::Late) };
        let left = deadline.saturating_duration_since(Instant::now());
        let program = make(left, self.rules().grace).bound();
        let command = program.words().into_iter().map(std::os::unix::ffi::OsStringExt::into_vec).collect();
        let begun = Instant::now();
        let mut ending = self.ending.subscribe();
        let ended = tokio::select! {
            biased;
            // A program is killed when the future that runs it is dropped.
            _ = ending.wait_for(|ending| *ending) => Err(NotRun::Late),
            ended = program.run() => ended.map_err(NotRun::Start),
        };
        drop(place);
        let ended = ended?;
        let mut stderr = ended.stderr.clone();
        stderr.truncate(crate::record::STDERR_LIMIT);
        let run = Run { command, exit: ended.exit, stderr, duration: begun.elapsed() };
        Ok((ended, run))
    }
}

/// Returns those of these variables that are set in the environment of this process.
pub fn variables(names: &[String]) -> Vec<(OsString, OsString)> {
    let usable = |name: &&String| !name.is_empty() && !name.contains(['=', '\0']);
    names.iter().filter(usable).filter_map(|name| Some((name.into(), std::env::var_os(name)?))).collect()
}
