//! Why a map cannot be used.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::record::Record;
use crate::text::Escaped;

use super::SourceId;
use super::file::read::FILE_MAX;

/// Why there is nothing to answer from, or nothing new.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// There is no file at the path.
    #[error("file map {} missing or not readable", Escaped::path(.path))]
    Missing {
        /// The map.
        path: Arc<Path>,
    },
    /// Opening, asking or reading failed.
    #[error("file map {} missing or not readable: {error}", Escaped::path(.path))]
    Read {
        /// The map.
        path: Arc<Path>,
        /// Error of the system.
        #[source]
        error: io::Error,
    },
    /// It is not used, because others than root can change it: `writable_maps = "refuse"`.
    #[error(
        "{} is not used, as others than root can change it: {why} (writable_maps = \"refuse\" in autofs.toml)",
        Escaped::path(.path)
    )]
    Writable {
        /// The map.
        path: Arc<Path>,
        /// The file, directory or link to which others can write, who can, and what to do.
        why: Box<str>,
    },
    /// Something that is not read.
    #[error("{} is {what}, not a file", Escaped::path(.path))]
    NotAFile {
        /// The map.
        path: Arc<Path>,
        /// A kind of file, with its article.
        what: &'static str,
    },
    /// More than is kept in memory.
    #[error("file map {} is longer than {FILE_MAX} bytes", Escaped::path(.path))]
    TooLong {
        /// The map.
        path: Arc<Path>,
    },
    /// A process does not stop writing to it.
    #[error("file map {} changes while it is read", Escaped::path(.path))]
    Changing {
        /// The map.
        path: Arc<Path>,
    },
    /// Not one line of it can be used.
    #[error("file map {} has no good line", Escaped::path(.path))]
    Broken {
        /// The map.
        path: Arc<Path>,
    },
    /// It includes itself, perhaps over others.
    #[error("map {} includes itself", Escaped::path(.path))]
    Loop {
        /// The map.
        path: Arc<Path>,
    },
    /// Included by too many maps in a row.
    #[error("map {} is included more than {} levels deep", Escaped::path(.path), super::DEPTH_MAX)]
    TooDeep {
        /// The map.
        path: Arc<Path>,
    },
    /// There is no such directory.
    #[error("cannot read directory {}: there is none", Escaped::path(.path))]
    NoDirectory {
        /// The directory.
        path: Arc<Path>,
    },
    /// Opening or listing a directory failed.
    #[error("cannot read directory {}: {error}", Escaped::path(.path))]
    Directory {
        /// The directory.
        path: Arc<Path>,
        /// Error of the system.
        #[source]
        error: io::Error,
    },
    /// A server does not say what it exports.
    #[error("lookup(hosts): exports lookup failed for {}: {error}", Escaped(.name))]
    Server {
        /// Its name.
        name: Vec<u8>,
        /// Why.
        #[source]
        error: super::CallError,
    },
    /// The source has not answered by the deadline, or an earlier question to it is still open.
    #[error("{id} does not answer")]
    Late {
        /// The source.
        id: SourceId,
    },
    /// The user database has not said whether a key is the name of a user, which its wildcard depends on.
    #[error("whether there is a user {} is not known: the user database does not answer", Escaped(.key))]
    UserUnknown {
        /// The key.
        key: Vec<u8>,
    },
    /// A directory service does not answer, or not now.
    #[error("{0}")]
    Unavailable(Box<str>),
    /// A directory service is not set up on this machine.
    #[error("{0}")]
    Unusable(Box<str>),
    /// A directory service does not run on this machine now.
    #[error("{0}")]
    NotRunning(Box<str>),
    /// Reading a file has not ended by the deadline, or an earlier attempt still hangs.
    #[error("reading {} does not come to an end", Escaped::path(.path))]
    Hangs {
        /// The file.
        path: Arc<Path>,
    },
    /// Too many threads hang already.
    #[error("{} is not read: too many other maps hang", Escaped::path(.path))]
    TooManyHang {
        /// The file or directory.
        path: Arc<Path>,
    },
    /// No service of nsswitch.conf has a map of this name.
    #[error("map {} not found", Escaped(.name))]
    NotFound {
        /// The map.
        name: Vec<u8>,
    },
    /// There is no executable file at the path of a program map.
    #[error("program map {} missing or not executable", Escaped::path(.path))]
    Program {
        /// The map.
        path: Arc<Path>,
    },
    /// A file that is run and not read, as its owner may execute it.
    #[error("{} is a program", Escaped::path(.path))]
    Executable {
        /// The map.
        path: Arc<Path>,
    },
    /// A program was called for one key, and has failed.
    #[error("{}", .0.message)]
    Key(Box<Record>),
    /// A program was asked for its keys, and has failed.
    #[error("program map {} does not list its keys: {why}", Escaped::path(.path))]
    List {
        /// The map.
        path: Arc<Path>,
        /// The unexpected behaviour.
        why: String,
    },
    /// The names of the requester, which a program needs, cannot be found out.
    #[error("map {}: the user database does not answer", Escaped(.name))]
    Users {
        /// The map.
        name: Vec<u8>,
    },
    /// A map of a service that no longer exists.
    #[error("map {}: NIS+ no longer exists on Linux: keep the map in LDAP, in NIS or in a file", Escaped(.name))]
    NisPlus {
        /// The map.
        name: Vec<u8>,
    },
    /// A map that this version cannot read.
    #[error("map {}: {what} are not supported yet", Escaped(.name))]
    Unsupported {
        /// The map.
        name: Vec<u8>,
        /// The kind of map, in the plural.
        what: &'static str,
    },
}

impl SourceError {
    /// Returns the record of the failure if it is one of a single key: the source answers, and may have other keys.
    pub fn of_key(&self) -> Option<&Record> {
        match self {
            Self::Key(record) => Some(record),
            _ => None,
        }
    }

    /// Returns whether a directory service does not answer now: it may be back soon, and asking it costs little.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::NotRunning(_))
    }

    /// Returns whether asking again may help although nothing changes on disk.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Read { .. } | Self::Writable { .. } | Self::Changing { .. } | Self::Directory { .. } => true,
            Self::Unavailable(_) | Self::Late { .. } | Self::Hangs { .. } | Self::TooManyHang { .. } => true,
            Self::List { .. } | Self::Users { .. } | Self::UserUnknown { .. } | Self::Server { .. } => true,
            Self::Missing { .. }
            | Self::NotAFile { .. }
            | Self::TooLong { .. }
            | Self::Broken { .. }
            | Self::Loop { .. }
            | Self::TooDeep { .. }
            | Self::NoDirectory { .. }
            | Self::Unusable(_)
            | Self::NotRunning(_)
            | Self::NotFound { .. }
            | Self::Program { .. }
            | Self::Executable { .. }
            | Self::Key(_)
            | Self::NisPlus { .. }
            | Self::Unsupported { .. } => false,
        }
    }
}
