//! The state in force: the configuration, the lines of the master map, their maps.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use crate::control::{Blocked, Bytes, Death, LogLevelSet};
use crate::daemon::jobs::question::{Line, Question};
use crate::daemon::maps::InForce;
use crate::daemon::maps::context::Context;
use crate::daemon::mounts::AutofsMount;
use crate::engine::{Key, Kind, Requester};
use crate::exec::RealPaths;
use crate::exec::lanes::Lanes;
use crate::logging::Logger;
use crate::options::Options;
use crate::source::Sources;
use crate::source::configuration::Configuration;
use crate::text::Diagnostic;

/// The configuration, the lines of the master map and their maps that are in force.
#[derive(Debug)]
pub(crate) struct State {
    /// The maps.
    pub(crate) maps: InForce,
    /// The mount points that are configured by way of symbolic links.
    pub(crate) real: Arc<RealPaths>,
    pub(crate) options: Options,
    pub(crate) configuration: Configuration,
    /// Mistakes that the last reading of the configuration has found.
    pub(crate) rejected: Vec<Diagnostic>,
    pub(crate) context: Rc<Context>,
    /// When the daemon was started, in seconds since 1970.
    pub(crate) since: u64,
    /// How many workers have died.
    pub(crate) deaths: u32,
    /// The last of these deaths.
    pub(crate) last_death: Option<Death>,
    /// The paths that are blocked.
    pub(crate) blocks: BTreeMap<Bytes, Blocked>,
    /// The log levels that were set at run time.
    pub(crate) levels: BTreeMap<Bytes, LogLevelSet>,
    pub(crate) logger: &'static Logger,
}

impl State {
    /// Returns what is in force before a master map was read.
    pub(crate) fn new(
        configuration: Configuration,
        options: Options,
        logger: &'static Logger,
        lanes: &Arc<Lanes>,
        sources: &Rc<Sources>,
    ) -> Self {
        let context = Rc::new(Context::new(&configuration, &options, lanes, sources));
        Self {
            maps: InForce::default(),
            real: Arc::default(),
            context,
            options,
            configuration,
            rejected: Vec::new(),
            since: 0,
            deaths: 0,
            last_death: None,
            blocks: BTreeMap::new(),
            levels: BTreeMap::new(),
            logger,
        }
    }

    /// Applies a configuration. Returns whether anything has changed.
    pub(crate) fn configure(&mut self, configuration: Configuration) -> bool {
        if configuration == self.configuration {
            return false;
        }
        self.context = Rc::new(Context::new(&configuration, &self.options, &self.context.lanes, &self.context.sources));
        self.logger.set_global(self.options.verbosity.max(configuration.conf.autofs.logging));
        self.configuration = configuration;
        true
    }

    /// Returns the pipes that the direct mounts of the master map's lines share.
    pub(crate) fn shared_pipes(&self) -> Vec<u32> {
        self.maps.served().filter_map(|map| map.pipe.get()).collect()
    }

    /// Returns what is to be asked for a lookup.
    pub(crate) fn question(&self, mount: &AutofsMount, key: Key, who: Requester) -> Question {
        let (at, kind) = (mount.entry(&key), mount.kind);
        let below = if kind == Kind::Direct { self.below(&at, who) } else { Vec::new() };
        let (map, context) = (Rc::clone(&mount.map), Rc::clone(&self.context));
        let written = if kind == Kind::Direct { self.real.written(&at) } else { None };
        Question { map, context, at, written, kind, key, who, below, line: Line::default() }
    }

    /// The questions for the direct keys that stand below another one.
    fn below(&self, at: &Path, who: Requester) -> Vec<Question> {
        let question = |(at, map): &(Arc<Path>, u32)| {
            let (map, context) = (Rc::clone(self.maps.by_number.get(map)?), Rc::clone(&self.context));
            let (at, below) = (at.to_path_buf(), self.below(at, who));
            let (written, kind, key) = (self.real.written(&at), Kind::Direct, Key::default());
            Some(Question { map, context, at, written, kind, key, who, below, line: Line::default() })
        };
        self.maps.direct.nested.get(at).map(|nested| nested.iter().filter_map(question).collect()).unwrap_or_default()
    }
}
