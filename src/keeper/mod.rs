//! The keeper: leader of the process group, holder of every pipe, and nothing else.
//!
//! The kernel identifies the owner of an autofs mount by process group, which ends with its last member. The keeper is that
//! member: it has no further threads, reads no map and mounts nothing, so failures of the worker do not affect it. When a
//! worker dies, the next one is forked with the same pipes and the same [journal](crate::link::journal::Journal) and goes on;
//! the processes that wait in the kernel notice the delay at most.

mod flag;
mod handover;
mod run;
mod start;
mod watchdog;

pub use start::{Worker, run};

/// Returns whether a new program could read `text` as the handover of an old one. Takes no descriptor: each one that the
/// text names is replaced by one of `/dev/null`. For tests with any text.
pub fn reads_handover(text: &[u8]) -> bool {
    handover::Handover::decode_with(text, |_| Ok(std::fs::File::open("/dev/null")?.into())).is_ok()
}
