//! The findings of a check, and their output.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::probe::{self, Probe};
use crate::control::Bytes;
use crate::text::{self, Diagnostic, Escaped, Severity};

/// Diagnostics in the order in which they were found, each once, and the files that were read.
#[derive(Debug, Default)]
pub(super) struct Report {
    diagnostics: Vec<Diagnostic>,
    /// The diagnostics as they are logged.
    told: HashSet<(Severity, String)>,
    files: BTreeSet<PathBuf>,
    /// Answers of the sources, if they were asked.
    probes: Option<Vec<Probe>>,
}

impl Report {
    pub(super) fn set_probes(&mut self, probes: Vec<Probe>) {
        self.probes = Some(probes);
    }

    /// Returns whether a source that was asked has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.probes.as_deref().is_some_and(probe::any_failed)
    }

    pub(super) fn push(&mut self, diagnostic: Diagnostic) {
        if self.told.insert((diagnostic.severity, diagnostic.to_string())) {
            self.diagnostics.push(diagnostic);
        }
    }

    pub(super) fn extend(&mut self, diagnostics: impl IntoIterator<Item = Diagnostic>) {
        diagnostics.into_iter().for_each(|diagnostic| self.push(diagnostic));
    }

    /// Counts a file as read.
    pub(super) fn count(&mut self, file: &Path) {
        if !self.files.contains(file) {
            self.files.insert(file.to_owned());
        }
    }

    /// Brings the diagnostics into the order of their files and lines, gives those of entries their real place where lines
    /// are joined, and drops warnings at a place about which there is something better to say.
    pub(super) fn arrange(&mut self) {
        let mut order: Vec<Arc<Path>> = Vec::new();
        for diagnostic in &self.diagnostics {
            if !order.contains(&diagnostic.place.file) {
                order.push(Arc::clone(&diagnostic.place.file));
            }
        }
        let mut arranged = Vec::with_capacity(self.diagnostics.len());
        for file in &order {
            let (mut of_file, others) =
                std::mem::take(&mut self.diagnostics).into_iter().partition(|d| d.place.file == *file);
            self.diagnostics = others;
            locate(&mut of_file, file);
            of_file.sort_by_key(|d| (d.place.line, d.place.column));
            // Of warnings at one place from one area, the one that was found last says most.
            let mut last: HashMap<(u32, u32, &str), usize> = HashMap::new();
            let mut wrong: HashSet<(u32, u32)> = HashSet::new();
            for (at, d) in of_file.iter().enumerate().filter(|(_, d)| d.place.line > 0) {
                let place = (d.place.line, d.place.column);
                if d.severity == Severity::Error {
                    wrong.insert(place);
                } else if !concerns_the_file(d) {
                    last.insert((place.0, place.1, area(d.code)), at);
                }
            }
            let kept: HashSet<usize> = last.into_values().collect();
            let mut at = 0..;
            of_file.retain(|d| {
                let at = at.next().unwrap_or_default();
                let is_told = d.code == "text::typographic" && wrong.contains(&(d.place.line, d.place.column));
                let is_free = d.place.line == 0 || d.severity == Severity::Error || concerns_the_file(d);
                is_free || (kept.contains(&at) && !is_told)
            });
            arranged.append(&mut of_file);
        }
        self.diagnostics = arranged;
    }

    /// Gives a file another name in all that is shown.
    pub(super) fn rename(&mut self, file: &Path, name: &Path) {
        let (mut lines, shown) = (Lines::default(), Escaped::path(file).to_string());
        let renamed = |text: &str| text.replace(&shown, &Escaped::path(name).to_string());
        for diagnostic in &mut self.diagnostics {
            diagnostic.message = renamed(&diagnostic.message);
            diagnostic.help = diagnostic.help.as_deref().map(renamed);
            if *diagnostic.place.file == *file {
                // The line is read while the file has the name by which it can be opened.
                let line = diagnostic.place.line;
                diagnostic.excerpt =
                    diagnostic.excerpt.take().or_else(|| Some(lines.line(&diagnostic.place.file, line)?.into()));
                diagnostic.place.file = name.into();
            }
        }
        if self.files.remove(file) {
            self.files.insert(name.to_owned());
        }
    }

    /// Leaves out the warnings with these codes.
    pub(super) fn allow(&mut self, codes: &[String]) {
        self.diagnostics.retain(|d| d.severity == Severity::Error || !codes.iter().any(|code| code == d.code));
    }

    pub(super) fn errors(&self) -> usize {
        self.diagnostics.iter().filter(|d| d.severity == Severity::Error).count()
    }

    pub(super) fn warnings(&self) -> usize {
        self.diagnostics.len() - self.errors()
    }

    /// For people: each diagnostic with its line, and a summary if it is wanted.
    pub(super) fn text(&self, color: bool, summary: bool) -> String {
        let mut lines = Lines::default();
        let mut out = String::new();
        for diagnostic in &self.diagnostics {
            let mut diagnostic = diagnostic.clone();
            if diagnostic.excerpt.is_none() {
                diagnostic.excerpt =
                    lines.line(&diagnostic.place.file, diagnostic.place.line).map(Vec::into_boxed_slice);
            }
            out += &text::render(&diagnostic, color);
            out += "\n\n";
        }
        if let Some(probes) = self.probes.as_deref().filter(|probes| !probes.is_empty()) {
            out += &probe::table(probes, color);
        }
        if !summary {
            return out;
        }
        let plural = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        out += &format!(
            "{}, {} in {}\n",
            plural(self.errors(), "error"),
            plural(self.warnings(), "warning"),
            plural(self.files.len(), "file")
        );
        out
    }

    /// For programs.
    pub(super) fn json(&self) -> Json<'_> {
        Json {
            errors: self.errors(),
            warnings: self.warnings(),
            files: self.files.iter().map(|file| Bytes::from(file.as_path())).collect(),
            diagnostics: self.diagnostics.iter().map(Into::into).collect(),
            probes: self.probes.as_deref(),
        }
    }
}

/// Returns what a code is about: the word before its colons, but for keys, about which two areas speak.
fn area(code: &str) -> &str {
    if code == "map::key" { "key" } else { code.split("::").next().unwrap_or_default() }
}

/// Returns whether a diagnostic says nothing about the word at its place: it is about all lines, or about the machine.
fn concerns_the_file(diagnostic: &Diagnostic) -> bool {
    let code = diagnostic.code;
    code == "plan::no-source" || (code.starts_with("text::") && code != "text::typographic")
}

/// Gives diagnostics whose columns count on without the joints of lines their real places.
fn locate(diagnostics: &mut [Diagnostic], file: &Arc<Path>) {
    let pending: HashSet<u32> =
        diagnostics.iter().filter(|d| d.excerpt.is_none() && d.place.line > 0).map(|d| d.place.line).collect();
    if pending.is_empty() {
        return;
    }
    let Ok(content) = super::read(file) else { return };
    for line in text::lines(&content, file).flatten() {
        let number = line.entry_place().line;
        if pending.contains(&number) {
            for d in diagnostics.iter_mut().filter(|d| d.excerpt.is_none() && d.place.line == number) {
                *d = line.locate(d.clone());
            }
        }
    }
}

/// The lines of files, for diagnostics that come without theirs.
#[derive(Default)]
struct Lines(HashMap<Arc<Path>, Option<Vec<u8>>>);

impl Lines {
    /// Line `number`, from 1.
    fn line(&mut self, file: &Arc<Path>, number: u32) -> Option<Vec<u8>> {
        let text = self.0.entry(Arc::clone(file)).or_insert_with(|| super::read(file).ok()).as_deref()?;
        let before = usize::try_from(number).ok()?.checked_sub(1)?;
        text.split(|&b| b == b'\n').nth(before).map(<[u8]>::to_vec)
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Json<'a> {
    errors: usize,
    warnings: usize,
    files: Vec<Bytes>,
    diagnostics: Vec<JsonDiagnostic<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probes: Option<&'a [Probe]>,
}

/// Line and column count from 1 and are absent where the file as a whole is meant; column and length are in bytes.
#[derive(Debug, Serialize)]
struct JsonDiagnostic<'a> {
    severity: &'static str,
    code: &'static str,
    file: Bytes,
    #[serde(skip_serializing_if = "is_zero")]
    line: u32,
    #[serde(skip_serializing_if = "is_zero")]
    column: u32,
    #[serde(skip_serializing_if = "is_zero")]
    length: u32,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<&'a str>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl<'a> From<&'a Diagnostic> for JsonDiagnostic<'a> {
    fn from(d: &'a Diagnostic) -> Self {
        Self {
            severity: match d.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            code: d.code,
            file: Bytes::from(&*d.place.file),
            line: d.place.line,
            column: d.place.column,
            length: d.length,
            message: &d.message,
            help: d.help.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Position;

    #[test]
    fn diagnostics_are_told_once_with_their_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("map");
        std::fs::write(&path, "a b\nkey -ro bad:\n").unwrap();
        let file: Arc<Path> = path.as_path().into();
        let mut report = Report::default();
        let d = Diagnostic::error("sun::location", Position::new(&file, 2, 9), "no path").length(4);
        report.extend([d.clone(), d]);
        report.push(Diagnostic::warning("map::empty", Position::whole(&path), "empty"));
        report.count(&path);
        report.count(&path);
        assert_eq!(
            report.text(false, true).replace(path.to_str().unwrap(), "@"),
            "error[sun::location]: no path\n --> @:2:9\n  |\n2 | key -ro bad:\n  |         ^^^^\n\n\
             warning[map::empty]: empty\n --> @\n\n\
             1 error, 1 warning in 1 file\n"
        );
        assert!(!report.text(false, false).contains("1 error, 1 warning"));
        report.allow(&["sun::location".into()]);
        assert_eq!((report.errors(), report.warnings()), (1, 1), "errors are not left out");
        let json = serde_json::to_value(report.json()).unwrap();
        assert_eq!((&json["errors"], &json["warnings"]), (&1.into(), &1.into()));
        assert_eq!(json["diagnostics"][0]["column"], 9);
        assert!(json["diagnostics"][1].get("line").is_none());
    }
}
