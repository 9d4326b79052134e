//! daemon

pub mod serve;
