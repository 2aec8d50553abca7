//! A restored copy that is brought forward while others read it.
//!
//! Every step is one transaction of SQLite, so a reader sees the copy before it or after it. Pages are written as they are,
//! through `sqlite_dbpage`; only page 1 differs from what is stored, because SQLite keeps its own change counter there and the
//! copy stays in WAL mode, where readers never wait.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lifeboat_ltx::{Checksum, PageChecksum};
use lifeboat_wal::{PageCount, PageNo, PageSize};
use rusqlite::{Connection, OpenFlags};

use super::DatabaseError;
use super::connection::{read_page_size, require_wal};
use super::{EnforceWal, file_system};

/// A copy of ours, open for writing. Eight bytes of memory for each page.
#[derive(Debug)]
pub struct ReadableCopy {
    connection: Connection,
    path: PathBuf,
    page_size: PageSize,
    /// The checksum of every page as it is stored, from page 1 on.
    sums: Vec<PageChecksum>,
    /// SQLite's number for the last commit of another connection.
    data_version: i64,
}

/// One step, not committed yet. Dropped, it is rolled back.
#[derive(Debug)]
pub struct Step<'c> {
    copy: &'c mut ReadableCopy,
    changed: BTreeMap<PageNo, PageChecksum>,
}

impl ReadableCopy {
    /// Opens the copy and reads every page. Page 1 is not what was stored, so its checksum is told.
    ///
    /// # Errors
    /// [`DatabaseError`] when it is no database, or SQLite cannot read or write it.
    pub fn open(path: &Path, page_one: PageChecksum) -> Result<Self, DatabaseError> {
        file_system::require_database_file(path)?;
        let error = |source| DatabaseError::sqlite(path, "open", source);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(error)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(error)?;
        connection.execute_batch(SETTINGS).map_err(error)?;
        require_wal(&connection, path, EnforceWal::Yes)?;
        let page_size = read_page_size(&connection, path)?;
        let data_version = data_version(&connection).map_err(error)?;
        let mut copy = Self { connection, path: path.to_owned(), page_size, sums: Vec::new(), data_version };
        copy.read_sums().map_err(error)?;
        copy.set_page_one(page_one);
        Ok(copy)
    }

    fn read_sums(&mut self) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare("SELECT pgno, data FROM sqlite_dbpage ORDER BY pgno")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (number, image) = (row.get::<_, u32>(0)?, row.get_ref(1)?.as_blob()?);
            let page = PageNo::try_new(number).filter(|page| *page != self.page_size.lock_page());
            self.sums.push(page.map_or(NO_PAGE, |page| PageChecksum::of(page, image)));
        }
        Ok(())
    }

    /// Says what the checksum of page 1 is as it is stored.
    pub fn set_page_one(&mut self, sum: PageChecksum) {
        if let Some(first) = self.sums.first_mut() {
            *first = sum;
        }
    }

    /// The rolling checksum of the stored state that the copy is at.
    #[must_use]
    pub fn checksum(&self) -> Checksum {
        self.sums.iter().fold(Checksum::EMPTY, |rolling, sum| rolling.toggle(*sum))
    }

    /// Begins a step. Readers go on as before until it is committed.
    ///
    /// # Errors
    /// [`DatabaseError::Busy`] when another process writes to the copy.
    pub fn begin(&mut self) -> Result<Step<'_>, DatabaseError> {
        let begun = self.connection.execute_batch("BEGIN IMMEDIATE");
        begun.map_err(|source| DatabaseError::sqlite(&self.path, "write", source))?;
        Ok(Step { copy: self, changed: BTreeMap::new() })
    }
}

impl Step<'_> {
    /// Size of every page.
    #[must_use]
    pub const fn page_size(&self) -> PageSize {
        self.copy.page_size
    }

    /// Whether somebody else has written to the copy since it was opened. Nobody may.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn is_on_foreign_ground(&self) -> Result<bool, DatabaseError> {
        let now = data_version(&self.copy.connection);
        let now = now.map_err(|source| DatabaseError::sqlite(&self.copy.path, "read", source))?;
        Ok(now != self.copy.data_version)
    }

    /// Writes one page.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn put(&mut self, page: PageNo, image: &[u8]) -> Result<(), DatabaseError> {
        self.changed.insert(page, PageChecksum::of(page, image));
        if page != PageNo::FIRST {
            return self.insert(page, Some(image));
        }
        let mut image = image.to_vec();
        if let Some(versions) = image.get_mut(FORMAT_VERSIONS) {
            versions.fill(WAL_VERSION);
        }
        self.insert(page, Some(&image))
    }

    /// Ends the pages: from here on the copy has so many. Returns the rolling checksum of the state, and that of page 1.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn finish(&mut self, size: PageCount) -> Result<(Checksum, PageChecksum), DatabaseError> {
        let gone = PageNo::try_new(size.get().saturating_add(1));
        if let Some(gone) = gone.filter(|gone| self.copy.sums.len() >= gone.get() as usize) {
            self.insert(gone, None)?;
        }
        let (mut rolling, mut first) = (Checksum::EMPTY, NO_PAGE);
        let pages = (1..=size.get()).filter_map(PageNo::try_new);
        for page in pages {
            let kept = self.copy.sums.get(page.get() as usize - 1);
            let sum = self.changed.get(&page).or(kept).copied().unwrap_or(NO_PAGE);
            rolling = rolling.toggle(sum);
            if page == PageNo::FIRST {
                first = sum;
            }
        }
        Ok((rolling, first))
    }

    /// Shows the step to readers.
    ///
    /// # Errors
    /// What SQLite says; then nothing changed.
    pub fn commit(mut self, size: PageCount) -> Result<(), DatabaseError> {
        let committed = self.copy.connection.execute_batch("COMMIT");
        committed.map_err(|source| DatabaseError::sqlite(&self.copy.path, "write", source))?;
        self.copy.sums.resize(size.get() as usize, NO_PAGE);
        for (page, sum) in std::mem::take(&mut self.changed) {
            if let Some(place) = self.copy.sums.get_mut(page.get() as usize - 1) {
                *place = sum;
            }
        }
        Ok(())
    }

    /// Without an image the page and all after it are cut off.
    fn insert(&self, page: PageNo, image: Option<&[u8]>) -> Result<(), DatabaseError> {
        let run = || {
            let sql = "INSERT INTO sqlite_dbpage (pgno, data) VALUES (?1, ?2)";
            self.copy.connection.prepare(sql)?.execute((page.get(), image))
        };
        run().map(drop).map_err(|source| DatabaseError::sqlite(&self.copy.path, "write", source))
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        if !self.copy.connection.is_autocommit() {
            // A step that cannot be rolled back ends with the connection.
            drop(self.copy.connection.execute_batch("ROLLBACK"));
        }
    }
}

fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA data_version", [], |row| row.get(0))
}

/// Stands for the lock page, and for a page that was never written.
const NO_PAGE: PageChecksum = PageChecksum::from_bits(0);
/// Where a database header says how it is written and read, and what it says in WAL mode.
const FORMAT_VERSIONS: std::ops::Range<usize> = 18..20;
const WAL_VERSION: u8 = 2;
/// How long another writer may keep us out. There should be none, but a checkpoint of a reader is one for a moment.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// A schema that SQLite cannot parse must not keep pages from being written, and written they may be.
const SETTINGS: &str =
    "PRAGMA writable_schema=ON; PRAGMA mmap_size=0; PRAGMA cache_size=-2048; PRAGMA synchronous=NORMAL;";
