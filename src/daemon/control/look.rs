//! Calls that look at what has happened: the history and the counters.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::timeout;

use crate::control::{Answer, ControlError, HistoryQuery};
use crate::daemon::history::Query;
use crate::daemon::worker::Worker;

/// How long the thread of the history may take: it has a low priority, and an answer may wait for something new.
const WITHIN: Duration = Duration::from_millis(9_500);

fn too_busy() -> ControlError {
    ControlError::Failed { message: "the daemon is too busy to read its history".to_owned() }
}

/// Returns a part of the history. Users see their own requests only.
pub(super) async fn history(worker: &Rc<Worker>, wanted: HistoryQuery, uid: u32) -> Result<Answer, ControlError> {
    let query = Query { wanted, of: (uid != 0).then_some(uid) };
    match timeout(WITHIN, worker.history.recorder().ask(query)).await {
        Ok(Some(history)) => Ok(Answer::History(history)),
        _ => Err(too_busy()),
    }
}

/// Returns the counters.
pub(super) async fn metrics(worker: &Rc<Worker>) -> Result<Answer, ControlError> {
    match timeout(WITHIN, worker.history.recorder().count()).await {
        Ok(Some(metrics)) => Ok(Answer::Metrics(metrics)),
        _ => Err(too_busy()),
    }
}
