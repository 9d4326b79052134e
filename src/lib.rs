//! An automounter for Linux: the library behind `automount` and `autofsctl`.
//!
//! The pure half parses, plans and decides; it knows no system call, no clock and no thread. The shell around it
//! talks to the kernel. `ARCHITECTURE.md` tells the whole story.

// The pure half.
pub mod config;
pub mod control;
pub mod engine;
pub mod map;
pub mod plan;
pub mod record;
pub mod text;

// The shell.
pub mod cli;
pub mod daemon;
pub mod exec;
pub(crate) mod fault;
pub mod keeper;
pub mod link;
pub mod logging;
pub mod options;
pub mod source;
#[allow(unsafe_code, reason = "every system call that needs it is fenced in here")]
pub mod sys;
