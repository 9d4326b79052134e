//! Everything that keeper and worker share: the journal, the messages between them, and the inheritance of a new worker.

pub mod channel;
pub mod history;
mod inheritance;
pub mod journal;
mod pulse;
pub mod ring;
mod service_state;
mod shares;

pub use channel::{Link, Message};
pub use inheritance::{Inheritance, Predecessor};
pub use pulse::Pulse;
pub use service_state::{Doing, ServiceState};

/// The exit status of a start that failed.
pub const START_FAILED: u8 = 1;

/// The version of the handover from one program to the next: of its text, the journal and the messages.
pub(crate) const HANDOVER_VERSION: u32 = 2;
