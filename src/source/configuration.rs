//! The configuration files as they stand on disk.

use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;

use log::error;

use crate::config::{AutofsConf, Native};
use crate::source::Names;
use crate::source::names::NSSWITCH_CONF;

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// autofs.conf and the init system's file.
    pub conf: AutofsConf,
    /// autofs.toml.
    pub native: Native,
    /// Where maps without a path are looked for: nsswitch.conf.
    pub names: Arc<Names>,
}

impl Configuration {
    /// Reads it, and reports what is wrong. A file that cannot be used counts as absent at the first reading; later the
    /// caller keeps what it had. May wait for the disk.
    pub fn read(before: Option<&Self>) -> Self {
        let (configuration, diagnostics) = Self::look(before);
        for diagnostic in diagnostics {
            error!("{diagnostic}");
        }
        configuration
    }

    /// Reads it, and tells what is wrong. May wait for the disk.
    pub fn look(before: Option<&Self>) -> (Self, Vec<Diagnostic>) {
        let mut diagnostics = Vec::new();
        let conf = text(AUTOFS_CONF, &mut diagnostics);
        let init = text(INIT_CONF, &mut diagnostics);
        let (conf, wrong) = AutofsConf::read(
            conf.as_ref().map(|(file, text)| (file, text.as_slice())),
            init.as_ref().map(|(file, text)| (file, text.as_slice())),
            |name| std::env::var_os(name).map(std::os::unix::ffi::OsStringExt::into_vec),
        );
        diagnostics.extend(wrong);
        let native = match text(AUTOFS_TOML, &mut diagnostics).map(|(file, text)| Native::parse(&text, &file)) {
            None => Native::default(),
            Some(Ok(native)) => native,
            Some(Err(wrong)) => {
                diagnostics.push(wrong);
                before.map(|b| b.native.clone()).unwrap_or_default()
            }
        };
        let names = match Names::read(&Path::new(NSSWITCH_CONF).into()) {
            Ok((names, wrong)) => {
                diagnostics.extend(wrong);
                Arc::new(names)
            }
            Err(wrong) => {
                diagnostics.push(wrong);
                before.map(|b| Arc::clone(&b.names)).unwrap_or_default()
            }
        };
        (Self { conf, native, names }, diagnostics)
    }
}

/// A configuration file, if it is there.
fn text(name: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<(Arc<Path>, Vec<u8>)> {
    let file: Arc<Path> = Path::new(name).into();
    match read(&file) {
        Ok(text) => Some((file, text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => {
            let wrong = Diagnostic::error("conf::unreadable", Position::whole(&file), format!("cannot read it: {e}"));
            diagnostics.push(wrong.help("the settings in it do not hold until it can be read"));
            None
        }
    }
}

/// The content of a regular file of bearable length.
///
/// # Errors
/// When it is not one, or cannot be read.
pub fn read(file: &Path) -> io::Result<Vec<u8>> {
    let opened = path::open_to_read(file)?;
    if !path::fstat(opened.as_fd())?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut text = Vec::new();
    opened.take(LONGEST + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LONGEST {
        return Err(io::Error::other(format!("longer than {LONGEST} bytes")));
    }
    Ok(text)
}
