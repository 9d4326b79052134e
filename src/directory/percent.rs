//! Capital letters in keys of RFC 2307, whose key attribute compares without case: `%A` or `%[ABC]` in the directory means
//! capital letters, and `%%` a percent sign.

/// Returns the spellings under which a key may be stored: as it is, with a percent sign before each capital letter, and with
/// brackets around runs of them.
pub fn spellings(key: &[u8]) -> Vec<Vec<u8>> {
    let mut all = vec![key.to_vec()];
    for spelling in [encode(key, false), encode(key, true)] {
        if !all.contains(&spelling) {
            all.push(spelling);
        }
    }
    all
}

fn encode(key: &[u8], brackets: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() * 2);
    let mut rest = key;
    while let Some((&first, behind)) = rest.split_first() {
        let run = rest.iter().take_while(|b| b.is_ascii_uppercase()).count();
        match first {
            b'%' => out.extend_from_slice(b"%%"),
            _ if brackets && run > 0 => {
                let (letters, behind) = rest.split_at_checked(run).unwrap_or((rest, &[]));
                out.extend_from_slice(b"%[");
                out.extend_from_slice(letters);
                out.push(b']');
                rest = behind;
                continue;
            }
            _ if run > 0 => out.extend_from_slice(&[b'%', first]),
            _ => out.push(first),
        }
        rest = behind;
    }
    out
}

/// Returns the key that a stored spelling means. A percent sign before anything else stands for itself.
pub fn decode(stored: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(stored.len());
    let mut rest = stored;
    while let Some((&first, behind)) = rest.split_first() {
        rest = match (first, behind) {
            (b'%', [b'%', after @ ..]) => {
                out.push(b'%');
                after
            }
            (b'%', [b'[', after @ ..]) => match memchr::memchr(b']', after) {
                Some(end) => {
                    out.extend(after.iter().take(end).map(u8::to_ascii_uppercase));
                    after.get(end + 1..).unwrap_or_default()
                }
                None => {
                    out.push(first);
                    behind
                }
            },
            (b'%', [letter, after @ ..]) if letter.is_ascii_alphabetic() => {
                out.push(letter.to_ascii_uppercase());
                after
            }
            _ => {
                out.push(first);
                behind
            }
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spellings_that_are_seen_in_the_field() {
        for (stored, key) in
            [("%Alice", "Alice"), ("%[BOB]", "BOB"), ("%Mc%D", "McD"), ("50%%", "50%"), ("a%[b", "a%[b"), ("x%", "x%")]
        {
            assert_eq!(decode(stored.as_bytes()), key.as_bytes(), "{stored}");
        }
        let of = |key: &str| spellings(key.as_bytes()).into_iter().map(|s| String::from_utf8(s).unwrap());
        assert_eq!(of("McD").collect::<Vec<_>>(), ["McD", "%Mc%D", "%[M]c%[D]"]);
        assert_eq!(of("alice").collect::<Vec<_>>(), ["alice"]);
        assert_eq!(of("50%").collect::<Vec<_>>(), ["50%", "50%%"]);
    }

    proptest! {
        #[test]
        fn every_encoded_spelling_means_its_key(key in "[A-Za-z0-9.%-]{0,20}") {
            for spelling in spellings(key.as_bytes()).iter().skip(1) {
                prop_assert_eq!(decode(spelling), key.as_bytes());
            }
        }
    }
}
