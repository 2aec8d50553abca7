//! The checksum of every page of a database, at one view.

use lifeboat_ltx::Checksum;
use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_replica::page_sums::PageSums;

use crate::database::{Database, DatabaseError};

/// Reads a whole database once. Afterwards `dirty` holds what may have changed since that view.
///
/// # Errors
/// What SQLite says.
pub fn read(database: &mut Database, dirty: &mut DirtyPages) -> Result<(PageSums, Checksum), DatabaseError> {
    let mut view = database.view(dirty)?;
    let mut sums = PageSums::unknown();
    let candidates = sums.candidates(DirtyPages::new(), view.page_count());
    let mut draft = sums.begin(view.page_count());
    view.for_each_page(&candidates, |page, image| {
        draft.look(page, image);
        Ok::<(), DatabaseError>(())
    })?;
    let checksum = draft.finish().post_apply;
    *dirty = view.still_dirty().clone();
    drop(view);
    Ok((sums, checksum))
}
