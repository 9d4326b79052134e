//! The maps in force: the lines of the master map, the maps of submounts, and what they want mounted.

pub(crate) mod compare;
pub(crate) mod configured_map;
pub(crate) mod context;

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use crate::config::Settings;
use crate::control::{Bytes, Place, Problem};
use crate::engine::Wanted;
use crate::exec::RealPaths;
use crate::map::{MasterEntry, MasterOptions, SourceSpec};
use crate::options::Options;
use crate::source::master::{Master, Status, Unread};
use crate::source::{Entries, Environment, Mode, open};
use crate::text::{Diagnostic, Position, Severity};
use compare::{DirectKeys, View};
use configured_map::ConfiguredMap;

/// The configured maps.
#[derive(Debug, Default)]
pub(crate) struct InForce {
    /// All maps by number, those of submounts included.
    pub(crate) by_number: HashMap<u32, Rc<ConfiguredMap>>,
    /// The lines of the master map, in its order.
    order: Vec<Ordered>,
    master: Option<Arc<Master>>,
    /// The keys of direct maps that are in force.
    pub(crate) direct: Arc<DirectKeys>,
    /// Mounts of earlier workers that no map names yet, as long as it is not known whether one does.
    inherited: Vec<(Wanted, Rc<ConfiguredMap>)>,
    /// Why the master map could not be read when it was tried last.
    pub(crate) unread: Option<String>,
    /// All files that the configuration and the master map name were read.
    pub(crate) complete: bool,
    /// Master maps of directory services that could not be read.
    pub(crate) away: Vec<Unread>,
    /// Whether the lines differ from those that the engine knows.
    pub(crate) changed: bool,
    next_number: u32,
}

/// A line in its place.
#[derive(Debug, Clone)]
struct Ordered {
    number: u32,
    /// The position among the direct maps.
    direct: Option<usize>,
    place: Position,
}

impl InForce {
    /// Returns a new map number.
    pub(crate) fn new_number(&mut self) -> u32 {
        self.next_number = self.next_number.wrapping_add(1);
        self.next_number
    }

    /// Returns the lines of the master map that are served, in its order, and the maps that earlier workers have left.
    pub(crate) fn served(&self) -> impl Iterator<Item = &Rc<ConfiguredMap>> {
        let configured = self.configured().map(|(map, _)| map).filter(|map| map.usable.get());
        configured.chain(self.inherited.iter().map(|(_, map)| map))
    }

    /// Returns the lines of the master map in its order, and where each is written.
    pub(crate) fn configured(&self) -> impl Iterator<Item = (&Rc<ConfiguredMap>, &Position)> {
        self.order.iter().filter_map(|ordered| Some((self.by_number.get(&ordered.number)?, &ordered.place)))
    }

    /// Returns the maps that could not be read in whole or in part, and may be readable soon.
    pub(crate) fn away_maps(&self) -> impl Iterator<Item = &Rc<ConfiguredMap>> {
        self.configured().map(|(map, _)| map).filter(|map| map.away.get())
    }

    /// Returns whether a map is a line of the master map; the others are those of submounts.
    pub(crate) fn is_configured(&self, number: u32) -> bool {
        self.order.iter().any(|ordered| ordered.number == number)
    }

    /// Forgets the maps of submounts that are gone.
    pub(crate) fn forget_unused(&mut self) {
        let order = &self.order;
        let is_configured = |number| order.iter().any(|ordered| ordered.number == number);
        self.by_number.retain(|number, map| Rc::strong_count(map) > 1 || is_configured(*number));
    }

    /// Returns the master map in force.
    pub(crate) fn master(&self) -> Option<&Arc<Master>> {
        self.master.as_ref()
    }

    /// Records a mount that an earlier worker has left, with a map that is made from the mount table.
    pub(crate) fn inherit(&mut self, wanted: Wanted, map: Rc<ConfiguredMap>) {
        self.by_number.insert(map.number, Rc::clone(&map));
        self.inherited.push((wanted, map));
    }

    /// Returns the mounts that earlier workers have left and no map names yet.
    pub(crate) fn inherited(&self) -> Vec<Wanted> {
        self.inherited.iter().map(|(wanted, _)| wanted.clone()).collect()
    }

    /// Puts a master map in force. Its maps are served when they are read; those that are in force already stay so.
    pub(crate) fn put(
        &mut self,
        master: Master,
        settings: &Settings,
        options: &Options,
        environment: &Arc<Environment>,
    ) {
        let submounts: Vec<Rc<ConfiguredMap>> =
            self.by_number.values().filter(|map| !self.is_configured(map.number)).map(Rc::clone).collect();
        let mut known: HashMap<(Vec<u8>, SourceSpec), Vec<Rc<ConfiguredMap>>> = HashMap::new();
        for (map, _) in self.configured() {
            let key = (map.mount_point.clone(), map.spec.clone());
            known.entry(key).or_default().push(Rc::clone(map));
        }
        let mut order = Vec::new();
        let mut by_number: HashMap<u32, Rc<ConfiguredMap>> =
            submounts.into_iter().map(|map| (map.number, map)).collect();
        let direct = master.table.direct.iter().zip(0..).map(|(entry, n)| (entry, Some(n)));
        for (entry, direct) in master.table.indirect.iter().map(|entry| (entry, None)).chain(direct) {
            let same = known.get_mut(&(entry.mount_point.clone(), entry.source.clone()));
            let same = same.filter(|same| !same.is_empty()).map(|same| same.remove(0));
            let map = self.map(entry, same, effective(&entry.options, settings, options), environment);
            order.push(Ordered { number: map.number, direct, place: entry.place.clone() });
            by_number.insert(map.number, map);
        }
        if master.status == Status::Partial {
            // What cannot be read now may name them.
            for map in known.into_values().flatten() {
                let direct = map.direct().then_some(master.table.direct.len());
                order.push(Ordered { number: map.number, direct, place: Position::whole(Path::new("-")) });
                by_number.insert(map.number, map);
            }
        }
        (self.order, self.by_number, self.master) = (order, by_number, Some(Arc::new(master)));
    }

    /// Returns the map of an entry of the master map: `known`, which serves the same mount point from the same map, if
    /// nothing has changed, else a new one.
    fn map(
        &mut self,
        entry: &MasterEntry,
        known: Option<Rc<ConfiguredMap>>,
        options: MasterOptions,
        environment: &Arc<Environment>,
    ) -> Rc<ConfiguredMap> {
        let same_names = |map: &&Rc<ConfiguredMap>| *map.names == *environment.names;
        if let Some(map) = known.as_ref().filter(|map| map.options == options).filter(same_names) {
            return Rc::clone(map);
        }
        let number = self.new_number();
        let (mount_point, spec) = (entry.mount_point.clone(), entry.source.clone());
        // The same map with other options: what is known of it, and the pipe of its mounts, stay.
        let source = match known.as_ref().filter(same_names) {
            Some(map) => Arc::clone(&map.source),
            None => open(&spec, if entry.direct { Mode::Direct } else { Mode::Indirect }, environment),
        };
        let names = Arc::clone(&environment.names);
        let map = ConfiguredMap::new(number, mount_point, spec, options, (source, names));
        if let Some(known) = known {
            map.pipe.set(known.pipe.get());
            map.usable.set(known.usable.get());
            map.unread.replace(known.unread.borrow().clone());
            map.entries.replace(known.entries.borrow().clone());
        }
        Rc::new(map)
    }

    /// Makes a map of what the mount table shows of an autofs mount.
    pub(crate) fn map_of(
        &mut self,
        entry: &MasterEntry,
        settings: &Settings,
        options: &Options,
        environment: &Arc<Environment>,
    ) -> Rc<ConfiguredMap> {
        let same = |map: &&Rc<ConfiguredMap>| map.mount_point == entry.mount_point && map.spec == entry.source;
        let known = self.inherited.iter().map(|(_, map)| map).find(same).map(Rc::clone);
        let map = self.map(entry, known, effective(&entry.options, settings, options), environment);
        map.usable.set(true);
        map
    }

    /// Returns whether entries were read that are not in force.
    pub(crate) fn has_changed(&self) -> bool {
        self.configured().any(|(map, _)| map.usable.get() && map.has_changed())
    }

    /// Applies the entries that were read last. Returns a view of each map, and the previous entries by map number.
    pub(crate) fn take_entries(&mut self) -> (Vec<View>, HashMap<u32, Arc<Entries>>) {
        let (mut views, mut before) = (Vec::new(), HashMap::new());
        for ordered in &self.order {
            let Some(map) = self.by_number.get(&ordered.number).filter(|map| map.usable.get()) else { continue };
            let new = if map.uses_entries() { map.source.known_entries() } else { None };
            let old = map.entries.replace(new.clone());
            if let Some(old) = old {
                let same = new.as_ref().is_some_and(|new| new.is_same(&old));
                if !same {
                    before.insert(map.number, old);
                }
            }
            views.push(View {
                number: map.number,
                path: Path::new(OsStr::from_bytes(&map.mount_point)).into(),
                direct: ordered.direct,
                timeout: map.timeout(),
                negative_timeout: map.negative_timeout(),
                entries: new,
            });
        }
        (views, before)
    }

    /// Adds what earlier workers have left if something that could not be read may name it. Returns the rest, and forgets
    /// it.
    pub(crate) fn add_inherited(&mut self, wanted: &mut Vec<Wanted>, real: &RealPaths) -> Vec<Wanted> {
        let named: HashSet<&Path> = wanted.iter().map(|wanted| &*wanted.path).collect();
        let whole = self.master.as_ref().is_some_and(|master| matches!(master.status, Status::Read));
        let unread: Vec<Rc<ConfiguredMap>> =
            self.configured().map(|(map, _)| map).filter(|map| !map.usable.get()).map(Rc::clone).collect();
        let may_be_named = |(_, map): &(Wanted, Rc<ConfiguredMap>)| {
            !whole || unread.iter().any(|unread| unread.serves_the_same(map, real))
        };
        let unnamed = std::mem::take(&mut self.inherited).into_iter().filter(|(old, _)| !named.contains(&*old.path));
        let (kept, given_up): (Vec<_>, Vec<_>) = unnamed.partition(may_be_named);
        self.inherited = kept;
        wanted.extend(self.inherited.iter().map(|(wanted, _)| wanted.clone()));
        for (_, map) in &self.inherited {
            self.by_number.entry(map.number).or_insert_with(|| Rc::clone(map));
        }
        given_up.into_iter().map(|(wanted, _)| wanted).collect()
    }
}

/// Returns the options of a line with the defaults of configuration and command line filled in: timeout, negative timeout,
/// browse and random.
pub(crate) fn effective(options: &MasterOptions, settings: &Settings, command_line: &Options) -> MasterOptions {
    let mut effective = options.clone();
    effective.timeout = options.timeout.or(command_line.timeout).or(Some(settings.timeout));
    effective.negative_timeout =
        options.negative_timeout.or(command_line.negative_timeout).or(Some(settings.negative_timeout));
    effective.browse = options.browse.or(Some(settings.browse_mode));
    effective.random |= command_line.random;
    effective
}

/// Converts an error to a problem for `status`. Returns `None` for a warning.
pub(crate) fn problem_of(diagnostic: &Diagnostic) -> Option<Problem> {
    (diagnostic.severity == Severity::Error).then(|| as_problem(diagnostic))
}

/// Converts an error or a warning to a problem for `status`.
pub(crate) fn as_problem(diagnostic: &Diagnostic) -> Problem {
    let path =
        diagnostic.about.as_ref().map_or_else(|| Bytes::from(&*diagnostic.place.file), |name| Bytes(name.0.clone()));
    let mut reason = diagnostic.message.clone();
    if let Some(rest) = reason.strip_prefix("syntax error in map near [ ").and_then(|rest| rest.split_once(" ]: ")) {
        reason = rest.1.to_owned();
    }
    if let Some(help) = &diagnostic.help {
        reason = format!("{reason}: {help}");
    }
    Problem { path, place: Some(Place::from(&diagnostic.place)), reason, left: false }
}
