//! Fields of a log message beside its text: for journald, and for lines in JSON.

use std::cell::RefCell;

/// `MESSAGE_ID` of a failed mount.
pub const MOUNT_FAILED: &str = "5f1c0c0ad5f34b6c8e36a1d6f0b7a2e1";

/// `MESSAGE_ID` of the death of a worker.
pub const WORKER_DIED: &str = "c2d7a1f4b0e84e2f9a6b5d3c7e8f9012";

/// A field: its name, in upper case, and its value.
pub type Field = (&'static str, String);

thread_local! {
    static FIELDS: RefCell<Vec<Field>> = const { RefCell::new(Vec::new()) };
}

/// Writes the messages that `log` logs with these fields. The fields are those of this thread.
pub fn with(fields: Vec<Field>, log: impl FnOnce()) {
    FIELDS.replace(fields);
    log();
    FIELDS.take();
}

/// Returns the fields of the message that is being logged.
pub(super) fn current() -> Vec<Field> {
    FIELDS.with_borrow(Clone::clone)
}

/// Encodes a message for the socket of journald (Native Journal Protocol of systemd).
pub(super) fn journal_entry(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut entry = Vec::new();
    for (name, value) in fields {
        entry.extend(name.as_bytes());
        if value.contains('\n') {
            entry.push(b'\n');
            entry.extend((value.len() as u64).to_le_bytes());
        } else {
            entry.push(b'=');
        }
        entry.extend(value.as_bytes());
        entry.push(b'\n');
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_several_lines_have_a_length() {
        let entry = journal_entry(&[("MESSAGE", "a=b"), ("X", "c\nd")]);
        assert_eq!(entry, b"MESSAGE=a=b\nX\n\x03\0\0\0\0\0\0\0c\nd\n");
    }

    #[test]
    fn fields_are_those_of_one_message() {
        let mut seen = Vec::new();
        with(vec![("AUTOFS_UID", "5".into())], || seen = current());
        assert_eq!((seen.len(), current().len()), (1, 0));
    }
}
