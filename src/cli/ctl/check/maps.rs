//! The maps of a check: every entry is expanded, parsed and planned as for a request of somebody.

use std::collections::{HashSet, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::report::Report;
use super::{lint, permissions};
use crate::map::{
    Format, Macros, MasterOptions, OptionList, Scope, SourceKind, SourceSpec, System, Table, User, expand, sun,
};
use crate::plan::{self, Action, Host, Plan};
use crate::source::configuration::{self, Configuration};
use crate::source::{Answer, Mode, Raw, Source};
use crate::sys::{path, user};
use crate::text::{Diagnostic, Escaped, Position};

/// A map that is to be read.
struct Wanted {
    spec: SourceSpec,
    mode: Mode,
    options: MasterOptions,
    /// The mount point, of an indirect map.
    at: PathBuf,
    /// Who names it.
    place: Position,
}

/// Reads maps, each once, and those that their entries name.
pub(super) struct Maps<'a> {
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
    /// Whether a file is looked at without the master map that names it.
    is_alone: bool,
}

impl<'a> Maps<'a> {
    pub(super) fn new(configuration: &'a Configuration, report: &'a mut Report) -> Self {
        let macros = Macros::predefined(&system());
        Self {
            configuration,
            report,
            macros,
            global: OptionList::default(),
            wanted: VecDeque::new(),
            seen: HashSet::new(),
            examined: HashSet::new(),
            mount_points: Vec::new(),
            is_alone: false,
        }
    }

    /// The maps of a master map.
    pub(super) fn table(&mut self, table: &Table) {
        self.mount_points =
            table.indirect.iter().map(|entry| (entry.mount_point.clone(), entry.place.clone())).collect();
        self.report.extend(lint::nested(&self.mount_points));
        for entry in table.indirect.iter().chain(&table.direct) {
            self.want(Wanted {
                spec: entry.source.clone(),
                mode: if entry.direct { Mode::Direct } else { Mode::Indirect },
                options: entry.options.clone(),
                at: OsStr::from_bytes(&entry.mount_point).into(),
                place: entry.place.clone(),
            });
        }
        self.run();
    }

    /// One file.
    pub(super) fn file(&mut self, file: &Path, mode: Mode) {
        self.is_alone = true;
        let name = file.as_os_str().as_bytes().to_vec();
        self.want(Wanted {
            spec: SourceSpec { kind: Some(SourceKind::File), format: None, name, parts: Vec::new() },
            mode,
            options: MasterOptions::default(),
            at: "/mount/point".into(),
            place: Position::whole(file),
        });
        self.run();
    }

    fn want(&mut self, wanted: Wanted) {
        if self.seen.insert((wanted.spec.clone(), wanted.mode == Mode::Direct)) {
            self.wanted.push_back(wanted);
        }
    }

    fn run(&mut self) {
        while let Some(wanted) = self.wanted.pop_front() {
            let source = Source::from_spec(&wanted.spec, wanted.mode, &self.configuration.names);
            match source.load() {
                Ok(report) => {
                    let files: Vec<_> = report.diagnostics.iter().map(|d| Arc::clone(&d.place.file)).collect();
                    self.report.extend(report.diagnostics);
                    self.entries(&wanted, &source);
                    let named = self.configuration.names.path(&wanted.spec.name);
                    for file in files.iter().chain(std::iter::once(&named)) {
                        self.examine(&wanted, file);
                    }
                }
                Err(error) => {
                    self.report.push(Diagnostic::error("map::unusable", wanted.place.clone(), error.to_string()));
                }
            }
        }
    }

    fn entries(&mut self, wanted: &Wanted, source: &Source) {
        for key in source.keys() {
            self.key(wanted, source, &key);
        }
        if wanted.mode == Mode::Indirect {
            self.key(wanted, source, b"*");
        }
    }

    fn key(&mut self, wanted: &Wanted, source: &Source, key: &[u8]) {
        if let Answer::Found(raw) = source.lookup(key) {
            self.report.count(&raw.place.file);
            self.examine(wanted, &raw.place.file);
            if let Err(error) = self.entry(wanted, key, &raw) {
                self.report.push(*error);
            }
        }
    }

    /// Looks for what works in a map file, but was probably meant in another way.
    fn examine(&mut self, wanted: &Wanted, file: &Arc<Path>) {
        let is_sun = matches!(wanted.spec.format, None | Some(Format::Sun));
        if !is_sun || !self.examined.insert(Arc::clone(file)) || !path::stat(file).is_ok_and(|stat| stat.is_file()) {
            return;
        }
        self.report.extend(permissions::of(file, &wanted.spec));
        let Ok(text) = configuration::read(file) else { return };
        if text.starts_with(b"#!") {
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
        self.report.extend(lint::whole(&text, file));
        self.report.extend(lint::map(&map));
    }

    fn entry(&mut self, wanted: &Wanted, key: &[u8], raw: &Raw) -> Result<(), Box<Diagnostic>> {
        let user = requester();
        let scope = Scope { globals: &self.macros, defines: &wanted.options.defines, user: Some(&user) };
        let slashify = wanted.options.slashify_colons.unwrap_or(true);
        // A wildcard is looked at as for some key.
        let is_wildcard = key == b"*";
        let key = if is_wildcard { b"key" } else { key };
        let expanded = expand(&raw.text, key, &|name| scope.lookup(name), slashify);
        let mut warnings = Vec::new();
        let entry = sun::parse(&expanded, &raw.place, &mut warnings)?;
        if sun::is_hidden(&expanded.text) {
            return Ok(());
        }
        let at = if wanted.mode == Mode::Direct {
            OsStr::from_bytes(key).into()
        } else {
            wanted.at.join(OsStr::from_bytes(key))
        };
        let context = plan::Context {
            at: &at,
            direct: wanted.mode == Mode::Direct,
            master: &wanted.options,
            global: &self.global,
            append_options: self.configuration.conf.autofs.append_options,
            hosts_map: false,
            dice: plan::Dice::default(),
            place: &raw.place,
        };
        // No name server is asked: whether a host exists is no matter of the files.
        let plan = plan::build(&entry, &context, &|_| Host::Remote, &mut warnings);
        self.report.extend(warnings);
        let plan = plan?;
        // What a wildcard names depends on the key.
        if !is_wildcard {
            self.sources(&plan, &raw.place);
            self.submounts(&plan, &raw.place);
        }
        Ok(())
    }

    /// Warns of directories of this machine that are not there. Those below a mount point of the maps are not looked for,
    /// as that would mount them.
    fn sources(&mut self, plan: &Plan, place: &Position) {
        let Action::Mount(mounts) = &plan.action else { return };
        let [mount] = mounts.as_slice() else { return };
        let source = Path::new(OsStr::from_bytes(&mount.source));
        let is_below = |(point, _): &(Vec<u8>, Position)| source.starts_with(OsStr::from_bytes(point));
        if self.is_alone
            || mount.fstype != b"bind"
            || mount.source.starts_with(b"//")
            || self.mount_points.iter().any(is_below)
        {
            return;
        }
        if path::stat(source).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            let message = format!("there is no directory {} on this machine", Escaped::path(source));
            let help = "until it is there, an access fails";
            self.report.push(Diagnostic::warning("plan::no-source", place.clone(), message).help(help));
        }
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

/// A user for whom the entries are expanded.
fn requester() -> User {
    let known = |text: &str| Some(text.as_bytes().to_vec());
    User { uid: 1000, gid: 1000, name: known("user"), group: known("group"), home: known("/home/user") }
}

/// What uname(2) says of this machine.
fn system() -> System {
    let Ok(machine) = user::machine() else { return System::default() };
    System {
        sysname: machine.system.into_vec(),
        nodename: machine.host.into_vec(),
        release: machine.release.into_vec(),
        machine: machine.machine.into_vec(),
        ..System::default()
    }
}
