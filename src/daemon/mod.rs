//! The worker: the event loop between kernel, engine and maps.

mod attach;
mod checkpoint;
mod control;
pub(crate) mod explain;
mod failures;
mod fuse_health;
mod history;
mod jobs;
mod leftovers;
mod life;
mod mailbox;
mod maps;
mod mounts;
mod network;
mod news;
mod problems;
mod process_names;
mod rate_limit;
mod readable;
mod refresh_host_trees;
mod reload;
mod requests;
mod requirements;
mod retry_sources;
mod state;
#[cfg(test)]
mod testing;
mod tools;
mod upgrade;
mod verify;
mod worker;

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use log::{debug, error, info, warn};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::config::native::OnExit;
use crate::control::history::EventKind;
use crate::engine::{Event, Shutdown};
use crate::fault;
use crate::instance;
use crate::link::{Inheritance, Message, Predecessor, START_FAILED};
use crate::logging::Logger;
use crate::options::Options;
use crate::source::configuration::Configuration;
use crate::source::{Sources, service};
use crate::sys::{children, fds, heap, signals};
use crate::task::spawn_local;

pub(crate) use attach::opener::{ARGUMENT as OPENER, main as open_for_others};
use checkpoint::{renew, restore};
use control::{serve, steer};
use jobs::detach;
use mounts::record::{self, Record};
pub(crate) use upgrade::{ARGUMENT as UPGRADE_CHECK, check as check_upgrade};
use verify::{renames, watch};
use worker::{Next, Worker};

/// Runs the worker until the daemon ends; returns its exit status.
pub fn run(options: Options, inheritance: Inheritance, logger: &'static Logger) -> u8 {
    heap::configure();
    fault::arm(inheritance.before);
    // Nothing is served yet, so blocking file access is harmless here.
    let container = tools::is_in_container();
    let (begins, ends) = (Arc::clone(&inheritance.pulse), Arc::clone(&inheritance.pulse));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_park(move || ends.end_turn())
        .on_thread_unpark(move || begins.begin_turn())
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => {
            error!("cannot start: {e}");
            return START_FAILED;
        }
    };
    // Before threads start: a thread passes its blocked signals on to the programs that it starts.
    let arrivals = match runtime.block_on(async { Arrivals::new() }) {
        Ok(arrivals) => arrivals,
        Err(e) => {
            error!("cannot receive signals: {e}");
            return START_FAILED;
        }
    };
    let (files, notices) = Sources::configuration();
    let configuration = runtime.block_on(reload::configuration(&files));
    let sources = Rc::new(Sources::new(files, notices, &configuration.native.limits));
    service::configure(&sources.lookups, &configuration);
    logger.set_format(configuration.native.log.format);
    logger.set_global(options.verbosity.max(configuration.conf.autofs.logging));
    if let Err(e) = fds::raise_limit(configuration.conf.autofs.open_file_limit) {
        warn!("can't increase open file limit - continuing: {e}");
    }
    let status = LocalSet::new()
        .block_on(&runtime, live(options, configuration, logger, inheritance, (sources, container), arrivals));
    // A thread that hangs in a system call ends with the process.
    runtime.shutdown_background();
    status
}

/// The signals that the worker receives from now on.
struct Arrivals {
    retirement: Signal,
    signals: Signals,
}

impl Arrivals {
    /// Installs the handlers, and then unblocks the signals, which have been held back since the fork.
    ///
    /// # Errors
    /// Returns the errors of sigaction(2) and sigprocmask(2).
    fn new() -> io::Result<Self> {
        let retirement = signal(SignalKind::from_raw(children::Signal::Retire.number()))?;
        let arrivals = Self { retirement, signals: Signals::install()? };
        // A write beyond a limit of the file size, as to the log, fails with EFBIG. A handler is not inherited by helpers, as a mask
        // would be.
        drop(signal(SignalKind::from_raw(libc::SIGXFSZ))?);
        signals::unblock()?;
        Ok(arrivals)
    }
}

async fn live(
    options: Options,
    configuration: Configuration,
    logger: &'static Logger,
    inheritance: Inheritance,
    (sources, container): (Rc<Sources>, bool),
    Arrivals { mut retirement, signals }: Arrivals,
) -> u8 {
    let on_exit = match options.on_exit.unwrap_or(configuration.native.exit.on_exit) {
        OnExit::Clean => Shutdown::Clean,
        OnExit::Detach => Shutdown::Detach,
    };
    let again = inheritance.before > 0;
    let (predecessor, failed) = (inheritance.predecessor, inheritance.failed);
    let (worker, channels) = match Worker::new(inheritance, configuration, options, logger, &sources, container) {
        Ok(new) => new,
        Err(e) => {
            error!("cannot start: {e}");
            return START_FAILED;
        }
    };
    if failed {
        worker.requests.read_ahead(&worker.mounts);
    }
    if again {
        worker.refuse_overdue().await;
        spawn_local(Rc::clone(&worker).refuse_overdue_at_start());
    }
    let (kind, message) = beginning(predecessor);
    worker.history.event(kind, message);
    steer::restore(&worker, predecessor);
    if again {
        // The worker before may have died after it had unmounted a mount.
        worker.mounts.note_copies();
        worker.silence_copies();
    }
    match Record::open(&record::file()) {
        Ok(record) => worker.mounts.set_record(record),
        Err(e) => warn!("cannot keep a record of directories in {}: {e}", record::file().display()),
    }
    spawn_local(Rc::clone(&worker).timers());
    spawn_local(Rc::clone(&worker.mounts).close_idle_roots());
    spawn_local(signals.serve(Rc::clone(&worker), on_exit));
    spawn_local(Rc::clone(&worker).read_pipes(channels.unread));
    spawn_local(carry_out_requests(Rc::clone(&worker), channels.next));
    spawn_local(watch::watch(Rc::clone(&worker)));
    spawn_local(renames::watch(Rc::clone(&worker)));
    spawn_local(network::watch(Rc::clone(&worker)));
    spawn_local(fuse_health::watch(Rc::clone(&worker)));
    spawn_local(restore::watch(Rc::clone(&worker)));
    spawn_local(retry_sources::retry(Rc::clone(&worker)));
    let has_died = matches!(predecessor, Some(Predecessor::Died(_) | Predecessor::Hung));
    spawn_local(news::watch(Rc::clone(&worker), has_died));
    spawn_local(news::record(Rc::clone(&worker)));
    spawn_local(control::serve(Rc::clone(&worker), again));
    let work = async {
        fault::point("start");
        let making = worker.mounts.begin_making();
        reload::start(&worker, again).await;
        worker.made(making);
        worker.started();
        steer::restore_levels(&worker);
        worker.life.ended().await
    };
    let ended = tokio::select! {
        end = work => Some(end),
        () = upgrade::retire(&worker, &mut retirement) => None,
    };
    sources.lookups.flush_cache().await;
    let Some((how, left)) = ended else { return 0 };
    debug!("the end: {how:?}, {} autofs mounts stay", left.len());
    detach::leave(&worker.mounts, &worker.tools(), &left, how).await;
    worker.requests.refuse_the_last(&worker.mounts, &worker.tools()).await;
    detach::remove_left_over(&worker.mounts, &worker.tools()).await;
    worker.mounts.end_record();
    if let Some(own) = worker.socket.get() {
        serve::remove(&instance::socket(), own);
    }
    info!("autofs stopped");
    worker.mounts.tell_keeper(Message::Ending(0));
    0
}

/// Returns the event with which a worker begins.
fn beginning(predecessor: Option<Predecessor>) -> (EventKind, String) {
    let version = env!("AUTOFS_VERSION");
    match predecessor {
        None => (EventKind::Start, format!("automount {version} has started")),
        Some(Predecessor::Died(exit)) => (EventKind::WorkerDied, format!("the worker has died ({exit})")),
        Some(Predecessor::Hung) => (EventKind::WorkerDied, "the worker did not go on and was killed".to_owned()),
        Some(Predecessor::Retired) => (EventKind::Upgrade, format!("automount {version} has taken over")),
    }
}

/// Carries out the requests of the worker to modules above it.
async fn carry_out_requests(worker: Rc<Worker>, mut next: mpsc::UnboundedReceiver<Next>) {
    while let Some(next) = next.recv().await {
        match next {
            Next::Regain(located, kept) => drop(spawn_local(restore::regain(Rc::clone(&worker), located, kept))),
            Next::Renew(mount) => drop(spawn_local(renew::renew(Rc::clone(&worker), mount))),
        }
    }
}

/// The signals of the keeper that have a meaning.
struct Signals {
    reload: Signal,
    prune: Signal,
    force: Signal,
    stop: Signal,
    /// Those that reach the whole process group. They do nothing: the keeper decides what they mean.
    _of_the_group: Vec<Signal>,
}

impl Signals {
    fn install() -> io::Result<Self> {
        let of_the_keeper = |word: children::Signal| signal(SignalKind::from_raw(word.number()));
        let of_the_group = [
            SignalKind::hangup(),
            SignalKind::user_defined1(),
            SignalKind::user_defined2(),
            SignalKind::terminate(),
            SignalKind::interrupt(),
            SignalKind::quit(),
            SignalKind::alarm(),
        ];
        Ok(Self {
            reload: of_the_keeper(children::Signal::Reload)?,
            prune: of_the_keeper(children::Signal::Prune)?,
            force: of_the_keeper(children::Signal::Force)?,
            stop: of_the_keeper(children::Signal::Stop)?,
            _of_the_group: of_the_group.into_iter().map(signal).collect::<io::Result<_>>()?,
        })
    }

    async fn serve(mut self, worker: Rc<Worker>, on_exit: Shutdown) {
        loop {
            tokio::select! {
                _ = self.reload.recv() => drop(spawn_local(upgrade::hang_up(Rc::clone(&worker)))),
                _ = self.prune.recv() => worker.event(Event::Prune),
                _ = self.force.recv() => worker.stop(Shutdown::Forced),
                _ = self.stop.recv() => worker.stop(on_exit),
            }
        }
    }
}
