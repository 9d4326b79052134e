//! An automounter for Linux: the library behind `automount` and `autofsctl`.
//!
//! The pure half parses, plans and decides. It uses no system calls, clocks or threads. The shell performs the I/O.
//! `ARCHITECTURE.md` describes the design and defines the terms.

// Numbers from maps and the kernel are converted with a check. Tests may cut them off.
#![cfg_attr(not(test), deny(clippy::cast_possible_truncation))]

// The pure half.
pub mod config;
pub mod control;
pub mod directory;
pub mod engine;
pub mod map;
pub mod plan;
pub mod record;
pub mod rpc;
pub mod text;
pub mod wire;

// The shell.
pub(crate) mod blocking;
pub mod cli;
pub mod daemon;
pub mod exec;
pub(crate) mod fault;
pub mod instance;
pub mod keeper;
pub mod link;
pub mod logging;
pub mod lookup;
pub(crate) mod mutex;
pub mod options;
pub mod source;
#[allow(unsafe_code, reason = "system calls that need it are confined to this module")]
pub mod sys;
pub(crate) mod task;
