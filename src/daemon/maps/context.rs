//! What a request is served with besides its map: the configuration as it stands, the lanes, the tools.

use std::os::unix::ffi::OsStringExt as _;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Settings;
use crate::exec::lanes::Lanes;
use crate::map::{Macros, OptionList, System};
use crate::options::Options;
use crate::source::configuration::Configuration;
use crate::sys::user;

/// All of it. A reload makes a new one; requests under way keep theirs.
#[derive(Debug)]
pub(crate) struct Context {
    /// autofs.conf.
    pub(crate) settings: Settings,
    /// Predefined variables and those of `-D` on the command line.
    pub(crate) macros: Macros,
    /// `-O` of the command line.
    pub(crate) global_options: OptionList,
    /// How long one question to the maps, the user database or the name servers may take.
    pub(crate) lookup_deadline: Duration,
    /// Where blocking work is done.
    pub(crate) lanes: Arc<Lanes>,
}

impl Context {
    /// The context that a configuration makes; the lanes of the one before go on.
    pub(crate) fn new(configuration: &Configuration, options: &Options, lanes: &Arc<Lanes>) -> Self {
        let settings = configuration.conf.autofs.clone();
        let mut macros = Macros::predefined(&system());
        for (name, value) in &options.defines {
            macros.define(name, value);
        }
        Self {
            macros,
            global_options: OptionList::parse(options.global_options.as_deref().unwrap_or_default()),
            lookup_deadline: bounded(configuration.native.deadlines.lookup),
            lanes: Arc::clone(lanes),
            settings,
        }
    }
}

/// A duration that can be added to any moment.
fn bounded(duration: Duration) -> Duration {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    duration.min(YEAR)
}

/// What uname(2) says, and the domain that the host's name ends in.
fn system() -> System {
    let Ok(machine) = user::machine() else { return System::default() };
    let nodename = machine.host.into_vec();
    let domain =
        nodename.iter().position(|&b| b == b'.').and_then(|dot| nodename.get(dot + 1..)).unwrap_or_default().to_vec();
    System {
        sysname: machine.system.into_vec(),
        nodename,
        release: machine.release.into_vec(),
        version: machine.version.into_vec(),
        machine: machine.machine.into_vec(),
        domain,
    }
}
