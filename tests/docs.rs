//! The documents and the shipped configuration say what is so: links lead somewhere, tests that are named exist, every
//! setting is shown with its default.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use autofs::config::{AutofsConf, Native, defaults};

/// The top of the repository.
fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = top().join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// All files whose names end so, without those that cargo and git keep.
fn files(ending: &str) -> Vec<PathBuf> {
    let (mut found, mut directories) = (Vec::new(), vec![top().to_owned()]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            if entry.file_type().unwrap().is_dir() {
                if name != "target" && !name.starts_with('.') {
                    directories.push(entry.path());
                }
            } else if name.ends_with(ending) {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

/// The targets of `[text](target)` in a Markdown text.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

#[test]
#[allow(clippy::disallowed_methods, reason = "no automounts in the repository")]
fn links_lead_somewhere() {
    let documents = files(".md");
    assert!(!documents.is_empty());
    for document in documents {
        let text = read(&document);
        for link in links(&text).filter(|link| !link.contains("://") && !link.starts_with('#')) {
            let target = document.parent().unwrap().join(link.split('#').next().unwrap());
            assert!(target.exists(), "{}: {link}", document.display());
        }
    }
}

#[test]
fn autofs_conf_shows_every_setting_with_its_default() {
    let text = read("maps/autofs.conf");
    let file = Arc::from(Path::new("autofs.conf"));
    // What is shipped is in force, what stands behind a "#" is the default.
    for key in defaults::KEYS {
        let lines: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix('#').unwrap_or(line).split_once('='))
            .filter(|(name, _)| name.trim_end() == key.name)
            .collect();
        let [(_, value)] = lines[..] else { panic!("{} stands there {} times", key.name, lines.len()) };
        if !text.contains(&format!("\n{} =", key.name)) {
            let default = if key.name == "master_map_name" { "auto.master" } else { key.default };
            assert_eq!(value.trim(), default, "{}", key.name);
        }
    }
    let (conf, wrong) = AutofsConf::read(Some((&file, text.as_bytes())), None, |_| None);
    assert_eq!((conf.autofs.timeout, conf.autofs.browse_mode, wrong.len()), (300, false, 0));
    let all: String = text
        .lines()
        .map(|line| line.strip_prefix('#').filter(|l| is_setting(l)).unwrap_or(line).to_owned() + "\n")
        .collect();
    let (_, wrong) = AutofsConf::read(Some((&file, all.as_bytes())), None, |_| None);
    let wrong: Vec<_> = wrong.iter().map(ToString::to_string).collect();
    assert_eq!(
        wrong.iter().filter(|w| !w.contains("_class") && !w.contains("_attribute")).collect::<Vec<_>>(),
        [""; 0]
    );
}

/// `name = value`, and no prose.
fn is_setting(line: &str) -> bool {
    line.split_once('=').is_some_and(|(name, _)| !name.starts_with(' ') && !name.trim_end().contains(' '))
}

#[test]
fn autofs_toml_shows_defaults() {
    let text = read("maps/autofs.toml");
    let parse = |text: &str| Native::parse(text.as_bytes(), &Arc::from(Path::new("autofs.toml")));
    assert_eq!(parse(&text).unwrap(), Native::default());
    let all: String = text
        .lines()
        .map(|line| line.strip_prefix('#').filter(|l| is_setting(l)).unwrap_or(line).to_owned() + "\n")
        .collect();
    assert_ne!(all, text);
    assert_eq!(parse(&all).unwrap(), Native::default());
}

#[test]
fn shipped_configuration_has_no_mistakes() {
    let check = Command::new(env!("CARGO_BIN_EXE_autofsctl"))
        .args(["check", "maps/auto.misc", "maps/autofs.conf", "maps/autofs.toml"])
        .current_dir(top())
        .output()
        .unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
}
