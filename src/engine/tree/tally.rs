//! Counts items with a property.

/// The number of items with a property. Decrementing it below zero is a bug, which is ignored in release builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::engine) struct Tally(u32);

impl Tally {
    /// Updates the count when the property of an item changes from `was` to `is`.
    pub(super) fn change(&mut self, was: bool, is: bool) {
        debug_assert!(is || !was || self.0 > 0, "counted off once too often");
        self.0 = self.0.saturating_add(u32::from(is)).saturating_sub(u32::from(was));
    }

    /// Subtracts items that were removed.
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
