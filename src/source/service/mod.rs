//! Directory services, asked through [lookup processes](crate::lookup).

mod map;
mod map_cache;
mod master;
mod probe;
mod process;
mod requests;

pub use map::ServiceMap;
pub use map_cache::Place;
pub(super) use master::{Fetched, MasterMaps};
pub use probe::{Probed, probe};
pub use process::{Lookups, PROGRAM};

use super::configuration::Configuration;
use crate::config::Settings as Configured;
use crate::directory::{Schema, Settings};
use crate::map::SourceKind;

/// A directory service, each with a lookup process of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DirectoryService {
    /// LDAP.
    Ldap,
    /// NIS.
    Nis,
    /// sssd(8).
    Sss,
    /// Hesiod.
    Hesiod,
}

impl DirectoryService {
    /// The service that has maps of a kind.
    pub fn of(kind: SourceKind) -> Option<Self> {
        match kind {
            SourceKind::Ldap | SourceKind::Ldaps => Some(Self::Ldap),
            SourceKind::Yp | SourceKind::Nis => Some(Self::Nis),
            SourceKind::Sss => Some(Self::Sss),
            SourceKind::Hesiod => Some(Self::Hesiod),
            _ => None,
        }
    }

    /// Its name, by which the lookup process knows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ldap => "ldap",
            Self::Nis => "nis",
            Self::Sss => "sss",
            Self::Hesiod => "hesiod",
        }
    }
}

/// Has directory services asked, and what they say stored, as the configuration says.
pub fn configure(lookups: &Lookups, configuration: &Configuration) {
    lookups.renew(settings(&configuration.conf.autofs));
    let cache = &configuration.native.cache;
    let most = u64::from(cache.megabytes.get()) << 20;
    lookups.store_at(cache.directory.as_deref().map(|directory| Place { directory: directory.into(), most }));
}

/// Returns the settings of autofs.conf for directory services.
pub fn settings(configured: &Configured) -> Settings {
    let seconds = |value: Option<u64>| value.map(|value| u32::try_from(value).unwrap_or(u32::MAX));
    let schema = || {
        Some(Schema {
            map_class: configured.map_object_class.clone()?,
            map_attribute: configured.map_attribute.clone()?,
            entry_class: configured.entry_object_class.clone()?,
            key: configured.entry_attribute.clone()?,
            value: configured.value_attribute.clone()?,
        })
    };
    Settings {
        uris: configured.ldap_uri.clone(),
        bases: configured.search_base.clone(),
        schema: schema(),
        timeout: seconds(configured.ldap_timeout),
        network_timeout: seconds(configured.ldap_network_timeout),
        auth_file: configured.auth_conf_file.clone().unwrap_or_default(),
        has_local_maps: false,
        debug: None,
    }
}
