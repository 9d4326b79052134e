//! Fair shares of the journal: nobody's requests use up the slots that others need.
//!
//! A user or a pipe may hold slots in proportion to those that are free (dynamic thresholds, as in the shared buffers of
//! switches: Choudhury and Hahne, 1998). One greedy user among otherwise idle ones gets a fifth of all slots, two get a
//! sixth each, and some are always left for the next user. There is nothing to configure.

use hashbrown::HashMap;

/// A user may hold at most a quarter of the number of free slots.
const USER: usize = 4;

/// The requests of a pipe (of an indirect mount, or of all mounts of a direct map) may hold three times as many slots as
/// are free. The shares of users come first: a user beyond his share is refused, a pipe beyond its share is not read, and
/// then all lookups in its mounts wait.
const PIPE: usize = 3;

/// Minimum share of a user.
const LEAST: usize = 32;

/// How many slots are held, and for whom.
#[derive(Debug)]
pub(super) struct Shares {
    slots: usize,
    held: usize,
    by_user: HashMap<u32, usize>,
    by_pipe: HashMap<u32, usize>,
}

impl Shares {
    /// Returns the shares of a journal of that many slots, all free.
    pub(super) fn new(slots: usize) -> Self {
        Self { slots, held: 0, by_user: HashMap::new(), by_pipe: HashMap::new() }
    }

    /// How many slots are held.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Whether one more request of a pipe may be read.
    pub(super) fn has_room(&self, pipe: u32) -> bool {
        let free = self.slots.saturating_sub(self.held);
        let own = self.by_pipe.get(&pipe).copied().unwrap_or(0);
        free > 0 && own < free.saturating_mul(PIPE)
    }

    /// Counts a request that was read. Returns whether its user has a share for it.
    pub(super) fn take(&mut self, pipe: u32, user: u32) -> bool {
        let free = self.slots.saturating_sub(self.held);
        let own = self.by_user.entry(user).or_default();
        let has_share = *own < (free / USER).max(LEAST);
        *own += 1;
        *self.by_pipe.entry(pipe).or_default() += 1;
        self.held += 1;
        has_share
    }

    /// Counts a slot that is free again.
    pub(super) fn give_back(&mut self, pipe: u32, user: u32) {
        less(&mut self.by_pipe, pipe);
        less(&mut self.by_user, user);
        self.held = self.held.saturating_sub(1);
    }
}

fn less(counts: &mut HashMap<u32, usize>, of: u32) {
    match counts.get_mut(&of) {
        Some(count) if *count > 1 => *count -= 1,
        _ => drop(counts.remove(&of)),
    }
    if counts.is_empty() {
        counts.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Users ask in turn for as long as they get something; those that are refused give their slot back at once, as the
    /// worker does. Returns what each holds in the end.
    fn greedy(shares: &mut Shares, pipe: u32, users: std::ops::Range<u32>) -> Vec<usize> {
        for _ in 0..shares.slots {
            for user in users.clone() {
                if shares.has_room(pipe) && !shares.take(pipe, user) {
                    shares.give_back(pipe, user);
                }
            }
        }
        users.map(|user| shares.by_user.get(&user).copied().unwrap_or(0)).collect()
    }

    #[test]
    fn a_greedy_user_gets_a_fifth_and_two_get_a_sixth_each() {
        let mut shares = Shares::new(6000);
        assert_eq!(greedy(&mut shares, 1, 0..1), [1200]);
        let mut shares = Shares::new(6000);
        assert_eq!(greedy(&mut shares, 1, 0..2), [1000, 1000]);
    }

    #[test]
    fn greedy_users_leave_their_pipe_readable_and_room_for_others() {
        let mut shares = Shares::new(6000);
        greedy(&mut shares, 1, 0..8);
        assert!(shares.has_room(1) && shares.take(1, 1000), "another user, the same mount point");
        assert!(shares.has_room(2) && shares.take(2, 1001), "another mount point");
    }

    #[test]
    fn a_pipe_of_many_users_leaves_a_quarter_to_others() {
        let mut shares = Shares::new(6000);
        greedy(&mut shares, 1, 0..6000);
        assert!(!shares.has_room(1));
        assert!(shares.held() <= 4500 && shares.has_room(2));
    }

    proptest! {
        #[test]
        fn what_is_given_back_leaves_nothing(asked in prop::collection::vec((0..4u32, 0..6u32), 0..200)) {
            let mut shares = Shares::new(64);
            for (pipe, user) in &asked {
                shares.take(*pipe, *user);
            }
            for (pipe, user) in &asked {
                shares.give_back(*pipe, *user);
            }
            prop_assert!(shares.held() == 0 && shares.by_user.is_empty() && shares.by_pipe.is_empty());
        }
    }
}
