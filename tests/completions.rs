//! The completions in real shells, on a terminal that script(1) plays.
//!
//! Each shell completes a command line that prints the script for zsh, and runs it.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]
#![allow(unreachable_pub, reason = "a module is shared between the suites")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Arguments;

const AUTOFSCTL: &str = env!("CARGO_BIN_EXE_autofsctl");

/// First line that the completed command prints.
const PRINTED: &str = "#compdef autofsctl";

/// How long a shell may take. Only a test that fails takes so long.
const PATIENCE: Duration = Duration::from_secs(120);

#[path = "common/trial.rs"]
mod trial;

fn main() -> ExitCode {
    let test = |shell: &str, run: fn()| {
        let terminals = || fs::File::open("/dev/ptmx").err().map(|_| "needs /dev/ptmx".to_owned());
        let lacking = trial::lacking(&["script", shell]).or_else(terminals);
        trial::trial(shell, lacking.as_deref(), move || {
            run();
            Ok(())
        })
    };
    let tests = vec![test("bash", bash), test("zsh", zsh), test("fish", fish)];
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

fn bash() {
    completes("bash", "--norc --noprofile -i", "eval \"$(autofsctl completions bash)\"");
}

fn zsh() {
    completes("zsh", "-f -i", "autoload -Uz compinit && compinit -D -u && eval \"$(autofsctl completions zsh)\"");
}

fn fish() {
    completes("fish", "--no-config -i", "autofsctl completions fish | source");
}

/// Starts a shell, lets it load the completions, and types a command line with tabs until the completed command has run.
fn completes(shell: &str, arguments: &str, load: &str) {
    let directory = tempfile::tempdir().unwrap();
    let sent = directory.path().join("sent");
    let programs = Path::new(AUTOFSCTL).parent().unwrap().to_str().unwrap();
    let mut script = Command::new("script")
        .args(["-q", "-f", "-c", &format!("{shell} {arguments}")])
        .arg(&sent)
        .current_dir(directory.path())
        .env("PATH", format!("{programs}:{}", std::env::var("PATH").unwrap()))
        .env("HOME", directory.path())
        .env("TERM", "xterm")
        .env("SHELL", "/bin/sh")
        .env_remove("ENV")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut keys = script.stdin.take().unwrap();
    let said = || String::from_utf8_lossy(&fs::read(&sent).unwrap_or_default()).into_owned();
    let end = Instant::now() + PATIENCE;
    let wait = |text: &str, patience: Duration| {
        let end = end.min(Instant::now() + patience);
        while Instant::now() < end {
            if said().contains(text) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    };
    // The word is not in what is typed, so that its echo is not taken for the answer.
    keys.write_all(format!("{load}; echo load\"\"ed\r").as_bytes()).unwrap();
    assert!(wait("loaded", PATIENCE), "{shell} does not begin:\n{}", said());
    let mut completed = false;
    // A shell may drop what is typed while it draws its prompt.
    while !completed && Instant::now() < end {
        keys.write_all(b"\x15autofsctl compl\tz\t\r").unwrap();
        completed = wait(PRINTED, Duration::from_secs(10));
    }
    // It may have ended.
    let _ = keys.write_all(b"\x15exit\r");
    drop(keys);
    let shown = said();
    let _ = script.kill();
    let _ = script.wait();
    assert!(completed, "{shell} has not completed the command:\n{shown}");
}
