//! The worker's half.

pub mod configuration;
pub mod serve;

/// Runs the worker.
pub fn run(_options: crate::cli::options::Options, _inheritance: crate::keeper::Inheritance) -> u8 {
    1
}
