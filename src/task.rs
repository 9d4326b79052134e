//! Tasks of the runtime.

use std::pin::Pin;

use tokio::task::{self, JoinHandle};

/// Begins a task on the thread of the reactor, as [`tokio::task::spawn_local`]. The future is boxed: the runtime has some 2 kB of code
/// for each type of future, and the daemon has more than fifty.
///
/// # Panics
/// Outside of a [`tokio::task::LocalSet`].
pub(crate) fn spawn_local<T: 'static>(future: impl Future<Output = T> + 'static) -> JoinHandle<T> {
    let future: Pin<Box<dyn Future<Output = T>>> = Box::pin(future);
    task::spawn_local(future)
}
