//! The first 100 bytes of a database file, which are the beginning of page 1.

use crate::sqlite_version::SqliteVersion;
use crate::{DatabaseHeaderError, PageCount, PageSize};

/// Size of the database header in bytes.
pub const DATABASE_HEADER_BYTES: usize = 100;

/// What the database header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatabaseHeader {
    /// Size of every page.
    pub page_size: PageSize,
    /// Whether the database is in WAL mode.
    pub is_wal: bool,
    /// Counts commits in rollback-journal mode; in WAL mode it need not move.
    pub change_counter: u32,
    /// Size of the database in pages as of the last write to this header; 0 in files of very old SQLite.
    pub page_count: PageCount,
    /// The change counter at the time of that write. Programs that know only the counter leave this behind.
    pub counted_at: u32,
    /// The SQLite that made that write.
    pub written_by: Option<SqliteVersion>,
}

impl DatabaseHeader {
    /// Decodes a database header.
    ///
    /// # Errors
    ///
    /// A [`DatabaseHeaderError`] when the bytes are not the beginning of an SQLite database.
    pub fn decode(bytes: &[u8; DATABASE_HEADER_BYTES]) -> Result<Self, DatabaseHeaderError> {
        if !bytes.starts_with(MAGIC) {
            return Err(DatabaseHeaderError::NotADatabase);
        }
        let stored = u16::from_be_bytes(at(bytes, 16));
        Ok(Self {
            page_size: PageSize::from_stored(stored).ok_or(DatabaseHeaderError::PageSize { stored })?,
            is_wal: at(bytes, 18) == [2, 2],
            change_counter: u32::from_be_bytes(at(bytes, 24)),
            page_count: PageCount::new(u32::from_be_bytes(at(bytes, 28))),
            counted_at: u32::from_be_bytes(at(bytes, 92)),
            written_by: SqliteVersion::from_stored(u32::from_be_bytes(at(bytes, 96))),
        })
    }

    /// The size of the database in pages, as far as this header can be believed: else 0, and the file's length counts.
    #[must_use]
    pub const fn trusted_page_count(&self) -> PageCount {
        if self.counted_at == self.change_counter { self.page_count } else { PageCount::new(0) }
    }
}

/// The `N` bytes at an offset within the header.
fn at<const N: usize>(bytes: &[u8; DATABASE_HEADER_BYTES], offset: usize) -> [u8; N] {
    bytes.get(offset..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

const MAGIC: &[u8; 16] = b"SQLite format 3\0";

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> [u8; DATABASE_HEADER_BYTES] {
        let mut bytes = [0; DATABASE_HEADER_BYTES];
        bytes[..16].copy_from_slice(MAGIC);
        bytes[16..20].copy_from_slice(&[0, 1, 2, 2]);
        bytes[24..28].copy_from_slice(&[0, 0, 1, 2]);
        bytes[28..32].copy_from_slice(&[0, 0, 0, 9]);
        bytes[96..100].copy_from_slice(&3_045_001_u32.to_be_bytes());
        bytes
    }

    #[test]
    fn the_fields_are_read_and_a_page_size_of_1_means_65536() {
        let header = DatabaseHeader::decode(&example()).unwrap();
        assert_eq!((header.page_size, header.is_wal), (PageSize::MAX, true));
        assert_eq!((header.change_counter, header.page_count), (258, PageCount::new(9)));
        assert_eq!(header.written_by.unwrap().to_string(), "3.45.1");
    }

    #[test]
    fn a_size_that_was_written_for_another_change_is_not_believed() {
        let mut bytes = example();
        assert_eq!(DatabaseHeader::decode(&bytes).unwrap().trusted_page_count(), PageCount::new(0));
        bytes[92..96].copy_from_slice(&[0, 0, 1, 2]);
        assert_eq!(DatabaseHeader::decode(&bytes).unwrap().trusted_page_count(), PageCount::new(9));
    }

    #[test]
    fn anything_else_is_not_a_database() {
        assert_eq!(DatabaseHeader::decode(&[b'S'; 100]), Err(DatabaseHeaderError::NotADatabase));
        let mut bytes = example();
        bytes[17] = 3;
        assert_eq!(DatabaseHeader::decode(&bytes), Err(DatabaseHeaderError::PageSize { stored: 3 }));
    }
}
