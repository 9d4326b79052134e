//! sys

pub mod mount;
pub mod path;
pub mod user;
