//! Bytes coming in, counted, so that every error can say where.

use std::io::{self, Read};

use crate::error::{DecodeError, Part, ReadError};

/// A reader that knows how far it is.
#[derive(Debug)]
pub(crate) struct Source<R> {
    reader: R,
    at: u64,
}

impl<R: Read> Source<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, at: 0 }
    }

    /// How many bytes have been read.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Fills the buffer. Bytes that end early are a damaged file, not a failure of the reader.
    pub(crate) fn fill(&mut self, part: Part, buffer: &mut [u8]) -> Result<(), ReadError> {
        match self.reader.read_exact(buffer) {
            Ok(()) => {
                self.at += buffer.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(DecodeError::Truncated { part, at: self.at }.into())
            }
            Err(source) => Err(ReadError::Read { at: self.at, source }),
        }
    }

    pub(crate) fn take<const N: usize>(&mut self, part: Part) -> Result<[u8; N], ReadError> {
        let mut field = [0; N];
        self.fill(part, &mut field)?;
        Ok(field)
    }

    /// Whether the bytes end here.
    pub(crate) fn is_at_end(&mut self) -> Result<bool, ReadError> {
        let mut byte = [0];
        match self.reader.read_exact(&mut byte) {
            Ok(()) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(true),
            Err(source) => Err(ReadError::Read { at: self.at, source }),
        }
    }
}

/// Reading from memory cannot fail, it can only end.
pub(crate) fn from_memory<T>(result: Result<T, ReadError>) -> Result<T, DecodeError> {
    result.map_err(|error| match error {
        ReadError::Decode(error) => error,
        ReadError::Read { at, .. } => DecodeError::Truncated { part: Part::Trailer, at },
    })
}
