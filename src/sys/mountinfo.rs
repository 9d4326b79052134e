//! The mount table of `/proc/PID/mountinfo` (proc_pid_mountinfo(5)), by bytes: paths need not be UTF-8.
//!
//! One pass, no allocation but for paths that contain an escape. A line that makes no sense is left out.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use memchr::memmem;

use super::autofs::encode_parts;
use crate::engine::Kind;
use crate::text::split_once;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Mount id; used again after the mount is gone.
    pub id: u32,
    /// Id of the mount on which this one stands.
    pub parent: u32,
    /// Device number, encoded as in autofs packets.
    pub dev: u32,
    /// The directory of the file system that is the root of this mount.
    pub root: Cow<'a, [u8]>,
    /// Mount point, relative to the root of the reading process.
    pub target: Cow<'a, [u8]>,
    /// File system type, with its subtype.
    pub fstype: &'a [u8],
    /// Source of the mount: a device, a server's directory, any word.
    pub source: Cow<'a, [u8]>,
    /// Options of the mount, as the kernel shows them.
    pub options: &'a [u8],
    /// Options of the file system, as the kernel shows them.
    pub super_options: &'a [u8],
    /// Propagation.
    pub propagation: Propagation,
}

/// Propagation of mounts below this one (mount_namespaces(7)). All empty: private.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Propagation {
    /// Number of the peer group.
    pub shared: Option<u32>,
    /// Number of the peer group from which it receives.
    pub master: Option<u32>,
    /// No bind mount takes it along.
    pub unbindable: bool,
}

/// Options that the kernel shows of an autofs mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AutofsOptions {
    /// The number that the write end had in the process that gave it; -1: catatonic. Else it says nothing.
    pub fd: i32,
    /// Number of the owning process group in the reader's pid namespace, also when it is dead; 0: not to be seen.
    pub pgrp: i32,
    /// Seconds; 0: nothing expires by age.
    pub timeout: u64,
    /// Lowest protocol version.
    pub minproto: i32,
    /// Highest protocol version.
    pub maxproto: i32,
    /// Kind of the mount.
    pub kind: Kind,
    /// Lookups do not count as use.
    pub strictexpire: bool,
    /// Readers of the mount table are asked to leave it out.
    pub ignore: bool,
    /// Inode number of the pipe; -1: catatonic. `None` where the kernel does not tell (no CONFIG_CHECKPOINT_RESTORE).
    pub pipe_ino: Option<i64>,
}

/// The text of the calling process's mount table.
///
/// # Errors
/// Returns the errors of reading `/proc/self/mountinfo`.
pub fn read() -> io::Result<Vec<u8>> {
    std::fs::read("/proc/self/mountinfo")
}

/// The text of another process's mount table.
///
/// # Errors
/// Returns the errors of reading `/proc/PID/mountinfo`: ENOENT when the process is gone.
pub fn read_of(pid: i32) -> io::Result<Vec<u8>> {
    std::fs::read(format!("/proc/{pid}/mountinfo"))
}

/// The mounts of a table, parents before children except where they were moved.
pub fn parse(table: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    Lines(table).filter_map(line)
}

impl Entry<'_> {
    /// Mount point.
    pub fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.target))
    }

    /// Returns the options of an autofs mount; `None` for all others.
    pub fn autofs(&self) -> Option<AutofsOptions> {
        (self.fstype == b"autofs").then(|| autofs_options(self.super_options))
    }
}

struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let (line, rest) = split_once(self.0, b'\n').unwrap_or((self.0, &[]));
        self.0 = rest;
        Some(line)
    }
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn line(line: &[u8]) -> Option<Entry<'_>> {
    let (id, rest) = split_once(line, b' ')?;
    let (parent, rest) = split_once(rest, b' ')?;
    let (dev, rest) = split_once(rest, b' ')?;
    let (major, minor) = split_once(dev, b':')?;
    let (root, rest) = split_once(rest, b' ')?;
    let (target, rest) = split_once(rest, b' ')?;
    let (options, mut rest) = split_once(rest, b' ')?;
    let mut propagation = Propagation::default();
    loop {
        let (tag, after) = split_once(rest, b' ')?;
        rest = after;
        match split_once(tag, b':') {
            _ if tag == b"-" => break,
            _ if tag == b"unbindable" => propagation.unbindable = true,
            Some((b"shared", group)) => propagation.shared = number(group),
            Some((b"master", group)) => propagation.master = number(group),
            _ => {}
        }
    }
    let (fstype, rest) = split_once(rest, b' ')?;
    // An empty source is shown as nothing between two spaces.
    let (source, super_options) = split_once(rest, b' ')?;
    Some(Entry {
        id: number(id)?,
        parent: number(parent)?,
        dev: encode_parts(number(major)?, number(minor)?),
        root: unescape(root),
        target: unescape(target),
        fstype,
        source: unescape(source),
        options,
        super_options,
        propagation,
    })
}

fn autofs_options(text: &[u8]) -> AutofsOptions {
    let mut options = AutofsOptions {
        fd: -1,
        pgrp: 0,
        timeout: 0,
        minproto: 0,
        maxproto: 0,
        kind: Kind::Indirect,
        strictexpire: false,
        ignore: false,
        pipe_ino: None,
    };
    for option in text.split(|&b| b == b',') {
        let (name, value) = split_once(option, b'=').unwrap_or((option, &[]));
        match name {
            b"fd" => options.fd = number(value).unwrap_or(-1),
            b"pgrp" => options.pgrp = number(value).unwrap_or(0),
            b"timeout" => options.timeout = number(value).unwrap_or(0),
            b"minproto" => options.minproto = number(value).unwrap_or(0),
            b"maxproto" => options.maxproto = number(value).unwrap_or(0),
            b"indirect" => options.kind = Kind::Indirect,
            b"direct" => options.kind = Kind::Direct,
            b"offset" => options.kind = Kind::Offset,
            b"strictexpire" => options.strictexpire = true,
            b"ignore" => options.ignore = true,
            b"pipe_ino" => options.pipe_ino = number(value),
            _ => {}
        }
    }
    options
}

fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Space, tab, newline and backslash (and `#` in a source) stand as three octal digits.
fn unescape(field: &[u8]) -> Cow<'_, [u8]> {
    let first = memmem::find(field, b"\\").and_then(|first| field.split_at_checked(first));
    let Some((plain, mut rest)) = first else { return Cow::Borrowed(field) };
    let mut bytes = plain.to_vec();
    while let Some((&byte, after)) = rest.split_first() {
        match (byte, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    Cow::Owned(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(text: &[u8]) -> Entry<'_> {
        let mut all = parse(text);
        let entry = all.next().unwrap();
        assert_eq!(all.next(), None);
        entry
    }

    #[test]
    fn the_example_of_the_man_page() {
        let entry = one(b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n");
        assert_eq!((entry.id, entry.parent, entry.dev), (36, 35, 98 << 8));
        assert_eq!((&*entry.root, &*entry.target), (&b"/mnt1"[..], &b"/mnt2"[..]));
        assert_eq!((entry.fstype, &*entry.source), (&b"ext3"[..], &b"/dev/root"[..]));
        assert_eq!((entry.options, entry.super_options), (&b"rw,noatime"[..], &b"rw,errors=continue"[..]));
        assert_eq!(entry.propagation, Propagation { master: Some(1), ..Propagation::default() });
        assert_eq!(entry.autofs(), None);
    }

    #[test]
    fn no_optional_fields_or_several_or_new_ones() {
        let tags = |tags: &str| {
            let text = format!("36 35 0:1 / /a rw{tags} - tmpfs tmpfs rw");
            one(text.as_bytes()).propagation
        };
        assert_eq!(tags(""), Propagation::default());
        assert_eq!(
            tags(" shared:1042 master:7 propagate_from:2"),
            Propagation { shared: Some(1042), master: Some(7), unbindable: false }
        );
        assert!(tags(" new:tag:3 unbindable").unbindable);
    }

    #[test]
    fn odd_paths() {
        let entry = one(b"36 35 0:1 / /a\\040b\\011\\012\\134040\xff - rw - tmpfs \\043\\0401 rw");
        // The tag loop needs options before the separator; this line has a tag-like path, not more fields.
        assert_eq!(&*entry.target, b"/a b\t\n\\040\xff");
        assert_eq!(entry.path().as_os_str().as_bytes(), b"/a b\t\n\\040\xff");
        let entry = one(b"36 35 0:1 / /- rw shared:1 - tmpfs  rw");
        assert_eq!((&*entry.target, &*entry.source), (&b"/-"[..], &b""[..]), "no source at all");
        assert_eq!(&*unescape(b"\\"), b"\\");
        assert_eq!(&*unescape(b"\\04"), b"\\04");
        assert_eq!(&*unescape(b"\\400"), b"\\400");
    }

    #[test]
    fn autofs_lines() {
        let entry = one(b"50 29 0:1621 / /misc rw,relatime shared:9 - autofs /etc/auto.misc \
              rw,fd=7,pgrp=4242,timeout=300,minproto=5,maxproto=5,indirect,strictexpire,ignore,pipe_ino=98765\n");
        assert_eq!(entry.dev, 0x60_0055);
        assert_eq!(
            entry.autofs(),
            Some(AutofsOptions {
                fd: 7,
                pgrp: 4242,
                timeout: 300,
                minproto: 5,
                maxproto: 5,
                kind: Kind::Indirect,
                strictexpire: true,
                ignore: true,
                pipe_ino: Some(98765),
            })
        );
        let entry = one(b"50 29 0:56 / /d rw - autofs systemd-1 rw,fd=-1,pgrp=0,timeout=0,direct,pipe_ino=-1");
        let options = entry.autofs().unwrap();
        assert_eq!((options.fd, options.kind, options.pipe_ino), (-1, Kind::Direct, Some(-1)));
        let entry = one(b"50 29 0:56 / /d rw - autofs x rw,fd=4,offset");
        assert_eq!(entry.autofs().map(|o| (o.kind, o.pipe_ino)), Some((Kind::Offset, None)));
    }

    #[test]
    fn lines_without_sense_are_left_out() {
        assert_eq!(parse(b"\n\nnonsense\n36 35 98 / / rw - a b c\n36 35 0:1 / /x rw tmpfs tmpfs rw\n").count(), 0);
        assert_eq!(parse(b"").count(), 0);
    }

    #[test]
    fn the_real_table() {
        let table = read().unwrap();
        let entries: Vec<_> = parse(&table).collect();
        assert_eq!(entries.len(), table.iter().filter(|&&b| b == b'\n').count());
        assert!(entries.iter().any(|e| &*e.target == b"/"));
    }

    proptest! {
        #[test]
        fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for entry in parse(&bytes) {
                let _ = entry.autofs();
            }
        }

        #[test]
        fn pieces_of_lines_in_any_order_do_no_harm(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "36 ", "0:56 ", "/ ", "/a\\040", "\\1", "- ", " - ", "autofs ", "rw", ",fd=", "99999999999", ",pipe_ino=-1",
                    "shared:", ":", "\n", "=", ",direct",
                ]),
                0..40,
            )
        ) {
            let text = pieces.concat();
            for entry in parse(text.as_bytes()) {
                let _ = entry.autofs();
            }
        }
    }
}
