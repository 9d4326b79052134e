//! `autofsctl expire`, `flush`, `block`, `unblock`, `log-level` and `wait`: each says what it has done.

use std::io;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::client::ClientError;
use super::exit::Exit;
use super::{Session, absolute, path};
use crate::control::{
    Answer, Block, Blocked, Bytes, Call, Expire, Expired, Explain, Flush, Flushed, Kept, LogLevelSet, SILENT,
    SetLogLevel,
};
use crate::sys::path::access;
use crate::sys::{children, clock};
use crate::text::Escaped;

/// Interval between two questions to the daemon whether the file system answers that is accessed.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// The exit status of an access whose error has no errno.
const EIO: u8 = 5;

/// Maximum number of paths that are named in one line.
const NAMED: usize = 3;

/// Result of an expiry, with the processes that use the mounts that remain.
/// Entries in use at most whose users are looked for: each takes a walk through /proc.
const EXAMINED: usize = 10;

#[derive(Debug, Serialize)]
struct Shown<'a> {
    unmounted: &'a [Bytes],
    in_use: Vec<InUse<'a>>,
    #[serde(flatten)]
    busy: Option<&'a path::Busy>,
}

#[derive(Debug, Serialize)]
struct InUse<'a> {
    #[serde(flatten)]
    kept: &'a Kept,
    #[serde(skip_serializing_if = "Option::is_none")]
    users: Option<&'a [path::Used]>,
}

/// Unmounts unused entries. The exit status is 1 if the path that was named is not mounted, or still is.
pub(super) fn expire(session: &Session, path: Option<Bytes>, dry_run: bool) -> Result<Exit, ClientError> {
    let wish = Expire { path: path.clone(), dry_run };
    let Answer::Expired(expired) = session.ask(Call::Expire(wish))? else { return Err(ClientError::unexpected()) };
    // The processes are looked for by the client, so that the daemon is not slowed.
    let found: Vec<_> = expired.in_use.iter().take(EXAMINED).map(|kept| path::busy(session, &kept.path)).collect();
    let busy = path.as_ref().and(found.first()).and_then(Option::as_ref);
    let shown = Shown {
        unmounted: &expired.unmounted,
        in_use: expired
            .in_use
            .iter()
            .enumerate()
            .map(|(n, kept)| InUse { kept, users: found.get(n).and_then(Option::as_ref).map(path::Busy::users) })
            .collect(),
        busy,
    };
    session.show(&shown, || match busy {
        Some(busy) if expired.unmounted.is_empty() => format!("{}\n", busy.text()),
        _ => {
            let mut text = expired_text(&expired, path.as_ref(), dry_run);
            for busy in found.iter().flatten() {
                text += &format!("{}\n", busy.text());
            }
            text
        }
    })?;
    let is_no = path.is_some() && (!expired.in_use.is_empty() || expired.unmounted.is_empty());
    Ok(if is_no { Exit::No } else { Exit::Yes })
}

fn expired_text(expired: &Expired, path: Option<&Bytes>, dry_run: bool) -> String {
    let Expired { unmounted, in_use } = expired;
    if dry_run && unmounted.is_empty() {
        return "nothing is mounted\n".to_owned();
    }
    if dry_run {
        return unmounted.iter().map(|path| format!("{path} would be unmounted if it is unused\n")).collect();
    }
    let why = |kept: &Kept| match &kept.reason {
        Some(reason) => {
            let reason = Escaped(reason.lines().next().unwrap_or_default().as_bytes());
            format!("{} is in use: {reason}\n", kept.path)
        }
        None => format!("{} is in use\n", kept.path),
    };
    match (path, unmounted.as_slice(), in_use.as_slice()) {
        (Some(path), [], []) => format!("{path} is not mounted\n"),
        (Some(_), [], kept) => kept.iter().map(why).collect(),
        (_, gone, kept) => {
            let kept_text = match kept {
                [] => String::new(),
                kept => format!(", {} in use: {}", kept.len(), named(kept.iter().map(|kept| kept.path.to_string()))),
            };
            match gone {
                [one] if kept.is_empty() => format!("{one} unmounted\n"),
                gone => format!("{} unmounted{kept_text}\n", gone.len()),
            }
        }
    }
}

/// Lists names, at most [`NAMED`].
fn named(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(NAMED);
    let list = names.take(NAMED).collect::<Vec<_>>().join(" ");
    if more == 0 { list } else { format!("{list} and {more} more") }
}

/// Forgets failed keys.
pub(super) fn flush(session: &Session, path: Option<Bytes>) -> Result<Exit, ClientError> {
    let wish = Flush { path: path.clone() };
    let Answer::Flushed(flushed) = session.ask(Call::Flush(wish))? else { return Err(ClientError::unexpected()) };
    session.show(&flushed, || flushed_text(&flushed, path.as_ref()))?;
    Ok(Exit::Yes)
}

fn flushed_text(Flushed { forgotten }: &Flushed, path: Option<&Bytes>) -> String {
    match (forgotten.as_slice(), path) {
        ([], Some(path)) => format!("{path}: no failure is remembered\n"),
        ([], None) => "no failure is remembered\n".to_owned(),
        ([one], _) => format!("{one}: tried again at the next access\n"),
        (all, _) => {
            format!(
                "{} paths are tried again at their next access: {}\n",
                all.len(),
                named(all.iter().map(Bytes::to_string))
            )
        }
    }
}

/// Returns the time of day of a moment in seconds since 1970.
pub(super) fn clock_time(until: u64) -> String {
    let (hour, minute, _) = clock::local_time(until).time;
    format!("{hour:02}:{minute:02}")
}

/// Blocks new accesses to a path.
pub(super) fn block(session: &Session, wish: Block) -> Result<Exit, ClientError> {
    let Answer::Blocked(blocked) = session.ask(Call::Block(wish))? else { return Err(ClientError::unexpected()) };
    session.show(&blocked, || blocked_text(&blocked))?;
    Ok(Exit::Yes)
}

fn blocked_text(blocked: &Blocked) -> String {
    let until = blocked.until.map_or(String::new(), |until| format!(" until {}", clock_time(until)));
    let mounted = match blocked.mounted.len() {
        0 => String::new(),
        1 => "; what is mounted there is in use and stays until it is unmounted".to_owned(),
        n => format!("; {n} mounts there are in use and stay until they are unmounted"),
    };
    format!("{}: new accesses fail with EACCES{until}{mounted}\n", blocked.path)
}

/// Ends a block.
pub(super) fn unblock(session: &Session, path: Bytes) -> Result<Exit, ClientError> {
    let answer = session.ask(Call::Unblock { path })?;
    let Answer::Blocked(blocked) = answer else { return Err(ClientError::unexpected()) };
    session.show(&blocked, || format!("{}: accesses are served again\n", blocked.path))?;
    Ok(Exit::Yes)
}

/// Sets a log level.
pub(super) fn log_level(session: &Session, wish: SetLogLevel) -> Result<Exit, ClientError> {
    let wanted = wish.level;
    let answer = session.ask(Call::SetLogLevel(wish))?;
    let Answer::LogLevelSet(set) = answer else { return Err(ClientError::unexpected()) };
    session.show(&set, || {
        let LogLevelSet { path, before, now, until } = &set;
        let until = until.map_or(String::new(), |until| format!(" until {}", clock_time(until)));
        let minimum = if *now == wanted { "" } else { "; the level of the whole daemon is the minimum" };
        format!("{path}: {} -> {}{until}{minimum}\n", before.name(), now.name())
    })?;
    Ok(Exit::Yes)
}

/// Result of `wait`.
#[derive(Debug, Serialize)]
struct Waited {
    path: Bytes,
    mounted: bool,
    milliseconds: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// The first argument of the process that accesses a path for `wait`. The path is the second one.
pub(super) const ACCESS: &str = "--internal-access";

/// Accesses a path. The exit status is 0 or the errno of the access. Ends with its parent, if it can.
pub(super) fn access_now(path: &Path) -> ExitCode {
    let accessed = children::die_with_parent().and_then(|()| access(path));
    match accessed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(error.raw_os_error().and_then(|errno| u8::try_from(errno).ok()).unwrap_or(EIO)),
    }
}

/// Returns whether the daemon knows that the path is mounted and its file system does not answer.
fn is_silent(session: &Session, path: &Bytes) -> bool {
    match session.ask(Call::StatusOf { path: path.clone() }) {
        Ok(Answer::PathStatus(status)) => status.reason.is_some_and(|reason| reason == SILENT),
        _ => false,
    }
}

/// Accesses a path, which mounts it, and waits for the end of that at most `time_limit`. The exit status is 1 if the access
/// fails.
pub(super) fn wait(session: &Session, at: &Path, time_limit: Duration) -> Result<Exit, ClientError> {
    let path = absolute(at)?;
    let (send, receive) = mpsc::channel();
    let begun = Instant::now();
    // A process that waits for a file system cannot always be killed, and its parent does not need to wait for its end.
    let mut process = Command::new("/proc/self/exe");
    process.arg(ACCESS).arg(path.as_path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = process.spawn()?;
    thread::Builder::new().spawn(move || {
        let accessed = child.wait().and_then(|status| match status.code() {
            Some(0) => Ok(()),
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => Err(io::ErrorKind::Interrupted.into()),
        });
        // Fails if the deadline has passed.
        let _ = send.send(accessed);
    })?;
    let accessed: io::Result<()> = loop {
        let left = time_limit.saturating_sub(begun.elapsed());
        match receive.recv_timeout(left.min(LOOK_AGAIN)) {
            Ok(accessed) => break accessed,
            Err(RecvTimeoutError::Timeout) if left <= LOOK_AGAIN => {
                return Err(ClientError::NotMounted(at.to_owned(), time_limit));
            }
            Err(RecvTimeoutError::Timeout) if is_silent(session, &path) => {
                return Err(ClientError::Silent(at.to_owned()));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(io::Error::from(io::ErrorKind::BrokenPipe).into()),
        }
    };
    let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let error = accessed.err();
    // Only root may ask for the reason.
    let explained =
        |_: &io::Error| match session.ask(Call::Explain(Explain { path: path.clone(), ..Explain::default() })) {
            Ok(Answer::Explanation(explanation)) if !explanation.succeeds => Some(explanation.answer),
            _ => None,
        };
    let reason = error.as_ref().and_then(explained);
    let errno = error.as_ref().and_then(io::Error::raw_os_error);
    let waited = Waited { path, mounted: error.is_none(), milliseconds, errno, reason };
    session.show(&waited, || match &error {
        None => format!("{} is there after {milliseconds} ms\n", waited.path),
        Some(error) => {
            let why = waited.reason.as_deref().map_or(String::new(), |why| format!(": {}", Escaped(why.as_bytes())));
            let error = error.to_string();
            let error = error.split(" (os error").next().unwrap_or_default();
            format!("{}: {error}{why}\n", waited.path)
        }
    })?;
    Ok(if error.is_none() { Exit::Yes } else { Exit::No })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Bytes {
        text.as_bytes().into()
    }

    #[test]
    fn an_expiry_says_what_it_has_done() {
        let kept = |path| Kept { path: bytes(path), reason: None };
        let expired = |gone: &[&str], kept: Vec<Kept>| Expired {
            unmounted: gone.iter().map(|path| bytes(path)).collect(),
            in_use: kept,
        };
        let path = bytes("/home/a");
        assert_eq!(expired_text(&expired(&[], vec![]), Some(&path), false), "/home/a is not mounted\n");
        assert_eq!(expired_text(&expired(&["/home/a"], vec![]), Some(&path), false), "/home/a unmounted\n");
        assert_eq!(expired_text(&expired(&[], vec![kept("/home/a")]), Some(&path), false), "/home/a is in use\n");
        assert_eq!(expired_text(&expired(&[], vec![]), None, false), "0 unmounted\n");
        assert_eq!(expired_text(&expired(&[], vec![]), None, true), "nothing is mounted\n");
        let many = expired(&["/x", "/y"], ["/a", "/b", "/c", "/d"].map(kept).into());
        assert_eq!(expired_text(&many, None, false), "2 unmounted, 4 in use: /a /b /c and 1 more\n");
        assert_eq!(expired_text(&expired(&["/x"], vec![]), None, true), "/x would be unmounted if it is unused\n");
    }

    #[test]
    fn a_block_says_what_goes_on() {
        let blocked = Blocked { path: bytes("/home/a"), say: None, until: None, mounted: vec![bytes("/home/a")] };
        assert_eq!(
            blocked_text(&blocked),
            "/home/a: new accesses fail with EACCES; what is mounted there is in use and stays until it is unmounted\n"
        );
    }
}
