//! The map language: what master maps and Sun maps say, as data.

pub mod spec;

pub use spec::{Format, MasterOptions, Propagation, SourceKind, SourceSpec, Verbosity};
