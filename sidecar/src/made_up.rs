//! Made-up files of a replica in a folder, for tests.

use std::path::{Path, PathBuf};

use lifeboat_ltx::{Checksum, FileName, Header, LtxFile, Mark, PageChecksum, Txid};
use lifeboat_replica::layout::{Layout, Level};
use lifeboat_wal::{PageCount, PageNo, PageSize};

/// One file with one page, whose content follows from its last TXID.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MadeUp {
    pub(crate) level: u8,
    pub(crate) min: u64,
    pub(crate) max: u64,
    pub(crate) timestamp_ms: i64,
    /// Whether it carries our checksums.
    pub(crate) is_marked: bool,
}

impl MadeUp {
    /// Writes it into the replica in `folder`.
    pub(crate) fn put(self, folder: &Path) -> PathBuf {
        let [min, max] = [self.min, self.max].map(|number| Txid::try_new(number).unwrap());
        let header = Header {
            page_size: PageSize::try_new(512).unwrap(),
            commit: PageCount::new(1),
            min_txid: min,
            max_txid: max,
            timestamp_ms: self.timestamp_ms,
            wal_offset: 32,
            wal_size: 0,
            salts: (0, 0),
            node_id: u64::from(self.is_marked),
            mark: self.is_marked.then(|| Mark { pre_apply: sum(self.min - 1), post_apply: sum(self.max) }),
        };
        let (level, name) = (Level::from_number(self.level).unwrap(), FileName::try_new(min, max).unwrap());
        let path = folder.join(Layout::Directory.file_key(level, name));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let file = LtxFile { header, pages: vec![(PageNo::FIRST, page(self.max))] };
        std::fs::write(&path, file.encode().unwrap()).unwrap();
        path
    }
}

fn page(txid: u64) -> Vec<u8> {
    vec![u8::try_from(txid).unwrap(); 512]
}

fn sum(txid: u64) -> Checksum {
    match txid {
        0 => Checksum::EMPTY,
        _ => Checksum::EMPTY.toggle(PageChecksum::of(PageNo::FIRST, &page(txid))),
    }
}
