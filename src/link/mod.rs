//! What keeper and worker share: the journal, the messages between them, and what a new worker inherits.

pub mod channel;
mod inheritance;
pub mod journal;
mod pulse;
mod shares;

pub use channel::{Link, Message};
pub use inheritance::Inheritance;
pub use pulse::Pulse;

/// The exit status of a start that failed.
pub const START_FAILED: u8 = 1;

/// The version of the handover from one program to the next: of its text, the journal and the messages.
pub(crate) const HANDOVER_VERSION: u32 = 2;
