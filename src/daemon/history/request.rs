//! An answered request, as the reactor hands it over, and as it is recorded.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::control::history::{self, Asked, ProgramRun, Request};
use crate::control::{Bytes, PlanTree};
use crate::engine::{Errno, Reason, Requester, Token};
use crate::plan::Plan;
use crate::record::Run;
use crate::text::secrets::{masked, masked_as_in, masked_text};
use crate::text::{Escaped, Position};

/// How many attempts of a plan are named.
const ATTEMPTS: usize = 4;

/// How much of the text of an entry is kept.
const ENTRY: usize = 1024;

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
        match self {
            Self::Found => format!("map {map}: found"),
            Self::NotFound => format!("map {map}: not found"),
            Self::Invalid => format!("map {map}: nothing can be mounted by the entry"),
            Self::Unavailable => format!("map {map}: no answer that could be used"),
            Self::Mount(plan) => format!("mount {}", attempts(plan)),
            Self::Mounted => "mounted".to_owned(),
            Self::Failed => "failed".to_owned(),
        }
    }
}

/// Names what a plan mounts.
fn attempts(plan: &Plan) -> String {
    let attempts = PlanTree::from(plan).attempts;
    let shown = attempts.iter().take(ATTEMPTS).map(|attempt| {
        let words = [&attempt.fstype, &attempt.source, &attempt.options];
        let words: Vec<_> = words.iter().filter(|word| !word.0.is_empty()).map(|word| masked(&word.0)).collect();
        words.iter().map(|word| Escaped(word).to_string()).collect::<Vec<_>>().join(" ")
    });
    let mut text = shown.collect::<Vec<_>>().join(", or ");
    if attempts.len() > ATTEMPTS {
        text += &format!(", or {} others", attempts.len() - ATTEMPTS);
    }
    if attempts.is_empty() { "the triggers below it".to_owned() } else { text }
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
    pub(super) fn record(&self, who: history::Requester) -> Request {
        let map = Bytes(self.map.clone());
        let runs = self.reason.iter().flat_map(|reason| reason.runs.iter());
        let commands: Vec<Vec<u8>> = runs.clone().flat_map(|run| run.command.iter().cloned()).collect();
        let reason = self.reason.as_ref().map(|reason| masked_as_in(reason.message.as_bytes(), &commands));
        let reason = reason.map(|reason| String::from_utf8_lossy(&reason).into_owned());
        let known = match self.error {
            Some(_) if self.steps.iter().any(|(_, step)| matches!(step, Step::NotFound)) => Some("no map has this key"),
            Some(Errno::ENOENT) if self.attempt.is_none() => Some("this key has failed shortly before"),
            Some(Errno::ETIMEDOUT) => Some("the deadline has passed"),
            Some(Errno::ELOOP) => Some("it is mounted, but not in the mount namespace of the requester"),
            Some(Errno::EBUSY) => Some("it is in use"),
            _ => None,
        };
        let step = |(after, step): &(Duration, Step)| history::Step {
            after: microseconds(*after),
            what: masked_text(&step.text(&map)).into_owned(),
        };
        Request {
            id: 0,
            asked: self.asked,
            at: self.at,
            took: microseconds(self.took),
            count: 0,
            last: 0,
            path: Bytes::from(&*self.path),
            mount_point: Bytes(self.mount_point.clone()),
            map: map.clone(),
            place: self.line.as_ref().map(|(place, _)| Bytes(place.to_string().into_bytes())),
            entry: self.line.as_ref().map(|(_, entry)| {
                let entry = masked(entry);
                Bytes(entry.get(..ENTRY).unwrap_or(&entry).to_vec())
            }),
            who,
            errno: self.error.map(|error| error.name().to_owned()),
            reason: reason.or_else(|| known.map(str::to_owned)),
            negative_until: self.negative_for.map(|ms| super::now().saturating_add(ms)),
            steps: self.steps.iter().map(step).collect(),
            runs: runs.map(run).collect(),
        }
    }
}
