//! Tests that say themselves what they need from the machine.

use std::process::{Command, Stdio};

use libtest_mimic::Trial;

/// A test for the harness. It is listed as ignored, with the reason behind its name, if this machine lacks something.
pub fn trial(name: &str, lacking: Option<&str>, run: impl FnOnce() -> Result<(), String> + Send + 'static) -> Trial {
    let title = lacking.map_or_else(|| name.to_owned(), |why| format!("{name} ({why})"));
    Trial::test(title, move || Ok(run()?)).with_ignored_flag(lacking.is_some())
}

/// Returns what this machine lacks, if it is one of these programs, which know `--version` or fail without it.
#[allow(dead_code, reason = "suites that need no programs have this module, too")]
pub fn lacking(programs: &[&str]) -> Option<String> {
    let is_there = |program: &str| Command::new(program).arg("--version").stdin(Stdio::null()).output().is_ok();
    programs.iter().find(|program| !is_there(program)).map(|program| format!("needs {program}"))
}
