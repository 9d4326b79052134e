//! The maps of a check: every entry is read and a plan made of it, as for a request of some user.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::report::Report;
use super::requirements::Requirements;
use super::{fstab, lint, permissions};
use crate::cli::reading::Reader;
use crate::map::{
    self, Body, Format, Macros, MasterEntry, MasterOptions, OptionList, Scope, SourceKind, SourceSpec, Table, User,
    amd, reader, toml,
};
use crate::plan::{self, Action, External, Host, MountedBy, Plan};
use crate::source::configuration::Configuration;
use crate::source::{self, Answer, Entries, Found, MapSource, Mode};
use crate::sys::path;
use crate::text::{Diagnostic, Escaped, Position};

/// A map that is to be read.
struct Wanted {
    spec: SourceSpec,
    mode: Mode,
    options: MasterOptions,
    /// The mount point, of an indirect map.
    at: PathBuf,
    /// Position of the line that names it.
    place: Position,
}

/// Reads maps, each once, and those that their entries name.
pub(super) struct Maps<'a> {
    reader: &'a Reader,
    configuration: &'a Configuration,
    report: &'a mut Report,
    macros: Macros,
    global: OptionList,
    wanted: VecDeque<Wanted>,
    seen: HashSet<(SourceSpec, bool)>,
    /// The files that were looked through for mistakes.
    examined: HashSet<Arc<Path>>,
    /// The indirect mount points, and where the master map names them.
    mount_points: Vec<(Vec<u8>, Position)>,
    /// The keys of direct maps, and where each stands first.
    direct_keys: HashMap<Vec<u8>, Position>,
    /// Paths that entries require.
    requirements: Requirements,
    /// Whether a file is looked at without the master map that names it.
    is_alone: bool,
}

impl<'a> Maps<'a> {
    pub(super) fn new(reader: &'a Reader, configuration: &'a Configuration, report: &'a mut Report) -> Self {
        let machine = source::machine();
        let mut macros = Macros::predefined(&machine);
        configuration.conf.amd.define(&mut macros, &machine);
        Self {
            reader,
            configuration,
            report,
            macros,
            global: OptionList::default(),
            wanted: VecDeque::new(),
            seen: HashSet::new(),
            examined: HashSet::new(),
            mount_points: Vec::new(),
            direct_keys: HashMap::new(),
            requirements: Requirements::default(),
            is_alone: false,
        }
    }

    /// The maps of a master map.
    pub(super) fn table(&mut self, table: &Table) {
        self.mount_points =
            table.indirect.iter().map(|entry| (entry.mount_point.clone(), entry.place.clone())).collect();
        self.report.extend(lint::nested(&self.mount_points));
        self.report.extend(lint::in_the_way(&self.mount_points));
        self.report.extend(lint::unusual(&self.mount_points));
        let mut direct: Vec<&MasterEntry> = Vec::new();
        for entry in &table.direct {
            if let Some(first) = direct.iter().find(|first| first.source == entry.source) {
                let message = "the same direct map a second time has no effect";
                let help = format!("{} comes first; remove one of the two", first.place);
                self.report.push(Diagnostic::warning("master::no-effect", entry.place.clone(), message).help(help));
            }
            direct.push(entry);
        }
        for entry in table.indirect.iter().chain(&table.direct) {
            self.report.extend(permissions::owner(entry));
            self.parts(entry);
            self.want(Wanted {
                spec: entry.source.clone(),
                mode: if entry.direct { Mode::Direct } else { Mode::Indirect },
                options: entry.options.clone(),
                at: OsStr::from_bytes(&entry.mount_point).into(),
                place: entry.place.clone(),
            });
        }
        self.run();
        self.report.extend(self.requirements.circles());
    }

    /// Warns of parts of a multi map that cannot be read.
    fn parts(&mut self, entry: &MasterEntry) {
        let mode = if entry.direct { Mode::Direct } else { Mode::Indirect };
        for (part, _) in &entry.source.parts {
            let source = self.reader.open(part, mode);
            if let Err(error) = self.reader.entries(&*source).0 {
                self.report.push(Diagnostic::warning("map::unusable", entry.place.clone(), error.to_string()));
            }
        }
    }

    /// One file.
    pub(super) fn file(&mut self, file: &Path, format: Format, mode: Mode) {
        self.is_alone = true;
        let name = file.as_os_str().as_bytes().to_vec();
        self.want(Wanted {
            spec: SourceSpec {
                kind: Some(SourceKind::File),
                format: Some(format),
                name,
                parts: Vec::new(),
                lists: false,
            },
            mode,
            options: MasterOptions::default(),
            at: "/mount/point".into(),
            place: Position::whole(file),
        });
        self.run();
        self.report.extend(self.requirements.circles());
    }

    fn want(&mut self, wanted: Wanted) {
        if self.seen.insert((wanted.spec.clone(), wanted.mode == Mode::Direct)) {
            self.wanted.push_back(wanted);
        }
    }

    fn run(&mut self) {
        while let Some(wanted) = self.wanted.pop_front() {
            let source = self.reader.open(&wanted.spec, wanted.mode);
            let (entries, diagnostics) = self.reader.entries(&*source);
            match entries {
                Ok(entries) => {
                    if wanted.spec.format == Some(Format::Fstab) && !self.is_alone && entries.keys().is_empty() {
                        let message = "no line of the table is automounted";
                        let help = "add the option x-autofs.automount, and noauto, to those that should be";
                        let place = wanted.place.clone();
                        self.report.push(Diagnostic::warning("fstab::none", place, message).help(help));
                    }
                    if wanted.spec.format == Some(Format::Fstab) {
                        self.report.extend(fstab::also_systemd(&self.configuration.names.path(&wanted.spec.name)));
                    }
                    let files: Vec<_> = diagnostics.iter().map(|d| Arc::clone(&d.place.file)).collect();
                    self.report.extend(diagnostics);
                    self.entries(&wanted, &*source, &entries);
                    let named = self.configuration.names.path(&wanted.spec.name);
                    for file in files.iter().chain(std::iter::once(&named)) {
                        self.examine(&wanted, file);
                    }
                }
                Err(error) => {
                    let d = Diagnostic::error("map::unusable", wanted.place.clone(), error.to_string());
                    let is_file = |path| path::stat(path).is_ok_and(|stat| stat.is_file());
                    let is_swapped = wanted.mode == Mode::Indirect
                        && !self.mount_points.iter().any(|(point, _)| {
                            let point = Path::new(OsStr::from_bytes(point));
                            wanted.at != point && wanted.at.starts_with(point)
                        })
                        && is_file(&wanted.at);
                    let named = self.configuration.names.path(&wanted.spec.name);
                    let is_text = wanted.spec.kind == Some(SourceKind::Program)
                        && path::stat(&named).is_ok_and(|stat| stat.is_file() && !stat.is_executable());
                    let shown = Escaped::path(&named);
                    let help = match () {
                        () if is_swapped => "a line begins with the mount point, and the map follows".to_owned(),
                        () if is_text => format!("chmod +x {shown}; or write file:{shown} if it is no program"),
                        () => String::new(),
                    };
                    self.report.push(if help.is_empty() { d } else { d.help(help) });
                }
            }
        }
    }

    fn entries(&mut self, wanted: &Wanted, source: &dyn MapSource, entries: &Entries) {
        for key in entries.keys() {
            self.key(wanted, source, &key);
        }
        if wanted.mode == Mode::Indirect {
            let mut filters = Vec::new();
            entries.for_each_filter(&mut |index, wildcard| filters.extend(index.entry(wildcard.offset)));
            for raw in filters {
                self.found(wanted, b"*", &raw.into());
            }
            self.key(wanted, source, b"*");
        }
    }

    fn key(&mut self, wanted: &Wanted, source: &dyn MapSource, key: &[u8]) {
        if let Some(Answer::Found(found)) = source.known(key) {
            self.found(wanted, key, &found);
        }
    }

    fn found(&mut self, wanted: &Wanted, key: &[u8], found: &Found) {
        self.report.count(&found.place.file);
        self.examine(wanted, &found.place.file);
        if let Err(error) = self.entry(wanted, key, found) {
            self.report.push(*error);
        }
    }

    /// Finds text of a map file that is valid, but probably does not do what was intended.
    fn examine(&mut self, wanted: &Wanted, file: &Arc<Path>) {
        if !self.examined.insert(Arc::clone(file)) || !path::stat(file).is_ok_and(|stat| stat.is_file()) {
            return;
        }
        self.report.extend(permissions::of(file, &wanted.spec));
        let Ok(text) = super::read(file) else { return };
        if text.starts_with(b"#!") {
            self.report.extend(permissions::interpreter(&text, file, |path| self.is_missing(path)));
            return;
        }
        let user = requester();
        let scope = Scope { globals: &self.macros, defines: &wanted.options.defines, user: Some(&user) };
        let map = lint::Map {
            file,
            text: &text,
            mode: wanted.mode,
            is_alone: self.is_alone,
            options: &wanted.options,
            is_variable: &|name| scope.lookup(name).is_some(),
            mount_points: &self.mount_points,
        };
        let found = match wanted.spec.format {
            None | Some(Format::Sun) => [lint::whole(&text, file), lint::map(&map)].concat(),
            Some(Format::Amd) => [lint::whole(&text, file), lint::amd::map(&map)].concat(),
            Some(Format::Toml) => translated(&map, toml::lines(&text, file)),
            Some(Format::Fstab) => {
                let found = [fstab::misspelt(&text, file), translated(&map, map::fstab::lines(&text, file))];
                found.concat()
            }
            Some(Format::Hesiod) => Vec::new(),
        };
        self.report.extend(found);
        let is_sun = matches!(wanted.spec.format, None | Some(Format::Sun));
        if wanted.mode == Mode::Direct && is_sun && !self.is_alone {
            self.taken(&text, file);
        }
    }

    /// Warns of keys of a direct map that another direct map has: only the first one is used.
    fn taken(&mut self, text: &[u8], file: &Arc<Path>) {
        for line in crate::text::lines(text, file).flatten().filter(|line| !line.is_include()) {
            let Ok(key) = map::key::unescape(&line.key) else { continue };
            let Some(place) = self.direct_keys.get(&*key) else {
                self.direct_keys.insert(key.into_owned(), line.key_place());
                continue;
            };
            if place.file == *file {
                continue;
            }
            let message = format!("the key \"{}\" a second time is never used", Escaped::start_of(&key));
            let d = line.key_error("map::shadowed", 0..line.key.len(), message).into_warning();
            self.report.push(d.help(format!("{place} comes first; remove one of the two")));
        }
    }

    /// Reads an entry and makes a plan of it, as the daemon would for a request.
    fn entry(&mut self, wanted: &Wanted, key: &[u8], found: &Found) -> Result<(), Box<Diagnostic>> {
        let user = requester();
        let options = found.options(&wanted.options);
        let scope = Scope { globals: &self.macros, defines: &options.defines, user: Some(&user) };
        let slashify = wanted.options.slashify_colons.unwrap_or(true);
        // A wildcard is looked at as for some key.
        let is_wildcard = key == b"*";
        let key = if is_wildcard { b"key" } else { key };
        let mut warnings = Vec::new();
        let at = if wanted.mode == Mode::Direct || key == amd::DEFAULTS_KEY {
            OsStr::from_bytes(key).into()
        } else {
            wanted.at.join(OsStr::from_bytes(key))
        };
        let settings = self.configuration.conf.amd.settings(at.as_os_str().as_bytes());
        // All locations are looked at, whatever their selectors select on this machine.
        let path = at.as_os_str().as_bytes();
        let around = amd::Around { path, settings: &settings, answers: &amd::Answers::default(), all: true };
        let entry = reader::entry(&found.entry, &found.place, key, &scope, slashify, &around, &mut warnings)?;
        if entry.body == Body::Hidden {
            return Ok(());
        }
        if key == amd::DEFAULTS_KEY && matches!(entry.body, Body::Amd(_)) {
            // What other entries add to it makes it whole.
            self.report.extend(warnings);
            return Ok(());
        }
        let context = plan::Context {
            at: &at,
            direct: wanted.mode == Mode::Direct,
            master: &options,
            global: &self.global,
            append_options: self.configuration.conf.autofs.append_options,
            hosts_map: false,
            bind_links: settings.use_lofs,
            dice: plan::Dice::default(),
            place: &found.place,
        };
        // No name server is asked: whether a host exists is no matter of the files.
        let plan = plan::build(&entry, &context, &|_| Host::Remote, &mut warnings);
        self.report.extend(warnings);
        let restriction = self.configuration.native.security.restriction(found.provider);
        let plan = restriction.impose(plan?).map_err(|forbidden| forbidden.diagnostic(found.provider, &found.place))?;
        let served = if is_wildcard && wanted.mode == Mode::Indirect { &wanted.at } else { &plan.at };
        // A path below the mount point is required by all its keys but the one that leads to that path.
        let above = OptionList::parse(&options.mount_options);
        let is_own = |path: &&PathBuf| {
            let word = [b"requires=", path.as_os_str().as_bytes()].concat();
            !path.starts_with(&wanted.at) || !above.contains(&word)
        };
        let requires: Vec<PathBuf> = plan.requires.iter().filter(is_own).cloned().collect();
        self.requirements.note(served, &requires, &found.place);
        if !matches!(wanted.spec.format, None | Some(Format::Sun)) {
            self.options(&plan.action, &found.place);
            for offset in &plan.offsets {
                self.options(&offset.action, &found.place);
            }
        }
        // What a wildcard names depends on the key.
        if !is_wildcard {
            self.sources(&plan, &found.place);
            self.submounts(&plan, &found.place);
        }
        Ok(())
    }

    /// Warns of misspelt types and options of entries that are not in Sun format.
    fn options(&mut self, action: &Action, place: &Position) {
        match action {
            Action::Mount(mounts) => {
                let first = mounts.first();
                self.report.extend(first.into_iter().flat_map(|m| lint::planned(&m.fstype, &m.options, place)));
            }
            Action::Leads(leads) => {
                for lead in leads {
                    if let Some(External { by: MountedBy::Mounts(mounts), .. }) = &lead.external {
                        let first = mounts.first();
                        self.report.extend(first.into_iter().flat_map(|m| lint::planned(&m.fstype, &m.options, place)));
                    }
                    for way in &lead.ways {
                        self.options(way, place);
                    }
                }
            }
            Action::Nothing | Action::Symlink(_) | Action::Autofs(_) => {}
        }
    }

    /// Warns of directories and files of this machine that are not there.
    fn sources(&mut self, plan: &Plan, place: &Position) {
        let Action::Mount(mounts) = &plan.action else { return };
        let [mount] = mounts.as_slice() else { return };
        if self.is_alone {
            return;
        }
        let source = Path::new(OsStr::from_bytes(&mount.source));
        if mount.fstype == b"bind" && !mount.source.starts_with(b"//") && self.is_missing(source) {
            let message = format!("there is no directory {} on this machine", Escaped::path(source));
            let help = "until it is there, an access fails";
            self.report.push(Diagnostic::warning("plan::no-source", place.clone(), message).help(help));
        }
        if mount.fstype == b"overlay" {
            self.layers(&mount.options, place);
        }
        let has_loop = mount.options.split(|&b| b == b',').any(|option| option == b"loop");
        if has_loop && source.is_absolute() && mount.fstype != b"bind" && self.is_missing(source) {
            let message = format!("there is no file {} on this machine", Escaped::path(source));
            let help = "until it is there, an access fails";
            self.report.push(Diagnostic::warning("plan::no-source", place.clone(), message).help(help));
        }
        let options = mount.options.split(|&b| b == b',');
        let named = options.filter_map(|o| o.strip_prefix(b"credentials=").or_else(|| o.strip_prefix(b"cred=")));
        for file in named.map(|file| Path::new(OsStr::from_bytes(file))).filter(|file| file.is_absolute()) {
            if self.is_missing(file) {
                let message = format!("there is no file {} with a user name and a password", Escaped::path(file));
                let help = "until it is there, an access fails";
                self.report.push(Diagnostic::warning("plan::no-file", place.clone(), message).help(help));
            }
        }
    }

    /// Warns of directories of an overlay that are not there.
    fn layers(&mut self, options: &[u8], place: &Position) {
        for option in options.split(|&b| b == b',') {
            let named = |name: &str| option.strip_prefix(name.as_bytes());
            let Some(value) = named("lowerdir=").or_else(|| named("upperdir=")).or_else(|| named("workdir=")) else {
                continue;
            };
            let directories = value.split(|&b| b == b':').map(|directory| Path::new(OsStr::from_bytes(directory)));
            for directory in directories.filter(|directory| directory.is_absolute()) {
                if self.is_missing(directory) {
                    let message = format!("there is no directory {} on this machine", Escaped::path(directory));
                    let help = "until it is there, an access fails";
                    self.report.push(Diagnostic::warning("plan::no-source", place.clone(), message).help(help));
                }
            }
        }
    }

    /// Returns whether nothing has this path. A path below a mount point of the maps counts as existing, because a look would
    /// mount it.
    fn is_missing(&self, path: &Path) -> bool {
        let is_below = |(point, _): &(Vec<u8>, Position)| path.starts_with(OsStr::from_bytes(point));
        !self.mount_points.iter().any(is_below)
            && path::stat_untriggered(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    }

    fn submounts(&mut self, plan: &Plan, place: &Position) {
        if let Action::Autofs(submount) = &plan.action {
            self.want(Wanted {
                spec: submount.source.clone(),
                mode: Mode::Indirect,
                options: submount.options.clone(),
                at: plan.at.clone(),
                place: place.clone(),
            });
        }
        for offset in &plan.offsets {
            self.submounts(offset, place);
        }
    }
}

/// Examines a map that is read as lines in Sun format. The findings are at the keys of the lines.
fn translated(map: &lint::Map<'_>, lines: toml::Lines) -> Vec<Diagnostic> {
    let map = lint::Map { text: &lines.text, ..*map };
    let own = |d: &Diagnostic| ["options::", "location::", "sun::"].iter().any(|area| d.code.starts_with(area));
    let at = |mut d: Diagnostic| {
        let number = usize::try_from(d.place.line).ok()?.checked_sub(1)?;
        d.place = lines.places.get(number)?.clone();
        (d.excerpt, d.length) = (None, 0);
        Some(d)
    };
    lint::map(&map).into_iter().filter(own).filter_map(at).collect()
}

/// A user for whom the entries are expanded.
fn requester() -> User {
    let known = |text: &str| Some(text.as_bytes().to_vec());
    User { uid: 1000, gid: 1000, name: known("user"), group: known("group"), home: known("/home/user") }
}
