//! NFS locations: replicas with weights, and which of them are tried, how and in which order.

use std::borrow::Cow;

use super::context::{Context, Facts, Host, Wishes};
use super::mount::{bind, mount};
use super::servers::{Rule, Server};
use super::{Action, FsMount};
use crate::map::known::options::look_like_options;
use crate::map::{Location, OptionList};
use crate::text::{Diagnostic, Escaped};

/// One of several places where the same file system is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Replica<'a> {
    /// As written, IPv6 addresses in brackets; `None`: a path of this machine.
    host: Option<&'a [u8]>,
    /// Higher is worse.
    weight: u32,
    path: &'a [u8],
}

/// The names of hosts in `locations`, without brackets.
pub(super) fn hosts(locations: &[Location]) -> impl Iterator<Item = &[u8]> {
    locations.iter().filter_map(|l| replicas(&l.0)).flatten().filter_map(|r| r.host).map(unbracketed)
}

/// What mounts the first of `locations` that can be mounted: a directory of this machine by a bind mount, others by NFS
/// ordered by weight, or by chance with `-r`. `first` is false for an offset, which is mounted later: a host that no name
/// server knows now may be known then.
pub(super) fn action(
    ctx: &Context<'_>,
    options: &OptionList,
    wishes: Wishes<'_>,
    locations: &[Location],
    facts: &Facts<'_>,
    first: bool,
) -> Result<Action, Diagnostic> {
    let (mut near, mut unknown) = (Vec::new(), Vec::new());
    let mut far: Vec<(u64, FsMount)> = Vec::new();
    let locations = with_blanks(locations);
    for text in &locations {
        let Some(replicas) = replicas(text) else {
            return Err(no_path(ctx, text));
        };
        for replica in replicas {
            let by_nfs = |host: &[u8]| mount(wishes.fstype, remote(host, replica.path), options);
            let Some(host) = replica.host else {
                if !wishes.nobind {
                    near.push(bind(ctx, replica.path, &bind_options(options)));
                }
                continue;
            };
            match facts(unbracketed(host)) {
                Host::Local { serves } => {
                    if !wishes.nobind {
                        near.push(bind(ctx, replica.path, &bind_options(options)));
                    }
                    // Without a server it would take mount.nfs two minutes to find out.
                    if serves {
                        near.push(by_nfs(host));
                    }
                }
                Host::Remote => {
                    let server = server(ctx, wishes, host, &replica);
                    far.push((server.untested_cost(), FsMount { server: Some(server), ..by_nfs(host) }));
                }
                Host::Unknown if first => unknown.push(Escaped(unbracketed(host)).to_string()),
                Host::Unknown => {
                    let server = server(ctx, wishes, host, &replica);
                    far.push((u64::MAX, FsMount { server: Some(server), ..by_nfs(host) }));
                }
            }
        }
    }
    // Stable: among equal weights, the order in which they were written.
    far.sort_by_key(|(cost, _)| *cost);
    let mut mounts = near;
    mounts.extend(far.into_iter().map(|(_, mount)| mount));
    if mounts.is_empty() && first {
        let names = unknown.join(", ");
        let why = if names.is_empty() { names } else { format!(": no address is known for {names}") };
        return Err(ctx.error("plan::hosts", format!("no hosts available{why}")));
    }
    Ok(Action::Mount(mounts))
}

/// Makes the error for a location without `:/`, with a suggestion.
fn no_path(ctx: &Context<'_>, text: &[u8]) -> Diagnostic {
    let shown = Escaped::start_of(text);
    let first = text.split(|&b| b == b' ').next().unwrap_or_default();
    if look_like_options(first) {
        let help = format!("options begin with a dash: -{}", Escaped::start_of(first));
        return ctx.error("plan::location", "options without a dash, and no location").help(help);
    }
    let help = match memchr::memchr(b'/', text).and_then(|at| text.split_at_checked(at)) {
        Some((host, path)) => format!("write {}:{}", Escaped::start_of(host), Escaped::start_of(path)),
        None => "write host:/path, or say -fstype= for something other than NFS".to_owned(),
    };
    ctx.error("plan::location", format!("no path in the location {shown}")).help(help)
}

/// The locations, a word without `:/` joined with a blank to the path before it: `srv:/my docs` is one location even
/// without quotes.
fn with_blanks(locations: &[Location]) -> Vec<Cow<'_, [u8]>> {
    let mut joined: Vec<Cow<'_, [u8]>> = Vec::with_capacity(locations.len());
    for Location(text) in locations {
        match joined.last_mut() {
            Some(path) if memchr::memmem::find(text, b":/").is_none() => {
                let path = path.to_mut();
                path.push(b' ');
                path.extend_from_slice(text);
            }
            _ => joined.push(Cow::Borrowed(text)),
        }
    }
    joined
}

/// The server of a replica, with what it is compared by.
fn server(ctx: &Context<'_>, wishes: Wishes<'_>, host: &[u8], replica: &Replica<'_>) -> Server {
    let rule = if ctx.master.random {
        Rule::Chance(ctx.dice.throw(host, replica.path))
    } else if wishes.weight_only.unwrap_or(ctx.master.use_weight_only) {
        Rule::Weight
    } else {
        Rule::Time
    };
    Server { host: unbracketed(host).to_vec(), weight: replica.weight, rule }
}

/// `ro` is all of NFS's options that means the same for a bind mount.
fn bind_options(options: &OptionList) -> OptionList {
    OptionList::parse(if options.read_only() { b"ro" } else { b"" })
}

/// The replicas of `h1,h2(3):/path` or `:/path`; `None` when there is no path.
fn replicas(location: &[u8]) -> Option<impl Iterator<Item = Replica<'_>>> {
    let colon = memchr::memmem::find(location, b":/")?;
    let (list, path) = (location.get(..colon)?, location.get(colon + 1..)?);
    Some(list.split(|&b| b == b',').map(move |host| match host {
        b"" => Replica { host: None, weight: 0, path },
        _ => {
            let (name, weight) = weighed(host);
            Replica { host: Some(name), weight, path }
        }
    }))
}

/// `host(3)` is weighed 3; what is no number weighs nothing.
fn weighed(host: &[u8]) -> (&[u8], u32) {
    let Some((name, weight)) = host.split_last().filter(|(last, _)| **last == b')').and_then(|(_, rest)| {
        let open = memchr::memrchr(b'(', rest)?;
        Some((rest.get(..open)?, rest.get(open + 1..)?))
    }) else {
        return (host, 0);
    };
    (name, std::str::from_utf8(weight).ok().and_then(|w| w.parse().ok()).unwrap_or(0))
}

/// `host:/path`, with brackets around an IPv6 address that a key has brought along without.
fn remote(host: &[u8], path: &[u8]) -> Vec<u8> {
    if host.contains(&b':') && !host.starts_with(b"[") {
        return [b"[", host, b"]:", path].concat();
    }
    [host, b":", path].concat()
}

fn unbracketed(host: &[u8]) -> &[u8] {
    host.strip_prefix(b"[").and_then(|h| h.strip_suffix(b"]")).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_hosts() {
        let all: Vec<_> = replicas(b"h1,h2(3),[fd00::9](x):/p").unwrap().map(|r| (r.host, r.weight)).collect();
        assert_eq!(all, [(Some(&b"h1"[..]), 0), (Some(b"h2"), 3), (Some(b"[fd00::9]"), 0)]);
        assert!(replicas(b"srv1").is_none());
        let local: Vec<_> = replicas(b":/opt").unwrap().collect();
        assert_eq!(local, [Replica { host: None, weight: 0, path: b"/opt" }]);
        let locations = ["a:/my", "other", "docs", "b:/x"].map(|l| Location(l.into()));
        assert_eq!(with_blanks(&locations), [&b"a:/my other docs"[..], b"b:/x"]);
        let locations = [Location(b"[fd00::9],b:/p".to_vec()), Location(b":/q".to_vec()), Location(b"x".to_vec())];
        assert_eq!(hosts(&locations).collect::<Vec<_>>(), [&b"fd00::9"[..], b"b"]);
    }
}
