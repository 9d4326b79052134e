//! The autofs mounts that are served, their control pipes, and the mount table.

pub(crate) mod pipes;
pub(crate) mod table;
