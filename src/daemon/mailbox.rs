//! Reports of jobs to the worker that are needed before the job ends.

use std::fmt;
use std::rc::Rc;

use crate::daemon::jobs::browse::Extra;
use crate::daemon::mounts::Making;
use crate::engine::{Event, MountId};

/// A report of a job.
#[derive(Debug)]
pub(crate) enum Report {
    /// An event for the engine.
    Event(Event),
    /// The entries of an adopted autofs mount are known: it can be served.
    Adopted(MountId),
    /// A job that makes autofs mounts has ended.
    Made(Making),
    /// Directories below an indirect mount that are not keys.
    Extra(MountId, Extra),
}

/// Receives reports. Each report is processed before [`tell`](Self::tell) returns, because their order is important.
#[derive(Clone)]
pub(crate) struct Mailbox(Rc<dyn Fn(Report)>);

impl Mailbox {
    /// Creates a mailbox that passes reports to `take`.
    pub(crate) fn new(take: impl Fn(Report) + 'static) -> Self {
        Self(Rc::new(take))
    }

    /// Sends a report.
    pub(crate) fn tell(&self, report: Report) {
        (self.0)(report);
    }

    /// Sends an event to the engine.
    pub(crate) fn event(&self, event: Event) {
        self.tell(Report::Event(event));
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mailbox")
    }
}
