//! The maps of a check: every entry is expanded, parsed and planned as for a request of somebody.

use std::collections::{HashSet, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use super::report::Report;
use crate::map::{
    Macros, MasterOptions, OptionList, Scope, SourceKind, SourceSpec, System, Table, User, expand, sun, variables,
};
use crate::plan::{self, Action, Host, Plan};
use crate::source::configuration::Configuration;
use crate::source::{Answer, Mode, Raw, Source};
use crate::sys::user;
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
        }
    }

    /// The maps of a master map.
    pub(super) fn table(&mut self, table: &Table) {
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
                    self.report.extend(report.diagnostics);
                    self.entries(&wanted, &source);
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
            if let Err(error) = self.entry(wanted, key, &raw) {
                self.report.push(*error);
            }
        }
    }

    fn entry(&mut self, wanted: &Wanted, key: &[u8], raw: &Raw) -> Result<(), Box<Diagnostic>> {
        let somebody =
            User { uid: 1000, gid: 1000, name: known("user"), group: known("group"), home: known("/home/user") };
        let scope = Scope { globals: &self.macros, defines: &wanted.options.defines, user: Some(&somebody) };
        for name in variables(&raw.text).filter(|name| scope.lookup(name).is_none()) {
            let message = format!("unknown variable ${} stands for nothing", Escaped(name));
            let help = "define it with -DNAME=VALUE in the master map, or with --define for automount";
            self.report.push(Diagnostic::warning("sun::unknown-variable", raw.place.clone(), message).help(help));
        }
        let slashify = wanted.options.slashify_colons.unwrap_or(true);
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
        if key != b"*" {
            self.submounts(&plan, &raw.place);
        }
        Ok(())
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

fn known(text: &str) -> Option<Vec<u8>> {
    Some(text.as_bytes().to_vec())
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
