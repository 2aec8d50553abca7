//! A consistent view of the live database: every page as of one commit.

use std::ops::RangeInclusive;
use std::path::Path;

use lifeboat_ltx::PageChecksum;
use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_replica::page_log::Anchor;
use lifeboat_wal::continuity::Discontinuity;
use lifeboat_wal::database_header::{DATABASE_HEADER_BYTES, DatabaseHeader};
use lifeboat_wal::sqlite_version::SqliteVersion;
use lifeboat_wal::wal_index::IndexHeader;
use lifeboat_wal::{PageCount, PageNo, PageSize};
use rusqlite::{Connection, Statement};

use super::file_system::require_length;
use super::journal::ReadLock;
use super::{DatabaseError, Followed, Gained};

/// The database as of one commit, read through SQLite while the application goes on writing.
///
/// Memory stays bounded whatever is read: SQLite keeps a small cache and we keep none.
#[derive(Debug)]
pub struct View<'d> {
    pages: Pages<'d>,
    /// What the way to this view found out.
    rolled: Rolled,
    /// From where it can be followed.
    anchor: Option<Anchor>,
    /// Without a WAL: what keeps the application from committing meanwhile. Ends with the view.
    lock: Option<ReadLock<'d>>,
}

/// The pages that one open read transaction shows, whoever holds it.
#[derive(Clone, Copy, Debug)]
pub struct Pages<'c> {
    connection: &'c Connection,
    path: &'c Path,
    page_size: PageSize,
    page_count: PageCount,
    /// Whether the database file itself holds every page, and no WAL a newer one.
    is_all_in_file: bool,
}

/// What a roll of the pin found out.
#[derive(Debug)]
pub(super) struct Rolled {
    pub(super) followed: Followed,
    /// Pages of frames that the view may not show yet.
    pub(super) later: DirtyPages,
    /// What was read of them.
    pub(super) gained_later: Gained,
    /// A committed state of the WAL that the view shows, or that is a little older; none without a WAL.
    pub(super) header: Option<IndexHeader>,
}

impl<'d> View<'d> {
    /// A view of these pages, whose read transaction ends with `lock` if there is one.
    pub(super) const fn new(
        pages: Pages<'d>,
        rolled: Rolled,
        anchor: Option<Anchor>,
        lock: Option<ReadLock<'d>>,
    ) -> Self {
        Self { pages, rolled, anchor, lock }
    }

    /// From where this view can be followed: it is at least as new as the place. `None` without a WAL, and where the file
    /// was no state of ours when the view was opened.
    #[must_use]
    pub const fn anchor(&self) -> Option<Anchor> {
        self.anchor
    }

    /// Whether the application's commits have to wait as long as this view is open, as they do without a WAL. Then
    /// nothing slow may be done with it.
    #[must_use]
    pub const fn blocks_writers(&self) -> bool {
        self.lock.is_some()
    }

    /// Size of the database in this view, in pages.
    #[must_use]
    pub const fn page_count(&self) -> PageCount {
        self.pages.page_count
    }

    /// Size of every page.
    #[must_use]
    pub const fn page_size(&self) -> PageSize {
        self.pages.page_size
    }

    /// A committed state of the WAL that this view shows, or that is a little older: a lower bound. None without a
    /// WAL.
    #[must_use]
    pub const fn header(&self) -> Option<&IndexHeader> {
        self.rolled.header.as_ref()
    }

    /// Why continuity was lost on the way to this view, if it was: the set of dirty pages was then made every page.
    #[must_use]
    pub const fn lost(&self) -> Option<Discontinuity> {
        match self.rolled.followed {
            Followed::Continued(_) => None,
            Followed::Lost { why } => Some(why),
        }
    }

    /// The pages that stay dirty after this view is shipped: they were changed by commits it may not show yet.
    #[must_use]
    pub const fn still_dirty(&self) -> &DirtyPages {
        &self.rolled.later
    }

    /// The pages of this view.
    #[must_use]
    pub const fn pages(&self) -> Pages<'_> {
        self.pages
    }

    /// Reads one page. The lock page reads as zeros.
    ///
    /// # Errors
    ///
    /// [`DatabaseError::PageBeyondEnd`], or what SQLite says.
    ///
    /// # Panics
    ///
    /// If `image` is not exactly one page long.
    pub fn read_page(&mut self, page: PageNo, image: &mut [u8]) -> Result<(), DatabaseError> {
        assert_eq!(
            image.len(),
            self.page_size().get() as usize,
            "BUG: a buffer of another size than the page"
        );
        let pages = self.pages();
        pages.with_page(&mut pages.one_page()?, page, &mut |_, data| {
            image.copy_from_slice(data);
            Ok::<(), DatabaseError>(())
        })
    }

    /// Passes on every page of the set that the database has, ascending, without the lock page.
    ///
    /// # Errors
    ///
    /// The first error of `use_page`, or what SQLite says.
    pub fn for_each_page<E: From<DatabaseError>>(
        &mut self,
        pages: &DirtyPages,
        use_page: impl FnMut(PageNo, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.pages().for_each(pages, use_page)
    }
}

impl<'c> Pages<'c> {
    /// What the read transaction that is open on `connection` shows. `is_all_in_file` says whether the database file
    /// itself holds every page, and no WAL a newer one.
    pub(super) fn open(
        connection: &'c Connection,
        path: &'c Path,
        page_size: PageSize,
        is_all_in_file: bool,
    ) -> Result<Self, DatabaseError> {
        let pages = connection.query_row("PRAGMA page_count", [], |row| row.get(0));
        let page_count = pages.map(PageCount::new).map_err(|source| DatabaseError::page(path, source))?;
        if page_count.get() == 0 {
            return Err(DatabaseError::Empty { path: path.to_owned() });
        }
        let pages = Self { connection, path, page_size, page_count, is_all_in_file };
        pages.require_whole_file()?;
        Ok(pages)
    }

    /// Size of the database, in pages.
    #[must_use]
    pub const fn page_count(&self) -> PageCount {
        self.page_count
    }

    /// Size of every page.
    #[must_use]
    pub const fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// Passes on every page of the set that the database has, ascending, without the lock page.
    ///
    /// # Errors
    ///
    /// The first error of `use_page`, or what SQLite says.
    pub fn for_each<E: From<DatabaseError>>(
        &self,
        pages: &DirtyPages,
        mut use_page: impl FnMut(PageNo, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if pages.is_all() {
            self.for_pages(1..=self.page_count.get(), &mut use_page)?;
        } else {
            let mut statement = self.one_page()?;
            for page in pages.iter(self.page_count, self.page_size) {
                self.with_page(&mut statement, page, &mut use_page)?;
            }
        }
        // It may have become shorter while it was read.
        Ok(self.require_whole_file()?)
    }

    /// Passes on the pages with these numbers, which the database has, ascending, without the lock page.
    ///
    /// # Errors
    ///
    /// The first error of `use_page`, or what SQLite says.
    pub fn for_each_of<E: From<DatabaseError>>(
        &self,
        numbers: RangeInclusive<u32>,
        mut use_page: impl FnMut(PageNo, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.for_pages(numbers, &mut use_page)?;
        // It may have become shorter while it was read.
        Ok(self.require_whole_file()?)
    }

    /// A page of these whose checksum is another; pages beyond the end count for nothing.
    pub(super) fn find_other(
        &self,
        expected: impl Iterator<Item = (PageNo, PageChecksum)>,
    ) -> Result<Option<PageNo>, DatabaseError> {
        let mut statement = self.one_page()?;
        for (page, sum) in expected.filter(|(page, _)| self.page_count.contains(*page)) {
            let mut is_same = true;
            self.with_page(&mut statement, page, &mut |page, image| {
                is_same = PageChecksum::of(page, image) == sum;
                Ok::<(), DatabaseError>(())
            })?;
            if !is_same {
                return Ok(Some(page));
            }
        }
        Ok(None)
    }

    /// One scan over many pages: one statement instead of one for each page. What it skips is not read.
    fn for_pages<E: From<DatabaseError>>(
        &self,
        numbers: RangeInclusive<u32>,
        use_page: &mut impl FnMut(PageNo, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let all = self.connection.prepare("SELECT data FROM sqlite_dbpage LIMIT -1 OFFSET ?1");
        let mut all = all.map_err(|error| self.failed(error))?;
        let before = numbers.start().saturating_sub(1);
        let mut rows = all.query([before]).map_err(|error| self.failed(error))?;
        for number in numbers {
            let Some(page) = PageNo::try_new(number) else { continue };
            let row = rows.next().and_then(|row| row.ok_or(rusqlite::Error::QueryReturnedNoRows));
            let row = row.map_err(|error| self.failed(error))?;
            if page != self.page_size.lock_page() {
                use_page(page, self.image(row)?)?;
            }
        }
        Ok(())
    }

    fn one_page(&self) -> Result<Statement<'c>, DatabaseError> {
        let statement = self.connection.prepare("SELECT data FROM sqlite_dbpage WHERE pgno = ?1");
        statement.map_err(|error| self.failed(error))
    }

    fn with_page<E: From<DatabaseError>>(
        &self,
        one_page: &mut Statement<'_>,
        page: PageNo,
        use_page: &mut impl FnMut(PageNo, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.page_count.contains(page) {
            let (path, page_count) = (self.path.to_owned(), self.page_count);
            return Err(DatabaseError::PageBeyondEnd { path, page, page_count }.into());
        }
        let mut rows = one_page.query([page.get()]).map_err(|error| self.failed(error))?;
        let row = rows.next().and_then(|row| row.ok_or(rusqlite::Error::QueryReturnedNoRows));
        use_page(page, self.image(row.map_err(|error| self.failed(error))?)?)
    }

    /// The SQLite that last wrote to the database's header: the application's, or one that it had before.
    ///
    /// # Errors
    ///
    /// What SQLite says.
    pub fn written_by(&self) -> Result<Option<SqliteVersion>, DatabaseError> {
        Ok(self.header()?.and_then(|header| header.written_by))
    }

    fn header(&self) -> Result<Option<DatabaseHeader>, DatabaseError> {
        let mut header = None;
        self.with_page(&mut self.one_page()?, PageNo::FIRST, &mut |_, image| {
            let bytes = image.first_chunk::<DATABASE_HEADER_BYTES>();
            header = bytes.and_then(|bytes| DatabaseHeader::decode(bytes).ok());
            Ok::<(), DatabaseError>(())
        })?;
        Ok(header)
    }

    /// SQLite reads what lies beyond the end of a file as zeros, and takes a file that was cut short for a smaller
    /// database. Neither may be shipped.
    ///
    /// # Errors
    /// [`DatabaseError::Truncated`], or what SQLite says.
    pub(crate) fn require_whole_file(&self) -> Result<(), DatabaseError> {
        if !self.is_all_in_file {
            return Ok(());
        }
        let needed = self.header()?.map_or(PageCount::new(0), |header| header.trusted_page_count());
        let needed = needed.max(self.page_count);
        let (found, expected) = (self.page_count.bytes(self.page_size), needed.bytes(self.page_size));
        // A larger database was copied over this one, and the WAL-index still tells everybody the old size.
        if found < expected {
            return Err(DatabaseError::Truncated { path: self.path.to_owned(), found, expected });
        }
        require_length(self.path, expected)
    }

    fn image<'r>(&self, row: &'r rusqlite::Row<'_>) -> Result<&'r [u8], DatabaseError> {
        image(row, self.page_size).map_err(|error| self.failed(error))
    }

    fn failed(&self, source: rusqlite::Error) -> DatabaseError {
        DatabaseError::page(self.path, source)
    }
}

/// The page image in the first column, which must be one whole page.
fn image<'r>(row: &'r rusqlite::Row<'_>, size: PageSize) -> rusqlite::Result<&'r [u8]> {
    let image = row.get_ref(0)?.as_blob()?;
    if image.len() != size.get() as usize {
        return Err(rusqlite::Error::InvalidQuery);
    }
    Ok(image)
}
