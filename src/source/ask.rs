//! Questions to a source, with their deadlines.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use crate::map::{Macros, User};
use crate::mutex::lock;

/// The question for one key.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The key.
    pub key: Arc<[u8]>,
    /// The requester. Names are filled in if a source [asks for them](crate::map::Scope::asks_for_user).
    pub who: Option<Arc<User>>,
    /// Predefined variables and those of the command line: the environment of a program map.
    pub globals: Arc<Macros>,
    /// `-DNAME=VALUE` of the master map line.
    pub defines: Arc<[(Vec<u8>, Vec<u8>)]>,
    /// The autofs mount that the answer is for.
    pub mount_point: Option<Arc<Path>>,
    /// For how long a failed key of that mount is not asked for again.
    pub negative_timeout: Duration,
    /// The deadline, and the files that were looked at so far.
    pub pass: Pass,
}

impl Ask {
    /// Creates a question without a requester, mount point or variables.
    pub fn new(key: &[u8], deadline: Instant) -> Self {
        let (globals, defines) = (Arc::default(), Arc::from([]));
        let (mount_point, negative_timeout) = (None, Duration::ZERO);
        Self { key: key.into(), who: None, globals, defines, mount_point, negative_timeout, pass: Pass::new(deadline) }
    }

    /// The same question to an included map, see [`Pass::part`].
    pub(super) fn part(&self) -> Self {
        Self { pass: self.pass.part(), ..self.clone() }
    }
}

/// One walk over a map and all that it includes. Each file is read once, so that maps that include each other cost no
/// more than their number.
#[derive(Debug, Clone)]
pub struct Pass {
    /// When the answer is due.
    pub deadline: Instant,
    visited: Arc<Mutex<HashSet<Arc<Path>>>>,
}

impl Pass {
    /// A new walk.
    pub fn new(deadline: Instant) -> Self {
        Self { deadline, visited: Arc::default() }
    }

    /// The walk over one of several parts of a map. It may not take all of the time that is left, so that one part that
    /// hangs leaves some for the others.
    pub(super) fn part(&self) -> Self {
        let now = Instant::now();
        let deadline = now + self.deadline.saturating_duration_since(now) * 7 / 8;
        Self { deadline, visited: Arc::clone(&self.visited) }
    }

    /// Notes that `path` is read in this walk.
    pub(super) fn visit(&self, path: &Arc<Path>) {
        lock(&self.visited).insert(Arc::clone(path));
    }

    /// Returns whether `path` was read in this walk.
    pub(super) fn has_visited(&self, path: &Path) -> bool {
        lock(&self.visited).contains(path)
    }
}
