//! `automount -m`: all maps as they would be served, or one of them, in the layout that scripts know.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use super::reading::Reader;
use crate::map::{Macros, MasterEntry, MasterOptions, SourceSpec, Table};
use crate::options::Options;
use crate::source::master;
use crate::source::{Answer, Description, MapSource, Mode, machine};
use crate::text::Diagnostic;

/// Prints all maps with a heading, or only the entries of `map` (type and name). What is wrong goes to stderr.
pub(super) fn run(options: &Options, map: Option<&(Vec<u8>, Vec<u8>)>) -> ExitCode {
    let mut reader = match Reader::new() {
        Ok(reader) => reader,
        Err(error) => {
            let _ = writeln!(io::stderr(), "cannot read maps: {error}");
            return ExitCode::FAILURE;
        }
    };
    let (configuration, diagnostics) = reader.configuration();
    complain(&diagnostics);
    let (name, underscore) = master::name(options.master_map.as_deref(), &configuration.conf.autofs);
    let Some(master) = reader.master(&name, underscore) else { return ExitCode::FAILURE };
    complain(&master.diagnostics);
    let mut out = io::BufWriter::new(io::stdout().lock());
    // The reader may have closed its end.
    let _ = match map {
        Some((kind, name)) => one(&mut out, &master.table, &reader, kind, name),
        None => heading(&mut out, options.global_options.as_deref(), configuration.conf.autofs.append_options)
            .and_then(|()| all(&mut out, &master.table, &reader)),
    }
    .and_then(|()| out.flush());
    ExitCode::SUCCESS
}

fn complain(diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        let _ = writeln!(io::stderr(), "{diagnostic}");
    }
}

fn heading(out: &mut dyn Write, global_options: Option<&[u8]>, appended: bool) -> io::Result<()> {
    out.write_all(b"\nautofs dump map information\n===========================\n\nglobal options: ")?;
    match global_options {
        None => out.write_all(b"none configured\n"),
        Some(options) => {
            out.write_all(options)?;
            let not = if appended { "" } else { " not" };
            writeln!(out, "\nglobal options will{not} be appended to map entries")
        }
    }
}

/// The lines of a mount point, `/-` for all direct maps together.
fn mount_points(table: &Table) -> Vec<&[MasterEntry]> {
    let mut all: Vec<&[MasterEntry]> = table.indirect.iter().map(std::slice::from_ref).collect();
    if !table.direct.is_empty() {
        all.insert(table.direct_at.min(all.len()), &table.direct);
    }
    all
}

/// Opens and reads the map of a line. Returns `None` if it cannot be read.
fn source(entry: &MasterEntry, reader: &Reader) -> Option<Arc<dyn MapSource>> {
    let source = reader.open(&entry.source, if entry.direct { Mode::Direct } else { Mode::Indirect });
    let (entries, diagnostics) = reader.entries(&*source);
    complain(&diagnostics);
    match entries {
        Ok(_) => Some(source),
        Err(error) => {
            let _ = writeln!(io::stderr(), "{}: {error}", entry.place);
            None
        }
    }
}

/// The keys of a map with their entries, in the order of the map; a wildcard comes last. A program that lists its keys is
/// asked for each of them.
fn entries(
    table: &Table,
    number: usize,
    entry: &MasterEntry,
    source: &dyn MapSource,
    reader: &Reader,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let hidden = |key: &[u8]| entry.direct && table.hides(number, key);
    let mut keys = source.known_entries().map(|entries| entries.keys()).unwrap_or_default();
    let mut filters = Vec::new();
    if !entry.direct {
        keys.push(b"*".to_vec());
        if let Some(entries) = source.known_entries() {
            entries.for_each_filter(&mut |index, wildcard| {
                let raw = index.entry(wildcard.offset);
                filters.extend(raw.map(|raw| (wildcard.serves.to_string().into_bytes(), raw.text)));
            });
        }
    }
    let globals = Arc::new(Macros::predefined(&machine()));
    let ask = |key: &[u8]| match source.known(key) {
        None if key != b"*" => reader.lookup(source, key, &globals),
        known => known,
    };
    let with_entries = keys.into_iter().filter(|key| !hidden(key)).filter_map(|key| match ask(&key) {
        Some(Answer::Found(found)) => Some((key, found.entry.text().into_owned())),
        _ => None,
    });
    let mut all: Vec<_> = with_entries.collect();
    // A wildcard that serves all keys comes last.
    let end = all.len() - usize::from(all.last().is_some_and(|(key, _)| !entry.direct && key == b"*"));
    all.splice(end..end, filters);
    if let Some(entries) = source.known_entries() {
        // In the words of automount.
        entries.for_each_name(&mut |name| all.push((name.to_vec(), b"(null)".to_vec())));
    }
    all
}

fn all(out: &mut dyn Write, table: &Table, reader: &Reader) -> io::Result<()> {
    let mount_points = mount_points(table);
    if mount_points.is_empty() {
        return out.write_all(b"no master map entries found\n\n");
    }
    for lines in mount_points {
        let path = lines.first().map_or(&b""[..], |line| &line.mount_point);
        out.write_all(&[b"\nMount point: ", path, b"\n\nsource(s):\n"].concat())?;
        let mut read_any = false;
        for (number, line) in lines.iter().enumerate() {
            let Some(source) = source(line, reader) else { continue };
            read_any = true;
            match line.source.parts.as_slice() {
                [] => describe(out, &source.describe(), &line.options)?,
                parts => describe_parts(out, parts)?,
            }
            let entries = entries(table, number, line, &*source, reader);
            if entries.is_empty() {
                out.write_all(b"  no keys found in map\n")?;
            }
            for (key, text) in entries {
                out.write_all(&[b"  ", &key[..], b" | ", &text, b"\n"].concat())?;
            }
        }
        if !read_any {
            out.write_all(b"\n  failed to read map\n")?;
        }
        out.write_all(b"\n")?;
    }
    Ok(())
}

fn describe(out: &mut dyn Write, description: &Description, options: &MasterOptions) -> io::Result<()> {
    match description.kind {
        Some(kind) => writeln!(out, "\n  type: {kind}")?,
        None if description.instances.is_empty() => writeln!(out, "\n  instance type(s): none ")?,
        None => writeln!(out, "\n  instance type(s): {} ", description.instances.join(" "))?,
    }
    if !description.map.is_empty() {
        out.write_all(&[b"  map: ", &description.map[..], b"\n"].concat())?;
    }
    if !options.arguments.is_empty() {
        out.write_all(&[b"  arguments: ", &options.arguments[..], b"\n"].concat())?;
    }
    out.write_all(b"\n")
}

/// The parts of a `multi` map. Where a type is written, it stands in place of the map, and the map in place of an argument.
fn describe_parts(out: &mut dyn Write, parts: &[(SourceSpec, MasterOptions)]) -> io::Result<()> {
    out.write_all(b"\n  type: multi\n")?;
    for ((map, options), number) in parts.iter().zip(1..) {
        let typed = map.kind.filter(|_| !map.name.is_empty()).map(|kind| kind.name().as_bytes());
        let first = typed.unwrap_or(&map.name);
        let rest = [typed.map(|_| map.name.as_slice()), Some(&*options.arguments)];
        let rest: Vec<&[u8]> = rest.into_iter().flatten().filter(|words| !words.is_empty()).collect();
        out.write_all(&[format!("  map[{number}]: ").as_bytes(), first, b"\n"].concat())?;
        if !rest.is_empty() {
            let arguments = rest.join(&b' ');
            out.write_all(&[format!("  arguments[{number}]: ").as_bytes(), &arguments, b"\n"].concat())?;
        }
    }
    out.write_all(b"\n")
}

fn one(out: &mut dyn Write, table: &Table, reader: &Reader, kind: &[u8], name: &[u8]) -> io::Result<()> {
    let file = |kind: &[u8]| if kind == b"files" { b"file".to_vec() } else { kind.to_vec() };
    if table.indirect.is_empty() && table.direct.is_empty() {
        return out.write_all(b"no master map entries found\n");
    }
    let wanted = (file(kind), last_component(name));
    for lines in mount_points(table) {
        for (number, line) in lines.iter().enumerate() {
            let Some(source) = source(line, reader) else { continue };
            let description = source.describe();
            let kinds = description.kind.into_iter().chain(description.instances);
            let mut kinds = kinds.map(|kind| file(kind.as_bytes()));
            if !kinds.any(|kind| kind == wanted.0) || map_word(&description.map) != wanted.1 {
                continue;
            }
            let entries = entries(table, number, line, &*source, reader);
            if entries.is_empty() {
                return out.write_all(b"no keys found in map\n");
            }
            for (key, text) in entries {
                out.write_all(&[&key[..], b"\t", &text, b"\n"].concat())?;
            }
            return Ok(());
        }
    }
    Ok(())
}

fn last_component(name: &[u8]) -> &[u8] {
    name.rsplit(|&b| b == b'/').next().unwrap_or(name)
}

/// The word by which `-m TYPE NAME` knows a map: of a path the last component, of an LDAP name the value of its first part,
/// of `server:name` the name.
fn map_word(name: &[u8]) -> &[u8] {
    let word = last_component(name);
    let word = word.split(|&b| b == b',').next().unwrap_or(word);
    match memchr::memchr(b'=', word) {
        Some(at) => word.get(at + 1..).unwrap_or_default(),
        None => word.rsplit(|&b| b == b':').next().unwrap_or(word),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::source::Names;

    /// Replaces `@` in the texts by a new directory, writes the files there, and reads `m` as the master map.
    fn world(files: &[(&str, &str)]) -> (tempfile::TempDir, Table, Reader) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text.replace('@', dir.path().to_str().unwrap())).unwrap();
        }
        let names = Arc::new(Names { directory: dir.path().into(), ..Names::default() });
        let mut reader = Reader::new().unwrap();
        reader.set_names(&names);
        let master = reader.master(dir.path().join("m").to_str().unwrap().as_bytes(), false).unwrap();
        (dir, master.table, reader)
    }

    fn shown(dir: &Path, bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap().replace(dir.to_str().unwrap(), "@")
    }

    const FILES: &[(&str, &str)] = &[
        (
            "m",
            "/mnt/vl file:@/vl.map -ro,soft -DFOO=1\n/mnt/v2 two.map --timeout=5\n/- d.map\n/mnt/v3 @/none\n/- @/d2\n",
        ),
        ("vl.map", "a -soft srv1:/x\n"),
        ("two.map", "* srv1:/w/&\nb -ro srv1:/y\na srv1:/x\n/bad x:/y\n"),
        ("d.map", "/mnt/d1 srv1:/d1\n"),
        ("d2", "\n"),
    ];

    #[test]
    fn all_maps_in_the_layout_of_automount() {
        let (dir, table, reader) = world(FILES);
        let mut out = Vec::new();
        heading(&mut out, None, true).unwrap();
        all(&mut out, &table, &reader).unwrap();
        assert_eq!(
            shown(dir.path(), out),
            "\nautofs dump map information\n===========================\n\nglobal options: none configured\n\
             \nMount point: /mnt/vl\n\nsource(s):\n\n  type: file\n  map: @/vl.map\n  arguments: -ro soft -DFOO=1\n\n  \
             a | -soft srv1:/x\n\n\
             \nMount point: /mnt/v2\n\nsource(s):\n\n  instance type(s): files \n  map: two.map\n\n  \
             b | -ro srv1:/y\n  a | srv1:/x\n  * | srv1:/w/&\n\n\
             \nMount point: /-\n\nsource(s):\n\n  instance type(s): files \n  map: d.map\n\n  \
             /mnt/d1 | srv1:/d1\n\n  instance type(s): file \n  map: @/d2\n\n  no keys found in map\n\n\
             \nMount point: /mnt/v3\n\nsource(s):\n\n  failed to read map\n\n"
        );
    }

    #[test]
    fn the_parts_of_a_multi_map_as_they_are_written() {
        let master = ("m", "/mnt/m multi file:@/vl.map -ro -- @/two.map\n");
        let files: Vec<_> =
            std::iter::once(&master).chain(FILES.iter().filter(|(name, _)| *name != "m")).copied().collect();
        let (dir, table, reader) = world(&files);
        let mut out = Vec::new();
        all(&mut out, &table, &reader).unwrap();
        assert_eq!(
            shown(dir.path(), out),
            "\nMount point: /mnt/m\n\nsource(s):\n\n  type: multi\n  map[1]: file\n  arguments[1]: @/vl.map -ro\n  \
             map[2]: @/two.map\n\n  a | -soft srv1:/x\n  b | -ro srv1:/y\n  * | srv1:/w/&\n\n"
        );
    }

    #[test]
    fn global_options_and_an_empty_master_map() {
        let (_dir, table, reader) = world(&[("m", "# nothing\n")]);
        let mut out = Vec::new();
        heading(&mut out, Some(b"soft"), false).unwrap();
        all(&mut out, &table, &reader).unwrap();
        assert!(String::from_utf8(out).unwrap().ends_with(
            "global options: soft\nglobal options will not be appended to map entries\n\
             no master map entries found\n\n"
        ));
    }

    #[test]
    fn one_map_by_type_and_name() {
        let (dir, table, reader) = world(FILES);
        let one = |kind: &str, name: &str| {
            let mut out = Vec::new();
            one(&mut out, &table, &reader, kind.as_bytes(), name.as_bytes()).unwrap();
            shown(dir.path(), out)
        };
        assert_eq!(one("file", "vl.map"), "a\t-soft srv1:/x\n");
        assert_eq!(one("files", "/etc/d.map"), "/mnt/d1\tsrv1:/d1\n");
        assert_eq!(one("file", "two.map"), "b\t-ro srv1:/y\na\tsrv1:/x\n*\tsrv1:/w/&\n");
        assert_eq!(one("file", "d2"), "no keys found in map\n");
        assert_eq!((one("file", "nope"), one("yp", "vl.map")), (String::new(), String::new()));
    }

    #[test]
    fn names_are_reduced_to_a_word() {
        for (name, word) in [
            ("/etc/auto.home", "auto.home"),
            ("auto.home", "auto.home"),
            ("ldap://srv/ou=auto.home,dc=x", "auto.home"),
            ("srv:auto.home", "auto.home"),
        ] {
            assert_eq!(map_word(name.as_bytes()), word.as_bytes());
        }
    }
}
