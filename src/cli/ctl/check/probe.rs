//! `autofsctl check --probe`: asks each source of the master map for what it has, as the daemon would.

use std::collections::HashSet;
use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use crate::cli::ctl::table::{Align, Table};
use crate::cli::reading::Reader;
use crate::control::Bytes;
use crate::directory::Scope;
use crate::directory::protocol::Trouble;
use crate::map::{self, SourceKind, SourceSpec};
use crate::source::service::{DirectoryService, Probed};
use crate::sys::path;
use crate::text::Escaped;

/// Answer of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// It answers, and has the map.
    Ok,
    /// One of several services that may have the map does not have it.
    Absent,
    /// The map cannot be read from it.
    Failed,
}

/// A source that was asked.
#[derive(Debug, Serialize)]
pub(super) struct Probe {
    /// The map, as `type:name`.
    source: Bytes,
    /// `master`, `indirect` or `direct`.
    #[serde(rename = "use")]
    purpose: &'static str,
    verdict: Verdict,
    /// The number of its keys, if they can be counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<usize>,
    milliseconds: u64,
    /// Place at which the map was found, or the reason why it was not.
    detail: String,
}

/// Returns whether a source has failed.
pub(super) fn any_failed(probes: &[Probe]) -> bool {
    probes.iter().any(|probe| probe.verdict == Verdict::Failed)
}

/// Shows the sources as a table.
pub(super) fn table(probes: &[Probe], bold: bool) -> String {
    let mut table = Table::new([
        ("SOURCE", Align::Left),
        ("USE", Align::Left),
        ("RESULT", Align::Left),
        ("KEYS", Align::Right),
        ("MS", Align::Right),
        ("DETAIL", Align::Left),
    ]);
    for probe in probes {
        let verdict = match probe.verdict {
            Verdict::Ok => "ok",
            Verdict::Absent => "absent",
            Verdict::Failed => "failed",
        };
        table.push([
            probe.source.to_string(),
            probe.purpose.to_owned(),
            verdict.to_owned(),
            probe.keys.map(|keys| keys.to_string()).unwrap_or_default(),
            probe.milliseconds.to_string(),
            Escaped(probe.detail.as_bytes()).to_string(),
        ]);
    }
    table.render(bold) + "\n"
}

/// Asks the services that the master map was read from or looked for in, and the sources of all maps that it names, each once.
pub(super) fn probe(reader: &Reader, inputs: &[&[u8]], table: &map::Table) -> Vec<Probe> {
    let mut prober = Prober { reader, probes: Vec::new(), seen: HashSet::new() };
    let masters: Vec<SourceSpec> =
        inputs.iter().filter(|name| !name.starts_with(b"/")).filter_map(|name| SourceSpec::parse(name).ok()).collect();
    for spec in &masters {
        prober.source(spec, Scope::Master, masters.len() > 1);
    }
    for (entries, scope) in [(&table.indirect, Scope::Indirect), (&table.direct, Scope::Direct)] {
        for entry in entries {
            prober.source(&entry.source, scope, false);
        }
    }
    prober.probes
}

struct Prober<'a> {
    reader: &'a Reader,
    probes: Vec<Probe>,
    seen: HashSet<(SourceKind, Vec<u8>, Scope)>,
}

impl Prober<'_> {
    /// Asks a source. With `others`, another one may have the map in its place.
    fn source(&mut self, spec: &SourceSpec, scope: Scope, others: bool) {
        match spec.kind {
            Some(SourceKind::Multi) => spec.parts.iter().for_each(|(part, _)| self.source(part, scope, others)),
            Some(kind) => self.kind(kind, &spec.name, scope, others),
            None if spec.name.starts_with(b"//") => self.kind(SourceKind::Ldap, &spec.name, scope, others),
            None if spec.name.starts_with(b"/") => {
                let is_program = path::stat(Path::new(&*self.path(&spec.name))).is_ok_and(|stat| stat.is_executable());
                let kind = if is_program { SourceKind::Program } else { SourceKind::File };
                self.kind(kind, &spec.name, scope, others);
            }
            None => {
                let before = self.probes.len();
                let services: Vec<SourceKind> =
                    self.reader.names().nsswitch.services.iter().map(|service| service.kind).collect();
                for kind in services {
                    self.kind(kind, &spec.name, scope, true);
                }
                // One of them must have it.
                let own = self.probes.get_mut(before..).unwrap_or_default();
                if !own.iter().any(|probe| probe.verdict == Verdict::Ok) {
                    own.iter_mut().for_each(|probe| probe.verdict = Verdict::Failed);
                }
            }
        }
    }

    fn path(&self, name: &[u8]) -> std::sync::Arc<Path> {
        self.reader.names().path(name)
    }

    fn kind(&mut self, kind: SourceKind, name: &[u8], scope: Scope, others: bool) {
        if !self.seen.insert((kind, name.to_vec(), scope)) {
            return;
        }
        let begun = Instant::now();
        let result = match kind {
            SourceKind::File => self.file(name),
            SourceKind::Program => self.program(name),
            kind if DirectoryService::of(kind).is_some() => self.reader.probe(kind, name, scope),
            // They ask nothing before a key is accessed, or nothing at all.
            _ => return,
        };
        let (verdict, keys, detail) = match result {
            Ok(probed) => (Verdict::Ok, probed.keys, probed.detail),
            Err((Trouble::NoMap | Trouble::NotRunning | Trouble::Unusable, why)) if others => {
                (Verdict::Absent, None, why)
            }
            Err((_, why)) => (Verdict::Failed, None, why),
        };
        self.probes.push(Probe {
            source: Bytes([kind.name().as_bytes(), b":", name].concat()),
            purpose: match scope {
                Scope::Master => "master",
                Scope::Indirect => "indirect",
                Scope::Direct => "direct",
            },
            verdict,
            keys,
            milliseconds: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            detail,
        });
    }

    fn file(&self, name: &[u8]) -> Result<Probed, (Trouble, String)> {
        let file = self.path(name);
        match path::open_to_read(&file) {
            Ok(_) => Ok(Probed { detail: "it can be read".to_owned(), keys: None }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err((Trouble::NoMap, error.to_string())),
            Err(error) => Err((Trouble::Unavailable, error.to_string())),
        }
    }

    fn program(&self, name: &[u8]) -> Result<Probed, (Trouble, String)> {
        match path::stat(&self.path(name)) {
            Ok(stat) if stat.is_file() && stat.is_executable() => {
                Ok(Probed { detail: "it can be executed".to_owned(), keys: None })
            }
            Ok(_) => Err((Trouble::Unavailable, "it cannot be executed: set the execute bit of its owner".to_owned())),
            Err(error) => Err((Trouble::NoMap, error.to_string())),
        }
    }
}
