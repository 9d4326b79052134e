//! The configuration files as they are on disk.

use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;

use tokio::time::Instant;

use super::names::NSSWITCH_CONF;
use super::store::Fetched;
use super::{Names, Notices, Readers, SourceError, Store};
use crate::config::{AutofsConf, Native};
use crate::sys::path;
use crate::text::{Diagnostic, Position};

/// autofs.conf.
pub const AUTOFS_CONF: &str = concat!(env!("AUTOFS_MAPDIR"), "/autofs.conf");
/// The init system's file, which has the last word.
pub const INIT_CONF: &str = concat!(env!("AUTOFS_SYSCONFDIR"), "/autofs");
/// autofs.toml.
pub const AUTOFS_TOML: &str = concat!(env!("AUTOFS_MAPDIR"), "/autofs.toml");

/// All files that are read here.
pub const FILES: [&str; 4] = [AUTOFS_CONF, INIT_CONF, AUTOFS_TOML, NSSWITCH_CONF];

/// Bytes of a configuration file at most.
const LONGEST: u64 = 1 << 20;

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Configuration {
    /// autofs.conf and the init system's file.
    pub conf: AutofsConf,
    /// autofs.toml.
    pub native: Native,
    /// Services for maps without a path, from nsswitch.conf.
    pub names: Arc<Names>,
}

/// The configuration files, and what was read of them last.
#[derive(Debug)]
pub struct ConfigurationFiles {
    texts: Store<Vec<u8>>,
}

/// Result of reading the configuration.
#[derive(Debug)]
pub struct ReadConfiguration {
    /// The configuration that holds from now on.
    pub configuration: Configuration,
    /// Mistakes.
    pub diagnostics: Vec<Diagnostic>,
    /// All files could be read; otherwise it is worth another try.
    pub complete: bool,
}

impl ConfigurationFiles {
    /// Creates the store, without reading the files.
    pub fn new(readers: &Readers, notices: &Arc<Notices>) -> Self {
        let read = |file: &Arc<Path>, _| {
            read(file).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => SourceError::Missing { path: Arc::clone(file) },
                _ => SourceError::Read { path: Arc::clone(file), error },
            })
        };
        Self { texts: Store::new(read, readers, notices) }
    }
}

impl Configuration {
    /// Reads the configuration. Returns by the deadline: a file that cannot be read says what it said before, or counts as
    /// absent. What cannot be understood leaves in force what `before` says.
    pub async fn read(files: &ConfigurationFiles, before: Option<&Self>, deadline: Instant) -> ReadConfiguration {
        let mut reader = Reader { files, deadline, diagnostics: Vec::new(), complete: true };
        let conf = reader.text(AUTOFS_CONF).await;
        let init = reader.text(INIT_CONF).await;
        let toml = reader.text(AUTOFS_TOML).await;
        let nsswitch = reader.text(NSSWITCH_CONF).await;
        let Reader { mut diagnostics, complete, .. } = reader;
        let (conf, wrong) = AutofsConf::read(
            conf.as_ref().map(|(file, text)| (file, text.as_slice())),
            init.as_ref().map(|(file, text)| (file, text.as_slice())),
            |name| std::env::var_os(name).map(std::os::unix::ffi::OsStringExt::into_vec),
        );
        diagnostics.extend(wrong);
        let native = match toml.map(|(file, text)| Native::parse(&text, &file)) {
            None => Native::default(),
            Some(Ok((native, wrong))) => {
                diagnostics.extend(wrong);
                native
            }
            Some(Err(wrong)) => {
                diagnostics.extend(wrong);
                before.map(|b| b.native.clone()).unwrap_or_default()
            }
        };
        let names = match nsswitch.map(|(file, text)| Names::parse(&text, &file)) {
            None => Arc::default(),
            Some(Ok((names, wrong))) => {
                diagnostics.extend(wrong);
                Arc::new(names)
            }
            Some(Err(wrong)) => {
                diagnostics.push(wrong);
                before.map(|b| Arc::clone(&b.names)).unwrap_or_default()
            }
        };
        ReadConfiguration { configuration: Self { conf, native, names }, diagnostics, complete }
    }
}

struct Reader<'a> {
    files: &'a ConfigurationFiles,
    deadline: Instant,
    diagnostics: Vec<Diagnostic>,
    complete: bool,
}

impl Reader<'_> {
    /// Returns the content of a configuration file, if it is there.
    async fn text(&mut self, name: &str) -> Option<(Arc<Path>, Arc<Vec<u8>>)> {
        let file: Arc<Path> = Path::new(name).into();
        let now = Instant::now();
        // A file that hangs leaves time for the others.
        let deadline = now + self.deadline.saturating_duration_since(now) / 2;
        let (text, error, help) = match self.files.texts.fetch(&file, false, deadline).await {
            Fetched::Fresh(text) => return Some((file, text)),
            Fetched::Stale(text, error) => (Some(text), error, "what it said before stays in force"),
            Fetched::Failed(error) => (None, error, "the settings in it do not hold until it can be read"),
        };
        let message = match &*error {
            SourceError::Missing { .. } => return None,
            SourceError::Read { error, .. } => format!("cannot read it: {error}"),
            other => other.to_string(),
        };
        self.complete &= !matches!(*error, SourceError::Hangs { .. } | SourceError::TooManyHang { .. });
        let wrong = Diagnostic::error("conf::unreadable", Position::whole(&file), message);
        self.diagnostics.push(wrong.help(help));
        text.map(|text| (file, text))
    }
}

/// Returns the content of a regular file of bearable length. Blocks.
///
/// # Errors
/// It is not one, or cannot be read.
pub fn read(file: &Path) -> io::Result<Vec<u8>> {
    read_up_to(file, LONGEST)
}

/// Reads `file` without triggering mounts.
///
/// # Errors
/// Returns an error if the file cannot be read, is not a regular file or is longer than `longest` bytes.
pub fn read_up_to(file: &Path, longest: u64) -> io::Result<Vec<u8>> {
    let opened = path::open_to_read(file)?;
    if !path::fstat(opened.as_fd())?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut text = Vec::new();
    opened.take(longest + 1).read_to_end(&mut text)?;
    if text.len() as u64 > longest {
        return Err(io::Error::other(format!("longer than {longest} bytes")));
    }
    Ok(text)
}
