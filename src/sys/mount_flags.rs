//! The generic flags of mounts, from the words of an option list to the bits of mount(2) and mount_setattr(2).

use libc::c_ulong;

/// A set of flags of mount(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(pub(super) c_ulong);

impl Flags {
    /// The word `ro`.
    pub const RDONLY: Self = Self(libc::MS_RDONLY);

    /// The flags that belong to a mount, not to its file system: a bind mount can have them without its source having them.
    const OF_MOUNT: c_ulong = libc::MS_RDONLY
        | libc::MS_NOSUID
        | libc::MS_NODEV
        | libc::MS_NOEXEC
        | libc::MS_NOATIME
        | libc::MS_NODIRATIME
        | libc::MS_RELATIME
        | libc::MS_STRICTATIME
        | MS_NOSYMFOLLOW;

    /// Applies one word of an option list; a later word overrides an earlier one. Returns whether the word is a generic
    /// flag; other words are options of the file system or of mount(8).
    pub fn apply(&mut self, word: &[u8]) -> bool {
        let Some((_, set, clear)) = WORDS.iter().find(|(name, ..)| name.as_bytes() == word) else {
            return false;
        };
        self.0 = self.0 & !clear | set;
        true
    }

    /// Returns whether a bind mount can have all of these flags.
    pub fn fit_bind(self) -> bool {
        self.0 & !Self::OF_MOUNT == 0
    }

    /// Returns whether no flag is set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Converts to the bits to set and to clear of mount_setattr(2), where the atime mode is a field of several bits.
    pub(super) fn attributes(self) -> (u64, u64) {
        const RDONLY: u64 = 0x1;
        const NOSUID: u64 = 0x2;
        const NODEV: u64 = 0x4;
        const NOEXEC: u64 = 0x8;
        const ATIME_MASK: u64 = 0x70;
        const RELATIME: u64 = 0x00;
        const NOATIME: u64 = 0x10;
        const STRICTATIME: u64 = 0x20;
        const NODIRATIME: u64 = 0x80;
        const NOSYMFOLLOW: u64 = 0x20_0000;
        const PLAIN: [(c_ulong, u64); 6] = [
            (libc::MS_RDONLY, RDONLY),
            (libc::MS_NOSUID, NOSUID),
            (libc::MS_NODEV, NODEV),
            (libc::MS_NOEXEC, NOEXEC),
            (libc::MS_NODIRATIME, NODIRATIME),
            (MS_NOSYMFOLLOW, NOSYMFOLLOW),
        ];
        const ATIME: [(c_ulong, u64); 3] =
            [(libc::MS_NOATIME, NOATIME), (libc::MS_STRICTATIME, STRICTATIME), (libc::MS_RELATIME, RELATIME)];
        let set = PLAIN.iter().filter(|(flag, _)| self.0 & flag != 0).fold(0, |all, (_, attr)| all | attr);
        match ATIME.iter().find(|(flag, _)| self.0 & flag != 0) {
            Some((_, attr)) => (set | attr, ATIME_MASK),
            None => (set, 0),
        }
    }
}

/// Returns the words of an option list in the form in which mount(8) hands them to a helper: `ro` or `rw` first, then all
/// others in their order, without generic words that a later one repeats or reverses.
pub fn for_helper<'a>(words: impl Iterator<Item = &'a [u8]>) -> Vec<&'a [u8]> {
    let words: Vec<&[u8]> = words.collect();
    let flag_of = |word: &[u8]| {
        let generic = WORDS.iter().find(|(name, ..)| name.as_bytes() == word);
        generic.map(|(_, set, clear)| if *set == 0 { *clear } else { *set })
    };
    let mut all: Vec<&[u8]> = vec![b"rw"];
    for (number, word) in words.iter().enumerate() {
        match flag_of(word) {
            None => all.push(word),
            // `defaults`.
            Some(0) => {}
            Some(libc::MS_RDONLY) => all.splice(..1, [*word]).for_each(drop),
            flag if words.iter().skip(number + 1).any(|later| flag_of(later) == flag) => {}
            Some(_) => all.push(word),
        }
    }
    all
}

/// From linux/mount.h since Linux 5.10; missing in libc.
const MS_NOSYMFOLLOW: c_ulong = 256;

/// The generic words of mount(8), each with the flags that it sets and clears.
const WORDS: &[(&str, c_ulong, c_ulong)] = &[
    ("defaults", 0, 0),
    ("ro", libc::MS_RDONLY, 0),
    ("rw", 0, libc::MS_RDONLY),
    ("nosuid", libc::MS_NOSUID, 0),
    ("suid", 0, libc::MS_NOSUID),
    ("nodev", libc::MS_NODEV, 0),
    ("dev", 0, libc::MS_NODEV),
    ("noexec", libc::MS_NOEXEC, 0),
    ("exec", 0, libc::MS_NOEXEC),
    ("sync", libc::MS_SYNCHRONOUS, 0),
    ("async", 0, libc::MS_SYNCHRONOUS),
    ("dirsync", libc::MS_DIRSYNC, 0),
    ("noatime", libc::MS_NOATIME, libc::MS_STRICTATIME | libc::MS_RELATIME),
    ("atime", 0, libc::MS_NOATIME),
    ("nodiratime", libc::MS_NODIRATIME, 0),
    ("diratime", 0, libc::MS_NODIRATIME),
    ("relatime", libc::MS_RELATIME, libc::MS_NOATIME | libc::MS_STRICTATIME),
    ("norelatime", 0, libc::MS_RELATIME),
    ("strictatime", libc::MS_STRICTATIME, libc::MS_NOATIME | libc::MS_RELATIME),
    ("nostrictatime", 0, libc::MS_STRICTATIME),
    ("lazytime", libc::MS_LAZYTIME, 0),
    ("nolazytime", 0, libc::MS_LAZYTIME),
    ("iversion", libc::MS_I_VERSION, 0),
    ("noiversion", 0, libc::MS_I_VERSION),
    ("silent", libc::MS_SILENT, 0),
    ("loud", 0, libc::MS_SILENT),
    ("nosymfollow", MS_NOSYMFOLLOW, 0),
    ("symfollow", 0, MS_NOSYMFOLLOW),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(words: &str) -> Flags {
        let mut flags = Flags::default();
        for word in words.split(',') {
            assert!(flags.apply(word.as_bytes()), "{word}");
        }
        flags
    }

    #[test]
    fn helpers_get_the_words_of_mount() {
        // As mount(8) of util-linux 2.41 does it.
        for (text, wanted) in [
            ("", "rw"),
            ("soft,nosuid,retry=0,nodev", "rw,soft,nosuid,retry=0,nodev"),
            ("ro,soft,nosuid,rw", "rw,soft,nosuid"),
            ("soft,ro", "ro,soft"),
            ("defaults,a", "rw,a"),
            ("exec,suid,dev,async,a", "rw,exec,suid,dev,async,a"),
            ("noexec,exec,b", "rw,exec,b"),
            ("relatime,noatime", "rw,relatime,noatime"),
            ("atime,relatime,norelatime", "rw,atime,norelatime"),
            ("noatime,a,nodiratime", "rw,noatime,a,nodiratime"),
            ("sync,ro,rw", "rw,sync"),
            ("nosuid,a,suid,nosuid", "rw,a,nosuid"),
            ("loud,diratime,strictatime,x", "rw,loud,diratime,strictatime,x"),
        ] {
            let words = text.split(',').map(str::as_bytes).filter(|word| !word.is_empty());
            assert_eq!(String::from_utf8(for_helper(words).join(&b',')).unwrap(), wanted, "{text}");
        }
    }

    #[test]
    fn the_last_word_wins() {
        assert_eq!(flags("ro,nosuid,rw").0, libc::MS_NOSUID);
        assert_eq!(flags("noatime,relatime").0, libc::MS_RELATIME);
        assert_eq!(flags("defaults"), Flags::default());
        assert!(!Flags::default().apply(b"size=1m"));
        assert!(!Flags::default().apply(b""));
    }

    #[test]
    fn flags_of_the_file_system_do_not_fit_a_bind_mount() {
        assert!(flags("ro,nodev,noatime,nosymfollow").fit_bind());
        assert!(!flags("ro,sync").fit_bind());
    }

    #[test]
    fn the_atime_mode_is_replaced_as_a_whole() {
        assert_eq!(flags("ro,noatime").attributes(), (0x11, 0x70));
        assert_eq!(flags("relatime").attributes(), (0, 0x70));
        assert_eq!(flags("nosuid,nodev,noexec").attributes(), (0xe, 0));
    }
}
