//! The commands in the documents: `console` blocks in Markdown, and `.Dl` lines with a prompt in manual pages.
//!
//! A block is run by `e2e::documents`, unless a comment before it says why it is not: `<!-- not run: REASON -->` in Markdown,
//! `.\" not run: REASON` in a manual page.

/// The commands of a block, and what the document shows of their output.
#[derive(Debug)]
pub struct Block {
    /// The document, below the root of the repository.
    pub file: String,
    /// The line of the first command.
    pub line: usize,
    /// Why it is not run.
    pub why_not: Option<String>,
    /// The commands.
    pub steps: Vec<Step>,
}

/// A command.
#[derive(Debug)]
pub struct Step {
    /// The command line, without its prompt.
    pub command: String,
    /// The lines that follow it.
    pub shown: Vec<String>,
}

macro_rules! document {
    ($name:literal) => {
        ($name, include_str!(concat!("../../", $name)))
    };
}

/// All documents that have such blocks.
pub const DOCUMENTS: &[(&str, &str)] = &[
    document!("CONTRIBUTING.md"),
    document!("README.md"),
    document!("docs/CONTAINERS.md"),
    document!("docs/MIGRATING-FROM-AUTOFS.md"),
    document!("docs/MIGRATION.md"),
    document!("docs/PACKAGING.md"),
    document!("docs/TROUBLESHOOTING.md"),
    document!("packaging/man/autofsctl.8"),
    document!("packaging/man/automount.8"),
];

/// Returns the blocks of a document.
pub fn blocks(name: &str, text: &str) -> Vec<Block> {
    if name.ends_with(".md") { in_markdown(name, text) } else { in_page(name, text) }
}

fn in_markdown(file: &str, text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut mark: Option<String> = None;
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if let Some(reason) = line.trim().strip_prefix("<!-- not run: ").and_then(|rest| rest.strip_suffix(" -->")) {
            mark = Some(reason.to_owned());
        } else if line.trim() == "```console" {
            let indent = line.len() - line.trim_start().len();
            let body = lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```");
            let steps = steps(body.map(|line| line.get(indent..).unwrap_or_default()));
            blocks.push(Block { file: file.to_owned(), line: number + 2, why_not: mark.take(), steps });
        } else if !line.trim().is_empty() {
            mark = None;
        }
    }
    blocks
}

fn in_page(file: &str, text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut mark: Option<String> = None;
    let mut last = 0;
    for (line, number) in text.lines().zip(1..) {
        if let Some(reason) = line.strip_prefix(".\\\" not run: ") {
            mark = Some(reason.to_owned());
            continue;
        }
        let Some(command) = line.strip_prefix(".Dl ").filter(|text| text.starts_with("$ ") || text.starts_with("# "))
        else {
            mark = None;
            continue;
        };
        let step = Step { command: command[2..].replace("\\e", "\\").replace("\\&", ""), shown: Vec::new() };
        match blocks.last_mut().filter(|_| last + 1 == number) {
            Some(block) => block.steps.push(step),
            None => {
                let why_not = mark.take();
                blocks.push(Block { file: file.to_owned(), line: number, why_not, steps: vec![step] });
            }
        }
        last = number;
    }
    blocks
}

fn steps<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in lines {
        let command = line.strip_prefix("$ ").or_else(|| line.strip_prefix("# "));
        match (command, steps.last_mut()) {
            (Some(command), _) => steps.push(Step { command: command.to_owned(), shown: Vec::new() }),
            (None, Some(step)) if step.shown.is_empty() && step.command.ends_with('\\') => {
                step.command += "\n";
                step.command += line;
            }
            (None, Some(step)) => step.shown.push(line.to_owned()),
            (None, None) => {}
        }
    }
    steps
}

/// Returns the first line that is shown and was not printed. `...` in a line stands for anything, and on a line of its own for
/// any lines. Times, process ids and the width of columns may differ.
pub fn difference(shown: &[String], printed: &str) -> Option<String> {
    let printed: Vec<String> = printed.lines().map(normal).filter(|line| !line.is_empty()).collect();
    let mut rest = printed.as_slice();
    let mut skips = false;
    for line in shown.iter().map(|line| normal(line)).filter(|line| !line.is_empty()) {
        if line == "..." {
            skips = true;
            continue;
        }
        let at = rest.iter().position(|printed| is_like(&line, printed));
        match at {
            Some(0) => rest = &rest[1..],
            Some(at) if skips => rest = &rest[at + 1..],
            _ => return Some(line),
        }
        skips = false;
    }
    rest.first().filter(|_| !skips).map(|line| format!("(nothing, but printed is) {line}"))
}

/// A line with one blank between words, and without what is different each time.
fn normal(line: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in line.split_whitespace() {
        let digits = word.trim_end_matches(char::is_alphabetic);
        let unit = &word[digits.len()..];
        let is_number = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit() || c == '.');
        let is_clock = digits.contains(':') && digits.chars().all(|c| c.is_ascii_digit() || c == ':');
        let is_version = words.last().is_some_and(|last| last == "automount") && digits.contains('.');
        let is_pid = words.last().is_some_and(|last| last == "pid") && is_number;
        words.push(match unit {
            _ if is_pid => "PID".to_owned(),
            _ if is_version => "VERSION".to_owned(),
            "" if is_clock => "CLOCK".to_owned(),
            "ms" | "s" if is_number => "TIME".to_owned(),
            _ => word.to_owned(),
        });
    }
    words.join(" ")
}

fn is_like(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split("...");
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let mut ends = first.len() == pattern.len();
    for part in parts {
        ends = part.is_empty();
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    ends || rest.is_empty()
}
