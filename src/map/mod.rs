//! The map language: what master maps and Sun maps say, as data.

pub mod key;
pub mod master;
mod options;
pub mod spec;
pub mod table;

pub use key::{KeyError, unescape};
pub use master::{Include, Item, MasterEntry};
pub use spec::{Format, MasterOptions, Propagation, SourceError, SourceKind, SourceSpec, Verbosity};
pub use table::Table;
