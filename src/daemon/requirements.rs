//! Reaches the paths that an entry requires before the entry is mounted.
//!
//! A process outside of our process group opens each path: it triggers automounts as users do, those of this daemon included.
//! Entries that wait for one another in a circle are found before they do; symbolic links can hide a circle, which then ends
//! at the deadline.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use log::debug;
use tokio::sync::watch;

use crate::exec;
use crate::logging::target;
use crate::plan::Plan;
use crate::record::{Exit, Record};
use crate::sys::process::Program;
use crate::text::Escaped;

/// The entries that wait for required paths. Clones are views of the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Requirements(Rc<RefCell<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// Paths that the waiting entries require, by the path of the entry.
    waiting: HashMap<PathBuf, Vec<PathBuf>>,
    /// The ways that are being walked, each once for all who wait for it.
    walks: HashMap<PathBuf, watch::Receiver<Option<Reached>>>,
}

/// Whether a path was reached, or why not.
type Reached = Result<(), String>;

impl Requirements {
    /// Reaches all paths that a plan requires, in their order. Each may take so long, and a process that has not ended then may
    /// take the second time to end.
    ///
    /// # Errors
    /// Returns which path was not reached, and why.
    pub(crate) async fn meet(&self, plan: &Plan, limits: (Duration, Duration)) -> Result<(), Record> {
        if plan.requires.is_empty() {
            return Ok(());
        }
        let begun = Instant::now();
        let _waiting = self.begin(plan).map_err(Record::new)?;
        for path in &plan.requires {
            debug!(target: &target(&plan.at), "{} requires {}", Escaped::path(&plan.at), Escaped::path(path));
            self.reach(path, limits).await.map_err(|why| {
                let (at, path) = (Escaped::path(&plan.at), Escaped::path(path));
                Record::new(format!("{at} requires {path}, which failed: {why}")).lasting(begun.elapsed())
            })?;
        }
        Ok(())
    }

    /// Notes that an entry waits, until the guard is dropped.
    fn begin(&self, plan: &Plan) -> Result<Waiting, String> {
        let mut known = self.0.borrow_mut();
        if let Some(circle) = known.circle(&plan.at, &plan.requires) {
            let circle: Vec<String> = circle.iter().map(|path| Escaped::path(path).to_string()).collect();
            return Err(format!("entries require one another in a circle: {}", circle.join(" requires ")));
        }
        known.waiting.insert(plan.at.clone(), plan.requires.clone());
        Ok(Waiting { all: self.clone(), at: plan.at.clone() })
    }

    /// Reaches one path. All who ask at the same time get the same answer.
    async fn reach(&self, path: &Path, limits: (Duration, Duration)) -> Reached {
        let under_way = self.0.borrow().walks.get(path).cloned();
        if let Some(mut under_way) = under_way {
            // An error: who walked has given up.
            let reached = under_way.wait_for(Option::is_some).await.ok().and_then(|reached| reached.clone());
            return reached.unwrap_or_else(|| Err("the way to it was given up".to_owned()));
        }
        let (tell, told) = watch::channel(None);
        self.0.borrow_mut().walks.insert(path.to_owned(), told);
        let reached = walk(path, limits).await;
        self.0.borrow_mut().walks.remove(path);
        tell.send_replace(Some(reached.clone()));
        reached
    }
}

impl Known {
    /// Returns the circle that arises if the entry at `at` waits for these paths: the paths that it leads through.
    fn circle(&self, at: &Path, requires: &[PathBuf]) -> Option<Vec<PathBuf>> {
        let mut open: Vec<Vec<PathBuf>> = requires.iter().map(|path| vec![at.to_owned(), path.clone()]).collect();
        let mut seen: Vec<&Path> = Vec::new();
        while let Some(way) = open.pop() {
            let last = way.last()?;
            if last.starts_with(at) {
                return Some(way);
            }
            for (entry, next) in self.waiting.iter().filter(|(entry, _)| last.starts_with(entry)) {
                if seen.contains(&&**entry) {
                    continue;
                }
                seen.push(entry);
                open.extend(next.iter().map(|path| [way.as_slice(), std::slice::from_ref(path)].concat()));
            }
        }
        None
    }
}

/// An entry waits for what it requires.
struct Waiting {
    all: Requirements,
    at: PathBuf,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.all.0.borrow_mut().waiting.remove(&self.at);
    }
}

/// Opens a path in a process outside our group: for the group, automounts are bare directories.
async fn walk(path: &Path, (deadline, grace): (Duration, Duration)) -> Reached {
    let program = Program::new(Path::new("/proc/self/exe"), deadline, grace).outside().bound();
    let ended = program.arg(exec::WALK).arg(path).run().await.map_err(|e| format!("no process to reach it: {e}"))?;
    match ended.exit {
        Exit::Status(0) => Ok(()),
        Exit::Deadline => Err(format!("it was not there within {} s", deadline.as_secs())),
        exit => Err(ended.lines().next().map_or_else(|| exit.to_string(), |line| Escaped(line).to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(at: &str, requires: &[&str]) -> Plan {
        let requires = requires.iter().map(PathBuf::from).collect();
        Plan {
            at: at.into(),
            action: crate::plan::Action::Nothing,
            offsets: Vec::new(),
            strict: false,
            timeout: None,
            requires,
        }
    }

    #[test]
    fn a_circle_is_found_by_the_entry_that_closes_it() {
        let all = Requirements::default();
        let begin = |at, requires: &[&str]| all.begin(&plan(at, requires));
        let a = begin("/m/a", &["/m/b/x", "/other"]).map_err(drop).unwrap();
        let b = begin("/m/b", &["/m/c"]).map_err(drop).unwrap();
        let circle = "entries require one another in a circle: /m/c requires /m/a requires /m/b/x requires /m/c";
        assert_eq!(begin("/m/c", &["/m/a"]).err().as_deref(), Some(circle));
        assert!(begin("/m/d", &["/m/a"]).is_ok(), "it may wait for others");
        drop(b);
        assert!(begin("/m/c", &["/m/a"]).is_ok(), "an entry that has ended waits for none");
        drop(a);
        assert!(all.0.borrow().waiting.is_empty());
    }
}
