//! Logs failed mounts: one line for each at every level, with the reason, the requester and the line of the map. Repetitions
//! are folded.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use log::{error, info};

use crate::engine::Requester;
use crate::logging::{fields, target};
use crate::record::Record;
use crate::text::{Escaped, Position};

/// For how long the same failure of the same path is only counted, except at a log level that logs operations.
const FOLDED: Duration = Duration::from_secs(60);

/// Number of paths whose last failure is known.
const KNOWN: usize = 1024;

/// The failures that were logged last.
#[derive(Debug, Default)]
pub(crate) struct Failures(RefCell<HashMap<PathBuf, Seen>>);

#[derive(Debug)]
struct Seen {
    reason: String,
    logged: Instant,
    /// Times that it has happened since.
    more: u32,
}

/// Kind of a log line.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// It is new, or was logged a while ago and has happened so many times since.
    Now(u32),
    /// It was logged just before.
    Before,
}

impl Failures {
    fn say(&self, path: &Path, reason: &str, now: Instant) -> Said {
        let mut seen = self.0.borrow_mut();
        if let Some(seen) = seen.get_mut(path).filter(|seen| seen.reason == reason) {
            if now.saturating_duration_since(seen.logged) < FOLDED {
                seen.more = seen.more.saturating_add(1);
                return Said::Before;
            }
            seen.logged = now;
            return Said::Now(std::mem::take(&mut seen.more));
        }
        if seen.len() >= KNOWN {
            seen.clear();
        }
        seen.insert(path.to_owned(), Seen { reason: reason.to_owned(), logged: now, more: 0 });
        Said::Now(0)
    }

    /// Logs that a mount has failed. `name` is the command name of the process that has asked, `line` the place of the entry.
    pub(crate) fn log(&self, path: &Path, record: &Record, who: Requester, name: &str, line: Option<&Position>) {
        let reason = record.message.lines().next().unwrap_or_default();
        let said = self.say(path, reason, Instant::now());
        let text = sentence(path, reason, who, name, line);
        let mut all = vec![("MESSAGE_ID", fields::MOUNT_FAILED.to_owned())];
        if who.tgid != 0 {
            all.extend([("AUTOFS_PID", who.tgid.to_string()), ("AUTOFS_UID", who.uid.to_string())]);
            all.push(("AUTOFS_COMM", Escaped(name.as_bytes()).to_string()));
        }
        all.extend(line.map(|line| ("AUTOFS_LINE", line.to_string())));
        all.extend(record.errno.map(|errno| ("AUTOFS_ERRNO", errno.to_string())));
        let run = record.runs.last();
        all.extend(run.map(|run| ("AUTOFS_PROGRAM", Escaped(run.program()).to_string())));
        all.extend(run.map(|run| ("AUTOFS_EXIT", run.exit.to_string())));
        fields::with(all, || match said {
            Said::Before => info!(target: &target(path), "{text}"),
            Said::Now(0) => error!(target: &target(path), "{text}"),
            Said::Now(more) => error!(target: &target(path), "{text}; {more} times more since it was logged last"),
        });
    }
}

/// Returns the line: what failed, why, who asked for it, and the place in the map.
fn sentence(path: &Path, reason: &str, who: Requester, name: &str, line: Option<&Position>) -> String {
    let mut text = format!("failed to mount {}: {reason}", Escaped::path(path));
    // No requester: a part of a tree is being remounted.
    if who.tgid != 0 {
        text += &format!(" (for process {}, {}, of uid {})", who.tgid, Escaped(name.as_bytes()), who.uid);
    }
    if let Some(line) = line {
        text += &format!("; {line}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_with_the_first_reason_the_requester_and_the_line_of_the_map() {
        let who = Requester { uid: 1000, gid: 100, pid: 4242, tgid: 4241 };
        let line = Position::new(&Path::new("/etc/auto.home").into(), 4, 9);
        let said = sentence(Path::new("/home/a\nb"), "exit status 32: access denied", who, "ls", Some(&line));
        assert_eq!(
            said,
            "failed to mount /home/a\\x0ab: exit status 32: access denied (for process 4241, ls, of uid 1000); \
             /etc/auto.home:4:9"
        );
        assert_eq!(
            sentence(Path::new("/home/a"), "busy", Requester::default(), "", None),
            "failed to mount /home/a: busy"
        );
    }

    #[test]
    fn repetitions_are_counted_and_other_reasons_are_not() {
        let (failures, path, now) = (Failures::default(), Path::new("/home/a"), Instant::now());
        assert_eq!(failures.say(path, "x", now), Said::Now(0));
        assert_eq!(failures.say(path, "x", now), Said::Before);
        assert_eq!(failures.say(path, "x", now + FOLDED / 2), Said::Before);
        assert_eq!(failures.say(path, "x", now + FOLDED), Said::Now(2));
        assert_eq!(failures.say(path, "y", now + FOLDED), Said::Now(0));
        assert_eq!(failures.say(Path::new("/home/b"), "y", now), Said::Now(0));
    }
}
