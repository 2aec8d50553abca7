//! The checksums of the format: of a page, of a whole database, of a file.
//!
//! Files are summed by CRC-64/GO-ISO, pages by XXH3. The checksum of a database is the XOR over its pages, so it follows a
//! change of one page without reading the others; it and the checksum of a file always have bit 63 set, so that 0 can mean
//! "none".

use std::fmt;
use std::str::FromStr;

use crc_fast::{CrcAlgorithm, Digest};
use lifeboat_wal::PageNo;
use twox_hash::XxHash3_64;

use crate::error::ParseError;
use crate::txid::parse_hex16;

/// Checksum of one page: its number and its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageChecksum(u64);

impl PageChecksum {
    /// Computes the checksum of a page: XXH3 of its image, seeded with its number.
    ///
    /// Not a CRC, as in Litestream's own fields: a CRC is linear like the XOR of a database's checksum, so pages that change
    /// in the same way would cancel each other out, and ordinary SQL does that.
    #[must_use]
    pub fn of(page: PageNo, image: &[u8]) -> Self {
        Self(XxHash3_64::oneshot_with_seed(u64::from(page.get()), image))
    }

    /// The checksum that files with checksums of their own kind use (flags 0): CRC-64/GO-ISO of number and image.
    pub(crate) fn by_crc(page: PageNo, image: &[u8]) -> Self {
        let mut digest = Digest::new(ALGORITHM);
        digest.update(&page.get().to_be_bytes());
        digest.update(image);
        Self(digest.finalize())
    }

    /// A checksum computed earlier and kept by the caller.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// All 64 bits.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Rolling checksum of a whole database. The lock page never takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Checksum(u64);

impl Checksum {
    /// The checksum of a database without pages.
    pub const EMPTY: Self = Self(FLAG);

    /// A checksum as stored, or `None` when bit 63, which every checksum has, is missing.
    #[must_use]
    pub const fn try_new(bits: u64) -> Option<Self> {
        if bits & FLAG == 0 { None } else { Some(Self(bits)) }
    }

    /// Computes the checksum of one page; see [`PageChecksum::of`].
    #[must_use]
    pub fn page_checksum(page: PageNo, image: &[u8]) -> PageChecksum {
        PageChecksum::of(page, image)
    }

    /// Puts a page in, or takes it out again: the operation is its own inverse.
    #[must_use]
    pub const fn toggle(self, page: PageChecksum) -> Self {
        Self(FLAG | (self.0 ^ page.0))
    }

    /// All 64 bits, bit 63 set.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Checksum {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        parse_hex16(text)
            .and_then(Self::try_new)
            .ok_or_else(|| ParseError::Checksum { text: text.to_owned() })
    }
}

/// Checksum of the content of one LTX file, with pages taken uncompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileChecksum(u64);

impl FileChecksum {
    /// A checksum as stored, or `None` when bit 63, which every checksum has, is missing.
    #[must_use]
    pub const fn try_new(bits: u64) -> Option<Self> {
        if bits & FLAG == 0 { None } else { Some(Self(bits)) }
    }

    /// All 64 bits, bit 63 set.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for FileChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A [`FileChecksum`] in the making.
#[derive(Debug)]
pub(crate) struct FileDigest(Digest);

impl FileDigest {
    pub(crate) fn new() -> Self {
        Self(Digest::new(ALGORITHM))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Goes on with what another one has digested, as if its bytes had come here.
    pub(crate) fn append(&mut self, rest: &Self) {
        self.0.combine(&rest.0);
    }

    pub(crate) fn finish(&self) -> FileChecksum {
        FileChecksum(FLAG | self.0.finalize())
    }
}

const ALGORITHM: CrcAlgorithm = CrcAlgorithm::Crc64GoIso;
const FLAG: u64 = 1 << 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crc_is_the_one_of_the_catalogue() {
        // CRC-64/GO-ISO of "123456789", from the catalogue of parametrised CRC algorithms.
        let mut digest = Digest::new(ALGORITHM);
        digest.update(b"123456789");
        assert_eq!(digest.finalize(), 0xb909_56c7_75a4_1001);
    }

    #[test]
    fn a_page_toggled_twice_leaves_no_trace() {
        let one = Checksum::page_checksum(PageNo::FIRST, &[1; 512]);
        let two = Checksum::page_checksum(PageNo::try_new(2).unwrap(), &[2; 512]);
        let both = Checksum::EMPTY.toggle(one).toggle(two);
        assert_eq!(both, Checksum::EMPTY.toggle(two).toggle(one));
        assert_eq!(both.toggle(one).toggle(two), Checksum::EMPTY);
        assert_ne!(both, Checksum::EMPTY);
    }

    #[test]
    fn the_same_image_at_two_numbers_has_two_checksums() {
        let image = [7; 512];
        assert_ne!(
            Checksum::page_checksum(PageNo::FIRST, &image),
            Checksum::page_checksum(PageNo::try_new(2).unwrap(), &image)
        );
    }

    #[test]
    fn two_pages_that_change_alike_do_not_cancel_each_other_out() {
        let database = |of: fn(PageNo, &[u8]) -> PageChecksum, second: u8, third: u8| {
            let (mut one, mut two) = ([7; 512], [200; 512]);
            (one[100], two[100]) = (7 ^ second, 200 ^ third);
            let page = |number, image: &[u8]| of(PageNo::try_new(number).unwrap(), image);
            Checksum::EMPTY.toggle(page(2, &one)).toggle(page(3, &two))
        };
        assert_ne!(database(PageChecksum::of, 0, 0), database(PageChecksum::of, 0x55, 0x55));
        // Why it is not a CRC.
        assert_eq!(database(PageChecksum::by_crc, 0, 0), database(PageChecksum::by_crc, 0x55, 0x55));
    }

    #[test]
    fn text_without_bit_63_is_no_checksum() {
        assert_eq!("8000000000000000".parse::<Checksum>().unwrap(), Checksum::EMPTY);
        assert_eq!(Checksum::EMPTY.to_string(), "8000000000000000");
        assert!("7fffffffffffffff".parse::<Checksum>().is_err());
    }
}
