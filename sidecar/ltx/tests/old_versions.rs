//! Files that versions no longer installed have written still mean what they meant.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]
#![expect(clippy::disallowed_methods, reason = "a test of a pure crate may touch the world")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lifeboat_ltx::{LtxFile, decode_whole};

#[test]
fn a_replica_of_litestream_0_5_15_leads_to_what_it_restored() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/litestream-0.5.15");
    let restored = std::fs::read(folder.join("restored.db")).unwrap();
    let slots = read_all(&folder.join("ltx/0"));
    assert!(slots.iter().all(|slot| slot.header.mark.is_none()));
    assert!(replay(&slots) == restored);
    let from_snapshot: Vec<_> =
        read_all(&folder.join("ltx/9")).into_iter().chain(slots.into_iter().skip(2)).collect();
    assert!(replay(&from_snapshot) == restored);
}

fn read_all(folder: &Path) -> Vec<LtxFile> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| decode_whole(&std::fs::read(path).unwrap()).unwrap()).collect()
}

fn replay(files: &[LtxFile]) -> Vec<u8> {
    let mut pages = BTreeMap::new();
    for file in files {
        pages.extend(file.pages.iter().map(|(page, image)| (*page, image.as_slice())));
        pages.retain(|&page, _| file.header.commit.contains(page));
    }
    pages.into_values().collect::<Vec<_>>().concat()
}
