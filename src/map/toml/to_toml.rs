//! Maps and master maps of Sun format, written in TOML.
//!
//! What is written is read back and compared. So nothing changes its meaning by being converted: what TOML cannot say is an error.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use super::convert::{Converted, all_or_errors};
use crate::map::sun::ELSE;
use crate::map::words::words;
use crate::map::{Item, MasterEntry, MasterOptions, Serves, SourceKind, SourceSpec, Verbosity, master, print};
use crate::text::{Diagnostic, Escaped, Line, Position, lines, unquote};

/// Writes the Sun map `text`, the content of `file`, in TOML.
///
/// # Errors
/// Something in it is wrong, or cannot be said in TOML.
pub fn map(text: &[u8], file: &Arc<Path>) -> Converted {
    let mut sun = Sun::read(text, file);
    let (mut entries, mut included) = (Vec::new(), None::<(String, Vec<String>)>);
    let mut seen = HashSet::new();
    for (gap, line) in std::mem::take(&mut sun.lines) {
        let written = if line.is_include() {
            master::parse_include(&line).and_then(|_| {
                let name = string(&unquote(line.key.get(1..).unwrap_or_default()), &line)?;
                let (comments, names) = included.get_or_insert_with(Default::default);
                comments.push_str(&gap);
                names.push(name);
                Ok(())
            })
        } else if included.is_some() {
            let message = "an entry after an include";
            let help = "in TOML, included maps come after all entries: move the include to the end of the map";
            Err(line.key_error("convert::include", 0..line.key.len(), message).help(help))
        } else if !seen.insert((Serves::of_sun(&line.key).is_some(), unquote(&line.key).into_owned())) {
            let message = format!("the key {} occurs twice", Escaped(&line.key));
            let help = "remove this line: the first one is used";
            Err(line.key_error("convert::twice", 0..line.key.len(), message).help(help))
        } else {
            entry(&line).map(|entry| entries.push((gap, entry)))
        };
        sun.errors.extend(written.err());
    }
    let (tail, errors) = (sun.tail, sun.errors);
    let mut out = String::new();
    if let Some((comments, names)) = included {
        out.push_str(&comments);
        out.push_str(&format!("include = [{}]\n", names.join(", ")));
    }
    for (n, (gap, entry)) in entries.iter().enumerate() {
        out.push_str(gap);
        out.push_str(if n == 0 { "[entries]\n" } else { "" });
        out.push_str(entry);
        out.push('\n');
    }
    if entries.is_empty() {
        out.push_str("[entries]\n");
    }
    all_or_errors(out + &tail, errors)
}

/// Writes the Sun master map `text`, the content of `file`, in TOML.
///
/// # Errors
/// Something in it is wrong, or cannot be said in TOML.
pub fn master(text: &[u8], file: &Arc<Path>) -> Converted {
    let mut sun = Sun::read(text, file);
    let mut out = String::new();
    for (gap, line) in std::mem::take(&mut sun.lines) {
        let written = master::parse(&line, &mut Vec::new()).and_then(|item| {
            let table = match &item {
                Item::Include(_) => {
                    format!("include = {}\n", string(&unquote(line.key.get(1..).unwrap_or_default()), &line)?)
                }
                Item::Entry(entry) => mount_point(entry, &line)?,
            };
            let table = format!("[[mount_points]]\n{table}");
            let (read, _) = super::master::read(table.as_bytes(), file);
            if read.iter().map(meaning).eq([meaning(&item)]) { Ok(table) } else { Err(unsaid(&line)) }
        });
        match written {
            Ok(table) => out.push_str(&(gap + &table)),
            Err(error) => sun.errors.push(error),
        }
    }
    if out.is_empty() {
        out.push_str("mount_points = []\n");
    }
    all_or_errors(out + &sun.tail, sun.errors)
}

/// Returns an item in a form that is equal for all spellings of its meaning.
fn meaning(item: &Item) -> Item {
    let nowhere = Position::whole(Path::new(""));
    let mut item = item.clone();
    match &mut item {
        Item::Include(include) => include.place = nowhere,
        Item::Entry(entry) => {
            entry.place = nowhere;
            let parts = entry.source.parts.iter_mut().map(|(_, options)| options);
            parts.chain([&mut entry.options]).for_each(|options| options.arguments.clear());
        }
    }
    item
}

/// The lines of a Sun map, each with the comments and empty lines before it.
struct Sun<'a> {
    lines: Vec<(String, Line<'a>)>,
    /// The comments at the end.
    tail: String,
    errors: Vec<Diagnostic>,
}

impl<'a> Sun<'a> {
    fn read(text: &'a [u8], file: &'a Arc<Path>) -> Self {
        let mut sun = Self { lines: Vec::new(), tail: String::new(), errors: Vec::new() };
        let mut at = 0;
        for line in lines(text, file) {
            match line {
                Ok(line) => {
                    let extent = line.extent();
                    let mut gap = comments(text.get(at..extent.start).unwrap_or_default());
                    // A comment behind an entry has its own line in TOML.
                    if !line.is_include() {
                        let end = words(&line.entry).last().map_or(0, |word| word.at + word.raw.len());
                        gap.push_str(&comments(line.entry.get(end..).unwrap_or_default()));
                    }
                    at = extent.end;
                    sun.lines.push((gap, line));
                }
                Err(error) => sun.errors.push(error),
            }
        }
        sun.tail = comments(text.get(at..).unwrap_or_default().strip_prefix(b"\n").unwrap_or_default());
        if sun.lines.is_empty() {
            sun.tail = comments(text);
        }
        sun
    }
}

/// Returns the comments and the empty lines of `text`. Bytes that TOML does not allow there are escaped.
fn comments(text: &[u8]) -> String {
    let is_comment = |line: &&[u8]| line.is_empty() || line.starts_with(b"#");
    let mut lines: Vec<&[u8]> = text.split(|&b| b == b'\n').map(<[u8]>::trim_ascii).collect();
    // The newline of the line before, and the beginning of the line that follows.
    if lines.first().is_some_and(|line| line.is_empty()) {
        lines.remove(0);
    }
    if lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    }
    lines.iter().filter(|line| is_comment(line)).map(|line| format!("{}\n", Escaped(line))).collect()
}

/// The error about a line that TOML cannot say.
fn unsaid(line: &Line<'_>) -> Diagnostic {
    let message = format!("the line of {} cannot be written in TOML", Escaped(&line.key));
    let help = "leave it in a Sun map, and include that map";
    line.key_error("convert::unsaid", 0..line.key.len(), message).help(help)
}

/// A string in TOML.
fn string(text: &[u8], line: &Line<'_>) -> Result<String, Diagnostic> {
    match std::str::from_utf8(text) {
        Ok(text) => Ok(toml::Value::from(text).to_string()),
        Err(_) => {
            let message = format!("the line of {} is not UTF-8, as TOML is", Escaped(&line.key));
            let help = "leave it in a Sun map, and include that map";
            Err(line.key_error("convert::utf8", 0..line.key.len(), message).help(help))
        }
    }
}

/// A key in TOML.
fn bare_or_quoted(key: &[u8], line: &Line<'_>) -> Result<String, Diagnostic> {
    let is_bare = !key.is_empty() && key.iter().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(b));
    if is_bare { Ok(String::from_utf8_lossy(key).into_owned()) } else { string(key, line) }
}

/// An entry, `key = ...`.
fn entry(line: &Line<'_>) -> Result<String, Diagnostic> {
    let key = unquote(&line.key);
    let is_ordinary = Serves::of_sun(&line.key).is_none() && !key.starts_with(b"/");
    let key = if is_ordinary { Cow::Owned(protected(&key)) } else { key };
    let key = bare_or_quoted(&key, line)?;
    let spelled = spelled(line)?;
    // The type as a key of its own and locations without backslashes are nicer, and not always possible.
    for (typed, is_plain) in [(true, true), (false, true), (true, false), (false, false)] {
        let style = Style { typed, is_plain, line };
        let Some(value) = style.value(&spelled)? else { continue };
        let written = format!("{key} = {value}");
        let read = super::lines(format!("[entries]\n{written}\n").as_bytes(), &line.key_place().file);
        let wanted = [&*canonical_key(&line.key), b" ", &spelled.join(&b' '), b"\n"].concat();
        if read.text == wanted && read.diagnostics.is_empty() {
            return Ok(written);
        }
    }
    Err(unsaid(line))
}

/// The key as TOML maps write it into their lines.
fn canonical_key(key: &[u8]) -> Vec<u8> {
    if Serves::of_sun(key).is_some() {
        key.to_vec()
    } else {
        super::map::key_word(&String::from_utf8_lossy(&unquote(key)))
    }
}

/// A key with backslashes before stars and question marks, so that it is no pattern.
fn protected(key: &[u8]) -> Vec<u8> {
    key.iter().flat_map(|&byte| if b"*?".contains(&byte) { vec![b'\\', byte] } else { vec![byte] }).collect()
}

/// The words of an entry: options that follow each other joined by a comma, quotes replaced by backslashes.
fn spelled(line: &Line<'_>) -> Result<Vec<Vec<u8>>, Diagnostic> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for word in words(&line.entry) {
        let mut raw = word.raw.to_vec();
        if raw.contains(&b'"') {
            if raw.iter().any(|b| b"&$\\".contains(b)) {
                let at = word.at..word.at + word.raw.len();
                let message = "quotes around \"&\", \"$\" or a backslash cannot be written in TOML";
                let help = "protect blanks by backslashes in place of the quotes";
                return Err(line.entry_error("convert::quotes", at, message).help(help));
            }
            raw = match std::str::from_utf8(&unquote(&raw)) {
                Ok(plain) => super::map::word(plain),
                Err(_) => return Err(unsaid(line)),
            };
        }
        match (all.last_mut(), raw.as_slice()) {
            (Some(before), [b'-', options @ ..]) if before.starts_with(b"-") => {
                before.push(b',');
                before.extend_from_slice(options);
            }
            _ => all.push(raw),
        }
    }
    Ok(all)
}

/// How an entry is written.
#[derive(Clone, Copy)]
struct Style<'a> {
    /// The type is a key of its own, not one of the options.
    typed: bool,
    /// Blanks and colons have no backslashes.
    is_plain: bool,
    line: &'a Line<'a>,
}

/// Options: the type, and the others.
fn options(word: &[u8], typed: bool, line: &Line<'_>) -> Result<Vec<String>, Diagnostic> {
    let text = word.strip_prefix(b"-").unwrap_or(word);
    let fstype = if typed { text.strip_prefix(b"fstype=") } else { None };
    let Some(fstype) = fstype else { return Ok(vec![format!("options = {}", string(text, line)?)]) };
    let mut parts = fstype.splitn(2, |&b| b == b',');
    let mut out = Vec::new();
    if let Some(fstype) = parts.next() {
        out.push(format!("type = {}", string(fstype, line)?));
    }
    if let Some(rest) = parts.next() {
        out.push(format!("options = {}", string(rest, line)?));
    }
    Ok(out)
}

impl Style<'_> {
    /// The value of an entry; `None` if these words have none of the forms.
    fn value(self, words: &[Vec<u8>]) -> Result<Option<String>, Diagnostic> {
        let Self { typed, line, .. } = self;
        let mut rest = words;
        let mut fields = Vec::new();
        if let [only] = rest {
            if only == b"-null" {
                return Ok(Some("{ hidden = true }".to_owned()));
            }
        }
        let is_submount = |word: &[u8]| word == b"-fstype=autofs" || word.starts_with(b"-fstype=autofs,");
        if let [first, map] = rest {
            if typed && is_submount(first) {
                let options = options(first, true, line)?.split_off(1);
                fields.extend(options);
                fields.push(format!("map = {}", string(&self.plain(map), line)?));
                return Ok(Some(format!("{{ {} }}", fields.join(", "))));
            }
        }
        let mut fstype_is_nfs = true;
        if let [first, after @ ..] = rest {
            if first.starts_with(b"-") {
                fields.extend(options(first, typed, line)?);
                fstype_is_nfs = !typed || !first.starts_with(b"-fstype=") || is_nfs(first);
                rest = after;
            }
        }
        let is_path = |word: &Vec<u8>| word.starts_with(b"/");
        if rest.first().is_some_and(is_path) {
            let mut mounts = Vec::new();
            while let [path, after @ ..] = rest {
                let mut own = vec![format!("path = {}", string(&self.plain(path), line)?)];
                let mut nfs = fstype_is_nfs;
                rest = after;
                if let Some(first) = rest.first().filter(|word| word.starts_with(b"-")) {
                    own.extend(options(first, typed, line)?);
                    nfs = if typed && first.starts_with(b"-fstype=") { is_nfs(first) } else { nfs };
                    rest = rest.get(1..).unwrap_or_default();
                }
                let end = rest.iter().position(is_path).unwrap_or(rest.len());
                let (locations, after) = rest.split_at_checked(end).unwrap_or((rest, &[]));
                own.push(format!("source = {}", self.sources(locations, nfs)?));
                mounts.push(format!("{{ {} }}", own.join(", ")));
                rest = after;
            }
            fields.push(format!("mounts = [{}]", mounts.join(", ")));
            return Ok(Some(format!("{{ {} }}", fields.join(", "))));
        }
        if rest.is_empty() || rest.iter().any(is_path) {
            return Ok(None);
        }
        if rest.iter().any(|word| word == ELSE) {
            let places: Vec<&[Vec<u8>]> = rest.split(|word| word == ELSE).collect();
            if places.iter().any(|place| place.len() != 1) {
                return Ok(None);
            }
            let places: Result<Vec<_>, _> =
                places.into_iter().map(|place| self.sources(place, fstype_is_nfs)).collect();
            fields.push(format!("first = [{}]", places?.join(", ")));
            return Ok(Some(format!("{{ {} }}", fields.join(", "))));
        }
        let source = self.sources(rest, fstype_is_nfs)?;
        if fields.is_empty() && rest.len() == 1 {
            return Ok(Some(source));
        }
        fields.push(format!("source = {source}"));
        Ok(Some(format!("{{ {} }}", fields.join(", "))))
    }

    /// A location, or a list of several.
    fn sources(self, locations: &[Vec<u8>], nfs: bool) -> Result<String, Diagnostic> {
        let one = |word: &Vec<u8>| {
            let text = self.plain(word);
            let text = if nfs { &*text } else { text.strip_prefix(b":").unwrap_or(&text) };
            string(text, self.line)
        };
        match locations {
            [only] => one(only),
            _ => Ok(format!("[{}]", locations.iter().map(one).collect::<Result<Vec<_>, _>>()?.join(", "))),
        }
    }

    fn plain(self, word: &[u8]) -> Vec<u8> {
        if self.is_plain { plain(word) } else { word.to_vec() }
    }
}

fn is_nfs(options: &[u8]) -> bool {
    let fstype = options.strip_prefix(b"-fstype=").unwrap_or_default();
    matches!(fstype.split(|&b| b == b',').next(), Some(b"nfs" | b"nfs4"))
}

/// A word without the backslashes that TOML maps add to it.
fn plain(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(word.len());
    let mut bytes = word.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match (byte, bytes.peek()) {
            (b'\\', Some(b' ' | b'\t' | b'"' | b'#' | b':')) => {}
            (b'\\', Some(&next)) => {
                out.extend([b'\\', next]);
                bytes.next();
                continue;
            }
            _ => {}
        }
        if byte != b'\\' || bytes.peek().is_none() {
            out.push(byte);
        }
    }
    out
}

/// The keys of a mount point.
fn mount_point(entry: &MasterEntry, line: &Line<'_>) -> Result<String, Diagnostic> {
    let mut out = format!("path = {}\n", string(&entry.mount_point, line)?);
    if entry.source.kind == Some(SourceKind::Multi) {
        let mut parts = Vec::new();
        for (source, options) in &entry.source.parts {
            parts.push(format!("    {{ {} }},\n", map_fields(source, options, line)?.join(", ")));
        }
        out.push_str(&format!("maps = [\n{}]\n", parts.concat()));
    } else {
        let fields = map_fields(&entry.source, &entry.options, line)?.join("\n");
        out.push_str(&(fields + "\n"));
    }
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            out.push_str(&format!("{name} = {value}\n"));
        }
    };
    let options = &entry.options;
    let on = |on: bool| on.then(|| "true".to_owned());
    put("timeout", options.timeout.map(|n| n.to_string()));
    put("negative_timeout", options.negative_timeout.map(|n| n.to_string()));
    put("mode", options.mode.map(|mode| format!("\"{mode:04o}\"")));
    put("owner", options.user().map(|name| string(name, line)).transpose()?);
    put("group", options.group().map(|name| string(name, line)).transpose()?);
    put("trigger_propagation", options.trigger_propagation.map(|kind| format!("\"{}\"", kind.name())));
    put("browse", options.browse.map(|on| on.to_string()));
    put("bind", options.nobind.then(|| "false".to_owned()));
    put("symlink", on(options.symlink));
    put("strictexpire", on(options.strictexpire));
    put("propagation", options.propagation.map(|kind| format!("\"{}\"", kind.name())));
    put("random_multimount_selection", on(options.random));
    put("use_weight_only", on(options.use_weight_only));
    put(
        "verbosity",
        match options.verbosity {
            Some(Verbosity::Debug) => Some("\"debug\"".to_owned()),
            Some(Verbosity::Verbose) => Some("\"verbose\"".to_owned()),
            Some(Verbosity::Basic) | None => None,
        },
    );
    put("slashify_colons", options.slashify_colons.map(|on| on.to_string()));
    Ok(out)
}

/// The map, and what is passed on to each of its entries.
fn map_fields(source: &SourceSpec, options: &MasterOptions, line: &Line<'_>) -> Result<Vec<String>, Diagnostic> {
    let mut fields = vec![format!("map = {}", string(&source.name_with_type(), line)?)];
    fields.extend(source.lists.then(|| "list = true".to_owned()));
    if !options.defines.is_empty() {
        let mut variables = Vec::new();
        for (name, value) in &options.defines {
            variables.push(format!("{} = {}", bare_or_quoted(name, line)?, string(value, line)?));
        }
        fields.push(format!("variables = {{ {} }}", variables.join(", ")));
    }
    let written = print::mount_options(options);
    if !written.is_empty() {
        fields.push(format!("options = {}", string(&written, line)?));
    }
    Ok(fields)
}
