//! `autofsctl history`: shows the requests that were answered, one of them in detail, or the events of the daemon.

use std::ffi::OsStr;
use std::path::Path;

use super::client::ClientError;
use super::exit::Exit;
use super::table::{Align, Table};
use super::{Session, absolute, names};
use crate::control::history::{Asked, DaemonEvent, Process, ProgramRun, Request, Requester};
use crate::control::{Answer, Bytes, Call, History, HistoryQuery};
use crate::sys::clock;
use crate::text::Escaped;

/// Shows what was asked for. The exit status is 1 if there is no request with that number, or none for that path.
pub(super) fn show(
    session: &Session,
    which: Option<&str>,
    failed: bool,
    since: Option<u64>,
    daemon: bool,
) -> Result<Exit, ClientError> {
    let id = which.filter(|which| !which.contains('/')).and_then(|which| u64::from_str_radix(which, 16).ok());
    let path = match which {
        Some(path) if id.is_none() => Some(absolute(Path::new(OsStr::new(path)))?),
        _ => None,
    };
    let of_path = path.is_some();
    let history = ask(session, HistoryQuery { path, id, failed, since, daemon, after: None })?;
    session.show(&history, || match (id, daemon) {
        (Some(id), _) => match history.requests.first() {
            Some(request) => details(request),
            None => format!("no request {id:x} is kept\n"),
        },
        (None, true) => events(&history.events, session.bold),
        (None, false) if history.events.is_empty() => requests(&history, session.bold),
        (None, false) => requests(&history, session.bold) + "\n" + &events(&history.events, session.bold),
    })?;
    let is_missing = (id.is_some() || of_path) && history.requests.is_empty() && history.events.is_empty();
    Ok(if is_missing { Exit::No } else { Exit::Yes })
}

/// Asks for a part of the history.
pub(super) fn ask(session: &Session, query: HistoryQuery) -> Result<History, ClientError> {
    match session.ask(Call::History(query))? {
        Answer::History(history) => Ok(history),
        _ => Err(ClientError::unexpected()),
    }
}

/// Returns the table of requests, and how many there are.
fn requests(history: &History, bold: bool) -> String {
    let mut table = Table::new([
        ("ID", Align::Left),
        ("WHEN", Align::Left),
        ("TOOK", Align::Right),
        ("PATH", Align::Left),
        ("FOR", Align::Left),
        ("WHY", Align::Left),
    ]);
    for request in &history.requests {
        table.push(row(request));
    }
    let rows = if history.requests.is_empty() { String::new() } else { table.render(bold) };
    let failed = match (history.failed, history.counted) {
        (_, 0) => "no requests".to_owned(),
        (failed, 1) => format!("{failed} of 1 request failed"),
        (failed, all) => format!("{failed} of {all} requests failed"),
    };
    let kept = match history.oldest {
        Some(oldest) => format!("; the oldest of {} kept is from {}", history.kept, moment(oldest)),
        None => String::new(),
    };
    format!("{rows}{failed}{kept}\n")
}

/// Returns the cells of a request in a table.
pub(super) fn row(request: &Request) -> [String; 6] {
    let repeated = if request.count > 1 { format!(" x{}", request.count) } else { String::new() };
    let why = match (&request.errno, request.asked) {
        (None, Asked::Mount) => format!("mounted{repeated}"),
        (None, Asked::Expire) => format!("unmounted{repeated}"),
        (Some(errno), _) => match summary(request) {
            Some(reason) => format!("{errno}{repeated}: {reason}"),
            None => format!("{errno}{repeated}"),
        },
    };
    [
        format!("{:x}", request.id),
        moment(request.at),
        duration(request.took),
        request.path.to_string(),
        process(&request.who),
        why,
    ]
}

/// Returns why a request failed: what the program has said first, or the first line of the reason.
pub(super) fn summary(request: &Request) -> Option<String> {
    let said = request.runs.last().and_then(|run| {
        run.stderr.0.split(|b| *b == b'\n').find(|line| !line.is_empty()).map(|line| Escaped(line).to_string())
    });
    said.or_else(|| Some(Escaped(request.reason.as_ref()?.lines().next()?.as_bytes()).to_string()))
}

/// Returns the name and the number of a process.
pub(super) fn process(who: &Requester) -> String {
    match (who.tgid, who.comm.as_str()) {
        (0, _) => "-".to_owned(),
        (pid, "") => format!("[{pid}]"),
        (pid, comm) => format!("{}[{pid}]", Escaped(comm.as_bytes())),
    }
}

/// Returns the name and the number of a user.
pub(super) fn user_name(uid: u32) -> String {
    match names::user(uid) {
        Some(name) => format!("{} ({uid})", Escaped(name.as_encoded_bytes())),
        None => format!("user {uid}"),
    }
}

/// Returns everything that is known of a requester, on one line.
pub(super) fn requester(who: &Requester) -> String {
    if who.tgid == 0 {
        return "the daemon: unused for longer than the timeout".to_owned();
    }
    let parent = who.parent.as_ref();
    let parent = parent.map(|Process { pid, comm }| format!(", parent {}[{pid}]", Escaped(comm.as_bytes())));
    let group = who.cgroup.as_deref().and_then(|group| group.rsplit('/').next()).filter(|group| !group.is_empty());
    let group = group.map(|group| format!(", {}", Escaped(group.as_bytes())));
    format!("{} {}{}{}", process(who), user_name(who.uid), parent.unwrap_or_default(), group.unwrap_or_default())
}

/// Returns everything about a request.
fn details(request: &Request) -> String {
    let asked = match request.asked {
        Asked::Mount => "missing",
        Asked::Expire => "expire",
    };
    let outcome = match (&request.errno, request.asked) {
        (Some(errno), _) => errno.as_str(),
        (None, Asked::Mount) => "mounted",
        (None, Asked::Expire) => "unmounted",
    };
    let took = duration(request.took);
    let mut text = format!(
        "request {:x}  {}.{:03}  {asked} {}  {outcome} after {took}\n",
        request.id,
        moment(request.at),
        request.at % 1000,
        request.path
    );
    let mut line = |name: &str, value: &str| text += &format!("  {name:<8} {value}\n");
    line("for", &requester(&request.who));
    if let Some(place) = &request.place {
        let entry = request.entry.as_ref().map(Bytes::to_string).unwrap_or_default();
        line("line", &format!("{place}  {entry}"));
    }
    line("map", &format!("{}, of {}", request.map, request.mount_point));
    if request.count > 1 {
        line("count", &format!("{}, the last at {}", request.count, moment(request.last)));
    }
    for step in &request.steps {
        text += &format!("  {:>8} {}\n", duration(step.after), Escaped(step.what.as_bytes()));
    }
    for run in &request.runs {
        text += &program(run, "           ");
    }
    if let (Some(reason), true) = (&request.reason, request.runs.is_empty()) {
        text += &format!("           {}\n", Escaped(reason.as_bytes()));
    }
    let negative = request.negative_until.map(|until| format!("; negative until {}", moment(until)));
    text += &format!(
        "  {took:>8} answered {}{}\n",
        request.errno.as_deref().unwrap_or("READY"),
        negative.unwrap_or_default()
    );
    text
}

/// Returns the lines about a program.
pub(super) fn program(run: &ProgramRun, indent: &str) -> String {
    let words: Vec<_> = run.command.iter().map(ToString::to_string).collect();
    let mut text = format!("{indent}ran {}\n{indent}{} after {}\n", words.join(" "), run.exit, duration(run.took));
    for line in run.stderr.0.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        text += &format!("{indent}| {}\n", Escaped(line));
    }
    text
}

/// Returns the table of events.
fn events(events: &[DaemonEvent], bold: bool) -> String {
    let mut table = Table::new([("WHEN", Align::Left), ("EVENT", Align::Left), ("WHAT", Align::Left)]);
    for event in events {
        let message = Escaped(event.message.as_bytes()).to_string();
        table.push([moment(event.at), event.kind.name().to_owned(), message]);
    }
    if events.is_empty() { "no events\n".to_owned() } else { table.render(bold) }
}

/// Formats a moment as the time of day, with the date if it is another day.
pub(super) fn moment(milliseconds: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (at, now) = (clock::local_time(milliseconds / 1000), clock::local_time(now));
    let (hour, minute, second) = at.time;
    let time = format!("{hour:02}:{minute:02}:{second:02}");
    if at.date == now.date { time } else { format!("{:04}-{:02}-{:02} {time}", at.date.0, at.date.1, at.date.2) }
}

/// Formats a number of microseconds: `0.2ms`, `41ms`, `6.0s`, `2m 3s`.
pub(super) fn duration(microseconds: u64) -> String {
    let tenths = |unit: u64| format!("{}.{}", microseconds / unit, microseconds % unit * 10 / unit);
    match microseconds {
        0..10_000 => tenths(1000) + "ms",
        10_000..1_000_000 => format!("{}ms", microseconds / 1000),
        1_000_000..60_000_000 => tenths(1_000_000) + "s",
        _ => super::table::duration(microseconds / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::history::Step;

    fn failed() -> Request {
        Request {
            id: 0x81c2,
            asked: Asked::Mount,
            at: 1_700_000_000_118,
            took: 41_200,
            count: 3,
            last: 1_700_000_060_000,
            path: Bytes(b"/proj/denied".to_vec()),
            mount_point: Bytes(b"/proj".to_vec()),
            map: Bytes(b"/etc/auto.proj".to_vec()),
            place: Some(Bytes(b"/etc/auto.proj:5:10".to_vec())),
            entry: Some(Bytes(b"-fstype=failfs :/filer9/denied".to_vec())),
            who: Requester {
                tgid: 2213,
                uid: 4_000_000_000,
                comm: "ls".into(),
                parent: Some(Process { pid: 2201, comm: "bash".into() }),
                cgroup: Some("/user.slice/session-4.scope".into()),
                ..Requester::default()
            },
            errno: Some("ENOENT".into()),
            reason: Some("/sbin/mount.failfs: exit status 32".into()),
            negative_until: None,
            steps: vec![Step { after: 100, what: "map /etc/auto.proj: found".into() }],
            runs: vec![ProgramRun {
                command: vec![Bytes(b"/sbin/mount.failfs".to_vec()), Bytes(b"x\x1b".to_vec())],
                exit: "exit status 32".into(),
                stderr: Bytes(b"failfs: access denied\nfailfs: check your keytab\n".to_vec()),
                took: 40_000,
            }],
        }
    }

    #[test]
    fn a_request_is_a_row_with_its_first_reason() {
        let row = row(&failed());
        assert_eq!([&*row[0], &row[2], &row[3]], ["81c2", "41ms", "/proj/denied"]);
        assert_eq!([&*row[4], &row[5]], ["ls[2213]", "ENOENT x3: failfs: access denied"]);
    }

    #[test]
    fn a_request_is_shown_with_all_that_is_known() {
        let text = details(&failed());
        let shown: Vec<&str> = text.lines().collect();
        assert!(shown[0].starts_with("request 81c2  2023-11-1") && shown[0].ends_with("ENOENT after 41ms"), "{text}");
        assert_eq!(
            shown[1], "  for      ls[2213] user 4000000000, parent bash[2201], session-4.scope",
            "a user without a name"
        );
        for line in [
            "  line     /etc/auto.proj:5:10  -fstype=failfs :/filer9/denied",
            "     0.1ms map /etc/auto.proj: found",
            "           ran /sbin/mount.failfs x\\x1b",
            "           exit status 32 after 40ms",
            "           | failfs: access denied",
            "           | failfs: check your keytab",
            "      41ms answered ENOENT",
        ] {
            assert!(shown.contains(&line), "{line}: {text}");
        }
    }

    #[test]
    fn times_have_a_unit_that_fits() {
        let shown = [0, 240, 9_999, 41_999, 6_040_000, 123_000_000].map(duration);
        assert_eq!(shown, ["0.0ms", "0.2ms", "9.9ms", "41ms", "6.0s", "2m 3s"]);
    }
}
