//! A stream of bytes cut into parts of equal size, which are handed on while it is written.
//!
//! In:  bytes, as an encoder writes them.
//! Out: parts through a narrow channel, so that the writer waits for the network.

use std::io::{self, Write};

use bytes::Bytes;
use lifeboat_ltx::max_frame_size;
use lifeboat_wal::{PageCount, PageSize};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::sync::CancellationToken;

/// Cuts what is written to it into parts, and hands each on as a `P`.
#[derive(Debug)]
pub struct Parts<P> {
    line: Line<P>,
    part_bytes: usize,
    first: First,
    filling: Vec<u8>,
}

/// The way to whoever receives the parts.
#[derive(Debug)]
pub struct Line<P> {
    sender: Sender<P>,
    cancelled: CancellationToken,
}

/// What happens to the first part.
#[derive(Debug)]
enum First {
    /// As to the others.
    Goes,
    /// It is kept, because something at its beginning is known only at the end.
    Stays(Option<Vec<u8>>),
}

impl<P> Parts<P> {
    /// Every part goes as soon as it is full and the next byte comes.
    #[must_use]
    pub fn new(line: Line<P>, part_bytes: u64) -> Self {
        let part_bytes = usize::try_from(part_bytes).unwrap_or(usize::MAX);
        Self { line, part_bytes, first: First::Goes, filling: Vec::with_capacity(part_bytes) }
    }

    /// The first part stays; so many bytes at its beginning are left free.
    #[must_use]
    pub fn keeping_first(line: Line<P>, part_bytes: u64, free: usize) -> Self {
        let mut parts = Self { first: First::Stays(None), ..Self::new(line, part_bytes) };
        parts.filling.resize(free, 0);
        parts
    }

    /// The way to whoever receives the parts.
    #[must_use]
    pub fn line(&self) -> Line<P> {
        Line { sender: self.line.sender.clone(), cancelled: self.line.cancelled.clone() }
    }

    /// The part that stayed, if one did, and the last one.
    #[must_use]
    pub fn take_rest(&mut self) -> (Option<Vec<u8>>, Vec<u8>) {
        let last = std::mem::take(&mut self.filling);
        match &mut self.first {
            First::Goes => (None, last),
            First::Stays(first) => (first.take(), last),
        }
    }
}

impl<P> Line<P> {
    /// A line on which few parts wait, and where they come out.
    #[must_use]
    pub fn new(cancelled: CancellationToken) -> (Self, Receiver<P>) {
        let (sender, receiver) = channel(PARTS_WAITING);
        (Self { sender, cancelled }, receiver)
    }

    /// Whether somebody still wants what comes.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        !self.cancelled.is_cancelled() && !self.sender.is_closed()
    }

    /// Hands something on, and waits for as long as that takes.
    ///
    /// # Errors
    /// When nobody receives any more.
    pub fn send(&self, piece: P) -> io::Result<()> {
        self.sender.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl<P: From<Bytes>> Parts<P> {
    fn pass_on(&mut self) -> io::Result<()> {
        let full = std::mem::replace(&mut self.filling, Vec::with_capacity(self.part_bytes));
        if let First::Stays(first @ None) = &mut self.first {
            *first = Some(full);
            return Ok(());
        }
        self.line.send(Bytes::from(full).into())
    }
}

impl<P: From<Bytes>> Write for Parts<P> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.line.is_wanted() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        // The last part must not be empty, so a part goes when the next byte comes.
        if self.filling.len() == self.part_bytes {
            self.pass_on()?;
        }
        let room = self.part_bytes - self.filling.len();
        let (taken, _) = bytes.split_at(room.min(bytes.len()));
        self.filling.extend_from_slice(taken);
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The size of parts for a database of this size: so large that there are not too many, whatever its content.
#[must_use]
pub fn part_bytes(page_count: PageCount, page_size: PageSize) -> u64 {
    let most = u64::from(page_count.get()) * (max_frame_size(page_size) + INDEX_ENTRY_MAX);
    PART_BYTES_MIN.max(most.div_ceil(PARTS_MAX).next_multiple_of(MIB))
}

const MIB: u64 = 1 << 20;
/// The least that S3 takes. Five of these are in memory at a time.
const PART_BYTES_MIN: u64 = 5 * MIB;
/// S3 takes 10,000.
const PARTS_MAX: u64 = 9_000;
/// A page number, an offset and a size in the page index, each as long as it can get.
const INDEX_ENTRY_MAX: u64 = 5 + 10 + 5;
/// Parts that wait for the network. With one that stayed, the one that is being filled and those being sent, this bounds the
/// memory that a file takes.
const PARTS_WAITING: usize = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_large_enough_that_there_are_not_too_many() {
        for page_size in [512, 4096, 65_536].map(|size| PageSize::try_new(size).unwrap()) {
            for page_count in [1, 1000, 1 << 20, u32::MAX - 1].map(PageCount::new) {
                let bytes = u64::from(page_count.get()) * u64::from(page_size.get());
                let part = part_bytes(page_count, page_size);
                assert!(
                    part >= 5 << 20 && bytes.div_ceil(part) < 9_500,
                    "{page_size:?} {page_count:?} {part}"
                );
            }
        }
        assert_eq!(part_bytes(PageCount::new(1 << 18), PageSize::try_new(4096).unwrap()), 5 << 20);
    }
}
