//! What a reader that was at one place in the WAL has to read next, and the proof that it missed nothing.
//!
//! In:  the place reached, and a newer header of the WAL-index; then the frames, one by one.
//! Out: what to read; and once it is read, the next place, or why continuity is lost.
//!
//! Three independent witnesses must agree: the salts say which run through the file a frame belongs to; the checksum that
//! runs through all frames must end at the value the WAL-index names; and where a new run begins, which breaks both of
//! these, SQLite's counter of transactions must have advanced by exactly the commits that were read.
//!
//! None of them keeps frames from being overwritten: that is what an open read transaction does. They show it if it failed.

use crate::checksum::{ByteOrder, Checksum};
use crate::frame::FrameNo;
use crate::header::{Salts, WalHeader};
use crate::scan::{Frame, ScanStop, Scanner};
use crate::wal_index::IndexHeader;
use crate::{HeaderError, PageCount, PageNo};

/// A place in the WAL up to which everything committed was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalPlace {
    salts: Salts,
    order: ByteOrder,
    frame: FrameNo,
    checksum: Checksum,
    change_counter: u32,
}

impl WalPlace {
    /// The place a header of the WAL-index names: for a reader that begins here and knows nothing earlier.
    #[must_use]
    pub const fn at(header: &IndexHeader) -> Self {
        Self {
            salts: header.salts,
            order: header.order,
            frame: header.last_frame,
            checksum: header.frame_checksum,
            change_counter: header.change_counter,
        }
    }

    /// The last frame read.
    #[must_use]
    pub const fn frame(&self) -> FrameNo {
        self.frame
    }

    /// Whether this place, reached from the other without a frame being read, tells of a recovery in between.
    #[must_use]
    pub const fn is_recovered_from(&self, before: &Self) -> bool {
        self.change_counter != before.change_counter
    }

    /// Whether the place is in the run through the file that the header is in.
    #[must_use]
    pub fn is_in_run_of(&self, header: &IndexHeader) -> bool {
        self.salts == header.salts
    }

    /// Whether a WAL whose header has these salts holds nothing that was not read, while the WAL-index names no frame: it
    /// still is the run that was read to its end, or the one before the run that was to begin here.
    ///
    /// Anything else is a run that has begun, and of which no transaction is committed yet.
    #[must_use]
    pub const fn is_past(&self, file: Salts) -> bool {
        if self.frame.get() == FrameNo::START.get() {
            self.salts.first() == file.first().wrapping_add(1)
        } else {
            u64::from_be_bytes(self.salts.0) == u64::from_be_bytes(file.0)
        }
    }

    /// The place as bytes, for a process that comes after this one.
    #[must_use]
    pub fn encode(&self) -> [u8; WAL_PLACE_BYTES] {
        let mut bytes = [0; WAL_PLACE_BYTES];
        let order = [u8::from(self.order == ByteOrder::Big), 0, 0, 0];
        let words = [
            order,
            self.frame.get().to_le_bytes(),
            self.checksum.first.to_le_bytes(),
            self.checksum.second.to_le_bytes(),
            self.change_counter.to_le_bytes(),
        ];
        let (salts, rest) = bytes.split_at_mut(self.salts.0.len());
        salts.copy_from_slice(&self.salts.0);
        for (word, value) in rest.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *word = value;
        }
        bytes
    }

    /// The place that [`encode`](Self::encode) made these bytes of. Whether it still means anything shows when it is
    /// [read on from](Self::next_read).
    #[must_use]
    pub const fn decode(bytes: &[u8; WAL_PLACE_BYTES]) -> Self {
        let [s0, s1, s2, s3, s4, s5, s6, s7, order, _, _, _, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] =
            *bytes;
        Self {
            salts: Salts([s0, s1, s2, s3, s4, s5, s6, s7]),
            order: if order == 0 { ByteOrder::Little } else { ByteOrder::Big },
            frame: FrameNo::new(u32::from_le_bytes([a, b, c, d])),
            checksum: Checksum {
                first: u32::from_le_bytes([e, f, g, h]),
                second: u32::from_le_bytes([i, j, k, l]),
            },
            change_counter: u32::from_le_bytes([m, n, o, p]),
        }
    }

    /// What to read so that everything up to the header is read.
    ///
    /// # Errors
    ///
    /// A [`Discontinuity`] when the header cannot be reached from here.
    pub fn next_read(&self, header: &IndexHeader) -> Result<NextRead, Discontinuity> {
        if header.salts != self.salts || self.frame == FrameNo::START {
            if header.last_frame == FrameNo::START {
                return self.nothing_in_new_run(header);
            }
            return Ok(NextRead::FromStart);
        }
        if header.last_frame < self.frame {
            return Err(Discontinuity::Backwards { at: self.frame, found: header.last_frame });
        }
        if header.last_frame > self.frame {
            let Self { salts, order, frame, checksum, .. } = *self;
            let page_size = header.page_size.ok_or(Discontinuity::OtherRun)?;
            let run = WalHeader { order, page_size, salts, checksum };
            return Ok(NextRead::After(Scanner::resume(run, frame)));
        }
        if header.frame_checksum != self.checksum {
            return Err(Discontinuity::Chain { frame: self.frame });
        }
        // The same frame by its checksum. A recovery starts the counter again, so it is taken from here on.
        Ok(NextRead::Nothing(Self { change_counter: header.change_counter, ..*self }))
    }

    /// The WAL was restarted, and nobody wrote since: the file still holds the run that was read to its end.
    const fn nothing_in_new_run(&self, header: &IndexHeader) -> Result<NextRead, Discontinuity> {
        if header.change_counter != self.change_counter {
            let advance = header.change_counter.wrapping_sub(self.change_counter);
            return Err(Discontinuity::Counter { commits: 0, advance });
        }
        Ok(NextRead::Nothing(*self))
    }
}

/// Size of [`WalPlace::encode`]'s bytes.
pub const WAL_PLACE_BYTES: usize = 28;

/// What a reader has to do to reach a header of the WAL-index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextRead {
    /// Nothing: it is there already. The place to go on from.
    Nothing(WalPlace),
    /// Read the frames after the ones already read.
    After(Scanner),
    /// Read the WAL header, then from frame 1: a new run has begun.
    FromStart,
}

/// A reading on its way to a header of the WAL-index.
#[derive(Clone, Debug)]
pub struct Reading {
    from: WalPlace,
    to: IndexHeader,
    scanner: Scanner,
    tally: Tally,
    is_at_commit: bool,
    last_commit: LastCommit,
}

/// How much was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Commit frames.
    pub commits: u32,
    /// All frames.
    pub frames: u32,
    /// Commit frames that may be repeats of the one before: SQLite pads with them up to the next disk sector when the
    /// file system does not promise to leave neighbouring bytes alone (`psow=0`).
    repeats: u32,
    /// Whether somebody recovered the WAL meanwhile, which starts SQLite's counter of transactions again.
    pub is_recovered: bool,
}

impl Tally {
    /// No frame was read.
    #[must_use]
    pub const fn nothing(is_recovered: bool) -> Self {
        Self { commits: 0, frames: 0, repeats: 0, is_recovered }
    }
}

impl Reading {
    /// Goes on after the frames already read.
    #[must_use]
    pub const fn resume(from: WalPlace, to: IndexHeader, scanner: Scanner) -> Self {
        let tally = Tally::nothing(false);
        Self { from, to, scanner, tally, is_at_commit: true, last_commit: LastCommit::NONE }
    }

    /// Begins a new run at its first frame.
    ///
    /// # Errors
    ///
    /// [`Discontinuity::OtherRun`] when the WAL header is of another run than the WAL-index.
    pub fn begin(from: WalPlace, to: IndexHeader, header: &WalHeader) -> Result<Self, Discontinuity> {
        if header.salts != to.salts || Some(header.page_size) != to.page_size {
            return Err(Discontinuity::OtherRun);
        }
        Ok(Self::resume(from, to, Scanner::begin(header)))
    }

    /// The last frame taken.
    #[must_use]
    pub const fn last(&self) -> FrameNo {
        self.scanner.last()
    }

    /// How many frames are missing until the header is reached.
    #[must_use]
    pub const fn remaining(&self) -> u32 {
        self.to.last_frame.since(self.scanner.last())
    }

    /// Takes frames off the front of `bytes` until the header is reached or no whole frame is left, and passes on the
    /// page of each.
    ///
    /// Frames beyond the header are never taken, commit frames or not: their transaction may still be rolled back.
    ///
    /// # Errors
    ///
    /// [`Discontinuity::Chain`] when a frame is not the continuation of those before it.
    pub fn take(&mut self, bytes: &mut &[u8], changed: &mut dyn FnMut(PageNo)) -> Result<(), Discontinuity> {
        while self.remaining() > 0 {
            match self.scanner.next_frame(bytes) {
                Ok(frame) => self.count(&frame, changed),
                Err(ScanStop::EndOfFile | ScanStop::PartialFrame) => return Ok(()),
                Err(ScanStop::SaltChange | ScanStop::ChecksumMismatch | ScanStop::PageZero) => {
                    return Err(Discontinuity::Chain { frame: self.scanner.last().next() });
                }
            }
        }
        Ok(())
    }

    /// Ends the reading: the place reached, and how much was read.
    ///
    /// # Errors
    ///
    /// A [`Discontinuity`] when what was read is not exactly what lies between the place before and the header.
    pub fn finish(mut self) -> Result<(WalPlace, Tally), Discontinuity> {
        if self.remaining() > 0 {
            return Err(Discontinuity::TooShort { frame: self.last().next() });
        }
        if !self.is_at_commit || self.scanner.checksum() != self.to.frame_checksum {
            return Err(Discontinuity::Chain { frame: self.last() });
        }
        // Within one run the chain of checksums is the proof, and a recovery may have restarted the counter.
        let counted = self.compare_counter();
        if self.from.salts == self.to.salts {
            self.tally.is_recovered = counted.is_err();
        } else {
            counted?;
        }
        Ok((WalPlace { order: self.scanner.order(), ..WalPlace::at(&self.to) }, self.tally))
    }

    fn compare_counter(&self) -> Result<(), Discontinuity> {
        let Tally { commits, repeats, .. } = self.tally;
        let advance = self.to.change_counter.wrapping_sub(self.from.change_counter);
        if advance > commits || advance < commits.saturating_sub(repeats) {
            return Err(Discontinuity::Counter { commits, advance });
        }
        Ok(())
    }

    fn count(&mut self, frame: &Frame<'_>, changed: &mut dyn FnMut(PageNo)) {
        changed(frame.page);
        self.tally.frames += 1;
        self.is_at_commit = frame.commit_size.is_some();
        match frame.commit_size {
            Some(size) => {
                self.tally.commits += 1;
                self.tally.repeats += u32::from(self.last_commit.replace(frame.page, size, frame.image));
            }
            None => self.last_commit.clear(),
        }
    }
}

/// The commit frame directly before, to recognise its repeats.
#[derive(Clone, Debug)]
struct LastCommit {
    frame: Option<(PageNo, PageCount)>,
    image: Vec<u8>,
}

impl LastCommit {
    const NONE: Self = Self { frame: None, image: Vec::new() };

    /// Remembers this commit frame, and says whether it equals the one remembered.
    fn replace(&mut self, page: PageNo, size: PageCount, image: &[u8]) -> bool {
        if self.frame == Some((page, size)) && self.image == image {
            return true;
        }
        self.frame = Some((page, size));
        self.image.clear();
        self.image.extend_from_slice(image);
        false
    }

    const fn clear(&mut self) {
        self.frame = None;
    }
}

/// Why a reader cannot prove that it has read every commit: which pages changed must be found by comparing them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Discontinuity {
    /// The WAL ends before a frame that was committed already.
    #[error("frame {} was read already, but the WAL now ends at frame {}", at.get(), found.get())]
    Backwards {
        /// The last frame read.
        at: FrameNo,
        /// The last frame there is.
        found: FrameNo,
    },
    /// The frames are not one chain up to what the WAL-index names.
    #[error("the chain of checksums breaks at frame {} of the WAL", frame.get())]
    Chain {
        /// Where.
        frame: FrameNo,
    },
    /// The file is shorter than the WAL-index says.
    #[error("the WAL file ends before frame {}, which is committed", frame.get())]
    TooShort {
        /// The first frame missing.
        frame: FrameNo,
    },
    /// The transaction counter tells of commits that were not read, or was restarted by a recovery.
    #[error("read {commits} commits, but SQLite's transaction counter advanced by {advance}")]
    Counter {
        /// Commits read.
        commits: u32,
        /// Commits made.
        advance: u32,
    },
    /// The database file changed while no SQLite process could write to it.
    #[error("another program wrote to the database file")]
    Overwritten,
    /// WAL-index and WAL file speak of different runs.
    #[error("the WAL file does not belong to its WAL-index")]
    OtherRun,
    /// The WAL file does not begin with a WAL header.
    #[error("the WAL header cannot be read: {0}")]
    Header(HeaderError),
}

#[cfg(test)]
mod tests;
