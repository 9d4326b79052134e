//! A location that was selected, with everything filled in.

use std::fmt;

use crate::map::{OptionList, SourceKind};
use crate::text::{Escaped, Position};

/// A selected location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Position of the location.
    pub place: Position,
    /// Type of the mount.
    pub mount: MountType,
    /// Mount point of the file system that the key leads to; for a submount, the name of its map.
    pub fs: Vec<u8>,
    /// The directory that the key leads to: `fs`, or one below it.
    pub target: Vec<u8>,
    /// Options of the bind mount by which the key leads there.
    pub link_options: OptionList,
    /// Options of the file system.
    pub options: OptionList,
    /// `utimeout=`: seconds until it is unmounted when it is not used.
    pub timeout: Option<u64>,
    /// `nounmount`: it is not unmounted as long as it is not asked for.
    pub never: bool,
}

/// How a location is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountType {
    /// A submount. Its map is `fs`.
    Auto {
        /// The kind of its source.
        kind: Option<SourceKind>,
        /// Prefix of its keys in the map.
        prefix: Vec<u8>,
    },
    /// The key leads to a directory of this machine. With `exists`, only if it is there.
    Link {
        /// Fail if the target does not exist.
        exists: bool,
    },
    /// All that a server exports.
    Host(Vec<u8>),
    /// A bind mount of this directory at `fs`.
    Lofs(Vec<u8>),
    /// NFS.
    Nfs {
        /// `nfs` or `nfs4`.
        fstype: &'static str,
        /// The server.
        host: Vec<u8>,
        /// The directory there.
        path: Vec<u8>,
    },
    /// A command mounts at `fs`. Words; the first is the path of the program, the others its arguments with `argv[0]`.
    Program {
        /// Mounts.
        mount: Vec<Vec<u8>>,
        /// Unmounts; empty: umount(8).
        unmount: Vec<Vec<u8>>,
    },
    /// A local file system.
    Disk {
        /// Its type.
        fstype: Vec<u8>,
        /// The device.
        device: Vec<u8>,
    },
    /// It fails on purpose.
    Error,
}

impl MountType {
    /// Returns the server, if one is needed.
    pub fn host(&self) -> Option<&[u8]> {
        match self {
            Self::Host(host) | Self::Nfs { host, .. } => Some(host),
            _ => None,
        }
    }
}

/// As an entry would say it, for people.
impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.mount {
            MountType::Auto { prefix, .. } => write!(f, "type:=auto;pref:={}", Escaped(prefix))?,
            MountType::Link { exists } => f.write_str(if *exists { "type:=linkx" } else { "type:=link" })?,
            MountType::Host(host) => write!(f, "type:=host;rhost:={}", Escaped(host))?,
            MountType::Lofs(source) => write!(f, "type:=lofs;rfs:={}", Escaped(source))?,
            MountType::Nfs { fstype, host, path } => {
                write!(f, "type:={fstype};rhost:={};rfs:={}", Escaped(host), Escaped(path))?;
            }
            MountType::Program { mount, .. } => write!(f, "type:=program;mount:=\"{}\"", Escaped(&mount.join(&b' ')))?,
            MountType::Disk { fstype, device } => {
                write!(f, "type:={};dev:={}", Escaped(fstype), Escaped(device))?;
            }
            MountType::Error => return f.write_str("type:=error"),
        }
        write!(f, ";fs:={}", Escaped(&self.fs))?;
        if self.target != self.fs {
            write!(f, ";sublink:={}", Escaped(&self.target))?;
        }
        if !self.options.is_empty() {
            write!(f, ";opts:={}", Escaped(self.options.as_bytes()))?;
        }
        Ok(())
    }
}
