//! Maps and master maps in TOML: typed, with the position of every error.
//!
//! An entry of a map, and a mount point of a master map, becomes a line of a Sun map and is read as that line. So it means
//! what the same line means in a Sun map, variables included, and no other code has to know of this format.

pub mod convert;
mod map;
pub mod master;
mod text;
pub mod to_toml;

pub use map::{Lines, is_map, lines};
pub(crate) use text::Source;
