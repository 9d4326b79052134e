//! The two command lines.

pub mod automount;
pub mod ctl;
