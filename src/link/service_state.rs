//! State of the daemon in one line, for the service manager.

use std::fmt;

/// Work of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// It reads configuration and maps for the first time.
    Starting,
    /// It serves.
    Serving,
    /// It serves, and reads configuration and maps again.
    Reloading,
    /// It waits for a checkpoint.
    Quiesced,
    /// It unmounts what is unused and ends.
    Stopping,
}

/// The state of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceState {
    /// Work of the daemon.
    pub doing: Doing,
    /// Number of mount points.
    pub mount_points: u16,
    /// Number of lines and mount points that are not served; at most 4095.
    pub problems: u16,
}

impl ServiceState {
    /// A state without numbers.
    pub fn new(doing: Doing) -> Self {
        Self { doing, mount_points: 0, problems: 0 }
    }

    /// Packs the state into one word.
    pub fn encode(self) -> u32 {
        let doing = match self.doing {
            Doing::Starting => 0,
            Doing::Serving => 1,
            Doing::Reloading => 2,
            Doing::Quiesced => 3,
            Doing::Stopping => 4,
        };
        doing << 28 | u32::from(self.mount_points) << 12 | u32::from(self.problems.min(0xfff))
    }

    /// Unpacks a state. `None` for a word of another version.
    pub fn decode(word: u32) -> Option<Self> {
        let doing = match word >> 28 {
            0 => Doing::Starting,
            1 => Doing::Serving,
            2 => Doing::Reloading,
            3 => Doing::Quiesced,
            4 => Doing::Stopping,
            _ => return None,
        };
        let part = |word: u32| u16::try_from(word).unwrap_or(u16::MAX);
        Some(Self { doing, mount_points: part(word >> 12 & 0xffff), problems: part(word & 0xfff) })
    }
}

impl fmt::Display for ServiceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |n: u16| if n == 1 { "" } else { "s" };
        let (points, problems) = (self.mount_points, self.problems);
        match self.doing {
            Doing::Starting => return f.write_str("Starting: reading configuration and maps"),
            Doing::Stopping => return f.write_str("Stopping: unmounting what is unused"),
            Doing::Quiesced => return f.write_str("Quiesced for a checkpoint: lookups wait or fail"),
            Doing::Serving => write!(f, "Serving {points} mount point{}", plural(points))?,
            Doing::Reloading => write!(f, "Reading maps again, serving {points} mount point{}", plural(points))?,
        }
        if problems > 0 {
            write!(f, ", {problems} problem{}: see autofsctl status", plural(problems))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_as_it_was_written() {
        for doing in [Doing::Starting, Doing::Serving, Doing::Reloading, Doing::Quiesced, Doing::Stopping] {
            let state = ServiceState { doing, mount_points: u16::MAX, problems: 4095 };
            assert_eq!(ServiceState::decode(state.encode()), Some(state));
        }
        assert_eq!(ServiceState::decode(u32::MAX), None);
        let many = ServiceState { problems: u16::MAX, ..ServiceState::new(Doing::Serving) };
        assert_eq!(ServiceState::decode(many.encode()).map(|state| state.problems), Some(4095));
    }

    #[test]
    fn a_state_is_one_line() {
        let state = |mount_points, problems| ServiceState { doing: Doing::Serving, mount_points, problems };
        assert_eq!(state(1, 0).to_string(), "Serving 1 mount point");
        assert_eq!(state(12, 2).to_string(), "Serving 12 mount points, 2 problems: see autofsctl status");
        assert_eq!(state(2, 1).to_string(), "Serving 2 mount points, 1 problem: see autofsctl status");
    }
}
