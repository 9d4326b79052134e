//! `autofsctl monitor`: shows requests and events of the daemon as they happen: on a terminal as a table that is kept up to
//! date, elsewhere as lines.

mod screen;
mod top;

use std::io::{self, IsTerminal as _, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Session;
use super::client::ClientError;
use super::exit::Exit;
use super::history::{ask, moment, row};
use crate::control::history::{DaemonEvent, Position, Request};
use crate::control::{ControlError, History, HistoryQuery};
use crate::text::Escaped;

/// How long a daemon that does not answer is asked again: an upgrade closes the connection, and a dead worker is replaced.
const GONE: Duration = Duration::from_secs(10);

/// Pause between two attempts.
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// Version of the JSON lines.
const SCHEMA: u32 = 1;

/// Shows what happens until the user ends it, the output is closed, or the daemon has ended.
pub(super) fn run(session: &Session, lines: bool) -> Result<Exit, ClientError> {
    if !lines && !session.json && is_for_tables() {
        return top::run(session);
    }
    follow(session)
}

/// Returns whether input and output are a terminal that understands escape sequences, and they are wanted.
fn is_for_tables() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let understands = std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
    io::stdin().is_terminal() && io::stdout().is_terminal() && understands && !is_set("NO_COLOR")
}

/// Shows a line for each request and event.
fn follow(session: &Session) -> Result<Exit, ClientError> {
    let now = HistoryQuery { daemon: true, since: Some(0), ..HistoryQuery::default() };
    let mut position = ask(session, now)?.position;
    loop {
        let history = next(session, position)?;
        let text = match session.json {
            true => lines(&history).iter().map(|line| format!("{line}\n")).collect(),
            false => rows(&history),
        };
        let mut output = io::stdout().lock();
        match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Yes),
            written => written?,
        }
        position = history.position;
    }
}

/// Waits for what comes after a position.
fn next(session: &Session, after: Position) -> Result<History, ClientError> {
    let query = HistoryQuery { after: Some(after), ..HistoryQuery::default() };
    let (end, mut late) = (Instant::now() + GONE, false);
    loop {
        match ask(session, query.clone()) {
            // This process may have been stopped while the reply came.
            Err(ClientError::TimedOut(_)) if !late => late = true,
            Err(
                ClientError::NotRunning(_)
                | ClientError::Gone
                | ClientError::Io(_)
                | ClientError::Refused(ControlError::Failed { .. }),
            ) if Instant::now() < end => thread::sleep(RETRY_DELAY),
            answer => return answer,
        }
    }
}

/// A request or an event, in the order of time.
enum Happened<'a> {
    Request(&'a Request),
    Event(&'a DaemonEvent),
}

fn in_order(history: &History) -> Vec<Happened<'_>> {
    let mut all: Vec<(u64, Happened<'_>)> =
        history.requests.iter().rev().map(|request| (request.last, Happened::Request(request))).collect();
    all.extend(history.events.iter().rev().map(|event| (event.at, Happened::Event(event))));
    // Requests among themselves and events among themselves keep their order.
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, happened)| happened).collect()
}

/// Returns the JSON objects for what has happened.
fn lines(history: &History) -> Vec<Value> {
    let lost = (history.lost > 0).then(|| json!({ "schema": SCHEMA, "lost": history.lost }));
    let line = |happened: Happened<'_>| match happened {
        Happened::Request(request) => json!({ "schema": SCHEMA, "request": request }),
        Happened::Event(event) => json!({ "schema": SCHEMA, "event": event }),
    };
    lost.into_iter().chain(in_order(history).into_iter().map(line)).collect()
}

/// Returns the lines for people.
fn rows(history: &History) -> String {
    let mut text = String::new();
    if history.lost > 0 {
        text += &format!("... {} events lost\n", history.lost);
    }
    for happened in in_order(history) {
        text += &match happened {
            Happened::Request(request) => {
                let [id, when, took, path, who, why] = row(request);
                format!("{id:<5} {when}  {took:>6}  {path}  {who}  {why}\n")
            }
            Happened::Event(event) => {
                let message = Escaped(event.message.as_bytes());
                format!("{:<5} {}  {:>6}  {}: {message}\n", "-", moment(event.at), "", event.kind.name())
            }
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::history::EventKind;

    #[test]
    fn what_a_slow_reader_has_missed_is_counted() {
        let event = |at, message: &str| {
            let message = message.to_owned();
            DaemonEvent { id: at, at, kind: EventKind::Reload, message, unserved: None }
        };
        let history = History { events: vec![event(7, "later"), event(5, "first\n")], lost: 214, ..History::default() };
        let text = rows(&history);
        let shown: Vec<&str> = text.lines().collect();
        assert_eq!(shown[0], "... 214 events lost");
        assert!(shown[1].ends_with("reload: first\\x0a") && shown[2].ends_with("reload: later"), "{text}");
        let lines = lines(&history);
        assert_eq!((&lines[0]["lost"], &lines[2]["event"]["message"]), (&json!(214), &json!("later")));
    }
}
