//! The first 100 bytes of a file.
//!
//! We write flags 2 (no database checksums in Litestream's own fields, which it refuses) and put the rolling
//! checksums of the database into the reserved bytes instead, behind the mark `LB02`. We read flags 0 and 2.

use lifeboat_wal::{PageCount, PageSize};

use crate::checksum::Checksum;
use crate::error::{DecodeError, HeaderError, Part};
use crate::txid::Txid;

/// Size of the header in bytes.
pub const HEADER_SIZE: usize = 100;

/// What a file says about itself before its pages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// Page size of the database.
    pub page_size: PageSize,
    /// Commit size: how many pages the database has after this file.
    pub commit: PageCount,
    /// First TXID in this file.
    pub min_txid: Txid,
    /// Last TXID in this file.
    pub max_txid: Txid,
    /// When the file was made: milliseconds since 1970, UTC. Never used for order.
    pub timestamp_ms: i64,
    /// Where in the WAL the frames began, bytes; at most `i64::MAX`. 32 is the first frame.
    pub wal_offset: u64,
    /// How many bytes of the WAL the frames took; at most `i64::MAX`.
    pub wal_size: u64,
    /// The salts of the WAL, 0 when unknown.
    pub salts: (u32, u32),
    /// Who wrote the file. Lifeboat puts the epoch here; Litestream 0.
    pub node_id: u64,
    /// Lifeboat's mark; Litestream's files have none.
    pub mark: Option<Mark>,
}

/// Lifeboat's mark in the reserved bytes: rolling checksums of the whole database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mark {
    /// Checksum before this file is applied.
    pub pre_apply: Checksum,
    /// Checksum after this file is applied.
    pub post_apply: Checksum,
}

impl Header {
    /// Encodes the header as this version writes it.
    ///
    /// # Errors
    /// When the TXIDs are out of order or the place in the WAL contradicts itself.
    pub fn encode(&self) -> Result<[u8; HEADER_SIZE], HeaderError> {
        self.check()?;
        let mut bytes = [0; HEADER_SIZE];
        let mut rest = bytes.as_mut_slice();
        put(&mut rest, &MAGIC);
        put(&mut rest, &FLAG_NO_CHECKSUM.to_be_bytes());
        put(&mut rest, &self.page_size.get().to_be_bytes());
        put(&mut rest, &self.commit.get().to_be_bytes());
        put(&mut rest, &self.min_txid.get().to_be_bytes());
        put(&mut rest, &self.max_txid.get().to_be_bytes());
        put(&mut rest, &self.timestamp_ms.to_be_bytes());
        put(&mut rest, &[0; 8]);
        put(&mut rest, &self.wal_offset.to_be_bytes());
        put(&mut rest, &self.wal_size.to_be_bytes());
        put(&mut rest, &self.salts.0.to_be_bytes());
        put(&mut rest, &self.salts.1.to_be_bytes());
        put(&mut rest, &self.node_id.to_be_bytes());
        if let Some(mark) = self.mark {
            put(&mut rest, &MARK);
            put(&mut rest, &mark.pre_apply.get().to_be_bytes());
            put(&mut rest, &mark.post_apply.get().to_be_bytes());
        }
        Ok(bytes)
    }

    /// Decodes the first [`HEADER_SIZE`] bytes of a file; what follows is not looked at.
    ///
    /// # Errors
    /// When the bytes are too few, or are no header this version knows.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let Some(bytes) = bytes.first_chunk() else {
            return Err(DecodeError::Truncated { part: Part::Header, at: 0 });
        };
        Ok(decode(bytes)?.0)
    }

    /// Whether the file must hold every page, because no earlier file can exist.
    #[must_use]
    pub fn holds_every_page(&self) -> bool {
        self.min_txid == Txid::FIRST
    }

    /// What must hold on both ways, in and out.
    fn check(&self) -> Result<(), HeaderError> {
        let (min, max) = (self.min_txid, self.max_txid);
        if min > max {
            return Err(HeaderError::TxidOrder { min, max });
        }
        let (offset, size) = (self.wal_offset, self.wal_size);
        let names_a_place = size != 0 || self.salts != (0, 0);
        if offset > MAX_SIGNED || size > MAX_SIGNED || (offset == 0 && names_a_place) {
            return Err(HeaderError::WalPlace { offset, size });
        }
        Ok(())
    }
}

/// Whether Litestream's own checksum fields are in use: flags 0 says yes, flags 2 no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tracking {
    Checksums,
    NoChecksums,
}

/// Decodes a header and what its flags say.
pub(crate) fn decode(bytes: &[u8; HEADER_SIZE]) -> Result<(Header, Tracking), HeaderError> {
    let mut fields = Fields(bytes);
    let magic = fields.take();
    if magic != MAGIC {
        return Err(HeaderError::Magic { found: magic });
    }
    let tracking = match fields.u32() {
        0 => Tracking::Checksums,
        FLAG_NO_CHECKSUM => Tracking::NoChecksums,
        found => return Err(HeaderError::Flags { found }),
    };
    let page_size = fields.u32();
    let page_size = PageSize::try_new(page_size).ok_or(HeaderError::PageSize { found: page_size })?;
    let commit = PageCount::new(fields.u32());
    let min_txid = Txid::try_new(fields.u64()).ok_or(HeaderError::TxidZero)?;
    let max_txid = Txid::try_new(fields.u64()).ok_or(HeaderError::TxidZero)?;
    let timestamp_ms = i64::from_be_bytes(fields.take());
    let pre_apply = fields.u64();
    let header = Header {
        page_size,
        commit,
        min_txid,
        max_txid,
        timestamp_ms,
        wal_offset: fields.u64(),
        wal_size: fields.u64(),
        salts: (fields.u32(), fields.u32()),
        node_id: fields.u64(),
        mark: decode_mark(&mut fields)?,
    };
    header.check()?;
    check_pre_apply(&header, tracking, pre_apply)?;
    Ok((header, tracking))
}

fn decode_mark(fields: &mut Fields<'_>) -> Result<Option<Mark>, HeaderError> {
    let tag: [u8; 4] = fields.take();
    let sums = [fields.u64(), fields.u64()];
    if tag == MARK {
        let [pre_apply, post_apply] = sums.map(|found| Checksum::try_new(found).ok_or(found));
        let wrong = |found| HeaderError::MarkChecksum { found };
        let (pre_apply, post_apply) = (pre_apply.map_err(wrong)?, post_apply.map_err(wrong)?);
        return Ok(Some(Mark { pre_apply, post_apply }));
    }
    if tag == [0; 4] && sums == [0; 2] { Ok(None) } else { Err(HeaderError::Reserved { found: tag }) }
}

fn check_pre_apply(header: &Header, tracking: Tracking, found: u64) -> Result<(), HeaderError> {
    let is_right = match tracking {
        Tracking::Checksums if !header.holds_every_page() => Checksum::try_new(found).is_some(),
        Tracking::Checksums | Tracking::NoChecksums => found == 0,
    };
    if is_right { Ok(()) } else { Err(HeaderError::PreApply { found }) }
}

/// Big-endian fields, front to back. The header has a fixed size, so running out of bytes cannot happen.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let Some((field, rest)) = self.0.split_first_chunk() else {
            return [0; N];
        };
        self.0 = rest;
        *field
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take())
    }
}

fn put(rest: &mut &mut [u8], field: &[u8]) {
    let (place, after) = std::mem::take(rest).split_at_mut(field.len());
    place.copy_from_slice(field);
    *rest = after;
}

const MAGIC: [u8; 4] = *b"LTX1";
const MARK: [u8; 4] = *b"LB02";
const FLAG_NO_CHECKSUM: u32 = 2;
const MAX_SIGNED: u64 = i64::MAX as u64;

const _: () = assert!(4 * 4 + 8 * 6 + 4 * 2 + 8 + 20 == HEADER_SIZE);

/// A header tests vary.
#[cfg(test)]
pub(crate) fn example() -> Header {
    Header {
        page_size: PageSize::MIN,
        commit: PageCount::new(3),
        min_txid: Txid::FIRST,
        max_txid: Txid::FIRST,
        timestamp_ms: 1_700_000_000_123,
        wal_offset: 32,
        wal_size: 0,
        salts: (1, 2),
        node_id: 7,
        mark: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patched(at: usize, bytes: &[u8]) -> Result<Header, DecodeError> {
        let mut header = example().encode().unwrap();
        header[at..at + bytes.len()].copy_from_slice(bytes);
        Header::decode(&header)
    }

    fn error(result: Result<Header, DecodeError>) -> HeaderError {
        match result {
            Err(DecodeError::Header(error)) => error,
            other => panic!("expected a header error, got {other:?}"),
        }
    }

    #[test]
    fn a_header_survives_its_bytes() {
        let mark = Mark { pre_apply: Checksum::EMPTY, post_apply: Checksum::try_new(u64::MAX).unwrap() };
        for mark in [None, Some(mark)] {
            let header = Header { mark, timestamp_ms: -1, node_id: u64::MAX, ..example() };
            assert_eq!(Header::decode(&header.encode().unwrap()).unwrap(), header);
        }
    }

    #[test]
    fn each_impossible_field_is_named() {
        assert!(matches!(error(patched(0, b"LTX2")), HeaderError::Magic { .. }));
        assert_eq!(error(patched(4, &[0, 0, 0, 1])), HeaderError::Flags { found: 1 });
        assert_eq!(error(patched(8, &[0, 0, 2, 1])), HeaderError::PageSize { found: 513 });
        assert_eq!(error(patched(16, &[0; 8])), HeaderError::TxidZero);
        assert_eq!(error(patched(24, &[0; 8])), HeaderError::TxidZero);
        assert!(matches!(error(patched(16, &[9; 8])), HeaderError::TxidOrder { .. }));
        assert!(matches!(error(patched(40, &[0x80])), HeaderError::PreApply { .. }));
        assert!(matches!(error(patched(48, &[0; 8])), HeaderError::WalPlace { .. }));
        assert!(matches!(error(patched(48, &[0x80])), HeaderError::WalPlace { .. }));
        assert_eq!(error(patched(80, b"LB01")), HeaderError::Reserved { found: *b"LB01" });
        assert_eq!(error(patched(99, &[1])), HeaderError::Reserved { found: [0; 4] });
        assert_eq!(error(patched(80, b"LB02")), HeaderError::MarkChecksum { found: 0 });
    }

    #[test]
    fn with_flags_0_a_later_file_must_have_a_pre_apply_checksum_and_a_first_one_must_not() {
        let later =
            Header { min_txid: Txid::try_new(5).unwrap(), max_txid: Txid::try_new(5).unwrap(), ..example() };
        let decode = |header: &Header, sum: u64| {
            let mut bytes = header.encode().unwrap();
            bytes[7] = 0;
            bytes[40..48].copy_from_slice(&sum.to_be_bytes());
            Header::decode(&bytes)
        };
        assert_eq!(decode(&later, 1 << 63).unwrap(), later);
        assert_eq!(error(decode(&later, 0)), HeaderError::PreApply { found: 0 });
        assert_eq!(error(decode(&later, 1)), HeaderError::PreApply { found: 1 });
        assert_eq!(decode(&example(), 0).unwrap(), example());
        assert_eq!(error(decode(&example(), 1 << 63)), HeaderError::PreApply { found: 1 << 63 });
    }

    #[test]
    fn a_header_that_could_not_be_read_back_is_not_written() {
        let backwards = Header { min_txid: Txid::try_new(2).unwrap(), ..example() };
        assert!(matches!(backwards.encode(), Err(HeaderError::TxidOrder { .. })));
        let nowhere = Header { wal_offset: 0, ..example() };
        assert!(matches!(nowhere.encode(), Err(HeaderError::WalPlace { .. })));
    }

    #[test]
    fn ninety_nine_bytes_are_no_header() {
        let bytes = example().encode().unwrap();
        assert_eq!(Header::decode(&bytes[..99]), Err(DecodeError::Truncated { part: Part::Header, at: 0 }));
    }
}
