//! A configured map: a line of the master map, or the map of a submount, while it is served.

use std::cell::{Cell, RefCell};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use log::info;

use crate::engine::Kind;
use crate::exec::RealPaths;
use crate::logging::target;
use crate::map::{MasterOptions, SourceKind, SourceSpec};
use crate::source::{Entries, MapSource, Names};
use crate::text::Escaped;

/// A line of the master map, or the map of a submount.
#[derive(Debug)]
pub(crate) struct ConfiguredMap {
    /// Identifies the map to the engine: [`Wanted::map`](crate::engine::Wanted). A line that a reload finds again keeps its
    /// number.
    pub(crate) number: u32,
    /// The mount point, `/-` for a direct map.
    pub(crate) mount_point: Vec<u8>,
    /// The map as written.
    pub(crate) spec: SourceSpec,
    /// The options, with the defaults of configuration and command line filled in.
    pub(crate) options: MasterOptions,
    /// The map.
    pub(crate) source: Arc<dyn MapSource>,
    /// By what names the map was opened.
    pub(crate) names: Arc<Names>,
    /// Whether the mount points are served: the map was read once, or is of a kind that is not read as a whole. Stays true if
    /// later reads fail.
    pub(crate) usable: Cell<bool>,
    /// Why the map could not be read when it was tried last.
    pub(crate) unread: RefCell<Option<String>>,
    /// Something of the map could not be read, and may be back soon.
    pub(crate) away: Cell<bool>,
    /// The entries that are in force, of a map that [uses](Self::uses_entries) them.
    pub(crate) entries: RefCell<Option<Arc<Entries>>>,
    /// The pipe that the direct mounts of this line share.
    pub(crate) pipe: Cell<Option<u32>>,
    label: Arc<str>,
}

impl ConfiguredMap {
    /// Makes a map for which nothing is mounted yet.
    pub(crate) fn new(
        number: u32,
        mount_point: Vec<u8>,
        spec: SourceSpec,
        options: MasterOptions,
        (source, names): (Arc<dyn MapSource>, Arc<Names>),
    ) -> Self {
        let label = String::from_utf8_lossy(&mount_point).into();
        let (usable, unread, away) = (Cell::new(false), RefCell::default(), Cell::new(false));
        let (entries, pipe) = (RefCell::default(), Cell::new(None));
        Self { number, mount_point, spec, options, source, names, usable, unread, away, entries, pipe, label }
    }

    /// Returns whether the list of entries is needed for mounts or directories. Other maps are asked key by key and keep no
    /// list: if a lookup reads a changed file, its earlier content would stay in memory until the next reload.
    pub(crate) fn uses_entries(&self) -> bool {
        self.direct() || self.browse()
    }

    /// Returns whether other entries were read than those in force.
    pub(crate) fn has_changed(&self) -> bool {
        if !self.uses_entries() {
            return false;
        }
        match (self.source.known_entries(), &*self.entries.borrow()) {
            (Some(new), Some(old)) => !new.is_same(old),
            (None, None) => false,
            _ => true,
        }
    }

    /// Returns the seconds after which an unused mount is unmounted; 0 for never.
    pub(crate) fn timeout(&self) -> u64 {
        self.options.timeout.unwrap_or_default()
    }

    /// Returns the seconds for which a failed key fails at once.
    pub(crate) fn negative_timeout(&self) -> u64 {
        self.options.negative_timeout.unwrap_or_default()
    }

    /// Returns whether keys are shown as directories before they are mounted.
    pub(crate) fn browse(&self) -> bool {
        self.options.browse.unwrap_or_default()
    }

    /// Returns whether it is a direct map.
    pub(crate) fn direct(&self) -> bool {
        self.mount_point == b"/-"
    }

    /// Returns whether it serves the same mount points from the map of the same name.
    pub(crate) fn serves_the_same(&self, other: &Self, real: &RealPaths) -> bool {
        let place = |map: &Self| real.translate(Path::new(OsStr::from_bytes(&map.mount_point)));
        place(self) == place(other) && self.mount_source() == other.mount_source()
    }

    /// Returns the target of log records: the mount point, or the path of a direct mount.
    pub(crate) fn label(&self, path: &Path) -> Arc<str> {
        if self.direct() { path.to_string_lossy().into() } else { Arc::clone(&self.label) }
    }

    /// Logs that an autofs mount of this map is there.
    pub(crate) fn announce(&self, path: &Path, kind: Kind, timeout: u64) {
        let kind = match kind {
            Kind::Indirect => "indirect",
            Kind::Direct => "direct",
            Kind::Offset => "offset",
        };
        let shown = Escaped::path(path);
        if timeout == 0 {
            info!(target: &target(path), "mounted {kind} on {shown} with timeouts disabled");
        } else {
            let frequency = timeout.div_ceil(4);
            info!(target: &target(path), "mounted {kind} on {shown} with timeout {timeout}, freq {frequency} seconds");
        }
        if self.browse() && kind == "indirect" {
            info!(target: &target(path), "ghosting enabled");
        }
    }

    /// Returns the source that the mount table shows: the map's name, as automount has it.
    pub(crate) fn mount_source(&self) -> Vec<u8> {
        match self.spec.kind {
            Some(SourceKind::Hosts) => b"-hosts".to_vec(),
            _ => self.spec.name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Environment, Mode, Notices, Pass, Programs, Readers, open};

    #[tokio::test]
    async fn only_direct_and_browsed_maps_keep_their_entries() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("map");
        std::fs::write(&path, "/k x:/y\nk x:/y\n").unwrap();
        let names: Arc<Names> = Arc::default();
        let notices = Arc::new(Notices::keep());
        let (readers, programs) = (Readers::new(1), Programs::of_tests());
        let environment = Arc::new(Environment {
            names: Arc::clone(&names),
            readers,
            programs,
            notices,
            lookups: Arc::default(),
            servers: Arc::new(crate::source::Servers::with_hosts(1)),
        });
        let name = path.as_os_str().as_bytes().to_vec();
        let spec = SourceSpec { kind: Some(SourceKind::File), name, ..SourceSpec::default() };
        for (mount_point, browse, keeps) in [("/a", false, false), ("/a", true, true), ("/-", false, true)] {
            let mode = if mount_point == "/-" { Mode::Direct } else { Mode::Indirect };
            let source = open(&spec, mode, &environment);
            let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
            source.entries(&Pass::new(deadline)).await.unwrap();
            let options = MasterOptions { browse: Some(browse), ..MasterOptions::default() };
            let point = mount_point.as_bytes().to_vec();
            let map = ConfiguredMap::new(1, point, spec.clone(), options, (source, Arc::clone(&names)));
            assert_eq!((map.uses_entries(), map.has_changed()), (keeps, keeps), "{mount_point} {browse}");
        }
    }
}
