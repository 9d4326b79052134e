//! Upgrades: replaces the program without a failed lookup.
//!
//! The worker first asks the new program whether it can take over, because once it is executed, only its own code can return to
//! the old program. Then the keeper executes the new program in its process, with the same group and pipes. The new keeper
//! begins by telling the worker of the old program to retire.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use log::{error, info};
use tokio::signal::unix::Signal;
use tokio::time::{Instant, sleep, timeout};

use crate::daemon::life::{Phase, REPLACED_WITHIN};
use crate::daemon::reload;
use crate::daemon::worker::Worker;
use crate::link::{HANDOVER_VERSION, Message};
use crate::options::{self, Command};
use crate::record::Exit;
use crate::sys::exec;
use crate::sys::process::Program;
use crate::text::Escaped;

/// The first argument that asks the program whether it can take over. The second argument is the version of the handover; the
/// arguments of the daemon follow.
pub(crate) const ARGUMENT: &str = "--internal-takes-over";

/// How long the new program may take to answer.
const CHECK: Duration = Duration::from_secs(5);

/// How long the checked program may take to exit after [`CHECK`], before it is killed.
const GRACE: Duration = Duration::from_secs(1);

/// How long a retiring worker waits for its running jobs.
const WIND_UP: Duration = Duration::from_secs(1);

/// Interval at which a retiring worker checks for running jobs.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Handles SIGHUP: upgrades if another program is installed (which also reads the maps), otherwise reloads.
pub(crate) async fn hang_up(worker: Rc<Worker>) {
    if matches!(exec::is_other_program(&worker.program), Ok(true)) {
        match upgrade(&worker).await {
            Ok(()) => return,
            Err(why) => error!("{why}; the running program continues"),
        }
    }
    reload::reload(worker).await;
}

/// Replaces this program by the file now at its path. Returns when the new program runs and this worker must retire.
///
/// # Errors
/// Returns the reason why the upgrade is not possible or has failed.
pub(crate) async fn upgrade(worker: &Rc<Worker>) -> Result<(), String> {
    let shown = Escaped::path(&worker.program);
    let cannot = |why: &dyn std::fmt::Display| format!("{shown} cannot take over: {why}");
    let may = || worker.life.phase().may_upgrade().map_err(|why| cannot(&why));
    may()?;
    let arguments = std::env::args_os().skip(1);
    let program = Program::new(&worker.program, CHECK, GRACE).arg(ARGUMENT).arg(HANDOVER_VERSION.to_string());
    let ended = arguments.fold(program, Program::arg).run().await.map_err(|e| cannot(&e))?;
    let said = ended.lines().last().unwrap_or_default();
    if ended.exit != Exit::Status(0) || said != yes().as_bytes() {
        return Err(cannot(&format!("{}, \"{}\"", ended.exit, Escaped(said))));
    }
    // The phase may have changed meanwhile.
    may()?;
    info!("{shown} takes over");
    let retires = worker.life.retires.notified();
    worker.life.enter(Phase::Upgrading);
    worker.mounts.tell_keeper(Message::Upgrade);
    let answer = timeout(REPLACED_WITHIN, retires).await;
    if worker.life.phase() == Phase::Upgrading {
        worker.life.enter(Phase::Serving);
    }
    answer.map_err(|_| cannot(&"the keeper has not executed it, and has logged why"))
}

/// The output of a program that can take over. Other programs might accept any argument.
fn yes() -> String {
    format!("takes over from handover {HANDOVER_VERSION}")
}

/// Runs in the new program: answers whether it can take over with these arguments; the first is the version.
pub(crate) fn check(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let version = arguments.next().and_then(|version| version.to_str()?.parse().ok());
    let all = [OsString::from("automount")].into_iter().chain(arguments);
    match options::parse(all, &mut io::sink()) {
        Ok(Command::Run(_)) if version == Some(HANDOVER_VERSION) => match writeln!(io::stdout(), "{}", yes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        _ => ExitCode::FAILURE,
    }
}

/// Waits for the keeper's signal to retire, then for running jobs, but only a short time. Unanswered requests remain in the
/// journal for the next worker.
pub(crate) async fn retire(worker: &Rc<Worker>, word: &mut Signal) {
    word.recv().await;
    worker.life.enter(Phase::Retiring);
    let end = Instant::now() + WIND_UP;
    while (!worker.wind_up() || worker.life.has_upgrade_calls()) && Instant::now() < end {
        sleep(POLL_INTERVAL).await;
    }
    info!("this worker retires");
}
