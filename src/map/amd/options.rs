//! Mount options of am-utils entries: what has no meaning here is left out, and `addopts` are merged.

use crate::map::OptionList;

/// Options for the mount and for the automounter, read from `opts:=`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Sorted {
    /// For the mount.
    pub(super) mount: OptionList,
    /// Words without effect.
    pub(super) ignored: Vec<Vec<u8>>,
    /// `utimeout=`: seconds.
    pub(super) timeout: Option<u64>,
    /// `nounmount`: it stays mounted.
    pub(super) never: bool,
    /// A word that is no option.
    pub(super) invalid: Option<Vec<u8>>,
}

/// Sorts the words of an option list.
pub(super) fn sort(text: &[u8]) -> Sorted {
    let mut sorted = Sorted::default();
    for word in text.split(|&b| b == b',').map(<[u8]>::trim_ascii).filter(|word| !word.is_empty()) {
        let mut parts = word.splitn(2, |&b| b == b'=');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next());
        match name {
            b"ping" | b"retry" | b"public" | b"softlookup" | b"xlatecookie" | b"fullybrowsable" => {
                sorted.ignored.push(word.to_vec());
            }
            b"nounmount" => sorted.never = true,
            b"utimeout" => {
                let seconds = value.and_then(|v| std::str::from_utf8(v).ok()).and_then(|v| v.parse().ok());
                match seconds {
                    Some(seconds) => sorted.timeout = Some(seconds),
                    None => sorted.invalid = Some(word.to_vec()),
                }
            }
            _ if is_name(name) => sorted.mount.push(word),
            _ => sorted.invalid = Some(word.to_vec()),
        }
    }
    sorted
}

fn is_name(name: &[u8]) -> bool {
    let starts = name.first().is_some_and(u8::is_ascii_alphanumeric);
    starts && name.iter().all(|&b| b.is_ascii_alphanumeric() || b"_-.:+".contains(&b))
}

/// Adds `added` to `options`, where it replaces options of the same name and the opposite ones.
pub(super) fn merge(options: &OptionList, added: &OptionList) -> OptionList {
    let added_stems: Vec<&[u8]> = added.words().map(stem).collect();
    let mut merged = options.filter(|word| !added_stems.contains(&stem(word)));
    merged.push(added.as_bytes());
    merged
}

/// Returns what an option has in common with its opposite.
fn stem(word: &[u8]) -> &[u8] {
    let name = word.split(|&b| b == b'=').next().unwrap_or_default();
    match name {
        b"rw" => b"ro",
        b"fg" => b"bg",
        b"hard" => b"soft",
        _ => match name.strip_prefix(b"no") {
            Some(rest) if rest.len() > 1 => rest,
            _ => name,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_for_the_mount_or_for_the_automounter() {
        let sorted = sort(b"rw,ping=5,timeo=7, nosuid,utimeout=60,nounmount,sec=krb5:sys,retry=3,");
        assert_eq!(sorted.mount.as_bytes(), b"rw,timeo=7,nosuid,sec=krb5:sys");
        assert_eq!(sorted.ignored.concat(), b"ping=5retry=3");
        assert_eq!((sorted.timeout, sorted.never, sorted.invalid), (Some(60), true, None));
        assert_eq!(sort(b"ro,;x").invalid.as_deref(), Some(&b";x"[..]));
        assert_eq!(sort(b"utimeout=5m").invalid.as_deref(), Some(&b"utimeout=5m"[..]));
    }

    #[test]
    fn added_options_replace_their_opposites() {
        for (options, added, want) in [
            ("rw,soft,bg", "ro", "soft,bg,ro"),
            ("rw,intr,timeo=7", "nointr,timeo=9", "rw,nointr,timeo=9"),
            ("hard,fg", "soft,bg", "soft,bg"),
            ("ro", "", "ro"),
            ("", "nodev", "nodev"),
            ("nodev,nfsvers=3", "dev", "nfsvers=3,dev"),
        ] {
            let merged = merge(&OptionList::parse(options.as_bytes()), &OptionList::parse(added.as_bytes()));
            assert_eq!(merged.as_bytes(), want.as_bytes(), "{options} + {added}");
        }
    }
}
