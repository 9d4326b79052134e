//! The messages about broken input: every file in `corpus/broken`, and generated input that is too large for a file.
//!
//! The expected messages are in a file beside each input, one per line. `UPDATE_EXPECTED=1 cargo test --test broken_input`
//! writes these files anew; look at the difference.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use autofs::config::{AutofsConf, Native, Nsswitch};
use autofs::map::{Item, Table, master};
use autofs::source::{Index, Mode};
use autofs::text::{Diagnostic, Escaped, render};

/// All that is said about `text`, read as its extension says; and what of it is good.
fn read(file: &Arc<Path>, text: &[u8]) -> (Vec<Diagnostic>, Vec<String>) {
    match file.extension().and_then(|e| e.to_str()) {
        Some("master") => read_master(file, text),
        Some("map") => read_map(file, text, Mode::Indirect),
        Some("direct") => read_map(file, text, Mode::Direct),
        Some("conf") => (AutofsConf::read(Some((file, text)), None, |_| None).1, vec![]),
        Some("toml") => (Native::parse(text, file).map_or_else(|errors| errors, |(_, said)| said), vec![]),
        Some("nsswitch") => match Nsswitch::parse(text, file) {
            Ok((nsswitch, said)) => {
                let services = nsswitch.services.iter().map(|service| service.kind.name().to_owned());
                (said, services.collect())
            }
            Err(d) => (vec![d], vec![]),
        },
        other => panic!("no reader for {other:?}"),
    }
}

fn read_master(file: &Arc<Path>, text: &[u8]) -> (Vec<Diagnostic>, Vec<String>) {
    let (items, mut said) = master::read(text, file);
    let entries = items.into_iter().filter_map(|item| match item {
        Item::Entry(entry) => Some(entry),
        Item::Include(_) => None,
    });
    let (table, more) = Table::build(entries);
    said.extend(more);
    let good = table.indirect.iter().map(|entry| Escaped(&entry.mount_point).to_string());
    (said, good.collect())
}

fn read_map(file: &Arc<Path>, text: &[u8], mode: Mode) -> (Vec<Diagnostic>, Vec<String>) {
    let index = Index::build(file, text.to_vec(), mode).unwrap();
    let keys = index.offsets().into_iter().filter_map(|offset| index.key(offset));
    (index.diagnostics().to_vec(), keys.map(|key| Escaped(&key).to_string()).collect())
}

#[test]
fn every_broken_input_is_told_where_and_what_to_do() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/broken");
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let mut files: Vec<_> = fs::read_dir(&corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e != "expected"));
    files.sort();
    assert!(files.len() >= 45, "the corpus is there");
    let mut wrong = String::new();
    for path in files {
        let text = fs::read(&path).unwrap();
        let name: Arc<Path> = Path::new(path.file_name().unwrap()).into();
        let (said, good) = read(&name, &text);
        assert!(!said.is_empty(), "nothing is said about {}", path.display());
        let mut actual = String::new();
        for d in &said {
            // A key that cannot be a name says all there is to say.
            assert!(d.help.is_some() || d.code == "map::key", "no way out of {d}");
            assert!(!render(d, false).is_empty());
            writeln!(actual, "{d}").unwrap();
        }
        for what in good {
            writeln!(actual, "good: {what}").unwrap();
        }
        let expected = path.with_file_name(format!("{}.expected", name.display()));
        if update {
            fs::write(&expected, &actual).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != actual {
            write!(wrong, "--- {}\n{actual}", name.display()).unwrap();
        }
    }
    assert!(wrong.is_empty(), "not as expected:\n{wrong}");
}

/// Each reader gets 10 MB of one line, and lines of a million joints or quotes, and is done with it in no time.
#[test]
fn a_line_of_ten_megabytes_is_no_problem() {
    let long = vec![b'x'; 10_000_000];
    let quoted = [b"a \"".as_slice(), &long].concat();
    let key = [&long[..], b" srv:/x\nok srv:/ok\n"].concat();
    let entry = [b"/a ".as_slice(), &long, b"\n/ok file:/ok\n"].concat();
    let [joints, escapes, turns] = [
        r"\
", r#""\"#, "a ,",
    ]
    .map(|part| part.repeat(500_000).into_bytes());
    let value = [b"timeout = ".as_slice(), &long].concat();
    let field = [&long[..], b" = 1"].concat();
    let service = [b"automount: ".as_slice(), &long].concat();
    let inputs = [&quoted, &key, &entry, &long, &joints, &escapes, &turns, &value, &field, &service];
    for name in ["x.master", "x.map", "x.conf", "x.toml", "x.nsswitch"] {
        let file: Arc<Path> = Path::new(name).into();
        // How fast the TOML parser is, is not ours to test; that its messages stay short is.
        let inputs = if name == "x.toml" { &[&field, &quoted][..] } else { &inputs };
        for (n, text) in inputs.iter().enumerate() {
            // Seconds, as this may be an unoptimized build on a busy machine; what is feared is quadratic.
            let start = Instant::now();
            let (said, _) = read(&file, text);
            assert!(start.elapsed() < Duration::from_secs(20), "{name}, input {n}: {:?}", start.elapsed());
            for d in said.iter().take(3) {
                let line = d.to_string();
                assert!(line.len() < 2000, "{name}, input {n}: a log line of {} bytes", line.len());
                assert!(render(d, true).len() < 20_000, "{name}, input {n}");
            }
        }
    }
}
