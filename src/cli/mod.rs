//! The command line programs automount(8) and autofsctl(8).

pub mod automount;
pub mod ctl;
mod dump;
mod set_log;
