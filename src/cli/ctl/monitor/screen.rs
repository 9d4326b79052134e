//! Lines of `autofsctl monitor` that fit into a terminal.

use super::super::history::{duration, process, row};
use super::super::output;
use super::super::table::{self, Align, Table};
use crate::control::history::{Request, Requester};
use crate::control::{Activity, InFlight, Metrics, MountKind, Status};

/// State of the daemon.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) status: Option<Status>,
    pub(super) activity: Activity,
    pub(super) metrics: Metrics,
    /// The last requests that failed, the newest first.
    pub(super) failures: Vec<Request>,
    /// Requests and events that were not seen, because too much has happened.
    pub(super) lost: u64,
    /// Why the daemon does not answer.
    pub(super) trouble: Option<String>,
}

impl Seen {
    /// Adds failures that are newer than those that are there; keeps at most so many. A request that has failed again replaces
    /// itself.
    pub(super) fn add_failures(&mut self, mut newer: Vec<Request>, most: usize) {
        self.failures.retain(|known| newer.iter().all(|request| request.id != known.id));
        newer.append(&mut self.failures);
        newer.truncate(most);
        self.failures = newer;
    }
}

/// Returns at most `rows` lines of at most `columns` columns.
pub(super) fn lines(seen: &Seen, columns: usize, rows: usize, bold: bool) -> Vec<String> {
    let mut sections = [in_flight(seen), points(seen), failures(seen)];
    // The heading, the last line, and a blank line before each section.
    let mut room = rows.saturating_sub(2 + sections.len());
    let mut lines = vec![heading(seen)];
    let count = sections.len();
    for (n, section) in sections.iter_mut().enumerate() {
        // Lines that a section does not need are left to the next ones.
        let share = room / (count - n);
        if section.len() > share {
            let hidden = section.len() - share.saturating_sub(1);
            section.truncate(share.saturating_sub(1));
            section.push(format!("... {hidden} more"));
        }
        room = room.saturating_sub(section.len());
        lines.push(String::new());
        lines.append(section);
    }
    lines.truncate(rows.saturating_sub(1));
    lines.resize(rows.saturating_sub(1), String::new());
    lines.push("q: quit".to_owned());
    let fit = |line: String| {
        let is_heading = bold && line.trim_start().starts_with(|c: char| c.is_ascii_uppercase());
        let line = output::cut(&line, columns).to_owned();
        if is_heading { format!("\x1b[1m{line}\x1b[0m") } else { line }
    };
    lines.into_iter().map(fit).collect()
}

fn heading(seen: &Seen) -> String {
    let lost = if seen.lost > 0 { format!("  {} requests not seen", seen.lost) } else { String::new() };
    if let Some(trouble) = &seen.trouble {
        return format!("{trouble}{lost}");
    }
    let Some(status) = &seen.status else { return String::new() };
    let sum = |count: fn(&crate::control::MountPoint) -> u32| -> u64 {
        status.mount_points.iter().map(|point| u64::from(count(point))).sum()
    };
    let busy: String = [
        (seen.activity.attaching, "mount points being mounted"),
        (seen.activity.detaching, "mount points being unmounted"),
    ]
    .iter()
    .filter(|(n, _)| *n > 0)
    .map(|(n, what)| format!("  {n} {what}"))
    .collect();
    format!(
        "automount {}  pid {}  up {}  {} mounted  {} waiting  {} failing{busy}{lost}",
        status.version,
        status.pid,
        table::duration(status.uptime),
        sum(|point| point.mounted),
        seen.activity.requests.len() as u64 + seen.activity.more,
        sum(|point| point.failing),
    )
}

fn in_flight(seen: &Seen) -> Vec<String> {
    let mut table = Table::new([("AGE", Align::Right), ("IN FLIGHT", Align::Left), ("FOR", Align::Left)]);
    let Activity { requests, more, .. } = &seen.activity;
    for InFlight { path, age, pid, uid, comm, .. } in requests {
        let who = Requester { tgid: *pid, uid: *uid, comm: comm.clone(), ..Requester::default() };
        table.push([duration(age.saturating_mul(1000)), path.to_string(), format!("{} user {uid}", process(&who))]);
    }
    let mut lines = rows_of(&table.render(false));
    if *more > 0 {
        lines.push(format!("... {more} more"));
    }
    if requests.is_empty() {
        lines.push("no request".to_owned());
    }
    lines
}

fn points(seen: &Seen) -> Vec<String> {
    let mut table = Table::new([
        ("MOUNT", Align::Left),
        ("MOUNTED", Align::Right),
        ("WAITING", Align::Right),
        ("FAILING", Align::Right),
        ("SERVED", Align::Right),
        ("FAILED", Align::Right),
        ("EXPIRED", Align::Right),
    ]);
    for point in seen.status.iter().flat_map(|status| &status.mount_points) {
        let counters = seen.metrics.mounts.iter().find(|counters| counters.mount_point == point.path);
        let counted = |count: fn(&crate::control::MountCounters) -> u64| counters.map_or(0, count).to_string();
        table.push([
            if point.kind == MountKind::Submount { format!("  {}", point.path) } else { point.path.to_string() },
            point.mounted.to_string(),
            point.waiting.to_string(),
            point.failing.to_string(),
            counted(|counters| counters.mounted),
            counted(|counters| counters.failed),
            counted(|counters| counters.expired),
        ]);
    }
    rows_of(&table.render(false))
}

fn failures(seen: &Seen) -> Vec<String> {
    let mut table =
        Table::new([("LAST FAILURES", Align::Left), ("PATH", Align::Left), ("FOR", Align::Left), ("WHY", Align::Left)]);
    for request in &seen.failures {
        let [_, when, _, path, who, why] = row(request);
        table.push([when, path, who, why]);
    }
    let mut lines = rows_of(&table.render(false));
    if seen.failures.is_empty() {
        lines.push("none".to_owned());
    }
    lines
}

fn rows_of(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::history::Asked;
    use crate::control::{Bytes, Level, MountCounters, MountPoint};

    fn bytes(text: &str) -> Bytes {
        text.as_bytes().into()
    }

    fn failed(id: u64, path: &str) -> Request {
        Request {
            id,
            asked: Asked::Mount,
            at: 0,
            took: 41_000,
            count: 1,
            last: 0,
            path: bytes(path),
            mount_point: bytes("/proj"),
            map: bytes("/etc/auto.proj"),
            place: None,
            entry: None,
            who: Requester { tgid: 7, comm: "ls".into(), ..Requester::default() },
            errno: Some("ENOENT".into()),
            reason: Some("no map has this key".into()),
            negative_until: None,
            steps: Vec::new(),
            runs: Vec::new(),
        }
    }

    fn seen() -> Seen {
        let point = |path: &str| MountPoint {
            path: bytes(path),
            kind: MountKind::Indirect,
            maps: Vec::new(),
            timeout: 300,
            mounted: 31,
            total: None,
            waiting: 1,
            failing: 2,
            log_level: Level::Basic,
            stale: None,
            served: true,
        };
        let status = Status {
            version: "0.2.0".into(),
            pid: 245,
            uptime: 42,
            since: 0,
            deaths: 0,
            last_death: None,
            reloaded: 0,
            restores: 0,
            rest: None,
            mount_points: vec![point("/home"), point("/proj")],
            blocks: Vec::new(),
            problems: Vec::new(),
            without_effect: Vec::new(),
        };
        let request = InFlight {
            path: bytes("/proj/slow"),
            mount_point: bytes("/proj"),
            age: 1200,
            pid: 2290,
            uid: 1000,
            comm: "bash".into(),
        };
        let counters = MountCounters { mount_point: bytes("/home"), mounted: 311, ..MountCounters::default() };
        Seen {
            status: Some(status),
            activity: Activity { requests: vec![request], ..Activity::default() },
            metrics: Metrics { mounts: vec![counters], ..Metrics::default() },
            failures: vec![failed(1, "/proj/denied")],
            ..Seen::default()
        }
    }

    #[test]
    fn a_screen_has_what_is_in_flight_the_mount_points_and_the_failures() {
        let lines = lines(&seen(), 80, 24, false);
        assert_eq!(lines.len(), 24);
        assert_eq!(lines[0], "automount 0.2.0  pid 245  up 42s  62 mounted  1 waiting  4 failing");
        assert_eq!(lines[2..4], [" AGE  IN FLIGHT   FOR", "1.2s  /proj/slow  bash[2290] user 1000"]);
        assert_eq!(lines[6], "/home       31        1        2     311       0        0");
        assert!(lines[10].ends_with("/proj/denied  ls[7]  ENOENT: no map has this key"), "{lines:#?}");
        assert_eq!(lines[23], "q: quit");
    }

    #[test]
    fn a_screen_fits_into_small_terminals() {
        for (columns, rows) in [(20, 10), (40, 5), (10, 3), (1, 1)] {
            let mut seen = seen();
            seen.failures = (0..50).map(|id| failed(id, "/proj/a/long/path/that/is/cut")).collect();
            let lines = lines(&seen, columns, rows, false);
            assert_eq!(lines.len(), rows, "{columns} {rows}: {lines:#?}");
            assert!(lines.iter().all(|line| line.len() <= columns), "{lines:#?}");
        }
        let mut seen = seen();
        seen.failures = (0..50).map(|id| failed(id, "/x")).collect();
        assert!(lines(&seen, 80, 24, false).iter().any(|line| line.starts_with("... ") && line.ends_with(" more")));
    }

    #[test]
    fn a_daemon_that_does_not_answer_is_shown_as_such() {
        let mut seen = seen();
        seen.trouble = Some("no reply from the daemon within 0 s".into());
        let lines = lines(&seen, 80, 24, true);
        assert!(lines[0].starts_with("no reply"), "{lines:#?}");
        assert!(lines[5].starts_with("\x1b[1mMOUNT") && lines[5].ends_with("\x1b[0m"), "{lines:#?}");
    }

    #[test]
    fn a_failure_that_repeats_stands_there_once() {
        let mut seen = seen();
        seen.add_failures(vec![failed(2, "/b"), failed(1, "/proj/denied")], 2);
        assert_eq!(seen.failures.iter().map(|request| request.id).collect::<Vec<_>>(), [2, 1]);
    }
}
