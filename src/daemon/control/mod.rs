//! The control interface of the worker.

pub(crate) mod answer;
mod look;
pub(crate) mod serve;
pub(crate) mod steer;
