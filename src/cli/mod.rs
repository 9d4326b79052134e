//! The command line programs automount(8) and autofsctl(8).

pub mod automount;
pub mod ctl;
mod dump;
mod reading;
mod set_log;
