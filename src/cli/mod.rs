//! The two command lines: automount(8)'s, as it always was, and that of autofsctl(8).

pub mod automount;
pub mod ctl;
mod dump;
mod set_log;
