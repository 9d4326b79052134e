//! The mount points of maps in am-utils format: sections of autofs.conf together with the lines of the master map.

use super::amd::{AmdConf, AmdSection};
use crate::map::{Format, MasterEntry, MasterOptions, SourceKind, SourceSpec};
use crate::text::{Diagnostic, Escaped, Position};

impl AmdConf {
    /// Adds the mount points of sections to the entries of the master map, and says to lines whose map is in am-utils format
    /// what their sections say. Returns what is wrong.
    pub fn complete(&self, entries: &mut Vec<MasterEntry>) -> Vec<Diagnostic> {
        let mut diagnostics = Vec::new();
        for (path, section) in &self.mounts {
            let Some((map, place)) = &section.map_name else { continue };
            let is_there = |entry: &&mut MasterEntry| !entry.direct && entry.mount_point == *path;
            if let Some(entry) = entries.iter_mut().find(is_there) {
                if entry.source.kind != Some(SourceKind::Null) {
                    entry.source = source(section, map);
                }
                continue;
            }
            let conflict = entries
                .iter()
                .filter(|entry| !entry.direct)
                .find(|entry| is_below(&entry.mount_point, path) || is_below(path, &entry.mount_point));
            if let Some(entry) = conflict {
                let message = format!("amd section mount path conflict, {} ignored", Escaped(path));
                let help = format!("{} is mounted by {}", Escaped(&entry.mount_point), entry.place);
                diagnostics.push(Diagnostic::error("conf::amd", place.clone(), message).help(help));
                continue;
            }
            entries.push(entry(path, source(section, map), place));
        }
        for entry in entries.iter_mut().filter(|entry| !entry.direct) {
            let is_built_in = matches!(entry.source.kind, Some(SourceKind::Hosts | SourceKind::Null));
            if entry.source.format.is_none() && !is_built_in && self.mounts.contains_key(&entry.mount_point) {
                entry.source.format = Some(Format::Amd);
            }
            if entry.source.format == Some(Format::Amd) {
                self.set_options(&entry.mount_point, &mut entry.options);
            }
        }
        diagnostics
    }

    /// Fills in what a line does not say.
    fn set_options(&self, path: &[u8], options: &mut MasterOptions) {
        options.timeout = options.timeout.or(self.timeout(path));
        options.browse = options.browse.or(Some(self.browse(path)));
        options.verbosity = options.verbosity.or(self.global.verbosity);
    }
}

fn source(section: &AmdSection, map: &[u8]) -> SourceSpec {
    SourceSpec { kind: section.map_type, format: Some(Format::Amd), name: map.to_vec(), ..SourceSpec::default() }
}

fn entry(path: &[u8], source: SourceSpec, place: &Position) -> MasterEntry {
    let options = MasterOptions::default();
    MasterEntry { mount_point: path.to_vec(), direct: false, source, options, place: place.clone() }
}

fn is_below(path: &[u8], above: &[u8]) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::AutofsConf;
    use crate::map::{Item, master};

    /// The mount points, each with its map, timeout and browsing; then what is wrong.
    fn completed(conf: &str, lines: &str) -> Vec<String> {
        let (conf_file, file) = (Path::new("/etc/autofs.conf").into(), Path::new("/etc/auto.master").into());
        let (conf, said) = AutofsConf::read(Some((&conf_file, conf.as_bytes())), None, |_| None);
        assert_eq!(said, []);
        let (items, _) = master::read(lines.as_bytes(), &file);
        let entry = |item| match item {
            Item::Entry(entry) => Some(entry),
            Item::Include(_) => None,
        };
        let mut entries: Vec<MasterEntry> = items.into_iter().filter_map(entry).collect();
        let diagnostics = conf.amd.complete(&mut entries);
        let shown = |e: &MasterEntry| {
            let MasterEntry { mount_point, source, options, .. } = e;
            let kind = source.kind.map_or("-", SourceKind::name);
            let (format, timeout, browse) = (source.format, options.timeout, options.browse);
            format!("{} {kind} {format:?} {} {timeout:?} {browse:?}", Escaped(mount_point), Escaped(&source.name))
        };
        entries.iter().map(shown).chain(diagnostics.iter().map(ToString::to_string)).collect()
    }

    #[test]
    fn sections_make_mount_points_and_complete_lines() {
        let conf = "[ amd ]\ndismount_interval = 9\nbrowsable_dirs = yes\n[ /a ]\nmap_name = amd.a\nmap_type = file\n\
                    browsable_dirs = no\n[ /b ]\ndismount_interval = 5\n[ /c ]\nmap_name = /etc/amd.c\n";
        assert_eq!(
            completed(conf, "/b /etc/b\n/c /etc/c --timeout=3\n/d file,amd:/etc/d\n/e /etc/e\n/- /etc/direct\n"),
            [
                "/b - Some(Amd) /etc/b Some(5) Some(true)",
                "/c - Some(Amd) /etc/amd.c Some(3) Some(true)",
                "/d file Some(Amd) /etc/d Some(9) Some(true)",
                "/e - None /etc/e None None",
                "/- - None /etc/direct None None",
                "/a file Some(Amd) amd.a Some(9) Some(false)",
            ]
        );
        assert_eq!(completed("", "/d file,amd:/etc/d\n"), ["/d file Some(Amd) /etc/d None Some(false)"]);
    }

    #[test]
    fn a_section_inside_another_mount_point_is_ignored() {
        assert_eq!(
            completed("[ /a/b ]\nmap_name = m\n[ /x ]\nmap_name = m\n", "/a /etc/a\n/x/y /etc/y\n"),
            [
                "/a - None /etc/a None None",
                "/x/y - None /etc/y None None",
                "/etc/autofs.conf:2:12: amd section mount path conflict, /a/b ignored: /a is mounted by /etc/auto.master:1:1",
                "/etc/autofs.conf:4:12: amd section mount path conflict, /x ignored: /x/y is mounted by /etc/auto.master:2:1",
            ]
        );
    }
}
