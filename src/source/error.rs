//! Why a map cannot be used.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::text::Escaped;

use super::SourceId;
use super::file::read::FILE_MAX;

/// Why there is nothing to answer from, or nothing new.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Nothing is at the path.
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
        /// What the system said.
        #[source]
        error: io::Error,
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
    /// Somebody does not stop writing to it.
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
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// The source has not answered by the deadline, or an earlier question to it is still open.
    #[error("{id} does not answer")]
    Late {
        /// The source.
        id: SourceId,
    },
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
    /// Returns whether asking again may help although nothing changes on disk.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Read { .. } | Self::Changing { .. } | Self::Directory { .. } => true,
            Self::Late { .. } | Self::Hangs { .. } | Self::TooManyHang { .. } => true,
            Self::Missing { .. }
            | Self::NotAFile { .. }
            | Self::TooLong { .. }
            | Self::Broken { .. }
            | Self::Loop { .. }
            | Self::TooDeep { .. }
            | Self::NoDirectory { .. }
            | Self::NotFound { .. }
            | Self::Unsupported { .. } => false,
        }
    }
}
