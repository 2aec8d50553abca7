//! Where each page lies inside a file: the part a restore reads first.
//!
//! On disk: per page three variable-length integers (page number, offset, size), then a zero, then the size of all
//! that as eight bytes. Frames lie back to back, so each entry must begin where the one before ends.

use std::fmt;
use std::hash::Hasher;

use lifeboat_wal::PageNo;
use twox_hash::XxHash3_64;

use crate::error::{DecodeError, Part};
use crate::header::HEADER_SIZE;

/// Where one page lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageEntry {
    /// The page.
    pub page: PageNo,
    /// Where its frame begins, bytes from the beginning of the file.
    pub offset: u64,
    /// Size of the frame, bytes.
    pub size: u64,
}

/// Where every page of a file lies, in page order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageIndex(Vec<PageEntry>);

impl PageIndex {
    /// The entries, pages ascending.
    #[must_use]
    pub fn entries(&self) -> &[PageEntry] {
        &self.0
    }

    /// Where the page lies, if the file has it.
    #[must_use]
    pub fn get(&self, page: PageNo) -> Option<PageEntry> {
        let found = self.0.binary_search_by_key(&page, |entry| entry.page).ok()?;
        self.0.get(found).copied()
    }

    /// How many pages the file has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the file has no page.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The index of these entries, which were checked.
    pub(crate) const fn of(entries: Vec<PageEntry>) -> Self {
        Self(entries)
    }

    /// Where the last frame ends.
    fn end(&self) -> u64 {
        self.0.last().map_or(HEADER_SIZE as u64, |entry| entry.offset + entry.size)
    }

    /// Decodes entries up to and including the zero, which must be the last byte. `at` is where they lie in the file.
    ///
    /// Only their spelling and that they lie back to back is checked here, not which pages they name.
    pub(crate) fn decode(bytes: &[u8], at: u64) -> Result<Self, DecodeError> {
        let mut index = Self::default();
        let mut rest = bytes;
        loop {
            let wrong = DecodeError::PageIndex { at: at + (bytes.len() - rest.len()) as u64 };
            match take_entry(&mut rest) {
                Ok(Some(entry)) if entry.offset == index.end() && entry.fits() => index.0.push(entry),
                Ok(None) if rest.is_empty() => return Ok(index),
                Ok(Some(_) | None) => return Err(wrong),
                Err(Cut) if rest.is_empty() => {
                    return Err(DecodeError::Truncated { part: Part::PageIndex, at });
                }
                Err(Cut) => return Err(wrong),
            }
        }
    }
}

impl PageEntry {
    /// Whether the frame ends where an offset can still name it.
    pub(crate) const fn fits(&self) -> bool {
        self.size > 0 && self.offset.checked_add(self.size).is_some()
    }
}

/// The page index of a file that is being written: kept encoded.
#[derive(Debug, Default)]
pub(crate) struct IndexBytes(Vec<u8>);

impl IndexBytes {
    pub(crate) fn push(&mut self, entry: PageEntry) {
        put_entry(&mut self.0, entry);
    }

    /// Entries, zero and size, as they stand in the file.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        put_varint(&mut self.0, 0);
        let size = self.0.len() as u64;
        self.0.extend_from_slice(&size.to_be_bytes());
        self.0
    }
}

/// What the page index must be of a file that is being read. Its bytes are not kept: a large file has millions of pages.
#[derive(Debug, Default)]
pub(crate) struct ExpectedIndex {
    digest: IndexDigest,
    entry: Vec<u8>,
}

/// Length and hash of a page index, its size included.
#[derive(Clone, Default)]
pub(crate) struct IndexDigest {
    pub(crate) bytes: u64,
    hash: XxHash3_64,
}

impl ExpectedIndex {
    pub(crate) fn push(&mut self, entry: PageEntry) {
        self.entry.clear();
        put_entry(&mut self.entry, entry);
        self.digest.update(&self.entry);
    }

    /// Of entries, zero and size, as they stand in the file.
    pub(crate) fn finish(mut self) -> IndexDigest {
        self.digest.update(&[0]);
        let size = self.digest.bytes;
        self.digest.update(&size.to_be_bytes());
        self.digest
    }
}

impl IndexDigest {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.hash.write(bytes);
    }
}

impl PartialEq for IndexDigest {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes && self.hash.finish() == other.hash.finish()
    }
}

impl fmt::Debug for IndexDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexDigest").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// The integer is cut, or not written the shortest way.
pub(crate) struct Cut;

/// The next entry, or `None` for the zero after the last.
pub(crate) fn take_entry(rest: &mut &[u8]) -> Result<Option<PageEntry>, Cut> {
    let number = u32::try_from(take_varint(rest)?).map_err(|_| Cut)?;
    let Some(page) = PageNo::try_new(number) else {
        return Ok(None);
    };
    Ok(Some(PageEntry { page, offset: take_varint(rest)?, size: take_varint(rest)? }))
}

/// Seven bits a byte, lowest first, bit 7 set on all but the last.
fn take_varint(rest: &mut &[u8]) -> Result<u64, Cut> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (&byte, after) = rest.split_first().ok_or(Cut)?;
        *rest = after;
        let bits = u64::from(byte & 0x7f);
        if bits.leading_zeros() < shift || (byte == 0 && shift > 0) {
            return Err(Cut);
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Cut)
}

/// The most bytes an entry takes: three integers, of 5, 10 and 10 bytes.
pub(crate) const ENTRY_BYTES_MAX: usize = 25;

fn put_entry(bytes: &mut Vec<u8>, entry: PageEntry) {
    for number in [u64::from(entry.page.get()), entry.offset, entry.size] {
        put_varint(bytes, number);
    }
}

fn put_varint(bytes: &mut Vec<u8>, mut number: u64) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            bytes.push(low & 0x7f);
            return;
        }
        bytes.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_of_integer_survives_its_bytes() {
        for number in (0..64).map(|bit| 1_u64 << bit).chain([0, 127, 128, u64::MAX]) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, number);
            let mut rest = bytes.as_slice();
            assert!(matches!(take_varint(&mut rest), Ok(read) if read == number), "{number}");
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn overlong_and_overlarge_integers_are_refused() {
        for bytes in [
            &[0x80, 0][..],
            &[0x80],
            &[],
            &[0xff; 10],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
        ] {
            assert!(take_varint(&mut { bytes }).is_err(), "{bytes:?}");
        }
    }

    fn entry(page: u32, offset: u64, size: u64) -> PageEntry {
        PageEntry { page: PageNo::try_new(page).unwrap(), offset, size }
    }

    fn bytes(entries: &[PageEntry]) -> Vec<u8> {
        let mut bytes = IndexBytes::default();
        entries.iter().for_each(|&entry| bytes.push(entry));
        let mut bytes = bytes.finish();
        bytes.truncate(bytes.len() - 8);
        bytes
    }

    #[test]
    fn an_index_survives_its_bytes_and_finds_pages() {
        let entries = [entry(1, 100, 50), entry(7, 150, 1000)];
        let index = PageIndex::decode(&bytes(&entries), 0).unwrap();
        assert_eq!(index.entries(), entries);
        assert_eq!(index.get(entries[1].page), Some(entries[1]));
        assert_eq!(index.get(PageNo::try_new(2).unwrap()), None);
        assert_eq!(index.end(), 1150);
    }

    #[test]
    fn frames_that_do_not_lie_back_to_back_are_refused() {
        for second in [entry(2, 149, 9), entry(2, 151, 9), entry(2, 150, 0), entry(2, 150, u64::MAX)] {
            let bytes = bytes(&[entry(1, 100, 50), second]);
            assert_eq!(PageIndex::decode(&bytes, 1000), Err(DecodeError::PageIndex { at: 1003 }));
        }
    }
}
