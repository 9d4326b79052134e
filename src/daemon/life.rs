//! The phase of the worker, what may begin in each phase, and notifications of changes.
//!
//! ```text
//! starting ──▶ serving ──▶ quiescing ──▶ resting ──▶ restoring ──▶ serving
//!                 └──▶ upgrading ──▶ serving (if the upgrade fails), retiring
//! starting ──▶ quiescing, restoring ──▶ starting
//! any phase but stopping and retiring ──▶ restoring (a checkpoint was restored)
//! any phase but retiring ──▶ stopping, retiring
//! ```

use std::cell::{Cell, RefCell};
use std::fmt;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use log::debug;
use tokio::sync::Notify;

use crate::control::{Mode, Rest};
use crate::engine::{MountId, Shutdown, Tick};

/// How long the keeper may take to execute another program. After this time the upgrade has failed.
pub(crate) const REPLACED_WITHIN: Duration = Duration::from_secs(3);

/// The error for calls that cannot be carried out during an upgrade.
pub(crate) const UPGRADE_UNDER_WAY: &str = "an upgrade is under way; ask again in a few seconds";

/// A phase in the life of the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The maps are being read for the first time.
    Starting,
    /// Requests are served.
    Serving,
    /// A quiesce was requested; operations in progress are awaited.
    Quiescing,
    /// The daemon is quiesced: a checkpoint can be made.
    Resting,
    /// After a quiesce or a restore, the autofs mounts are being found again.
    Restoring,
    /// The keeper was asked to execute another program.
    Upgrading,
    /// The next worker is about to take over.
    Retiring,
    /// The daemon ends.
    Stopping(Shutdown),
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Quiescing => "quiescing",
            Self::Resting => "resting",
            Self::Restoring => "restoring",
            Self::Upgrading => "upgrading",
            Self::Retiring => "retiring",
            Self::Stopping(Shutdown::Detach) => "stopping (detach)",
            Self::Stopping(Shutdown::Clean) => "stopping (clean)",
            Self::Stopping(Shutdown::Forced) => "stopping (forced)",
        })
    }
}

impl Phase {
    /// Returns whether `next` may follow this phase.
    fn may_become(self, next: Self) -> bool {
        use Phase::{Quiescing, Resting, Restoring, Retiring, Serving, Starting, Stopping, Upgrading};
        match (self, next) {
            (Retiring, _) => false,
            (_, Retiring) => true,
            // Only a more forceful way to end replaces an earlier one.
            (Stopping(now), Stopping(next)) => next > now,
            (Stopping(_), _) => false,
            (_, Stopping(_) | Restoring)
            | (Starting | Restoring | Upgrading, Serving)
            | (Restoring, Starting)
            | (Starting | Serving, Quiescing)
            | (Quiescing, Resting)
            | (Serving, Upgrading) => true,
            _ => false,
        }
    }

    /// Checks whether an upgrade may begin now.
    ///
    /// # Errors
    /// Returns the reason why not.
    pub(crate) fn may_upgrade(self) -> Result<(), &'static str> {
        match self {
            Self::Serving => Ok(()),
            Self::Starting | Self::Stopping(_) | Self::Retiring => Err("the daemon is starting or stopping"),
            Self::Quiescing | Self::Resting => Err("the daemon is quiesced for a checkpoint"),
            Self::Restoring => Err("the autofs mounts are being found again after a checkpoint"),
            Self::Upgrading => Err(UPGRADE_UNDER_WAY),
        }
    }

    /// Checks whether a quiesce may begin now. An earlier one is ended first.
    ///
    /// # Errors
    /// Returns the reason why not.
    pub(crate) fn may_quiesce(self) -> Result<(), &'static str> {
        match self {
            Self::Starting | Self::Serving | Self::Quiescing | Self::Resting | Self::Restoring => Ok(()),
            Self::Upgrading => Err(UPGRADE_UNDER_WAY),
            Self::Stopping(_) | Self::Retiring => Err("the daemon is stopping"),
        }
    }

    /// Returns whether a reload may begin now. Otherwise it waits until the daemon resumes.
    pub(crate) fn may_reload(self) -> bool {
        !matches!(self, Self::Quiescing | Self::Resting)
    }
}

/// The state of a quiesce, from its request until the daemon resumes.
#[derive(Debug)]
pub(crate) struct Quiescence {
    mode: Mode,
    /// When the quiesce ends in any case.
    until: Instant,
    /// Whether a reload was requested meanwhile.
    pub(crate) reload: bool,
    /// A write end of each pipe. Without one, the pipe would report its end while its mounts are catatonic.
    write_ends: Vec<OwnedFd>,
}

/// The state of reloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reload {
    Idle,
    Running,
    /// A reload is running, and another one was requested.
    RunAgain,
}

/// The phase of the worker and what depends on it.
#[derive(Debug)]
pub(crate) struct Life {
    born: Instant,
    phase: Cell<Phase>,
    /// Whether the start is over.
    started: Cell<bool>,
    quiescence: RefCell<Option<Quiescence>>,
    reload: Cell<Reload>,
    reloaded: Cell<Instant>,
    restores: Cell<u32>,
    /// Number of unanswered calls of `autofsctl upgrade`.
    upgrade_calls: Cell<u32>,
    ended: RefCell<Option<(Shutdown, Vec<MountId>)>>,
    /// Notified when the shutdown begins.
    halt: Notify,
    /// Notified when the worker may exit.
    exit: Notify,
    /// Notified when the next worker is about to take over.
    pub(crate) retires: Notify,
    /// Notified when this process was restored from a checkpoint.
    pub(crate) restored: Notify,
}

impl Life {
    /// Creates the value for a new worker, in phase `Starting`.
    pub(crate) fn begin() -> Self {
        Self {
            born: Instant::now(),
            phase: Cell::new(Phase::Starting),
            started: Cell::default(),
            quiescence: RefCell::default(),
            reload: Cell::new(Reload::Idle),
            reloaded: Cell::new(Instant::now()),
            restores: Cell::default(),
            upgrade_calls: Cell::default(),
            ended: RefCell::default(),
            halt: Notify::new(),
            exit: Notify::new(),
            retires: Notify::new(),
            restored: Notify::new(),
        }
    }

    /// Returns the phase.
    pub(crate) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Enters a phase if it may follow the one before. Returns whether it did.
    pub(crate) fn enter(&self, next: Phase) -> bool {
        let now = self.phase.get();
        if !now.may_become(next) {
            return false;
        }
        debug!("life: {now} -> {next}");
        self.phase.set(next);
        match next {
            Phase::Stopping(_) => self.halt.notify_waiters(),
            Phase::Retiring => self.retires.notify_waiters(),
            _ => {}
        }
        true
    }

    /// Returns the time since the worker was started.
    pub(crate) fn age(&self) -> Duration {
        self.born.elapsed()
    }

    /// Returns the current time for the engine.
    pub(crate) fn now(&self) -> Tick {
        Tick(u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Converts a time of the engine.
    pub(crate) fn moment(&self, Tick(at): Tick) -> Instant {
        self.born + Duration::from_millis(at)
    }

    /// Records that the start is over. Returns how the daemon ends, if a shutdown was requested meanwhile.
    pub(crate) fn started(&self) -> Option<Shutdown> {
        self.started.set(true);
        match self.phase() {
            Phase::Stopping(how) => Some(how),
            Phase::Starting => {
                self.enter(Phase::Serving);
                None
            }
            _ => None,
        }
    }

    /// Returns whether the start is over.
    pub(crate) fn has_started(&self) -> bool {
        self.started.get()
    }

    /// Returns whether the shutdown has begun.
    pub(crate) fn is_stopping(&self) -> bool {
        matches!(self.phase(), Phase::Stopping(_))
    }

    /// Sleeps until the time has passed or the shutdown begins.
    pub(crate) async fn pause(&self, duration: Duration) {
        if !self.is_stopping() {
            let _ = tokio::time::timeout(duration, self.halt.notified()).await;
        }
    }

    /// Waits until the shutdown begins.
    pub(crate) async fn stops(&self) {
        while !self.is_stopping() {
            self.halt.notified().await;
        }
    }

    /// Begins a quiesce that lasts until `until` at most. Returns whether the phase permits it.
    pub(crate) fn quiesce(&self, mode: Mode, until: Instant) -> bool {
        if !self.enter(Phase::Quiescing) {
            return false;
        }
        self.quiescence.replace(Some(Quiescence { mode, until, reload: false, write_ends: Vec::new() }));
        true
    }

    /// Records that the daemon is quiesced, and extends the quiesce that was begun with `until` to `lease`. Returns `false` if
    /// that quiesce has ended.
    pub(crate) fn rest(&self, until: Instant, lease: Instant) -> bool {
        let mut quiescence = self.quiescence.borrow_mut();
        let Some(quiescence) = quiescence.as_mut().filter(|quiescence| quiescence.until == until) else { return false };
        let rests = self.enter(Phase::Resting);
        if rests {
            quiescence.until = lease;
        }
        rests
    }

    /// Returns whether the quiesce that ends at `until` is still in effect.
    pub(crate) fn is_quiesced_until(&self, until: Instant) -> bool {
        self.quiescence.borrow().as_ref().is_some_and(|quiescence| quiescence.until == until)
    }

    /// Keeps write ends of pipes open during the quiesce.
    pub(crate) fn keep_write_ends(&self, ends: Vec<OwnedFd>) {
        if let Some(quiescence) = self.quiescence.borrow_mut().as_mut() {
            quiescence.write_ends = ends;
        }
    }

    /// Ends the quiesce and enters `Restoring`. Returns the state of the quiesce, or `None` if the daemon was not quiesced.
    pub(crate) fn wake(&self) -> Option<Quiescence> {
        let quiescence = self.quiescence.take()?;
        self.enter(Phase::Restoring);
        Some(quiescence)
    }

    /// Records that this process was restored, and enters `Restoring`. Returns the state of the quiesce, if any.
    pub(crate) fn record_restore(&self) -> Option<Quiescence> {
        self.restores.set(self.restores.get() + 1);
        self.enter(Phase::Restoring);
        self.restored.notify_waiters();
        self.quiescence.take()
    }

    /// Returns from `Restoring` to the phase before, after the autofs mounts were found again.
    pub(crate) fn leave_restoring(&self) {
        if self.phase() == Phase::Restoring {
            self.enter(if self.has_started() { Phase::Serving } else { Phase::Starting });
        }
    }

    /// Returns how many times this process was restored.
    pub(crate) fn restores(&self) -> u32 {
        self.restores.get()
    }

    /// Returns the state of the quiesce for `autofsctl status`.
    pub(crate) fn shown_rest(&self) -> Option<Rest> {
        let quiescence = self.quiescence.borrow();
        let quiescence = quiescence.as_ref()?;
        let lease = quiescence.until.saturating_duration_since(Instant::now()).as_secs();
        Some(Rest { mode: quiescence.mode, ready: self.phase() == Phase::Resting, lease })
    }

    /// Begins a reload. Returns `false` if it must not run now: during another reload it runs afterwards, while the daemon is
    /// quiesced it runs after that.
    pub(crate) fn begin_reload(&self) -> bool {
        if !self.phase().may_reload() {
            if let Some(quiescence) = self.quiescence.borrow_mut().as_mut() {
                quiescence.reload = true;
                return false;
            }
        }
        let idle = self.reload.get() == Reload::Idle;
        self.reload.set(if idle { Reload::Running } else { Reload::RunAgain });
        idle
    }

    /// Records the end of a reload. Returns whether another one was requested meanwhile.
    pub(crate) fn end_reload(&self) -> bool {
        self.reloaded.set(Instant::now());
        let again = self.reload.get() == Reload::RunAgain;
        self.reload.set(if again { Reload::Running } else { Reload::Idle });
        again
    }

    /// Returns whether a reload is running.
    pub(crate) fn is_reloading(&self) -> bool {
        self.reload.get() != Reload::Idle
    }

    /// Returns how long ago the maps were read.
    pub(crate) fn since_reload(&self) -> Duration {
        self.reloaded.get().elapsed()
    }

    /// Records a call of `autofsctl upgrade`. The worker does not exit until it is answered.
    pub(crate) fn begin_upgrade_call(&self) {
        self.upgrade_calls.set(self.upgrade_calls.get() + 1);
    }

    /// Records that a call of `autofsctl upgrade` was answered.
    pub(crate) fn end_upgrade_call(&self) {
        self.upgrade_calls.set(self.upgrade_calls.get().saturating_sub(1));
    }

    /// Returns whether calls of `autofsctl upgrade` are unanswered.
    pub(crate) fn has_upgrade_calls(&self) -> bool {
        self.upgrade_calls.get() > 0
    }

    /// Records that the engine has ended, and the autofs mounts that are left.
    pub(crate) fn end(&self, how: Shutdown, left: Vec<MountId>) {
        self.ended.replace(Some((how, left)));
        self.exit.notify_one();
    }

    /// Waits until the engine has ended.
    pub(crate) async fn ended(&self) -> (Shutdown, Vec<MountId>) {
        loop {
            if let Some(ended) = self.ended.take() {
                return ended;
            }
            self.exit.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHASES: [Phase; 10] = [
        Phase::Starting,
        Phase::Serving,
        Phase::Quiescing,
        Phase::Resting,
        Phase::Restoring,
        Phase::Upgrading,
        Phase::Retiring,
        Phase::Stopping(Shutdown::Detach),
        Phase::Stopping(Shutdown::Clean),
        Phase::Stopping(Shutdown::Forced),
    ];

    fn in_phase(phase: Phase) -> Life {
        let life = Life::begin();
        life.phase.set(phase);
        life
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn every_way_out_of_a_phase_is_meant() {
        let next = |from: Phase| -> Vec<String> {
            PHASES.iter().filter(|to| from.may_become(**to)).map(ToString::to_string).collect()
        };
        let always = ["restoring", "retiring", "stopping (detach)", "stopping (clean)", "stopping (forced)"];
        for (from, more) in [
            (Phase::Starting, vec!["serving", "quiescing"]),
            (Phase::Serving, vec!["quiescing", "upgrading"]),
            (Phase::Quiescing, vec!["resting"]),
            (Phase::Resting, vec![]),
            (Phase::Restoring, vec!["starting", "serving"]),
            (Phase::Upgrading, vec!["serving"]),
        ] {
            let mut expected: Vec<&str> = more.into_iter().chain(always).collect();
            let mut found = next(from);
            expected.sort_unstable();
            found.sort_unstable();
            assert_eq!(found, expected, "{from}");
        }
        assert_eq!(next(Phase::Retiring), [""; 0]);
        assert_eq!(next(Phase::Stopping(Shutdown::Detach)), ["retiring", "stopping (clean)", "stopping (forced)"]);
        assert_eq!(next(Phase::Stopping(Shutdown::Forced)), ["retiring"]);
    }

    #[test]
    fn what_may_begin_stands_in_one_table() {
        let allowed =
            |may: fn(Phase) -> bool| -> Vec<Phase> { PHASES.into_iter().filter(|phase| may(*phase)).collect() };
        assert_eq!(allowed(|phase| phase.may_upgrade().is_ok()), [Phase::Serving]);
        let quiesce = [Phase::Starting, Phase::Serving, Phase::Quiescing, Phase::Resting, Phase::Restoring];
        assert_eq!(allowed(|phase| phase.may_quiesce().is_ok()), quiesce);
        assert_eq!(allowed(|phase| !phase.may_reload()), [Phase::Quiescing, Phase::Resting]);
    }

    #[test]
    fn a_harder_end_counts_and_a_softer_one_does_not() {
        let life = in_phase(Phase::Serving);
        assert!(life.enter(Phase::Stopping(Shutdown::Clean)));
        assert!(!life.enter(Phase::Stopping(Shutdown::Detach)));
        assert!(life.enter(Phase::Stopping(Shutdown::Forced)));
        assert!(!life.enter(Phase::Serving) && life.is_stopping());
    }

    #[test]
    fn an_end_that_was_asked_for_during_the_start_comes_after_it() {
        let life = Life::begin();
        life.enter(Phase::Stopping(Shutdown::Clean));
        assert!(!life.has_started());
        assert_eq!(life.started(), Some(Shutdown::Clean));
        let other = Life::begin();
        assert_eq!((other.started(), other.phase()), (None, Phase::Serving));
    }

    #[test]
    fn a_start_that_ends_during_a_rest_serves_afterwards() {
        let life = Life::begin();
        assert!(life.quiesce(Mode::Live, soon()));
        assert_eq!((life.started(), life.phase()), (None, Phase::Quiescing));
        assert!(life.wake().is_some());
        life.leave_restoring();
        assert_eq!(life.phase(), Phase::Serving);
    }

    #[test]
    fn a_rest_during_the_start_goes_back_to_the_start() {
        let life = Life::begin();
        assert!(life.quiesce(Mode::Park, soon()));
        assert!(life.wake().is_some() && life.wake().is_none());
        life.leave_restoring();
        assert_eq!(life.phase(), Phase::Starting);
    }

    #[test]
    fn a_checkpoint_that_is_not_expected_any_more_does_not_rest() {
        let life = in_phase(Phase::Serving);
        let (first, second) = (soon(), soon() + Duration::from_secs(1));
        assert!(life.quiesce(Mode::Live, first));
        life.wake();
        life.leave_restoring();
        assert!(life.quiesce(Mode::Live, second));
        assert!(!life.rest(first, soon()), "the first one has ended");
        let lease = soon();
        assert!(life.rest(second, lease) && life.is_quiesced_until(lease));
        assert_eq!(life.shown_rest().map(|rest| (rest.mode, rest.ready)), Some((Mode::Live, true)));
    }

    #[test]
    fn the_end_ends_a_rest() {
        let life = in_phase(Phase::Serving);
        let until = soon();
        life.quiesce(Mode::Live, until);
        life.enter(Phase::Stopping(Shutdown::Clean));
        assert!(!life.rest(until, soon()));
        life.wake();
        life.leave_restoring();
        assert!(life.is_stopping());
    }

    #[test]
    fn a_restore_is_counted_in_every_phase() {
        for phase in PHASES {
            let life = in_phase(phase);
            life.record_restore();
            assert_eq!(life.restores(), 1);
            let stays = matches!(phase, Phase::Stopping(_) | Phase::Retiring);
            assert_eq!(life.phase(), if stays { phase } else { Phase::Restoring }, "{phase}");
        }
    }

    #[test]
    fn reloads_come_one_after_the_other_and_none_is_lost() {
        let life = in_phase(Phase::Serving);
        assert!(life.begin_reload());
        assert!(!life.begin_reload() && !life.begin_reload(), "it runs again after this one");
        assert!(life.end_reload() && life.is_reloading());
        assert!(!life.end_reload() && !life.is_reloading());
    }

    #[test]
    fn a_reload_waits_for_the_end_of_a_rest() {
        let life = in_phase(Phase::Serving);
        life.quiesce(Mode::Live, soon());
        assert!(!life.begin_reload() && !life.is_reloading());
        assert!(life.wake().is_some_and(|kept| kept.reload));
    }

    #[tokio::test]
    async fn a_pause_ends_with_the_beginning_of_the_end() {
        let life = in_phase(Phase::Serving);
        let stop = async {
            tokio::task::yield_now().await;
            life.enter(Phase::Stopping(Shutdown::Clean));
        };
        tokio::join!(life.pause(Duration::from_secs(3600)), stop);
        life.pause(Duration::from_secs(3600)).await;
    }

    #[tokio::test]
    async fn the_end_is_told_also_when_it_was_before() {
        let life = in_phase(Phase::Stopping(Shutdown::Clean));
        life.end(Shutdown::Clean, vec![MountId(7)]);
        assert_eq!(life.ended().await, (Shutdown::Clean, vec![MountId(7)]));
    }
}
