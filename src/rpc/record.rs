//! Record marking, RFC 5531 section 11: messages in a byte stream, each in fragments with a header of four bytes.

/// The bit of a header that marks the last fragment.
const LAST: u32 = 1 << 31;

/// Fragments of one message, at most: an endless row of empty ones is no message. NIS servers send large maps in fragments of
/// 4000 bytes.
const FRAGMENTS_MAX: usize = 1 << 15;

/// Returns `message` as it is written to a stream: one fragment. A message has less than 2 GiB.
pub fn mark(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX) | LAST;
    [&length.to_be_bytes()[..], message].concat()
}

/// A message is longer than is allowed, or has too many fragments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the RPC message is too long")]
pub struct RecordTooLong;

/// Puts messages together from the pieces in which a stream arrives.
#[derive(Debug, Clone)]
pub struct Records {
    limit: usize,
    /// Bytes that have arrived and are not part of `message` yet.
    buffer: Vec<u8>,
    message: Vec<u8>,
    fragments: usize,
}

impl Records {
    /// Allows messages of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, buffer: Vec::new(), message: Vec::new(), fragments: 0 }
    }

    /// Adds bytes from the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next whole message, `None` if more bytes are needed. Call it after each [`push`](Self::push) until it
    /// returns `None`, so that no more is stored than one message and one piece.
    ///
    /// # Errors
    /// The message would be too long. The stream is of no use any more.
    pub fn message(&mut self) -> Result<Option<Vec<u8>>, RecordTooLong> {
        let mut done = 0;
        let found = loop {
            let rest = self.buffer.get(done..).unwrap_or_default();
            let Some((header, rest)) = rest.split_first_chunk::<4>() else { break None };
            let header = u32::from_be_bytes(*header);
            let length = usize::try_from(header & !LAST).map_err(|_| RecordTooLong)?;
            if length > self.limit.saturating_sub(self.message.len()) || self.fragments >= FRAGMENTS_MAX {
                return Err(RecordTooLong);
            }
            let Some(fragment) = rest.get(..length) else { break None };
            self.message.extend_from_slice(fragment);
            self.fragments += 1;
            done += 4 + length;
            if header & LAST != 0 {
                self.fragments = 0;
                break Some(std::mem::take(&mut self.message));
            }
        };
        self.buffer.drain(..done);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_too_long_is_refused_at_its_header() {
        let mut records = Records::new(100);
        records.push(&(LAST | 101).to_be_bytes());
        assert_eq!(records.message(), Err(RecordTooLong));
        let mut records = Records::new(100);
        for _ in 0..2 {
            records.push(&60_u32.to_be_bytes());
            records.push(&[0; 60]);
        }
        assert_eq!(records.message(), Err(RecordTooLong));
    }

    #[test]
    fn an_endless_row_of_empty_fragments_ends() {
        let mut records = Records::new(100);
        let refused = (0..2 * FRAGMENTS_MAX).any(|_| {
            records.push(&[0; 4]);
            records.message().is_err()
        });
        assert!(refused);
    }

    proptest! {
        #[test]
        fn messages_arrive_whole_in_whatever_pieces(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..6),
            piece in 1_usize..40,
        ) {
            let stream: Vec<u8> = messages.iter().flat_map(|message| mark(message)).collect();
            let (mut records, mut arrived) = (Records::new(50), Vec::new());
            for piece in stream.chunks(piece) {
                records.push(piece);
                while let Some(message) = records.message().unwrap() {
                    arrived.push(message);
                }
            }
            prop_assert_eq!(arrived, messages);
        }
    }
}
