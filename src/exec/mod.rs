//! Plans carried out: mounts made and taken away, with a bound on everything that can wait.

pub mod dirs;
mod failure;
mod inline;
pub mod lanes;
mod mounter;
mod options;
mod place;
mod settings;
mod unmounter;
mod way;

pub use failure::Failure;
pub use lanes::{Lane, Lanes, Late};
pub use mounter::{Mounter, Performed, WALK, walk};
pub use place::Place;
pub use settings::{Method, Settings};
pub use unmounter::Unmounter;
