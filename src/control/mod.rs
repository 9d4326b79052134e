//! The control interface of a running daemon: calls, results and their encoding.
//!
//! The protocol is Varlink (JSON objects, each followed by a NUL byte, over a Unix stream socket), so that `varlinkctl` and
//! scripts can use it, too. This module contains only values and codecs; `daemon::control::serve` and `cli::ctl::client`
//! perform the I/O.

pub mod activity;
pub mod answer;
pub mod bytes;
pub mod call;
pub mod change;
pub mod error;
pub mod explain;
pub mod history;
pub mod interface;
pub mod maps;
pub mod metrics;
pub mod path_status;
pub mod plan;
pub mod protocol;
pub mod steer;

pub use activity::{Activity, InFlight};
pub use answer::{
    Answer, Check, Checks, Death, Description, Info, MountKind, MountPoint, Mounted, Mounts, Pong, Quiesced, Rest,
    StaleMap, Status, Verdict,
};
pub use bytes::Bytes;
pub use call::{Call, Level, Mode, Quiesce, Umount};
pub use change::{Change, Extent, Place, Problem, Reload, Reloaded};
pub use error::ControlError;
pub use explain::{Explain, Explanation, OptionOrigin, Origin, Outcome};
pub use history::{History, HistoryQuery};
pub use metrics::{Metrics, MountCounters, SourceCounters};
pub use path_status::{Foreign, PathState, PathStatus, SILENT};
pub use plan::PlanTree;
pub use protocol::Frames;
pub use steer::{Block, Blocked, Expire, Expired, Flush, Flushed, Kept, LogLevelSet, SetLogLevel};

/// The path of the control socket.
pub const SOCKET: &str = concat!(env!("AUTOFS_RUNDIR"), "/autofs/control");
