//! A line of the master map while it is served: its maps and options.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use log::info;

use crate::engine::Kind;
use crate::logging::target;
use crate::map::{MasterOptions, SourceKind, SourceSpec};
use crate::source::Source;
use crate::text::Escaped;

/// A line of the master map, or the map of a submount.
#[derive(Debug)]
pub(crate) struct Line {
    /// Its number: [`Wanted::map`](crate::engine::Wanted). A line that a reload finds again keeps it.
    pub(crate) number: u32,
    /// The mount point, `/-` for a direct map.
    pub(crate) mount_point: Vec<u8>,
    /// The map as written.
    pub(crate) spec: SourceSpec,
    /// The options, with the defaults of configuration and command line filled in.
    pub(crate) options: MasterOptions,
    /// The map.
    pub(crate) source: Arc<Source>,
    /// The pipe that the direct mounts of this line share.
    pub(crate) pipe: Cell<Option<u32>>,
    label: Arc<str>,
}

impl Line {
    /// One that nothing is mounted for yet.
    pub(crate) fn new(
        number: u32,
        mount_point: Vec<u8>,
        spec: SourceSpec,
        options: MasterOptions,
        source: Arc<Source>,
    ) -> Self {
        let label = String::from_utf8_lossy(&mount_point).into();
        Self { number, mount_point, spec, options, source, pipe: Cell::new(None), label }
    }

    /// Seconds until an unused mount goes; 0: never.
    pub(crate) fn timeout(&self) -> u64 {
        self.options.timeout.unwrap_or_default()
    }

    /// Seconds for which a failed key fails at once.
    pub(crate) fn negative_timeout(&self) -> u64 {
        self.options.negative_timeout.unwrap_or_default()
    }

    /// Whether keys are shown as directories before they are mounted.
    pub(crate) fn browse(&self) -> bool {
        self.options.browse.unwrap_or_default()
    }

    /// Whether it is a direct map.
    pub(crate) fn direct(&self) -> bool {
        self.mount_point == b"/-"
    }

    /// Whether it serves the same mount points from the map of the same name.
    pub(crate) fn serves_the_same(&self, other: &Self) -> bool {
        self.mount_point == other.mount_point && self.mount_source() == other.mount_source()
    }

    /// The target of log records: the mount point, or the path of a direct mount.
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

    /// The source that the mount table shows: the map's name, as automount has it.
    pub(crate) fn mount_source(&self) -> Vec<u8> {
        match self.spec.kind {
            Some(SourceKind::Hosts) => b"-hosts".to_vec(),
            _ => self.spec.name.clone(),
        }
    }
}
