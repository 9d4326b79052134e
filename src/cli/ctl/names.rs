//! Names of users, which a directory service may have. A command does not wait long for it.

use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::sys::user;

/// How long the service may take for a name.
const NAME_TIMEOUT: Duration = Duration::from_millis(200);

/// Whether it has taken longer. Then it is not asked again.
static IS_LATE: AtomicBool = AtomicBool::new(false);

/// Returns the name of a user, or `None` if there is none or it cannot be found out in time.
pub(super) fn user(uid: u32) -> Option<OsString> {
    let ask = move || user::user(uid).ok().flatten().map(|user| user.name);
    within(NAME_TIMEOUT, &IS_LATE, ask)
}

/// Returns the result of a question if it is there in time, and nothing if an earlier question was not answered in time.
fn within<T: Send + 'static>(
    time_limit: Duration,
    is_late: &AtomicBool,
    ask: impl FnOnce() -> Option<T> + Send + 'static,
) -> Option<T> {
    if is_late.load(Ordering::Relaxed) {
        return None;
    }
    let (send, receive) = mpsc::channel();
    // The thread ends with the process.
    thread::Builder::new().spawn(move || send.send(ask())).ok()?;
    let answer = receive.recv_timeout(time_limit);
    is_late.fetch_or(answer.is_err(), Ordering::Relaxed);
    answer.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_hangs_is_asked_once() {
        let is_late = AtomicBool::new(false);
        assert_eq!(within(Duration::from_secs(60), &is_late, || Some(1)), Some(1));
        let hang = || {
            thread::sleep(Duration::from_secs(60));
            Some(2)
        };
        assert_eq!(within(Duration::from_millis(10), &is_late, hang), None);
        assert_eq!(within(Duration::from_secs(60), &is_late, || Some(3)), None, "it is not asked again");
    }
}
