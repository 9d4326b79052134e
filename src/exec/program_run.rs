//! Programs that the executor runs: mount helpers, mount(8), umount(8), fsck.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::Failure;
use super::lanes::{Lanes, Late};
use super::settings::Settings;
use crate::record::{Exit, Run, STDERR_LIMIT};
use crate::sys::process::Program;
use crate::text::Escaped;

/// Runs programs, with a bound on their number.
#[derive(Debug, Clone)]
pub(super) struct Runner {
    pub(super) settings: Arc<Settings>,
    pub(super) lanes: Arc<Lanes>,
}

/// A program with what is needed to run it and to report it.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) program: Program,
    /// The server that it depends on, if any.
    pub(super) server: Option<Vec<u8>>,
    /// The place that it is about.
    pub(super) path: PathBuf,
    /// Target of log lines.
    pub(super) label: Arc<str>,
    /// How long it may wait until it may run.
    pub(super) time_limit: Duration,
}

impl Runner {
    /// Runs a program to its end or its deadline. Every line that it writes goes to the log: as information if it fails, else
    /// at debug level.
    ///
    /// # Errors
    /// [`Failure::Start`]; [`Failure::Late`]: too many others run.
    pub(super) async fn run(&self, call: Call) -> Result<Run, Failure> {
        let Call { program, server, path, label, time_limit } = call;
        let argv = program.words();
        let name = PathBuf::from(argv.first().cloned().unwrap_or_default());
        let late = |_| Failure::Late { path: path.clone(), late: Late::Deadline };
        let permit = self.lanes.program(server.as_deref());
        let _permit = timeout(time_limit, permit).await.map_err(late)?;
        let program = program.pass(&self.settings.environment);
        let begun = Instant::now();
        let ended = program.run().await.map_err(|source| Failure::Start { program: name, source })?;
        let level = if ended.exit == Exit::Status(0) { log::Level::Debug } else { log::Level::Info };
        for line in ended.lines() {
            log::log!(target: &label, level, ">> {}", Escaped(line));
        }
        // Some scripts complain on standard output.
        let mut said = if ended.stderr.iter().all(u8::is_ascii_whitespace) { ended.stdout } else { ended.stderr };
        said.truncate(STDERR_LIMIT);
        let command = argv.into_iter().map(OsString::into_vec).collect();
        Ok(Run { command, exit: ended.exit, stderr: said, duration: begun.elapsed() })
    }

    /// Logs the call of a program as automount does: as information with `mount_verbose`, else at debug level.
    pub(super) fn announce(&self, call: &Call, module: &str) {
        let level = if self.settings.verbose { log::Level::Info } else { log::Level::Debug };
        if log::log_enabled!(target: &call.label, level) {
            let words = call.program.words();
            let path = words.first().map(Path::new).and_then(Path::file_name).unwrap_or_default();
            let rest = words.get(1..).unwrap_or_default().join(OsStr::new(" "));
            let (name, rest) = (Escaped(path.as_bytes()), Escaped(rest.as_bytes()));
            log::log!(target: &call.label, level, "mount({module}): calling {name} {rest}");
        }
    }
}
