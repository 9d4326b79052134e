//! LDAP search filters, RFC 4515. Everything that comes from outside is escaped.

use super::percent;
use super::schema::Schema;

/// Appends a value with everything escaped that means something in a filter, and all bytes that are no ASCII text.
fn push_value(filter: &mut Vec<u8>, value: &[u8]) {
    for &b in value {
        match b {
            b'(' | b')' | b'*' | b'\\' | 0 | 1..=0x1f | 0x7f.. => {
                filter.extend_from_slice(format!("\\{b:02X}").as_bytes())
            }
            _ => filter.push(b),
        }
    }
}

/// Returns `(attribute=value)`.
fn equals(attribute: &[u8], value: &[u8]) -> Vec<u8> {
    let mut filter = [b"(", attribute, b"="].concat();
    push_value(&mut filter, value);
    filter.push(b')');
    filter
}

/// Returns the filter with the operator `op` over some filters: `(&(..)(..))`.
fn combine(op: u8, filters: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut all = vec![b'(', op];
    all.extend(filters.into_iter().flatten());
    all.push(b')');
    all
}

/// Returns the filter for maps: with the name `name`, or all that are below a DN that is the map's own. One search finds the
/// maps of all `schemas`.
pub fn map(schemas: &[Schema], name: Option<&[u8]>) -> Vec<u8> {
    let one = |schema: &Schema| {
        let class = equals(b"objectClass", &schema.map_class);
        match name {
            None => class,
            Some(name) => combine(b'&', [class, equals(&schema.map_attribute, name)]),
        }
    };
    match schemas {
        [schema] => one(schema),
        _ => combine(b'|', schemas.iter().map(one)),
    }
}

/// Returns the filter for all entries of a map.
pub fn all_entries(schema: &Schema) -> Vec<u8> {
    equals(b"objectClass", &schema.entry_class)
}

/// Returns the filter for the entries with some keys, and with `wildcard` also for `/` and `*`.
pub fn entries(schema: &Schema, keys: &[&[u8]], wildcard: bool) -> Vec<u8> {
    let spellings = |key: &&[u8]| if schema.has_percent_keys() { percent::spellings(key) } else { vec![key.to_vec()] };
    let mut all: Vec<Vec<u8>> = keys.iter().flat_map(spellings).collect();
    if wildcard {
        all.extend([b"/".to_vec(), b"*".to_vec()]);
    }
    let all = all.iter().map(|key| equals(&schema.key, key));
    combine(b'&', [all_entries(schema), combine(b'|', all)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(filter: &[u8]) -> &str {
        std::str::from_utf8(filter).unwrap()
    }

    #[test]
    fn filters_as_servers_know_them() {
        let [nis, _, bis] = Schema::known().try_into().unwrap();
        assert_eq!(
            text(&entries(&bis, &[b"alice"], true)),
            "(&(objectClass=automount)(|(automountKey=alice)(automountKey=/)(automountKey=\\2A)))"
        );
        assert_eq!(text(&entries(&nis, &[b"A"], false)), "(&(objectClass=nisObject)(|(cn=A)(cn=%A)(cn=%[A])))");
        assert_eq!(
            text(&entries(&bis, &[b"a", b"*"], false)),
            "(&(objectClass=automount)(|(automountKey=a)(automountKey=\\2A)))"
        );
        assert_eq!(text(&map(&[bis], Some(b"auto.m"))), "(&(objectClass=automountMap)(automountMapName=auto.m))");
        assert_eq!(text(&map(&[nis.clone(), nis], None)), "(|(objectClass=nisMap)(objectClass=nisMap))");
    }

    proptest! {
        /// Whatever the key is, the filter has the same structure.
        #[test]
        fn no_key_changes_the_filter(key in prop::collection::vec(any::<u8>(), 1..20)) {
            let schema = Schema::known().pop().unwrap();
            let count = |filter: &[u8], byte| filter.iter().filter(|b| **b == byte).count();
            let (plain, filter) = (entries(&schema, &[b"x"], true), entries(&schema, &[&key], true));
            for byte in [b'(', b')', b'*'] {
                prop_assert_eq!(count(&plain, byte), count(&filter, byte));
            }
            prop_assert!(filter.is_ascii());
        }
    }
}
