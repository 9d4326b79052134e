//! Where jobs report what must be known before they end.

use std::fmt;
use std::rc::Rc;

use crate::daemon::jobs::browse::Extra;
use crate::daemon::mounts::Making;
use crate::engine::{Event, MountId};

/// What a job reports.
#[derive(Debug)]
pub(crate) enum Report {
    /// The engine is to be told.
    Event(Event),
    /// The entries of a mount that was there before are known: it is served from now on.
    Adopted(MountId),
    /// A job that makes autofs mounts has ended.
    Made(Making),
    /// Directories below a mount are no keys.
    Extra(MountId, Extra),
}

/// Takes reports. They are dealt with before [`tell`](Self::tell) returns, as their order counts.
#[derive(Clone)]
pub(crate) struct Mailbox(Rc<dyn Fn(Report)>);

impl Mailbox {
    /// A mailbox whose reports go to `take`.
    pub(crate) fn new(take: impl Fn(Report) + 'static) -> Self {
        Self(Rc::new(take))
    }

    /// Reports.
    pub(crate) fn tell(&self, report: Report) {
        (self.0)(report);
    }

    /// Tells the engine.
    pub(crate) fn event(&self, event: Event) {
        self.tell(Report::Event(event));
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mailbox")
    }
}
