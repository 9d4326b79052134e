//! Plans carried out: mounts made and taken away, with a bound on everything that can wait.

pub mod dirs;
pub mod lanes;
pub mod options;
