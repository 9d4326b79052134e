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

use super::{Action, External, FsMount, Fsck, Leads, MountedBy, Plan, Submount};
use crate::map::{MasterOptions, SourceKind, SourceSpec};
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
        write!(f, "{:indent$}{}{strict}", "", Escaped::path(&self.at))?;
        if let Some(seconds) = self.timeout {
            write!(f, " timeout={seconds}")?;
        }
        for path in &self.requires {
            write!(f, " requires={}", Escaped::path(path))?;
        }
        writeln!(f)?;
        let indent = indent + 2;
        self.action.write(f, indent, "")?;
        self.offsets.iter().try_for_each(|offset| offset.write(f, depth + 1))
    }
}

impl Action {
    /// Writes what is done, one attempt a line; `or` comes before the first.
    fn write(&self, f: &mut fmt::Formatter<'_>, indent: usize, or: &str) -> fmt::Result {
        match self {
            Self::Nothing => Ok(()),
            Self::Mount(mounts) => {
                for (n, mount) in mounts.iter().enumerate() {
                    writeln!(f, "{:indent$}{}{mount}", "", if n > 0 { "or " } else { or })?;
                }
                Ok(())
            }
            Self::Symlink(text) => writeln!(f, "{:indent$}{or}symlink {}", "", Escaped(text)),
            Self::Autofs(submount) => writeln!(f, "{:indent$}{or}{submount}", ""),
            Self::Leads(leads) => {
                for (n, lead) in leads.iter().enumerate() {
                    lead.write(f, indent, if n > 0 { "or " } else { or })?;
                }
                Ok(())
            }
        }
    }
}

impl Leads {
    fn write(&self, f: &mut fmt::Formatter<'_>, indent: usize, or: &str) -> fmt::Result {
        let mut or = or;
        if let Some(External { at, by }) = &self.external {
            let at = Escaped::path(at);
            match by {
                MountedBy::Mounts(mounts) => {
                    for (n, mount) in mounts.iter().enumerate() {
                        writeln!(f, "{:indent$}{}{mount} at {at}", "", if n > 0 { "or " } else { or })?;
                    }
                }
                MountedBy::Command { mount, .. } => {
                    let arguments = mount.arguments.get(1..).unwrap_or_default().join(&b' ');
                    let program = Escaped(&mount.program);
                    writeln!(f, "{:indent$}{or}program {program} {} at {at}", "", Escaped(&arguments))?;
                }
            }
            or = "then ";
        }
        if let Some(path) = &self.exists {
            writeln!(f, "{:indent$}{or}if {} exists", "", Escaped(path))?;
            or = "then ";
        }
        for (n, way) in self.ways.iter().enumerate() {
            way.write(f, indent, if n > 0 { "or " } else { or })?;
        }
        Ok(())
    }
}

impl fmt::Display for FsMount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", Escaped(&self.fstype), Escaped(&self.source))?;
        if !self.options.is_empty() {
            write!(f, " -o {}", Escaped(&self.options))?;
        }
        if self.fstype == b"bind" {
            write!(f, " ({})", self.propagation.name())?;
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
    let format = source.format.map_or(String::new(), |format| format!(",{}", format.name()));
    match source.kind {
        Some(kind @ (SourceKind::Hosts | SourceKind::Null)) => write!(f, "-{}", kind.name()),
        Some(kind) => write!(f, "{}{format}:{}", kind.name(), Escaped(&source.name)),
        None => write!(f, "{}", Escaped(&source.name)),
    }
}
