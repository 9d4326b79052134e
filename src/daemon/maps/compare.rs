//! From the maps in force to the autofs mounts that the engine is told to serve. Pure: it runs on any thread.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use crate::engine::{Kind, Wanted};
use crate::exec::RealPaths;
use crate::map::Table;
use crate::source::Entries;

/// The properties of a configured map that a reload compares.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// Its number.
    pub(crate) number: u32,
    /// The mount point of an indirect map, as it is written.
    pub(crate) path: Arc<Path>,
    /// For a direct map, its position among the direct maps of the master map.
    pub(crate) direct: Option<usize>,
    /// Seconds until an unused mount goes.
    pub(crate) timeout: u64,
    /// Seconds for which a failed key fails at once.
    pub(crate) negative_timeout: u64,
    /// The entries of a direct map.
    pub(crate) entries: Option<Arc<Entries>>,
}

impl View {
    fn wanted(&self, path: Arc<Path>, kind: Kind) -> Wanted {
        let (timeout, negative_timeout) = (self.timeout, self.negative_timeout);
        Wanted { path, kind, map: self.number, timeout, negative_timeout }
    }
}

/// The keys of all direct maps by real path, each with the first map that has it. The engine gets only the topmost keys. A key
/// below another key is mounted with that one, like an offset, because a trigger inside a trigger would not be reachable.
#[derive(Debug, Default)]
pub(crate) struct DirectKeys {
    keys: BTreeMap<DirectKey, u32>,
    /// Direct keys below a direct key, and their maps, by the path of the one above.
    pub(crate) nested: HashMap<Arc<Path>, Vec<(Arc<Path>, u32)>>,
}

/// A path that is ordered so that what is below it follows directly.
#[derive(Debug, Clone, PartialEq, Eq)]
struct DirectKey(Arc<Path>);

impl DirectKey {
    fn bytes(&self) -> &[u8] {
        self.0.as_os_str().as_bytes()
    }

    /// Returns whether `path` is below this path.
    fn is_above(&self, path: &[u8]) -> bool {
        path.strip_prefix(self.bytes()).is_some_and(|rest| rest.first() == Some(&b'/'))
    }
}

impl Ord for DirectKey {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (self.bytes(), other.bytes());
        let equal = a.iter().zip(b).take_while(|(a, b)| a == b).count();
        let rank = |byte: Option<&u8>| byte.map(|&b| if b == b'/' { 0 } else { b });
        rank(a.get(equal)).cmp(&rank(b.get(equal)))
    }
}

impl PartialOrd for DirectKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Changes of what is wanted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Delta {
    /// Mounts that are wanted and were not.
    pub(crate) wanted: Vec<Wanted>,
    /// Mounts that are not wanted any more.
    pub(crate) unwanted: Vec<Arc<Path>>,
    /// The keys of those, as they were written.
    pub(crate) removed: Vec<Arc<Path>>,
}

fn path(bytes: &[u8]) -> Arc<Path> {
    Path::new(OsStr::from_bytes(bytes)).into()
}

/// Calls `each` for the mount points of all maps, as they are written.
pub(crate) fn for_each_mount_point(maps: &[View], each: &mut dyn FnMut(&Path)) {
    for map in maps {
        match (map.direct, &map.entries) {
            (None, _) => each(&map.path),
            (Some(_), Some(entries)) => entries.for_each_key(&mut |key| each(Path::new(OsStr::from_bytes(&key)))),
            (Some(_), None) => {}
        }
    }
}

/// Calls `each` for the keys that direct maps have and did not have `before`.
pub(crate) fn for_each_added_key(maps: &[View], before: &HashMap<u32, Arc<Entries>>, each: &mut dyn FnMut(&Path)) {
    for map in maps.iter().filter(|map| map.direct.is_some()) {
        let (Some(new), Some(old)) = (&map.entries, before.get(&map.number)) else { continue };
        let (Some(new), Some(old)) = (new.single(), old.single()) else { continue };
        for key in new.key_changes(old).added {
            each(Path::new(OsStr::from_bytes(&key)));
        }
    }
}

/// Selects what the maps want mounted, in their order, at the real paths.
pub(crate) fn select(maps: &[View], table: &Table, real: &RealPaths) -> (Vec<Wanted>, DirectKeys) {
    let mut all: Vec<Wanted> = Vec::new();
    let mut keys: BTreeMap<DirectKey, u32> = BTreeMap::new();
    for map in maps {
        let Some(position) = map.direct else {
            all.push(map.wanted(real.real(&map.path), Kind::Indirect));
            continue;
        };
        let Some(entries) = &map.entries else { continue };
        entries.for_each_key(&mut |key| {
            if table.hides(position, &key) {
                return;
            }
            let at = real.real(&path(&key));
            let known = keys.len();
            keys.entry(DirectKey(Arc::clone(&at))).or_insert(map.number);
            if keys.len() > known {
                all.push(map.wanted(at, Kind::Direct));
            }
        });
    }
    let mut nested: HashMap<Arc<Path>, Vec<(Arc<Path>, u32)>> = HashMap::new();
    let mut above: Vec<&DirectKey> = Vec::new();
    for (key, map) in &keys {
        while above.last().is_some_and(|above| !above.is_above(key.bytes())) {
            above.pop();
        }
        if let Some(parent) = above.last() {
            nested.entry(Arc::clone(&parent.0)).or_default().push((Arc::clone(&key.0), *map));
        }
        above.push(key);
    }
    if !nested.is_empty() {
        let inner: HashSet<&Arc<Path>> = nested.values().flatten().map(|(path, _)| path).collect();
        all.retain(|wanted| wanted.kind != Kind::Direct || !inner.contains(&wanted.path));
    }
    (all, DirectKeys { keys, nested })
}

impl DirectKeys {
    /// Returns how many keys the map with this number has, without those that another map has first.
    pub(crate) fn count(&self, map: u32) -> u32 {
        u32::try_from(self.keys.values().filter(|number| **number == map).count()).unwrap_or(u32::MAX)
    }

    /// Returns the keys of a map that stand below other keys.
    pub(crate) fn nested_in(&self, map: u32) -> impl Iterator<Item = &Path> {
        self.nested.values().flatten().filter(move |(_, number)| *number == map).map(|(path, _)| &**path)
    }

    /// Returns the change if the entries of some direct maps are replaced by those of `maps`; `before` has the earlier ones, by
    /// number. Returns `None` if the change cannot be computed key by key: keys that several maps have, keys below other keys,
    /// keys that are equal through symbolic links.
    pub(crate) fn delta(
        &self,
        maps: &[View],
        before: &HashMap<u32, Arc<Entries>>,
        table: &Table,
        real: &RealPaths,
    ) -> Option<Delta> {
        let mut delta = Delta::default();
        for map in maps {
            let (Some(position), Some(new)) = (map.direct, &map.entries) else { continue };
            let Some(old) = before.get(&map.number) else { continue };
            let changes = new.single()?.key_changes(old.single()?);
            for key in changes.removed {
                let written = path(&key);
                let gone = DirectKey(real.real(&written));
                if !real.is_only_way(&written) {
                    return None;
                }
                if self.keys.get(&gone) != Some(&map.number) {
                    continue;
                }
                let has_it = |other: &View| {
                    let has = |key: &[u8]| other.entries.as_ref().is_some_and(|entries| entries.has_key(key));
                    let is_written_so = other.direct.is_none() && other.path == written;
                    is_written_so
                        || (other.number != map.number && has(&key))
                        || (gone.0 != written && has(gone.bytes()))
                };
                if maps.iter().any(has_it) || self.is_related(&gone) {
                    return None;
                }
                delta.unwanted.push(gone.0);
                delta.removed.push(written);
            }
            for key in changes.added {
                if table.hides(position, &key) {
                    continue;
                }
                let new = DirectKey(real.real(&path(&key)));
                if self.keys.contains_key(&new) || self.is_related(&new) {
                    return None;
                }
                delta.wanted.push(map.wanted(new.0, Kind::Direct));
            }
        }
        // Of what is added at once, nothing may be below each other, nor twice there.
        let mut added: Vec<DirectKey> = delta.wanted.iter().map(|wanted| DirectKey(Arc::clone(&wanted.path))).collect();
        added.sort_unstable();
        let related = |pair: &[DirectKey]| match pair {
            [a, b] => a == b || a.is_above(b.bytes()),
            _ => false,
        };
        if added.windows(2).any(related) { None } else { Some(delta) }
    }

    /// Returns whether another key is above or below this one.
    fn is_related(&self, key: &DirectKey) -> bool {
        use std::ops::Bound;
        let next = self.keys.range((Bound::Excluded(key), Bound::Unbounded)).next();
        if next.is_some_and(|(next, _)| key.is_above(next.bytes())) {
            return true;
        }
        key.0.ancestors().skip(1).any(|above| self.keys.contains_key(&DirectKey(above.into())))
    }

    /// Applies changes.
    pub(crate) fn apply(&mut self, delta: &Delta) {
        for path in &delta.unwanted {
            self.keys.remove(&DirectKey(Arc::clone(path)));
        }
        for wanted in &delta.wanted {
            self.keys.insert(DirectKey(Arc::clone(&wanted.path)), wanted.map);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Index, Mode};
    use proptest::prelude::*;

    fn entries(keys: &[String]) -> Arc<Entries> {
        let text: String = keys.iter().map(|key| format!("{key} x:/y\n")).collect();
        let index = Index::build(&Path::new("/m").into(), text.into_bytes(), Mode::Direct).unwrap();
        Arc::new(Entries::of_file(&Arc::new(index)))
    }

    fn view(number: u32, keys: &[String]) -> View {
        View {
            number,
            path: Path::new("/-").into(),
            direct: Some(number as usize),
            timeout: 1,
            negative_timeout: 1,
            entries: Some(entries(keys)),
        }
    }

    fn keys(text: &str) -> Vec<String> {
        text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn the_first_map_has_a_key_and_what_is_below_another_key_comes_later() {
        let maps = [view(0, &keys("/b /a/x /a-b")), view(1, &keys("/a /b /a/x/y /c"))];
        let (wanted, direct) = select(&maps, &Table::default(), &RealPaths::default());
        let shown: Vec<String> = wanted.iter().map(|w| format!("{} {}", w.path.display(), w.map)).collect();
        assert_eq!(shown, ["/b 0", "/a-b 0", "/a 1", "/c 1"]);
        let below = |at: &str| {
            direct.nested[Path::new(at)].iter().map(|(p, n)| (p.to_str().unwrap().to_owned(), *n)).collect::<Vec<_>>()
        };
        assert_eq!(below("/a"), [("/a/x".to_owned(), 0)]);
        assert_eq!(below("/a/x"), [("/a/x/y".to_owned(), 1)]);
    }

    #[test]
    fn keys_that_lead_to_the_same_place_by_way_of_a_link_are_one() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
        std::fs::create_dir(dir.path().join("real")).unwrap();
        let key = |path: &str| dir.path().join(path).to_str().unwrap().to_owned();
        let before = [view(0, &[key("link/a")]), view(1, &[key("real/a"), key("real/b")])];
        let real = RealPaths::default();
        real.learn(&|each| for_each_mount_point(&before, each));
        let (wanted, direct) = select(&before, &Table::default(), &real);
        let shown: Vec<(String, u32)> = wanted.iter().map(|w| (w.path.to_str().unwrap().to_owned(), w.map)).collect();
        assert_eq!(shown, [(key("real/a"), 0), (key("real/b"), 1)]);
        let known = before.iter().map(|view| (view.number, view.entries.clone().unwrap())).collect();
        let added = [view(0, &[key("link/a"), key("link/c")]), before[1].clone()];
        real.add(&|each| for_each_added_key(&added, &known, each));
        assert_eq!(real.real(&Path::new(&key("link/c")).into()), Path::new(&key("real/c")).into());
        let delta = direct.delta(&added, &known, &Table::default(), &real).unwrap();
        assert_eq!(delta.wanted.iter().map(|w| w.path.to_str().unwrap()).collect::<Vec<_>>(), [key("real/c")]);
        let removed = [before[0].clone(), view(1, &[key("real/b")])];
        assert_eq!(direct.delta(&removed, &known, &Table::default(), &real), None);
        let removed = [view(0, &[]), before[1].clone()];
        assert_eq!(direct.delta(&removed, &known, &Table::default(), &real), None, "real/a wants it now");
        let twice = [view(0, &[key("link/a"), key("link/c")]), view(1, &[key("real/a"), key("real/b"), key("real/c")])];
        assert_eq!(direct.delta(&twice, &known, &Table::default(), &real), None);
        let unlinked = [before[0].clone(), view(1, &[key("real/a"), key("real/b"), key("real/d")])];
        assert!(direct.delta(&unlinked, &known, &Table::default(), &real).is_some_and(|delta| delta.wanted.len() == 1));
    }

    #[test]
    fn a_key_behind_a_link_comes_and_goes_alone() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
        std::fs::create_dir(dir.path().join("real")).unwrap();
        let key = |path: &str| dir.path().join(path).to_str().unwrap().to_owned();
        let (one, two) = ([view(0, &[key("link/a")])], [view(0, &[key("link/a"), key("link/b")])]);
        let real = RealPaths::default();
        real.learn(&|each| for_each_mount_point(&one, each));
        let (_, mut direct) = select(&one, &Table::default(), &real);
        let change = |direct: &mut DirectKeys, from: &[View], to: &[View]| {
            let known = from.iter().map(|view| (view.number, view.entries.clone().unwrap())).collect();
            real.add(&|each| for_each_added_key(to, &known, each));
            let delta = direct.delta(to, &known, &Table::default(), &real).unwrap();
            direct.apply(&delta);
            delta
        };
        let added = change(&mut direct, &one, &two);
        assert_eq!(added.wanted.iter().map(|w| w.path.to_str().unwrap()).collect::<Vec<_>>(), [key("real/b")]);
        let gone = change(&mut direct, &two, &one);
        assert_eq!(
            (gone.unwanted, gone.removed),
            (vec![path(key("real/b").as_bytes())], vec![path(key("link/b").as_bytes())])
        );
        assert_eq!(direct.keys, select(&one, &Table::default(), &real).1.keys);
    }

    proptest! {
        /// Whatever is edited: what a change leads to is what reading everything anew leads to.
        #[test]
        fn a_delta_equals_a_new_selection(
            old in proptest::collection::vec(proptest::collection::vec("/[ab](/[ab-])?", 0..6), 1..4),
            new in proptest::collection::vec(proptest::collection::vec("/[ab](/[ab-])?", 0..6), 3),
        ) {
            let views = |maps: &[Vec<String>]| -> Vec<View> {
                maps.iter().zip(0..).map(|(keys, number)| view(number, keys)).collect()
            };
            let (before, after) = (views(&old), views(&new[..old.len()]));
            let (wanted, mut direct) = select(&before, &Table::default(), &RealPaths::default());
            let known = before.iter().map(|view| (view.number, view.entries.clone().unwrap())).collect();
            if let Some(delta) = direct.delta(&after, &known, &Table::default(), &RealPaths::default()) {
                let (expected, all) = select(&after, &Table::default(), &RealPaths::default());
                let mut now: Vec<Wanted> = wanted.into_iter().filter(|w| !delta.unwanted.contains(&w.path)).collect();
                now.extend(delta.wanted.iter().cloned());
                let order = |mut list: Vec<Wanted>| {
                    list.sort_unstable_by(|a, b| a.path.cmp(&b.path));
                    list
                };
                prop_assert_eq!(order(now), order(expected));
                direct.apply(&delta);
                prop_assert_eq!(direct.keys, all.keys);
                prop_assert_eq!(direct.nested, all.nested);
            }
        }
    }
}
