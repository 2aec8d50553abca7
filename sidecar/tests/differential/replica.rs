//! Our side: the production code from the WAL to the bytes of slots, and back from these bytes to a database.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lifeboat::args::IntegrityCheck;
use lifeboat::bucket::Bucket;
use lifeboat::database::{Database, EnforceWal, Followed, Settled};
use lifeboat::disk;
use lifeboat::first_view::Expected;
use lifeboat::notes::Notes;
use lifeboat::page_log_file;
use lifeboat::rebuild::{Finish, KeepSums, Overwrite};
use lifeboat::restore::{How, Wanted, restore};
use lifeboat::slot_file::{Cut, NextSlot, Reserve, SlotFile, Spool, cut};
use lifeboat_ltx::{Checksum, Decoder, PageChecksum, Txid};
use lifeboat_replica::adoption::Content;
use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_replica::epoch::Epoch;
use lifeboat_replica::inventory::FileEntry;
use lifeboat_replica::layout::{Layout, Level};
use lifeboat_replica::page_sums::PageSums;
use lifeboat_store::{Body, Directory};
use lifeboat_wal::PageNo;
use rusqlite::Connection;

/// A database that is followed, and everything that was cut of it.
pub(crate) struct Replica {
    path: PathBuf,
    session: Option<Session>,
    sums: PageSums,
    dirty: DirtyPages,
    next: NextSlot,
    chain: Vec<Stored>,
    /// The database, made of nothing but what the slots hold.
    image: Vec<u8>,
    tally: Tally,
}

/// What happened, besides boundaries.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Slots after which the database was smaller than before.
    pub(crate) shrunk: usize,
    /// Times that we were closed and opened again.
    pub(crate) restarts: usize,
    /// Those of them after which no page had to be read.
    pub(crate) resumed: usize,
}

impl Tally {
    pub(crate) const fn add(&mut self, other: Self) {
        self.shrunk += other.shrunk;
        self.restarts += other.restarts;
        self.resumed += other.resumed;
    }

    pub(crate) const fn is_of_everything(self) -> bool {
        self.shrunk > 0 && self.resumed > 0 && self.resumed < self.restarts
    }
}

/// How we end before we begin again.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// With nothing on its way.
    Idle,
    /// A slot is noted, and was never sent.
    Noted,
    /// A slot is stored, and we never heard of it.
    Stored,
}

/// What is open while we follow.
struct Session {
    database: Database,
    /// Another connection, which says what the source is.
    source: Connection,
    /// What we know and note of the pages that the "bucket" has.
    notes: Notes,
}

/// A slot in the "bucket", and a digest of the source at its boundary.
struct Stored {
    entry: FileEntry,
    bytes: Vec<u8>,
    source: u64,
}

impl Session {
    fn open(path: &Path) -> Self {
        let database = Database::open(path, EnforceWal::No).unwrap();
        let file_id = disk::file_id(path).unwrap().unwrap();
        let notes = Notes::new(path.parent().unwrap(), "this boot", &file_id, database.page_size());
        Self { database, source: Connection::open(path).unwrap(), notes }
    }

    /// Every page of the database as of now.
    fn source_image(&self) -> Vec<u8> {
        let mut statement = self.source.prepare("SELECT data FROM sqlite_dbpage ORDER BY pgno").unwrap();
        let mut rows = statement.query([]).unwrap();
        let mut image = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            image.extend_from_slice(row.get_ref(0).unwrap().as_blob().unwrap());
        }
        image
    }
}

impl Replica {
    /// Begins to follow a database of which nothing is stored.
    pub(crate) fn new(path: &Path) -> Self {
        let mut replica = Self {
            path: path.to_owned(),
            session: None,
            sums: PageSums::unknown(),
            dirty: DirtyPages::new(),
            next: NextSlot { txid: Txid::FIRST, epoch: Epoch::new(1), pre_apply: Checksum::EMPTY },
            chain: Vec::new(),
            image: Vec::new(),
            tally: Tally::default(),
        };
        replica.begin(Expected::Nothing);
        replica
    }

    /// Begins to follow, as a new process does that knows the end of the chain.
    fn begin(&mut self, mut expected: Expected) {
        let mut session = Session::open(&self.path);
        self.dirty = DirtyPages::new();
        let looked = session.notes.look(&mut session.database, &mut expected, &mut self.dirty, &|| true);
        let content = looked.unwrap().unwrap();
        self.tally.resumed += usize::from(matches!(content, Content::Continues { .. }));
        self.sums = session.notes.begin(LINEAGE.to_owned(), self.next.pre_apply, &mut self.dirty);
        self.session = Some(session);
    }

    /// Slots so far.
    pub(crate) const fn boundaries(&self) -> usize {
        self.chain.len()
    }

    pub(crate) const fn tally(&self) -> Tally {
        self.tally
    }

    fn session(&mut self) -> &mut Session {
        self.session.as_mut().unwrap()
    }

    pub(crate) fn follow(&mut self) {
        match self.session.as_mut().unwrap().database.follow(&mut self.dirty).unwrap() {
            Followed::Continued(_) => {}
            Followed::Lost { why } => panic!("lost: {why}"),
        }
    }

    pub(crate) fn settle(&mut self) {
        let session = self.session.as_mut().unwrap();
        match session.database.settle(&mut self.dirty).unwrap() {
            Settled::Yes => session.notes.looked(session.database.anchor().unwrap(), &self.dirty),
            Settled::NotYet => {}
        }
    }

    /// Cuts a slot of what is committed now, applies it, and compares with the source.
    pub(crate) fn cut(&mut self) {
        let slot = self.cut_and_note();
        let source = self.session().source_image();
        if let Some(slot) = slot {
            self.store(&slot, &source);
            let (txid, sums) = (self.chain.len() as u64, self.sums.clone());
            self.session().notes.stored(txid, &sums);
        }
        self.compare(&source);
    }

    fn cut_and_note(&mut self) -> Option<SlotFile> {
        self.follow();
        let session = self.session.as_mut().unwrap();
        let view = session.database.view(&mut self.dirty).unwrap();
        assert_eq!(view.lost(), None);
        let spool = Spool { folder: self.path.parent().unwrap(), reserve: Reserve::default() };
        let slot =
            match cut(&view.pages(), self.dirty.clone(), &mut self.sums, self.next, Some(spool)).unwrap() {
                Cut::Slot(slot) => Some(*slot),
                Cut::Nothing => None,
                Cut::TooLarge => panic!("there is a folder"),
            };
        if let Some(slot) = &slot {
            session.notes.cut(self.next.txid.get(), &self.sums, &slot.changed, &self.dirty, &view);
        }
        let still_dirty = view.still_dirty().clone();
        drop(view);
        self.dirty = still_dirty;
        slot
    }

    fn store(&mut self, slot: &SlotFile, source: &[u8]) {
        let bytes = bytes_of(&slot.body);
        self.apply(&bytes);
        let (txid, size) = (self.next.txid, bytes.len() as u64);
        let (key, etag) = (txid.to_string(), String::new());
        let entry = FileEntry { level: Level::CAPTURED, min: txid, max: txid, size, key, etag };
        self.chain.push(Stored { entry, bytes, source: digest(source) });
        self.next = NextSlot { txid: txid.next().unwrap(), pre_apply: slot.post_apply, ..self.next };
    }

    /// What a restore does with one file, without going through all files before it.
    fn apply(&mut self, bytes: &[u8]) {
        let mut decoder = Decoder::begin(bytes).unwrap();
        let header = decoder.header().clone();
        assert_eq!(header.mark.unwrap().pre_apply, self.next.pre_apply);
        let size = header.page_size.get() as usize;
        let whole = header.commit.get() as usize * size;
        self.tally.shrunk += usize::from(whole < self.image.len());
        self.image.resize(whole, 0);
        while let Some(page) = decoder.next_page().unwrap() {
            self.image[(page.no.get() as usize - 1) * size..][..size].copy_from_slice(page.image);
        }
        decoder.finish().unwrap();
    }

    fn compare(&self, source: &[u8]) {
        let size = self.session.as_ref().unwrap().database.page_size().get() as usize;
        let (ours, theirs) = (self.image.len() / size, source.len() / size);
        let pages = self.image.chunks(size).zip(source.chunks(size)).zip(1..);
        let wrong: Vec<u32> = pages.filter(|((ours, theirs), _)| ours != theirs).map(|(_, no)| no).collect();
        assert!(
            self.image == source,
            "restored {ours} pages, and the source has {theirs}; these differ: {wrong:?}"
        );
        let sum = source.chunks(size).zip(1..).fold(Checksum::EMPTY, |sum, (page, number)| {
            sum.toggle(PageChecksum::of(PageNo::try_new(number).unwrap(), page))
        });
        assert_eq!(sum, self.next.pre_apply, "the chain's checksum is not the source's");
    }

    /// Ends without an orderly end; `meanwhile` happens; and begins again as a new process does, knowing the chain and what
    /// the old one noted beside the database.
    pub(crate) fn restart(&mut self, end: End, meanwhile: impl FnOnce()) {
        match end {
            End::Idle => {}
            End::Noted => drop(self.cut_and_note()),
            End::Stored => {
                if let Some(slot) = self.cut_and_note() {
                    let source = self.session().source_image();
                    self.store(&slot, &source);
                }
            }
        }
        self.session = None;
        meanwhile();
        let (folder, txid) = (self.path.parent().unwrap(), self.chain.len() as u64);
        let known = page_log_file::find(folder, LINEAGE, txid, self.next.pre_apply);
        self.tally.restarts += 1;
        self.begin(known.map_or(Expected::Something, |known| Expected::State(Box::new(known))));
    }

    /// Restores the state at one boundary, as `lifeboat restore --txid` does, over what was restored before if anything was,
    /// and compares with the source then.
    pub(crate) fn restore(&self, boundary: usize) {
        let target = self.path.with_file_name("restored.db");
        let bucket = self.bucket();
        let how = How {
            wanted: Wanted::Txid(self.chain[boundary].entry.max),
            parallelism: 4,
            patience: Duration::ZERO,
            finish: Finish {
                overwrite: Overwrite::Force,
                integrity: IntegrityCheck::None,
                sums: KeepSums::No,
            },
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(restore(&bucket, &target, &how)).unwrap().unwrap();
        let restored = std::fs::read(&target).unwrap();
        assert_eq!(
            digest(&restored),
            self.chain[boundary].source,
            "restored another database than {boundary}"
        );
        let check = Connection::open(&target).unwrap();
        let check: String = check.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok");
    }

    /// Every slot, in a folder.
    fn bucket(&self) -> Bucket {
        let root = self.path.with_file_name("replica");
        for slot in &self.chain {
            let path = root.join(Layout::Directory.slot_key(slot.entry.max));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, &slot.bytes).unwrap();
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Bucket::new(Arc::new(runtime.block_on(Directory::open(root)).unwrap()), Layout::Directory)
    }

    /// Stops to follow; the application ends; then the file that it leaves must be the last boundary, because nothing is
    /// committed by closing.
    pub(crate) fn end(&mut self, application_ends: impl FnOnce()) {
        self.session = None;
        application_ends();
        assert!(
            std::fs::read(&self.path).unwrap() == self.image,
            "the file that the application leaves is another"
        );
    }
}

fn bytes_of(body: &Body) -> Vec<u8> {
    match body {
        Body::Bytes(bytes) => bytes.to_vec(),
        Body::File { file, len } => {
            let mut bytes = vec![0; usize::try_from(*len).unwrap()];
            file.read_exact_at(&mut bytes, 0).unwrap();
            bytes
        }
    }
}

fn digest(image: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    image.hash(&mut hasher);
    hasher.finish()
}

const LINEAGE: &str = "one lineage";
