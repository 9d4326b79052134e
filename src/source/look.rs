//! One look at each file for questions that have come together.
//!
//! A map file is looked at for each lookup, as it may have changed. If several lookups had come before the first of them is
//! answered, a look since then is good for all of them.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of the last group of questions.
static LAST: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The number of the group that this thread answers, or 0.
    static GROUP: Cell<u64> = const { Cell::new(0) };
}

/// Answers questions that have all come before. Files that are looked at while `answer` runs, by this thread, are looked at once.
pub fn look_once<R>(answer: impl FnOnce() -> R) -> R {
    /// Ends the group, also after a panic.
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            GROUP.set(0);
        }
    }
    GROUP.set(LAST.fetch_add(1, Ordering::Relaxed) + 1);
    let _end = End;
    answer()
}

/// The last group for which a file was looked at.
#[derive(Debug, Default)]
pub(super) struct Looked(AtomicU64);

impl Looked {
    /// Returns whether the file was looked at for the questions that this thread answers.
    pub(super) fn is_enough(&self) -> bool {
        let group = GROUP.get();
        group != 0 && self.0.load(Ordering::Relaxed) == group
    }

    /// Notes that the file was looked at now, and is as it was.
    pub(super) fn note(&self) {
        self.0.store(GROUP.get(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_enough_for_the_group_in_which_it_was_made() {
        let looked = Looked::default();
        looked.note();
        assert!(!looked.is_enough(), "outside of a group each question needs a look of its own");
        look_once(|| {
            assert!(!looked.is_enough());
            looked.note();
            assert!(looked.is_enough());
            let other = std::thread::scope(|scope| scope.spawn(|| looked.is_enough()).join().unwrap());
            assert!(!other, "another thread answers other questions");
        });
        assert!(!looked.is_enough());
        look_once(|| assert!(!looked.is_enough(), "the questions of the next group have come later"));
    }
}
