//! A line on the terminal that says what the daemon is doing while a command waits for it.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::client;
use super::table;
use crate::control::{Activity, Answer, Call};

/// How long a command waits in silence, and how often the line is written.
const TURN: Duration = Duration::from_millis(500);

/// How long the daemon may take to say what it does.
const ACTIVITY_TIMEOUT: Duration = Duration::from_millis(400);

/// A line that is written until this is dropped, and removed then.
#[derive(Debug)]
pub(super) struct Progress {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Begins to show what a call waits for. Shows nothing if stderr is no terminal, or the call does not take long.
    pub(super) fn of(call: &Call, socket: &Path) -> Self {
        let what = match call {
            Call::Reload(_) => "reload",
            Call::Quiesce(_) => "quiesce",
            Call::Expire(_) => "expire",
            Call::Clean => "clean",
            Call::Upgrade => "upgrade",
            _ => return Self { end: None, thread: None },
        };
        if !io::stderr().is_terminal() || std::env::var_os("TERM").is_none_or(|term| term == "dumb") {
            return Self { end: None, thread: None };
        }
        let (end, ended) = mpsc::channel();
        let socket: PathBuf = socket.to_owned();
        let thread = thread::spawn(move || {
            let begun = Instant::now();
            let mut width = 0;
            while ended.recv_timeout(TURN) == Err(RecvTimeoutError::Timeout) {
                let activity = match client::ask(&socket, Call::Activity, ACTIVITY_TIMEOUT) {
                    Ok(Answer::Activity(activity)) => Some(activity),
                    _ => None,
                };
                let text = line(what, activity.as_ref(), begun.elapsed());
                width = show(&text, width);
            }
            show("", width);
        });
        Self { end: Some(end), thread: Some(thread) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            // It does not panic.
            let _ = thread.join();
        }
    }
}

/// Replaces a line of `before` columns by another one, without escape sequences. Returns its columns.
fn show(text: &str, before: usize) -> usize {
    let mut out = io::stderr().lock();
    // Errors are ignored: stderr may be closed.
    let _ = write!(out, "\r{text:before$}");
    if text.is_empty() {
        let _ = write!(out, "\r");
    }
    let _ = out.flush();
    text.chars().count()
}

/// Says what a command waits for, and for how long.
fn line(what: &str, activity: Option<&Activity>, waited: Duration) -> String {
    let waited = table::duration(waited.as_secs());
    let Some(activity) = activity else { return format!("{what}: waiting for {waited}") };
    let requests = activity.requests.len() as u64 + activity.more;
    let counts = [
        (activity.attaching, "mount point", "to mount"),
        (activity.detaching, "mount point", "to unmount"),
        (requests, "request", "waiting"),
        (activity.mounting, "mount", "under way"),
        (activity.unmounting, "unmount", "under way"),
    ];
    let told: Vec<String> = counts
        .iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, what, how)| format!("{count} {what}{} {how}", if *count == 1 { "" } else { "s" }))
        .collect();
    match told.as_slice() {
        [] => format!("{what}: for {waited}"),
        told => format!("{what}: {} (for {waited})", told.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_still_to_be_done() {
        let activity = Activity { attaching: 3120, mounting: 1, more: 2, ..Activity::default() };
        let text = line("reload", Some(&activity), Duration::from_millis(12_300));
        assert_eq!(text, "reload: 3120 mount points to mount, 2 requests waiting, 1 mount under way (for 12s)");
        assert_eq!(line("quiesce", Some(&Activity::default()), Duration::from_secs(2)), "quiesce: for 2s");
        assert_eq!(line("quiesce", None, Duration::from_secs(2)), "quiesce: waiting for 2s");
    }
}
