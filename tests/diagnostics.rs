//! `autofsctl check --explain`: every code is explained, and what the explanations say is true.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]
#![allow(clippy::disallowed_methods, reason = "no automounts in the repository")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const AUTOFSCTL: &str = env!("CARGO_BIN_EXE_autofsctl");

fn autofsctl(args: &[&str], input: &str) -> Output {
    let mut child = Command::new(AUTOFSCTL)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

/// The sections of docs/diagnostics: a code, and its examples as pairs of kind and text.
fn sections() -> Vec<(String, Vec<(String, String)>)> {
    let mut sections = Vec::new();
    for chapter in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/diagnostics")).unwrap() {
        let chapter = fs::read_to_string(chapter.unwrap().path()).unwrap();
        for section in chapter.split("\n## ").skip(1) {
            let (code, text) = section.split_once('\n').unwrap();
            let examples = text.split("```").skip(1).step_by(2).map(|example| {
                let (kind, text) = example.split_once('\n').unwrap();
                (kind.to_owned(), text.to_owned())
            });
            sections.push((code.to_owned(), examples.collect()));
        }
    }
    sections
}

/// The codes in the sources, without those in tests.
fn codes_of_the_program() -> BTreeSet<String> {
    let mut codes = BTreeSet::new();
    let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(directory) = directories.pop() {
        for path in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                directories.push(path);
            } else if !path.ends_with("plan/recorded.rs") {
                let text = fs::read_to_string(&path).unwrap();
                let program = text.split("#[cfg(test)]").next().unwrap();
                let words = program.lines().filter(|line| !line.trim_start().starts_with("//"));
                let is_code = |word: &&str| {
                    let letter = |c: char| c.is_ascii_lowercase() || c == '-';
                    word.split_once("::").is_some_and(|(area, what)| {
                        !area.is_empty() && !what.is_empty() && area.chars().chain(what.chars()).all(letter)
                    })
                };
                codes.extend(
                    words.flat_map(|line| line.split('"').skip(1).step_by(2)).filter(is_code).map(str::to_owned),
                );
            }
        }
    }
    codes
}

#[test]
fn every_code_is_explained() {
    let listed = json(&autofsctl(&["--json", "check", "--explain"], ""));
    let listed: BTreeSet<String> =
        listed["codes"].as_array().unwrap().iter().map(|code| code.as_str().unwrap().to_owned()).collect();
    let known = codes_of_the_program();
    assert!(known.len() > 120, "only {} codes were found in the sources", known.len());
    assert_eq!(known.difference(&listed).collect::<Vec<_>>(), [""; 0], "codes without a section in docs/diagnostics");
    assert_eq!(listed.difference(&known).collect::<Vec<_>>(), [""; 0], "sections about codes that do not exist");
}

/// Returns the codes of what is found in an example.
fn found(kind: &str, text: &str) -> BTreeSet<String> {
    if kind == "convert" {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let output = autofsctl(&["convert", file.path().to_str().unwrap()], "");
        let said = String::from_utf8(output.stderr).unwrap();
        return said.split("error[").skip(1).map(|rest| rest.split(']').next().unwrap().to_owned()).collect();
    }
    let answer = json(&autofsctl(&["--json", "check", "--as", kind, "-"], text));
    answer["diagnostics"].as_array().unwrap().iter().map(|d| d["code"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_examples_are_what_they_are_said_to_be() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (code, examples) in sections() {
        let Some((kind, text)) = examples.first() else { continue };
        count += 1;
        let codes = found(kind, text);
        if !codes.contains(&code) {
            wrong.push(format!("{code} is not found in its example, but {codes:?}"));
        }
        if let Some((kind, text)) = examples.get(1) {
            // Whether the included map is there depends on the machine.
            if code != "master::include" && found(kind, text).contains(&code) {
                wrong.push(format!("{code} is found in what should be written"));
            }
        }
    }
    assert!(count > 90, "only {count} examples");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_code_is_explained_on_request() {
    let output = autofsctl(&["check", "--explain", "master::timeout"], "");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    assert!(text.starts_with("master::timeout\n\nThe time after which an unused mount"), "{text}");
    assert!(text.contains("\n    /home /etc/auto.home --timeout=5m\n\nWrite:\n\n"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let document = json(&autofsctl(&["check", "--json", "--explain", "map::shadowed"], ""));
    assert_eq!((&document["schema"], &document["code"]), (&1.into(), &"map::shadowed".into()));
    let output = autofsctl(&["check", "--explain", "master::time-out"], "");
    let said = String::from_utf8(output.stderr).unwrap();
    let expected = "autofsctl: there is no code master::time-out: did you mean master::timeout?\n";
    assert_eq!((output.status.code(), said.as_str()), (Some(2), expected));
    let output = autofsctl(&["check", "--explain", "xyz"], "");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(autofsctl(&["check", "--explain", "map::shadowed", "/etc/auto.home"], "").status.code(), Some(2));
}

#[test]
fn standard_input_is_checked_like_a_file() {
    let output = autofsctl(&["check", "--as", "master", "-"], "/srv -hosts --timeout=5m\n");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    for expected in [" --> -:1:", "1 | /srv -hosts --timeout=5m\n", "1 error, 0 warnings in 1 file\n"] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
    assert!(!text.contains("/proc/"), "{text}");
    // Without --as, it is a map, direct if its first key is a path.
    let document = json(&autofsctl(&["--json", "check", "-"], "/srv/a srv1:/a\nb srv1:/b\n"));
    assert_eq!(document["files"], serde_json::json!(["-"]));
    assert_eq!(
        (&document["diagnostics"][0]["code"], &document["diagnostics"][0]["line"]),
        (&"map::key".into(), &2.into())
    );
    let document = json(&autofsctl(&["--json", "check", "-"], ""));
    assert_eq!(document["errors"], 0);
    // A kind without a file says nothing.
    assert_eq!(autofsctl(&["check", "--as", "master"], "").status.code(), Some(2));
}

#[test]
fn a_file_is_read_as_what_it_is_said_to_be() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"/srv -hosts --frobnicate\n").unwrap();
    let path = file.path().to_str().unwrap();
    let codes = |args: &[&str]| {
        let document = json(&autofsctl(&[&["--json", "check"], args].concat(), ""));
        document["diagnostics"]
            .as_array()
            .unwrap()
            .iter()
            .map(|d| d["code"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(codes(&["--as", "master", path]), ["master::unknown-option"]);
    assert!(codes(&["--as", "indirect", path]).contains(&"map::key".to_owned()));
    assert_eq!(codes(&["--as", "autofs.conf", path]), [""; 0]);
    assert_eq!(codes(&["--as", "autofs.toml", path]), ["toml::syntax"]);
}
