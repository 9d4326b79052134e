//! Makes autofs mounts ours: at the start, after a crash, after another automounter, at a reload.

pub(crate) mod adopt;
pub(crate) mod appearance;
pub(crate) mod attacher;
pub(crate) mod opener;
pub(crate) mod top;
mod vacant;
mod verdict;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use log::error;

use crate::blocking;
use crate::daemon::jobs::Means;
use crate::daemon::life::Life;
use crate::daemon::mailbox::Mailbox;
use crate::daemon::mounts::table::MountTable;

/// Pause between attempts to take over a mount that has an unanswered request of its dead owner.
const RETRY_DELAY: Duration = Duration::from_secs(2);

/// Tools for attaching mounts.
#[derive(Debug, Clone)]
pub(crate) struct Attach {
    /// The mounts, the maps and the tools.
    pub(crate) means: Means,
    /// Tells when the daemon ends, and nothing is to be tried again.
    pub(crate) life: Rc<Life>,
    /// Receives reports about adopted mounts.
    pub(crate) mailbox: Mailbox,
}

/// Reads the mount table off the reactor. If it cannot be read, it counts as empty.
async fn read_table() -> Arc<MountTable> {
    let table = match blocking::run(MountTable::read).await {
        Ok(table) => table,
        Err(e) => {
            error!("cannot read the mount table: {e}");
            MountTable::of(Vec::new())
        }
    };
    Arc::new(table)
}
