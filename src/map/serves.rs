//! The keys that a wildcard serves.

use std::fmt;

use super::Pattern;
use crate::text::Escaped;
use crate::text::lines::USERS_ONLY;

/// How a key ends that stands for names of users only.
const USERS: &str = "[passwd]";

/// The keys that a wildcard serves: all, those that match a pattern, the names of users.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Serves {
    /// Those that match; `None`: all.
    pub pattern: Option<Pattern>,
    /// Not those.
    pub except: Vec<Pattern>,
    /// Only names of users that the user database has.
    pub users: bool,
}

impl Serves {
    /// Returns what a key of a Sun map stands for, as it is written: `*`, also in quotes, or `*[passwd]`; `None` if it is an
    /// ordinary key. For automount, too, quotes make no ordinary key of a star, but a backslash does.
    pub fn of_sun(raw: &[u8]) -> Option<Self> {
        let users = raw == USERS_ONLY;
        (users || raw == b"*" || raw == b"\"*\"").then(|| Self { users, ..Self::default() })
    }

    /// Returns what a key of a TOML map stands for; `None` if it is an ordinary key. A star or question mark with a backslash
    /// before it, or in a path, makes no pattern.
    ///
    /// # Errors
    /// No key matches the pattern, or it needs a backslash.
    pub fn of_toml(key: &str) -> Result<Option<Self>, &'static str> {
        let (pattern, users) = key.strip_suffix(USERS).map_or((key, false), |pattern| (pattern, true));
        let special = |(at, byte): (usize, u8)| {
            let is_protected = at.checked_sub(1).and_then(|before| pattern.as_bytes().get(before)) == Some(&b'\\');
            (matches!(byte, b'*' | b'?')).then_some(is_protected)
        };
        let special: Vec<bool> = pattern.bytes().enumerate().filter_map(special).collect();
        if pattern.starts_with('/') || !special.contains(&false) {
            return Ok(None);
        }
        if special.contains(&true) {
            return Err("a pattern with \\* or \\?, expected ? for any one character");
        }
        let pattern = if pattern == "*" { None } else { Some(Pattern::try_from(pattern.to_owned())?) };
        Ok(Some(Self { pattern, except: Vec::new(), users }))
    }

    /// Returns whether it serves every key.
    pub fn is_all(&self) -> bool {
        self.pattern.is_none() && !self.users
    }

    /// Returns whether `key` has a name that it serves. Whether a user has that name is not looked at.
    pub fn matches(&self, key: &[u8]) -> bool {
        self.pattern.as_ref().is_none_or(|pattern| pattern.matches(key))
            && !self.except.iter().any(|except| except.matches(key))
    }
}

/// As the key that stands for it in a TOML map.
impl fmt::Display for Serves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pattern {
            Some(pattern) => Escaped(pattern.as_bytes()).fmt(f)?,
            None => f.write_str("*")?,
        }
        f.write_str(if self.users { USERS } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_with_stars_stand_for_others() {
        for (key, shown) in [
            ("*", Some("*")),
            ("*[passwd]", Some("*[passwd]")),
            ("proj-*", Some("proj-*")),
            ("s?-*[passwd]", Some("s?-*[passwd]")),
            ("proj", None),
            ("proj[passwd]", None),
            ("\\*", None),
            ("a\\?b", None),
            ("/srv/*", None),
        ] {
            let serves = Serves::of_toml(key).unwrap();
            assert_eq!(serves.map(|serves| serves.to_string()).as_deref(), shown, "{key}");
        }
        assert!(Serves::of_toml("a/*").is_err() && Serves::of_toml("\\**").is_err());
        assert_eq!(Serves::of_sun(b"*[passwd]").map(|serves| serves.is_all()), Some(false));
        assert_eq!(Serves::of_sun(b"*").map(|serves| serves.is_all()), Some(true));
        assert_eq!(Serves::of_sun(b"\"*\"").map(|serves| serves.is_all()), Some(true));
        assert_eq!((Serves::of_sun(b"\\*"), Serves::of_sun(b"*[group]")), (None, None));
    }

    #[test]
    fn exceptions_are_not_served() {
        let mut serves = Serves::of_toml("p-*").unwrap().unwrap();
        serves.except.push(Pattern::try_from("p-old*".to_owned()).unwrap());
        assert!(serves.matches(b"p-new") && !serves.matches(b"p-old1") && !serves.matches(b"q-new"));
    }
}
