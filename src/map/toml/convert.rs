//! Maps and master maps from Sun format to TOML, and back.

use std::path::Path;
use std::sync::Arc;

use crate::map::Item;
use crate::text::{Diagnostic, Position, Severity};

/// The converted text, or all that cannot be converted.
pub type Converted = Result<String, Vec<Diagnostic>>;

/// Writes the TOML map `text`, the content of `file`, in Sun format.
///
/// # Errors
/// Something in it is wrong, or cannot be said in a Sun map.
pub fn map_to_sun(text: &[u8], file: &Arc<Path>) -> Converted {
    let read = super::lines(text, file);
    let lines: Vec<_> = read.text.split(|&b| b == b'\n').map(<[u8]>::to_vec).zip(read.places).collect();
    let mut diagnostics = read.diagnostics;
    for (number, serves) in &read.wildcards {
        let Some((_, place)) = (*number as usize).checked_sub(1).and_then(|n| lines.get(n)) else { continue };
        let unsaid = |message: &str| Diagnostic::error("convert::wildcard", place.clone(), message);
        if !serves.except.is_empty() {
            let error = unsaid("the wildcards of Sun maps have no exceptions");
            diagnostics.push(error.help("leave out except, or write it into [wildcards] of autofs.toml, for all maps"));
        }
        if serves.pattern.is_some() {
            let error = unsaid(&format!("Sun maps have no patterns as {serves}"));
            diagnostics.push(error.help("write the keys, or * for all keys"));
        }
    }
    to_sun(text, lines, diagnostics)
}

/// Writes the TOML master map `text`, the content of `file`, in Sun format.
///
/// # Errors
/// Something in it is wrong.
pub fn master_to_sun(text: &[u8], file: &Arc<Path>) -> Converted {
    let (items, diagnostics) = super::master::read(text, file);
    let line = |item| match item {
        Item::Entry(entry) => (entry.line(), entry.place),
        Item::Include(include) => ([b"+", &*include.source.word()].concat(), include.place),
    };
    to_sun(text, items.into_iter().map(line).collect(), diagnostics)
}

/// Writes lines with the comments that stand before each of them in the TOML text.
fn to_sun(text: &[u8], lines: Vec<(Vec<u8>, Position)>, diagnostics: Vec<Diagnostic>) -> Converted {
    let Ok(text) = std::str::from_utf8(text) else { return Err(diagnostics) };
    let physical: Vec<&str> = text.lines().map(str::trim).collect();
    let comments = |from: u32, to: u32| -> String {
        let between = physical.iter().skip(from as usize).take(to.saturating_sub(from) as usize);
        between.filter(|line| line.is_empty() || line.starts_with('#')).map(|line| format!("{line}\n")).collect()
    };
    // In the order of the TOML text, each line takes what stands before it.
    let mut places: Vec<u32> = lines.iter().map(|(_, place)| place.line).collect();
    places.sort_unstable();
    places.dedup();
    let mut out = String::new();
    let mut last = 0;
    for (line, place) in &lines {
        // Of the maps of one include, the first.
        if place.line != last {
            let before = places.iter().rev().find(|&&other| other < place.line).copied().unwrap_or(0);
            out.push_str(&comments(before, place.line.saturating_sub(1)));
        }
        last = place.line;
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out.push_str(&comments(places.last().copied().unwrap_or(0), u32::MAX));
    all_or_errors(out, diagnostics)
}

/// Returns `text`, unless there are errors.
pub(super) fn all_or_errors(text: String, diagnostics: Vec<Diagnostic>) -> Converted {
    let is_wrong = diagnostics.iter().any(|d| d.severity == Severity::Error);
    if is_wrong { Err(diagnostics) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::super::{Source, to_toml};
    use super::*;
    use proptest::prelude::*;

    fn file() -> Arc<Path> {
        Path::new("/m").into()
    }

    fn said(wrong: Vec<Diagnostic>) -> Vec<String> {
        wrong.iter().map(ToString::to_string).collect()
    }

    fn map(sun: &str) -> Result<String, Vec<String>> {
        to_toml::map(sun.as_bytes(), &file()).map_err(said)
    }

    fn master(sun: &str) -> Result<String, Vec<String>> {
        to_toml::master(sun.as_bytes(), &file()).map_err(said)
    }

    #[test]
    fn a_map_there_and_back_is_the_same() {
        let sun = "\
# A header.

alice filer:/export/alice
# Two servers.
bob -rw,soft a,b(2):/x c:/y

a\\ b -fstype=cifs,rw ://srv/a\\ b
cd -fstype=iso9660,ro,nosuid,nodev :/dev/sr0
late srv:/a\\:b
joe -fstype=fuse,allow_other sshfs\\#joe@srv\\:/home/joe
src -rw / filer:/src /tools -fstype=bind,ro :/srv/tools /doc filer:/doc
sub -fstype=autofs,browse file:/etc/auto.sub
odd -ro,fstype=tmpfs :odd
gone -null
vars -fstype=$T srv:/$HOST/${KEY}/&
\\*star filer:/star
what? filer:/what
two -ro filer:/a || other:/b
*[passwd] filer:/home/&
* filer:/export/&
# The rest.
+auto.more
+/etc/auto.last
# The end.
";
        let toml = map(sun).unwrap();
        let expected = r##"# The rest.
include = ["auto.more", "/etc/auto.last"]
# A header.

[entries]
alice = "filer:/export/alice"
# Two servers.
bob = { options = "rw,soft", source = ["a,b(2):/x", "c:/y"] }

"a b" = { type = "cifs", options = "rw", source = "//srv/a b" }
cd = { type = "iso9660", options = "ro,nosuid,nodev", source = "/dev/sr0" }
late = "srv:/a:b"
joe = { options = "fstype=fuse,allow_other", source = 'sshfs\#joe@srv\:/home/joe' }
src = { options = "rw", mounts = [{ path = "/", source = "filer:/src" }, { path = "/tools", type = "bind", options = "ro", source = "/srv/tools" }, { path = "/doc", source = "filer:/doc" }] }
sub = { options = "browse", map = "file:/etc/auto.sub" }
odd = { options = "ro,fstype=tmpfs", source = ":odd" }
gone = { hidden = true }
vars = { options = "fstype=$T", source = "srv:/$HOST/${KEY}/&" }
'\*star' = "filer:/star"
'what\?' = "filer:/what"
two = { options = "ro", first = ["filer:/a", "other:/b"] }
"*[passwd]" = "filer:/home/&"
"*" = "filer:/export/&"
# The end.
"##;
        assert_eq!(toml, expected);
        assert_eq!(map_to_sun(toml.as_bytes(), &file()).map_err(said).as_deref(), Ok(sun));
    }

    #[test]
    fn a_master_map_there_and_back_is_the_same() {
        let sun = "\
# A header.
/home file,toml:/etc/auto.home.toml --timeout=300 --mode=0711 nobrowse nobind private --debug -DOS=Linux -rw,soft

# Two direct maps.
/- auto.direct
/- program:/etc/auto\\ prog list ro
+dir:/etc/auto.master.d
/net -hosts -nosuid
/both multi auto.a ro -- yp:b symlink
/gone -null
+auto.master
# The end.
";
        let toml = master(sun).unwrap();
        assert!(toml.starts_with("# A header.\n[[mount_points]]\npath = \"/home\"\nmap = \"file,toml:"), "{toml}");
        assert_eq!(master_to_sun(toml.as_bytes(), &file()).map_err(said).as_deref(), Ok(sun));
    }

    #[test]
    fn what_cannot_be_said_is_told_where_and_why() {
        for (sun, told) in [
            ("+auto.first\na srv:/a\n", "/m:2:1: an entry after an include: in TOML, included maps come after all "),
            ("a srv:/a\na srv:/b\n", "/m:2:1: the key a occurs twice: remove this line"),
            ("* srv:/a\n\\* srv:/b\n* srv:/c\n", "/m:3:1: the key * occurs twice"),
            ("a srv:/a:b\n", "/m:1:1: the line of a cannot be written in TOML: leave it in a Sun map"),
            ("a srv:/a /b srv:/b\n", "/m:1:1: the line of a cannot be written in TOML"),
            ("a srv:\"/a b/&\"\n", "/m:1:3: quotes around \"&\", \"$\" or a backslash cannot be written in TOML"),
            ("a \"\n", "/m:1:3: unmatched \""),
        ] {
            let wrong = map(sun).unwrap_err();
            assert!(wrong.iter().any(|wrong| wrong.starts_with(told)), "{sun}: {wrong:?}");
        }
        for (sun, told) in [
            ("/a multi,amd a -- b\n", "/m:1:1: the line of /a cannot be written in TOML"),
            ("/a files:/x\n", "/m:1:4: "),
        ] {
            let wrong = master(sun).unwrap_err();
            assert!(wrong.iter().any(|wrong| wrong.starts_with(told)), "{sun}: {wrong:?}");
        }
        let wrong = map_to_sun(b"[entries]\na = 5\n", &file()).map_err(said).unwrap_err();
        assert!(wrong[0].starts_with("/m:2:5: an entry is a string or a table"), "{wrong:?}");
        let wrong = map_to_sun(b"[entries]\n\"*\" = { source = \"a:/b\", except = [\"x\"] }\n", &file()).map_err(said);
        assert_eq!(
            wrong.unwrap_err(),
            [
                "/m:2:1: the wildcards of Sun maps have no exceptions: leave out except, or write it into [wildcards] of \
              autofs.toml, for all maps"
            ]
        );
        let wrong = map_to_sun(b"[entries]\n\"p-*[passwd]\" = \"a:/b\"\n", &file()).map_err(said).unwrap_err();
        assert_eq!(wrong, ["/m:2:1: Sun maps have no patterns as p-*[passwd]: write the keys, or * for all keys"]);
        assert_eq!(to_toml::map(b"a srv:/\xff\n", &file()).unwrap_err()[0].code, "convert::utf8");
    }

    proptest! {
        /// What is converted has the entries that it had, and a second time it gives the same.
        #[test]
        fn the_entries_stay(
            keys in proptest::collection::vec("[a-c *#\\\\]{1,3}", 1..4),
            words in proptest::collection::vec("(-ro|-fstype=(nfs|tmpfs|autofs)(,rw)?|:?/?x/?|s:/x|/|a[ \\\\#:\"&$]b){1,2}", 1..4),
        ) {
            let text: String = keys.iter().map(|key| format!("{} {}\n", key, words.join(" "))).collect();
            let Ok(toml) = map(&text) else { return Ok(()) };
            let sun = map_to_sun(toml.as_bytes(), &file()).map_err(said);
            prop_assert!(sun.is_ok(), "{toml}: {sun:?}");
            prop_assert_eq!(map(&sun.unwrap()), Ok(toml));
        }

        #[test]
        fn no_text_is_too_strange(text in "(/m|\\[|#|\\+|-ro|\\PC| |\n|\"){0,40}") {
            for converted in [map(&text), master(&text)].into_iter().flatten() {
                let file = file();
                let source = Source { text: converted.as_bytes(), file: &file };
                let (_, wrong) = source.tables().unwrap();
                prop_assert_eq!(wrong, vec![]);
            }
        }
    }
}
