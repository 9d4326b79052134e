//! The domain that a DN of `dc=` components means, for servers that the DNS knows.

/// Returns the domain of `dc=a,dc=b`: `a.b`. The DN may be percent-encoded, as in a URL. Returns `None` if the DN has other components, or a name that no domain has.
pub fn domain(dn: &[u8]) -> Option<String> {
    let label = |part: &[u8]| {
        let (name, value) = part.split_at_checked(memchr::memchr(b'=', part)?)?;
        let value = value.get(1..)?.trim_ascii();
        let is_label = |b: &u8| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_';
        let fits = name.trim_ascii().eq_ignore_ascii_case(b"dc") && !value.is_empty() && value.iter().all(is_label);
        fits.then(|| String::from_utf8_lossy(value).into_owned())
    };
    let labels: Option<Vec<String>> = decode(dn).split(|&b| b == b',').map(label).collect();
    labels.map(|labels| labels.join("."))
}

/// Decodes `%XX`. Anything else stays as it is.
fn decode(text: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (mut rest, mut decoded) = (text, Vec::with_capacity(text.len()));
    while let [first, after @ ..] = rest {
        let byte = match after {
            [high, low, ..] if *first == b'%' => digit(*high).zip(digit(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        decoded.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::domain;

    #[test]
    fn domains_of_dns() {
        assert_eq!(domain(b"dc=example,dc=com").as_deref(), Some("example.com"));
        assert_eq!(domain(b"DC = ex").as_deref(), Some("ex"));
        assert_eq!(domain(b"dc%3Dexample%2cdc=com").as_deref(), Some("example.com"));
        for none in ["", "dc=a%00", "dc=%", "dc=a%2", "ou=x,dc=ex", "dc=", "dc=a b", "dc=a..b,dc=c\0"] {
            assert_eq!(domain(none.as_bytes()), None, "{none}");
        }
    }
}
