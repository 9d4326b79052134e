//! The log priorities of `automount -l`: names and numbers of syslog(3), mapped to three levels.

use crate::map::Verbosity;
use crate::text::Escaped;

/// A syslog priority, 0 (emerg) to 7 (debug).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Priority(u8);

/// An invalid priority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PriorityError {
    /// The word starts with neither a letter nor a digit.
    #[error("non-alphanumeric character found in log priority.  Aborting.")]
    NotAlphanumeric,
    /// The word is neither a known name nor 0 to 7.
    #[error("Invalid log priority: {}", Escaped(.0))]
    Unknown(Vec<u8>),
}

/// The names and their numbers.
const NAMES: &[(&str, u8)] = &[
    ("emerg", 0),
    ("panic", 0),
    ("alert", 1),
    ("crit", 2),
    ("err", 3),
    ("error", 3),
    ("warn", 4),
    ("warning", 4),
    ("notice", 5),
    ("info", 6),
    ("debug", 7),
];

impl Priority {
    /// Parses a name, not case-sensitive, or a digit.
    ///
    /// # Errors
    /// Returns an error with the message of automount(8) for any other word.
    pub fn parse(word: &[u8]) -> Result<Self, PriorityError> {
        match word {
            [digit @ b'0'..=b'7'] => return Ok(Self(digit - b'0')),
            [first, ..] if !first.is_ascii_alphanumeric() => return Err(PriorityError::NotAlphanumeric),
            _ => {}
        }
        NAMES
            .iter()
            .find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, number)| Self(*number))
            .ok_or_else(|| PriorityError::Unknown(word.to_vec()))
    }

    /// Returns the level: everything for `debug`, operations for `warning` to `info`, else errors only.
    pub fn verbosity(self) -> Verbosity {
        match self.0 {
            7.. => Verbosity::Debug,
            4..=6 => Verbosity::Verbose,
            _ => Verbosity::Basic,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (word, verbosity) in [
            ("7", Verbosity::Debug),
            ("DEBUG", Verbosity::Debug),
            ("warn", Verbosity::Verbose),
            ("Info", Verbosity::Verbose),
            ("4", Verbosity::Verbose),
            ("error", Verbosity::Basic),
            ("0", Verbosity::Basic),
        ] {
            assert_eq!(Priority::parse(word.as_bytes()).unwrap().verbosity(), verbosity, "{word}");
        }
        for word in ["8", "07", "bogus", ""] {
            assert!(matches!(Priority::parse(word.as_bytes()), Err(PriorityError::Unknown(_))), "{word}");
        }
        assert_eq!(Priority::parse(b"+1"), Err(PriorityError::NotAlphanumeric));
    }
}
