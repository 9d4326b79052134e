//! Opening the map that a line names: the only place that knows all kinds of sources.

use std::sync::Arc;
use std::time::Duration;

use super::file::Trail;
use super::multi::Part;
use super::service::DirectoryService;
use super::{
    AmdMap, Bounded, Bounds, BuiltInMap, Chain, Counted, DirectoryMap, Environment, FileMap, MapSource, Mode, Multi,
    Origin, ProgramMap, ServiceMap, Unsupported, Untyped,
};
use crate::config::nsswitch::Service;
use crate::map::{Format, SourceKind, SourceSpec};

/// Opens the map that `spec` names, with its bounds. Nothing is read yet.
pub fn open(spec: &SourceSpec, mode: Mode, environment: &Arc<Environment>) -> Arc<dyn MapSource> {
    open_below(spec, mode, b"", environment)
}

/// Opens the map that `spec` names for a submount. In am-utils format, its keys begin with `prefix` in the map.
pub fn open_below(spec: &SourceSpec, mode: Mode, prefix: &[u8], environment: &Arc<Environment>) -> Arc<dyn MapSource> {
    Opener { mode, prefix, trail: &Trail::from([]), environment }.spec(spec)
}

/// Opens a map that the files of `trail` include.
pub(super) fn open_included(
    spec: &SourceSpec,
    mode: Mode,
    trail: &Trail,
    environment: &Arc<Environment>,
) -> Arc<dyn MapSource> {
    Opener { mode, prefix: b"", trail, environment }.spec(spec)
}

#[derive(Clone, Copy)]
struct Opener<'a> {
    mode: Mode,
    /// Prefix of the keys, in am-utils format.
    prefix: &'a [u8],
    trail: &'a Trail,
    environment: &'a Arc<Environment>,
}

impl Opener<'_> {
    fn spec(self, spec: &SourceSpec) -> Arc<dyn MapSource> {
        let unsupported = |what| -> Arc<dyn MapSource> {
            Arc::new(Unsupported::new(spec.kind.map_or("file", SourceKind::name), &spec.name, what))
        };
        match (spec.format, spec.kind) {
            (_, Some(SourceKind::Null)) => Arc::new(BuiltInMap::null()),
            (Some(Format::Toml | Format::Fstab), Some(kind))
                if !matches!(kind, SourceKind::File | SourceKind::Multi) =>
            {
                unsupported("maps in TOML or of fstab that are no files")
            }
            (_, Some(SourceKind::Program)) => self.in_format(spec, |opener| Arc::new(opener.program(spec, true))),
            (Some(Format::Hesiod), Some(SourceKind::Hesiod)) | (None, Some(SourceKind::Hesiod)) => {
                self.service(spec, SourceKind::Hesiod, DirectoryService::Hesiod)
            }
            (Some(Format::Hesiod), None | Some(SourceKind::File | SourceKind::Dir | SourceKind::Hosts)) => {
                unsupported("Hesiod records in files")
            }
            (_, Some(SourceKind::Hesiod)) => unsupported("Hesiod maps in other formats"),
            (_, Some(SourceKind::File)) => self.file(spec, Origin::Typed),
            (_, None) if spec.name.starts_with(b"//") => self.service(spec, SourceKind::Ldap, DirectoryService::Ldap),
            (_, None) if spec.name.starts_with(b"/") => self.file(spec, Origin::Path),
            (_, None) => self.chain(spec),
            (_, Some(SourceKind::Dir)) => {
                let path = self.environment.names.path(&spec.name);
                self.in_format(spec, |opener| {
                    let trail = Arc::clone(opener.trail);
                    opener.bounded(DirectoryMap::new(path, opener.mode, trail, opener.environment))
                })
            }
            (_, Some(SourceKind::Multi)) => self.multi(spec),
            (_, Some(kind @ SourceKind::Sss)) => self.service(spec, kind, DirectoryService::Sss),
            (_, Some(kind @ (SourceKind::Yp | SourceKind::Nis))) => self.service(spec, kind, DirectoryService::Nis),
            (_, Some(SourceKind::NisPlus)) => Arc::new(Unsupported::nis_plus(&spec.name)),
            (_, Some(kind @ (SourceKind::Ldap | SourceKind::Ldaps))) => {
                self.service(spec, kind, DirectoryService::Ldap)
            }
            (_, Some(SourceKind::Userdir)) => unsupported("userdir maps"),
            (_, Some(SourceKind::Hosts)) => {
                // Servers have deadlines of their own, and none of them is late for the others.
                let bounds = Bounds { width: 1024, late_max: usize::MAX, ..Bounds::default() };
                let map = Arc::new(BuiltInMap::hosts(self.environment));
                self.counted(Arc::new(Bounded::new(map, bounds, &self.environment.notices)))
            }
        }
    }

    fn bounded(self, source: impl MapSource + 'static) -> Arc<dyn MapSource> {
        Arc::new(Bounded::new(Arc::new(source), Bounds::default(), &self.environment.notices))
    }

    fn counted(self, source: Arc<dyn MapSource>) -> Arc<dyn MapSource> {
        Arc::new(Counted::new(source, &self.environment.notices))
    }

    /// A map of a directory service. Its lookup process answers in time by itself, and many keys are asked for at a time.
    fn service(self, spec: &SourceSpec, kind: SourceKind, service: DirectoryService) -> Arc<dyn MapSource> {
        let bounds = Bounds { width: 256, late_max: 64, retry_after: Duration::from_secs(2) };
        self.in_format(spec, |opener| {
            let map = ServiceMap::new(service, kind, spec, opener.mode, opener.environment);
            Arc::new(Bounded::new(Arc::new(map), bounds, &opener.environment.notices))
        })
    }

    fn file(self, spec: &SourceSpec, origin: Origin) -> Arc<dyn MapSource> {
        let path = self.environment.names.path(&spec.name);
        let format = spec.format.unwrap_or_default();
        self.in_format(spec, |opener| {
            let trail = Arc::clone(opener.trail);
            let map = FileMap::with_format(path, opener.mode, origin, format, trail, opener.environment);
            match origin {
                Origin::Typed => opener.bounded(map),
                Origin::Path | Origin::Name => {
                    Arc::new(Untyped::new(map, opener.program(spec, false), &opener.environment.notices))
                }
            }
        })
    }

    /// The map that a program has. `typed` says whether the master map calls it a program.
    fn program(self, spec: &SourceSpec, typed: bool) -> ProgramMap {
        let path = self.environment.names.path(&spec.name);
        ProgramMap::new(path, self.mode, spec.format.unwrap_or_default(), typed, spec.lists, self.environment)
    }

    /// Opens a map of one service. In am-utils format, its keys are searched as am-utils does; what it includes is part of
    /// it.
    fn in_format(self, spec: &SourceSpec, open: impl FnOnce(Self) -> Arc<dyn MapSource>) -> Arc<dyn MapSource> {
        match (spec.format, self.mode) {
            (Some(Format::Amd), Mode::Indirect) => {
                let source = self.counted(open(Self { mode: Mode::Amd, ..self }));
                Arc::new(AmdMap::new(source, spec.kind, &spec.name, self.prefix))
            }
            (Some(Format::Amd), Mode::Direct) => {
                let kind = spec.kind.map_or("file", SourceKind::name);
                Arc::new(Unsupported::new(kind, &spec.name, "am-utils maps for direct mounts"))
            }
            _ => self.counted(open(self)),
        }
    }

    /// The maps of one name that the services of nsswitch.conf have.
    fn chain(self, spec: &SourceSpec) -> Arc<dyn MapSource> {
        let source = |service: &Service| match service.kind {
            // A directory of maps has no paths.
            SourceKind::File if spec.name.contains(&b'/') => None,
            SourceKind::File => Some(self.file(spec, Origin::Name)),
            kind => Some(self.spec(&SourceSpec { kind: Some(kind), ..spec.clone() })),
        };
        let link = |service: &Service| Some((service.clone(), source(service)?));
        let services = &self.environment.names.nsswitch.services;
        Arc::new(Chain::new(&spec.name, services.iter().filter_map(link).collect()))
    }

    fn multi(self, spec: &SourceSpec) -> Arc<dyn MapSource> {
        let part = |(map, options): &(SourceSpec, _)| {
            let mut map = map.clone();
            map.format = map.format.or(spec.format);
            // A path is a file here, also when it may be executed.
            if map.kind.is_none() && map.name.starts_with(b"/") {
                map.kind = Some(SourceKind::File);
            }
            Part { source: self.spec(&map), options: Arc::new(Clone::clone(options)) }
        };
        Arc::new(Multi::new(spec.parts.iter().map(part).collect()))
    }
}
