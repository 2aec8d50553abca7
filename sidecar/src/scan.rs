//! Reads every page of a database once, while its application goes on as if nobody did.
//!
//! In:  a database of which nothing was read yet.
//! Out: the checksum of every page as of one commit, and which pages may have changed since.
//!
//! A view is read by a thread of its own, and meanwhile the database is followed. Before the view hurts the application, it
//! is given up, and what was read of it is kept: a page that nobody changed since is in the next view what it was in this
//! one. So only what was not read yet, or has changed, is read from the next, and all of it together is that view.
//!
//! Of a large database two threads read half each, through two views of the same commit.

use std::ops::ControlFlow;
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use lifeboat_ltx::PageChecksum;
use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_replica::page_log::Anchor;
use lifeboat_replica::page_sums::PageSums;
use lifeboat_wal::PageNo;

use crate::database::{Database, DatabaseError, DetachedView, Followed, Pages, Settled};
use crate::disk;
use crate::view_bounds::ViewBounds;

/// A database as of one commit.
#[derive(Debug)]
pub struct Scanned {
    /// The checksum of every page.
    pub sums: PageSums,
    /// From where this state can be followed; `None` without a WAL.
    pub anchor: Option<Anchor>,
}

/// Reads the whole database, for as long as somebody wants it; `None` when nobody does any more, which is for good. Afterwards
/// `dirty` holds what may have changed since what was read.
///
/// # Errors
/// What SQLite says. Then, and without a result, `dirty` says nothing.
pub fn scan(
    database: &mut Database,
    dirty: &mut DirtyPages,
    is_wanted: &IsWanted<'_>,
) -> Result<Option<Scanned>, DatabaseError> {
    let path = database.path().to_owned();
    let free = || disk::free_bytes(&path);
    scan_in(database, dirty, &Surroundings { free: &free, is_wanted, large: LARGE })
}

/// Whether somebody wants what is read. Asked before each page, by each thread that reads.
pub type IsWanted<'w> = dyn Fn() -> bool + Sync + 'w;

/// What a scan meets besides the database.
struct Surroundings<'s> {
    /// How much room the disk has, if that is known.
    free: &'s dyn Fn() -> Option<u64>,
    /// Whether somebody wants what is read.
    is_wanted: &'s IsWanted<'s>,
    /// How many bytes are worth a second thread.
    large: u64,
}

/// How far a scan has come.
struct Scan {
    sums: PageSums,
    /// What no view was read for yet.
    unread: DirtyPages,
}

fn scan_in(
    database: &mut Database,
    dirty: &mut DirtyPages,
    surroundings: &Surroundings<'_>,
) -> Result<Option<Scanned>, DatabaseError> {
    let is_wanted = surroundings.is_wanted;
    let mut scan = Scan { sums: PageSums::unknown(), unread: DirtyPages::new() };
    while let Some(view) = open_view(database, dirty)? {
        // What changed since the last view is not what was read of it.
        scan.unread.merge(std::mem::replace(dirty, view.still_dirty().clone()));
        let twin = scan.twin(&view, database, dirty, surroundings.large)?;
        match scan.read_beside(view, twin, database, dirty, surroundings)? {
            ControlFlow::Break(anchor) => {
                // Somebody wrote the file past SQLite: where it stands now proves nothing of what was read before.
                let anchor = anchor.filter(|_| !dirty.is_all());
                return Ok(Some(Scanned { sums: scan.sums, anchor }));
            }
            ControlFlow::Continue(_) if !is_wanted() => return Ok(None),
            ControlFlow::Continue(why) => {
                let path = database.path().display();
                tracing::info!(
                    "{path}: while the whole database is read, {why}; it is read on through another view"
                );
                step_aside(database, dirty)?;
            }
        }
    }
    // Without a WAL whoever reads keeps everybody from committing, and there is nothing to watch over.
    let view = database.view(dirty)?;
    scan.unread.merge(std::mem::replace(dirty, view.still_dirty().clone()));
    scan.read(&view.pages(), None, is_wanted)?;
    let is_read = scan.unread.is_empty();
    Ok(is_read.then(|| Scanned { sums: scan.sums, anchor: view.anchor() }))
}

/// Why a view was read no further.
enum Stopped {
    /// Nobody wants this page, nor those that follow.
    Before(PageNo),
    Failed(DatabaseError),
}

impl From<DatabaseError> for Stopped {
    fn from(error: DatabaseError) -> Self {
        Self::Failed(error)
    }
}

impl Scan {
    /// A second view of what `view` shows, while nothing of a large database is read. There is none where something was
    /// committed in between.
    fn twin(
        &self,
        view: &DetachedView,
        database: &mut Database,
        dirty: &mut DirtyPages,
        large: u64,
    ) -> Result<Option<DetachedView>, DatabaseError> {
        let pages = view.pages()?;
        let bytes = u64::from(pages.page_count().get()) * u64::from(pages.page_size().get());
        if bytes < large || self.sums.checksum().is_some() {
            return Ok(None);
        }
        let twin = unless_brief(database.detached_view(dirty))?.flatten();
        Ok(twin.filter(|twin| twin.is_twin_of(view)))
    }

    /// Reads on through a view, while the database is followed: to the end, or until the view has to go, which it says why.
    fn read_beside(
        &mut self,
        view: DetachedView,
        twin: Option<DetachedView>,
        database: &mut Database,
        dirty: &mut DirtyPages,
        surroundings: &Surroundings<'_>,
    ) -> Result<ControlFlow<Option<Anchor>, &'static str>, DatabaseError> {
        let (page_count, page_size) = view.pages().map(|pages| (pages.page_count(), pages.page_size()))?;
        let bounds = ViewBounds::new(page_count, page_size, (surroundings.free)());
        let mut bounds = bounds.of_little_worth();
        let (is_in_the_way, is_wanted) = (&AtomicBool::new(false), surroundings.is_wanted);
        let is_wanted = move || is_wanted() && !is_in_the_way.load(Ordering::Relaxed);
        let (ended, end) = mpsc::channel::<()>();
        let scan = &mut *self;
        let read = move || {
            let _ended = ended;
            scan.read(&view.pages()?, twin, is_wanted)?;
            Ok(view.anchor())
        };
        let (watched, read) = thread::scope(|scope| {
            let reader = thread::Builder::new().name("scan".to_owned()).spawn_scoped(scope, read);
            let reader = reader.map_err(|error| no_thread(database, error))?;
            let watched = watch_over(&mut bounds, database, dirty, &end);
            is_in_the_way.store(true, Ordering::Relaxed);
            let read: Result<_, DatabaseError> =
                reader.join().unwrap_or_else(|why| panic::resume_unwind(why));
            Ok::<_, DatabaseError>((watched, read))
        })?;
        let (why, anchor) = (watched?, read?);
        if self.unread.is_empty() {
            // Also when it had to go, and what was read last was the end.
            return Ok(ControlFlow::Break(anchor));
        }
        Ok(ControlFlow::Continue(why.unwrap_or("nobody wants it")))
    }

    /// Reads what was not read yet, for as long as somebody wants it; with a twin, which is for a database of which nothing
    /// was read, the second half through that.
    fn read(
        &mut self,
        pages: &Pages<'_>,
        twin: Option<DetachedView>,
        is_wanted: impl Fn() -> bool + Copy + Send,
    ) -> Result<(), DatabaseError> {
        let (page_count, page_size) = (pages.page_count(), pages.page_size());
        let unread = self.sums.candidates(self.unread.take(), page_count);
        let mut draft = self.sums.begin(page_count);
        let mut use_page = |page, image: &[u8]| {
            if !is_wanted() {
                return Err(Stopped::Before(page));
            }
            draft.look(page, image);
            Ok(())
        };
        let half = page_count.get() / 2;
        let (read, first, rest) = match twin {
            None => (pages.for_each(&unread, use_page), page_count.get(), Ok(Vec::new())),
            Some(twin) => thread::scope(|scope| {
                let read_rest = move || sums_after(half, &twin.pages()?, is_wanted);
                let reader = thread::Builder::new().name("scan".to_owned()).spawn_scoped(scope, read_rest);
                let read = pages.for_each_of(1..=half, &mut use_page);
                let rest = match reader {
                    Ok(reader) => reader.join().unwrap_or_else(|why| panic::resume_unwind(why)),
                    Err(_) => sums_after(half, pages, is_wanted),
                };
                (read, half, rest)
            }),
        };
        let rest = rest?;
        let rest_end = (first + 1..).zip(&rest).fold(first, |_, (number, sum)| {
            let page = PageNo::try_new(number).filter(|page| *page != page_size.lock_page());
            let _ = page.map(|page| draft.look_at_sum(page, *sum));
            number
        });
        let _ = draft.finish();
        let first_end = match read {
            Ok(()) => first,
            Err(Stopped::Failed(error)) => return Err(error),
            Err(Stopped::Before(page)) => page.get() - 1,
        };
        let is_unread = |number: u32| number > first_end && number <= first || number > rest_end;
        let unread = unread.iter(page_count, page_size).filter(|page| is_unread(page.get()));
        unread.for_each(|page| self.unread.insert(page));
        // It may have been cut short while it was read.
        pages.require_whole_file()
    }
}

/// The checksums of the pages after this one, as many as somebody wants, that of the lock page 0.
fn sums_after(
    page: u32,
    pages: &Pages<'_>,
    is_wanted: impl Fn() -> bool,
) -> Result<Vec<PageChecksum>, DatabaseError> {
    const NONE: PageChecksum = PageChecksum::from_bits(0);
    let count = pages.page_count().get();
    let mut sums = Vec::with_capacity((count - page) as usize);
    let read = pages.for_each_of(page + 1..=count, |number, image| {
        if !is_wanted() {
            return Err(Stopped::Before(number));
        }
        sums.resize((number.get() - page - 1) as usize, NONE);
        sums.push(PageChecksum::of(number, image));
        Ok(())
    });
    match read {
        Ok(()) => sums.resize((count - page) as usize, NONE),
        Err(Stopped::Before(_)) => pages.require_whole_file()?,
        Err(Stopped::Failed(error)) => return Err(error),
    }
    Ok(sums)
}

/// Follows the database until its view was read, or has to go, and why.
fn watch_over(
    bounds: &mut ViewBounds,
    database: &mut Database,
    dirty: &mut DirtyPages,
    end: &Receiver<()>,
) -> Result<Option<&'static str>, DatabaseError> {
    let mut committed = 0;
    while end.recv_timeout(LOOK_PAUSE) == Err(RecvTimeoutError::Timeout) {
        committed += follow(database, dirty)?;
        let why = bounds.exceeded(committed, database.is_being_checkpointed());
        if why.is_some() {
            return Ok(why);
        }
    }
    Ok(None)
}

/// Lets a checkpoint of the application come to its end, and the WAL become short again, while no view is open.
fn step_aside(database: &mut Database, dirty: &mut DirtyPages) -> Result<(), DatabaseError> {
    let begun = Instant::now();
    while begun.elapsed() < ASIDE_MAX {
        follow(database, dirty)?;
        if !database.is_being_checkpointed() && (!database.has_long_wal() || is_settled(database, dirty)?) {
            break;
        }
        thread::sleep(LOOK_PAUSE);
    }
    Ok(())
}

fn is_settled(database: &mut Database, dirty: &mut DirtyPages) -> Result<bool, DatabaseError> {
    Ok(unless_brief(database.settle(dirty))? == Some(Settled::Yes))
}

/// The next view. What is in the way only briefly costs nothing of what was read.
fn open_view(database: &mut Database, dirty: &mut DirtyPages) -> Result<Option<DetachedView>, DatabaseError> {
    let begun = Instant::now();
    loop {
        match database.detached_view(dirty) {
            Err(error) if error.is_brief() && begun.elapsed() < BRIEF_MAX => thread::sleep(LOOK_PAUSE),
            view => return view,
        }
    }
}

/// How many bytes were committed, as far as that is known.
fn follow(database: &mut Database, dirty: &mut DirtyPages) -> Result<u64, DatabaseError> {
    Ok(match unless_brief(database.follow(dirty))? {
        Some(Followed::Continued(gained)) => gained.bytes,
        // The next look finds what this one did not.
        Some(Followed::Lost { .. }) | None => 0,
    })
}

/// What is in the way for a moment only is no error: the next attempt finds the same.
fn unless_brief<T>(found: Result<T, DatabaseError>) -> Result<Option<T>, DatabaseError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_brief() => Ok(None),
        Err(error) => Err(error),
    }
}

fn no_thread(database: &Database, source: std::io::Error) -> DatabaseError {
    DatabaseError::Io { path: database.path().to_owned(), doing: "start a thread that reads", source }
}

/// Less is read by one thread sooner than by two.
const LARGE: u64 = 64 << 20;
/// How often is looked while a view is read.
const LOOK_PAUSE: Duration = Duration::from_millis(10);
/// So long a view is waited with at most, however the application goes on.
const ASIDE_MAX: Duration = Duration::from_secs(1);

/// So long what is in the way counts as brief.
const BRIEF_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
