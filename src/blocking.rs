//! Work that may wait in the kernel.

use std::any::Any;

type Erased = Box<dyn Any + Send>;

/// Runs `work` on a thread of the runtime and returns its result. The work begins when the future is first polled, and goes on when
/// the future is dropped. A panic of the work is passed on. If the runtime ends, the future stays pending: its task ends with the runtime.
///
/// The runtime sees one type of task for all work, because it has two kilobytes of code for each type.
pub(crate) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match run_erased(Box::new(move || Box::new(work()) as Erased)).await.downcast() {
        Ok(result) => *result,
        // `work` returns no other type.
        Err(_) => std::future::pending().await,
    }
}

async fn run_erased(work: Box<dyn FnOnce() -> Erased + Send>) -> Erased {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => match e.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => std::future::pending().await,
        },
    }
}
