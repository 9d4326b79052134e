//! The configuration and the maps in force.

pub(crate) mod context;
pub(crate) mod line;
