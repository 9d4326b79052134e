//! Takes over or makes autofs mounts: at the start, after a crash, after another automounter, at a reload.

pub(crate) mod adopt;
pub(crate) mod attacher;
pub(crate) mod opener;
pub(crate) mod top;
pub(crate) mod watch;
