//! Hesiod: file system records in the DNS, and the file that says where they are.

use crate::text::Escaped;

/// `hesiod.conf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// The part of a name after the type of a record.
    pub left: String,
    /// The part after `left`.
    pub right: String,
    /// The classes that are asked, in order.
    pub classes: Vec<Class>,
}

/// A class of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// `IN`.
    Internet,
    /// `HS`.
    Hesiod,
}

impl Configuration {
    /// Parses the content of `hesiod.conf`: lines `lhs=...`, `rhs=...`, `classes=...`. Returns `None` without an `rhs`, which
    /// has no default. Records in the class `IN` are found also where only `HS` is named, as libhesiod finds them.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (mut left, mut right, mut classes) = (String::new(), None, vec![Class::Internet, Class::Hesiod]);
        for line in text.split(|&b| b == b'\n').map(<[u8]>::trim_ascii) {
            let Some(at) = memchr::memchr(b'=', line).filter(|_| !line.starts_with(b"#")) else { continue };
            let (name, value) = (line.get(..at)?.trim_ascii(), line.get(at + 1..)?.trim_ascii());
            let text = String::from_utf8_lossy(value).into_owned();
            match name {
                b"lhs" => left = text,
                b"rhs" => right = Some(text).filter(|text| !text.is_empty()),
                b"classes" => {
                    let class = |word: &str| match word.trim().to_ascii_uppercase().as_str() {
                        "IN" => Some(Class::Internet),
                        "HS" => Some(Class::Hesiod),
                        _ => None,
                    };
                    classes = text.split(',').filter_map(class).collect();
                    if classes == [Class::Hesiod] {
                        classes.push(Class::Internet);
                    }
                }
                _ => {}
            }
        }
        Some(Self { left, right: right?, classes })
    }

    /// Returns the name under which the record of a key is, or `None` if no name can have such a key.
    pub fn name(&self, key: &[u8]) -> Option<String> {
        const LABEL_MAX: usize = 63;
        const NAME_MAX: usize = 253;
        let is_plain = |b: &u8| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_';
        let dot =
            |part: &str| if part.is_empty() || part.starts_with('.') { part.to_owned() } else { format!(".{part}") };
        let is_label = |label: &[u8]| (1..=LABEL_MAX).contains(&label.len()) && label.iter().all(is_plain);
        if !key.split(|&b| b == b'.').all(is_label) {
            return None;
        }
        let name = format!("{}.filsys{}{}", std::str::from_utf8(key).ok()?, dot(&self.left), dot(&self.right));
        (name.len() <= NAME_MAX).then_some(name)
    }
}

/// Returns the entry, as in a Sun map, of the best of the records of a key: the one with the lowest number at its end; one
/// without a number is the worst.
///
/// # Errors
/// The record says what is wrong with the key, or cannot be understood.
pub fn entry(records: &[Vec<u8>]) -> Result<Vec<u8>, String> {
    let words = |record: &[u8]| -> Vec<Vec<u8>> {
        record.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).map(<[u8]>::to_vec).collect()
    };
    let best = records.iter().map(|record| words(record)).min_by_key(|words| priority(words));
    let Some(mut words) = best else { return Err("there is no record".to_owned()) };
    if words.first().is_some_and(|kind| kind.eq_ignore_ascii_case(b"ERR")) {
        let text = words.split_off(1).join(&b' ');
        return Err(Escaped(&text).to_string());
    }
    if priority(&words) != u32::MAX {
        words.pop();
    }
    let bad = || format!("\"{}\" is no file system record", Escaped(&words.join(&b' ')));
    let [kind, rest @ ..] = words.as_slice() else { return Err(bad()) };
    let kind = kind.to_ascii_lowercase();
    let (location, options) = match (kind.as_slice(), rest) {
        (b"nfs", [path, host, options @ ..]) => ([host.as_slice(), b":", path].concat(), options),
        (b"nfs", _) | (_, []) => return Err(bad()),
        (_, [device, options @ ..]) => ([b":", device.as_slice()].concat(), options),
    };
    let mut text = [b"-fstype=", kind.as_slice()].concat();
    // The mount point follows the options, and may stand alone.
    if let Some(options) = options.first().filter(|word| !word.starts_with(b"/")) {
        text.push(b',');
        text.extend_from_slice(match options.as_slice() {
            b"r" => b"ro",
            b"w" => b"rw",
            other => other,
        });
    }
    text.push(b' ');
    for &b in &location {
        // Nothing is a variable or a key here.
        if matches!(b, b'&' | b'$' | b'"' | b'\\' | b'#') {
            text.push(b'\\');
        }
        text.push(b);
    }
    Ok(text)
}

fn priority(words: &[Vec<u8>]) -> u32 {
    let last = words.last().and_then(|word| std::str::from_utf8(word).ok());
    last.and_then(|word| word.parse().ok()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn where_records_are() {
        let conf = Configuration::parse(b"# x\nlhs=.ns\nrhs = .ex\nclasses=HS,in\n").unwrap();
        assert_eq!(conf.classes, [Class::Hesiod, Class::Internet]);
        assert_eq!(conf.name(b"alice").as_deref(), Some("alice.filsys.ns.ex"));
        assert_eq!(conf.name(b"a.b").as_deref(), Some("a.b.filsys.ns.ex"));
        for key in [&b""[..], b".a", b"a.", b"a..b", b"a b", &[b'x'; 64], &b"x.".repeat(126)] {
            assert_eq!(conf.name(key), None);
        }
        assert_eq!(Configuration::parse(b"rhs=.ex\nclasses=HS").unwrap().classes, [Class::Hesiod, Class::Internet]);
        assert_eq!(Configuration::parse(b"rhs=.ex\nclasses=IN").unwrap().classes, [Class::Internet]);
        assert_eq!(Configuration::parse(b"lhs=.ns\n"), None);
        assert_eq!(Configuration::parse(b"rhs=ex").unwrap().name(b"a").unwrap(), "a.filsys.ex");
    }

    #[test]
    fn entries_of_records() {
        let of = |records: &[&str]| {
            let records: Vec<_> = records.iter().map(|record| record.as_bytes().to_vec()).collect();
            entry(&records).map(|text| String::from_utf8(text).unwrap())
        };
        let good = |records: &[&str]| of(records).unwrap();
        assert_eq!(good(&["BIND /srv/a rw /m/a"]), "-fstype=bind,rw :/srv/a");
        assert_eq!(good(&["NFS /export/u srv1 w /m/u"]), "-fstype=nfs,rw srv1:/export/u");
        assert_eq!(good(&["nfs /export/u srv1 r /m/u 2"]), "-fstype=nfs,ro srv1:/export/u");
        assert_eq!(good(&["BIND /b rw /m/a 2", "BIND /a rw /m/a 1", "BIND /c rw /m/a"]), "-fstype=bind,rw :/a");
        assert_eq!(good(&["BIND /a$& /m/a"]), "-fstype=bind :/a\\$\\&");
        assert_eq!(of(&["ERR this locker is gone"]), Err("this locker is gone".to_owned()));
        assert_eq!(of(&["NFS /x"]), Err("\"NFS /x\" is no file system record".to_owned()));
        assert!(of(&[""]).is_err() && of(&[]).is_err());
    }

    proptest! {
        #[test]
        fn no_record_is_too_strange(records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 0..4)) {
            let _ = entry(&records);
        }
    }
}
