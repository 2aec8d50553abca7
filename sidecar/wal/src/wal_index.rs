//! The first bytes of the WAL-index: which frames of the WAL are committed, and how many are in the database already.
//!
//! In:  136 bytes of shared memory, copied in this order: first header, second header, checkpoint words.
//! Out: the header, when both copies agree and their checksum is right.
//!
//! The integers are in the machine's own byte order, except the salts, which are as in the file. A torn header is normal
//! for a moment; it lasts only when its writer was killed, until somebody recovers the WAL.

use crate::checksum::{ByteOrder, Checksum};
use crate::frame::FrameNo;
use crate::header::{Salts, VERSION};
use crate::{IndexError, PageCount, PageSize};

/// How much of the WAL-index [`WalIndex::decode`] wants: two headers of 48 bytes and 40 bytes about checkpoints.
pub const WAL_INDEX_BYTES: usize = 136;

/// What the beginning of the WAL-index says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalIndex {
    /// Its header.
    pub header: IndexHeader,
    /// How many frames are copied into the database (`nBackfill`). Read after the header, without its checksum: true
    /// for this header only if the header is still the same afterwards.
    pub backfilled: FrameNo,
    /// How many frames the last checkpoint meant to copy (`nBackfillAttempted`), which it says before it begins. SQLite
    /// before 3.11 leaves it 0.
    pub attempted: FrameNo,
}

/// How far checkpoints came. As long as it stays the same, nobody recovers the WAL, and no checkpoint is under way, no SQLite
/// process has written to the database file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backfill {
    salts: Salts,
    done: FrameNo,
    attempted: FrameNo,
    /// Nothing was committed since a recovery that found frames, and forgot how many are copied. A second one could not be
    /// told from it.
    is_recovered: bool,
}

/// What the header of the WAL-index says: one committed state of the WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexHeader {
    /// Goes up by one with each transaction, across WAL restarts; starts again at 0 when somebody recovers the WAL.
    pub change_counter: u32,
    /// Byte order of the WAL's checksums.
    pub order: ByteOrder,
    /// Page size of the database. `None` in a new WAL-index, until the WAL holds its first frame.
    pub page_size: Option<PageSize>,
    /// The last committed frame (`mxFrame`).
    pub last_frame: FrameNo,
    /// Size of the database, when the WAL holds a frame.
    pub page_count: PageCount,
    /// The running checksum at the last frame. Left over from an earlier run when there is no frame.
    pub frame_checksum: Checksum,
    /// The salts of the current run. The file itself still has the old ones as long as there is no frame.
    pub salts: Salts,
}

impl WalIndex {
    /// Decodes a copy of the WAL-index's first bytes.
    ///
    /// # Errors
    ///
    /// An [`IndexError`]: this copy is no use; make another.
    pub fn decode(bytes: &[u8; WAL_INDEX_BYTES]) -> Result<Self, IndexError> {
        let (copies, checkpoint) = bytes.as_chunks::<HEADER_BYTES>();
        let [first, second] = copies else { return Err(IndexError::Torn) };
        if first != second {
            return Err(IndexError::Torn);
        }
        let header = IndexHeader::decode(first)?;
        let (words, _) = checkpoint.as_chunks::<4>();
        let frame = |word: usize| words.get(word).map(|word| FrameNo::new(u32::from_ne_bytes(*word)));
        let (Some(backfilled), Some(attempted)) = (frame(DONE_WORD), frame(ATTEMPTED_WORD)) else {
            return Err(IndexError::Torn);
        };
        Ok(Self { header, backfilled, attempted })
    }

    /// How far checkpoints came.
    #[must_use]
    pub const fn backfill(&self) -> Backfill {
        let (done, attempted) = (self.backfilled, self.attempted);
        let is_recovered = self.header.change_counter == 0 && self.header.last_frame.get() > 0;
        Backfill { salts: self.header.salts, done, attempted, is_recovered }
    }

    /// Whether the database file holds everything the WAL does.
    #[must_use]
    pub fn is_backfilled(&self) -> bool {
        self.backfilled == self.header.last_frame
    }
}

impl Backfill {
    /// Whether it proves that nobody checkpointed between two moments at which it was the same, and between which nobody
    /// recovered the WAL. Not in the middle of a checkpoint, which may write on, or have been killed there.
    #[must_use]
    pub const fn is_proof(&self) -> bool {
        !self.is_recovered && self.attempted.get() <= self.done.get()
    }
}

impl IndexHeader {
    fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, IndexError> {
        let [
            version,
            _,
            change_counter,
            flags,
            last_frame,
            pages,
            frame1,
            frame2,
            salt1,
            salt2,
            first,
            second,
        ] = words(bytes);
        let [is_initialised, is_big_endian, size1, size2] = flags;
        if is_initialised == 0 {
            return Err(IndexError::NotInitialised);
        }
        let [summed @ .., _, _, _, _, _, _, _, _] = bytes;
        let stored = Checksum { first: u32::from_ne_bytes(first), second: u32::from_ne_bytes(second) };
        if Checksum::default().update(ByteOrder::NATIVE, summed) != stored {
            return Err(IndexError::Checksum);
        }
        let version = u32::from_ne_bytes(version);
        if version != VERSION {
            return Err(IndexError::UnsupportedVersion { version });
        }
        let stored_size = u16::from_ne_bytes([size1, size2]);
        let last_frame = FrameNo::new(u32::from_ne_bytes(last_frame));
        let page_size = PageSize::from_stored(stored_size);
        if page_size.is_none() && (stored_size != 0 || last_frame != FrameNo::START) {
            return Err(IndexError::PageSize { stored: stored_size });
        }
        Ok(Self {
            change_counter: u32::from_ne_bytes(change_counter),
            order: if is_big_endian == 0 { ByteOrder::Little } else { ByteOrder::Big },
            page_size,
            last_frame,
            page_count: PageCount::new(u32::from_ne_bytes(pages)),
            frame_checksum: Checksum {
                first: u32::from_ne_bytes(frame1),
                second: u32::from_ne_bytes(frame2),
            },
            salts: salts(salt1, salt2),
        })
    }
}

/// The header as words of four bytes, their order untouched.
fn words(bytes: &[u8; HEADER_BYTES]) -> [[u8; 4]; 12] {
    let mut words = [[0; 4]; 12];
    for (word, chunk) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = *chunk;
    }
    words
}

const fn salts([a, b, c, d]: [u8; 4], [e, f, g, h]: [u8; 4]) -> Salts {
    Salts([a, b, c, d, e, f, g, h])
}

/// Whatever the bytes are, decoding does not panic, and a header accepted has two equal copies.
#[doc(hidden)]
pub fn fuzz_wal_index(bytes: &[u8]) {
    if let Some(bytes) = bytes.first_chunk()
        && WalIndex::decode(bytes).is_ok()
    {
        assert_eq!(bytes[..HEADER_BYTES], bytes[HEADER_BYTES..2 * HEADER_BYTES], "BUG: torn header accepted");
    }
}

const HEADER_BYTES: usize = 48;
/// Behind both headers: frames copied, five read marks, two words of locks, frames to be copied.
const DONE_WORD: usize = 0;
const ATTEMPTED_WORD: usize = 8;

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The bytes SQLite would leave in shared memory for this.
    pub(crate) fn encode(index: &WalIndex) -> [u8; WAL_INDEX_BYTES] {
        let header = &index.header;
        let mut bytes = Vec::new();
        bytes.extend(VERSION.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(header.change_counter.to_ne_bytes());
        bytes.extend([1, u8::from(header.order == ByteOrder::Big)]);
        let size = header.page_size.map_or(0, PageSize::get);
        bytes.extend(u16::try_from(size).unwrap_or(1).to_ne_bytes());
        bytes.extend(header.last_frame.get().to_ne_bytes());
        bytes.extend(header.page_count.get().to_ne_bytes());
        bytes.extend(header.frame_checksum.first.to_ne_bytes());
        bytes.extend(header.frame_checksum.second.to_ne_bytes());
        bytes.extend(header.salts.0);
        let checksum = Checksum::default().update(ByteOrder::NATIVE, &bytes);
        bytes.extend(checksum.first.to_ne_bytes());
        bytes.extend(checksum.second.to_ne_bytes());
        bytes.extend(bytes.clone());
        bytes.extend(index.backfilled.get().to_ne_bytes());
        bytes.extend([0; 28]);
        bytes.extend(index.attempted.get().to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.try_into().unwrap()
    }

    fn example() -> WalIndex {
        WalIndex {
            header: IndexHeader {
                change_counter: 9,
                order: ByteOrder::Big,
                page_size: Some(PageSize::MAX),
                last_frame: FrameNo::new(12),
                page_count: PageCount::new(7),
                frame_checksum: Checksum { first: 1, second: 2 },
                salts: Salts([8, 7, 6, 5, 4, 3, 2, 1]),
            },
            backfilled: FrameNo::new(11),
            attempted: FrameNo::new(12),
        }
    }

    #[test]
    fn what_sqlite_writes_is_read_also_65536_stored_as_1() {
        assert_eq!(WalIndex::decode(&encode(&example())), Ok(example()));
        assert!(!example().is_backfilled());
    }

    #[test]
    fn a_header_between_its_two_copies_is_torn() {
        let mut later = example();
        later.header.last_frame = FrameNo::new(13);
        let mut bytes = encode(&example());
        bytes[48..].copy_from_slice(&encode(&later)[48..]);
        assert_eq!(WalIndex::decode(&bytes), Err(IndexError::Torn));
    }

    #[test]
    fn two_equal_copies_with_a_wrong_checksum_are_refused() {
        let mut bytes = encode(&example());
        bytes[16] ^= 1;
        bytes[48 + 16] ^= 1;
        assert_eq!(WalIndex::decode(&bytes), Err(IndexError::Checksum));
    }

    #[test]
    fn after_a_recovery_with_frames_the_numbers_prove_nothing_until_the_next_commit() {
        let mut index = example();
        index.attempted = index.backfilled;
        assert!(index.backfill().is_proof());
        index.header.change_counter = 0;
        assert!(!index.backfill().is_proof());
        index.header.last_frame = FrameNo::START;
        assert!(index.backfill().is_proof(), "there was nothing to copy");
    }

    #[test]
    fn in_the_middle_of_a_checkpoint_the_numbers_prove_nothing() {
        let mut index = example();
        index.attempted = FrameNo::new(index.backfilled.get() + 1);
        assert!(!index.backfill().is_proof(), "it writes on, or was killed");
    }

    #[test]
    fn fresh_shared_memory_is_not_initialised() {
        assert_eq!(WalIndex::decode(&[0; WAL_INDEX_BYTES]), Err(IndexError::NotInitialised));
    }

    #[test]
    fn a_page_size_may_be_missing_only_as_long_as_there_is_no_frame() {
        let mut index = example();
        index.header.page_size = None;
        assert_eq!(WalIndex::decode(&encode(&index)), Err(IndexError::PageSize { stored: 0 }));
        index.header.last_frame = FrameNo::START;
        assert_eq!(WalIndex::decode(&encode(&index)), Ok(index));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(half in proptest::collection::vec(any::<u8>(), 48), twice in any::<bool>()) {
            let mut bytes = half.clone();
            bytes.extend(if twice { half } else { vec![1; 48] });
            bytes.extend([0; 40]);
            fuzz_wal_index(&bytes);
        }
    }
}
