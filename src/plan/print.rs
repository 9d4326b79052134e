//! Plans as text, for people and for golden tests: one line per place, what happens there indented below it.
//!
//! ```text
//! /mnt/net/a strict
//!   nfs srv1:/r -o ro
//!   or nfs srv2:/r -o ro
//!   /mnt/net/a/usr
//!     bind /srv (slave)
//! ```

use std::fmt;

use super::{Action, FsMount, Fsck, Plan, Submount};
use crate::map::{Format, MasterOptions, Propagation, SourceKind, SourceSpec};
use crate::text::Escaped;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}

impl Plan {
    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        let indent = 2 * depth;
        let strict = if self.strict { " strict" } else { "" };
        writeln!(f, "{:indent$}{}{strict}", "", Escaped::path(&self.at))?;
        let indent = indent + 2;
        match &self.action {
            Action::Nothing => {}
            Action::Mount(mounts) => {
                for (n, mount) in mounts.iter().enumerate() {
                    writeln!(f, "{:indent$}{}{mount}", "", if n > 0 { "or " } else { "" })?;
                }
            }
            Action::Symlink(text) => writeln!(f, "{:indent$}symlink {}", "", Escaped(text))?,
            Action::Autofs(submount) => writeln!(f, "{:indent$}{submount}", "")?,
        }
        self.offsets.iter().try_for_each(|offset| offset.write(f, depth + 1))
    }
}

impl fmt::Display for FsMount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", Escaped(&self.fstype), Escaped(&self.source))?;
        if !self.options.is_empty() {
            write!(f, " -o {}", Escaped(&self.options))?;
        }
        if self.fstype == b"bind" {
            write!(f, " ({})", propagation(self.propagation))?;
        }
        match self.fsck {
            Some(Fsck::Preen) => f.write_str(" (fsck -p)"),
            Some(Fsck::ReadOnly) => f.write_str(" (fsck -n)"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Submount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("autofs ")?;
        source(f, &self.source)?;
        let MasterOptions { timeout, browse, nobind, symlink, strictexpire, defines, mount_options, .. } =
            &self.options;
        if let Some(seconds) = timeout {
            write!(f, " timeout={seconds}")?;
        }
        for (said, word) in [
            (*browse == Some(true), " browse"),
            (*browse == Some(false), " nobrowse"),
            (*nobind, " nobind"),
            (*symlink, " symlink"),
            (*strictexpire, " strictexpire"),
        ] {
            f.write_str(if said { word } else { "" })?;
        }
        for (name, value) in defines {
            write!(f, " -D{}={}", Escaped(name), Escaped(value))?;
        }
        if !mount_options.is_empty() {
            write!(f, " -o {}", Escaped(mount_options))?;
        }
        Ok(())
    }
}

/// As a master map writes it.
fn source(f: &mut fmt::Formatter<'_>, source: &SourceSpec) -> fmt::Result {
    let format = match source.format {
        None => "",
        Some(Format::Sun) => ",sun",
        Some(Format::Amd) => ",amd",
        Some(Format::Hesiod) => ",hesiod",
        Some(Format::Toml) => ",toml",
    };
    match source.kind {
        Some(kind @ (SourceKind::Hosts | SourceKind::Null)) => write!(f, "-{}", kind.name()),
        Some(kind) => write!(f, "{}{format}:{}", kind.name(), Escaped(&source.name)),
        None => write!(f, "{}", Escaped(&source.name)),
    }
}

fn propagation(propagation: Propagation) -> &'static str {
    match propagation {
        Propagation::Slave => "slave",
        Propagation::Private => "private",
        Propagation::Shared => "shared",
    }
}
