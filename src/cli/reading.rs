//! Reading configuration and maps for one command, with the sources of the daemon.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::config::{AmdConf, native};
use crate::directory::Scope;
use crate::directory::protocol::Trouble;
use crate::map::{Macros, MasterEntry, SourceKind, SourceSpec};
use crate::source::configuration::{Configuration, ConfigurationFiles, ReadConfiguration};
use crate::source::master::{MasterFiles, Reading};
use crate::source::{
    Answer, Ask, Entries, Environment, MapSource, Master, Mode, Names, Notices, Pass, Programs, Readers, Rules,
    Servers, SourceError, Users, open, service,
};
use crate::text::Diagnostic;

/// How long one file, or one map with all that it includes, may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// How long a directory service may take for one map.
const PROBE: Duration = Duration::from_secs(15);

/// Threads that read.
const WIDTH: usize = 4;

/// Reads configuration and maps, and keeps what is wrong with them.
pub(super) struct Reader {
    /// Dropped without waiting for a thread that hangs.
    runtime: Option<Runtime>,
    environment: Arc<Environment>,
    /// Sections of autofs.conf that may name mount points.
    amd: AmdConf,
    /// The mount points of autofs.toml.
    mount_points: Vec<MasterEntry>,
}

impl Reader {
    /// A reader that finds maps by the default names.
    ///
    /// # Errors
    /// The kernel refuses what is needed to wait for files.
    pub(super) fn new() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (names, notices) = (Arc::default(), Arc::new(Notices::keep()));
        let programs = Arc::new(Programs::new(WIDTH, Arc::new(Users::new(WIDTH))));
        let (readers, lookups) = (Readers::new(WIDTH), Arc::default());
        let environment = Arc::new(Environment {
            names,
            readers,
            programs,
            notices,
            lookups,
            servers: Arc::new(Servers::with_hosts(WIDTH)),
        });
        Ok(Self { runtime: Some(runtime), environment, amd: AmdConf::default(), mount_points: Vec::new() })
    }

    /// Runs no program from now on: program maps that list their keys have none.
    pub(super) fn run_nothing(&self) {
        let rules = self.environment.programs.rules();
        self.environment.programs.set_rules(Rules { run: false, ..Rules::clone(&rules) });
    }

    /// Asks a map for one key, for nobody in particular.
    pub(super) fn lookup(&self, source: &dyn MapSource, key: &[u8], globals: &Arc<Macros>) -> Option<Answer> {
        let ask = Ask { globals: Arc::clone(globals), ..Ask::new(key, Instant::now() + DEADLINE) };
        self.wait(source.lookup(&ask))
    }

    /// Finds maps by these names from now on.
    pub(super) fn set_names(&mut self, names: &Arc<Names>) {
        self.environment = Arc::new(self.environment.with_names(Arc::clone(names)));
    }

    /// Reads the configuration, and finds maps by it from now on.
    pub(super) fn configuration(&mut self) -> (Configuration, Vec<Diagnostic>) {
        let files = ConfigurationFiles::new(&self.environment.readers, &self.environment.notices);
        let read = Configuration::read(&files, None, Instant::now() + DEADLINE);
        let read = self.wait(read).unwrap_or_else(|| ReadConfiguration {
            configuration: Configuration::default(),
            diagnostics: Vec::new(),
            complete: false,
        });
        self.set_names(&read.configuration.names);
        self.environment.lookups.renew(service::settings(&read.configuration.conf.autofs));
        self.amd.clone_from(&read.configuration.conf.amd);
        self.mount_points.clone_from(&read.configuration.native.mount_points);
        let refuse_writable = read.configuration.native.security.writable_maps == native::WritableMaps::Refuse;
        let rules = self.environment.programs.rules();
        self.environment.programs.set_rules(Rules { refuse_writable, ..Rules::clone(&rules) });
        (read.configuration, read.diagnostics)
    }

    /// Reads the master map `name`, see [`Master::read`].
    pub(super) fn master(&self, name: &[u8], underscore: bool) -> Option<Master> {
        let reading = Reading {
            files: Arc::new(MasterFiles::new(&self.environment)),
            names: Arc::clone(&self.environment.names),
            amd: self.amd.clone(),
            mount_points: self.mount_points.clone(),
            replaces: false,
            deadline: Instant::now() + DEADLINE,
        };
        self.wait(Master::read(name, underscore, reading))
    }

    /// Opens a map; nothing is read yet.
    pub(super) fn open(&self, spec: &SourceSpec, mode: Mode) -> Arc<dyn MapSource> {
        open(spec, mode, &self.environment)
    }

    /// Returns how maps without a path are found.
    pub(super) fn names(&self) -> &Arc<Names> {
        &self.environment.names
    }

    /// Asks a directory service for a map.
    ///
    /// # Errors
    /// The map cannot be read, and why.
    pub(super) fn probe(
        &self,
        kind: SourceKind,
        name: &[u8],
        scope: Scope,
    ) -> Result<service::Probed, (Trouble, String)> {
        let deadline = Instant::now() + PROBE;
        let probed = self.wait(service::probe(&self.environment.lookups, kind, name, scope, deadline));
        probed.unwrap_or_else(|| Err((Trouble::Unavailable, "it does not answer in time".to_owned())))
    }

    /// Reads a map. Returns its entries, and what is wrong with it.
    pub(super) fn entries(&self, source: &dyn MapSource) -> (Result<Arc<Entries>, Arc<SourceError>>, Vec<Diagnostic>) {
        let pass = Pass::new(Instant::now() + DEADLINE);
        let nothing = || Err(Arc::new(SourceError::Late { id: source.id().clone() }));
        let entries = self.wait(source.entries(&pass)).unwrap_or_else(nothing);
        (entries, self.environment.notices.take())
    }

    fn wait<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        Some(self.runtime.as_ref()?.block_on(work))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Returns whether the name of a file says that it is a master map.
pub(super) fn is_called_master(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().as_encoded_bytes();
    name.ends_with(b".autofs") || memchr::memmem::find(name, b"master").is_some()
}
