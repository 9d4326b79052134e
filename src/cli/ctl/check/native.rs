//! Settings of autofs.toml that are valid, and probably do not have the effect that was meant.

use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::lint;
use crate::config::Native;
use crate::map::known::types;
use crate::map::toml::Source;
use crate::text::{Diagnostic, Escaped};

/// Examines autofs.toml. What cannot be read is left to the reader of the file.
pub(super) fn file(text: &[u8], file: &Arc<Path>) -> Vec<Diagnostic> {
    let source = Source { text, file };
    let (Ok((native, _)), Ok((table, _))) = (Native::parse(text, file), source.tables()) else { return Vec::new() };
    let mut found = Vec::new();
    for (section, value) in &table {
        let DeValue::Table(settings) = value.get_ref() else { continue };
        for (key, value) in settings {
            match (section.get_ref().as_ref(), key.get_ref().as_ref()) {
                ("security", "mandatory_options") => found.extend(options(&source, value)),
                ("security", "allowed_types") => found.extend(allowed(&source, value)),
                ("helpers", "environment") => found.extend(variables(&source, value)),
                _ => {}
            }
        }
        if section.get_ref() == "deadlines" {
            found.extend(deadlines(&source, &native, settings));
        }
    }
    found
}

/// Warns of times that never pass, because a request ends before.
fn deadlines(source: &Source<'_>, native: &Native, settings: &DeTable<'_>) -> Vec<Diagnostic> {
    let times = &native.deadlines;
    let of = |name: &str| match name {
        "lookup" => Some(times.lookup),
        "mount" => Some(times.mount),
        "requires" => Some(times.requires),
        _ => None,
    };
    let longer = settings.iter().filter(|(key, _)| of(key.get_ref()).is_some_and(|time| time > times.request));
    let warn = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
        let name: &std::borrow::Cow<'_, str> = key.get_ref();
        let message = format!("{name} has no effect: a request ends after {} seconds", times.request.as_secs());
        let help = format!("write less, or a greater request in [deadlines], which is {}", times.request.as_secs());
        source.error("toml::deadline", value.span(), message).help(help).into_warning()
    };
    longer.map(warn).collect()
}

/// Warns of misspelt mount options.
fn options(source: &Source<'_>, value: &Spanned<DeValue<'_>>) -> Vec<Diagnostic> {
    let DeValue::Table(providers) = value.get_ref() else { return Vec::new() };
    let of = |value: &Spanned<DeValue<'_>>| match value.get_ref() {
        DeValue::String(text) => lint::planned(b"", text.as_bytes(), &source.place(value.span().start)),
        _ => Vec::new(),
    };
    providers.iter().flat_map(|(_, value)| of(value)).collect()
}

/// Warns of types of file systems that look misspelt.
fn allowed(source: &Source<'_>, value: &Spanned<DeValue<'_>>) -> Vec<Diagnostic> {
    let DeValue::Table(providers) = value.get_ref() else { return Vec::new() };
    let mut found = Vec::new();
    for (_, list) in providers {
        for (name, value) in strings(list) {
            let word = name.as_bytes();
            if types::is_type(word) || word.contains(&b'*') {
                continue;
            }
            let Some(near) = types::meant(word).or_else(|| types::nearest(word)) else { continue };
            let message = format!("no file system has the type \"{}\"", Escaped::start_of(word));
            let error = source.error("options::type", value.span(), message);
            found.push(error.help(format!("did you mean \"{near}\"?")).into_warning());
        }
    }
    found
}

/// Warns of names of variables that no variable has.
fn variables(source: &Source<'_>, value: &Spanned<DeValue<'_>>) -> Vec<Diagnostic> {
    let is_name = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !name.is_empty();
    let warn = |(name, value): (&str, &Spanned<DeValue<'_>>)| {
        let message = format!("\"{}\" is no name of a variable", Escaped::start_of(name.as_bytes()));
        let plain: String = name.trim_start_matches('$').chars().take_while(|c| is_name(&c.to_string())).collect();
        let help = match &*plain {
            "" => "write names as [\"AWS_PROFILE\"]; the values are those of the service".to_owned(),
            plain => format!("write \"{plain}\"; the value is that of the service"),
        };
        source.error("toml::variable", value.span(), message).help(help).into_warning()
    };
    strings(value).filter(|(name, _)| !is_name(name)).map(warn).collect()
}

/// Returns the strings of a list.
fn strings<'a>(list: &'a Spanned<DeValue<'_>>) -> impl Iterator<Item = (&'a str, &'a Spanned<DeValue<'a>>)> {
    let elements = match list.get_ref() {
        DeValue::Array(elements) => elements.iter().collect(),
        _ => Vec::new(),
    };
    elements.into_iter().filter_map(|value| match value.get_ref() {
        DeValue::String(text) => Some((text.as_ref(), value)),
        _ => None,
    })
}
