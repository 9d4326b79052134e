//! How long things may take, and how many there may be.

/// The bounds of an [`Engine`](super::Engine). Times are in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From a lookup's packet to its answer; a mount that takes longer goes on, but no lookup waits for it.
    pub request: u64,
    /// From an expire packet to its answer; an unmount that takes longer goes on after the answer. Until the answer, the
    /// kernel blocks every process that walks there, and not even KILL ends it.
    pub unmount: u64,
    /// How long the end of the daemon is held up by requests that are being served.
    pub grace: u64,
    /// Time until a top-level mount that was unmounted from outside is mounted again.
    pub reattach: u64,
    /// The longest time until a top-level mount that cannot be attached is tried again.
    pub reattach_most: u64,
    /// How often a process may ask within `loop_window` for what is mounted already. The kernel repeats a lookup 40
    /// times when READY has not brought a mount into the asker's mount namespace.
    pub loop_limit: u32,
    /// See `loop_limit`.
    pub loop_window: u64,
    /// Number of expire rounds per timeout.
    pub expire_divisor: u64,
    /// How many failed keys are remembered.
    pub negative_cache: usize,
}

impl Limits {
    /// Milliseconds between two looks for unused mounts, for a timeout in seconds; at least one second.
    pub(super) fn period(&self, timeout: u64) -> u64 {
        timeout.div_ceil(self.expire_divisor.max(1)).max(1).saturating_mul(1000)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request: 120_000,
            unmount: 60_000,
            grace: 5_000,
            reattach: 1_000,
            reattach_most: 60_000,
            loop_limit: 10,
            loop_window: 2_000,
            expire_divisor: 4,
            negative_cache: 65_536,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_a_quarter_of_the_timeout_rounded_up() {
        let limits = Limits::default();
        assert_eq!([1, 4, 5, 300].map(|timeout| limits.period(timeout)), [1_000, 1_000, 2_000, 75_000]);
        assert_eq!(limits.period(u64::MAX), u64::MAX);
        assert_eq!(Limits { expire_divisor: 0, ..limits }.period(3), 3_000);
    }
}
