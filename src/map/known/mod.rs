//! What is known of words that only others interpret, as mount options and types of file systems. It serves to point out
//! mistakes; nothing is refused because of it.

pub mod options;
pub mod types;

/// Returns the candidate that is nearest to `word`, or `None` if `word` is itself a candidate. In short words one letter, in
/// longer ones two or three, may differ, be missing, be too many, or be exchanged with its neighbour.
pub fn nearest<'a>(word: &[u8], candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A word is compared letter by letter: one that is longer than any candidate takes long, and is near to none.
    let word = std::str::from_utf8(word).ok().filter(|word| (3..=64).contains(&word.len()))?;
    let allowed = match word.len() {
        3..=7 => 1,
        8..=11 => 2,
        _ => 3,
    };
    let distance = |candidate: &&str| strsim::damerau_levenshtein(word, candidate);
    let near = candidates.filter(|c| c.len() > 1).min_by_key(distance)?;
    (1..=allowed).contains(&distance(&near)).then_some(near)
}

/// The character that word processors and web pages have put at the start of `text` in place of a plain one: what it is,
/// and the plain one.
pub fn typographic(text: &[u8]) -> Option<(&'static str, &'static str)> {
    let text = text.utf8_chunks().next()?.valid();
    Some(match text.chars().next()? {
        '\u{201c}'..='\u{201f}' | '\u{ab}' | '\u{bb}' | '\u{2033}' => ("quotation mark", "\""),
        '\u{2018}'..='\u{201b}' | '\u{2032}' => ("apostrophe", "'"),
        '\u{2010}'..='\u{2015}' | '\u{2212}' => ("dash", "-"),
        '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{3000}' => ("blank", "a plain blank"),
        '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}' => ("character without width", "nothing in its place"),
        '\u{ff0c}' => ("comma", ","),
        '\u{ff1a}' => ("colon", ":"),
        '\u{2026}' => ("ellipsis", "..."),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognized_and_another_word_is_not() {
        let names = ["soft", "softy", "hard", "timeout", "negative-timeout", "ro"];
        for (word, near) in [
            ("sfot", Some("soft")),
            ("sofft", Some("soft")),
            ("timout", Some("timeout")),
            ("timeuot", Some("timeout")),
            ("negative_timeout", Some("negative-timeout")),
            ("home", None),
            ("rw", None),
            ("soft", None),
        ] {
            assert_eq!(nearest(word.as_bytes(), names.into_iter()), near, "{word}");
        }
    }
}
