//! Comparison of the mounts that the configuration wants with those that exist.

use std::path::Path;

use super::{Effect, Engine, LeaveStage, MountId, Reason, State, Top, Wanted};

impl Engine {
    /// These top-level mounts are wanted, and no others.
    pub(super) fn configure(&mut self, wanted: Vec<Wanted>) {
        if self.stop.is_some() {
            return;
        }
        self.generation = self.generation.wrapping_add(1);
        self.behind.clear();
        self.forget_absent();
        let (mut new, mut kept) = (Vec::new(), 0);
        for wanted in wanted {
            match self.tree.at(&wanted.path) {
                Some(id) => kept += usize::from(self.want_again(id, wanted)),
                None => new.push(wanted),
            }
        }
        if kept < self.tree.tops().count() {
            let unwanted = |top: &Top| {
                let tried = State::Leaving(LeaveStage::Stuck);
                top.generation != self.generation
                    && (matches!(top.state(), State::Attaching { .. } | State::Serving) || top.state() == tried)
            };
            let unwanted = self.tree.tops().filter(|(_, top)| unwanted(top)).map(|(id, _)| id).collect();
            self.leave(unwanted);
        }
        // Parents before children, else in the order of the configuration.
        new.sort_by_cached_key(|wanted| wanted.path.components().count());
        for wanted in new {
            self.attach(wanted);
        }
    }

    /// Returns whether mounts are being attached or removed, or wait for that. Then only a complete list of what is wanted can be
    /// applied, not a change of it.
    pub fn is_unsettled(&self) -> bool {
        !self.tree.is_settled() || !self.behind.is_empty() || !self.absent.is_empty()
    }

    /// These mounts are wanted besides the others, and those are not wanted any more.
    pub(super) fn change(&mut self, mut wanted: Vec<Wanted>, unwanted: &[std::sync::Arc<Path>]) {
        if self.stop.is_some() {
            return;
        }
        unwanted.iter().for_each(|path| self.forget_absent_at(path));
        let gone = unwanted.iter().filter_map(|path| self.tree.at(path)).collect();
        self.leave(gone);
        wanted.sort_by_cached_key(|wanted| wanted.path.components().count());
        for wanted in wanted {
            self.attach(wanted);
        }
    }

    /// Handles a wanted mount whose path already has one. Returns false if the existing mount has another kind (it must be removed
    /// first), or if an earlier line has the same path.
    fn want_again(&mut self, id: MountId, wanted: Wanted) -> bool {
        let Some(top) = self.tree.top_mut(id).filter(|top| top.generation != self.generation) else { return false };
        if wanted.kind != top.wanted.kind {
            self.behind.entry(id).or_default().push(wanted);
            return false;
        }
        top.generation = self.generation;
        match top.state() {
            State::Serving => self.reconfigure(id, wanted),
            State::Attaching { .. } => {
                top.changed |= differ(&top.wanted, &wanted);
                self.tree.set_state(id, State::Attaching { leave: false });
                self.set_wanted(id, wanted);
                self.proceed_above_mount(id);
            }
            State::Leaving(LeaveStage::Detaching { .. }) => self.behind.entry(id).or_default().push(wanted),
            State::Leaving(_) => self.serve_again(id, wanted),
            // Only the end abandons, and it takes no configuration any more.
            State::Abandoned => {}
        }
        true
    }

    /// A mount that was leaving stays after all.
    fn serve_again(&mut self, id: MountId, wanted: Wanted) {
        self.tree.set_state(id, State::Serving);
        self.restart_tick(id);
        self.reconfigure(id, wanted);
        self.proceed_above_mount(id);
    }

    /// If the same mount is wanted again that could not be unmounted, it stays.
    pub(super) fn revive(&mut self, id: MountId) -> bool {
        let Some(top) = self.tree.top(id) else { return false };
        let same = |wanted: &Wanted| wanted.path == top.wanted.path && wanted.kind == top.wanted.kind;
        let Some(behind) = self.behind.get_mut(&id) else { return false };
        let Some(index) = behind.iter().position(same) else { return false };
        let wanted = behind.remove(index);
        self.serve_again(id, wanted);
        self.release(id);
        true
    }

    /// Gives a mount that is served new options, if they are new to the shell.
    fn reconfigure(&mut self, id: MountId, wanted: Wanted) {
        let Some(top) = self.tree.top_mut(id) else { return };
        if std::mem::take(&mut top.changed) || differ(&top.wanted, &wanted) {
            self.effects.push(Effect::Update { mount: id, wanted: wanted.clone() });
            self.set_wanted(id, wanted);
        }
    }

    fn set_wanted(&mut self, id: MountId, wanted: Wanted) {
        let Some(top) = self.tree.top(id) else { return };
        let new_timeout = top.wanted.timeout != wanted.timeout;
        self.tree.set_wanted(id, wanted);
        if new_timeout {
            self.restart_tick(id);
        }
    }

    /// Attaches a new mount when the mounts at its path and above are settled, and no mount below it is being removed (it would be
    /// covered).
    pub(super) fn attach(&mut self, wanted: Wanted) {
        self.attach_again(wanted, 0);
    }

    /// Attaches a mount for which this has failed `failures` times in a row.
    pub(super) fn attach_again(&mut self, wanted: Wanted, failures: u32) {
        let settled = |id: &MountId| self.tree.top(*id).is_none_or(|top| top.state() == State::Serving);
        let path = &*wanted.path;
        let above = path.ancestors().filter_map(|path| self.tree.at(path)).find(|id| !settled(id));
        let below = self.tree.leaving_below(path).next().map(|(id, _)| id);
        if let Some(id) = above.or(below) {
            self.behind.entry(id).or_default().push(wanted);
            return;
        }
        if self.tree.at(&wanted.path).is_some() {
            return;
        }
        self.forget_absent_at(&wanted.path);
        let id = self.new_mount();
        self.effects.push(Effect::Attach { mount: id, wanted: wanted.clone() });
        let mut top = Top::new(wanted, self.generation);
        top.failures = failures;
        self.tree.insert_top(id, top);
    }

    /// Attaches what has waited for a mount.
    pub(super) fn release(&mut self, id: MountId) {
        for wanted in self.behind.remove(&id).unwrap_or_default() {
            self.attach(wanted);
        }
    }

    /// The shell has tried to attach a mount.
    pub(super) fn attached(&mut self, id: MountId, outcome: Result<(), Reason>) {
        let Some(top) = self.tree.top(id) else { return };
        let leave = match top.state() {
            State::Attaching { leave } => leave,
            State::Abandoned => true,
            State::Serving | State::Leaving(_) => return,
        };
        if let Err(reason) = outcome {
            if !leave {
                let (wanted, failures) = (top.wanted.clone(), top.failures + 1);
                self.miss(wanted, Some(reason), failures);
            }
            return self.depart(id);
        }
        let wanted = top.wanted.clone();
        self.tree.set_state(id, State::Serving);
        if leave {
            return self.leave(vec![id]);
        }
        self.reconfigure(id, wanted);
        self.release(id);
    }
}

/// Returns whether the options of the same mount have changed. The paths are equal, and to compare them takes longer than all
/// the rest of a configuration of ten thousand direct mounts without a change.
fn differ(a: &Wanted, b: &Wanted) -> bool {
    (a.map, a.timeout, a.negative_timeout) != (b.map, b.timeout, b.negative_timeout)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{TestEngine, reason, wanted};
    use super::super::{Done, Event, Kind};

    #[test]
    fn parents_are_attached_before_children() {
        let mut stage = TestEngine::new(&[]);
        stage.want(&["/a/b", "/c", "/a", "/a/b/c"]);
        assert_eq!(stage.said(), ["attach /c", "attach /a"]);
        stage.attached("/a", true);
        assert_eq!(stage.said(), ["attach /a/b"]);
        stage.attached("/a/b", false);
        assert_eq!(stage.said(), ["attach /a/b/c"], "what fails holds up nobody");
        stage.want(&["/a/b", "/c", "/a", "/a/b/c"]);
        assert_eq!(stage.said(), ["attach /a/b"], "and is tried again with the next configuration");
    }

    #[test]
    fn a_mount_serves_before_the_shell_says_that_it_stands() {
        let mut stage = TestEngine::new(&[]);
        stage.want(&["/a", "/b"]);
        stage.missing("/a/key", 1);
        stage.missing("/b/key", 2);
        stage.attached("/a", false);
        stage.attached("/b", true);
        assert_eq!(stage.said()[2..], ["resolve /a/key", "resolve /b/key", "fail 1 ENOENT"]);
    }

    #[test]
    fn without_a_change_nothing_happens() {
        let mut stage = TestEngine::new(&["/a", "/b"]);
        stage.want(&["/b", "/a", "/a"]);
        assert_eq!(stage.said(), [""; 0]);
    }

    #[test]
    fn a_change_touches_only_what_it_names() {
        let mut stage = TestEngine::new(&["/a", "/b"]);
        assert!(!stage.engine.is_unsettled());
        let (wanted, unwanted) = (vec![wanted("/c", Kind::Direct)], vec![std::path::Path::new("/a").into()]);
        stage.event(Event::Change { wanted, unwanted });
        assert_eq!(stage.said(), ["detach /a", "attach /c"]);
        assert!(stage.engine.is_unsettled());
        stage.detached("/a", true);
        stage.attached("/c", true);
        assert!(!stage.engine.is_unsettled());
        stage.want(&["/b"]);
        assert_eq!(stage.said(), ["detach /c"], "the others are as wanted as before");
    }

    #[test]
    fn options_change_in_place() {
        let mut stage = TestEngine::new(&["/a"]);
        stage.mount("/a/key", Done::default());
        let mut new = wanted("/a", Kind::Indirect);
        new.timeout = 8;
        stage.event(Event::Configure(vec![new.clone()]));
        assert_eq!(stage.said(), ["update /a 8"]);
        assert_eq!(stage.engine.deadline(), Some(super::super::Tick(2_000)));
        stage.event(Event::Configure(vec![new]));
        assert_eq!(stage.said(), [""; 0]);
    }

    #[test]
    fn options_that_change_while_it_is_attached_come_after() {
        let mut stage = TestEngine::new(&[]);
        stage.want(&["/a"]);
        let mut new = wanted("/a", Kind::Indirect);
        new.timeout = 8;
        stage.event(Event::Configure(vec![new]));
        assert_eq!(stage.said(), ["attach /a"]);
        stage.attached("/a", true);
        assert_eq!(stage.said(), ["update /a 8"]);
    }

    #[test]
    fn another_kind_waits_until_the_old_one_is_gone() {
        let mut stage = TestEngine::new(&["/a"]);
        stage.mount("/a/key", Done::default());
        let want = |stage: &mut TestEngine, kind| {
            stage.event(Event::Configure(vec![wanted("/a", kind), wanted("/a/b", kind)]))
        };
        want(&mut stage, Kind::Direct);
        stage.unmounted("/a/key", 1);
        stage.detached("/a", true);
        assert_eq!(stage.said(), ["unmount /a/key", "detach /a", "attach /a"]);
        stage.attached("/a", true);
        assert_eq!(stage.said(), ["attach /a/b"]);
    }

    #[test]
    fn a_leaving_mount_is_kept_if_it_is_wanted_again() {
        let mut stage = TestEngine::new(&["/a"]);
        stage.mount("/a/key", Done::default());
        stage.want(&[]);
        stage.want(&["/a"]);
        stage.unmounted("/a/key", 1);
        stage.missing("/a/key", 1);
        assert_eq!(stage.said(), ["unmount /a/key", "resolve /a/key"]);
        stage.found("/a/key");
        stage.performed("/a/key", Err(reason("no such server")));
        stage.said();
        stage.want(&[]);
        stage.want(&["/a", "/a/b"]);
        assert_eq!(stage.said(), ["detach /a"], "too late to stop");
        stage.detached("/a", false);
        assert_eq!(stage.said(), ["attach /a/b"], "in use, so it stays");
        stage.missing("/a/new", 2);
        assert_eq!(stage.said(), ["resolve /a/new"]);
    }

    #[test]
    fn a_mount_that_takes_long_to_go_can_be_wanted_again() {
        for gone in [false, true] {
            let mut stage = TestEngine::new(&["/a"]);
            stage.want(&[]);
            assert_eq!(stage.said(), ["detach /a"]);
            stage.pass(1_000_000);
            stage.want(&["/a"]);
            stage.pass(1_000_000);
            assert_eq!(stage.said(), [""; 0], "only the end gives it up");
            stage.detached("/a", gone);
            if gone {
                assert_eq!(stage.said(), ["attach /a"]);
                stage.attached("/a", true);
            }
            stage.missing("/a/key", 1);
            assert_eq!(stage.said(), ["resolve /a/key"]);
        }
    }

    #[test]
    fn what_comes_below_a_leaving_mount_waits() {
        let mut stage = TestEngine::new(&["/a"]);
        stage.mount("/a/key", Done::default());
        stage.want(&["/a/b"]);
        stage.unmounted("/a/key", 1);
        assert_eq!(stage.said(), ["unmount /a/key", "detach /a"]);
        stage.want(&["/a/b/c"]);
        stage.detached("/a", true);
        assert_eq!(stage.said(), ["attach /a/b/c"], "the last configuration counts");
    }

    #[test]
    fn what_comes_above_a_leaving_mount_waits_so_as_not_to_cover_it() {
        let mut stage = TestEngine::new(&["/a/b"]);
        stage.mount("/a/b/key", Done::default());
        stage.want(&["/a"]);
        assert_eq!(stage.said(), ["unmount /a/b/key"]);
        stage.unmounted("/a/b/key", 1);
        assert_eq!(stage.said(), ["detach /a/b"]);
        stage.detached("/a/b", true);
        assert_eq!(stage.said(), ["attach /a"]);
    }
}
