//! Output of program maps: the entry of a key, or the list of keys.

use super::key;
use super::spec::Format;
use crate::text::quote;

/// Returns the entry in the output of a program, or `None` if there is none.
///
/// The entry is the first line after leading white space, as it would follow the key in a file map. A backslash at the end
/// of a line continues it on the next one; any other backslash stays for the reader of the format. What comes after that line
/// is ignored. In amd format the line repeats the key, which is left out here.
pub fn entry(output: &[u8], key: &[u8], format: Format) -> Option<Vec<u8>> {
    let start = output.iter().position(|&b| !is_space(b))?;
    let line = first_line(output.get(start..)?);
    let entry = match format {
        Format::Amd => without_key(&line, key)?,
        Format::Sun | Format::Hesiod | Format::Toml | Format::Fstab => &line,
    };
    Some(entry.to_vec()).filter(|entry| !entry.trim_ascii().is_empty())
}

/// Returns whether the first line of `output` has ended, so that no more of it needs to be read.
pub fn is_complete(output: &[u8]) -> bool {
    let mut rest = output.iter().skip_while(|b| is_space(**b));
    while let Some(&byte) = rest.next() {
        match byte {
            b'\n' => return true,
            b'\\' => drop(rest.next()),
            _ => {}
        }
    }
    false
}

/// Returns the text up to the first newline that no backslash precedes, continued lines joined by a blank.
fn first_line(text: &[u8]) -> Vec<u8> {
    let mut line = Vec::with_capacity(text.len().min(512));
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\n' => break,
            b'\\' => match bytes.next() {
                Some(b'\n') => line.push(b' '),
                next => line.extend([b'\\'].into_iter().chain(next)),
            },
            _ => line.push(byte),
        }
    }
    if line.ends_with(b"\r") {
        line.pop();
    }
    line
}

/// Returns what follows the key, if the line begins with it.
fn without_key<'a>(line: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let (word, rest) = line.split_at(quote::word(line, is_space));
    (crate::text::unquote(word).as_ref() == key).then(|| rest.trim_ascii_start())
}

/// Returns the keys that a program lists: the first word of each line, spelled as in a file map. Empty lines and those
/// that begin with `#` are no keys, nor is what cannot be one: with `direct`, all but absolute paths, else all that has a
/// slash. Wildcards are left out.
pub fn keys(output: &[u8], direct: bool) -> Vec<Vec<u8>> {
    let fits = |key: &[u8]| match direct {
        true => key.starts_with(b"/") && key.len() > 1,
        false => !key.contains(&b'/') && !matches!(key, b"*" | b"." | b".."),
    };
    let lines = output.split(|&b| b == b'\n').map(<[u8]>::trim_ascii);
    let words = lines.filter(|line| !line.is_empty() && !line.starts_with(b"#"));
    let words = words.filter_map(|line| line.get(..quote::word(line, is_space)));
    words.filter_map(|word| key::unescape(word).ok()).filter(|key| fits(key)).map(|key| key.into_owned()).collect()
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_line_is_the_entry() {
        let cases: &[(&str, Option<&str>)] = &[
            ("srv:/x\n", Some("srv:/x")),
            ("srv:/x", Some("srv:/x")),
            ("-ro srv:/one\nsrv:/two\n", Some("-ro srv:/one")),
            ("\n\n   \t-ro srv:/x\r\n", Some("-ro srv:/x")),
            ("srv:/a\\ \n", Some("srv:/a\\ ")),
            ("-ro \\\n /a srv:/a\\\n /b srv:/b\nrest", Some("-ro   /a srv:/a  /b srv:/b")),
            ("srv:/a\\ b \\\\\nnext", Some("srv:/a\\ b \\\\")),
            ("srv:/x\\", Some("srv:/x\\")),
            ("", None),
            ("  \n \n", None),
            ("\\\n", None),
        ];
        for (output, expected) in cases {
            let found = entry(output.as_bytes(), b"key", Format::Sun);
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{output:?}");
        }
    }

    #[test]
    fn an_amd_program_repeats_the_key() {
        let amd = |output: &[u8], key: &[u8]| entry(output, key, Format::Amd);
        assert_eq!(amd(b"home type:=link;fs:=/srv\n", b"home").unwrap(), b"type:=link;fs:=/srv");
        assert_eq!(amd(b"\"a b\"\ttype:=auto", b"a b").unwrap(), b"type:=auto");
        assert_eq!(amd(b"other type:=link\n", b"home"), None);
        assert_eq!(amd(b"home\n", b"home"), None);
    }

    #[test]
    fn keys_are_the_first_words() {
        let list = b"# all\na\nb  -ro srv:/b\n\n \"c d\"\n*\n/e\nf/g\n..\n";
        assert_eq!(keys(list, false), [&b"a"[..], b"b", b"c d"]);
        assert_eq!(keys(list, true), [&b"/e"[..]]);
    }

    proptest! {
        /// Output that is complete has the same entry whatever follows; an entry is never blank.
        #[test]
        fn what_follows_the_first_line_does_not_count(
            output in proptest::collection::vec(prop_oneof![
                Just(b'\n'), Just(b'\\'), Just(b' '), Just(b'"'), any::<u8>()], 0..40),
            more in proptest::collection::vec(any::<u8>(), 0..10),
        ) {
            let found = entry(&output, b"k", Format::Sun);
            if is_complete(&output) {
                prop_assert_eq!(&found, &entry(&[&output[..], &more].concat(), b"k", Format::Sun));
            }
            if let Some(found) = found {
                prop_assert!(!found.trim_ascii().is_empty());
            }
        }
    }
}
