//! Fault injection for tests.
//!
//! In a debug build, `AUTOFS_FAULT=NAME[:HIT[:WORKERS[:FIRST]]]` makes the worker abort when it reaches the point NAME for the
//! HIT-th time (default 1). It applies to WORKERS workers of a daemon (default 1), starting with the FIRST (default 1). Release
//! builds contain no fault points.

/// Reads the variable. `before` is the number of earlier workers of this daemon.
pub(crate) fn arm(before: u32) {
    #[cfg(debug_assertions)]
    armed::arm(before);
    #[cfg(not(debug_assertions))]
    let _ = before;
}

/// Aborts if the variable names this point.
#[inline]
pub(crate) fn point(name: &str) {
    #[cfg(debug_assertions)]
    armed::point(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[derive(Debug)]
    struct Fault {
        name: String,
        /// How many more times the point must be reached.
        left: AtomicU32,
    }

    static FAULT: OnceLock<Fault> = OnceLock::new();

    pub(super) fn arm(before: u32) {
        let Ok(text) = std::env::var("AUTOFS_FAULT") else { return };
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default().to_owned();
        let mut number = || parts.next().and_then(|part| part.parse().ok()).unwrap_or(1);
        let (hit, workers, first) = (number(), number(), number());
        let after = before.saturating_add(1);
        if after >= first && after < first.saturating_add(workers) {
            let _ = FAULT.set(Fault { name, left: AtomicU32::new(hit) });
        }
    }

    pub(super) fn point(name: &str) {
        let Some(fault) = FAULT.get().filter(|fault| fault.name == name) else { return };
        if fault.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            // Like a panic. A worker that dies of SIGKILL counts as killed from outside, and the keeper treats it differently.
            std::process::abort();
        }
    }
}
