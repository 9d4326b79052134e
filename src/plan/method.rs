//! How a location is mounted, by the type of its file system.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use super::context::{Context, Facts};
use super::mount::{bind, mount};
use super::{Action, FsMount, nfs, submount};
use crate::map::{Location, OptionList, Pseudo};
use crate::text::{Diagnostic, Escaped};

/// Part of an entry that is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// All of it, as it has no offsets.
    Whole,
    /// The root of a multi-mount.
    Root,
    /// One of its offsets.
    Offset,
}

/// Returns the action at `at` with `options`, all of them, for `locations`.
pub(super) fn action(
    ctx: &Context<'_>,
    at: &Path,
    options: &OptionList,
    locations: &[Location],
    role: Role,
    facts: &Facts<'_>,
) -> Result<Action, Diagnostic> {
    let wishes = ctx.wishes(options);
    if wishes.fstype == b"autofs" {
        return submount::action(ctx, options, locations);
    }
    if locations.is_empty() {
        return Err(ctx.error("plan::location", "no location").help("only -fstype=autofs,hosts goes without one"));
    }
    let mut kept = options.filter(|word| match Pseudo::of(word) {
        None => true,
        Some(Pseudo::NoBind | Pseudo::Symlink) => !wishes.is_nfs() && wishes.fstype != b"bind",
        Some(_) => false,
    });
    if ctx.hosts_map {
        secure(&mut kept);
    }
    let action = match wishes.fstype {
        b"nfs" | b"nfs4" => nfs::action(ctx, &kept, wishes, locations, facts, role != Role::Offset)?,
        b"bind" => Action::Mount(vec![bind(ctx, &source(locations), &kept)]),
        b"afs" if role == Role::Whole && !ctx.direct => return Ok(Action::Symlink(source(locations))),
        b"afs" | b"changer" => {
            let message = format!("file system type {} is not supported here", Escaped(wishes.fstype));
            return Err(ctx.error("plan::fstype", message));
        }
        // It becomes part of the name of a program.
        name if name.contains(&b'/') => {
            return Err(ctx.error("plan::fstype", format!("no file system type: {}", Escaped(name))));
        }
        name => Action::Mount(vec![mount(name, source(locations), &kept)]),
    };
    let action = limited(ctx, options, action)?;
    check_binds(ctx, at, action, wishes.symlink && role == Role::Whole && !ctx.direct)
}

/// Gives the mounts the time that the options allow.
fn limited(ctx: &Context<'_>, options: &OptionList, action: Action) -> Result<Action, Diagnostic> {
    let is_limit = |word| if let Some(Pseudo::MountTimeout(text)) = Pseudo::of(word) { Some(text) } else { None };
    let (Some(text), Action::Mount(mut mounts)) = (options.words().filter_map(is_limit).last(), action.clone()) else {
        return Ok(action);
    };
    let Some(seconds) = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).filter(|n| *n > 0) else {
        let message = format!("invalid mount-timeout \"{}\"", Escaped(text));
        return Err(ctx.error("plan::mount-timeout", message).help("write a number of seconds: mount-timeout=30"));
    };
    mounts.iter_mut().for_each(|mount| mount.limit = Some(Duration::from_secs(seconds)));
    Ok(Action::Mount(mounts))
}

/// Returns the source for mount(8): the locations as they are, without the colon that means this machine.
fn source(locations: &[Location]) -> Vec<u8> {
    let all = locations.iter().map(|l| &*l.0).collect::<Vec<_>>().join(&b' ');
    match all.strip_prefix(b":") {
        Some(path) => path.to_vec(),
        None => all,
    }
}

/// Adds nosuid and nodev to the options of an export of the hosts map, unless they mention suid or dev.
fn secure(options: &mut OptionList) {
    for (word, topic) in [(&b"nosuid"[..], &b"suid"[..]), (b"nodev", b"dev")] {
        if memchr::memmem::find(options.as_bytes(), topic).is_none() {
            options.push(word);
        }
    }
}

/// Binds have to be of some other directory; with `link`, one that comes first becomes a symbolic link.
fn check_binds(ctx: &Context<'_>, at: &Path, action: Action, link: bool) -> Result<Action, Diagnostic> {
    let Action::Mount(mut mounts) = action else { return Ok(action) };
    let is_bind = |m: &FsMount| m.fstype == b"bind";
    if let Some(relative) = mounts.iter().find(|m| is_bind(m) && !m.source.starts_with(b"/")) {
        let message = format!("{} is no directory of this machine", Escaped(&relative.source));
        return Err(ctx.error("plan::bind", message).help("write :/path"));
    }
    let all = mounts.len();
    mounts.retain(|m| !is_bind(m) || Path::new(OsStr::from_bytes(&m.source)) != at);
    match mounts.first() {
        None if all > 0 => Err(ctx.error("plan::bind", "a directory cannot be mounted on itself")),
        Some(first) if link && is_bind(first) => Ok(Action::Symlink(first.source.clone())),
        _ => Ok(Action::Mount(mounts)),
    }
}
