//! The mount points of all master maps together: which line counts where several name the same place.

use std::collections::{BTreeMap, HashMap};

use super::master::MasterEntry;
use super::spec::SourceKind;
use crate::text::{Diagnostic, Escaped, Position};

/// The mount points of the master maps.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    /// Indirect mount points, each once, in the order of their lines.
    pub indirect: Vec<MasterEntry>,
    /// Direct maps, in the order of their lines: of two with the same key, the first counts.
    pub direct: Vec<MasterEntry>,
    /// How many of the indirect mount points stand before the first direct map.
    pub direct_at: usize,
    /// Paths that `-null` hides, and how many direct maps stand before the line that says so.
    nulls: BTreeMap<Vec<u8>, usize>,
    /// Whether `/- -null` before the first direct map hides all direct maps.
    no_direct: bool,
}

impl Table {
    /// Builds the table from the entries of the master map, those of includes in the place of the include; and says
    /// which lines have no effect.
    pub fn build(entries: impl IntoIterator<Item = MasterEntry>) -> (Self, Vec<Diagnostic>) {
        let mut table = Self::default();
        let mut diagnostics = Vec::new();
        let mut places: HashMap<Vec<u8>, Position> = HashMap::new();
        let mut nulls: Vec<(Vec<u8>, Position)> = Vec::new();
        for mut entry in entries {
            let null = entry.source.kind == Some(SourceKind::Null);
            let first = places.get(&entry.mount_point);
            if null && entry.direct {
                table.no_direct |= table.direct.is_empty();
                if let Some(first) = table.direct.first() {
                    let message = "ignoring null entry that appears after existing entry for /-";
                    diagnostics.push(pointless(&entry, message, &format!("move it before {}", first.place)));
                }
            } else if let (true, Some(first)) = (null, first) {
                let message = "ignoring null entry that appears after existing entry for";
                diagnostics.push(pointless(&entry, message, &format!("move it before {first}")));
            } else if null {
                if !table.nulls.contains_key(&entry.mount_point) {
                    table.nulls.insert(entry.mount_point.clone(), table.direct.len());
                    nulls.push((entry.mount_point, entry.place));
                }
            } else if entry.direct && table.no_direct {
                // As for an indirect mount point, it hides what an included map has.
            } else if entry.direct {
                // Whether local mounts are bound is one decision for all direct maps: the first one's.
                entry.options.nobind = table.direct.first().map_or(entry.options.nobind, |first| first.options.nobind);
                if table.direct.is_empty() {
                    table.direct_at = table.indirect.len();
                }
                table.direct.push(entry);
            } else if let Some(first) = first {
                let help = format!("{first} comes first");
                diagnostics.push(pointless(&entry, "ignoring duplicate indirect mount", &help));
            } else if !table.nulls.contains_key(&entry.mount_point) {
                places.insert(entry.mount_point.clone(), entry.place.clone());
                table.indirect.push(entry);
            }
        }
        for (path, place) in nulls {
            if let Some(below) = table.indirect.iter().find(|e| is_below(&e.mount_point, &path)) {
                let message = format!("removing invalid nested null entry {}", Escaped(&path));
                let help = format!("{} below it is mounted by {}", Escaped(&below.mount_point), below.place);
                diagnostics.push(Diagnostic::error("master::nested-null", place, message).help(help));
                table.nulls.remove(&path);
            }
        }
        (table, diagnostics)
    }

    /// Returns whether a `-null` line before it hides `key` of the direct map number `map`.
    pub fn hides(&self, map: usize, key: &[u8]) -> bool {
        self.nulls.get(key).is_some_and(|&before| before <= map)
    }
}

/// The code of a warning about a line of the master map that has no effect.
pub const NO_EFFECT: &str = "master::no-effect";

/// A warning that `entry` has no effect.
fn pointless(entry: &MasterEntry, message: &str, help: &str) -> Diagnostic {
    let message = match entry.direct {
        true => message.to_owned(),
        false => format!("{message} {}", Escaped(&entry.mount_point)),
    };
    Diagnostic::warning(NO_EFFECT, entry.place.clone(), message).help(help).about(&entry.mount_point)
}

/// Returns whether `path` lies below the directory `above`.
fn is_below(path: &[u8], above: &[u8]) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::super::master::{Item, read};
    use super::*;
    use std::path::Path;
    use std::sync::Arc;

    fn build(text: &str) -> (Table, Vec<String>) {
        let file: Arc<Path> = Path::new("/etc/auto.master").into();
        let (items, diagnostics) = read(text.as_bytes(), &file);
        assert_eq!(diagnostics, []);
        let entries = items.into_iter().filter_map(|item| match item {
            Item::Entry(entry) => Some(entry),
            Item::Include(_) => None,
        });
        let (table, diagnostics) = Table::build(entries);
        (table, diagnostics.iter().map(ToString::to_string).collect())
    }

    fn maps(entries: &[MasterEntry]) -> Vec<String> {
        entries.iter().map(|e| format!("{} {}", Escaped(&e.mount_point), Escaped(&e.source.name))).collect()
    }

    #[test]
    fn the_first_line_for_a_mount_point_counts() {
        let (table, said) = build("/m file:/one\n/m/ file:/two\n/n x\n");
        assert_eq!(maps(&table.indirect), ["/m /one", "/n x"]);
        let expected = "/etc/auto.master:2:1: ignoring duplicate indirect mount /m: /etc/auto.master:1:1 comes first";
        assert_eq!(said, [expected]);
    }

    #[test]
    fn direct_maps_add_up() {
        let (table, said) = build("/- a nobind\n/- b -t 5\n");
        assert_eq!(maps(&table.direct), ["/- a", "/- b"]);
        assert_eq!(table.direct_at, 0);
        assert_eq!(table.direct[1].options.timeout, Some(5));
        assert!(table.direct[1].options.nobind, "the first line decides for all");
        assert_eq!(said, [""; 0]);
    }

    #[test]
    fn null_hides_what_comes_later() {
        let (table, said) = build("/- -null\n/- a\n/m x\n");
        assert_eq!((maps(&table.direct), maps(&table.indirect)), (Vec::new(), vec!["/m x".to_owned()]));
        assert_eq!(said, [""; 0]);
        let (table, said) = build("/m -null\n/m file:/x\n/- a\n/d -null\n/- b\n");
        assert_eq!(maps(&table.indirect), [""; 0]);
        assert_eq!((table.hides(0, b"/d"), table.hides(1, b"/d"), table.hides(1, b"/e")), (false, true, false));
        assert_eq!(said, [""; 0]);
    }

    #[test]
    fn null_after_the_entry_has_no_effect() {
        let (table, said) = build("/m file:/x\n/m -null\n/- a\n/- -null\n/- b\n");
        assert_eq!(
            (maps(&table.indirect), maps(&table.direct)),
            (vec!["/m /x".to_owned()], vec!["/- a".to_owned(), "/- b".to_owned()])
        );
        assert_eq!(
            said,
            [
                "/etc/auto.master:2:1: ignoring null entry that appears after existing entry for /m: \
                 move it before /etc/auto.master:1:1",
                "/etc/auto.master:4:1: ignoring null entry that appears after existing entry for /-: \
                 move it before /etc/auto.master:3:1",
            ]
        );
    }

    #[test]
    fn null_above_a_mount_point_is_removed() {
        let (table, said) = build("/m -null\n/mm/x a\n/m/x a\n/- d\n");
        assert_eq!(maps(&table.indirect), ["/mm/x a", "/m/x a"]);
        assert!(!table.hides(0, b"/m"));
        assert_eq!(
            said,
            ["/etc/auto.master:1:1: removing invalid nested null entry /m: \
              /m/x below it is mounted by /etc/auto.master:3:1"]
        );
    }
}
