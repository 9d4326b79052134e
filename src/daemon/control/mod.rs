//! The control socket: reads calls and answers them.

pub(crate) mod answer;
mod look;
pub(crate) mod serve;
pub(crate) mod steer;
