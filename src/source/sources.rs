//! All that a worker reads maps and configuration with. One value for its whole life.

use std::sync::Arc;

use super::configuration::ConfigurationFiles;
use super::master::MasterFiles;
use super::{Environment, Hosts, Inquiries, Lookups, Names, Notices, Programs, Readers, Servers, Users};
use crate::config::native::Limits;

/// Threads that read configuration files.
const CONFIGURATION: usize = 2;

/// The sources of a worker. Each part has threads of its own, so that none waits for another.
#[derive(Debug)]
pub struct Sources {
    /// The configuration files.
    pub configuration: Arc<ConfigurationFiles>,
    /// The files of master maps.
    pub master: Arc<MasterFiles>,
    /// The user database.
    pub users: Arc<Users>,
    /// The name service for servers.
    pub hosts: Arc<Hosts>,
    /// Runner of programs.
    pub programs: Arc<Programs>,
    /// Answers to questions of entries in am-utils format.
    pub inquiries: Arc<Inquiries>,
    /// The file servers.
    pub servers: Arc<Servers>,
    /// Messages about maps, for the log.
    pub notices: Arc<Notices>,
    /// The processes that ask directory services.
    pub lookups: Arc<Lookups>,
    /// Threads that read maps.
    readers: Readers,
}

impl Sources {
    /// Configuration files; they are read before the limits are known.
    pub fn configuration() -> (Arc<ConfigurationFiles>, Arc<Notices>) {
        let notices = Arc::new(Notices::default());
        (Arc::new(ConfigurationFiles::new(&Readers::new(CONFIGURATION), &notices)), notices)
    }

    /// Creates the sources of a worker with these limits.
    pub fn new(configuration: Arc<ConfigurationFiles>, notices: Arc<Notices>, limits: &Limits) -> Self {
        let width = usize::try_from(limits.lookups.get()).unwrap_or(Readers::WIDEST);
        let users = Arc::new(Users::new(width));
        let at_a_time = usize::try_from(limits.programs.get()).unwrap_or(Programs::WIDEST);
        let programs = Arc::new(Programs::new(at_a_time, Arc::clone(&users)));
        let lookups: Arc<Lookups> = Arc::default();
        let hosts = Arc::new(Hosts::new(width));
        let servers = Arc::new(Servers::new(&hosts).reporting(&notices.tallies));
        let master = Environment {
            names: Arc::default(),
            readers: Readers::new(CONFIGURATION),
            programs: Arc::clone(&programs),
            notices: Arc::clone(&notices),
            lookups: Arc::clone(&lookups),
            servers: Arc::clone(&servers),
        };
        Self {
            configuration,
            master: Arc::new(MasterFiles::new(&master)),
            users,
            hosts,
            servers,
            programs,
            inquiries: Arc::new(Inquiries::new(width)),
            notices,
            lookups,
            readers: Readers::new(width),
        }
    }

    /// Returns what maps are opened with that are found by `names`.
    pub fn environment(&self, names: &Arc<Names>) -> Arc<Environment> {
        let (readers, programs) = (self.readers.clone(), Arc::clone(&self.programs));
        let (notices, lookups) = (Arc::clone(&self.notices), Arc::clone(&self.lookups));
        let servers = Arc::clone(&self.servers);
        Arc::new(Environment { names: Arc::clone(names), readers, programs, notices, lookups, servers })
    }
}
