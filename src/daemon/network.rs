//! Waits for changes of the network. What could not be reached before may be reached now: negative answers and the silence of
//! servers are forgotten.

use std::rc::Rc;
use std::time::Duration;

use log::{debug, warn};

use super::readable;
use super::worker::Worker;
use crate::engine::Event;
use crate::sys::network_events::NetworkEvents;

/// Changes within this time count as one.
const DEBOUNCE: Duration = Duration::from_secs(1);

/// Watches the network as long as the worker runs. Not in containers: their network rarely changes, and CRIU
/// cannot dump a netlink socket on every kernel.
pub(crate) async fn watch(worker: Rc<Worker>) {
    if worker.tools().is_in_container() {
        return;
    }
    let mut events = NetworkEvents::open();
    loop {
        let waiting = match events.and_then(readable::register) {
            Ok(waiting) => waiting,
            Err(e) => return warn!("cannot watch the network, so failures are remembered when it changes: {e}"),
        };
        if waiting.readable().await.is_err() {
            return;
        }
        // Not registered in the reactor during the pause, because changes come in bursts.
        let inner = waiting.into_inner().0;
        tokio::time::sleep(DEBOUNCE).await;
        if let Err(e) = inner.drain() {
            return warn!("cannot watch the network any more: {e}");
        }
        events = Ok(inner);
        debug!("the network has changed");
        {
            let state = worker.state.borrow();
            state.context.sources.servers.forget();
            state.maps.by_number.values().for_each(|map| map.source.forget());
        }
        worker.event(Event::Forget);
    }
}
