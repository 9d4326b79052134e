//! Fault injection for tests.
//!
//! In a debug build, `AUTOFS_FAULT=NAME[:HIT[:WORKERS[:FIRST]]]` makes the worker abort when it reaches the point NAME for the
//! HIT-th time (default 1). It applies to WORKERS workers of a daemon (default 1), starting with the FIRST (default 1).
//! `AUTOFS_FAULT=NAME:wait` and `AUTOFS_FAULT=NAME:spin` make the first worker wait for ever or spin there. Release builds contain
//! no fault points.

/// Reads the variable. `before` is the number of earlier workers of this daemon.
pub(crate) fn arm(before: u32) {
    #[cfg(debug_assertions)]
    armed::arm(before);
    #[cfg(not(debug_assertions))]
    let _ = before;
}

/// Aborts, waits or spins if the variable names this point.
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
        how: How,
        /// How many more times the point must be reached.
        left: AtomicU32,
    }

    #[derive(Debug, Clone, Copy)]
    enum How {
        Abort,
        Wait,
        Spin,
    }

    static FAULT: OnceLock<Fault> = OnceLock::new();

    pub(super) fn arm(before: u32) {
        let Ok(text) = std::env::var("AUTOFS_FAULT") else { return };
        let name = text.split(':').next().unwrap_or_default().to_owned();
        let (how, words) = match text.split(':').nth(1) {
            Some("wait") => (How::Wait, 2),
            Some("spin") => (How::Spin, 2),
            _ => (How::Abort, 1),
        };
        let mut parts = text.split(':').skip(words);
        let mut number = || parts.next().and_then(|part| part.parse().ok()).unwrap_or(1);
        let (hit, workers, first) = (number(), number(), number());
        let after = before.saturating_add(1);
        if after >= first && after < first.saturating_add(workers) {
            let _ = FAULT.set(Fault { name, how, left: AtomicU32::new(hit) });
        }
    }

    pub(super) fn point(name: &str) {
        let Some(fault) = FAULT.get().filter(|fault| fault.name == name) else { return };
        if fault.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            match fault.how {
                // Like a panic. A worker that dies of SIGKILL counts as killed from outside, and the keeper treats it differently.
                How::Abort => std::process::abort(),
                How::Wait => loop {
                    std::thread::park();
                },
                How::Spin => loop {
                    std::hint::spin_loop();
                },
            }
        }
    }
}
