//! `autofsctl status PATH`: shows what is known of one path, and who uses what is mounted there.

use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use super::client::ClientError;
use super::exit::Exit;
use super::history::{program, requester, user_name};
use super::table::duration;
use super::{Session, elsewhere};
use crate::control::{Answer, Bytes, Call, PathState, PathStatus};
use crate::sys::mount_users::{self, Use, User, Users};
use crate::sys::user;
use crate::text::Escaped;

/// How long the search for users may take.
const FIND_WITHIN: Duration = Duration::from_secs(5);

/// How many users are named in an error.
const NAMED: usize = 3;

/// A process that uses the mount, for JSON.
#[derive(Debug, Serialize)]
pub(super) struct Used {
    pid: i32,
    comm: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    /// `cwd`, `root`, `exe`, `fd 5`, `mmap` or `mount namespace 4026532801`.
    by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<Bytes>,
}

#[derive(Debug, Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    status: &'a PathStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    users: Option<Vec<Used>>,
    /// How many processes could not be looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    users_hidden: Option<usize>,
}

/// Shows the entry at or above `path`. The exit status is 0 if it is mounted by the daemon and can be reached.
pub(super) fn show(session: &Session, path: &Bytes, with_users: bool) -> Result<Exit, ClientError> {
    let mut status = match session.ask(Call::StatusOf { path: path.clone() })? {
        Answer::PathStatus(status) => status,
        _ => return Err(ClientError::unexpected()),
    };
    let is_mounted = matches!(status.state, PathState::Mounted | PathState::Unmounting);
    let is_visible = is_mounted && status.what.as_ref().is_some_and(|what| what[0].0 != b"symlink");
    if is_visible && status.foreign.is_none() && status.unreachable.is_none() {
        status.unreachable = elsewhere::unreachable(session, &status.mount_point, &status.path);
    }
    let users = (is_mounted && with_users).then(|| find_users(&status.path)).transpose()?;
    let shown = Shown {
        status: &status,
        users: users.as_ref().map(|users| users.users.iter().map(used).collect()),
        users_hidden: users.as_ref().map(|users| users.hidden).filter(|hidden| *hidden > 0),
    };
    session.show(&shown, || text(&status, users.as_ref()))?;
    let is_ours = status.foreign.is_none();
    Ok(if is_mounted && is_ours && status.unreachable.is_none() { Exit::Yes } else { Exit::No })
}

fn used(user: &User) -> Used {
    let path = user.shown_path().map(|path| Bytes::from(&*path));
    Used { pid: user.pid, comm: user.name.clone(), uid: user.uid, by: by(user), path }
}

fn by(user: &User) -> String {
    match user.by {
        Use::Cwd => "cwd".to_owned(),
        Use::Root => "root".to_owned(),
        Use::Program => "exe".to_owned(),
        Use::Descriptor(number) => format!("fd {number}"),
        Use::Mapping => "mmap".to_owned(),
        Use::Namespace(number) => format!("mount namespace {number}"),
    }
}

/// Returns the name, the number and the use of a process.
fn name(user: &User) -> String {
    format!("{}[{}]", Escaped(user.name.as_bytes()), user.pid)
}

/// Finds the users of what is mounted at a path, in a thread: a process that waits for a file system may keep who looks at it waiting.
fn find_users(path: &Bytes) -> io::Result<Users> {
    let (send, receive) = mpsc::channel();
    let path = path.as_path().to_owned();
    // Fails if the deadline has passed.
    thread::Builder::new().spawn(move || drop(send.send(mount_users::users(&path))))?;
    receive.recv_timeout(FIND_WITHIN).unwrap_or_else(|_| {
        let text =
            "a process that uses the mount, or may use it, cannot be looked at: it takes too long; try --no-users";
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    })
}

/// A path with its users, for an answer that it is in use.
#[derive(Debug, Serialize)]
pub(super) struct Busy {
    path: Bytes,
    users: Vec<Used>,
    #[serde(skip)]
    found: Vec<User>,
}

/// Finds the users of what is mounted at or above a path. Returns `None` if none was found.
pub(super) fn busy(session: &Session, path: &Bytes) -> Option<Busy> {
    let Ok(Answer::PathStatus(status)) = session.ask(Call::StatusOf { path: path.clone() }) else { return None };
    let found = find_users(&status.path).ok()?.users;
    let users = found.iter().map(used).collect();
    (!found.is_empty()).then_some(Busy { path: status.path, users, found })
}

impl Busy {
    /// Returns the users for JSON.
    pub(super) fn users(&self) -> &[Used] {
        &self.users
    }

    /// Returns a sentence with the first users.
    pub(super) fn text(&self) -> String {
        let named = |user: &User| match user.by {
            Use::Namespace(_) => format!("a copy in the mount namespace of {}", name(user)),
            _ => format!("{} of {} ({})", name(user), user.uid.map_or("?".to_owned(), user_name), by(user)),
        };
        let shown: Vec<_> = self.found.iter().take(NAMED).map(named).collect();
        let more = self.found.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{} is in use by {}{more}", self.path, shown.join(", "))
    }
}

fn text(status: &PathStatus, users: Option<&Users>) -> String {
    // It has asked for the mount of the daemon.
    let request = status.request.as_ref().filter(|_| status.foreign.is_none());
    let seconds = |time: Option<u64>| duration(time.unwrap_or_default());
    let ago = request.map(|request| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        format!(" {} ago", duration(now.saturating_sub(request.last / 1000)))
    });
    let times = request.filter(|request| request.count > 1).map(|request| format!(" ({} times)", request.count));
    let head = match status.state {
        PathState::Mounted if status.foreign.is_some() => "not what the daemon would mount".to_owned(),
        PathState::Mounted => format!("mounted for {}", seconds(status.mounted_for)),
        PathState::Mounting => format!("being mounted; {} wait", status.waiting),
        PathState::Unmounting => "being unmounted".to_owned(),
        PathState::Failed => format!("failed{}{}", ago.as_deref().unwrap_or_default(), times.unwrap_or_default()),
        PathState::Idle => "not mounted; an access asks the map".to_owned(),
        PathState::Blocked => "not mounted; an access fails".to_owned(),
        PathState::Hidden => "not mounted; an access does not ask the map".to_owned(),
    };
    let mut text = format!("{}  {head}\n", status.path);
    let mut line = |name: &str, value: &str| text += &format!("  {name:<8} {value}\n");
    if let Some(why) = &status.unreachable {
        line("here", &Escaped(why.as_bytes()).to_string());
    }
    if let Some(seconds) = status.negative_for {
        let errno = request.and_then(|request| request.errno.as_deref()).unwrap_or("ENOENT");
        line("answers", &format!("{errno} for {} more (negative cache)", duration(seconds)));
    }
    if let Some(what) = &status.what {
        let words: Vec<_> = what.iter().filter(|word| !word.0.is_empty()).map(ToString::to_string).collect();
        line("what", &words.join(" "));
    }
    if let Some(foreign) = status.foreign {
        line("", foreign.text());
    }
    if let Some(request) = request {
        let has_mounted = status.state == PathState::Mounted && request.errno.is_none();
        line(if has_mounted { "for" } else { "asked by" }, &requester(&request.who));
        if let (PathState::Mounted, Some(errno)) = (status.state, &request.errno) {
            let ago = ago.as_deref().unwrap_or_default();
            line(
                "failed",
                &format!("with {errno}{ago}: {}", Escaped(request.reason.as_deref().unwrap_or_default().as_bytes())),
            );
        }
        if let Some(place) = &request.place {
            line("line", &format!("{place}  {}", request.entry.as_ref().map(Bytes::to_string).unwrap_or_default()));
        }
    }
    let maps: Vec<_> = status.maps.iter().map(ToString::to_string).collect();
    line("map", &format!("{}, of {}", maps.join(" "), status.mount_point));
    if status.state == PathState::Mounted && status.foreign.is_none() {
        match status.timeout {
            0 => line("expires", "never"),
            seconds => line("expires", &format!("{} after its last use", duration(seconds))),
        }
    }
    let runs = request.map(|request| request.runs.as_slice()).unwrap_or_default();
    let asked = request.and_then(|request| request.reason.as_ref()).filter(|_| status.state == PathState::Failed);
    if let (Some(reason), true) = (
        status.reason.as_ref().or(asked),
        runs.is_empty() || matches!(status.state, PathState::Mounted | PathState::Unmounting),
    ) {
        line("why", &Escaped(reason.as_bytes()).to_string());
    }
    if let Some(request) = request.filter(|request| request.errno.is_some()) {
        text += &runs.iter().map(|run| program(run, "           ")).collect::<String>();
        text += &format!("  {:<8} autofsctl history {:x}\n", "more", request.id);
    }
    text + &users.map(in_use).unwrap_or_default()
}

/// Returns the lines about users.
fn in_use(users: &Users) -> String {
    let mut text = String::new();
    for (n, user) in users.users.iter().enumerate() {
        let title = if n == 0 { "in use" } else { "" };
        let path = user.shown_path().map(|path| format!(" {}", Escaped::path(&path))).unwrap_or_default();
        let line = match user.by {
            Use::Namespace(number) => format!("mount namespace {number} of {}: a copy of the mount", name(user)),
            _ => format!("{}  {}  {}{path}", name(user), user.uid.map_or("?".to_owned(), user_name), by(user)),
        };
        text += &format!("  {title:<8} {line}\n");
    }
    if users.users.is_empty() {
        text += "  in use   by no process that is visible\n";
    }
    if users.hidden > 0 {
        let plural = if users.hidden == 1 { "" } else { "es" };
        let cure = if user::effective_uid() == 0 { "" } else { ": run as root" };
        text += &format!("  ({} process{plural} could not be looked at{cure})\n", users.hidden);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: PathState) -> PathStatus {
        PathStatus {
            path: Bytes(b"/home/alice".to_vec()),
            mount_point: Bytes(b"/home".to_vec()),
            maps: vec![Bytes(b"file:/etc/auto.home".to_vec())],
            state,
            mounted_for: Some(7980),
            waiting: 0,
            negative_for: None,
            timeout: 300,
            what: Some([Bytes(b"bind".to_vec()), Bytes(b"/srv/home/alice".to_vec()), Bytes::default()]),
            foreign: None,
            unreachable: None,
            reason: None,
            request: None,
        }
    }

    #[test]
    fn a_mounted_path_is_shown_with_its_users() {
        let user = |pid, by, path: Option<&str>| User {
            pid,
            name: "editor".into(),
            uid: Some(4_000_000_000),
            by,
            path: path.map(Into::into),
        };
        let users = vec![
            user(7, Use::Cwd, Some("/home/alice")),
            user(8, Use::Descriptor(9), Some("/home/alice/f (deleted)")),
            user(9, Use::Namespace(4_026_532_801), None),
        ];
        let text = text(&status(PathState::Mounted), Some(&Users { users, hidden: 2 }));
        assert_eq!(
            text.replace(": run as root)", ")"),
            "/home/alice  mounted for 2h 13m\n\
             \x20 what     bind /srv/home/alice\n\
             \x20 map      file:/etc/auto.home, of /home\n\
             \x20 expires  5m after its last use\n\
             \x20 in use   editor[7]  user 4000000000  cwd /home/alice\n\
             \x20          editor[8]  user 4000000000  fd 9 /home/alice/f\n\
             \x20          mount namespace 4026532801 of editor[9]: a copy of the mount\n\
             \x20 (2 processes could not be looked at)\n"
        );
    }

    #[test]
    fn a_failed_path_says_for_how_long() {
        let failed = PathStatus {
            negative_for: Some(48),
            what: None,
            reason: Some("no server".into()),
            ..status(PathState::Failed)
        };
        assert_eq!(
            text(&failed, None),
            "/home/alice  failed\n\
             \x20 answers  ENOENT for 48s more (negative cache)\n\
             \x20 map      file:/etc/auto.home, of /home\n\
             \x20 why      no server\n"
        );
    }
}
