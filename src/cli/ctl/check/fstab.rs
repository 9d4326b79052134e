//! Lines of fstab that systemd automounts as well.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::map::{fstab, known};
use crate::sys::path;
use crate::text::{Diagnostic, Escaped, Position};

/// Warns of lines that are probably meant to be automounted and are not, and of those that were taken apart at a blank.
pub(super) fn misspelt(text: &[u8], file: &Arc<Path>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut points: HashMap<Vec<u8>, u32> = HashMap::new();
    for (line, number) in text.split(|&b| b == b'\n').zip(1u32..) {
        let fields = fields(line);
        let mut warn = |at: usize, length: usize, message: String, help: String| {
            let place = Position::new(file, number, u32::try_from(at + 1).unwrap_or(u32::MAX));
            let d = Diagnostic::warning("fstab::line", place, message).help(help);
            found.push(d.length(length).excerpt(line));
        };
        let [_, (_, point), (type_at, _), (options_at, options), rest @ ..] = fields.as_slice() else { continue };
        let is_ours = |options: &[u8]| options.split(|&b| b == b',').any(|o| o == fstab::SYSTEMD || o == fstab::OWN);
        let later = rest.iter().find(|(_, word)| is_ours(word));
        let wrong =
            rest.iter().take(2).find(|(_, word)| !word.iter().all(u8::is_ascii_digit) && !word.starts_with(b"#"));
        if let Some((at, word)) = later.or(wrong).filter(|_| later.is_some() || is_ours(options)) {
            let help = if options.ends_with(b",") || word.starts_with(b",") {
                "a blank in a list of options: remove it".to_owned()
            } else {
                "a blank in a field is written \\040".to_owned()
            };
            let message = format!("\"{}\" stands in the field for a number", Escaped::start_of(word));
            warn(*at, word.len(), message, help);
            continue;
        }
        if is_ours(options) {
            if *point == b"none" {
                warn(*type_at, 0, "nothing is automounted at none".to_owned(), "name a mount point".to_owned());
            }
            let earlier = *points.entry(point.to_vec()).or_insert(number);
            if earlier != number {
                let message = format!("the mount point {} a second time is never used", Escaped::start_of(point));
                let help = format!("line {earlier} comes first; remove one of the two");
                warn(*options_at, options.len(), message, help);
            }
            continue;
        }
        let mut at = *options_at;
        for option in options.split(|&b| b == b',') {
            if let Some(meant) = meant(option) {
                let message = format!("\"{}\" does not automount the line", Escaped::start_of(option));
                warn(at, option.len(), message, format!("did you mean {meant}?"));
            }
            at += option.len() + 1;
        }
    }
    found
}

/// Returns the option for automounting that a word was probably meant for.
fn meant(option: &[u8]) -> Option<&'static str> {
    let lower = option.to_ascii_lowercase();
    let name = lower.split(|&b| b == b'=').next().unwrap_or_default();
    match name {
        b"comment" if lower == b"comment=systemd.automount" => Some("x-systemd.automount"),
        b"x-systemd.automount" | b"systemd.automount" => Some("x-systemd.automount"),
        b"x-autofs.automount" | b"autofs.automount" | b"automount" => Some("x-autofs.automount"),
        name if name.starts_with(b"x-systemd.") && memchr::memmem::find(name, b"au").is_none() => None,
        name if name.starts_with(b"x") => {
            known::nearest(name, ["x-systemd.automount", "x-autofs.automount"].into_iter())
        }
        _ => None,
    }
}

/// Returns the words of a line and where each begins; none of a comment.
fn fields(line: &[u8]) -> Vec<(usize, &[u8])> {
    let mut at = 0;
    let is_blank = |b: &u8| matches!(b, b' ' | b'\t' | b'\r');
    let words = line.split(is_blank).map(|word| {
        let start = at;
        at += word.len() + 1;
        (start, word)
    });
    let words: Vec<_> = words.filter(|(_, word)| !word.is_empty()).collect();
    if words.first().is_some_and(|(_, word)| word.starts_with(b"#")) { Vec::new() } else { words }
}

/// Directory that exists if systemd is the init system (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";

/// Warns of lines that systemd automounts, if it is the init system.
pub(super) fn also_systemd(file: &Arc<Path>) -> Vec<Diagnostic> {
    let reads_it = file.as_os_str().as_encoded_bytes() == fstab::FILE && path::stat(Path::new(BOOTED)).is_ok();
    let text = if reads_it { super::read(file).ok() } else { None };
    let warn = |(place, point): (_, Vec<u8>)| {
        let message = format!("systemd automounts {}, too: the second of both is refused", Escaped(&point));
        let help = "write noauto,x-autofs.automount in place of x-systemd.automount, then systemctl daemon-reload, and stop \
                    the automount unit";
        Diagnostic::warning("fstab::systemd", place, message).help(help)
    };
    text.map(|text| fstab::of_systemd(&text, file).into_iter().map(warn).collect()).unwrap_or_default()
}
