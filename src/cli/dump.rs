//! `automount -m`: all maps as they would be served, or one of them, in the layout that scripts know.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use crate::map::{MasterEntry, MasterOptions, Table};
use crate::options::Options;
use crate::source::configuration::Configuration;
use crate::source::master::{self, Master};
use crate::source::{Answer, Description, Mode, Names, Source};
use crate::text::Diagnostic;

/// Prints all maps with a heading, or only the entries of `map` (type and name). What is wrong goes to stderr.
pub(super) fn run(options: &Options, map: Option<&(Vec<u8>, Vec<u8>)>) -> ExitCode {
    let (configuration, diagnostics) = Configuration::look(None);
    complain(&diagnostics);
    let (name, underscore) = master::name(options.master_map.as_deref(), &configuration.conf.autofs);
    let master = Master::read(&name, underscore, &configuration.names, false);
    complain(&master.diagnostics);
    let mut out = io::BufWriter::new(io::stdout().lock());
    // Somebody may have read enough.
    let _ = match map {
        Some((kind, name)) => one(&mut out, &master.table, &configuration.names, kind, name),
        None => heading(&mut out, options.global_options.as_deref(), configuration.conf.autofs.append_options)
            .and_then(|()| all(&mut out, &master.table, &configuration.names)),
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

/// The map of a line, read; `None`: it cannot be.
fn source(entry: &MasterEntry, names: &Arc<Names>) -> Option<Source> {
    let mode = if entry.direct { Mode::Direct } else { Mode::Indirect };
    let source = Source::from_spec(&entry.source, mode, names);
    match source.load() {
        Ok(report) => {
            complain(&report.diagnostics);
            Some(source)
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "{}: {error}", entry.place);
            None
        }
    }
}

/// The keys of a map with their entries, in the order of the map; a wildcard comes last.
fn entries(table: &Table, number: usize, entry: &MasterEntry, source: &Source) -> Vec<(Vec<u8>, Vec<u8>)> {
    let hidden = |key: &[u8]| entry.direct && table.hides(number, key);
    let mut keys = source.keys();
    if !entry.direct {
        keys.push(b"*".to_vec());
    }
    keys.into_iter()
        .filter(|key| !hidden(key))
        .filter_map(|key| match source.lookup(&key) {
            Answer::Found(raw) => Some((key, raw.text)),
            _ => None,
        })
        .collect()
}

fn all(out: &mut dyn Write, table: &Table, names: &Arc<Names>) -> io::Result<()> {
    let mount_points = mount_points(table);
    if mount_points.is_empty() {
        return out.write_all(b"no master map entries found\n\n");
    }
    for lines in mount_points {
        let path = lines.first().map_or(&b""[..], |line| &line.mount_point);
        out.write_all(&[b"\nMount point: ", path, b"\n\nsource(s):\n"].concat())?;
        let mut read_any = false;
        for (number, line) in lines.iter().enumerate() {
            let Some(source) = source(line, names) else { continue };
            read_any = true;
            describe(out, &source.describe(), &line.options)?;
            let entries = entries(table, number, line, &source);
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

fn one(out: &mut dyn Write, table: &Table, names: &Arc<Names>, kind: &[u8], name: &[u8]) -> io::Result<()> {
    let file = |kind: &[u8]| if kind == b"files" { b"file".to_vec() } else { kind.to_vec() };
    if table.indirect.is_empty() && table.direct.is_empty() {
        return out.write_all(b"no master map entries found\n");
    }
    let wanted = (file(kind), last_component(name));
    for lines in mount_points(table) {
        for (number, line) in lines.iter().enumerate() {
            let Some(source) = source(line, names) else { continue };
            let description = source.describe();
            let kinds = description.kind.into_iter().chain(description.instances);
            let mut kinds = kinds.map(|kind| file(kind.as_bytes()));
            if !kinds.any(|kind| kind == wanted.0) || map_word(&description.map) != wanted.1 {
                continue;
            }
            let entries = entries(table, number, line, &source);
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

    use super::*;

    /// Replaces `@` in the texts by a new directory, writes the files there, and reads `m` as the master map.
    fn world(files: &[(&str, &str)]) -> (tempfile::TempDir, Table, Arc<Names>) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text.replace('@', dir.path().to_str().unwrap())).unwrap();
        }
        let names = Arc::new(Names { directory: dir.path().into(), ..Names::default() });
        let master = Master::read(dir.path().join("m").to_str().unwrap().as_bytes(), false, &names, false);
        (dir, master.table, names)
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
        let (dir, table, names) = world(FILES);
        let mut out = Vec::new();
        heading(&mut out, None, true).unwrap();
        all(&mut out, &table, &names).unwrap();
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
    fn global_options_and_an_empty_master_map() {
        let (_dir, table, names) = world(&[("m", "# nothing\n")]);
        let mut out = Vec::new();
        heading(&mut out, Some(b"soft"), false).unwrap();
        all(&mut out, &table, &names).unwrap();
        assert!(String::from_utf8(out).unwrap().ends_with(
            "global options: soft\nglobal options will not be appended to map entries\n\
             no master map entries found\n\n"
        ));
    }

    #[test]
    fn one_map_by_type_and_name() {
        let (dir, table, names) = world(FILES);
        let one = |kind: &str, name: &str| {
            let mut out = Vec::new();
            one(&mut out, &table, &names, kind.as_bytes(), name.as_bytes()).unwrap();
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
