//! A seal: a slot without pages, by which a new writer closes the place its predecessor would write next.
//!
//! No file with a page is as small, so a seal is known by its size alone, from a list of names and sizes.

use crate::encode::Encoder;
use crate::error::EncodeError;
use crate::header::{HEADER_SIZE, Header};
use crate::page_frame::END_OF_PAGES;
use crate::trailer::TRAILER_SIZE;

/// Size of every seal, bytes.
pub const SEAL_SIZE: u64 = (HEADER_SIZE + END_OF_PAGES.len() + EMPTY_INDEX + TRAILER_SIZE) as u64;

/// Whether a slot of this size is a seal.
#[must_use]
pub fn is_seal(size: u64) -> bool {
    size == SEAL_SIZE
}

/// Makes the seal with this header.
///
/// # Errors
/// When the header is impossible or names more than one slot.
pub fn seal(header: &Header) -> Result<Vec<u8>, EncodeError> {
    let (min, max) = (header.min_txid, header.max_txid);
    if min != max {
        return Err(EncodeError::SealRange { min, max });
    }
    Ok(Encoder::begin(header, Vec::new())?.finish()?.out)
}

/// The zero that ends an index without entries, and its size.
const EMPTY_INDEX: usize = 1 + 8;

const _: () = assert!(SEAL_SIZE == 131);

#[cfg(test)]
mod tests {
    use lifeboat_wal::PageCount;

    use super::*;
    use crate::checksum::Checksum;
    use crate::file::decode_whole;
    use crate::header::{Mark, example};
    use crate::txid::Txid;

    #[test]
    fn a_seal_is_131_bytes_and_decodes_to_its_header() {
        let mark = Mark { pre_apply: Checksum::EMPTY, post_apply: Checksum::EMPTY };
        let header = Header { mark: Some(mark), commit: PageCount::new(1), ..example() };
        let bytes = seal(&header).unwrap();
        assert_eq!(bytes.len(), 131);
        assert!(is_seal(bytes.len() as u64));
        let file = decode_whole(&bytes).unwrap();
        assert_eq!(file.header, header);
        assert!(file.pages.is_empty());
    }

    #[test]
    fn a_seal_of_two_slots_is_refused() {
        let header = Header { max_txid: Txid::try_new(2).unwrap(), ..example() };
        assert!(matches!(seal(&header), Err(EncodeError::SealRange { .. })));
    }

    #[test]
    fn no_file_with_a_page_is_as_small_as_a_seal() {
        let header = Header { commit: PageCount::new(1), ..example() };
        let file = Encoder::begin(&header, Vec::new()).unwrap();
        let file = file.page(lifeboat_wal::PageNo::FIRST, &[0; 512]).unwrap().finish().unwrap();
        assert!(file.size > SEAL_SIZE);
    }
}
