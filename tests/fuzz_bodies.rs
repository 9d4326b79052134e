//! The bodies of the fuzz targets as property tests: on each file of the corpus, on pieces of it, and on random bytes.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

#[path = "../fuzz/bodies.rs"]
mod bodies;

/// An input, shown as the text that it mostly is.
#[derive(Clone)]
struct Input(Vec<u8>);

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

/// Files of the corpus of a target, by name. Every target has some.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files = fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", directory.display());
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn the_corpus_of_every_target() {
    for (target, body) in bodies::BODIES {
        corpus(target).iter().for_each(|bytes| body(bytes));
    }
}

#[test]
fn random_bytes_for_every_target() {
    for (target, body) in bodies::BODIES {
        let seeds = corpus(target);
        let text = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<prop::sample::Index>());
        // A beginning of a file of the corpus, random bytes, and an end of another one.
        let texts = (text, prop::collection::vec(any::<u8>(), 0..40)).prop_map(move |((which, head, tail), middle)| {
            let (one, other) = (which.get(&seeds), &seeds[which.index(seeds.len())]);
            let (head, tail) = (head.index(one.len() + 1), tail.index(other.len() + 1));
            Input([&one[..head], &middle, &other[tail..]].concat())
        });
        let run = TestRunner::default().run(&texts, |Input(bytes)| {
            body(&bytes);
            Ok(())
        });
        run.unwrap_or_else(|e| panic!("{target}: {e}"));
    }
}
