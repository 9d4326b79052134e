//! Parts that all sources share: names, threads, and the place for their reports.

use std::os::unix::ffi::OsStringExt as _;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::{Lookups, Names, Programs, Readers, Servers, Tallies, Users};
use crate::map::System;
use crate::mutex::lock;
use crate::sys::user;
use crate::text::{Diagnostic, Severity};

/// Everything that is needed to open a source.
#[derive(Debug)]
pub struct Environment {
    /// How maps without a path are found.
    pub names: Arc<Names>,
    /// Threads for blocking work.
    pub readers: Readers,
    /// Runner of programs.
    pub programs: Arc<Programs>,
    /// Place for reports about the maps.
    pub notices: Arc<Notices>,
    /// How directory services are asked.
    pub lookups: Arc<Lookups>,
    /// The file servers.
    pub servers: Arc<Servers>,
}

impl Environment {
    /// Returns the user database.
    pub fn users(&self) -> &Arc<Users> {
        &self.programs.users
    }

    /// An environment that shares threads and notices with `self` but finds maps by other names.
    pub fn with_names(&self, names: Arc<Names>) -> Self {
        let (programs, notices, lookups) =
            (Arc::clone(&self.programs), Arc::clone(&self.notices), Arc::clone(&self.lookups));
        Self { names, readers: self.readers.clone(), programs, notices, lookups, servers: Arc::clone(&self.servers) }
    }
}

/// Messages of sources that are not answers. They may come at any time, also from work that was given up.
#[derive(Debug, Default)]
pub struct Notices {
    /// Messages that were not taken yet; `None`: diagnostics go to the log at once.
    kept: Option<Mutex<Vec<Diagnostic>>>,
    /// Told when a source answers that was late, or that could not be read.
    answered: Notify,
    /// Counters of each source. Servers report their news here, too.
    pub tallies: Arc<Tallies>,
}

impl Notices {
    /// Notices that are kept until they are [taken](Self::take).
    pub fn keep() -> Self {
        Self { kept: Some(Mutex::default()), ..Self::default() }
    }

    /// Reports diagnostics.
    pub fn add(&self, diagnostics: impl IntoIterator<Item = Diagnostic>) {
        match &self.kept {
            Some(kept) => lock(kept).extend(diagnostics),
            None => diagnostics.into_iter().for_each(|diagnostic| log(&diagnostic)),
        }
    }

    /// Returns the diagnostics since the last call.
    pub fn take(&self) -> Vec<Diagnostic> {
        let taken = |kept: &Mutex<_>| std::mem::take(&mut *lock(kept));
        self.kept.as_ref().map(taken).unwrap_or_default()
    }

    /// Reports that late work of a source has ended.
    pub(super) fn late_work_ended(&self) {
        self.answered.notify_one();
    }

    /// Waits until late work of some source has ended since the last call.
    pub async fn answered(&self) {
        self.answered.notified().await;
    }
}

/// Writes a diagnostic to the log.
fn log(diagnostic: &Diagnostic) {
    match diagnostic.severity {
        Severity::Error => log::error!("{diagnostic}"),
        Severity::Warning => log::warn!("{diagnostic}"),
    }
}

/// Returns what uname(2) says of this machine.
pub fn machine() -> System {
    let Ok(machine) = user::machine() else { return System::default() };
    System {
        sysname: machine.system.into_vec(),
        nodename: machine.host.into_vec(),
        release: machine.release.into_vec(),
        version: machine.version.into_vec(),
        machine: machine.machine.into_vec(),
        domain: Vec::new(),
    }
}
