//! A line of a master map: `mount-point map [options]` or `+include`, auto.master(5).
//!
//! Maps are only referred to by name: [`source`](crate::source) finds them, and [`table`](super::table) combines several
//! lines.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::clean_path::clean_path;
use super::options::{self, Flaw, Words};
use super::spec::{Format, MasterOptions, ParseError, SourceKind, SourceSpec};
use crate::text::{Diagnostic, Escaped, Line, Position, lines, unquote};

/// One line of a master map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A mount point.
    Entry(MasterEntry),
    /// `+map`: another master map, to be read here.
    Include(Include),
}

/// A mount point and its map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterEntry {
    /// Absolute path, no slash at the end; `/-` for a direct map.
    pub mount_point: Vec<u8>,
    /// Whether it is `/-`: the keys of the map are the mount points.
    pub direct: bool,
    /// Its map. `-null` hides the mount point from later lines.
    pub source: SourceSpec,
    /// Options of the line. Mount options and variables of a `multi` map are in its parts.
    pub options: MasterOptions,
    /// Position of the line.
    pub place: Position,
}

/// Another map of the same kind, to be read in place of the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Include {
    /// The included map.
    pub source: SourceSpec,
    /// Position of the line.
    pub place: Position,
}

/// Reads the master map `text`, the content of `file`: all good lines, and what is wrong with the others.
pub fn read(text: &[u8], file: &Arc<Path>) -> (Vec<Item>, Vec<Diagnostic>) {
    let (mut items, mut diagnostics) = (Vec::new(), Vec::new());
    for line in lines(text, file) {
        let about = |line: &Line<'_>, error: Diagnostic| error.about(&unquote(&line.key));
        match line.and_then(|line| parse(&line, &mut diagnostics).map_err(|error| about(&line, error))) {
            Ok(item) => items.push(item),
            Err(d) => diagnostics.push(d),
        }
    }
    (items, diagnostics)
}

/// Parses one line. What works, but probably not as meant, is added to `warnings`.
pub fn parse(line: &Line<'_>, warnings: &mut Vec<Diagnostic>) -> Result<Item, Diagnostic> {
    if line.is_include() {
        let word = unquote(line.key.get(1..).unwrap_or_default());
        let source = checked_include(&word).map_err(|(message, help)| include_error(line, &message, &help))?;
        return Ok(Item::Include(Include { source, place: line.key_place() }));
    }
    let mount_point = mount_point(line)?;
    let mut words = Words::new(&line.entry);
    let mut options = MasterOptions::default();
    let source = source(&mut words, &mut options, line, warnings).map_err(|flaw| syntax_error(line, flaw))?;
    let direct = mount_point == b"/-";
    if !direct && source.format == Some(Format::Fstab) {
        let message = "fstab is a direct map";
        let error = line.key_error("master::fstab", 0..line.key.len(), message);
        return Err(error.help("write /- fstab: in a line of its own; its keys are the mount points of fstab"));
    }
    Ok(Item::Entry(MasterEntry { mount_point, direct, source, options, place: line.key_place() }))
}

/// Reads the word of an include in a master map. The error has a message, and what to write.
pub(super) fn checked_include(word: &[u8]) -> Result<SourceSpec, (String, String)> {
    match included(word)? {
        SourceSpec { kind: Some(SourceKind::Program), .. } => {
            Err(("a program map cannot be included".to_owned(), INCLUDED.to_owned()))
        }
        source => Ok(source),
    }
}

/// The map that an include line `+map` of a mount map names.
pub fn parse_include(line: &Line<'_>) -> Result<Include, Diagnostic> {
    let word = unquote(line.key.get(1..).unwrap_or_default());
    let source = included(&word).map_err(|(message, help)| include_error(line, &message, &help))?;
    Ok(Include { source, place: line.key_place() })
}

fn included(word: &[u8]) -> Result<SourceSpec, (String, String)> {
    use SourceKind::{Dir, File, Ldap, Ldaps, Nis, NisPlus, Program, Sss, Yp};
    if word.is_empty() {
        return Err(("include of no map".to_owned(), "write +map without a blank".to_owned()));
    }
    let source = SourceSpec::parse(word).map_err(|e| (e.to_string(), e.help()))?;
    match source.kind {
        None | Some(Dir | File | Ldap | Ldaps | Nis | NisPlus | Program | Sss | Yp) => Ok(source),
        Some(kind) => Err((format!("a {} map cannot be included", kind.name()), INCLUDED.to_owned())),
    }
}

/// Message about the kinds of maps that a master map can include; a mount map can also include programs.
const INCLUDED: &str = "includes are of type file, dir, sss, yp, nis, nisplus, ldap or ldaps";

fn include_error(line: &Line<'_>, message: &str, help: &str) -> Diagnostic {
    let message = format!("syntax error in map near [ {} ]: {message}", Escaped(&line.key));
    line.key_error("master::include", 0..line.key.len(), message).help(help)
}

fn mount_point(line: &Line<'_>) -> Result<Vec<u8>, Diagnostic> {
    let raw = &line.key;
    let error = |at: usize, message: &str, help: &str| {
        let message = format!("syntax error in map near [ {} ]: {message}", Escaped(raw));
        Err(line.key_error("master::mount-point", at..raw.len(), message).help(help))
    };
    if let Some(at) = memchr::memchr(b'"', raw) {
        return error(at, "a mount point cannot be quoted", "write a blank in it as \"\\ \"");
    }
    if let Some(at) = raw.iter().position(u8::is_ascii_control) {
        return error(at, "control character in a mount point", "mount points are plain text");
    }
    let is_location = raw.first() != Some(&b'/') && raw.windows(2).any(|pair| pair == b":/");
    let help_for = |help| match () {
        () if is_location => LOCATION_FIRST,
        () if matches!(&**raw, b"include" | b"#include" | b"+include") => {
            "write + and the name of the map: +/etc/auto.other"
        }
        () if &**raw == b"*" => "this looks like a line of a map: a master map names mount points and their maps",
        () => help,
    };
    checked_mount_point(&unquote(raw)).or_else(|(message, help)| error(0, message, help_for(help)))
}

/// Help for a line of fstab in a master map.
const LOCATION_FIRST: &str = "write the mount point and its map; the location stands in that map, behind its key";

/// Returns the path of a mount point as the mount table shows it. The error has a message, and a suggestion.
pub(super) fn checked_mount_point(path: &[u8]) -> Result<Vec<u8>, (&'static str, &'static str)> {
    if path.iter().any(u8::is_ascii_control) {
        return Err(("control character in a mount point", "mount points are plain text"));
    }
    if !path.starts_with(b"/") {
        return Err(("a mount point starts with \"/\"", "write an absolute path, or /- for a direct map"));
    }
    let clean = clean_path(path);
    if clean.is_empty() {
        return Err(("cannot mount on the root directory", "name a directory below it"));
    }
    Ok(clean.into_owned())
}

/// The map and the options behind it; for a `multi` map all its parts.
fn source(
    words: &mut Words<'_>,
    options: &mut MasterOptions,
    line: &Line<'_>,
    warnings: &mut Vec<Diagnostic>,
) -> Result<SourceSpec, Flaw> {
    let first = words.at;
    let (source, at) = one_source(words, None)?;
    if source.kind != Some(SourceKind::Multi) {
        if source.kind == Some(SourceKind::Dir) {
            let help = "write +dir:PATH to include the files of a directory";
            return Err(Flaw::new("master::map", first..words.at, "a directory is no map", help));
        }
        options::parse(words, false, options, line, warnings)?;
        let lists = std::mem::take(&mut options.list);
        warnings.extend((lists && !source.may_be_program()).then(|| no_list(line)));
        return Ok(SourceSpec { lists, ..source });
    }
    words.at = at;
    let mut parts = Vec::new();
    loop {
        words.skip_blanks();
        let start = words.at;
        let (mut part, _) = one_source(words, source.format)?;
        if matches!(part.kind, Some(SourceKind::Multi | SourceKind::Dir | SourceKind::Null)) {
            let help = "the parts of a multi map are maps of their own";
            return Err(Flaw::new("master::multi", start..words.at, "no part of a multi map", help));
        }
        let more = options::parse(words, true, options, line, warnings)?;
        part.lists = std::mem::take(&mut options.list);
        warnings.extend((part.lists && !part.may_be_program()).then(|| no_list(line)));
        let own = MasterOptions {
            mount_options: std::mem::take(&mut options.mount_options),
            defines: std::mem::take(&mut options.defines),
            arguments: std::mem::take(&mut options.arguments),
            ..MasterOptions::default()
        };
        parts.push((part, own));
        if !more {
            return Ok(SourceSpec { parts, ..source });
        }
    }
}

/// The warning that `list` stands behind a map that is no program.
fn no_list(line: &Line<'_>) -> Diagnostic {
    let message = "the option list means something for program maps only";
    Diagnostic::warning("master::list", line.key_place(), message).help("leave it out")
}

/// One map: `[type[,format]:]name`, or the old `type[,format] name`; and, for `multi`, where its first part starts.
fn one_source(words: &mut Words<'_>, format: Option<Format>) -> Result<(SourceSpec, usize), Flaw> {
    let no_map = |part| Flaw::new("master::no-map", part, "no map", "write the map behind the mount point");
    words.skip_blanks();
    let start = words.at;
    let word = words.word().ok_or_else(|| no_map(start..words.text.len()))?;
    let raw = words.get(&word);
    let head_len = memchr::memchr(b':', raw).unwrap_or(raw.len());
    let (head, tail) = raw.split_at_checked(head_len).unwrap_or((raw, b""));
    let is_location = tail.starts_with(b":/") && !tail.starts_with(b"://");
    let bad = |part, e: ParseError| {
        let help = match (&e, e.help()) {
            (ParseError::Type(_), help) if is_location && !help.starts_with("did you mean") => {
                format!("a location stands in a map, behind its key; {help}")
            }
            (_, help) => help,
        };
        Flaw::new("master::map", part, e.to_string(), help)
    };
    let Some(typed) = SourceSpec::parse_type(head) else {
        let name = unquote(raw);
        if name.is_empty() || raw == b"--" {
            return Err(no_map(word));
        }
        let mut source = SourceSpec::parse(&name).map_err(|e| match options_first(words, &word, &e) {
            Some(flaw) => flaw,
            None => bad(word, e),
        })?;
        source.format = source.format.or(format);
        return Ok((source, 0));
    };
    let (kind, own_format) = typed.map_err(|e| bad(word.clone(), e))?;
    // Blanks may stand behind the colon, or in its place.
    let mut start = (word.start + head_len + 1).min(word.end);
    if start == word.end {
        words.skip_blanks();
        start = words.at;
        if kind == SourceKind::Hesiod && !names_map(words) {
            // There is one such map; it needs no name.
            return Ok((SourceSpec { kind: Some(kind), format: own_format, ..SourceSpec::default() }, start));
        }
        if kind != SourceKind::Multi {
            let next = words.word().filter(|next| !words.get(next).starts_with(b"-"));
            next.ok_or_else(|| bad(word.clone(), ParseError::NoMap(Escaped::start_of(head).to_string())))?;
        }
    }
    let name = match kind {
        SourceKind::Multi => Vec::new(),
        _ => unquote(words.get(&(start..words.at))).into_owned(),
    };
    if name.is_empty() && kind != SourceKind::Multi {
        return Err(no_map(word));
    }
    Ok((SourceSpec { kind: Some(kind), format: own_format.or(format), name, parts: Vec::new(), lists: false }, start))
}

/// Returns whether a word that is no option follows.
fn names_map(words: &Words<'_>) -> bool {
    let mut rest = Words { text: words.text, at: words.at };
    rest.word().is_some_and(|word| !rest.get(&word).starts_with(b"-"))
}

/// Options in the place of the map, with the map behind them.
fn options_first(words: &Words<'_>, options: &Range<usize>, error: &ParseError) -> Option<Flaw> {
    if !matches!(error, ParseError::BuiltIn(_)) {
        return None;
    }
    let mut rest = Words { text: words.text, at: options.end };
    let map = rest.word()?;
    let map = rest.get(&map);
    if !map.iter().any(|b| b"/:.".contains(b)) {
        return None;
    }
    let help =
        format!("options stand after the map: {} {}", Escaped::start_of(map), Escaped::start_of(words.get(options)));
    Some(Flaw::new("master::map", options.clone(), error.to_string(), help))
}

/// The error that people and scripts know, with more about it.
fn syntax_error(line: &Line<'_>, flaw: Flaw) -> Diagnostic {
    let near = line.entry.get(flaw.part.start..).unwrap_or_default().trim_ascii();
    let near = if near.is_empty() { line.key.as_ref() } else { near };
    let near = Escaped::start_of(near);
    let message = format!("syntax error in map near [ {near} ]: {}", flaw.message);
    line.entry_error(flaw.code, flaw.part, message).help(flaw.help)
}

#[cfg(test)]
mod tests {
    use super::super::spec::{Owner, Propagation, Verbosity};
    use super::*;
    use proptest::prelude::*;
    use std::fmt::Write as _;

    /// The canonical spelling of an item.
    fn print(item: &Item) -> String {
        let escape = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes).replace('\\', "\\\\").replace(' ', "\\ ").replace('"', "\\\"")
        };
        match item {
            Item::Include(i) => format!("+{}", print_source(&i.source)),
            Item::Entry(e) => {
                format!("{} {}{}", escape(&e.mount_point), print_source(&e.source), print_options(&e.options))
            }
        }
    }

    fn print_source(s: &SourceSpec) -> String {
        let name = String::from_utf8_lossy(&s.name).replace(' ', "\\ ");
        let format = s.format.map_or(String::new(), |format| format!(",{}", format.name()));
        let list = if s.lists { " list" } else { "" };
        let parts: Vec<String> =
            s.parts.iter().map(|(s, o)| format!("{}{}", print_source(s), print_options(o))).collect();
        match s.kind {
            None => format!("{name}{list}"),
            Some(k @ (SourceKind::Hosts | SourceKind::Null)) => format!("-{}", k.name()),
            Some(SourceKind::Multi) => format!("multi{format} {}", parts.join(" -- ")),
            Some(k) => format!("{}{format}:{name}{list}", k.name()),
        }
    }

    fn print_options(o: &MasterOptions) -> String {
        let mut out = String::new();
        let mut flag = |on: bool, word: &str| {
            if on {
                write!(out, " {word}").unwrap();
            }
        };
        flag(o.timeout.is_some(), &format!("--timeout={}", o.timeout.unwrap_or(0)));
        flag(o.negative_timeout.is_some(), &format!("--negative-timeout={}", o.negative_timeout.unwrap_or(0)));
        flag(o.browse == Some(true), "browse");
        flag(o.browse == Some(false), "nobrowse");
        flag(o.nobind, "nobind");
        flag(o.symlink, "symlink");
        flag(o.strictexpire, "strictexpire");
        flag(o.propagation == Some(Propagation::Slave), "slave");
        flag(o.propagation == Some(Propagation::Private), "private");
        flag(o.propagation == Some(Propagation::Shared), "shared");
        flag(o.random, "-r");
        flag(o.use_weight_only, "-w");
        flag(o.verbosity == Some(Verbosity::Verbose), "-v");
        flag(o.verbosity == Some(Verbosity::Debug), "-d");
        flag(o.mode.is_some(), &format!("--mode={:o}", o.mode.unwrap_or(0)));
        flag(o.user().is_some(), &format!("--owner={}", Escaped(o.user().unwrap_or_default())));
        flag(o.group().is_some(), &format!("--group {}", Escaped(o.group().unwrap_or_default())));
        flag(o.trigger_propagation == Some(Propagation::Slave), "--trigger-propagation=slave");
        flag(o.trigger_propagation == Some(Propagation::Shared), "--trigger-propagation = shared");
        flag(o.slashify_colons == Some(true), "--slashify-colons");
        flag(o.slashify_colons == Some(false), "--no-slashify-colons");
        for (name, value) in &o.defines {
            flag(true, &format!("-D{}={}", Escaped(name), Escaped(value)));
        }
        flag(!o.mount_options.is_empty(), &String::from_utf8_lossy(&o.mount_options));
        out
    }

    fn file() -> Arc<Path> {
        Path::new("/etc/auto.master").into()
    }

    /// The items in canonical spelling, the diagnostics as log lines.
    fn parsed(text: &str) -> Vec<String> {
        let (items, diagnostics) = read(text.as_bytes(), &file());
        items.iter().map(print).chain(diagnostics.iter().map(|d| format!("! {d}"))).collect()
    }

    /// All spellings of master lines that automount(8) 5.1.9 was observed to take, and what they mean.
    #[test]
    fn lines_mean_what_they_mean_to_automount() {
        let cases = [
            // Maps: typed, by path, by name, with a format, old style, with blanks.
            ("/m file:/etc/vl.map", "/m file:/etc/vl.map"),
            ("/m /etc/vl.map", "/m /etc/vl.map"),
            ("/m vl.map", "/m vl.map"),
            ("/m file,sun:/etc/vl.map", "/m file,sun:/etc/vl.map"),
            ("/m file /etc/vl.map -ro", "/m file:/etc/vl.map ro"),
            ("/m file,sun /etc/vl.map", "/m file,sun:/etc/vl.map"),
            ("/m file: /etc/vl.map ro", "/m file:/etc/vl.map ro"),
            ("/m file:/etc/v\\ l.map", "/m file:/etc/v\\ l.map"),
            ("/m \"file:/etc/v l.map\" ro", "/m file:/etc/v\\ l.map ro"),
            ("/m program:/etc/vl.sh -ro", "/m program:/etc/vl.sh ro"),
            ("/m exec:/etc/vl.sh", "/m program:/etc/vl.sh"),
            ("/m program:/etc/vl.sh -ro --list", "/m program:/etc/vl.sh list ro"),
            ("/m multi /etc/a -- exec:/etc/b list", "/m multi /etc/a -- program:/etc/b list"),
            ("/m userdir:x", "/m userdir:x"),
            ("/m yp:auto.home", "/m yp:auto.home"),
            ("/m nis auto.home", "/m nis:auto.home"),
            ("/m ldap://srv/ou=auto.home,dc=x,dc=y ro,soft", "/m ldap://srv/ou=auto.home,dc=x,dc=y ro,soft"),
            ("/m ou=auto.home,dc=x,dc=y", "/m ou=auto.home,dc=x,dc=y"),
            ("/m -hosts", "/m -hosts"),
            ("/m -null", "/m -null"),
            ("/m -hosts -nosuid", "/m -hosts nosuid"),
            // Mount points.
            ("/m/ file:/x", "/m file:/x"),
            ("/m/a// x", "/m/a x"),
            ("/m\\ a x", "/m\\ a x"),
            ("/- file:/x -t 20", "/- file:/x --timeout=20"),
            ("/m \\\n   file:/x \\\n  -ro", "/m file:/x ro"),
            // Timeouts.
            ("/m x -t 120", "/m x --timeout=120"),
            ("/m x -t120", "/m x --timeout=120"),
            ("/m x -t=120", "/m x --timeout=120"),
            ("/m x --timeout 120", "/m x --timeout=120"),
            ("/m x --timeout=120", "/m x --timeout=120"),
            ("/m x --timeout = 120 ro", "/m x --timeout=120 ro"),
            ("/m x --timeout= 120 ro", "/m x --timeout=120 ro"),
            ("/m x --timeout =120,ro", "/m x --timeout=120 ro"),
            ("/m x --timeout=0", "/m x --timeout=0"),
            ("/m x -n 5", "/m x --negative-timeout=5"),
            ("/m x -n5", "/m x --negative-timeout=5"),
            ("/m x --negative-timeout=5 -ro", "/m x --negative-timeout=5 ro"),
            ("/m x --negative-timeout=0", "/m x"),
            // Words for the mount point.
            ("/m x -v -g -w -r -n 5 -ro", "/m x --negative-timeout=5 browse -r -w -v ro"),
            ("/m x browse", "/m x browse"),
            ("/m x --ghost", "/m x browse"),
            ("/m x -browse nobrowse", "/m x nobrowse"),
            ("/m x nobind,symlink -strictexpire", "/m x nobind symlink strictexpire"),
            ("/m x private", "/m x private"),
            ("/m x -private,-shared", "/m x shared"),
            ("/m x slave", "/m x slave"),
            ("/m x --debug --verbose", "/m x -d"),
            ("/m x --random-multimount-selection --use-weight-only", "/m x -r -w"),
            ("/m x --mode 0700", "/m x --mode=700"),
            ("/m x --mode=1777", "/m x --mode=1777"),
            ("/m x --slashify-colons", "/m x --slashify-colons"),
            ("/m x --no-slashify-colons", "/m x --no-slashify-colons"),
            ("/m x -DFOO=bar -DA=\"b c\",ro", "/m x -DFOO=bar -DA=b c ro"),
            ("/m x -D FOO=bar", "/m x -DFOO=bar"),
            // Words for mount(8).
            ("/m x -ro,soft", "/m x ro,soft"),
            ("/m x ro,soft", "/m x ro,soft"),
            ("/m x ro soft -timeo=5", "/m x ro,soft,timeo=5"),
            ("/m x -ro -soft", "/m x ro,soft"),
            ("/m x ro,--timeout=50,soft", "/m x --timeout=50 ro,soft"),
            ("/m x -vers=4.2,sec=krb5:sys,fscache=a_b-c", "/m x vers=4.2,sec=krb5:sys,fscache=a_b-c"),
            ("/m x -credentials=/etc/cred", "/m x credentials=/etc/cred"),
            ("/m x -context=\"a:b:s0:c1,c2\",ro", "/m x context=\"a:b:s0:c1,c2\",ro"),
            ("/m x -nfsvers=4,-tcp", "/m x nfsvers=4,tcp"),
            ("/m x - ro,", "/m x ro"),
            ("/m x # hello world", "/m x"),
            ("/m x ro # hello world", "/m x ro"),
            ("/m x ro\r\n", "/m x ro"),
            // Several maps.
            ("/m multi file:/a -ro -- file:/b -soft", "/m multi file:/a ro -- file:/b soft"),
            ("/m multi,sun: a -- /b -t 5 -DX=y", "/m multi,sun a -- /b -DX=y --timeout=5"),
            ("/m multi:a -- yp b ro", "/m multi a -- yp:b ro"),
            // Includes.
            ("+auto.master", "+auto.master"),
            ("+/etc/inc.master ro", "+/etc/inc.master"),
            ("+dir:/etc/vl.d", "+dir:/etc/vl.d"),
            ("+file:/etc/inc.master", "+file:/etc/inc.master"),
            ("+nis,sun:auto.master", "+nis,sun:auto.master"),
        ];
        for (line, expected) in cases {
            assert_eq!(parsed(line).join("; "), expected, "{line}");
        }
    }

    #[test]
    fn mount_points_are_as_the_mount_table_shows_them() {
        assert_eq!(checked_mount_point(b"/a/./c/..//b/"), Ok(b"/a/b".to_vec()));
        assert!(checked_mount_point(b"/a/..").unwrap_err().0.contains("root directory"));
    }

    #[test]
    fn a_bad_line_says_what_and_where() {
        let cases = [
            (
                "relative file:/x",
                "1:1: syntax error in map near [ relative ]: a mount point starts with \"/\": \
              write an absolute path, or /- for a direct map",
            ),
            (
                "/ file:/x",
                "1:1: syntax error in map near [ / ]: cannot mount on the root directory: \
              name a directory below it",
            ),
            (
                "\"/m a\" x",
                "1:1: syntax error in map near [ \"/m a\" ]: a mount point cannot be quoted: \
              write a blank in it as \"\\ \"",
            ),
            ("/m # x", "1:4: syntax error in map near [ # x ]: no map: write the map behind the mount point"),
            (
                "/m -xfn",
                "1:4: syntax error in map near [ -xfn ]: built-in map \"-xfn\" is not supported: \
              built-in maps are -hosts, -null and -fstab",
            ),
            (
                "/m dir:/x",
                "1:4: syntax error in map near [ dir:/x ]: a directory is no map: \
              write +dir:PATH to include the files of a directory",
            ),
            (
                "/m files:/etc/x -ro",
                "1:4: syntax error in map near [ files:/etc/x -ro ]: \
              unknown map type \"files\": did you mean file:? map types are file, program, exec, sss, yp, nis, nisplus, ldap, ldaps, \
              hesiod, userdir and multi",
            ),
            (
                "/m file -ro",
                "1:4: syntax error in map near [ file -ro ]: map type \"file\" without a map: \
              write a path or a map name behind the type",
            ),
            (
                "/m file,xml:/x",
                "1:4: syntax error in map near [ file,xml:/x ]: unknown map format \"xml\": \
              map formats are sun, amd, hesiod, toml and fstab",
            ),
            (
                "/m x --timeout=5m ro",
                "1:16: syntax error in map near [ 5m ro ]: invalid timeout \"5m\": \
              write --timeout=300",
            ),
            (
                "/m x -t ro",
                "1:9: syntax error in map near [ ro ]: invalid timeout \"ro\": \
              expected a whole number of seconds",
            ),
            (
                "/m x -t",
                "1:6: syntax error in map near [ -t ]: timeout without a value: \
              write the value behind the option",
            ),
            (
                "/m x -n -1",
                "1:9: syntax error in map near [ -1 ]: invalid negative-timeout \"-1\": \
              expected a whole number of seconds",
            ),
            (
                "/m x --mode=999",
                "1:13: syntax error in map near [ 999 ]: invalid mode \"999\": \
              expected octal permission bits, as in --mode=0755",
            ),
            ("/m x ro,,soft", "1:9: syntax error in map near [ ,soft ]: two commas in a row: remove one"),
            (
                "/m multi a -- -null",
                "1:15: syntax error in map near [ -null ]: no part of a multi map: \
              the parts of a multi map are maps of their own",
            ),
            ("/m multi a --", "1:14: syntax error in map near [ /m ]: no map: write the map behind the mount point"),
            ("+", "1:1: syntax error in map near [ + ]: include of no map: write +map without a blank"),
            (
                "+program:/x",
                "1:1: syntax error in map near [ +program:/x ]: a program map cannot be included: \
              includes are of type file, dir, sss, yp, nis, nisplus, ldap or ldaps",
            ),
        ];
        for (line, expected) in cases {
            assert_eq!(parsed(line), [format!("! /etc/auto.master:{expected}")], "{line}");
        }
    }

    #[test]
    fn a_bad_line_damages_no_other() {
        let text = "/bad\nrelative x\n/m x ro,,soft\n/ok file:/x\n";
        let (items, diagnostics) = read(text.as_bytes(), &file());
        assert_eq!(items.iter().map(print).collect::<Vec<_>>(), ["/ok file:/x"]);
        assert_eq!(diagnostics.iter().map(|d| d.place.line).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn words_with_a_dash_too_many_or_too_few_are_pointed_out() {
        assert_eq!(
            parsed("/m x --foo -ro"),
            [
                "/m x foo,ro",
                "! /etc/auto.master:1:6: unknown option \"--foo\" is passed on to mount as \"foo\": \
                 options for automount start with two dashes, options for mount with one or none"
            ]
        );
        assert_eq!(
            parsed("/m x timeout=5"),
            [
                "/m x timeout=5",
                "! /etc/auto.master:1:6: \"timeout=5\" is not the expire timeout: write --timeout=5: \
                 options for automount start with two dashes, options for mount with one or none"
            ]
        );
    }

    #[test]
    fn a_strange_word_costs_itself_and_not_the_line() {
        assert_eq!(
            parsed("/m x \u{2013}timeout=120 \u{2014}ro r\u{f6}"),
            [
                "/m x timeout=120,ro",
                "! /etc/auto.master:1:6: \"\u{2013}timeout=120\" begins with a typographic dash: write --timeout=120",
                "! /etc/auto.master:1:21: \"\u{2014}ro\" begins with a typographic dash: write -ro",
                "! /etc/auto.master:1:27: \"r\u{f6}\" is no option and is ignored: \
                 write options with plain letters, as ro, soft or timeo=5",
            ]
        );
    }

    #[test]
    fn characters_that_no_option_has_separate_options() {
        let said = |column: u32, word: &str| {
            format!(
                "! /etc/auto.master:1:{column}: \"{word}\" has characters that no option has: \
                 write options without quotes and brackets, with commas between them: ro,soft; \
                 a blank in the map is written \"\\ \""
            )
        };
        assert_eq!(parsed("/m x \"-ro\" (soft)"), ["/m x ro,soft".to_owned(), said(6, "\"-ro\""), said(12, "(soft)")]);
        assert_eq!(parsed("/m x '-ro;vers=4'"), ["/m x ro,vers=4".to_owned(), said(6, "'-ro;vers=4'")]);
        assert_eq!(parsed("/m x \"--timeout=5\""), ["/m x --timeout=5".to_owned(), said(6, "\"--timeout=5\"")]);
    }

    #[test]
    fn definitions_of_nothing_and_words_without_sense_are_ignored() {
        assert_eq!(
            parsed("/m x -DFOO -D -ro = --"),
            [
                "/m x ro",
                "! /etc/auto.master:1:8: \"FOO\" defines no variable: write -DNAME=VALUE",
                "! /etc/auto.master:1:15: \"-ro\" defines no variable: write -DNAME=VALUE",
                "! /etc/auto.master:1:19: \"=\" is no option and is ignored: options are words as ro, soft or timeo=5; \
                 a blank in the mount point or the map is written \"\\ \"",
                "! /etc/auto.master:1:21: \"--\" is no option and is ignored: leave it out",
            ]
        );
    }

    prop_compose! {
        fn some_options()(
            (timeout, negative_timeout) in (proptest::option::of(any::<u64>()), proptest::option::of(1..9u64)),
            browse in any::<Option<bool>>(),
            (nobind, symlink, strictexpire, random, use_weight_only) in any::<(bool, bool, bool, bool, bool)>(),
            propagation in proptest::option::of(prop_oneof![
                Just(Propagation::Slave), Just(Propagation::Private), Just(Propagation::Shared)
            ]),
            verbosity in proptest::option::of(prop_oneof![Just(Verbosity::Verbose), Just(Verbosity::Debug)]),
            mode in proptest::option::of(0..0o7777u32),
            (owner, group) in (proptest::option::of("[a-z_][a-z0-9_.-]{0,5}"), proptest::option::of("[0-9]{1,5}")),
            trigger_propagation in proptest::option::of(prop_oneof![Just(Propagation::Slave), Just(Propagation::Shared)]),
            slashify_colons in any::<Option<bool>>(),
            defines in proptest::collection::vec(("[A-Z]{1,4}", "[a-z/.]{0,4}"), 0..3),
            words in proptest::collection::vec("x[a-z_]{0,5}(=[a-zA-Z0-9/%+:.@-]{1,5})?", 0..4),
        ) -> MasterOptions {
            let defines = defines.into_iter().map(|(n, v)| (n.into_bytes(), v.into_bytes())).collect();
            let owner = Owner { user: owner.map(String::into_bytes), group: group.map(String::into_bytes) };
            let owner = (owner != Owner::default()).then(|| Box::new(owner));
            MasterOptions {
                timeout, negative_timeout, browse, nobind, symlink, strictexpire, propagation, random, use_weight_only,
                verbosity, mode, owner, trigger_propagation,
                list: false, defines, slashify_colons, mount_options: words.join(",").into_bytes(), arguments: Vec::new(),
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(
            point in "(/[a-z \\\\]{1,4}){0,2}/[a-z \\\\]{0,4}[a-z]", name in "/[a-z ]{0,9}[a-z]", options in some_options()
        ) {
            let source = SourceSpec {
                kind: Some(SourceKind::File), format: Some(Format::Sun), name: name.into_bytes(), parts: Vec::new(),
                lists: false,
            };
            let place = Position::new(&file(), 1, 1);
            let entry = MasterEntry { mount_point: point.into_bytes(), direct: false, source, options, place };
            let line = entry.line();
            let item = Item::Entry(entry);
            prop_assert_eq!(read(print(&item).as_bytes(), &file()).1, vec![]);
            let (mut items, diagnostics) = read(&line, &file());
            for item in &mut items {
                // Only the meaning is compared, not the spelling.
                if let Item::Entry(entry) = item {
                    entry.options.arguments.clear();
                }
            }
            prop_assert_eq!((items, diagnostics), (vec![item], vec![]));
        }

        #[test]
        fn no_line_is_too_strange(line in "/m (file|multi|nis|-hosts|x)?[:, ]?([-=,:# a\"\\\\/+0-9DtnM]|--|--timeout|--mode|\\PC){0,40}") {
            let file = file();
            for d in read(line.as_bytes(), &file).1 {
                prop_assert!(d.place.line == 1 && (d.place.column + d.length) as usize <= line.len() + 1, "{}", d);
                prop_assert!(d.help.is_some());
            }
        }
    }
}
