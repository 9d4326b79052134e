//! From the command line to the keeper's loop: checks, detaching, the flag file, the pid file.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use sd_notify::NotifyState;

use super::flag::{Flag, Taken};
use super::handover::{Files, Handover, HandoverError};
use super::run::{EXIT_TIMEOUT, Keeper, TABLE, Waiting};
use crate::link::{Doing, Inheritance, START_FAILED, ServiceState, history, journal};
use crate::logging::{self, Logger};
use crate::options::Options;
use crate::sys::autofs::{self, Control};
use crate::sys::children::{self, Fork};
use crate::sys::signals::Signals;
use crate::sys::{exec, fds, inherited, path};
use crate::text::Escaped;

/// A line on stderr; `eprintln!` would panic where stderr is closed.
macro_rules! say {
    ($($part:tt)*) => {{ let _ = writeln!(std::io::stderr(), $($part)*); }};
}

/// Open files that a keeper with a full table has, and some.
const DESCRIPTORS: u64 = TABLE as u64 + 64;

/// Directory of the flag file and the control socket.
pub(crate) const RUN_DIRECTORY: &str = env!("AUTOFS_RUNDIR");

/// Main function of a process that the keeper has forked. Returns its exit status.
pub type Worker = fn(Options, Inheritance, &'static Logger) -> u8;

/// Runs the daemon; the processes that it forks run `worker`. In the foreground, returns when the daemon ends; otherwise when it
/// serves or has failed to start. After an upgrade, continues in the same process.
pub fn run(mut options: Options, worker: Worker) -> ExitCode {
    options.systemd_service |= is_main_process();
    let program = Escaped(&options.program);
    inherited::reset_signal_actions();
    if let Err(e) = inherited::block_file_size_signal().and_then(|()| inherited::lift_limits()) {
        say!("{program}: cannot lift the limits of CPU time and file size: {e}");
    }
    match Handover::take() {
        Some(Ok(handover)) => return ExitCode::from(continue_after_upgrade(options, handover, worker)),
        Some(Err(e @ HandoverError::Elsewhere)) => say!("{program}: {e}"),
        Some(Err(e)) => {
            say!("{program}: {e}");
            return ExitCode::from(begin_anew(options, worker));
        }
        None => {}
    }
    let too_old = match Control::open().and_then(|control| autofs::protocol(&control)) {
        Ok(None | Some((5.., _))) => None,
        Ok(Some((major, minor))) => Some(format!("it is {major}.{minor:02}")),
        Err(e) => Some(e.to_string()),
    };
    if let Some(why) = too_old {
        say!(
            "{program}: test mount forbidden or incorrect kernel protocol version, kernel protocol version 5.00 or above \
             required: {why}"
        );
        return ExitCode::from(START_FAILED);
    }
    let _ = std::env::set_current_dir("/");
    path::set_umask(0o022);
    if options.foreground || options.systemd_service {
        if let Err(e) = children::lead_group() {
            say!("{program}: cannot make a process group: {e}");
            return ExitCode::from(START_FAILED);
        }
        return ExitCode::from(keep(options, None, worker));
    }
    match detach() {
        Ok(Detached::Starter(mut status)) => {
            // No byte: it died before it could say anything.
            let mut byte = [START_FAILED];
            let _ = status.read(&mut byte);
            ExitCode::from(byte[0])
        }
        Ok(Detached::Daemon(status)) => ExitCode::from(keep(options, Some(status), worker)),
        Err(e) => {
            say!("{program}: cannot detach: {e}");
            ExitCode::from(START_FAILED)
        }
    }
}

/// Whether a service manager has executed this very process and waits for its word, whatever the options say: the command line of
/// another package's unit, whose daemon detaches, may stand in a drop-in of our unit.
fn is_main_process() -> bool {
    let executed = std::env::var("SYSTEMD_EXEC_PID").is_ok_and(|pid| pid == children::pid().to_string());
    executed && std::env::var_os("NOTIFY_SOCKET").is_some()
}

enum Detached {
    /// Waits for the daemon's word.
    Starter(File),
    /// Gives it.
    Daemon(File),
}

fn detach() -> std::io::Result<Detached> {
    let (read, write) = fds::pipe()?;
    match children::fork()? {
        Fork::Parent(_) => Ok(Detached::Starter(read.into())),
        Fork::Child => {
            children::lead_session()?;
            Ok(Detached::Daemon(write.into()))
        }
    }
}

/// Tells the starter, once, and the service manager.
struct Status {
    starter: Option<File>,
    /// Whether a service manager is told. If it does not listen there is no socket, and nothing to do.
    managed: bool,
    /// Whether the daemon has served since the start of this program.
    started: bool,
    reloading: bool,
}

impl Status {
    fn new(starter: Option<File>, options: &Options) -> Self {
        Self { starter, managed: options.systemd_service, started: false, reloading: false }
    }

    fn tell(&mut self, status: u8) {
        if let Some(mut starter) = self.starter.take() {
            let _ = starter.write_all(&[status]);
        }
    }
}

impl Waiting for Status {
    fn started(&mut self) {
        self.tell(0);
        if self.managed && (!self.started || self.reloading) {
            let _ = sd_notify::notify(&[NotifyState::Ready]);
        }
        (self.started, self.reloading) = (true, false);
    }

    fn reloading(&mut self) {
        // Before the start has ended, its end says it all. Later each signal is answered, because the service manager accepts
        // only a notification that is younger than its signal.
        if self.managed && self.started {
            if let Ok(now) = NotifyState::monotonic_usec_now() {
                let _ = sd_notify::notify(&[NotifyState::Reloading, now]);
                self.reloading = true;
            }
        }
    }

    fn reloaded(&mut self) {
        if std::mem::take(&mut self.reloading) {
            let _ = sd_notify::notify(&[NotifyState::Ready]);
        }
    }

    fn state(&mut self, state: ServiceState) {
        if self.managed {
            let _ = sd_notify::notify(&[NotifyState::Status(&state.to_string())]);
        }
    }

    fn alive(&mut self) {
        let _ = sd_notify::notify(&[NotifyState::Watchdog]);
    }

    fn interval(&self) -> Option<Duration> {
        // Half of the time after which the service manager acts, as sd_watchdog_enabled(3) advises.
        sd_notify::watchdog_enabled().map(|limit| limit / 2)
    }
}

/// The pid file; removed when dropped.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: &Path) -> std::io::Result<Self> {
        fs::write(path, format!("{}\n", children::pid()))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn keep(options: Options, starter: Option<File>, worker: Worker) -> u8 {
    let program = Escaped(&options.program);
    let daemonised = starter.is_some();
    let mut status = Status::new(starter, &options);
    let mut flag = None;
    if !options.dont_check_daemon {
        match Flag::take(Path::new(RUN_DIRECTORY)) {
            Ok(Taken::Ours(ours)) => flag = Some(ours),
            Ok(Taken::Running) => {
                say!("{program}: program is already running.");
                // So that a second start by an init script is no failure; in the foreground it is one.
                let code = if daemonised { 0 } else { START_FAILED };
                status.tell(code);
                return code;
            }
            Err(e) => {
                say!("{program}: cannot take the flag file in {RUN_DIRECTORY}: {e}");
                if e.kind() == std::io::ErrorKind::FileTooLarge {
                    say!("{program}: the limit of the file size cannot be raised without CAP_SYS_RESOURCE (ulimit -f)");
                }
                status.tell(START_FAILED);
                return START_FAILED;
            }
        }
    }
    let mut pid_file = None;
    if let Some(path) = &options.pid_file {
        match PidFile::write(path) {
            Ok(file) => pid_file = Some(file),
            Err(e) => say!("{program}: failed to write pid file {}: {e}", Escaped::path(path)),
        }
    }
    if daemonised {
        if let Err(e) = fds::null_stdio() {
            say!("{program}: cannot open /dev/null: {e}");
        }
    }
    if let Err(e) = fds::raise_limit(DESCRIPTORS) {
        say!("{program}: cannot raise the limit of open files: {e}");
    }
    let files = Files {
        program: exec::own_path().unwrap_or_default(),
        flag: flag.as_ref().map(|flag| flag.path().to_owned()),
        pid_file: pid_file.as_ref().map(|file| file.0.clone()),
    };
    let keeper = children::adopt_orphans()
        .and_then(|()| Signals::block())
        .and_then(|signals| Keeper::new(signals, journal::create()?, history::create()?, files));
    let keeper = match keeper {
        Ok(keeper) => keeper,
        Err(e) => {
            say!("{program}: cannot set up the keeper: {e}");
            status.tell(START_FAILED);
            return START_FAILED;
        }
    };
    live(options, keeper, status, (pid_file, flag), worker)
}

/// Runs the keeper after an upgrade, in place of the previous program.
fn continue_after_upgrade(options: Options, handover: Handover, worker: Worker) -> u8 {
    let program = Escaped(&options.program);
    let Files { flag, pid_file, program: path } = handover.files.clone();
    // Up to Linux 6.13, a program that was executed by descriptor has the number of the descriptor as its name.
    if let Some(Ok(name)) = path.file_name().map(|name| CString::new(name.as_bytes())) {
        let _ = children::set_name(&name);
    }
    let keeper = Signals::block().and_then(|signals| Keeper::resume(signals, handover));
    match keeper {
        Ok(keeper) => {
            // The program before may have begun a reload, which the start of this one ends.
            let status = Status::new(None, &options);
            live(options, keeper, status, (pid_file.map(PidFile), flag.map(Flag::inherited)), worker)
        }
        Err(e) => {
            say!("{program}: cannot set up the keeper: {e}");
            begin_anew(options, worker)
        }
    }
}

/// Starts without the state of the previous program, which cannot be read: kills its worker, and takes its mounts over as after a
/// crash. Stays in this process, because others know its pid.
fn begin_anew(options: Options, worker: Worker) -> u8 {
    children::kill_own_group(EXIT_TIMEOUT);
    // As long as the read end of a pipe is open in this process, its mounts look served.
    if let Err(e) = fds::close_inherited() {
        say!("{}: cannot close what was handed over: {e}", Escaped(&options.program));
    }
    keep(options, None, worker)
}

fn live(
    options: Options,
    keeper: Keeper,
    mut status: Status,
    files: (Option<PidFile>, Option<Flag>),
    worker: Worker,
) -> u8 {
    let sink = if options.foreground { logging::Sink::Stderr } else { logging::Sink::Syslog };
    let logger = logging::install(sink, options.verbosity);
    status.state(ServiceState::new(Doing::Starting));
    match keeper.run(&mut status) {
        Ok(code) => {
            status.tell(code);
            drop(files);
            code
        }
        Err(inheritance) => {
            // The files are the keeper's, and so is the word to the starter.
            std::mem::forget(files);
            drop(status);
            worker(options, inheritance, logger)
        }
    }
}
