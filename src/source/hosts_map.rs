//! The built-in map `-hosts`: a key is the name of a server, its entry a multi-mount of all that the server exports.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, info};
use tokio::time::Instant;

use super::{Answer, Found, Servers, SourceError};
use crate::map::{Body, Entry, Location, OptionList, Part, Provider, RawEntry};
use crate::text::{Escaped, Position};

/// How long a server may take to say what it exports.
const EXPORTS_TIMEOUT: Duration = Duration::from_millis(4500);

/// Asks a server what it exports. Returns a multi-mount of it.
pub(crate) async fn exported(servers: &Servers, host: &[u8], deadline: Instant) -> Answer {
    let deadline = deadline.min(Instant::now() + EXPORTS_TIMEOUT);
    match servers.exports(host, deadline).await {
        None => {
            info!("{} is no host that the name service knows", Escaped(host));
            Answer::NotFound
        }
        Some(Err(error)) => Answer::Unavailable(Arc::new(SourceError::Server { name: host.to_vec(), error })),
        Some(Ok(exports)) => match entry(host, &exports) {
            None => {
                info!("{} exports nothing", Escaped(host));
                Answer::NotFound
            }
            Some(entry) => {
                debug!("{} exports {} directories", Escaped(host), exports.len());
                let place = Position::whole(Path::new("-hosts"));
                Answer::Found(Found {
                    hosts_map: true,
                    provider: Provider::Hosts,
                    ..Found::new(RawEntry::Typed(entry), place)
                })
            }
        },
    }
}

/// Makes the entry of `host`: a part for each directory, the shorter paths first. Returns `None` if there is none.
fn entry(host: &[u8], exports: &[Vec<u8>]) -> Option<Entry> {
    let mut paths: Vec<Vec<u8>> =
        exports.iter().filter_map(|path| clean(path)).collect::<BTreeSet<_>>().into_iter().collect();
    paths.sort_by_key(Vec::len);
    let host = if host.contains(&b':') { [b"[", host, b"]"].concat() } else { host.to_vec() };
    let part = |path: Vec<u8>| {
        let locations = vec![Location([host.as_slice(), b":", &path].concat())];
        Part { path, options: OptionList::default(), locations }
    };
    let parts: Vec<Part> = paths.into_iter().map(part).collect();
    (!parts.is_empty()).then(|| Entry { options: OptionList::default(), body: Body::Multi(parts) })
}

/// Returns the path of a directory without doubled slashes and without one at the end. Returns `None` for what is no absolute
/// path, or would lead out of the place where it is mounted.
fn clean(path: &[u8]) -> Option<Vec<u8>> {
    if !path.starts_with(b"/") || path.contains(&0) {
        return None;
    }
    let names = || path.split(|&byte| byte == b'/').filter(|name| !name.is_empty());
    if names().any(|name| name == b"." || name == b"..") {
        return None;
    }
    let mut clean = Vec::with_capacity(path.len());
    for name in names() {
        clean.push(b'/');
        clean.extend_from_slice(name);
    }
    if clean.is_empty() {
        clean.push(b'/');
    }
    Some(clean)
}

/// Returns the keys that are listed: of each line of a file like `/etc/hosts` the first name, each once.
pub(super) fn listed(file: &[u8]) -> BTreeSet<Vec<u8>> {
    let name = |line: &[u8]| {
        let line = line.split(|&byte| byte == b'#').next().unwrap_or_default();
        line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).nth(1).map(<[u8]>::to_vec)
    };
    file.split(|&byte| byte == b'\n').filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(host: &str, exports: &[&str]) -> Option<String> {
        let exports: Vec<Vec<u8>> = exports.iter().map(|path| path.as_bytes().to_vec()).collect();
        entry(host.as_bytes(), &exports).map(|entry| String::from_utf8(entry.to_bytes()).unwrap())
    }

    #[test]
    fn shorter_paths_come_first_and_each_once() {
        let exports = ["/y/z", "/x", "//x//in/", "/x/", "/", "x", "/a/../b", "/./c", ""];
        assert_eq!(shown("srv1", &exports).unwrap(), "/ srv1:/ /x srv1:/x /y/z srv1:/y/z /x/in srv1:/x/in");
        assert_eq!(shown("srv1", &["x", ".."]), None);
        assert_eq!(shown("fd00::9", &["/x"]).unwrap(), "/x [fd00::9]:/x");
    }

    #[test]
    fn the_first_name_of_each_line_is_listed() {
        let file =
            b"127.0.0.1\tlocalhost here\n\n# 1.2.3.4 none\n10.0.0.1 srv2 # srv3\n10.0.0.2 srv1 alias\n::1 localhost\nx";
        let names: Vec<_> = listed(file).into_iter().map(|name| String::from_utf8(name).unwrap()).collect();
        assert_eq!(names, ["localhost", "srv1", "srv2"]);
    }

    #[test]
    fn thirty_thousand_exports_are_as_many_parts() {
        let exports: Vec<Vec<u8>> = (0..30_000).map(|n| format!("/export/{n}").into_bytes()).collect();
        let Body::Multi(parts) = entry(b"srv1", &exports).unwrap().body else { panic!("no multi-mount") };
        assert_eq!(parts.len(), 30_000);
    }
}
