//! Plans of entries in am-utils format: a file system is mounted outside, and the key leads there.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use super::context::{Context, Facts, Host};
use super::method::{self, Role};
use super::mount::{bind, mount};
use super::{Action, Command, External, Leads, MountedBy, Submount};
use crate::map::amd::{Choice, MountType};
use crate::map::{Format, Location, OptionList, SourceKind, SourceSpec};
use crate::text::{Diagnostic, Escaped};

/// Returns what is done for the selected locations: each in turn, until one succeeds.
pub(super) fn action(ctx: &Context<'_>, choices: &[Choice], facts: &Facts<'_>) -> Result<Action, Diagnostic> {
    let mut leads = Vec::new();
    let mut failed = None;
    for choice in choices {
        match lead(ctx, choice, facts) {
            Ok(lead) => leads.push(lead),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    match (leads.as_mut_slice(), failed) {
        ([], Some(error)) => Err(error),
        ([], None) => {
            let error = ctx.error("plan::selectors", "the selectors of the entry select no location");
            Err(error.help("write a last location without selectors for all other cases"))
        }
        ([Leads { external: None, exists: None, ways, .. }], _) if ways.len() == 1 => {
            Ok(ways.pop().unwrap_or(Action::Nothing))
        }
        _ => Ok(Action::Leads(leads)),
    }
}

/// The servers of locations.
pub(super) fn hosts(choices: &[Choice]) -> impl Iterator<Item = &[u8]> {
    choices.iter().filter_map(|choice| match &choice.mount {
        MountType::Nfs { host, .. } | MountType::Host(host) => Some(&**host),
        _ => None,
    })
}

fn lead(ctx: &Context<'_>, choice: &Choice, facts: &Facts<'_>) -> Result<Leads, Diagnostic> {
    let error = |code, message: String| Diagnostic::error(code, choice.place.clone(), message);
    let outside = |by| -> Result<Leads, Diagnostic> {
        Ok(Leads { external: Some(external(ctx, choice, by)?), exists: None, ways: ways(ctx, choice)?, decides: false })
    };
    match &choice.mount {
        MountType::Error => Err(error("plan::error", "the location fails on purpose: type:=error".to_owned())),
        MountType::Link { exists } => {
            let exists = exists.then(|| choice.target.clone());
            Ok(Leads { external: None, exists, ways: ways(ctx, choice)?, decides: false })
        }
        MountType::Auto { kind, prefix } => {
            let submount = submount(ctx, choice, *kind, prefix);
            Ok(Leads { external: None, exists: None, ways: vec![Action::Autofs(Box::new(submount))], decides: false })
        }
        MountType::Host(host) => {
            let is_name = !host.is_empty() && !host.contains(&b'/') && *host != *b"." && *host != *b"..";
            let Some(parent) = ctx.at.parent().filter(|_| is_name && !ctx.direct) else {
                let message = format!("the tree of {} has no place beside the key", Escaped(host));
                return Err(error("plan::host", message).help("write rhost:=NAME, in an indirect map"));
            };
            let tree = parent.join(OsStr::from_bytes(host));
            if tree == ctx.at {
                let message = "type:=host is the tree of this key, and is no alternative to other locations".to_owned();
                return Err(error("plan::host", message).help("make it the first location that is selected"));
            }
            let link = Action::Symlink(tree.into_os_string().into_vec());
            Ok(Leads { external: None, exists: None, ways: vec![link], decides: false })
        }
        MountType::Lofs(source) => outside(MountedBy::Mounts(vec![bind(ctx, source, &choice.options)])),
        MountType::Disk { fstype, device } => {
            outside(MountedBy::Mounts(vec![mount(fstype, device.clone(), &choice.options)]))
        }
        MountType::Program { mount, unmount } => {
            let command = |words: &[Vec<u8>]| {
                let (program, arguments) = words.split_first()?;
                Some(Command { program: program.clone(), arguments: arguments.to_vec() })
            };
            let Some(mount) = command(mount) else {
                return Err(error("amd::program", "there is no command that mounts".to_owned()));
            };
            outside(MountedBy::Command { mount, unmount: command(unmount) })
        }
        MountType::Nfs { fstype, host, path } => {
            if !path.starts_with(b"/") {
                let message = format!("{} is no directory of a server", Escaped(path));
                return Err(error("plan::location", message).help("write rfs:=/path"));
            }
            let mut options = OptionList::parse(format!("fstype={fstype}").as_bytes());
            options.push(choice.options.as_bytes());
            // The name of a server is not asked for twice in one entry.
            let unknown = facts(host) == Host::Unknown;
            let location = Location([host, &b":"[..], path].concat());
            let at = Path::new(OsStr::from_bytes(&choice.fs));
            match method::action(ctx, at, &options, &[location], Role::Offset, facts)? {
                Action::Mount(_) if unknown => Err(error("plan::hosts", format!("there is no host {}", Escaped(host)))),
                Action::Mount(mounts) => outside(MountedBy::Mounts(mounts)),
                _ => Err(error("plan::location", "nothing can be mounted".to_owned())),
            }
        }
    }
}

/// Returns the file system that is mounted outside of the autofs mount.
fn external(ctx: &Context<'_>, choice: &Choice, by: MountedBy) -> Result<External, Diagnostic> {
    let at = path(&choice.fs);
    let error = |message: &str| {
        let message = format!("{} {message}", Escaped(&choice.fs));
        let error = Diagnostic::error("plan::fs", choice.place.clone(), message);
        Err(error.help("write fs:=/path, or leave it out"))
    };
    let is_strange =
        at.components().any(|c| !matches!(c, std::path::Component::Normal(_) | std::path::Component::RootDir));
    if !at.is_absolute() || at.parent().is_none() || is_strange {
        return error("is no path at which something can be mounted");
    }
    if at.starts_with(ctx.at) || ctx.at.starts_with(&at) {
        return error("is the place of the key itself");
    }
    Ok(External { at, by })
}

/// How the key leads to the target of a location.
fn ways(ctx: &Context<'_>, choice: &Choice) -> Result<Vec<Action>, Diagnostic> {
    let target = path(&choice.target);
    if target.starts_with(ctx.at) {
        let message = format!("the key leads to itself, {}", Escaped(&choice.target));
        return Err(Diagnostic::error("plan::link", choice.place.clone(), message).help("write fs:=/path"));
    }
    let link = Action::Symlink(choice.target.clone());
    if !ctx.bind_links || !target.is_absolute() {
        return Ok(vec![link]);
    }
    Ok(vec![Action::Mount(vec![bind(ctx, &choice.target, &choice.link_options)]), link])
}

fn submount(ctx: &Context<'_>, choice: &Choice, kind: Option<SourceKind>, prefix: &[u8]) -> Submount {
    let mut options = ctx.master.clone();
    (options.mode, options.owner) = (None, None);
    options.timeout = if choice.never { Some(0) } else { choice.timeout.or(options.timeout) };
    let (format, name) = (Some(Format::Amd), choice.fs.clone());
    Submount { source: SourceSpec { kind, format, name, ..SourceSpec::default() }, options, prefix: prefix.to_vec() }
}

fn path(text: &[u8]) -> PathBuf {
    Path::new(OsStr::from_bytes(text)).to_path_buf()
}
