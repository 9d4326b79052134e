//! The map language: what master maps and Sun maps say, as data.

pub mod key;
pub mod spec;

pub use key::{KeyError, unescape};
pub use spec::{Format, MasterOptions, Propagation, SourceKind, SourceSpec, Verbosity};
