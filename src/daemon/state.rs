//! What is in force: the configuration, the lines of the master map, their maps.

use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use crate::config::Settings;
use crate::daemon::jobs::resolve;
use crate::daemon::maps::context::Context;
use crate::daemon::maps::line::Line;
use crate::daemon::mounts::AutofsMount;
use crate::engine::{Key, Kind, Requester};
use crate::exec::lanes::Lanes;
use crate::logging::Logger;
use crate::map::{MasterEntry, MasterOptions};
use crate::options::Options;
use crate::source::configuration::Configuration;
use crate::source::master::Master;
use crate::source::{Mode, Source};

/// What is in force.
#[derive(Debug)]
pub(crate) struct State {
    /// The lines in force, submounts' included.
    pub(crate) lines: HashMap<u32, Rc<Line>>,
    /// Those of the master map, in its order.
    pub(crate) order: Vec<u32>,
    pub(crate) master: Option<Arc<Master>>,
    /// Direct keys below a direct key, and their lines, by the path of the one above.
    pub(crate) nested: HashMap<Arc<Path>, Vec<(Arc<Path>, u32)>>,
    /// All maps that it names could be read.
    pub(crate) whole: bool,
    pub(crate) options: Options,
    pub(crate) configuration: Configuration,
    pub(crate) context: Rc<Context>,
    pub(crate) logger: &'static Logger,
    next_line: u32,
}

impl State {
    /// Returns what is in force before a master map was read.
    pub(crate) fn new(
        configuration: Configuration,
        options: Options,
        logger: &'static Logger,
        lanes: &Arc<Lanes>,
    ) -> Self {
        Self {
            lines: HashMap::new(),
            order: Vec::new(),
            master: None,
            nested: HashMap::new(),
            whole: false,
            context: Rc::new(Context::new(&configuration, &options, lanes)),
            options,
            configuration,
            logger,
            next_line: 1,
        }
    }

    /// Puts a configuration in force. False: nothing is other than before.
    pub(crate) fn configure(&mut self, configuration: Configuration) -> bool {
        if configuration == self.configuration {
            return false;
        }
        self.context = Rc::new(Context::new(&configuration, &self.options, &self.context.lanes));
        self.logger.set_global(self.options.verbosity.max(configuration.conf.autofs.logging));
        self.configuration = configuration;
        true
    }

    /// The number of a line.
    pub(crate) fn line_number(&mut self) -> u32 {
        let number = self.next_line;
        self.next_line += 1;
        number
    }

    /// The line of an entry of the master map: the one that is in force, if it says the same, else a new one. Says
    /// which.
    pub(crate) fn line(&mut self, entry: &MasterEntry) -> (Rc<Line>, bool) {
        let options = effective(&entry.options, &self.configuration.conf.autofs, &self.options);
        let same_map = |line: &&Rc<Line>| line.mount_point == entry.mount_point && line.spec == entry.source;
        let known = self.order.iter().filter_map(|number| self.lines.get(number)).find(same_map).map(Rc::clone);
        if let Some(line) = known.as_ref().filter(|line| line.options == options) {
            return (Rc::clone(line), true);
        }
        let number = self.line_number();
        let (mount_point, spec) = (entry.mount_point.clone(), entry.source.clone());
        // The same map with other options: what is known of it, and the pipe of its mounts, stay.
        let (source, pipe, known) = match known {
            Some(line) => (Arc::clone(&line.source), line.pipe.get(), true),
            None => {
                let mode = if entry.direct { Mode::Direct } else { Mode::Indirect };
                (Arc::new(Source::from_spec(&spec, mode, &self.configuration.names)), None, false)
            }
        };
        let line = Line::new(number, mount_point, spec, options, source);
        line.pipe.set(pipe);
        (Rc::new(line), known)
    }

    /// Returns the pipes that the direct mounts of the master map's lines share.
    pub(crate) fn shared_pipes(&self) -> Vec<u32> {
        self.order.iter().filter_map(|number| self.lines.get(number)?.pipe.get()).collect()
    }

    /// The lines of submounts.
    pub(crate) fn submount_lines(&self) -> Vec<Rc<Line>> {
        self.lines.values().filter(|line| !self.order.contains(&line.number)).map(Rc::clone).collect()
    }

    /// Forgets the lines of submounts that are gone.
    pub(crate) fn forget_unused_lines(&mut self) {
        let order = &self.order;
        self.lines.retain(|number, line| order.contains(number) || Rc::strong_count(line) > 1);
    }

    /// Returns what is to be asked for a lookup.
    pub(crate) fn question(&self, mount: &AutofsMount, key: Key, who: Requester) -> resolve::Question {
        let (at, kind) = (mount.entry(&key), mount.kind);
        let below = if kind == Kind::Direct { self.below(&at, who) } else { Vec::new() };
        let (line, context) = (Rc::clone(&mount.line), Rc::clone(&self.context));
        resolve::Question { line, context, at, kind, key, who, below }
    }

    /// The questions for the direct keys that stand below another one.
    fn below(&self, at: &Path, who: Requester) -> Vec<resolve::Question> {
        let question = |(at, line): &(Arc<Path>, u32)| {
            let (line, context) = (Rc::clone(self.lines.get(line)?), Rc::clone(&self.context));
            let (at, below) = (at.to_path_buf(), self.below(at, who));
            Some(resolve::Question { line, context, at, kind: Kind::Direct, key: Key::default(), who, below })
        };
        self.nested.get(at).map(|nested| nested.iter().filter_map(question).collect()).unwrap_or_default()
    }
}

/// Returns the options of a line with the defaults of configuration and command line filled in.
fn effective(options: &MasterOptions, settings: &Settings, command_line: &Options) -> MasterOptions {
    let mut effective = options.clone();
    effective.timeout = options.timeout.or(command_line.timeout).or(Some(settings.timeout));
    effective.negative_timeout =
        options.negative_timeout.or(command_line.negative_timeout).or(Some(settings.negative_timeout));
    effective.browse = options.browse.or(Some(settings.browse_mode));
    effective.random |= command_line.random;
    effective
}
