//! Single mounts of a plan: by type, and bind mounts.

use super::context::Context;
use super::{FsMount, Fsck};
use crate::map::{OptionList, Propagation};

/// A mount by type, with a check of the device before where that is the custom.
pub(super) fn mount(fstype: &[u8], source: Vec<u8>, options: &OptionList) -> FsMount {
    let fsck = match fstype {
        b"ext2" | b"ext3" | b"ext4" => Some(if options.read_only() { Fsck::ReadOnly } else { Fsck::Preen }),
        _ => None,
    };
    FsMount {
        fstype: fstype.to_vec(),
        source,
        options: options.as_bytes().to_vec(),
        propagation: Propagation::default(),
        fsck,
        server: None,
        limit: None,
    }
}

/// A bind mount of a directory of this machine.
pub(super) fn bind(ctx: &Context<'_>, path: &[u8], options: &OptionList) -> FsMount {
    FsMount {
        fstype: b"bind".to_vec(),
        source: path.to_vec(),
        options: options.as_bytes().to_vec(),
        propagation: ctx.master.propagation.unwrap_or_default(),
        fsck: None,
        server: None,
        limit: None,
    }
}
