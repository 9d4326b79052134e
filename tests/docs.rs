//! Checks documents and shipped configuration against the program: links have targets, named tests exist, every module is
//! described, every setting is shown with its default.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

#[allow(dead_code, unreachable_pub, reason = "shared with e2e")]
#[path = "common/console.rs"]
mod console;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use autofs::config::{AutofsConf, Native, defaults};
use autofs::map::toml::master::{self, MOUNT_POINTS};

/// Returns the root directory of the repository.
fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = top().join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Returns all files whose names end with `ending`, without those in `target` and hidden directories.
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

/// Returns the targets of `[text](target)` in a Markdown text.
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
        for link in links(&text).filter(|link| !link.contains("://")) {
            let Some((file, anchor)) = link.split_once('#') else { continue };
            let target = if file.is_empty() { document.clone() } else { document.parent().unwrap().join(file) };
            assert!(headings(&read(&target)).any(|h| h == anchor), "{}: no heading for {link}", document.display());
        }
    }
}

/// Returns the anchors of the headings in a Markdown text.
fn headings(text: &str) -> impl Iterator<Item = String> {
    let anchor = |line: &str| {
        let kept = line.trim_start_matches('#').trim().to_lowercase();
        kept.replace(' ', "-").chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
    };
    text.lines().filter(|line| line.starts_with('#')).map(anchor)
}

#[test]
fn autofs_conf_shows_every_setting_with_its_default() {
    let text = read("maps/autofs.conf");
    let file = Arc::from(Path::new("autofs.conf"));
    // Shipped values are set; lines with a "#" show the default.
    for key in defaults::KEYS {
        let lines: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix('#').unwrap_or(line).split_once('='))
            .filter(|(name, _)| name.trim_end() == key.name)
            .collect();
        let [(_, value)] = lines[..] else { panic!("{} occurs {} times", key.name, lines.len()) };
        if !text.contains(&format!("\n{} =", key.name)) {
            let default = if key.name == "master_map_name" { "auto.master" } else { key.default };
            assert_eq!(value.trim(), default, "{}", key.name);
        }
    }
    let (conf, wrong) = AutofsConf::read(Some((&file, text.as_bytes())), None, |_| None);
    assert_eq!((conf.autofs.timeout, conf.autofs.browse_mode, wrong.len()), (300, false, 0));
    let all = uncommented(&text);
    let (_, wrong) = AutofsConf::read(Some((&file, all.as_bytes())), None, |_| None);
    let wrong: Vec<_> = wrong.iter().map(ToString::to_string).collect();
    assert_eq!(
        wrong.iter().filter(|w| !w.contains("_class") && !w.contains("_attribute")).collect::<Vec<_>>(),
        [""; 0]
    );
}

#[test]
fn the_sample_master_map_in_toml_is_right() {
    let text = read("maps/auto.master.toml");
    let file = Arc::from(Path::new("auto.master.toml"));
    for text in [text.clone(), uncommented(&text).replace("\n#[[", "\n[[")] {
        let (items, said) = master::read(text.as_bytes(), &file);
        assert_eq!((items.is_empty(), said), (false, vec![]), "{text}");
    }
}

/// Removes the "#" before settings.
fn uncommented(text: &str) -> String {
    let is_setting = |line: &&str| line.split_once('=').is_some_and(|(name, _)| !name.trim_end().contains(' '));
    text.lines().map(|line| line.strip_prefix('#').filter(is_setting).unwrap_or(line).to_owned() + "\n").collect()
}

#[test]
fn autofs_toml_shows_every_key_with_its_default() {
    let text = read("maps/autofs.toml");
    let read = |text: &str| Native::parse(text.as_bytes(), &Arc::from(Path::new("autofs.toml")));
    let parse = |text: &str| read(text).map(|(native, _)| native);
    assert_eq!(parse(&text).unwrap(), Native::default());
    let all = uncommented(&text);
    assert_eq!(parse(&all).unwrap(), Native::default());
    // The error for an unknown name lists the known ones.
    let names = |text: &str| {
        let help = parse(text).unwrap_err().remove(0).help.unwrap();
        help.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
    };
    for table in names("[unknown]").into_iter().filter(|name| name != MOUNT_POINTS) {
        let part = all.split_once(&format!("[{table}]\n")).unwrap().1.split("\n\n").next().unwrap();
        for key in names(&format!("[{table}]\nunknown = 1")) {
            assert!(part.contains(&format!("\n{key} = ")), "{key} of [{table}]");
        }
    }
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

/// Returns the names in backquotes that look like `a::b` or `a::b::c`.
fn tests_named_in(text: &str) -> Vec<&str> {
    let is_name = |word: &&str| {
        word.contains("::") && word.split("::").all(|part| !part.is_empty()) && !word.contains(char::is_whitespace)
    };
    text.split('`').skip(1).step_by(2).filter(is_name).collect()
}

/// Returns whether a test exists: `suite::...` in `tests`, else `module::...` in `src`.
#[allow(clippy::disallowed_methods, reason = "no automounts in the repository")]
fn is_test(name: &str) -> bool {
    let (path, test) = name.rsplit_once("::").unwrap();
    if path == "compliance" {
        let vectors = files(".toml").into_iter().filter(|file| file.parent().is_some_and(|p| p.ends_with("vectors")));
        return vectors.into_iter().any(|file| read(file).contains(&format!("\nid = \"{test}\"\n")));
    }
    let path = path.replace("::", "/");
    let candidates = ["tests/?.rs", "tests/?/main.rs", "tests/?/cases.rs", "src/?.rs", "src/?/mod.rs"]
        .map(|c| c.replace('?', &path));
    candidates.iter().filter(|c| top().join(c).exists()).any(|c| {
        let text = read(c);
        // A test of libtest-mimic may have another name than its function.
        [format!("fn {test}("), format!("::{test}\""), format!("case(\"{test}\"")]
            .iter()
            .any(|named| text.contains(named))
    })
}

#[test]
fn tests_that_are_named_exist() {
    let text = read("docs/SEMANTICS.md");
    let names = tests_named_in(&text);
    assert!(names.len() > 100);
    let security = read("SECURITY.md");
    let names = names.into_iter().chain(tests_named_in(&security));
    let missing: Vec<_> = names.filter(|name| !is_test(name)).collect();
    assert_eq!(missing, [""; 0]);
}

/// Every statement in SEMANTICS.md names a test.
#[test]
fn statements_have_tests() {
    for statement in read("docs/SEMANTICS.md").split("\n* ").skip(1) {
        let statement = statement.split("\n\n").next().unwrap();
        assert!(!tests_named_in(statement).is_empty(), "{statement}");
    }
}

/// The rows of ARCHITECTURE.md below `heading`.
fn rows(text: &str, heading: &str) -> Vec<String> {
    let part = text.split_once(heading).unwrap_or_else(|| panic!("no {heading}")).1.split("\n## ").next().unwrap();
    part.lines().filter(|line| line.starts_with('|')).skip(2).map(str::to_owned).collect()
}

#[test]
fn tests_of_invariants_exist() {
    let rows = rows(&read("ARCHITECTURE.md"), "\n## Invariants\n");
    assert!(rows.len() > 8);
    for row in rows {
        let names = tests_named_in(&row);
        assert!(!names.is_empty() || row.contains("the type") || row.contains("the lints"), "{row}");
        let missing: Vec<_> = names.into_iter().filter(|name| !is_test(name)).collect();
        assert_eq!(missing, [""; 0]);
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "no automounts in the repository")]
fn every_module_is_described() {
    let rows = rows(&read("ARCHITECTURE.md"), "\n## Modules\n").concat();
    for entry in fs::read_dir(top().join("src")).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if !matches!(name.as_str(), "lib.rs" | "bin") {
            assert!(rows.contains(&format!("(src/{name})")), "{name}");
        }
    }
}

#[test]
fn vectors_that_are_named_exist() {
    let text = read("docs/differences.md");
    // A letter and a number: `m42-...`.
    let is_id = |word: &&str| matches!(word.as_bytes(), [b'a'..=b'z', b'0'..=b'9', b'0'..=b'9' | b'-', ..]);
    let ids: Vec<_> = text.split('`').skip(1).step_by(2).filter(is_id).collect();
    assert!(ids.len() > 10);
    let missing: Vec<_> = ids.into_iter().filter(|id| !is_test(&format!("compliance::{id}"))).collect();
    assert_eq!(missing, [""; 0]);
}

#[test]
fn the_table_of_features_has_no_holes() {
    let text = read("README.md");
    let rows: Vec<_> = text.lines().filter(|line| line.starts_with('|')).collect();
    assert!(rows.len() > 20);
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert!(cells.len() == 3 && cells.iter().all(|cell| !cell.is_empty()), "{row}");
    }
}

/// The documents whose commands `e2e::documents` runs.
const RUN: &[&str] =
    &["README.md", "docs/MIGRATING-FROM-AUTOFS.md", "docs/TROUBLESHOOTING.md", "packaging/man/autofsctl.8"];

#[test]
fn commands_in_documents_are_run_or_say_why_not() {
    let pages = fs::read_dir(top().join("packaging/man")).unwrap().map(|entry| entry.unwrap().path());
    for document in files(".md").into_iter().chain(pages) {
        let name = document.strip_prefix(top()).unwrap().to_str().unwrap();
        let is_known = console::DOCUMENTS.iter().any(|(known, _)| *known == name);
        let blocks = console::blocks(name, &read(&document));
        assert!(is_known || blocks.is_empty(), "{name} has commands: add it to tests/common/console.rs");
        for block in blocks {
            let place = format!("{name}:{}", block.line);
            assert!(
                !block.steps.is_empty(),
                "{place}: a block without a command; a command begins with \"$ \" or \"# \""
            );
            match &block.why_not {
                Some(reason) => assert!(reason.len() > 10, "{place}: say why it is not run"),
                None => assert!(
                    RUN.contains(&name),
                    "{place}: e2e::documents does not run {name}: let it do so, or write <!-- not run: REASON --> before it"
                ),
            }
        }
    }
    let tests = read("tests/e2e/documents.rs");
    assert!(RUN.iter().all(|name| tests.contains(&format!("run(\"{name}\""))));
}

/// Commands in other blocks would neither be run nor be marked as not run.
#[test]
fn commands_stand_in_console_blocks() {
    const SHELLS: [&str; 8] = ["sh", "bash", "zsh", "fish", "shell", "shell-session", "bash-session", "terminal"];
    for document in files(".md") {
        let text = read(&document);
        // The language of the block of this line, and how far the block is indented.
        let mut block: Option<(&str, usize)> = None;
        for (line, number) in text.lines().zip(1..) {
            let place = format!("{}:{number}", document.display());
            let indent = line.len() - line.trim_start().len();
            match (line.trim().strip_prefix("```"), block) {
                (Some(_), Some(_)) => block = None,
                (Some(language), None) => {
                    assert!(!SHELLS.contains(&language), "{place}: a block of commands is a console block");
                    block = Some((language, indent));
                }
                (None, Some(("console", _))) => {}
                // The output of programs, with a `$` further to the right, is no command.
                (None, Some((_, left))) => {
                    let is_command = line.get(left..).is_some_and(|line| line.starts_with("$ "));
                    assert!(!is_command, "{place}: a command in another block than a console block");
                }
                (None, None) => {
                    let is_command = indent >= 4 && line.trim_start().starts_with("$ ");
                    assert!(!is_command, "{place}: a command outside of a console block");
                }
            }
        }
        assert_eq!(block, None, "{}: a block without an end", document.display());
    }
}

#[test]
fn output_is_compared_with_what_a_document_shows() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let shown = lines("automount 0.1.0  pid 7  up 3s\n...\n/home  5m  until 12:51\n");
    let printed = "automount 9.9.9 pid 4711 up 120ms\nany\nother\n/home   5m until 01:02:03\n";
    assert_eq!(console::difference(&shown, printed), None);
    assert!(console::difference(&shown, &printed.replace("5m", "6m")).is_some());
    assert!(console::difference(&shown, &(printed.to_owned() + "more\n")).is_some());
    assert_eq!(console::difference(&lines("read in ... ms: 1 added"), "read in 12 ms: 1 added\n"), None);
    assert!(console::difference(&lines("read in ... ms: 1 added"), "read in 12 ms: 2 added\n").is_some());
    let text = "<!-- not run: needs a robot -->\n\n```console\n$ a \\\n  b\nout\n# c\n```\n";
    let blocks = console::blocks("x.md", text);
    assert_eq!(blocks[0].why_not.as_deref(), Some("needs a robot"));
    assert_eq!((blocks[0].steps[0].command.as_str(), &blocks[0].steps[0].shown), ("a \\\n  b", &lines("out")));
    assert_eq!(blocks[0].steps.len(), 2);
}
