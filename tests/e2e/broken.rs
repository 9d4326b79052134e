//! Broken inputs: each costs only itself, and the log says where it stands and what is wrong.

use std::path::Path;

use nix::errno::Errno;

use super::common::daemon::Daemon;
use super::common::site;
use super::common::world::put;
use super::common::{table, visit};

/// Where the broken text goes.
#[derive(Clone, Copy)]
enum In {
    /// `/etc/autofs.conf`.
    Conf,
    /// `/etc/autofs.toml`.
    Toml,
    /// `/etc/nsswitch.conf`.
    Nsswitch,
    /// Before the good line of `/etc/auto.master`. What it names is `/mnt/bad`, and must not be there.
    Master,
    /// Before the good line of `/etc/auto.one`. What it names is `bad`, and must not be served.
    Map,
    /// Before the good line of a direct map `/etc/auto.direct`.
    Direct,
}

impl In {
    fn file(self) -> &'static str {
        match self {
            Self::Conf => "/etc/autofs.conf",
            Self::Toml => "/etc/autofs.toml",
            Self::Nsswitch => "/etc/nsswitch.conf",
            Self::Master => "/etc/auto.master",
            Self::Map => "/etc/auto.one",
            Self::Direct => "/etc/auto.direct",
        }
    }
}

/// Name, place, text, and the `line:` or `line:column:` that the log must name after the file; empty: nothing to say.
type Broken = (&'static str, In, &'static [u8], &'static str);

const ALL: &[Broken] = &[
    ("conf_no_number", In::Conf, b"[ autofs ]\ntimeout = soon\n", "2:11:"),
    ("conf_number_with_a_tail", In::Conf, b"[ autofs ]\numount_wait = 12s\n", "2:15:"),
    ("conf_neither_yes_nor_no", In::Conf, b"[ autofs ]\nbrowse_mode = perhaps\n", "2:15:"),
    ("conf_unknown_level", In::Conf, b"[ autofs ]\nlogging = loud\n", "2:11:"),
    ("conf_unknown_key", In::Conf, b"[ autofs ]\ntiemout = 5\n", "2:1:"),
    ("conf_no_value", In::Conf, b"[ autofs ]\ntimeout\n", "2:"),
    ("conf_section_not_closed", In::Conf, b"[ autofs\ntimeout = 5\n", "1:"),
    ("conf_unknown_section", In::Conf, b"[ automount ]\ntimeout = 5\n", "2:1:"),
    ("conf_no_text", In::Conf, b"[ autofs ]\nlogging = \xff\xfe\x00\n", "2:11:"),
    ("toml_syntax", In::Toml, b"[mount\nmethod = \"auto\"\n", "1:"),
    ("toml_unknown_value", In::Toml, b"[mount]\nmethod = \"magic\"\n", "2:10:"),
    ("toml_unknown_key", In::Toml, b"[mount]\nmehtod = \"auto\"\n", "2:1:"),
    ("toml_wrong_type", In::Toml, b"[mount]\nmethod = 5\n", "2:10:"),
    ("toml_no_text", In::Toml, b"[mount]\nmethod = \"\xff\"\n", "2:"),
    ("nsswitch_unknown_action", In::Nsswitch, b"automount: files [NOTFOUND=explode]\n", "1:"),
    ("nsswitch_not_closed", In::Nsswitch, b"hosts: files\nautomount: files [NOTFOUND=return\n", "2:"),
    ("nsswitch_unknown_source", In::Nsswitch, b"automount: foo files\n", "1:12:"),
    ("master_no_map", In::Master, b"/mnt/bad\n", "1:"),
    ("master_relative", In::Master, b"mnt/bad /etc/auto.one\n", "1:1:"),
    ("master_root", In::Master, b"/ /etc/auto.one\n", "1:1:"),
    ("master_unknown_type", In::Master, b"/mnt/bad fiel:/etc/auto.one\n", "1:10:"),
    ("master_unknown_format", In::Master, b"/mnt/bad file,moon:/etc/auto.one\n", "1:"),
    ("master_timeout_no_number", In::Master, b"/mnt/bad /etc/auto.one --timeout=5m\n", "1:"),
    ("master_timeout_missing", In::Master, b"/mnt/bad /etc/auto.one --timeout\n", "1:"),
    ("master_timeout_huge", In::Master, b"/mnt/bad /etc/auto.one -t 99999999999999999999999\n", "1:"),
    ("master_mode_no_octal", In::Master, b"/mnt/bad /etc/auto.one --mode=999\n", "1:"),
    ("master_owner_no_name", In::Master, b"/mnt/bad /etc/auto.one --owner=-x\n", "1:"),
    ("master_several_maps", In::Master, b"/mnt/bad /etc/auto.one -- auto.more\n", "1:"),
    ("master_quote", In::Master, b"\"/mnt/bad\" /etc/auto.one\n", "1:1:"),
    ("master_quote_not_closed", In::Master, b"\"/mnt/bad /etc/auto.one\n", "1:1:"),
    ("master_empty_include", In::Master, b"+\n", "1:"),
    ("master_missing_include", In::Master, b"# first\n+/etc/no.such\n", "2:"),
    ("master_missing_include_dir", In::Master, b"+dir:/etc/no.such.d\n", "1:"),
    ("master_include_cycle", In::Master, b"+/etc/cycle.a\n", ""),
    ("master_nul", In::Master, b"/mnt/bad\0x /etc/auto.one\n", "1:"),
    ("master_long_path", In::Master, LONG_MOUNT_POINT, "1:"),
    ("master_file_in_the_way", In::Master, b"/etc/hosts/bad /etc/auto.one\n", ""),
    ("master_missing_map", In::Master, b"/mnt/bad /etc/no.such.map\n", ""),
    ("master_below_another", In::Master, b"/mnt/bad /etc/auto.one\n/mnt/bad/below /etc/auto.one\n", ""),
    ("master_backslash_at_the_end", In::Master, b"/mnt/bad\\", ""),
    ("master_duplicate", In::Master, b"/mnt/auto /etc/auto.one\n", "2:1:"),
    ("map_location_begins_with_slash", In::Map, b"bad /x\n", "1:"),
    ("map_quote_not_closed", In::Map, b"bad -fstype=tmpfs \":x\n", "1:"),
    ("map_no_entry", In::Map, b"bad\n", "1:"),
    ("map_blank_entry", In::Map, b"bad   \n", "1:"),
    ("map_no_location", In::Map, b"bad -ro\n", "1:"),
    ("map_no_path", In::Map, b"bad srv1:x\n", "1:"),
    ("map_empty_type", In::Map, b"bad -fstype= :x\n", "1:"),
    ("map_empty_host", In::Map, b"bad srv1,,srv2:/x\n", "1:"),
    ("map_indented_line", In::Map, b"bad -fstype=tmpfs :x\n   junk\n", "1:1:"),
    ("map_star_with_a_tail", In::Map, b"*bad -fstype=tmpfs :x\n", "1:"),
    ("map_long_key", In::Map, LONG_KEY, "1:"),
    ("map_nul", In::Map, b"bad -fstype=tmpfs :x\0y\n", "1:"),
    ("map_missing_include", In::Map, b"+/etc/no.such\n", "1:"),
    ("map_include_of_itself", In::Map, b"+/etc/auto.one\n", ""),
    ("map_submount_without_map", In::Map, b"bad -fstype=autofs file:/etc/no.such\n", ""),
    ("map_offset_without_location", In::Map, b"bad -fstype=tmpfs /a :a /b\n", "1:"),
    ("map_offset_upwards", In::Map, b"bad -fstype=tmpfs /../../etc :x\n", "1:"),
    ("map_only_a_comment", In::Map, b"bad # -fstype=tmpfs :x\n", "1:"),
    ("map_open_brace", In::Map, b"bad ${\n", "1:"),
    ("direct_relative", In::Direct, b"bad -fstype=tmpfs :x\n", "1:1:"),
    ("direct_wildcard", In::Direct, b"* -fstype=tmpfs :x\n", "1:1:"),
    ("direct_root", In::Direct, b"/ -fstype=tmpfs :x\n", "1:1:"),
    ("direct_file_in_the_way", In::Direct, b"/etc/hosts/bad -fstype=tmpfs :x\n", ""),
    ("direct_twice", In::Direct, b"/mnt/good -fstype=tmpfs :good\n", ""),
    ("not_yet_yp", In::Master, b"/mnt/bad yp:auto.home\n", "1:"),
    ("nis_plus", In::Master, b"/mnt/bad nisplus:auto.home\n", "1:"),
    ("not_yet_sss", In::Master, b"/mnt/bad sss:auto.home\n", "1:"),
    ("hesiod_not_set_up", In::Master, b"/mnt/bad hesiod:x\n", "1:"),
];

const LONG_MOUNT_POINT: &[u8] = &long::<5000>(b"/mnt/bad", b" /etc/auto.one\n");
const LONG_KEY: &[u8] = &long::<400>(b"bad", b" -fstype=tmpfs :x\n");

/// `head`, many `x` and `tail`.
const fn long<const N: usize>(head: &[u8], tail: &[u8]) -> [u8; N] {
    let mut text = [b'x'; N];
    let mut i = 0;
    while i < head.len() {
        text[i] = head[i];
        i += 1;
    }
    let mut i = 0;
    while i < tail.len() {
        text[N - tail.len() + i] = tail[i];
        i += 1;
    }
    text
}

/// The names of the tests.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|b| b.0)
}

/// One of them.
pub fn run(name: &str) {
    let (_, place, text, says) = ALL.iter().find(|b| b.0 == name).unwrap();
    let good = |master: &[u8], map: &[u8], direct: &[u8]| {
        put("/etc/auto.master", [master, b"/mnt/auto /etc/auto.one\n/- /etc/auto.direct\n"].concat());
        put("/etc/auto.one", [map, b"good -fstype=tmpfs :good\n"].concat());
        put("/etc/auto.direct", [direct, b"/mnt/good -fstype=tmpfs :good\n"].concat());
    };
    good(b"", b"", b"");
    match place {
        In::Conf | In::Toml | In::Nsswitch => put(place.file(), text),
        In::Master => good(text, b"", b""),
        In::Map => good(b"", text, b""),
        In::Direct => good(b"", b"", text),
    }
    put("/etc/cycle.a", "+/etc/cycle.b\n");
    put("/etc/cycle.b", "+/etc/cycle.a\n");
    if name.contains("backslash") {
        site::master("/mnt/auto /etc/auto.one\n/- /etc/auto.direct\n/mnt/bad\\");
    }

    let daemon = Daemon::serving(&["/mnt/auto", "/mnt/good"]);
    if let In::Map = place {
        visit::refuses("/mnt/auto/bad", Errno::ENOENT);
    }
    visit::serves("/mnt/auto/good");
    visit::serves("/mnt/good");
    if !name.contains("below") {
        assert_eq!(table::below("/mnt/bad"), []);
    }
    assert!(table::autofs("/").is_none());
    if !says.is_empty() {
        daemon.says(&format!("{}:{says}", place.file()));
    }
    assert!(!daemon.log().contains("panicked"));
    daemon.stop();
    assert!(!Path::new("/mnt/bad").exists());
}
