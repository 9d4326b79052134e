//! Random histories of the engine against a model of the shell and the kernel.
//!
//! The model keeps a mount table and the tokens that the kernel waits for. What the engine asks for is carried out in
//! random order, late, or fails; workers die, mounts are unmounted by hand, configurations come and go. Whatever
//! happens: every token is answered once and in time, no two jobs run at one entry, READY tells the truth, nothing
//! wakes an idle engine, and in the end nothing is left, neither in the table nor in the engine.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

mod kernel;
mod maps;
mod world;

use autofs::engine::Shutdown;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use world::World;

/// `PROPTEST_CASES` in the environment may ask for more.
const HISTORIES: u32 = 10_000;

/// One step of a history; the numbers choose among what there is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Op {
    /// A process looks up a key, mounted or not.
    Access {
        mount: u8,
        key: u8,
        tgid: u8,
    },
    /// And does not give up.
    Insist {
        mount: u8,
        key: u8,
    },
    /// The shell does one of the things that it was asked for, or fails to.
    Work {
        which: u8,
        fails: bool,
    },
    /// Time passes.
    Pass {
        ms: u16,
    },
    /// The kernel wants an entry unmounted, known or not.
    Expire {
        mount: u8,
        key: u8,
    },
    /// A process begins or ceases to use a file system.
    Use {
        which: u8,
    },
    /// One mount is unmounted by hand, or a whole tree lazily.
    ByHand {
        which: u8,
        lazy: bool,
    },
    /// A new configuration.
    Reload {
        mask: u8,
    },
    Forget,
    Prune,
    /// The worker dies, and another takes its place.
    Crash,
    Stop(Shutdown),
    /// A checkpoint is restored: no process waits any more, and tokens start again.
    Restore,
    /// A checkpoint is prepared, or is over.
    Pause(bool),
    /// An entry is to go, for any reason.
    Unmount {
        mount: u8,
        key: u8,
    },
    /// What is missing of a tree is to be mounted again; when the shell looked, all was.
    RemountTriggers {
        mount: u8,
        key: u8,
    },
}

impl From<u32> for Op {
    fn from(number: u32) -> Self {
        let [kind, a, b, c] = number.to_le_bytes();
        match kind % 100 {
            0..26 => Self::Access { mount: a, key: b, tgid: c % 4 },
            26..64 => Self::Work { which: a, fails: b % 8 == 0 },
            64..67 => Self::Pass { ms: u16::from(a) * 8 },
            67..70 => Self::Pass { ms: u16::from_le_bytes([a, b]) % 20_000 },
            70..78 => Self::Expire { mount: a, key: b },
            78..82 => Self::Use { which: a },
            82..85 => Self::ByHand { which: a, lazy: b % 2 == 0 },
            85..87 => Self::Reload { mask: a },
            87 => Self::Forget,
            88 | 89 => Self::Prune,
            90 => Self::RemountTriggers { mount: a, key: b },
            91 | 92 => Self::Crash,
            93 | 94 => Self::Insist { mount: a, key: b },
            96 => Self::Restore,
            97 => Self::Pause(a % 2 == 0),
            98 | 99 => Self::Unmount { mount: a, key: b },
            _ => Self::Stop([Shutdown::Detach, Shutdown::Clean, Shutdown::Forced][usize::from(a % 3)]),
        }
    }
}

fn run(ops: &[Op], ending: u8) {
    let mut world = World::new();
    for op in ops {
        world.step(*op);
    }
    if ending % 2 == 0 {
        world.rest(ending);
    }
    let how = [Shutdown::Clean, Shutdown::Forced, Shutdown::Detach][usize::from(ending / 2 % 3)];
    world.end(how, ending / 6 % 2 == 0);
}

#[test]
fn every_history_ends_well() {
    let config = Config::default();
    let cases = config.cases.max(HISTORIES);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 20_000, ..config };
    let ops = proptest::collection::vec(any::<u32>().prop_map(Op::from), 1..150);
    let result = TestRunner::new(config).run(&(ops, any::<u8>()), |(ops, ending)| {
        run(&ops, ending);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}
