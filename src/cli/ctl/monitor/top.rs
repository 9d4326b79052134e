//! The table of `autofsctl monitor` on a terminal, kept up to date.

use std::time::{Duration, Instant};

use super::super::Session;
use super::super::client::{self, ClientError};
use super::super::exit::Exit;
use super::screen::{self, Seen};
use crate::control::history::Position;
use crate::control::{Activity, Answer, Call, History, HistoryQuery, Metrics, Status};
use crate::sys::terminal::{Input, Screen, size};

/// How often the daemon is asked, and how often the screen is drawn at most, in milliseconds.
const TURN: u16 = 500;

/// How long an answer may take. Keys are not seen in this time.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(800);

/// How long the mount points stay as they are shown if no request was answered.
const FRESH: Duration = Duration::from_secs(5);

/// How many failures are kept to be shown.
const FAILURES: usize = 100;

/// Ctrl-C.
const INTERRUPT: u8 = 3;

/// Shows the table until the user ends it.
pub(super) fn run(session: &Session) -> Result<Exit, ClientError> {
    let mut watched = Watched::new(session)?;
    let screen = Screen::enter()?;
    let mut shown = (None, Vec::new());
    loop {
        watched.look();
        let room = size();
        let (columns, rows) = room.unwrap_or((80, 24));
        let lines = screen::lines(&watched.seen, columns, rows, session.bold);
        if shown != (room, lines.clone()) {
            screen.draw(&lines).map_err(ClientError::Output)?;
            shown = (room, lines);
        }
        if ends(&screen)? {
            return Ok(Exit::Yes);
        }
    }
}

/// Waits for the next turn. Returns whether the user wants to end.
fn ends(screen: &Screen) -> Result<bool, ClientError> {
    let end = Instant::now() + Duration::from_millis(u64::from(TURN));
    loop {
        let left = end.saturating_duration_since(Instant::now()).as_millis();
        match screen.wait(u16::try_from(left).unwrap_or(TURN))? {
            Input::Key(b'q' | b'Q' | INTERRUPT) | Input::End => return Ok(true),
            Input::Key(_) | Input::Nothing if left > 0 => {}
            Input::Key(_) | Input::Nothing => return Ok(false),
        }
    }
}

/// State of the daemon, and the connection that updates it.
struct Watched<'a> {
    session: &'a Session,
    seen: Seen,
    position: Position,
    asked: Instant,
}

impl<'a> Watched<'a> {
    /// Asks for everything for the first time.
    fn new(session: &'a Session) -> Result<Self, ClientError> {
        let mut watched = Self { session, seen: Seen::default(), position: Position::default(), asked: Instant::now() };
        let failed = watched.history(HistoryQuery { failed: true, ..HistoryQuery::default() })?;
        watched.position = failed.position;
        watched.seen.failures = failed.requests;
        watched.seen.failures.truncate(FAILURES);
        watched.points()?;
        Ok(watched)
    }

    /// Asks what has happened since. A daemon that does not answer is shown as such.
    fn look(&mut self) {
        self.seen.trouble = self.news().err().map(|error| error.to_string());
    }

    fn news(&mut self) -> Result<(), ClientError> {
        let Answer::Activity(activity) = self.ask(Call::Activity)? else { return Err(ClientError::unexpected()) };
        let is_idle = activity == Activity::default() && self.seen.activity == activity;
        self.seen.activity = activity;
        let now = self.history(HistoryQuery { since: Some(0), ..HistoryQuery::default() })?.position;
        let has_news = now != self.position;
        if has_news {
            let after = HistoryQuery { after: Some(self.position), ..HistoryQuery::default() };
            let news = self.history(after)?;
            self.position = news.position;
            let failed = news.requests.into_iter().filter(crate::control::history::Request::is_failure);
            self.seen.add_failures(failed.collect(), FAILURES);
            self.seen.lost += news.lost;
        }
        if has_news || !is_idle || self.asked.elapsed() > FRESH {
            self.points()?;
        }
        Ok(())
    }

    /// Asks for the mount points and their counters.
    fn points(&mut self) -> Result<(), ClientError> {
        self.asked = Instant::now();
        let status: Status = match self.ask(Call::Status)? {
            Answer::Status(status) => status,
            _ => return Err(ClientError::unexpected()),
        };
        let metrics: Metrics = match self.ask(Call::Metrics)? {
            Answer::Metrics(metrics) => metrics,
            _ => return Err(ClientError::unexpected()),
        };
        (self.seen.status, self.seen.metrics) = (Some(status), metrics);
        Ok(())
    }

    fn history(&self, query: HistoryQuery) -> Result<History, ClientError> {
        match self.ask(Call::History(query))? {
            Answer::History(history) => Ok(history),
            _ => Err(ClientError::unexpected()),
        }
    }

    fn ask(&self, call: Call) -> Result<Answer, ClientError> {
        client::ask(&self.session.socket, call, ANSWER_TIMEOUT)
    }
}
