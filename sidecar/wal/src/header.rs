//! The first 32 bytes of a `-wal` file.
//!
//! Eight big-endian words: magic, format, page size, checkpoint sequence, two salts, two checksums.

use crate::checksum::{ByteOrder, Checksum};
use crate::{HeaderError, PageSize};

/// Size of the WAL header in bytes: where frame 1 begins.
pub const WAL_HEADER_BYTES: usize = 32;

/// The two numbers that say to which run through the same file a frame belongs; a WAL restart changes them.
///
/// Kept as the eight bytes of the file, because the WAL-index holds them that way too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Salts(pub [u8; 8]);

impl Salts {
    /// The first salt. One more after most restarts, but random after some: never build on it.
    #[must_use]
    pub const fn first(self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        u32::from_be_bytes([a, b, c, d])
    }

    /// The second salt: random after every restart.
    #[must_use]
    pub const fn second(self) -> u32 {
        let [.., a, b, c, d] = self.0;
        u32::from_be_bytes([a, b, c, d])
    }
}

/// What the WAL header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalHeader {
    /// Byte order of all checksums of this WAL.
    pub order: ByteOrder,
    /// Size of the page images in the frames.
    pub page_size: PageSize,
    /// What every frame of this run carries.
    pub salts: Salts,
    /// The checksum of this header, which that of frame 1 continues.
    pub checksum: Checksum,
}

impl WalHeader {
    /// Decodes a WAL header.
    ///
    /// # Errors
    ///
    /// A [`HeaderError`] when the bytes are not a WAL header, or one that is being written just now.
    pub fn decode(bytes: &[u8; WAL_HEADER_BYTES]) -> Result<Self, HeaderError> {
        let [magic, version, page_size, _sequence, salt1, salt2, first, second] = words(bytes);
        let order = match magic {
            MAGIC_LITTLE => ByteOrder::Little,
            MAGIC_BIG => ByteOrder::Big,
            _ => return Err(HeaderError::NotAWal { magic }),
        };
        let [summed @ .., _, _, _, _, _, _, _, _] = bytes;
        let checksum = Checksum::default().update(order, summed);
        if checksum != (Checksum { first, second }) {
            return Err(HeaderError::Checksum);
        }
        if version != VERSION {
            return Err(HeaderError::UnsupportedVersion { version });
        }
        let page_size = PageSize::try_new(page_size).ok_or(HeaderError::PageSize { bytes: page_size })?;
        Ok(Self { order, page_size, salts: salts(salt1, salt2), checksum })
    }
}

/// The big-endian words of a header.
fn words(bytes: &[u8; WAL_HEADER_BYTES]) -> [u32; 8] {
    let mut words = [0; 8];
    for (word, chunk) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = u32::from_be_bytes(*chunk);
    }
    words
}

const fn salts(first: u32, second: u32) -> Salts {
    let ([a, b, c, d], [e, f, g, h]) = (first.to_be_bytes(), second.to_be_bytes());
    Salts([a, b, c, d, e, f, g, h])
}

/// Whatever the bytes are, decoding neither panics nor accepts a header with a wrong checksum.
#[doc(hidden)]
pub fn fuzz_wal_header(bytes: &[u8]) {
    if let Some(bytes) = bytes.first_chunk()
        && let Ok(header) = WalHeader::decode(bytes)
    {
        assert_eq!(
            Checksum::default().update(header.order, &bytes[..24]),
            header.checksum,
            "BUG: unchecked header"
        );
    }
}

/// The lowest bit of the magic number is set when checksums are big-endian.
const MAGIC_LITTLE: u32 = 0x377f_0682;
const MAGIC_BIG: u32 = 0x377f_0683;
/// Both WAL and WAL-index carry SQLite's version number 3.7.0, in which they appeared.
pub(crate) const VERSION: u32 = 3_007_000;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn encode(order: ByteOrder, page_size: u32, salts: Salts) -> [u8; WAL_HEADER_BYTES] {
        let magic = if order == ByteOrder::Big { MAGIC_BIG } else { MAGIC_LITTLE };
        let mut bytes = [0; WAL_HEADER_BYTES];
        bytes[..4].copy_from_slice(&magic.to_be_bytes());
        bytes[4..8].copy_from_slice(&VERSION.to_be_bytes());
        bytes[8..12].copy_from_slice(&page_size.to_be_bytes());
        bytes[16..24].copy_from_slice(&salts.0);
        let checksum = Checksum::default().update(order, &bytes[..24]);
        bytes[24..28].copy_from_slice(&checksum.first.to_be_bytes());
        bytes[28..].copy_from_slice(&checksum.second.to_be_bytes());
        bytes
    }

    const SALTS: Salts = Salts([1, 2, 3, 4, 5, 6, 7, 8]);

    #[test]
    fn a_header_is_read_in_both_byte_orders() {
        for order in [ByteOrder::Little, ByteOrder::Big] {
            let header = WalHeader::decode(&encode(order, 65_536, SALTS)).unwrap();
            assert_eq!((header.order, header.page_size, header.salts), (order, PageSize::MAX, SALTS));
            assert_eq!((header.salts.first(), header.salts.second()), (0x0102_0304, 0x0506_0708));
        }
    }

    #[test]
    fn the_magic_number_says_which_byte_order_the_checksums_have() {
        let mut swapped = encode(ByteOrder::Little, 4096, SALTS);
        swapped[3] = 0x83;
        assert_eq!(WalHeader::decode(&swapped), Err(HeaderError::Checksum));
    }

    #[test]
    fn a_torn_header_has_a_wrong_checksum() {
        let mut torn = encode(ByteOrder::Little, 4096, SALTS);
        torn[16] ^= 1;
        assert_eq!(WalHeader::decode(&torn), Err(HeaderError::Checksum));
    }

    #[test]
    fn an_empty_file_of_zeros_is_no_wal() {
        assert_eq!(WalHeader::decode(&[0; WAL_HEADER_BYTES]), Err(HeaderError::NotAWal { magic: 0 }));
    }

    #[test]
    fn a_page_size_that_sqlite_does_not_have_is_refused() {
        let bytes = encode(ByteOrder::Little, 1, SALTS);
        assert_eq!(WalHeader::decode(&bytes), Err(HeaderError::PageSize { bytes: 1 }));
    }
}
