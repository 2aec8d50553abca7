use std::io::Read;
use std::path::PathBuf;

use lifeboat_ltx::decode_whole;
use rusqlite::Connection;

use super::*;
use crate::database::{Database, EnforceWal};

struct Place {
    folder: tempfile::TempDir,
    application: Connection,
    database: Database,
    dirty: DirtyPages,
}

/// A database with one blob for each size.
fn place(blobs: &[u32]) -> Place {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let application = Connection::open(&path).unwrap();
    application.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t (x BLOB)").unwrap();
    for size in blobs {
        application.execute("INSERT INTO t VALUES (randomblob(?1))", [size]).unwrap();
    }
    let database = Database::open(&path, EnforceWal::No).unwrap();
    Place { folder, application, database, dirty: DirtyPages::new() }
}

impl Place {
    fn cut(
        &mut self,
        sums: &mut PageSums,
        next: NextSlot,
        folder: &Path,
    ) -> Result<Option<SlotFile>, Failure> {
        let view = self.database.view(&mut self.dirty).unwrap();
        let spool = Some(Spool { folder, reserve: Reserve::default() });
        Ok(match cut(&view.pages(), self.dirty.clone(), sums, next, spool)? {
            Cut::Slot(slot) => Some(*slot),
            Cut::Nothing => None,
            Cut::TooLarge => panic!("there is a folder"),
        })
    }

    fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }
}

fn next(txid: u64, pre_apply: Checksum) -> NextSlot {
    NextSlot { txid: Txid::try_new(txid).unwrap(), epoch: Epoch::new(3), pre_apply }
}

fn bytes(slot: &SlotFile) -> Vec<u8> {
    match &slot.body {
        Body::Bytes(bytes) => bytes.to_vec(),
        Body::File { file, len } => {
            let mut bytes = vec![0; usize::try_from(*len).unwrap()];
            file.read_exact_at(&mut bytes, 0).unwrap();
            let mut file: &std::fs::File = file;
            file.seek(SeekFrom::End(0)).unwrap();
            assert_eq!(file.read(&mut [0]).unwrap(), 0);
            bytes
        }
    }
}

/// What everybody else reads in the slot: its bytes, its identity and its header say the same.
fn decoded(slot: &SlotFile) -> Vec<u32> {
    let bytes = bytes(slot);
    let file = decode_whole(&bytes).unwrap();
    assert_eq!(file.header, slot.header);
    assert_eq!(file.header.mark.unwrap().post_apply, slot.post_apply);
    let SlotIdentity { size, header, trailer } = &slot.identity;
    assert_eq!(*size, bytes.len() as u64);
    assert!(bytes.starts_with(header) && bytes.ends_with(trailer) && trailer.len() == 16);
    file.pages.iter().map(|(page, _)| page.get()).collect()
}

#[test]
fn a_slot_holds_the_pages_that_changed_and_no_others() {
    let mut place = place(&[100, 20_000]);
    let (mut sums, folder) = (PageSums::unknown(), place.folder());
    let first = place.cut(&mut sums, next(1, Checksum::EMPTY), &folder).unwrap().unwrap();
    let all = decoded(&first);
    assert_eq!(all.len(), first.header.commit.get() as usize);
    place.application.execute_batch("UPDATE t SET x = x WHERE rowid = 2").unwrap();
    place.application.execute_batch("UPDATE t SET x = randomblob(100) WHERE rowid = 1").unwrap();
    let second = place.cut(&mut sums, next(2, first.post_apply), &folder).unwrap().unwrap();
    let changed = decoded(&second);
    assert!(!changed.is_empty() && changed.len() < all.len() - 3, "{changed:?} of {all:?}");
    assert!(place.cut(&mut sums, next(3, second.post_apply), &folder).unwrap().is_none());
}

#[test]
fn a_large_slot_is_the_same_file_in_another_place() {
    let mut place = place(&[6 << 20]);
    let (mut sums, folder) = (PageSums::unknown(), place.folder());
    let slot = place.cut(&mut sums, next(1, Checksum::EMPTY), &folder).unwrap().unwrap();
    assert!(matches!(slot.body, Body::File { .. }));
    assert_eq!(decoded(&slot).len(), slot.header.commit.get() as usize);
}

#[test]
fn a_slot_that_could_not_be_written_down_is_cut_again_the_same() {
    let mut place = place(&[100]);
    let (mut sums, folder) = (PageSums::unknown(), place.folder());
    let first = place.cut(&mut sums, next(1, Checksum::EMPTY), &folder).unwrap().unwrap();
    place.application.execute_batch("INSERT INTO t VALUES (randomblob(6000000))").unwrap();
    let before = sums.clone();
    let failure = place.cut(&mut sums, next(2, first.post_apply), &folder.join("gone")).unwrap_err();
    assert!(failure.message.contains("cannot be spooled"), "{failure}");
    assert_eq!(sums, before);
    let second = place.cut(&mut sums, next(2, first.post_apply), &folder).unwrap().unwrap();
    assert!(decoded(&second).len() > 1000);
}

#[test]
fn without_a_folder_a_slot_is_cut_as_far_as_what_changed_fits_into_memory() {
    let mut place = place(&[6 << 20]);
    let (mut sums, folder) = (PageSums::unknown(), place.folder());
    let first = place.cut(&mut sums, next(1, Checksum::EMPTY), &folder).unwrap().unwrap();
    place.application.execute_batch("INSERT INTO t VALUES (randomblob(1000))").unwrap();
    let mut all = DirtyPages::new();
    all.insert_all();
    let mut cut_in_memory = |place: &mut Place, next| {
        let view = place.database.view(&mut place.dirty).unwrap();
        cut(&view.pages(), all.clone(), &mut sums, next, None).map(|cut| (cut, sums.clone())).unwrap()
    };
    let (small, before) = cut_in_memory(&mut place, next(2, first.post_apply));
    let Cut::Slot(small) = small else { panic!("few pages of many changed: {small:?}") };
    assert!(decoded(&small).len() < 10 && matches!(small.body, Body::Bytes(_)));
    place.application.execute_batch("UPDATE t SET x = randomblob(6000000) WHERE rowid = 1").unwrap();
    let (large, after) = cut_in_memory(&mut place, next(3, small.post_apply));
    assert!(matches!(large, Cut::TooLarge), "{large:?}");
    assert_eq!(after, before);
}

#[test]
fn on_a_disk_without_room_a_slot_is_cut_that_fits_into_memory_and_a_larger_one_is_refused() {
    let mut place = place(&[6 << 20]);
    let (mut sums, folder) = (PageSums::unknown(), place.folder());
    let first = place.cut(&mut sums, next(1, Checksum::EMPTY), &folder).unwrap().unwrap();
    let mut all = DirtyPages::new();
    all.insert_all();
    let spool = Spool { folder: &folder, reserve: Reserve::of(u64::MAX) };
    let mut cut_without_room = |place: &mut Place, next| {
        let view = place.database.view(&mut place.dirty).unwrap();
        cut(&view.pages(), all.clone(), &mut sums, next, Some(spool))
    };
    place.application.execute_batch("INSERT INTO t VALUES (randomblob(1000))").unwrap();
    let small = cut_without_room(&mut place, next(2, first.post_apply)).unwrap();
    let Cut::Slot(small) = small else { panic!("few pages of many changed: {small:?}") };
    assert!(decoded(&small).len() < 10);
    place.application.execute_batch("UPDATE t SET x = randomblob(6000000) WHERE rowid = 1").unwrap();
    let failure = cut_without_room(&mut place, next(3, small.post_apply)).unwrap_err();
    assert!(failure.message.contains("is left to the application"), "{failure}");
}

/// Fails like a disk that is full after so many bytes.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or_else(|| io::Error::other("full"))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_disk_that_gets_full_anywhere_in_a_slot_leaves_the_checksums_as_before() {
    let mut place = place(&[10_000, 10_000]);
    let mut sums = PageSums::unknown();
    let folder = place.folder();
    let first = place.cut(&mut sums, next(1, Checksum::EMPTY), &folder).unwrap().unwrap();
    place.application.execute_batch("UPDATE t SET x = randomblob(10000)").unwrap();
    let before = sums.clone();
    let view = place.database.view(&mut place.dirty).unwrap();
    let candidates = sums.candidates(place.dirty.clone(), view.page_count());
    for room in (0..20_000).step_by(1009) {
        let next = next(2, first.post_apply);
        let slot = encode(&view.pages(), &candidates, &mut sums, next, Full(room), || true);
        assert!(slot.is_err(), "{room}");
        assert_eq!(sums, before, "{room}");
    }
}
