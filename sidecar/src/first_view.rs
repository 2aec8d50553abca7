//! The first look at a database that was not followed until now: what it holds, compared with what the bucket has.

use lifeboat_ltx::Checksum;
use lifeboat_replica::adoption::{Adoption, Content};
use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_replica::page_log::KnownState;
use lifeboat_replica::page_sums::PageSums;

use crate::database::{Database, DatabaseError};
use crate::scan::{IsWanted, Scanned, scan};

/// What is known of the state that the bucket ends at, before the database is opened.
#[derive(Debug)]
pub enum Expected {
    /// The bucket holds no page: there is nothing to compare with.
    Nothing,
    /// It holds a state of which the pages are not known.
    Something,
    /// It holds this state.
    State(Box<KnownState>),
}

/// What the first look found.
#[derive(Debug)]
pub struct FirstView {
    /// What the database holds.
    pub content: Content,
    /// What the bucket has, page by page, where that is known. What was read from the database itself tells nothing about
    /// it, not even if the rolling checksums are equal: two reasons must fail before a page counts as stored that is not.
    pub known: Option<KnownState>,
}

/// Finds out what the database holds, without reading it where that can be proved otherwise. Afterwards `dirty` holds
/// every page that may differ from the state that is known, and that state has an anchor only where the database was just
/// proved to come from it by commits alone. Takes `expected`, unless it fails. `None` when nobody wants it any more, which may
/// take less long than to read everything.
///
/// # Errors
/// What SQLite says.
pub fn look(
    database: &mut Database,
    expected: &mut Expected,
    here: (&str, &str),
    dirty: &mut DirtyPages,
    is_wanted: &IsWanted<'_>,
) -> Result<Option<FirstView>, DatabaseError> {
    let content = match expected {
        Expected::Nothing => Some(Content::Unread),
        Expected::Something => {
            scan(database, dirty, is_wanted)?.map(|scanned| Content::Read(rolling(&scanned.sums)))
        }
        Expected::State(known) => compare(database, known, here, dirty, is_wanted)?,
    };
    let Some(content) = content else { return Ok(None) };
    let known = match std::mem::replace(expected, Expected::Nothing) {
        Expected::State(known) => Some(*known),
        Expected::Something | Expected::Nothing => None,
    };
    Ok(Some(FirstView { content, known }))
}

fn compare(
    database: &mut Database,
    known: &mut KnownState,
    (boot_id, file_id): (&str, &str),
    dirty: &mut DirtyPages,
    is_wanted: &IsWanted<'_>,
) -> Result<Option<Content>, DatabaseError> {
    // A chain of files of two page sizes cannot be restored.
    database.require_page_size(known.page_size)?;
    if let Some(anchor) = known.anchor_in(boot_id, file_id)
        && let Some(from) = known.sums.checksum()
        && database.resume(anchor, dirty)?
    {
        return Ok(Some(Content::Continues { from, is_changed: !dirty.is_empty() }));
    }
    let Some(Scanned { sums: now, anchor }) = scan(database, dirty, is_wanted)? else { return Ok(None) };
    let differing = known.sums.differing(&now);
    known.anchor = anchor.filter(|_| differing.is_empty());
    dirty.merge(differing);
    Ok(Some(Content::Read(rolling(&now))))
}

/// The rolling checksum of pages that were all read.
fn rolling(sums: &PageSums) -> Checksum {
    sums.checksum().unwrap_or(Checksum::EMPTY)
}

/// What a start found, for people.
#[must_use]
pub const fn describe(adoption: Adoption, content: Content, is_known: bool) -> &'static str {
    match (adoption, is_known, content) {
        (Adoption::Same, true, Content::Continues { .. }) => {
            "the bucket already has it; no page had to be read"
        }
        (_, true, Content::Continues { .. }) => "no page had to be read",
        (_, true, Content::Read(_) | Content::Unread) => "every page was read; those that differ are stored",
        (_, false, _) => "every page is stored",
    }
}
