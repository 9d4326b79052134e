//! Answers of the DNS, RFC 1035: SRV records of servers (RFC 2782) and TXT records of Hesiod.

use std::cmp::Reverse;

/// Records read of one answer at most.
const RECORDS_MAX: usize = 256;

/// Labels that a compressed name may jump to.
const JUMPS_MAX: usize = 32;

const TXT: u16 = 16;
const SRV: u16 = 33;

/// Host and port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Servers with lower numbers are asked first.
    pub priority: u16,
    /// How large a part of the clients of one priority should ask this one.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The name of the host, without a dot at its end.
    pub host: String,
    /// Seconds for which the record holds.
    pub holds: u32,
}

struct Answer<'a> {
    message: &'a [u8],
}

/// A record of the answer section.
struct Record<'a> {
    kind: u16,
    holds: u32,
    /// Offset of its data in the message.
    at: usize,
    data: &'a [u8],
}

impl<'a> Answer<'a> {
    fn u16(&self, at: usize) -> Option<u16> {
        self.message.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
    }

    /// Returns where the name at `at` ends.
    fn skip_name(&self, mut at: usize) -> Option<usize> {
        loop {
            match *self.message.get(at)? {
                0 => return Some(at + 1),
                length if length < 0x40 => at += usize::from(length) + 1,
                length if length >= 0xc0 => return Some(at + 2),
                _ => return None,
            }
        }
    }

    /// Returns the name at `at`, the labels joined by dots. Only names of hosts are read.
    fn name(&self, mut at: usize) -> Option<String> {
        let (mut name, mut jumps) = (String::new(), 0);
        loop {
            let length = *self.message.get(at)?;
            if length == 0 {
                return Some(name);
            }
            if length >= 0xc0 {
                at = usize::from(self.u16(at)? & 0x3fff);
                jumps += 1;
                if jumps > JUMPS_MAX {
                    return None;
                }
                continue;
            }
            let label = self.message.get(at + 1..at + 1 + usize::from(length))?;
            let is_host = |b: &u8| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_';
            if length >= 0x40 || !label.iter().all(is_host) || name.len() > 255 {
                return None;
            }
            if !name.is_empty() {
                name.push('.');
            }
            name.push_str(std::str::from_utf8(label).ok()?);
            at += usize::from(length) + 1;
        }
    }

    fn records(&self) -> Option<Vec<Record<'a>>> {
        let (questions, answers) = (self.u16(4)?, self.u16(6)?);
        let mut at = 12;
        for _ in 0..questions {
            at = self.skip_name(at)? + 4;
        }
        let mut records = Vec::new();
        for _ in 0..usize::from(answers).min(RECORDS_MAX) {
            at = self.skip_name(at)?;
            let (kind, length) = (self.u16(at)?, usize::from(self.u16(at + 8)?));
            let holds = u32::from(self.u16(at + 4)?) << 16 | u32::from(self.u16(at + 6)?);
            at += 10;
            records.push(Record { kind, holds, at, data: self.message.get(at..at + length)? });
            at += length;
        }
        Some(records)
    }
}

/// Returns the servers of an answer with SRV records, in the order in which they should be asked: by priority, then by
/// falling weight. Returns `None` if the message is no answer.
pub fn servers(message: &[u8]) -> Option<Vec<Server>> {
    let answer = Answer { message };
    let mut servers = Vec::new();
    for record in answer.records()?.iter().filter(|record| record.kind == SRV) {
        let (priority, weight, port) = (answer.u16(record.at)?, answer.u16(record.at + 2)?, answer.u16(record.at + 4)?);
        // A name that no host can have, or the root: there is no server.
        if let Some(host) = answer.name(record.at + 6).filter(|host| !host.is_empty()) {
            servers.push(Server { priority, weight, port, host, holds: record.holds });
        }
    }
    servers.sort_by_key(|server| (server.priority, Reverse(server.weight)));
    Some(servers)
}

/// Returns the texts of an answer with TXT records, the strings of each record joined. Returns `None` if the message is no
/// answer.
pub fn texts(message: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut texts = Vec::new();
    let answer = Answer { message };
    for record in answer.records()?.iter().filter(|record| record.kind == TXT) {
        let (mut text, mut rest) = (Vec::new(), record.data);
        while let Some((&length, behind)) = rest.split_first() {
            let (part, behind) = behind.split_at_checked(usize::from(length))?;
            text.extend_from_slice(part);
            rest = behind;
        }
        texts.push(text);
    }
    Some(texts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An answer to a question for `x.ex`, with these records.
    fn answer(records: &[(u16, &[u8])]) -> Vec<u8> {
        let mut message = vec![0, 1, 0x81, 0x80, 0, 1, 0, u8::try_from(records.len()).unwrap(), 0, 0, 0, 0];
        message.extend_from_slice(b"\x01x\x02ex\0\0\x21\0\x01");
        for (kind, data) in records {
            message.extend_from_slice(b"\xc0\x0c");
            message.extend_from_slice(&kind.to_be_bytes());
            message.extend_from_slice(&[0, 1, 0, 0, 0, 60]);
            message.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
            message.extend_from_slice(data);
        }
        message
    }

    #[test]
    fn servers_by_priority_and_weight() {
        let records: [(u16, &[u8]); 5] = [
            (33, b"\0\x14\0\x05\x01\x85\x04ldap\xc0\x0e"),
            (33, b"\0\x0a\0\x01\x01\x85\x01a\x02ex\0"),
            (16, b"\x01x"),
            (33, b"\0\x0a\0\x09\x02\x7c\x01b\xc0\x0e"),
            (33, b"\0\x0a\0\x09\x02\x7c\0"),
        ];
        let found = servers(&answer(&records)).unwrap();
        let shown: Vec<_> = found.iter().map(|server| (server.host.as_str(), server.port, server.holds)).collect();
        assert_eq!(shown, [("b.ex", 636, 60), ("a.ex", 389, 60), ("ldap.ex", 389, 60)]);
    }

    #[test]
    fn texts_in_one_piece() {
        let records: [(u16, &[u8]); 2] = [(16, b"\x02ab\x01c"), (33, b"\0\0\0\0\0\0\0")];
        assert_eq!(texts(&answer(&records)), Some(vec![b"abc".to_vec()]));
        assert_eq!(texts(&answer(&[(16, b"\x05ab")])), None);
    }

    #[test]
    fn names_that_lead_in_a_circle_end() {
        let message = answer(&[(33, b"\0\0\0\0\0\0\xc0\x28")]);
        assert_eq!(servers(&message), Some(vec![]));
    }

    proptest! {
        #[test]
        fn no_answer_is_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = (servers(&bytes), texts(&bytes));
            let records: [(u16, &[u8]); 2] = [(33, &bytes), (16, &bytes)];
            let _ = (servers(&answer(&records)), texts(&answer(&records)));
        }
    }
}
