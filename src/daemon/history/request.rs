//! An answered request, as the reactor hands it over, and as it is recorded.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::control::Bytes;
use crate::control::history::{self, Asked, ProgramRun, Request};
use crate::control::plan::{self, Attempt};
use crate::engine::{Errno, Reason, Requester, Token};
use crate::plan::Plan;
use crate::record::Run;
use crate::text::secrets::{masked, masked_as_in, masked_text};
use crate::text::{Escaped, Position};

/// How many attempts of a plan are named.
const ATTEMPTS: usize = 4;

/// How much of the text of an entry is kept.
const ENTRY: usize = 1024;

/// Bytes that the text of a step usually has at most.
const TEXT: usize = 64;

/// A request that was answered.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) token: Token,
    pub(crate) asked: Asked,
    /// When the packet came: milliseconds since 1970.
    pub(crate) at: u64,
    pub(crate) took: Duration,
    pub(crate) path: PathBuf,
    pub(crate) mount_point: Vec<u8>,
    pub(crate) map: Vec<u8>,
    /// The place and the text of the entry.
    pub(crate) line: Option<(Position, Vec<u8>)>,
    pub(crate) who: Requester,
    /// The name of the process; empty if it was not read.
    pub(crate) name: String,
    pub(crate) error: Option<Errno>,
    pub(crate) reason: Option<Reason>,
    /// For how many milliseconds further requests fail at once.
    pub(crate) negative_for: Option<u64>,
    /// The number of the attempt that was made for it. Without one it was answered from what was known.
    pub(crate) attempt: Option<u64>,
    /// Steps that were taken, with the time since the packet.
    pub(crate) steps: Vec<(Duration, Step)>,
}

/// A step of an attempt.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Found,
    NotFound,
    Invalid,
    Unavailable,
    Mount(Arc<Plan>),
    Mounted,
    Failed,
}

impl Step {
    fn text(&self, map: &Bytes) -> String {
        let mut text = String::with_capacity(TEXT);
        let of_map = |text: &mut String, what| append(text, format_args!("map {map}: {what}"));
        match self {
            Self::Found => of_map(&mut text, "found"),
            Self::NotFound => of_map(&mut text, "not found"),
            Self::Invalid => of_map(&mut text, "nothing can be mounted by the entry"),
            Self::Unavailable => of_map(&mut text, "no answer that could be used"),
            Self::Mount(plan) => {
                text.push_str("mount");
                append_attempts(&mut text, plan);
            }
            Self::Mounted => text.push_str("mounted"),
            Self::Failed => text.push_str("failed"),
        }
        match masked_text(&text) {
            Cow::Borrowed(_) => text,
            Cow::Owned(masked) => masked,
        }
    }
}

/// Appends what a plan mounts.
fn append_attempts(text: &mut String, plan: &Plan) {
    let attempts = plan::attempts(&plan.action);
    for (place, Attempt { fstype, source, options }) in attempts.iter().take(ATTEMPTS).enumerate() {
        text.push_str(if place == 0 { "" } else { ", or" });
        for word in [fstype, source, options].into_iter().filter(|word| !word.0.is_empty()) {
            append(text, format_args!(" {}", Escaped(&masked(&word.0))));
        }
    }
    match attempts.len().checked_sub(ATTEMPTS) {
        None if attempts.is_empty() => text.push_str(" the triggers below it"),
        None | Some(0) => {}
        Some(others) => append(text, format_args!(", or {others} others")),
    }
}

/// Appends to a text.
fn append(text: &mut String, what: fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = text.write_fmt(what);
}

/// Returns the record of a program that was run, without secrets.
fn run(run: &Run) -> ProgramRun {
    ProgramRun {
        command: run.command.iter().map(|word| Bytes(masked(word).into_owned())).collect(),
        exit: run.exit.to_string(),
        stderr: Bytes(masked_as_in(&run.stderr, &run.command)),
        took: microseconds(run.duration),
    }
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Answered {
    /// Returns the request as it is recorded.
    pub(super) fn record(self, who: history::Requester) -> Request {
        let map = Bytes(self.map);
        let runs = self.reason.iter().flat_map(|reason| reason.runs.iter());
        let reason = self.reason.as_ref().map(|reason| {
            let commands: Vec<Vec<u8>> = runs.clone().flat_map(|run| run.command.iter().cloned()).collect();
            String::from_utf8_lossy(&masked_as_in(reason.message.as_bytes(), &commands)).into_owned()
        });
        let known = match self.error {
            Some(_) if self.steps.iter().any(|(_, step)| matches!(step, Step::NotFound)) => Some("no map has this key"),
            Some(Errno::ENOENT) if self.attempt.is_none() => Some("this key has failed shortly before"),
            Some(Errno::ETIMEDOUT) => Some("the deadline has passed"),
            Some(Errno::ELOOP) => Some("it is mounted, but not in the mount namespace of the requester"),
            Some(Errno::EBUSY) => Some("it is in use"),
            _ => None,
        };
        let step =
            |(after, step): &(Duration, Step)| history::Step { after: microseconds(*after), what: step.text(&map) };
        let (place, entry) = self.line.unzip();
        Request {
            id: 0,
            asked: self.asked,
            at: self.at,
            took: microseconds(self.took),
            count: 0,
            last: 0,
            path: Bytes(self.path.into_os_string().into_vec()),
            mount_point: Bytes(self.mount_point),
            place: place.map(|place| Bytes(place.to_string().into_bytes())),
            entry: entry.map(|mut entry| {
                if let Cow::Owned(masked) = masked(&entry) {
                    entry = masked;
                }
                entry.truncate(ENTRY);
                Bytes(entry)
            }),
            who,
            errno: self.error.map(|error| error.name().to_owned()),
            reason: reason.or_else(|| known.map(str::to_owned)),
            negative_until: self.negative_for.map(|ms| super::now().saturating_add(ms)),
            steps: self.steps.iter().map(step).collect(),
            runs: runs.map(run).collect(),
            map,
        }
    }
}
