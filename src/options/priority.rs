//! The log priorities of `automount -l`: syslog(3)'s names and numbers, of which three levels are made.

use crate::map::Verbosity;
use crate::text::Escaped;

/// A syslog priority, 0 (emerg) to 7 (debug).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Priority(u8);

/// What is wrong with a word that should be a priority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PriorityError {
    /// It starts with neither letter nor digit.
    #[error("non-alphanumeric character found in log priority.  Aborting.")]
    NotAlphanumeric,
    /// Neither a name nor 0 to 7.
    #[error("Invalid log priority: {}", Escaped(.0))]
    Unknown(Vec<u8>),
}

/// The names by number.
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
    /// Reads a name, in any case, or a digit.
    ///
    /// # Errors
    /// With the messages of automount(8).
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

    /// How much is logged: everything from `debug`, what is done from `warning` to `info`, else errors.
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
