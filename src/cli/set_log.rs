//! `automount -l`: changes log levels of a running daemon through its control socket.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::ctl::client;
use crate::control::{Bytes, Call, SetLogLevel};
use crate::options::Priority;
use crate::text::Escaped;

/// How long to wait for the reply about one path.
const REPLY_TIMEOUT: Duration = Duration::from_secs(15);

/// Sets the level of all paths, even if some of them fail. Returns failure if any has failed.
pub(super) fn run(socket: &Path, priority: Priority, paths: &[PathBuf]) -> ExitCode {
    if paths.is_empty() {
        let _ = writeln!(io::stderr(), "--set-log-priority requires a path.");
        return ExitCode::FAILURE;
    }
    let mut code = ExitCode::SUCCESS;
    for path in paths {
        let level = priority.verbosity().into();
        let shown = Escaped::path(path);
        match client::ask(
            socket,
            Call::SetLogLevel(SetLogLevel { path: Bytes::from(trimmed(path)), level, seconds: None }),
            REPLY_TIMEOUT,
        ) {
            Ok(_) => {
                let _ = writeln!(io::stdout(), "Successfully set log priority for {shown}.");
            }
            Err(error) => {
                let _ = writeln!(io::stderr(), "Failed to set log priority for {shown}: {error}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

/// Returns the path without trailing slashes.
fn trimmed(path: &Path) -> &[u8] {
    let bytes = path.as_os_str().as_encoded_bytes();
    let slashes = bytes.iter().rev().take_while(|b| **b == b'/').count();
    bytes.get(..bytes.len() - slashes).unwrap_or(bytes)
}
