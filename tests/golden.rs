//! Makes plans for all entries of the maps in `maps/corpus`, and compares them with the recorded ones.
//!
//! `INSTA_UPDATE=always cargo test --test golden` records the new plans; review the difference.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use autofs::map::{Item, Macros, MasterEntry, OptionList, Scope, System, User, expand, master, sun, unescape};
use autofs::plan::{Context, Dice, Host, build};
use autofs::text::{Diagnostic, Escaped, Line, lines};

#[test]
fn corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("maps/corpus");
    let mut names: Vec<PathBuf> = fs::read_dir(&corpus)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.path())
        .collect();
    names.sort();
    for dir in names {
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("golden");
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        let name = dir.file_name().unwrap().to_str().unwrap();
        settings.bind(|| insta::assert_snapshot!(name, explain(&dir)));
    }
}

/// What becomes of every key of the maps in `dir`.
fn explain(dir: &Path) -> String {
    let mut out = String::new();
    let file: Arc<Path> = Path::new("auto.master").into();
    let (items, diagnostics) = master::read(&fs::read(dir.join("auto.master")).unwrap(), &file);
    assert_eq!(diagnostics, []);
    for item in items {
        let Item::Entry(mount) = item else { panic!("an include") };
        let name = Path::new(OsStr::from_bytes(&mount.source.name)).file_name().unwrap();
        let map: Arc<Path> = Path::new(name).into();
        let text = fs::read(dir.join(name)).unwrap();
        let entries: Vec<Line<'_>> = lines(&text, &map).map(|line| line.unwrap()).collect();
        for key in keys(dir, &entries) {
            let line = entry_of(&entries, &key);
            writeln!(out, "== {} {}", Escaped(&key), Escaped(&line.entry)).unwrap();
            let mut diagnostics = Vec::new();
            match plan(&mount, &key, line, &mut diagnostics) {
                Ok(plan) => out.push_str(&plan),
                Err(error) => diagnostics.push(error),
            }
            for d in diagnostics {
                let d = line.locate(d);
                writeln!(out, "{:?} {} {d}", d.severity, d.code).unwrap();
            }
        }
    }
    out
}

/// What is looked up: the lines of the file `keys`, else all keys of the map.
fn keys(dir: &Path, entries: &[Line<'_>]) -> Vec<Vec<u8>> {
    match fs::read(dir.join("keys")) {
        Ok(text) => text.split(|&b| b == b'\n').filter(|k| !k.is_empty()).map(<[u8]>::to_vec).collect(),
        Err(_) => entries.iter().map(|line| unescape(&line.key).unwrap().into_owned()).collect(),
    }
}

fn entry_of<'e, 't>(entries: &'e [Line<'t>], key: &[u8]) -> &'e Line<'t> {
    let find = |key: &[u8]| entries.iter().find(|line| *unescape(&line.key).unwrap() == *key);
    find(key).or_else(|| find(b"*")).unwrap_or_else(|| panic!("no entry for {}", Escaped(key)))
}

fn plan(
    mount: &MasterEntry,
    key: &[u8],
    line: &Line<'_>,
    warnings: &mut Vec<Diagnostic>,
) -> Result<String, Diagnostic> {
    let globals = Macros::predefined(&System {
        sysname: b"Linux".to_vec(),
        nodename: b"client.example.org".to_vec(),
        machine: b"i686".to_vec(),
        ..System::default()
    });
    let user = User { uid: 1000, gid: 100, name: Some(b"ann".to_vec()), ..User::default() };
    let scope = Scope { globals: &globals, defines: &mount.options.defines, user: Some(&user) };
    let text = expand(&line.entry, key, &|name| scope.lookup(name), mount.options.slashify_colons.unwrap_or(true));
    let place = line.entry_place();
    let entry = sun::parse(&text, &place, warnings)?;
    let relative = Path::new(OsStr::from_bytes(key));
    let at = if mount.direct {
        relative.to_path_buf()
    } else {
        Path::new(OsStr::from_bytes(&mount.mount_point)).join(relative)
    };
    let ctx = Context {
        at: &at,
        direct: mount.direct,
        master: &mount.options,
        global: &OptionList::default(),
        append_options: true,
        hosts_map: false,
        bind_links: true,
        dice: Dice(7),
        place: &place,
    };
    build(&entry, &ctx, &facts, warnings).map(|plan| plan.to_string())
}

fn facts(host: &[u8]) -> Host {
    match host {
        b"this-too" => Host::Local { serves: true },
        _ if host.starts_with(b"this") => Host::Local { serves: false },
        _ if host.starts_with(b"nowhere") => Host::Unknown,
        _ => Host::Remote,
    }
}
