//! A file beside a database that leaves its application some room on the disk.

use std::io::{self, Write};

/// Bytes that are written between two questions for room.
const ASK_EVERY: usize = 4 * 1024 * 1024;
/// Unless it is said otherwise, so many bytes are left to the application, and at most this part of a small disk.
const RESERVE_BYTES: u64 = 256 * 1024 * 1024;
const RESERVE_PART: u64 = 16;

/// Passes writes on for as long as there is room.
#[derive(Debug)]
pub(super) struct Reserving<W, F> {
    out: W,
    has_room: F,
    unasked: usize,
}

impl<W, F> Reserving<W, F> {
    /// Asks `has_room` before the first byte, and again every few megabytes.
    pub(super) const fn new(out: W, has_room: F) -> Self {
        Self { out, has_room, unasked: ASK_EVERY }
    }

    pub(super) fn into_inner(self) -> W {
        self.out
    }
}

impl<W: Write, F: Fn() -> bool> Write for Reserving<W, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.unasked >= ASK_EVERY {
            if !(self.has_room)() {
                return Err(no_room());
            }
            self.unasked = 0;
        }
        let written = self.out.write(bytes)?;
        self.unasked += written;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Why nothing more is written, although the disk is not full.
pub(super) fn no_room() -> io::Error {
    let why = "what is left of the disk is left to the application; make room there";
    io::Error::new(io::ErrorKind::StorageFull, why)
}

/// What of a disk is left to the application, whatever we would like to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserve {
    bytes: Option<u64>,
}

impl Reserve {
    /// So many bytes. The default is a sixteenth of the disk, and at most 256 MiB.
    #[must_use]
    pub const fn of(bytes: u64) -> Self {
        Self { bytes: Some(bytes) }
    }

    /// Whether a disk with so many bytes in all and so many free has room for some more of ours. A disk that says neither is
    /// taken to have it.
    pub(crate) fn is_left(self, disk: Option<(u64, u64)>) -> bool {
        disk.is_none_or(|(total, free)| {
            let reserve = self.bytes.unwrap_or_else(|| (total / RESERVE_PART).min(RESERVE_BYTES));
            free >= reserve.saturating_add(ASK_EVERY as u64)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn who_runs_out_of_room_stops_before_the_disk_is_full() {
        let asked = Cell::new(0);
        let has_room = || asked.replace(asked.get() + 1) < 3;
        let mut file = Reserving::new(Vec::new(), has_room);
        let failed = (0..100).find_map(|_| file.write_all(&[7; 1024 * 1024]).err()).unwrap();
        assert_eq!(failed.kind(), io::ErrorKind::StorageFull);
        assert_eq!((file.into_inner().len(), asked.get()), (3 * ASK_EVERY, 4));
    }

    #[test]
    fn a_large_disk_keeps_a_quarter_of_a_gigabyte_and_a_small_one_its_sixteenth() {
        const MB: u64 = 1024 * 1024;
        for (total, enough) in [(1 << 40, 260 * MB), (160 * MB, 14 * MB)] {
            assert!(Reserve::default().is_left(Some((total, enough))));
            assert!(!Reserve::default().is_left(Some((total, enough - 1))));
        }
        assert!(Reserve::default().is_left(None));
    }

    #[test]
    fn what_is_said_to_be_left_is_left_on_every_disk() {
        let enough = 1000 + ASK_EVERY as u64;
        for total in [enough, 1 << 40] {
            assert!(Reserve::of(1000).is_left(Some((total, enough))));
            assert!(!Reserve::of(1000).is_left(Some((total, enough - 1))));
        }
        assert!(!Reserve::of(u64::MAX).is_left(Some((1 << 40, 1 << 40))));
    }
}
