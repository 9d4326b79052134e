//! The control interface: what can be asked of a running daemon, and how it looks on the wire.
//!
//! The wire is Varlink's (JSON objects, each followed by a NUL byte, on a Unix stream socket), so that `varlinkctl`
//! and scripts can use it as well. Here are values and codecs only; `daemon::control::serve` and `cli::ctl::client` do the
//! input and output.

pub mod answer;
pub mod bytes;
pub mod call;
pub mod error;
pub mod interface;
pub mod plan;
pub mod protocol;

pub use answer::{
    Answer, Check, Checks, Description, Explanation, Info, MountKind, MountPoint, Mounted, Mounts, Outcome, Pong,
    Quiesced, Rest, Status, Verdict,
};
pub use bytes::Bytes;
pub use call::{Call, Level, Mode, Quiesce, Umount};
pub use error::ControlError;
pub use plan::PlanTree;
pub use protocol::Frames;

/// Where the daemon listens.
pub const SOCKET: &str = concat!(env!("AUTOFS_RUNDIR"), "/autofs/control");
