//! The control interface of the worker.

pub(crate) mod answer;
mod look;
pub(crate) mod serve;
pub(crate) mod steer;

use std::rc::Rc;
use std::time::Duration;

use log::warn;
use tokio::sync::mpsc;

use super::worker::Worker;
use crate::instance;
use crate::sys::children;
use crate::task::spawn_local;

/// How soon a socket that could not be created is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// Serves the control socket as long as the worker runs. A socket that cannot be created, because /run is read-only or another
/// daemon listens there, is tried again every ten seconds. One that was removed is created again by the next reload. `takes_over`
/// means that the socket of an earlier worker of this daemon is replaced.
pub(crate) async fn serve(worker: Rc<Worker>, takes_over: bool) {
    let path = &*instance::socket();
    let (sender, asked) = mpsc::channel(16);
    spawn_local(answer::answer(Rc::clone(&worker), asked));
    let (mut takes_over, mut warned) = (takes_over, false);
    loop {
        let is_earlier = |pid| takes_over && children::group_of(pid) == Some(children::process_group());
        match serve::listen(path, is_earlier) {
            Ok(listener) => {
                (takes_over, warned) = (false, false);
                worker.socket.set(serve::identity(path));
                let accepting = tokio::spawn(serve::serve(listener, sender.clone()));
                while worker.socket.get() == serve::identity(path) {
                    worker.socket_check.notified().await;
                }
                warn!("the control socket {} was removed, and is created again", path.display());
                accepting.abort();
            }
            Err(e) => {
                if !warned {
                    warn!("no control socket {}: {e}; it is tried again every {RETRY_INTERVAL:?}", path.display());
                }
                warned = true;
                let _ = tokio::time::timeout(RETRY_INTERVAL, worker.socket_check.notified()).await;
            }
        }
    }
}
