//! A name for what a person is asked to choose about.
//!
//! A choice that is written down, in an annotation or in the template of all pods, is read again for months, at every start. So it
//! names what it is about: once it was carried out, something of that is another, and it holds no more.

use std::fmt;

use crc_fast::{CrcAlgorithm, Digest};
use lifeboat_ltx::Checksum;

use super::{Chain, Record};

/// One contradiction between a local database and its replica, shown as eight hexadecimal digits. It is the same at every attempt
/// of the same start, though each stores a seal. It is another once either of the two was replaced, or anything was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Contradiction(u32);

impl Contradiction {
    /// Between the local file, named by device, inode and birth, and what the bucket holds.
    #[must_use]
    pub fn between(file_id: &str, chain: &Chain) -> Self {
        Self::of(file_id, &chain.lineage, chain.newest_pages, chain.checksum)
    }

    /// Between the local file and a place that holds nothing of what the record beside that file says.
    #[must_use]
    pub fn with_loss(file_id: &str, record: &Record) -> Self {
        Self::of(file_id, &record.lineage, record.slot.txid, record.slot.checksum)
    }

    fn of(file_id: &str, lineage: &str, txid: u64, checksum: Option<Checksum>) -> Self {
        let checksum = checksum.map(|checksum| checksum.to_string()).unwrap_or_default();
        let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
        for part in [file_id, lineage, &format!("{txid:016x}"), &checksum] {
            digest.update(part.as_bytes());
            digest.update(&[0]);
        }
        // A CRC of 32 bits has no others.
        Self(u32::try_from(digest.finalize()).unwrap_or_default())
    }
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> Chain {
        Chain {
            lineage: "l".to_owned(),
            checksum: Some(Checksum::EMPTY),
            at_record: None,
            newest: 6,
            newest_pages: 5,
            holds_pages: true,
            since_record: Vec::new(),
        }
    }

    #[test]
    fn a_seal_leaves_a_contradiction_what_it_is() {
        let sealed = Chain { newest: 7, ..chain() };
        assert_eq!(Contradiction::between("file-1", &chain()), Contradiction::between("file-1", &sealed));
    }

    #[test]
    fn whatever_is_replaced_or_stored_makes_it_another() {
        let one = Contradiction::between("file-1", &chain());
        let others = [
            ("file-2", chain()),
            ("file-1", Chain { newest_pages: 6, ..chain() }),
            ("file-1", Chain { lineage: "m".to_owned(), ..chain() }),
            ("file-1", Chain { checksum: None, ..chain() }),
        ];
        for (file_id, chain) in &others {
            assert_ne!(Contradiction::between(file_id, chain), one, "{file_id} {chain:?}");
        }
    }

    #[test]
    fn it_is_shown_as_eight_digits() {
        assert_eq!(Contradiction(0xab).to_string(), "000000ab");
    }
}
