//! Mount options, divided into those that the kernel takes and those that only a program understands.

use crate::sys::mount_flags::{self, Flags};
use crate::text::split_once;

/// Options that the kernel takes as they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Options {
    /// The generic flags.
    pub(super) flags: Flags,
    /// The others, for the file system, joined by commas.
    pub(super) data: Vec<u8>,
}

impl Options {
    /// Divides the text after `-o`. Returns `None` if it holds a word that only mount(8) can handle.
    pub(super) fn for_kernel(text: &[u8]) -> Option<Self> {
        if needs_mount_program(text) {
            return None;
        }
        let mut options = Self::default();
        for word in words(text) {
            // Names of users are turned into numbers by mount(8), and a loop device is set up by it.
            let (name, value) = split(word);
            let id = matches!(name, b"uid" | b"gid");
            if matches!(name, b"loop" | b"offset" | b"sizelimit" | b"encryption")
                || id && !value.iter().all(u8::is_ascii_digit)
            {
                return None;
            }
            if !options.flags.apply(word) {
                if !options.data.is_empty() {
                    options.data.push(b',');
                }
                options.data.extend_from_slice(word);
            }
        }
        Some(options)
    }
}

/// Returns whether options hold something that neither the kernel nor a helper `mount.TYPE` understands, but mount(8): the
/// words for user space of mount(8) and fstab(5), other operations than a new mount, and quoted values.
pub(super) fn needs_mount_program(text: &[u8]) -> bool {
    const WORDS: &[&[u8]] = &[
        b"auto",
        b"noauto",
        b"user",
        b"nouser",
        b"users",
        b"nousers",
        b"owner",
        b"noowner",
        b"group",
        b"nogroup",
        b"nofail",
        b"_netdev",
        b"comment",
        b"uhelper",
        b"helper",
        b"remount",
        b"bind",
        b"rbind",
        b"move",
        b"shared",
        b"rshared",
        b"slave",
        b"rslave",
        b"private",
        b"rprivate",
        b"unbindable",
        b"runbindable",
    ];
    text.contains(&b'"')
        || words(text).any(|word| {
            let (name, _) = split(word);
            WORDS.contains(&name)
                || name.starts_with(b"x-")
                || name.starts_with(b"X-")
                || name.starts_with(b"verity.")
                || name.ends_with(b"context")
        })
}

/// Returns the options for a helper `mount.TYPE`, as mount(8) would pass them.
pub(super) fn for_helper(text: &[u8]) -> Vec<u8> {
    mount_flags::for_helper(words(text)).join(&b',')
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|b| *b == b',').filter(|word| !word.is_empty())
}

fn split(word: &[u8]) -> (&[u8], &[u8]) {
    split_once(word, b'=').unwrap_or((word, b""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_data_are_parted() {
        let options = Options::for_kernel(b"rw,size=1m,,ro,mode=0700,defaults,").unwrap();
        assert_eq!((options.flags, &options.data[..]), (Flags::RDONLY, &b"size=1m,mode=0700"[..]));
        assert_eq!(Options::for_kernel(b""), Some(Options::default()));
        assert!(Options::for_kernel(b"uid=1000,gid=0").is_some());
    }

    #[test]
    fn what_only_mount_understands_is_left_to_it() {
        for text in ["loop", "ro,loop=/dev/loop0", "x-foo", "_netdev", "user", "uid=alice", "offset=512", "comment=a"] {
            assert_eq!(Options::for_kernel(text.as_bytes()), None, "{text}");
        }
        for text in ["context=\"system_u:object_r:x:s0:c1,c2\"", "rootcontext=x", "rbind", "remount", "nofail"] {
            assert!(needs_mount_program(text.as_bytes()), "{text}");
        }
        assert!(!needs_mount_program(b"soft,uid=alice,offset=3"));
    }
}
