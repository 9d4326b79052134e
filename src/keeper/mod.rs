//! The keeper: leader of the process group, holder of every pipe, and nothing else.
//!
//! The kernel's owner of an autofs mount is the process group, and it dies with the last member. The keeper is that
//! member: it has no threads, reads no map and mounts nothing, so that it outlives what happens to the worker that
//! does. When a worker dies, the next one is forked with the same pipes and the same [journal](crate::link::journal::Journal) and
//! goes on; the processes that wait in the kernel notice the delay at most.

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
