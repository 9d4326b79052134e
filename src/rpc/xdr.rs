//! XDR, RFC 4506: numbers of four bytes, byte strings padded to a multiple of four.

/// Why bytes are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum XdrError {
    /// The bytes end too early.
    #[error("the message is cut off")]
    Truncated,
    /// A string or a list is longer than is allowed.
    #[error("the message has a string or a list that is too long")]
    TooLong,
    /// A boolean is neither 0 nor 1, or an enumeration has an unknown value.
    #[error("the message has a value that does not exist")]
    BadValue,
}

/// Reads values from the beginning of a message on.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the beginning of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Returns the bytes that were not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Reads a number.
    ///
    /// # Errors
    /// The message ends before.
    pub fn number(&mut self) -> Result<u32, XdrError> {
        let (number, rest) = self.rest.split_first_chunk::<4>().ok_or(XdrError::Truncated)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*number))
    }

    /// Reads a boolean.
    ///
    /// # Errors
    /// The message ends before, or the value is neither 0 nor 1.
    pub fn boolean(&mut self) -> Result<bool, XdrError> {
        match self.number()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(XdrError::BadValue),
        }
    }

    /// Reads a byte string of at most `limit` bytes, with its padding.
    ///
    /// # Errors
    /// The string is longer than `limit`, or the message ends before its end.
    pub fn bytes(&mut self, limit: usize) -> Result<&'a [u8], XdrError> {
        let length = usize::try_from(self.number()?).map_err(|_| XdrError::TooLong)?;
        if length > limit {
            return Err(XdrError::TooLong);
        }
        let padded = length.checked_next_multiple_of(4).ok_or(XdrError::TooLong)?;
        let (padded, rest) = self.rest.split_at_checked(padded).ok_or(XdrError::Truncated)?;
        self.rest = rest;
        padded.get(..length).ok_or(XdrError::Truncated)
    }
}

/// Writes values one after the other.
#[derive(Debug, Clone, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Writes a number.
    pub fn number(&mut self, number: u32) -> &mut Self {
        self.bytes.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// Writes a byte string with its padding. What is longer than 4 GiB is cut off.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.number(length);
        self.bytes.extend(bytes.iter().take(usize::try_from(length).unwrap_or(usize::MAX)));
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// Writes what is encoded already.
    pub fn raw(&mut self, encoded: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(encoded);
        self
    }

    /// Returns all that was written.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let bytes = Writer::default().number(7).bytes(b"abcde").number(1).bytes(b"").finish();
        assert_eq!(bytes.len() % 4, 0);
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.number(), Ok(7));
        assert_eq!(reader.bytes(5), Ok(&b"abcde"[..]));
        assert_eq!(reader.boolean(), Ok(true));
        assert_eq!(reader.bytes(0), Ok(&b""[..]));
        assert_eq!(reader.number(), Err(XdrError::Truncated));
    }

    #[test]
    fn a_length_that_is_merely_claimed_is_refused() {
        let claims = u32::MAX.to_be_bytes();
        assert_eq!(Reader::new(&claims).bytes(usize::MAX), Err(XdrError::Truncated));
        assert_eq!(Reader::new(&claims).bytes(1024), Err(XdrError::TooLong));
        // Five bytes have three bytes of padding.
        let cut = [&5_u32.to_be_bytes()[..], b"abcde", &[0, 0]].concat();
        assert_eq!(Reader::new(&cut).bytes(8), Err(XdrError::Truncated));
        assert_eq!(Reader::new(&2_u32.to_be_bytes()).boolean(), Err(XdrError::BadValue));
    }
}
