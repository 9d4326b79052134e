//! Whether anything has changed in a directory: the change sequence numbers that OpenLDAP and others keep at the top of a database.

use std::time::Duration;

use crate::sys::ldap::{Connection, Entry, LdapError, Search};

/// Returns the change sequence numbers of the database that has the entry `dn`. `None`: the server has none, or does not show
/// them.
///
/// # Errors
/// The connection is lost, or the server does not answer in time.
pub(super) fn of(connection: &mut Connection, dn: &[u8], within: Duration) -> Result<Option<Vec<u8>>, LdapError> {
    let contexts = values(connection, b"", b"namingContexts", within)?;
    let Some(context) = contexts.into_iter().filter(|context| is_below(dn, context)).max_by_key(Vec::len) else {
        return Ok(None);
    };
    let mut numbers = values(connection, &context, b"contextCSN", within)?;
    // Each server that can be written to has its own; their order means nothing.
    numbers.sort_unstable();
    Ok(if numbers.is_empty() { None } else { Some(numbers.join(&b' ')) })
}

/// Returns the values of an attribute of one entry; none if the server refuses.
fn values(
    connection: &mut Connection,
    dn: &[u8],
    attribute: &[u8],
    within: Duration,
) -> Result<Vec<Vec<u8>>, LdapError> {
    let search =
        Search { base: Some(dn), only_base: true, filter: b"(objectClass=*)", attributes: &[attribute], within };
    match connection.search(&search) {
        Ok(found) => {
            let of_entry = |entry: Entry| entry.values.into_iter().next();
            Ok(found.entries.into_iter().next().and_then(of_entry).unwrap_or_default())
        }
        Err(error) if error.is_lost() || error.is_timeout() => Err(error),
        Err(_) => Ok(Vec::new()),
    }
}

/// Returns whether `dn` is `context` or below it. Both are written as the server writes them.
fn is_below(dn: &[u8], context: &[u8]) -> bool {
    let Some((rest, end)) = dn.len().checked_sub(context.len()).and_then(|at| dn.split_at_checked(at)) else {
        return false;
    };
    end.eq_ignore_ascii_case(context) && (rest.is_empty() || rest.ends_with(b",") || context.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_below_their_context() {
        assert!(is_below(b"ou=m,dc=EX", b"dc=ex") && is_below(b"dc=ex", b"dc=ex") && is_below(b"dc=ex", b""));
        assert!(!is_below(b"dc=notdc=ex", b"dc=ex") && !is_below(b"dc=ex", b"ou=m,dc=ex"));
    }
}
