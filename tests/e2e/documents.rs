//! The commands in the documents do what the documents show.

use std::fs;
use std::process::Command;

use super::common::console::{self, Block};
use super::common::daemon::Daemon;
use super::common::suite::case;
use super::common::visit;
use super::common::world::put;
use super::common::{output, secs, site};

/// Runs the blocks of a document that are not marked, in `directory`.
#[track_caller]
fn run(name: &str, directory: &str) {
    let (_, text) = console::DOCUMENTS.iter().find(|(document, _)| *document == name).unwrap();
    let blocks = console::blocks(name, text);
    let mut count = 0;
    for block in blocks.iter().filter(|block| block.why_not.is_none()) {
        count += block.steps.len();
        run_block(block, directory);
    }
    assert!(count > 0, "{name} has nothing to run");
}

#[track_caller]
fn run_block(block: &Block, directory: &str) {
    let place = format!("{}:{}", block.file, block.line);
    for step in &block.steps {
        let mut command = Command::new("sh");
        command.args(["-c", &step.command]).current_dir(directory).env("NO_COLOR", "1");
        let said = output(&mut command, secs(20)).unwrap_or_else(|| panic!("{place}: {} does not end", step.command));
        let text = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
        let status = said.status.code().unwrap();
        // 1 is an answer, too. A list of commands ends at a no.
        let is_answer = status == 0 || status == 1 && !step.command.contains("&&");
        assert!(is_answer, "{place}: {} has ended with {status}:\n{text}", step.command);
        if !step.shown.is_empty() {
            let difference = console::difference(&step.shown, &text);
            assert_eq!(difference, None, "{place}: {}: it is not in what is printed:\n{text}", step.command);
        }
    }
}

/// The machine of the documents.
fn machine() -> Daemon {
    site::master("/home  /etc/auto.home  --timeout=300\n/proj  /etc/auto.proj  --timeout=60\n");
    put("/etc/auto.home", "*  :/srv/home/&\n");
    put("/etc/auto.proj", "x  -fstype=tmpfs  :tmpfs\n");
    fs::create_dir_all("/srv/home/alice").unwrap();
    let mut daemon = Daemon::start(["-f"]);
    daemon.ready(&["/home", "/proj"]);
    daemon
}

#[case]
fn readme() {
    put("/home/admin/auto.master", "/home auto.home --timeout=5m\n");
    run("README.md", "/home/admin");
}

#[case]
fn troubleshooting() {
    let daemon = machine();
    run("docs/TROUBLESHOOTING.md", "/");
    daemon.stop();
}

#[case]
fn migrating() {
    let daemon = machine();
    run("docs/MIGRATING-FROM-AUTOFS.md", "/");
    daemon.stop();
}

#[case]
fn autofsctl_8() {
    let daemon = machine();
    visit::serves("/home/alice");
    run("packaging/man/autofsctl.8", "/");
    daemon.stop();
}
