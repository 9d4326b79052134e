//! Transitions of entries from one phase to another, for the debug log.

use std::fmt;

use super::{EntryId, EntryPhase};

/// An entry has gone from one phase to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The entry.
    pub at: EntryId,
    /// Its phase before.
    pub from: EntryPhase,
    /// Its phase now.
    pub to: EntryPhase,
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.from, self.to)
    }
}

/// The transitions since they were last taken, if they are wanted.
#[derive(Debug, Default)]
pub(super) struct Trace(Option<Vec<Transition>>);

impl Trace {
    /// Begins to note transitions, or ceases to.
    pub(super) fn set(&mut self, on: bool) {
        if on != self.0.is_some() {
            self.0 = on.then(Vec::new);
        }
    }

    /// Notes a transition. One that continues the last one of the same entry, by way of idle, is joined with it: between
    /// two jobs an entry is idle for no time.
    pub(super) fn note(&mut self, at: &EntryId, from: EntryPhase, to: EntryPhase) {
        let Some(transitions) = self.0.as_mut().filter(|_| from != to) else { return };
        if let Some(index) = transitions.iter().rposition(|last| last.at == *at && last.to == from) {
            if let Some(last) = transitions.get_mut(index).filter(|_| from == EntryPhase::Waiting) {
                last.to = to;
                if last.from == to {
                    transitions.remove(index);
                }
                return;
            }
        }
        transitions.push(Transition { at: at.clone(), from, to });
    }

    /// Takes all transitions.
    pub(super) fn take(&mut self) -> Vec<Transition> {
        self.0.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{TestEngine, reason};
    use super::super::{Done, Resolution};

    fn transitions(stage: &mut TestEngine) -> Vec<String> {
        stage.engine.take_transitions().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn transitions_are_noted_while_they_are_wanted() {
        let mut stage = TestEngine::new(&["/home"]);
        stage.mount("/home/ann", Done::default());
        assert_eq!(transitions(&mut stage), [""; 0]);
        stage.engine.trace(true);
        stage.missing("/home/joe", 1);
        stage.found("/home/joe");
        assert_eq!(transitions(&mut stage), ["idle -> resolving", "resolving -> mounting"]);
        stage.performed("/home/joe", Ok(Done::default()));
        assert_eq!(transitions(&mut stage), ["mounting -> mounted"]);
        stage.expire("/home/joe", 2);
        stage.unmounted("/home/joe", 0);
        assert_eq!(
            transitions(&mut stage),
            ["mounted -> unmounting", "unmounting -> remounting", "remounting -> mounted"]
        );
        stage.missing("/home/bob", 3);
        assert_eq!(transitions(&mut stage), ["idle -> resolving"]);
        stage.resolved("/home/bob", Resolution::Invalid(reason("no path")));
        assert_eq!(transitions(&mut stage), ["resolving -> idle"]);
    }
}
