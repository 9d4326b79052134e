//! The control socket: reads calls and answers them.

pub(crate) mod answer;
pub(crate) mod serve;
