//! Blocked paths: new lookups there fail, because the administrator has said so.

use std::path::Path;
use std::sync::Arc;

use super::{Engine, EntryId, Event, Reason, Tick};

/// A blocked path.
#[derive(Debug)]
pub(super) struct Blocked {
    until: Option<Tick>,
    reason: Reason,
}

/// A blocked path, seen from outside.
#[derive(Debug, Clone, Copy)]
pub struct BlockView<'a> {
    /// The path.
    pub path: &'a Path,
    /// When the block ends by itself.
    pub until: Option<Tick>,
    /// Reason that the administrator has given.
    pub reason: &'a Reason,
}

impl Engine {
    /// Blocks a path and all that is below it, until a moment or until it is unblocked.
    pub(super) fn block(&mut self, path: Arc<Path>, until: Option<Tick>, reason: Reason) {
        self.blocked.insert(path, Blocked { until, reason });
    }

    /// Ends the block of a path.
    pub(super) fn unblock(&mut self, path: &Path) {
        self.blocked.remove(path);
    }

    /// Returns the paths that are blocked now.
    pub fn blocks(&self, now: Tick) -> impl Iterator<Item = BlockView<'_>> {
        let view = |(path, blocked): (_, _)| {
            let (path, Blocked { until, reason }): (&Arc<Path>, &Blocked) = (path, blocked);
            BlockView { path, until: *until, reason }
        };
        self.blocked.iter().map(view).filter(move |block| block.until.is_none_or(|until| until > now))
    }

    /// Returns what was said about the block of an entry, if it is blocked.
    pub fn block_at(&self, at: &EntryId, now: Tick) -> Option<String> {
        let path = self.entry_path(at)?;
        let block = self.blocks(now).find(|block| path.starts_with(block.path))?;
        Some(block.reason.message.clone())
    }

    /// Returns why lookups of an entry are blocked, if they are.
    pub(super) fn blocked_at(&mut self, at: &EntryId) -> Option<Reason> {
        if self.blocked.is_empty() {
            return None;
        }
        let now = self.now;
        self.blocked.retain(|_, blocked| blocked.until.is_none_or(|until| until > now));
        let path = self.entry_path(at)?;
        path.ancestors().find_map(|above| self.blocked.get(above)).map(|blocked| blocked.reason.clone())
    }

    /// Forgets failed keys: of all mounts, of one, or a single key.
    pub(super) fn forget(&mut self, event: &Event) {
        match event {
            Event::ForgetEntry { at } => self.negative_cache.remove(at),
            Event::ForgetMount { mount } => {
                let now = self.now;
                let known: Vec<EntryId> =
                    self.negative_cache.below(now, *mount).map(|failed| failed.at.clone()).collect();
                known.iter().for_each(|at| self.negative_cache.remove(at));
            }
            _ => self.negative_cache.clear(),
        }
    }

    /// Returns whether an expire run is under way, or an entry is being unmounted.
    pub fn is_expiring(&self) -> bool {
        let has_run = |id| self.tree.top(id).is_some_and(|top| top.run.is_some());
        self.tree.top_ids().into_iter().any(has_run)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{TestEngine, reason};
    use super::*;

    #[test]
    fn a_blocked_path_fails_until_its_time_is_over() {
        let mut stage = TestEngine::new(&["/m"]);
        let path: Arc<Path> = Path::new("/m/a").into();
        stage.event(Event::Block { path: Arc::clone(&path), until: Some(Tick(5000)), reason: reason("moved") });
        stage.missing("/m/a", 1);
        stage.missing("/m/b", 2);
        assert_eq!(stage.said(), ["fail 1 EACCES", "resolve /m/b"]);
        assert_eq!(stage.reasons(), ["moved"]);
        assert_eq!(stage.engine.blocks(stage.now).map(|block| block.path.to_owned()).collect::<Vec<_>>(), [&*path]);
        stage.pass(5000);
        assert_eq!(stage.engine.blocks(stage.now).count(), 0);
        stage.missing("/m/a", 3);
        assert_eq!(stage.said(), ["resolve /m/a"]);
        stage.event(Event::Block { path: Path::new("/m").into(), until: None, reason: reason("all") });
        stage.missing("/m/c", 4);
        stage.event(Event::Unblock { path: Path::new("/m").into() });
        stage.missing("/m/c", 5);
        assert_eq!(stage.said(), ["fail 4 EACCES", "resolve /m/c"]);
    }
}
