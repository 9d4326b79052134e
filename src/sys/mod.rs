//! sys

pub mod user;
