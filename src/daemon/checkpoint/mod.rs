//! Checkpoints by CRIU: checking the conditions, quiescing, and finding the autofs mounts again after a restore.

pub(crate) mod check;
pub(crate) mod quiesce;
pub(crate) mod renew;
pub(crate) mod restore;
pub(crate) mod sentinel;
