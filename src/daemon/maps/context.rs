//! Everything a lookup needs besides its map: settings, variables, sources.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{AmdConf, Settings, native};
use crate::exec::lanes::Lanes;
use crate::map::{Macros, OptionList, amd};
use crate::options::Options;
use crate::source::configuration::Configuration;
use crate::source::{self, Environment, Keep, Rules, Sources};
use crate::sys::clock::bounded;

/// Settings, variables and sources of lookups. A reload makes a new one; lookups under way keep theirs.
#[derive(Debug)]
pub(crate) struct Context {
    /// autofs.conf.
    pub(crate) settings: Settings,
    /// Keys that wildcards do not serve.
    pub(crate) wildcards: native::Wildcards,
    /// Restrictions of entries.
    pub(crate) security: native::Security,
    /// The sections of autofs.conf for maps in am-utils format.
    pub(crate) amd: AmdConf,
    /// Default am-utils settings, used for entries in other formats.
    pub(crate) no_amd: amd::Settings,
    /// Predefined variables and those of `-D` on the command line.
    pub(crate) macros: Arc<Macros>,
    /// `-O` of the command line.
    pub(crate) global_options: OptionList,
    /// How long one question to the maps, the user database or the name servers may take.
    pub(crate) lookup_deadline: Duration,
    /// The master map, users and hosts.
    pub(crate) sources: Rc<Sources>,
    /// Settings for the choice among servers.
    pub(crate) choosing: source::Choosing,
    /// Everything that is needed to open maps.
    pub(crate) environment: Arc<Environment>,
    /// Threads for other blocking work.
    pub(crate) lanes: Arc<Lanes>,
}

impl Context {
    /// Makes the context of a configuration. Lanes and sources are those of the one before.
    pub(crate) fn new(
        configuration: &Configuration,
        options: &Options,
        lanes: &Arc<Lanes>,
        sources: &Rc<Sources>,
    ) -> Self {
        let settings = configuration.conf.autofs.clone();
        sources.programs.set_rules(rules(configuration));
        let machine = source::machine();
        let mut macros = Macros::predefined(&machine);
        configuration.conf.amd.define(&mut macros, &machine);
        for (name, value) in &options.defines {
            macros.define(name, value);
        }
        Self {
            macros: Arc::new(macros),
            sources: Rc::clone(sources),
            environment: sources.environment(&configuration.names),
            global_options: OptionList::parse(options.global_options.as_deref().unwrap_or_default()),
            choosing: source::Choosing {
                default_version: settings.mount_nfs_default_protocol.0,
                ask_single: settings.mount_wait.is_none(),
                use_names: settings.use_hostname_for_mounts,
                time_limit: bounded(configuration.native.deadlines.lookup),
            },
            lookup_deadline: bounded(configuration.native.deadlines.lookup),
            lanes: Arc::clone(lanes),
            wildcards: configuration.native.wildcards.clone(),
            security: configuration.native.security.clone(),
            amd: configuration.conf.amd.clone(),
            no_amd: amd::Settings::default(),
            settings,
        }
    }
}

/// How program maps are run with a configuration.
fn rules(configuration: &Configuration) -> Rules {
    let settings = &configuration.conf.autofs;
    Rules {
        environment: source::variables(&configuration.native.helpers.environment),
        standard_names: settings.force_standard_program_map_env,
        grace: bounded(configuration.native.deadlines.helper_kill),
        keep: match configuration.native.programs.keep {
            native::Keep::NegativeTimeout => Keep::Negative,
            native::Keep::PositiveTimeout => Keep::For(bounded(Duration::from_secs(settings.positive_timeout))),
            native::Keep::Never => Keep::For(Duration::ZERO),
        },
        refuse_writable: configuration.native.security.writable_maps == native::WritableMaps::Refuse,
        run: true,
    }
}
