//! The types of settings, and how their values are written in autofs.conf.

use crate::map::Verbosity;

/// A type of settings.
pub(super) trait Value: Default {
    /// Describes valid values, for messages and the manual.
    const EXPECTED: &'static str;

    /// Parses and stores a value. Returns `None`, and changes nothing, if `text` is not a valid value.
    fn set(&mut self, text: &[u8]) -> Option<()>;
}

/// Parses a decimal number.
fn number<N: std::str::FromStr>(text: &[u8]) -> Option<N> {
    std::str::from_utf8(text).ok().filter(|t| !t.starts_with('+'))?.parse().ok()
}

impl Value for u64 {
    const EXPECTED: &'static str = "a whole number";

    fn set(&mut self, text: &[u8]) -> Option<()> {
        *self = number(text)?;
        Some(())
    }
}

/// Seconds, `-1` (or less) for no limit.
impl Value for Option<u64> {
    const EXPECTED: &'static str = "a whole number, or -1 for no limit";

    fn set(&mut self, text: &[u8]) -> Option<()> {
        *self = match number::<u64>(text) {
            Some(n) => Some(n),
            None => number::<i64>(text).map(|_| None)?,
        };
        Some(())
    }
}

impl Value for bool {
    const EXPECTED: &'static str = "yes or no";

    fn set(&mut self, text: &[u8]) -> Option<()> {
        *self = match text.to_ascii_lowercase().as_slice() {
            b"yes" => true,
            b"no" => false,
            _ => number::<i64>(text)? != 0,
        };
        Some(())
    }
}

impl Value for Verbosity {
    const EXPECTED: &'static str = "none, verbose or debug";

    fn set(&mut self, text: &[u8]) -> Option<()> {
        *self = match text.to_ascii_lowercase().as_slice() {
            b"none" => Self::Basic,
            b"verbose" => Self::Verbose,
            b"debug" => Self::Debug,
            _ => return None,
        };
        Some(())
    }
}

/// The NFS version that mount.nfs tries first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NfsVersion(pub u8);

impl Value for NfsVersion {
    const EXPECTED: &'static str = "2, 3 or 4";

    fn set(&mut self, text: &[u8]) -> Option<()> {
        *self = Self(number(text).filter(|n| (2..=4).contains(n))?);
        Some(())
    }
}

/// A text. If empty, the setting is not set.
impl Value for Option<Vec<u8>> {
    const EXPECTED: &'static str = "a text";

    fn set(&mut self, text: &[u8]) -> Option<()> {
        *self = Some(text.to_vec()).filter(|t| !t.is_empty());
        Some(())
    }
}

/// The texts of all lines with this name.
impl Value for Vec<Vec<u8>> {
    const EXPECTED: &'static str = "a text, on as many lines as needed";

    fn set(&mut self, text: &[u8]) -> Option<()> {
        self.extend(Some(text.to_vec()).filter(|t| !t.is_empty()));
        Some(())
    }
}
