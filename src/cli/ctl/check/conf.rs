//! Settings of autofs.conf that are valid, and probably do not have the effect that was meant.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use crate::config::autofs_conf::{self, Section, Setting};
use crate::config::defaults::KEYS;
use crate::map::known;
use crate::sys::path;
use crate::text::{Diagnostic, Escaped, Position};

/// Settings of which every line counts.
const LISTS: [&str; 2] = ["ldap_uri", "search_base"];

/// The settings that describe maps in LDAP, used only together.
const SCHEMA: [&str; 5] =
    ["map_object_class", "entry_object_class", "map_attribute", "entry_attribute", "value_attribute"];

/// Words of `log_options`.
const LOG_OPTIONS: &str = "all debug defaults error fatal info map notice stats user warn warning";

/// Examines autofs.conf, or the file of the init system.
pub(super) fn file(text: &[u8], file: &Arc<Path>) -> Vec<Diagnostic> {
    let (settings, _) = autofs_conf::parse(text, file);
    let mut found = Vec::new();
    if text.starts_with(b"\xef\xbb\xbf") {
        let line = text.split(|&b| b == b'\n').next().unwrap_or_default();
        let message = "a byte order mark belongs to the first line, which is ignored";
        let d = Diagnostic::warning("text::byte-order-mark", Position::new(file, 1, 1), message).length(3);
        found.push(d.help("save the file as UTF-8 without a byte order mark").excerpt(line));
    }
    found.extend(repeated(&settings));
    for setting in &settings {
        match (&setting.section, &*setting.name) {
            (Section::Autofs, "ldap_uri") => found.extend(servers(setting)),
            (Section::Autofs, "search_base") => found.extend(base(setting)),
            (Section::Autofs, "auth_conf_file") => found.extend(login(setting)),
            (Section::Autofs, "master_map_name") => found.extend(master(setting)),
            (Section::Amd | Section::Mount(_), "search_path") => found.extend(directories(setting)),
            (Section::Amd, "log_options") => found.extend(levels(setting)),
            _ => {}
        }
    }
    found.extend(schema(&settings));
    found
}

fn warn(
    setting: &Setting<'_>,
    code: &'static str,
    message: impl Into<String>,
    help: impl Into<String>,
) -> Option<Diagnostic> {
    Some(setting.value_error(code, message).help(help).into_warning())
}

/// Warns of settings that stand twice in a section: only the last line counts.
fn repeated(settings: &[Setting<'_>]) -> Vec<Diagnostic> {
    let mut last: HashMap<(String, &str), u32> = HashMap::new();
    let mut found = Vec::new();
    for setting in settings {
        let section = match &setting.section {
            Section::Autofs if KEYS.iter().any(|key| key.name == setting.name) => String::new(),
            Section::Amd => "amd".to_owned(),
            Section::Mount(point) => Escaped(point).to_string(),
            Section::Autofs | Section::Other(_) => continue,
        };
        if LISTS.contains(&&*setting.name) {
            continue;
        }
        let number = setting.place().line;
        if let Some(earlier) = last.insert((section, &setting.name), number) {
            let message = format!("{} is set a second time", setting.name);
            let help = format!("this line counts, and line {earlier} has no effect: remove one of the two");
            found.push(setting.name_error("conf::twice", message).help(help).into_warning());
        }
    }
    found
}

/// Warns of words that are no addresses of LDAP servers.
fn servers(setting: &Setting<'_>) -> Option<Diagnostic> {
    setting.value.split(u8::is_ascii_whitespace).filter(|uri| !uri.is_empty()).find_map(|uri| {
        let shown = Escaped::start_of(uri);
        let wrong = |message: String, help: String| warn(setting, "conf::ldap-uri", message, help);
        let Some(at) = memchr::memmem::find(uri, b"://") else {
            let is_scheme = |start: &[u8]| matches!(start, b"ldap" | b"ldaps" | b"ldapi");
            let host = match uri.iter().position(|&b| b == b':').and_then(|at| uri.split_at_checked(at)) {
                Some((start, rest)) if is_scheme(start) || rest.starts_with(b":/") => rest.get(1..).unwrap_or(uri),
                _ => uri,
            };
            let host = Escaped::start_of(host.strip_prefix(b"/").unwrap_or(host));
            return wrong(format!("\"{shown}\" is no address of an LDAP server"), format!("write ldap://{host}"));
        };
        let (scheme, rest) = uri.split_at_checked(at)?;
        let rest = rest.get(3..)?;
        let lower = scheme.to_ascii_lowercase();
        if !matches!(&*lower, b"ldap" | b"ldaps" | b"ldapi") {
            let message = format!("\"{}\" is no scheme of LDAP", Escaped::start_of(scheme));
            let help = match known::nearest(&lower, ["ldap", "ldaps", "ldapi"].into_iter()) {
                Some(near) => format!("did you mean {near}://{}?", Escaped::start_of(rest)),
                None => "write ldap://, ldaps:// or ldapi://".to_owned(),
            };
            return wrong(message, help);
        }
        let authority = rest.split(|&b| b == b'/').next().unwrap_or_default();
        if authority.contains(&b',') || (rest.ends_with(b",") && !rest.contains(&b'=')) {
            return wrong("a comma separates no servers".to_owned(), "write a blank in place of the comma".to_owned());
        }
        let host_end = authority.iter().rposition(|&b| b == b']').map_or(0, |at| at + 1);
        let port = authority.get(host_end..)?.split(|&b| b == b':').nth(1);
        let is_port = |port: &[u8]| std::str::from_utf8(port).is_ok_and(|port| port.parse::<u16>().is_ok());
        match port {
            Some(port) if &*lower != b"ldapi" && !is_port(port) => wrong(
                format!("\"{}\" is no port", Escaped::start_of(port)),
                format!("write {}://HOST:389", Escaped(&lower)),
            ),
            _ => None,
        }
    })
}

/// Warns of a text that is no distinguished name.
fn base(setting: &Setting<'_>) -> Option<Diagnostic> {
    let value = setting.value;
    if value.is_empty() || value.contains(&b'=') {
        return None;
    }
    let parts: Vec<String> =
        value.split(|&b| b == b'.').map(|part| format!("dc={}", Escaped::start_of(part))).collect();
    let message = format!("\"{}\" is no distinguished name", Escaped::start_of(value));
    warn(setting, "conf::search-base", message, format!("write {}", parts.join(",")))
}

/// Warns of a file with logins that cannot be read.
fn login(setting: &Setting<'_>) -> Option<Diagnostic> {
    let file = Path::new(OsStr::from_bytes(setting.value));
    let shown = Escaped::path(file);
    if !file.is_absolute() {
        let message = format!("{shown} is not found: the daemon has no directory of its own");
        return warn(setting, "conf::no-file", message, format!("write the whole path: /etc/{shown}"));
    }
    let is_missing = path::stat_untriggered(file).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
    let help = "until it is there, LDAP servers are asked without a login";
    if is_missing { warn(setting, "conf::no-file", format!("there is no file {shown}"), help) } else { None }
}

/// Warns of a file with the master map that is not there.
fn master(setting: &Setting<'_>) -> Option<Diagnostic> {
    let name = setting.value;
    let named = name.strip_prefix(b"file:").unwrap_or(name);
    let file = Path::new(OsStr::from_bytes(named));
    let is_missing = path::stat_untriggered(file).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
    if !file.is_absolute() || !is_missing {
        return None;
    }
    let message = format!("there is no file {}", Escaped::path(file));
    warn(
        setting,
        "conf::no-file",
        message,
        "write the master map there, see auto.master(5); until then nothing is mounted",
    )
}

/// Warns of directories that are not separated by colons.
fn directories(setting: &Setting<'_>) -> Option<Diagnostic> {
    let is_other = |b: &u8| matches!(b, b',' | b';' | b' ');
    let at = setting.value.iter().position(is_other)?;
    let rest = setting.value.get(at..)?.iter().find(|b| !is_other(b));
    if rest != Some(&b'/') {
        return None;
    }
    let parts: Vec<&[u8]> = setting.value.split(is_other).filter(|part| !part.is_empty()).collect();
    let message = "the directories of search_path are separated by colons";
    warn(setting, "conf::value", message, format!("write {}", Escaped::start_of(&parts.join(&b':'))))
}

/// Warns of a misspelt word of `log_options`.
fn levels(setting: &Setting<'_>) -> Option<Diagnostic> {
    setting.value.split(|&b| b == b',').find_map(|word| {
        let lower = word.trim_ascii().to_ascii_lowercase();
        let near = known::nearest(&lower, LOG_OPTIONS.split(' '))?;
        let message = format!("unknown word \"{}\" in log_options", Escaped::start_of(word));
        warn(setting, "conf::value", message, format!("did you mean {near}?"))
    })
}

/// Warns of a description of LDAP maps that is not complete, and is not used because of that.
fn schema(settings: &[Setting<'_>]) -> Option<Diagnostic> {
    let has =
        |name: &&str| settings.iter().any(|s| s.section == Section::Autofs && s.name == **name && !s.value.is_empty());
    let missing: Vec<&str> = SCHEMA.into_iter().filter(|name| !has(name)).collect();
    let first = settings.iter().find(|s| s.section == Section::Autofs && SCHEMA.contains(&&*s.name))?;
    if missing.is_empty() || missing.len() == SCHEMA.len() {
        return None;
    }
    let message = format!("{} is not used: the five settings for a schema of LDAP belong together", first.name);
    let help = format!("set {}, too, or remove all of them; then the schema is found out", missing.join(", "));
    Some(first.name_error("conf::schema", message).help(help).into_warning())
}
