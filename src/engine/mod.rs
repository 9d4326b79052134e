//! The engine: one value that owns all that is known of requests, entries and triggers.
//!
//! `handle(now, event, &mut effects)` is all there is: no clock, no system call, no lock. Every token that comes in
//! leaves exactly once, as READY or FAIL with an errno of the whitelist, within the deadline of the request. Effects
//! are idempotent: what a dead worker had begun is begun again by its successor.

mod effect;
mod event;
mod id;

pub use effect::{Effect, Layer};
pub use event::{Done, Event, Resolution, Shutdown};
pub use id::{Errno, JobId, Key, Kind, MountId, Requester, Tick, Token, Wanted};
