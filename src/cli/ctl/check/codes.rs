//! `autofsctl check --explain`: what the codes of errors and warnings mean, as docs/diagnostics says.

use serde::Serialize;

use super::super::client::ClientError;
use super::super::exit::Exit;
use super::super::{Session, output};
use crate::map::known;
use crate::text::Escaped;

/// The chapters, with a section for each code.
const CHAPTERS: &[&str] = &[
    include_str!("../../../../docs/diagnostics/master-maps.md"),
    include_str!("../../../../docs/diagnostics/maps.md"),
    include_str!("../../../../docs/diagnostics/options.md"),
    include_str!("../../../../docs/diagnostics/mounts.md"),
    include_str!("../../../../docs/diagnostics/am-utils.md"),
    include_str!("../../../../docs/diagnostics/toml.md"),
    include_str!("../../../../docs/diagnostics/configuration.md"),
];

/// The columns of the text where the terminal does not say how many it has.
const COLUMNS: usize = 80;

/// A code and what it means.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Section {
    code: &'static str,
    /// In Markdown.
    text: &'static str,
}

#[derive(Debug, Serialize)]
struct All {
    codes: Vec<&'static str>,
}

/// Returns all codes with their explanations.
fn sections() -> impl Iterator<Item = Section> {
    CHAPTERS.iter().flat_map(|chapter| chapter.split("\n## ").skip(1)).filter_map(|section| {
        let (code, text) = section.split_once('\n')?;
        Some(Section { code, text: text.trim() })
    })
}

/// Returns all codes in alphabetical order.
pub(in crate::cli::ctl) fn all() -> Vec<&'static str> {
    let mut codes: Vec<_> = sections().map(|section| section.code).collect();
    codes.sort_unstable();
    codes
}

/// Explains a code, or lists all codes. A code that does not exist is wrong usage.
pub(super) fn show(session: &Session, code: Option<&str>) -> Result<Exit, ClientError> {
    let Some(code) = code else {
        session.show(&All { codes: all() }, || all().join("\n") + "\n")?;
        return Ok(Exit::Yes);
    };
    let section = find(code)?;
    let code = section.code;
    session.show(&section, || format!("{code}\n\n{}", rendered(section.text, session.width.unwrap_or(COLUMNS))))?;
    Ok(Exit::Yes)
}

/// Returns the section about a code.
///
/// # Errors
/// There is no such code.
pub(super) fn find(code: &str) -> Result<Section, ClientError> {
    let code = code.trim_start_matches("error[").trim_start_matches("warning[").trim_end_matches(']');
    sections().find(|section| section.code == code).ok_or_else(|| {
        let near = match known::nearest(code.as_bytes(), all().into_iter()) {
            Some(near) => format!("did you mean {near}?"),
            None => "autofsctl check --explain lists all".to_owned(),
        };
        ClientError::Usage(format!("there is no code {}: {near}", Escaped(code.as_bytes())))
    })
}

/// Returns a section for a terminal: paragraphs are wrapped, and examples are indented.
fn rendered(text: &str, width: usize) -> String {
    let mut out = String::new();
    for (n, block) in text.split("```").enumerate() {
        if n % 2 == 1 {
            // The first line names the kind of the example.
            for line in block.lines().skip(1) {
                out += if line.is_empty() { "" } else { "    " };
                out += line;
                out += "\n";
            }
            out += "\n";
            continue;
        }
        for paragraph in block.trim().split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
            out += &output::wrapped(paragraph, width.min(COLUMNS));
            out += "\n";
        }
    }
    let end = out.trim_end().len();
    out.truncate(end);
    out + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_has_a_code_of_its_own() {
        let codes = all();
        assert!(codes.len() > 100);
        assert!(codes.windows(2).all(|pair| pair[0] != pair[1]), "{codes:?}");
        for section in sections() {
            assert!(section.code.split("::").count() == 2 && section.text.len() > 25, "{section:?}");
        }
    }

    #[test]
    fn a_section_is_wrapped_and_its_examples_are_indented() {
        let text = "One two\nthree four.\n\n```master\n/a b\n```\nWrite:\n\n```master\n/a /b\n```";
        assert_eq!(rendered(text, 10), "One two\nthree\nfour.\n\n    /a b\n\nWrite:\n\n    /a /b\n");
    }
}
