//! The domain that a DN of `dc=` components means, for servers that the DNS knows.

/// Returns the domain of `dc=a,dc=b`: `a.b`. Returns `None` if the DN has other components, or a name that no domain has.
pub fn domain(dn: &[u8]) -> Option<String> {
    let label = |part: &[u8]| {
        let (name, value) = part.split_at_checked(memchr::memchr(b'=', part)?)?;
        let value = value.get(1..)?.trim_ascii();
        let is_label = |b: &u8| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_';
        let fits = name.trim_ascii().eq_ignore_ascii_case(b"dc") && !value.is_empty() && value.iter().all(is_label);
        fits.then(|| String::from_utf8_lossy(value).into_owned())
    };
    let labels: Option<Vec<String>> = dn.split(|&b| b == b',').map(label).collect();
    labels.map(|labels| labels.join("."))
}

#[cfg(test)]
mod tests {
    use super::domain;

    #[test]
    fn domains_of_dns() {
        assert_eq!(domain(b"dc=example,dc=com").as_deref(), Some("example.com"));
        assert_eq!(domain(b"DC = ex").as_deref(), Some("ex"));
        for none in ["", "ou=x,dc=ex", "dc=", "dc=a b", "dc=a..b,dc=c\0"] {
            assert_eq!(domain(none.as_bytes()), None, "{none}");
        }
    }
}
