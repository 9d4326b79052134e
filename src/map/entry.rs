//! A parsed entry of a Sun map.

use std::fmt;

use super::amd;
use super::mount_options::OptionList;
use super::sun::ELSE;
use super::words::is_blank;
use crate::text::Escaped;

/// Entry of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The options before the first location or offset: they hold for all of it.
    pub options: OptionList,
    /// And the rest.
    pub body: Body,
}

/// Content of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// `-null`: the key is hidden, as if there were none.
    Hidden,
    /// One mount; several locations are replicas.
    Single(Vec<Location>),
    /// Several places, each with its replicas: the first that exists is mounted.
    First(Vec<Vec<Location>>),
    /// A multi-mount: its parts, no path twice, in the order in which they were written.
    Multi(Vec<Part>),
    /// The locations that an entry in am-utils format selects, to be tried in this order.
    Amd(Vec<amd::Choice>),
}

/// A part of a multi-mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Path from the key on: `/` for the root, else `/dir/dir` without a slash at the end, doubled ones, `.` or `..`.
    pub path: Vec<u8>,
    /// Its own options, to be appended to the entry's.
    pub options: OptionList,
    /// Several are replicas.
    pub locations: Vec<Location>,
}

impl Part {
    /// Returns whether it is mounted on the key itself.
    pub fn is_root(&self) -> bool {
        self.path == b"/"
    }
}

/// Place of a file system, without quotes: `host:/path`, `:/path`, a device, the name of a map.
#[derive(Clone, PartialEq, Eq)]
pub struct Location(pub Vec<u8>);

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({})", Escaped(&self.0))
    }
}

/// As it could stand in a map, with everything escaped that would be expanded or interpreted.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(&self.to_bytes()).fmt(f)
    }
}

impl Entry {
    /// As it could stand in a map behind its key: reading it gives this entry again.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        write_options(&mut out, &self.options);
        match &self.body {
            Body::Hidden => out.splice(.., *b"-null").for_each(drop),
            Body::Single(locations) => write_locations(&mut out, locations),
            Body::First(places) => {
                for (n, locations) in places.iter().enumerate() {
                    if n > 0 {
                        out.push(b' ');
                        out.extend_from_slice(ELSE);
                    }
                    write_locations(&mut out, locations);
                }
            }
            Body::Multi(parts) => {
                for part in parts {
                    write_word(&mut out, &part.path);
                    write_options(&mut out, &part.options);
                    write_locations(&mut out, &part.locations);
                }
            }
            Body::Amd(choices) => {
                let texts: Vec<String> = choices.iter().map(ToString::to_string).collect();
                out.extend_from_slice(texts.join(" ").as_bytes());
            }
        }
        out
    }
}

fn write_options(out: &mut Vec<u8>, options: &OptionList) {
    if !options.is_empty() {
        // A comma in front keeps an option "null" from being read as -null.
        let dash = if options.words().next() == Some(b"null") { &b"-,"[..] } else { b"-" };
        write_word(out, &[dash, options.as_bytes()].concat());
    }
}

fn write_locations(out: &mut Vec<u8>, locations: &[Location]) {
    for Location(text) in locations {
        let from = out.len() + usize::from(!out.is_empty());
        write_word(out, text);
        // Without a backslash it would be read as options.
        if text.starts_with(b"-") {
            out.insert(from, b'\\');
        }
    }
}

fn write_word(out: &mut Vec<u8>, text: &[u8]) {
    if !out.is_empty() {
        out.push(b' ');
    }
    let path = memchr::memmem::find(text, b":/");
    for (at, &b) in text.iter().enumerate() {
        let special = match b {
            b'"' | b'\\' | b'&' | b'$' | b'#' => true,
            // Only the colon before the path is one: others would become slashes, or make it no location.
            b':' => at > 0 && path.is_none_or(|p| at > p),
            _ => is_blank(b),
        };
        if special {
            out.push(b'\\');
        }
        // Expansion makes one of two backslashes, and removing the escapes takes another.
        if b == b'\\' {
            out.extend_from_slice(b"\\\\");
        }
        out.push(b);
    }
}
