//! Names of the processes whose requests are unanswered, for log lines and records of failures.
//!
//! A name is read in the turn in which the packet came: the process may be killed before its mount fails, and then its pid may
//! belong to another process. Most requests are answered in that turn, and cost nothing.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::sys::procfs;

/// How long a name that was read serves for the next requests of the same process. A pid is not used again so soon.
const RECENT: Duration = Duration::from_millis(2);

/// The names by the pid (thread group) of each process.
#[derive(Debug, Default)]
pub(crate) struct ProcessNames {
    waiting: RefCell<HashMap<u32, Waiting>>,
    /// The process whose name was read last, and when.
    recent: RefCell<Option<(u32, Instant, Rc<str>)>>,
}

#[derive(Debug)]
struct Waiting {
    name: Rc<str>,
    /// Number of requests for which the name is kept.
    requests: u32,
}

impl ProcessNames {
    /// Reads the name of a process that waits for an answer, and keeps it until [`end`](Self::end). A process may wait for
    /// several answers, in its threads.
    pub(crate) fn begin(&self, pid: u32) {
        let mut names = self.waiting.borrow_mut();
        let waiting = names.entry(pid).or_insert_with(|| Waiting { name: self.read(pid), requests: 0 });
        waiting.requests += 1;
    }

    /// Drops the name of a process with the answer to its last request.
    pub(crate) fn end(&self, pid: u32) {
        let mut names = self.waiting.borrow_mut();
        if let Some(waiting) = names.get_mut(&pid) {
            waiting.requests -= 1;
            if waiting.requests == 0 {
                names.remove(&pid);
            }
        }
    }

    /// Drops all names.
    pub(crate) fn clear(&self) {
        self.waiting.borrow_mut().clear();
    }

    /// Returns the name of a process. During the first turn of a request it is read now, or was read shortly before. It is empty if
    /// the process is gone.
    pub(crate) fn get(&self, pid: u32) -> Rc<str> {
        let kept = self.waiting.borrow().get(&pid).map(|waiting| Rc::clone(&waiting.name));
        kept.unwrap_or_else(|| self.read(pid))
    }

    fn read(&self, pid: u32) -> Rc<str> {
        let mut recent = self.recent.borrow_mut();
        if let Some((_, _, name)) = recent.as_ref().filter(|(last, at, _)| *last == pid && at.elapsed() < RECENT) {
            return Rc::clone(name);
        }
        let name: Rc<str> = i32::try_from(pid).map(procfs::name).unwrap_or_default().into();
        *recent = Some((pid, Instant::now(), Rc::clone(&name)));
        name
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_name_of_a_process_is_kept_until_its_last_answer() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let (names, pid) = (ProcessNames::default(), child.id());
        names.begin(pid);
        names.begin(pid);
        let kept = names.get(pid);
        child.kill().unwrap();
        child.wait().unwrap();
        names.end(pid);
        assert_eq!(names.get(pid), kept, "one request is unanswered");
        assert!(!kept.is_empty());
        names.end(pid);
        std::thread::sleep(RECENT);
        assert_eq!(&*names.get(pid), "", "the process is gone");
        names.end(pid);
    }
}
