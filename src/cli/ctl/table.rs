//! Tables for people: left-aligned columns two blanks apart, numbers to the right, nothing drawn.

use unicode_width::UnicodeWidthStr as _;

/// How a column is aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Rows of cells below a heading. Cells must be printable already (see [`crate::text::Escaped`]).
#[derive(Debug)]
pub struct Table<const N: usize> {
    columns: [(&'static str, Align); N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// An empty table.
    pub fn new(columns: [(&'static str, Align); N]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row.
    pub fn push(&mut self, row: [String; N]) {
        self.rows.push(row);
    }

    /// The table's text, each line with its newline, the heading in bold if wanted.
    pub fn render(&self, bold: bool) -> String {
        let heading = self.line(self.columns.map(|(name, _)| name), &self.widths());
        let heading = if bold { format!("\x1b[1m{heading}\x1b[0m\n") } else { heading + "\n" };
        heading + &self.rows_only()
    }

    /// The table's text without the heading.
    pub fn rows_only(&self) -> String {
        let widths = self.widths();
        self.rows.iter().map(|row| self.line(row.each_ref().map(String::as_str), &widths) + "\n").collect()
    }

    fn widths(&self) -> [usize; N] {
        std::array::from_fn(|i| {
            let cells = self.rows.iter().filter_map(|row| row.get(i)).map(|cell| cell.width());
            let heading = self.columns.get(i).map_or(0, |(name, _)| name.len());
            cells.max().unwrap_or(0).max(heading)
        })
    }

    /// Formats a row.
    fn line(&self, cells: [&str; N], widths: &[usize; N]) -> String {
        let mut text = String::new();
        for ((cell, width), (_, align)) in cells.iter().zip(widths).zip(self.columns) {
            let pad = " ".repeat(width.saturating_sub(cell.width()));
            match align {
                Align::Left => text += &format!("{cell}{pad}  "),
                Align::Right => text += &format!("{pad}{cell}  "),
            }
        }
        text.trim_end().to_owned()
    }
}

/// Seconds in at most two units: `42s`, `10m`, `3d 4h`.
pub fn duration(seconds: u64) -> String {
    const UNITS: [(u64, char); 4] = [(86400, 'd'), (3600, 'h'), (60, 'm'), (1, 's')];
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (size, unit) in UNITS {
        // Once a unit was used, the next smaller one is the last.
        let last = !parts.is_empty();
        if rest >= size {
            parts.push(format!("{}{unit}", rest / size));
            rest %= size;
        }
        if last {
            break;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_with_text() {
        let mut table = Table::new([("MOUNT", Align::Left), ("N", Align::Right), ("LAST", Align::Left)]);
        table.push(["/größe".into(), "7".into(), String::new()]);
        table.push(["/a".into(), "1234".into(), "x".into()]);
        table.push(["/書類".into(), "5".into(), "y".into()]);
        assert_eq!(
            table.render(false),
            "MOUNT      N  LAST\n\
             /größe     7\n\
             /a      1234  x\n\
             /書類      5  y\n"
        );
        assert!(table.render(true).starts_with("\x1b[1mMOUNT      N  LAST\x1b[0m\n"));
    }

    #[test]
    fn durations_have_two_units() {
        for (seconds, text) in
            [(0, "0s"), (42, "42s"), (600, "10m"), (661, "11m 1s"), (3601, "1h"), (273_700, "3d 4h"), (86400, "1d")]
        {
            assert_eq!(duration(seconds), text);
        }
    }
}
