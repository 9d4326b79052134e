//! The map language: what master maps and Sun maps say, as data.
//!
//! A Sun entry goes through [`expand`](expand::expand), then [`sun::parse`]; what becomes of the [`Entry`] is the matter
//! of [`plan`](crate::plan).

pub mod amd;
pub mod clean_path;
pub mod entry;
pub mod expand;
pub mod fstab;
pub mod key;
pub mod known;
mod location;
pub mod macros;
pub mod master;
mod misplaced;
pub mod mount_options;
mod options;
pub mod pattern;
pub mod print;
pub mod program;
mod provider;
pub mod reader;
mod serves;
pub mod spec;
pub mod sun;
pub mod table;
pub mod toml;
pub(crate) mod words;

pub use clean_path::clean_path;
pub use entry::{Body, Entry, Location, Part};
pub use expand::{Expanded, Lookup, expand, path_colons, variables, variables_at};
pub use key::{KeyError, unescape};
pub use macros::{Macros, Scope, System, User};
pub use master::{Include, Item, MasterEntry};
pub use mount_options::{OptionList, Pseudo};
pub use pattern::Pattern;
pub use provider::Provider;
pub use reader::RawEntry;
pub use serves::Serves;
pub use spec::{Format, MasterOptions, Owner, ParseError, Propagation, SourceKind, SourceSpec, Verbosity};
pub use table::Table;
