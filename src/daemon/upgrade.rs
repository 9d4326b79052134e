//! A new program in place of this one, without a failed lookup.
//!
//! The keeper executes it, with the same process, group and pipes; its first act is to tell the worker of the old
//! program to retire. Before that, the worker that is asked for it finds out whether the new program would know what
//! to do: once executed there is no way back but by that program's own code.

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

/// First argument that asks the program whether it would take over from one whose handover has the version that the
/// second one names. Then come the arguments of the daemon.
pub(crate) const ARGUMENT: &str = "--internal-takes-over";

/// How long the new program may think about it.
const CHECK: Duration = Duration::from_secs(5);

/// And how long to end when that is over.
const GRACE: Duration = Duration::from_secs(1);

/// How long a worker that retires waits for what it has under way.
const WIND_UP: Duration = Duration::from_secs(1);

/// Between two looks whether something is.
const LOOK: Duration = Duration::from_millis(2);

/// HUP: another program if there is one, else the maps anew, which the other program reads as well.
pub(crate) async fn hang_up(worker: Rc<Worker>) {
    if matches!(exec::is_other_program(&worker.program), Ok(true)) {
        match upgrade(&worker).await {
            Ok(()) => return,
            Err(why) => error!("{why}; this program goes on"),
        }
    }
    reload::reload(worker).await;
}

/// Has this program replaced by the one that stands at its path, and returns when that goes on: this worker retires.
///
/// # Errors
/// Half a sentence that says why not.
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
    // Meanwhile much may have begun.
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

/// What a program says that would take over. Others may take any argument for a good one.
fn yes() -> String {
    format!("takes over from handover {HANDOVER_VERSION}")
}

/// The new program's answer: whether it would take over with these arguments, the version first.
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

/// Waits until the keeper says so, then makes room for the next worker. What is under way may end, if that is soon;
/// what is not answered stands in the journal.
pub(crate) async fn retire(worker: &Rc<Worker>, word: &mut Signal) {
    word.recv().await;
    worker.life.enter(Phase::Retiring);
    let end = Instant::now() + WIND_UP;
    while (!worker.winds_up() || worker.life.has_upgrade_calls()) && Instant::now() < end {
        sleep(LOOK).await;
    }
    info!("this worker retires");
}
