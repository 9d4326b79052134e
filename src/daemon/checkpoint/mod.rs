//! Checkpoints by CRIU: the check beforehand, the rest, the restore.

pub(crate) mod check;
pub(crate) mod quiesce;
pub(crate) mod renew;
pub(crate) mod restore;
pub(crate) mod sentinel;
