//! What the kernel reports of mounts and unmounts, and which of these reports were not examined yet.
//!
//! As long as every report was examined, our mounts are where they were when they were last compared with the mount table, and
//! the mount table, which has a line for each mount, need not be read.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use tokio::sync::Notify;

use crate::sys::mount_events::{Changes, MountEvents};

/// After so many mounts of our own, their reports are taken from the kernel, which compares each new report with up to 128 that
/// wait there.
const OWN_MOUNTS: u32 = 16;

/// The notifications of mounts and unmounts.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    events: RefCell<Option<Rc<MountEvents>>>,
    /// Changes that were read from the kernel since the last report.
    taken: RefCell<Option<io::Result<Changes>>>,
    /// Told when something was taken, as the descriptor is not readable any more then.
    pub(crate) has_taken: Notify,
    /// Mounts of our own since then.
    mounted: Cell<u32>,
    /// Unmounts of our own that were not reported yet.
    expected: Cell<usize>,
    /// The reports that may concern our mounts, until it is known whether they do.
    doubts: RefCell<Vec<Doubt>>,
    last: Cell<Doubt>,
}

/// The number of a report that may concern our mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Doubt(u64);

/// Summary of the reports of the kernel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// No report, or only of our own unmounts.
    Nothing,
    /// These mounts were made or moved, by the ids that no other mount ever gets.
    Come(Doubt, Vec<u64>),
    /// Mounts that others have unmounted, or something unknown.
    Unknown(Doubt),
}

impl Watch {
    /// Begins to watch, and returns the descriptor to wait for.
    ///
    /// # Errors
    /// Returns the errors of [`MountEvents::open`]. Then nothing is ever certain.
    pub(crate) fn open(&self) -> io::Result<Rc<MountEvents>> {
        self.events.take();
        self.taken.take();
        let events = Rc::new(MountEvents::open()?);
        self.events.replace(Some(Rc::clone(&events)));
        Ok(events)
    }

    /// Begins to watch again, in another mount namespace. What has happened in it before is not known.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn reopen(&self) -> io::Result<Rc<MountEvents>> {
        self.doubt();
        self.open()
    }

    /// Returns what has happened since the last call. It is in doubt until [`dispel`](Self::dispel) or
    /// [`compared`](Self::compared) is called.
    pub(crate) fn report(&self) -> Report {
        self.take();
        let changes = self.taken.take();
        let by_us = self.expected.take();
        match changes {
            Some(Ok(Changes::Known(known))) if known.gone <= by_us => match known.come {
                come if come.is_empty() => Report::Nothing,
                come => Report::Come(self.doubt(), come),
            },
            _ => Report::Unknown(self.doubt()),
        }
    }

    /// Notes that we have mounted something.
    pub(crate) fn mounted(&self) {
        self.mounted.set(self.mounted.get() + 1);
        if self.mounted.get() >= OWN_MOUNTS {
            self.take();
            self.has_taken.notify_one();
        }
    }

    /// Takes the reports from the kernel.
    fn take(&self) {
        self.mounted.set(0);
        let events = self.events.borrow();
        let Some(new) = events.as_ref().map(|events| events.drain()) else { return };
        let mut taken = self.taken.borrow_mut();
        *taken = Some(match (taken.take(), new) {
            (None, new) => new,
            (Some(Ok(Changes::Known(before))), Ok(Changes::Known(new))) => Ok(Changes::Known(before.with(new))),
            _ => Ok(Changes::Unknown),
        });
    }

    fn doubt(&self) -> Doubt {
        let doubt = Doubt(self.last.get().0 + 1);
        self.last.set(doubt);
        self.doubts.borrow_mut().push(doubt);
        doubt
    }

    /// Notes that a report does not concern our mounts.
    pub(crate) fn dispel(&self, doubt: Doubt) {
        self.doubts.borrow_mut().retain(|other| *other != doubt);
    }

    /// Returns the last doubt. What was reported until now is in a mount table that is read from now on.
    pub(crate) fn last_doubt(&self) -> Doubt {
        self.last.get()
    }

    /// Notes that our mounts were compared with a mount table that was read after this doubt.
    pub(crate) fn compared(&self, doubt: Doubt) {
        self.doubts.borrow_mut().retain(|other| *other > doubt);
    }

    /// Returns whether all reports were examined.
    pub(crate) fn is_certain(&self) -> bool {
        self.events.borrow().is_some() && self.doubts.borrow().is_empty()
    }

    /// Notes that we are about to unmount a mount. It is called before, as the report may come before the unmount returns.
    pub(crate) fn expect_unmount(&self) {
        self.expected.set(self.expected.get() + 1);
    }

    /// Notes that an unmount has failed.
    pub(crate) fn unmount_failed(&self) {
        self.expected.set(self.expected.get().saturating_sub(1));
    }
}

#[cfg(test)]
impl Watch {
    /// Returns how many unmounts of our own are expected.
    pub(crate) fn expected(&self) -> usize {
        self.expected.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mount_events::Known;

    #[test]
    fn it_is_certain_only_while_it_watches_and_everything_was_examined() {
        let watch = Watch::default();
        assert!(!watch.is_certain(), "nothing is watched");
        assert!(matches!(watch.report(), Report::Unknown(_)));
        watch.compared(watch.last_doubt());
        assert!(!watch.is_certain());
        if watch.open().is_ok() {
            assert!(watch.is_certain());
            let (one, two) = (watch.doubt(), watch.doubt());
            watch.dispel(two);
            assert!(!watch.is_certain());
            watch.dispel(one);
            assert!(watch.is_certain());
            watch.reopen().unwrap();
            assert!(!watch.is_certain(), "another mount namespace");
        }
    }

    #[test]
    fn a_comparison_says_nothing_of_later_reports() {
        let watch = Watch::default();
        watch.doubt();
        let before = watch.last_doubt();
        let after = watch.doubt();
        watch.compared(before);
        assert_eq!(*watch.doubts.borrow(), [after]);
        watch.compared(watch.last_doubt());
        assert!(watch.doubts.borrow().is_empty());
    }

    #[test]
    fn what_was_taken_early_is_in_the_next_report() {
        let watch = Watch::default();
        watch.taken.replace(Some(Ok(Changes::Known(Known { gone: 0, come: vec![7] }))));
        for _ in 0..OWN_MOUNTS {
            watch.mounted();
        }
        assert!(matches!(watch.report(), Report::Come(_, come) if come == [7]));
        watch.taken.replace(Some(Ok(Changes::Unknown)));
        assert!(matches!(watch.report(), Report::Unknown(_)));
    }

    #[test]
    fn an_unmount_that_fails_is_not_expected() {
        let watch = Watch::default();
        watch.expect_unmount();
        watch.expect_unmount();
        watch.unmount_failed();
        assert_eq!(watch.expected(), 1);
        watch.report();
        assert_eq!(watch.expected(), 0);
        watch.unmount_failed();
        assert_eq!(watch.expected(), 0);
    }
}
