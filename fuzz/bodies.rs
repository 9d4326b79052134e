//! What is done with arbitrary bytes, one function for each fuzz target. `tests/fuzz_bodies.rs` runs the same functions on
//! the corpus and on random bytes, with any toolchain.
//!
//! A body panics when something does not hold. That nothing panics, overflows or hangs is checked by running it.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use autofs::config::{AutofsConf, Native, Nsswitch};
use autofs::control::Call;
use autofs::control::protocol::{self, Frames};
use autofs::directory;
use autofs::directory::auth::{Auth, Method};
use autofs::keeper;
use autofs::link::Message;
use autofs::link::journal::{self, Journal};
use autofs::map::expand::expand;
use autofs::map::{
    Format, Item, Macros, Scope, Table, amd as am_utils, fstab as fstab_map, master, program, sun, toml,
};
use autofs::rpc::{self, Records, mountd, rpcbind, yp};
use autofs::source::{Index, Mode};
use autofs::sys::memory::SharedMemory;
use autofs::sys::mountinfo;
use autofs::sys::packet::{self, Packet};
use autofs::text::{Diagnostic, Position, lines, render};

/// A body, by the name of its target.
pub(crate) type Body = (&'static str, fn(&[u8]));

/// All of them.
pub(crate) const BODIES: &[Body] = &[
    ("map_lines", map_lines),
    ("master_map", master_map),
    ("amd", amd),
    ("autofs_conf", autofs_conf),
    ("packet", packet),
    ("rpc", rpc),
    ("control", control),
    ("handover", handover),
    ("journal", journal),
    ("program_output", program_output),
    ("toml_map", toml_map),
    ("fstab", fstab),
    ("lookup", lookup),
    ("ldap_auth", ldap_auth),
    ("dns", dns),
    ("stored_map", stored_map),
];

fn file() -> Arc<Path> {
    Path::new("/etc/auto.fuzz").into()
}

/// A diagnostic can be shown, and points into the text.
fn can_be_shown(diagnostics: &[Diagnostic], text: &[u8]) {
    let lines = text.iter().filter(|&&byte| byte == b'\n').count() + 1;
    for d in diagnostics {
        assert!(d.place.line as usize <= lines, "{d} is behind the end");
        assert!(!render(d, false).is_empty());
        assert!(!d.to_string().contains(|c: char| c.is_control()), "{d:?} could forge a log line");
    }
}

/// A file map: its lines, its index, and each entry expanded and parsed; what is printed of an entry means the same.
pub(crate) fn map_lines(text: &[u8]) {
    let file = file();
    let said: Vec<_> = lines::lines(text, &file).filter_map(Result::err).collect();
    can_be_shown(&said, text);
    for mode in [Mode::Indirect, Mode::Direct] {
        let Some(index) = Index::build(&file, text.to_vec(), mode) else { continue };
        can_be_shown(index.diagnostics(), text);
        for offset in index.offsets() {
            let key = index.key(offset).expect("an offset of the index has a key");
            assert!(index.find(&key).is_some(), "a key of the index is not found");
            let raw = index.entry(offset).expect("an offset of the index has an entry");
            entry(raw.text.as_ref(), &key);
        }
    }
    entry(text, b"key");
}

/// A map in TOML: it becomes one line for each place, and each entry is parsed like one of a Sun map.
pub(crate) fn toml_map(text: &[u8]) {
    let file = file();
    let lines = toml::lines(text, &file);
    can_be_shown(&lines.diagnostics, text);
    assert_eq!(lines.text.iter().filter(|&&byte| byte == b'\n').count(), lines.places.len());
    for mode in [Mode::Indirect, Mode::Direct] {
        let Some(index) = Index::of_lines(&file, toml::lines(text, &file), mode) else { continue };
        can_be_shown(index.diagnostics(), text);
        for offset in index.offsets() {
            let key = index.key(offset).expect("an offset of the index has a key");
            let raw = index.entry(offset).expect("an offset of the index has an entry");
            assert!(lines.places.contains(&raw.place), "{} is no place of an entry", raw.place);
            entry(raw.text.as_ref(), &key);
        }
    }
}

/// fstab as a direct map: as a map in TOML.
pub(crate) fn fstab(text: &[u8]) {
    let file = file();
    let lines = fstab_map::lines(text, &file);
    can_be_shown(&lines.diagnostics, text);
    assert_eq!(lines.text.iter().filter(|&&byte| byte == b'\n').count(), lines.places.len());
    let Some(index) = Index::of_lines(&file, fstab_map::lines(text, &file), Mode::Direct) else { return };
    can_be_shown(index.diagnostics(), text);
    for offset in index.offsets() {
        let key = index.key(offset).expect("an offset of the index has a key");
        let raw = index.entry(offset).expect("an offset of the index has an entry");
        assert!(lines.places.contains(&raw.place), "{} is no place of an entry", raw.place);
        entry(raw.text.as_ref(), &key);
    }
    for (place, _) in fstab_map::of_systemd(text, &file) {
        assert!(place.line as usize <= text.split(|&byte| byte == b'\n').count(), "{place} is behind the end");
    }
}

/// The output of a program map: its entry is parsed like one of a file, and what follows a complete one does not count. Keys
/// that it lists can be keys.
pub(crate) fn program_output(output: &[u8]) {
    for format in [Format::Sun, Format::Amd] {
        let found = program::entry(output, b"key", format);
        if program::is_complete(output) {
            assert_eq!(found, program::entry(&[output, b"more\n"].concat(), b"key", format), "{format:?}");
        }
        if let Some(text) = found {
            assert!(!text.trim_ascii().is_empty(), "a blank entry");
            entry(&text, b"key");
        }
    }
    for (direct, key) in
        [true, false].into_iter().flat_map(|d| program::keys(output, d).into_iter().map(move |k| (d, k)))
    {
        assert_eq!(key.contains(&b'/'), direct, "{}", key.escape_ascii());
        assert!(!key.is_empty() && !key.iter().any(u8::is_ascii_control), "{}", key.escape_ascii());
    }
}

fn entry(text: &[u8], key: &[u8]) {
    let place = Position::whole(&file());
    let expanded = expand(text, key, &|_| None, true);
    if let Ok(entry) = sun::parse(&expanded, &place, &mut Vec::new()) {
        let printed = entry.to_bytes();
        let again = sun::parse(&expand(&printed, key, &|_| None, true), &place, &mut Vec::new());
        assert_eq!(again.as_ref(), Ok(&entry), "printed as {}", printed.escape_ascii());
    }
}

/// An entry of am-utils, with the part before the first newline as the defaults of its map: whatever it asks is answered,
/// with no and with yes.
pub(crate) fn amd(text: &[u8]) {
    let place = Position::new(&file(), 1, 1);
    let split = text.iter().position(|&byte| byte == b'\n');
    let (defaults, text) = split.map_or((None, text), |at| (Some(&text[..at]), &text[at + 1..]));
    let defaults = defaults.and_then(|text| am_utils::parse(text, &place).ok());
    let entry = match am_utils::parse(text, &place) {
        Ok(entry) => entry,
        Err(d) => return can_be_shown(&[d], text),
    };
    let (globals, settings) = (Macros::default(), am_utils::Settings::default());
    let scope = Scope { globals: &globals, defines: &[], user: None };
    for yes in [false, true] {
        let mut answers = am_utils::Answers::default();
        for round in 0.. {
            let (key, path, map) = (b"key".as_slice(), b"/mnt/key".as_slice(), b"/etc/map".as_slice());
            let (scope, settings, answers_now) = (&scope, &settings, answers.clone());
            let request =
                am_utils::Request { key, path, map, kind: None, scope, settings, answers: &answers_now, all: yes };
            let evaluated = match am_utils::evaluate(&entry, defaults.as_ref(), &request) {
                Ok(evaluated) => evaluated,
                Err(d) => return can_be_shown(&[d], text),
            };
            can_be_shown(&evaluated.warnings, text);
            if evaluated.needed.is_empty() {
                break;
            }
            assert!(round < 4, "questions without an end: {:?}", evaluated.needed);
            for question in evaluated.needed {
                answers.insert(question, am_utils::Answer::Is(yes));
            }
        }
    }
}

/// A master map, and the table that is made of it.
pub(crate) fn master_map(text: &[u8]) {
    let (items, said) = master::read(text, &file());
    can_be_shown(&said, text);
    let entries = items.into_iter().filter_map(|item| match item {
        Item::Entry(entry) => Some(entry),
        Item::Include(_) => None,
    });
    let (table, said) = Table::build(entries);
    can_be_shown(&said, text);
    for entry in &table.indirect {
        assert!(entry.mount_point.starts_with(b"/"), "{:?}", entry.mount_point);
    }
}

/// The configuration files: autofs.conf, autofs.toml and nsswitch.conf.
pub(crate) fn autofs_conf(text: &[u8]) {
    let file = file();
    can_be_shown(&AutofsConf::read(Some((&file, text)), None, |_| None).1, text);
    can_be_shown(&AutofsConf::read(None, Some((&file, text)), |_| None).1, text);
    can_be_shown(&Native::parse(text, &file).map_or_else(|errors| errors, |(_, said)| said), text);
    can_be_shown(&toml::master::read(text, &file).1, text);
    match Nsswitch::parse(text, &file) {
        Ok((_, said)) => can_be_shown(&said, text),
        Err(d) => can_be_shown(&[d], text),
    }
}

/// What the kernel sends, and the mount table that it shows.
pub(crate) fn packet(bytes: &[u8]) {
    let mut padded = [0; packet::SIZE];
    let length = bytes.len().min(padded.len());
    padded[..length].copy_from_slice(&bytes[..length]);
    for bytes in [bytes, &padded[..]] {
        if let Ok(packet) = Packet::decode(bytes) {
            let name = packet.request().name;
            assert!(!name.is_empty() && name.len() < 256 && !name.contains(&0), "{name:?}");
            // The kernel sends no `/`, `.` or `..`. `exec::place` refuses keys that are no file name.
        }
    }
    for mount in mountinfo::parse(bytes) {
        _ = mount.autofs();
        _ = mount.path();
    }
}

/// What a server sends: a stream of messages, however it is cut, and a message with each kind of results. The reply to the
/// call with the transaction ID that the first four bytes say.
pub(crate) fn rpc(bytes: &[u8]) {
    const LIMIT: usize = 4096;
    let messages = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut records, mut messages) = (Records::new(LIMIT), Vec::new());
        for piece in pieces {
            records.push(piece);
            loop {
                match records.message() {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => break,
                    Err(_) => return messages,
                }
            }
        }
        messages
    };
    let whole = messages(&mut std::iter::once(bytes));
    assert_eq!(whole, messages(&mut bytes.chunks(3)));
    for message in whole.iter().map(Vec::as_slice).chain([bytes]) {
        assert!(message.len() <= LIMIT.max(bytes.len()));
        let Some(xid) = message.first_chunk::<4>() else { continue };
        let Ok(results) = rpc::reply(message, u32::from_be_bytes(*xid)) else { continue };
        _ = rpcbind::port(results);
        assert_ne!(rpcbind::address_port(results), Ok(Some(0)));
        _ = (yp::value(results), yp::pair(results), yp::order(results), yp::master(results));
        for (_, port) in yp::binding(results).ok().flatten().into_iter().chain(yp::binding_file(results)) {
            assert_ne!(port, 0);
        }
        if let Ok(pairs) = yp::pairs(results) {
            assert!(pairs.iter().map(|(key, value)| key.len() + value.len() + 16).sum::<usize>() < results.len());
        }
        if let Ok(exports) = mountd::exports(results) {
            assert!(exports.iter().map(|path| path.len() + 8).sum::<usize>() < results.len());
        }
    }
}

/// The protocol with lookup processes: however the bytes arrive, messages are cut in the same way; what was read can be written.
pub(crate) fn lookup(bytes: &[u8]) {
    let messages = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut frames, mut messages) = (directory::Frames::default(), Vec::new());
        for piece in pieces {
            frames.push(piece);
            while let Ok(Some(message)) = frames.take() {
                messages.push(message);
            }
        }
        messages
    };
    let whole = messages(&mut std::iter::once(bytes));
    assert_eq!(whole, messages(&mut bytes.chunks(3)));
    for message in whole.iter().map(Vec::as_slice).chain([bytes]) {
        if let Ok(request) = directory::Request::parse(message) {
            let frame = request.frame().expect("what came in a frame fits into one");
            assert_eq!(directory::Request::parse(&frame[4..]), Ok(request));
        }
        if let Ok((id, reply)) = directory::Reply::parse(message) {
            // Bytes that are no UTF-8 are replaced by longer ones.
            if !matches!(reply, directory::Reply::Failed(..)) {
                assert_eq!(directory::Reply::parse(&reply.frame(id)[4..]), Ok((id, reply)));
            }
        }
    }
}

/// `autofs_ldap_auth.conf`: a simple login has a password, an error says something.
pub(crate) fn ldap_auth(text: &[u8]) {
    match Auth::parse(text) {
        Ok(auth) => assert!(!matches!(auth.method, Method::Simple) || auth.has_password()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Answers of the DNS, with servers or with Hesiod records.
pub(crate) fn dns(message: &[u8]) {
    if let Some(servers) = directory::dns::servers(message) {
        assert!(servers.iter().all(|server| !server.host.is_empty()));
        assert!(servers.windows(2).all(|two| two[0].priority <= two[1].priority));
    }
    if let Some(texts) = directory::dns::texts(message) {
        _ = directory::hesiod::entry(&texts);
    }
}

/// A file of the map cache: what is read can be written, to the same bytes.
pub(crate) fn stored_map(bytes: &[u8]) {
    if let Ok(stored) = directory::Stored::decode(bytes) {
        assert_eq!(stored.encode(), bytes);
    }
    // Behind a checksum that is right, anything may stand.
    let signed = directory::stored::signed(bytes);
    if let Ok(stored) = directory::Stored::decode(&signed) {
        assert_eq!(stored.encode(), signed);
        if let Some(whole) = stored.whole {
            _ = Index::build(&file(), whole, Mode::Indirect);
        }
    }
}

/// The control protocol: however the bytes arrive, messages are cut in the same way; calls read from them can be written.
pub(crate) fn control(bytes: &[u8]) {
    const LIMIT: usize = 4096;
    let messages = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut frames, mut messages) = (Frames::new(LIMIT), Vec::new());
        for piece in pieces {
            frames.push(piece);
            loop {
                match frames.message() {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => break,
                    Err(_) => return messages,
                }
            }
        }
        messages
    };
    let whole = messages(&mut std::iter::once(bytes));
    let pieces = messages(&mut bytes.chunks(3));
    assert_eq!(whole, pieces);
    for message in whole.iter().map(Vec::as_slice).chain([bytes]) {
        if let Ok(protocol::Request { call: Ok(call), .. }) = protocol::decode_request(message) {
            let written = protocol::encode_request(&call).expect("a call that was read can be written");
            let again = protocol::decode_request(written.strip_suffix(b"\0").expect("it ends with NUL"));
            assert_eq!(again.expect("it can be read").call.expect("it is a call"), call);
        }
        for call in [Call::Ping, Call::Status, Call::Mounts] {
            _ = protocol::decode_reply(message, &call);
        }
    }
}

/// The text of a handover between two programs, and the messages of a worker to its keeper.
pub(crate) fn handover(text: &[u8]) {
    let head = format!("autofs-handover 2\npid {}\n", std::process::id());
    _ = keeper::reads_handover(text);
    _ = keeper::reads_handover(&[head.as_bytes(), text].concat());
    if let Some(message) = Message::decode(text) {
        assert_eq!(Message::decode(&message.encode()), Some(message));
    }
}

/// The memory that a worker leaves to the next one. Bytes of the input: where something is written, how much, what.
pub(crate) fn journal(mut bytes: &[u8]) {
    let memory = journal::create().expect("memory");
    let fd = memory.as_fd().try_clone_to_owned().expect("a descriptor");
    let open = || SharedMemory::open(fd.try_clone().expect("a descriptor")).expect("the same memory");
    let file = File::from(fd.try_clone().expect("a descriptor"));
    let size = file.metadata().expect("its size").len();
    while let [high, low, length, rest @ ..] = bytes {
        let (data, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        let at = u64::from(u16::from_be_bytes([*high, *low])) * 97 % (size - 256);
        file.write_all_at(data, at).expect("the memory is not sealed against writes");
        bytes = rest;
    }
    for spared in [false, true] {
        let (mut journal, unanswered) = Journal::open(open(), spared);
        for request in &unanswered {
            _ = journal.begin(request.slot);
            _ = Packet::decode(&journal.packet(request.slot));
            _ = journal.pipe(request.slot);
        }
        journal.remember(Path::new("/mnt/a"), 1, 2);
        assert!(matches!(journal.requester(Path::new("/mnt/a")), None | Some((1, 2))));
        journal.forget(Path::new("/mnt/a"));
        if spared {
            for request in &unanswered {
                journal.clear(request.slot);
            }
        }
    }
    assert!(Journal::open(open(), false).1.is_empty(), "an answered request is found again");
}
