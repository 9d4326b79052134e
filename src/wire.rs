//! The encoding of messages between processes of the daemon: numbers in little-endian order, byte strings with their length.

/// The longest message in bytes.
pub const FRAME_MAX: usize = 1 << 20;

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// It ends too early, or more follows.
    #[error("a message of the wrong length")]
    Length,
    /// A tag that no message has.
    #[error("a message of an unknown kind")]
    Kind,
}

/// Writes a message.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// Creates an empty message with room for its length in front.
    pub fn new() -> Self {
        Self(vec![0; 4])
    }

    /// Creates an empty message without a length, in the memory of an earlier one.
    pub fn again(mut memory: Vec<u8>) -> Self {
        memory.clear();
        Self(memory)
    }

    /// Returns a message that was begun by [`again`](Self::again).
    pub fn into_inner(self) -> Vec<u8> {
        self.0
    }

    /// Appends a byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    /// Appends a number.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Appends a long number.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Appends a byte string that may be missing.
    pub fn optional_bytes(&mut self, value: Option<&[u8]>) -> &mut Self {
        match value {
            None => self.u8(0),
            Some(value) => self.u8(1).bytes(value),
        }
    }

    /// Appends a byte string. One that is longer than 4 GiB is cut off, which [`frame`](Self::frame) then refuses anyway.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
        self.u32(length);
        self.0.extend_from_slice(value);
        self
    }

    /// Appends a number that may be missing.
    pub fn optional(&mut self, value: Option<u32>) -> &mut Self {
        match value {
            None => self.u8(0),
            Some(value) => self.u8(1).u32(value),
        }
    }

    /// Appends a list of byte strings.
    pub fn list(&mut self, values: &[Vec<u8>]) -> &mut Self {
        self.u32(u32::try_from(values.len()).unwrap_or(u32::MAX));
        for value in values {
            self.bytes(value);
        }
        self
    }

    /// Returns the message with its length in front, or `None` if it is longer than [`FRAME_MAX`].
    pub fn frame(mut self) -> Option<Vec<u8>> {
        let length = self.0.len().checked_sub(4).filter(|length| *length <= FRAME_MAX)?;
        let length = u32::try_from(length).ok()?.to_le_bytes();
        self.0.get_mut(..4)?.copy_from_slice(&length);
        Some(self.0)
    }
}

/// Reads a message.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads `message`, without its length.
    pub fn new(message: &'a [u8]) -> Self {
        Self(message)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(WireError::Length)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Reads a byte.
    ///
    /// # Errors
    /// Nothing is left.
    pub fn u8(&mut self) -> Result<u8, WireError> {
        self.take(1)?.first().copied().ok_or(WireError::Length)
    }

    /// Reads a number.
    ///
    /// # Errors
    /// Too little is left.
    pub fn u32(&mut self) -> Result<u32, WireError> {
        self.take(4)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes)).ok_or(WireError::Length)
    }

    /// Reads a long number.
    ///
    /// # Errors
    /// Too little is left.
    pub fn u64(&mut self) -> Result<u64, WireError> {
        self.take(8)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)).ok_or(WireError::Length)
    }

    /// Reads a byte string that may be missing.
    ///
    /// # Errors
    /// It is longer than what is left, or the mark before it is unknown.
    pub fn optional_bytes(&mut self) -> Result<Option<Vec<u8>>, WireError> {
        match self.u8()? {
            0 => Ok(None),
            1 => self.bytes().map(Some),
            _ => Err(WireError::Kind),
        }
    }

    /// Reads a byte string.
    ///
    /// # Errors
    /// It is longer than what is left.
    pub fn bytes(&mut self) -> Result<Vec<u8>, WireError> {
        let length = usize::try_from(self.u32()?).map_err(|_| WireError::Length)?;
        Ok(self.take(length)?.to_vec())
    }

    /// Reads a number that may be missing.
    ///
    /// # Errors
    /// Too little is left, or the mark before it is unknown.
    pub fn optional(&mut self) -> Result<Option<u32>, WireError> {
        match self.u8()? {
            0 => Ok(None),
            1 => self.u32().map(Some),
            _ => Err(WireError::Kind),
        }
    }

    /// Reads a list of byte strings.
    ///
    /// # Errors
    /// Too little is left.
    pub fn list(&mut self) -> Result<Vec<Vec<u8>>, WireError> {
        let count = self.u32()?;
        // No room is made for what the number promises: each item takes at least its own length of the message.
        (0..count).map(|_| self.bytes()).collect()
    }

    /// Returns whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Ends the message.
    ///
    /// # Errors
    /// Something is left.
    pub fn end(self) -> Result<(), WireError> {
        if self.0.is_empty() { Ok(()) } else { Err(WireError::Length) }
    }
}
