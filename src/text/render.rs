//! Renders a diagnostic for users: the line of the input, with a mark under the error.

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::{Diagnostic, Escaped, Severity};

/// Renders `diagnostic` in several lines, without a newline at the end; with colours for a terminal if `coloured`.
///
/// The column counts characters as shown. With escaped characters in the line, it differs from the column of the one-line form.
pub fn render(diagnostic: &Diagnostic, coloured: bool) -> String {
    let level = match diagnostic.severity {
        Severity::Warning => Level::WARNING,
        Severity::Error => Level::ERROR,
    };
    let place = &diagnostic.place;
    let path = Escaped::path(&place.file).to_string();
    let message = Escaped(diagnostic.message.as_bytes()).to_string();
    let group = level.primary_title(message).id(diagnostic.code);
    let mut group: Group<'_> = match (&diagnostic.excerpt, place.line) {
        (_, 0) => group.element(Origin::path(path)),
        (None, line) => group.element(Origin::path(path).line(line as usize).char_column(place.column as usize)),
        (Some(text), line) => {
            let at = place.column.saturating_sub(1) as usize;
            let (source, start, end) = excerpt(text, at, diagnostic.length as usize);
            let mark = AnnotationKind::Primary.span(start..end);
            group.element(Snippet::source(source).line_start(line as usize).path(path).annotation(mark))
        }
    };
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(Escaped(help.as_bytes()).to_string()));
    }
    let renderer = if coloured { Renderer::styled() } else { Renderer::plain() };
    renderer.render(&[group])
}

/// Makes `line` printable. Also returns the start and end of the mark, for `length` bytes from byte `at` on.
fn excerpt(line: &[u8], at: usize, length: usize) -> (String, usize, usize) {
    let at = at.min(line.len());
    let end = at.saturating_add(length).min(line.len());
    let show = |from: usize, to: usize| {
        // A tab is shown as one column, so that the mark is at the right column on any terminal.
        let part = line.get(from..to).unwrap_or_default();
        part.split(|&b| b == b'\t').map(|p| Escaped(p).to_string()).collect::<Vec<_>>().join(" ")
    };
    let (before, marked, after) = (show(0, at), show(at, end), show(end, line.len()));
    let (start, end) = (before.len(), before.len() + marked.len());
    (before + &marked + &after, start, end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Position;
    use proptest::prelude::*;
    use std::path::Path;
    use std::sync::Arc;

    fn diagnostic(line: &[u8], column: u32, length: usize) -> Diagnostic {
        let file: Arc<Path> = Path::new("/etc/auto.master").into();
        Diagnostic::error("master::timeout", Position::new(&file, 3, column), "invalid timeout \"5m\"")
            .help("write --timeout=300")
            .length(length)
            .excerpt(line)
    }

    #[test]
    fn the_mark_stands_under_what_is_wrong() {
        assert_eq!(
            render(&diagnostic(b"/home  auto.home --timeout=5m", 28, 2), false),
            "error[master::timeout]: invalid timeout \"5m\"\n --> /etc/auto.master:3:28\n  |\n\
             3 | /home  auto.home --timeout=5m\n  |                            ^^\n  |\n  = help: write --timeout=300"
        );
    }

    #[test]
    fn what_cannot_be_printed_is_escaped() {
        let text = render(&diagnostic(b"gr\xf6\xdfe\x1b[2J\tx y", 11, 1), false);
        assert!(text.contains("3 | gr\\xf6\\xdfe\\x1b[2J x y\n  |                    ^\n"), "{text}");
        assert!(render(&diagnostic(b"a b", 3, 1), true).contains("\x1b["));
    }

    #[test]
    fn without_the_line_the_place_remains() {
        let mut d = diagnostic(b"", 28, 0);
        d.excerpt = None;
        assert_eq!(
            render(&d, false),
            "error[master::timeout]: invalid timeout \"5m\"\n --> /etc/auto.master:3:28\n  = help: write --timeout=300"
        );
        d.place = Position::whole(Path::new("/etc/x"));
        d.severity = Severity::Warning;
        d.help = None;
        assert_eq!(render(&d, false), "warning[master::timeout]: invalid timeout \"5m\"\n --> /etc/x");
    }

    proptest! {
        #[test]
        fn anything_can_be_rendered(line in proptest::collection::vec(any::<u8>(), 0..300), column in 0..400u32, length in 0..400usize) {
            let text = render(&diagnostic(&line, column, length), false);
            prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
        }
    }
}
