//! What the administrator decides: autofs.conf, autofs.toml and nsswitch.conf, each with one table of defaults.

pub mod nsswitch;

pub use nsswitch::Nsswitch;
