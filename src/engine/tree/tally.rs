//! Counts of things that are so or not.

/// How many things of a kind there are. A thing that is counted off once too often is a fault of the engine, which costs
/// a count and not the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::engine) struct Tally(u32);

impl Tally {
    /// Counts a thing that was so, or not, and now is, or not.
    pub(super) fn change(&mut self, was: bool, is: bool) {
        debug_assert!(is || !was || self.0 > 0, "counted off once too often");
        self.0 = self.0.saturating_add(u32::from(is)).saturating_sub(u32::from(was));
    }

    /// Counts off things that are no more.
    pub(super) fn lose(&mut self, count: u32) {
        debug_assert!(count <= self.0, "counted off once too often");
        self.0 = self.0.saturating_sub(count);
    }

    /// Returns whether there are none.
    pub(in crate::engine) fn is_zero(self) -> bool {
        self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_counted() {
        let mut tally = Tally::default();
        for (was, is) in [(false, true), (false, true), (true, true), (false, false), (true, false)] {
            tally.change(was, is);
        }
        assert_eq!(tally, Tally(1));
        tally.lose(1);
        assert!(tally.is_zero());
    }
}
