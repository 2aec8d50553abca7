//! Saves a database that lost its replica, or was never one of its states, beside the chain.
//!
//! In:  the write lock of the database, so that it rests, and what is known of how it came to be.
//! Out: a fork in the bucket: one file with every page, read back, and then its note.
//!
//! The same database saved again is the same file byte for byte, so whoever is killed or restarted saves nothing twice: a fork
//! carries no time but in its note.

use std::sync::Arc;

use lifeboat_ltx::{Checksum, FileName, PageChecksum, Txid};
use lifeboat_replica::compaction::Job;
use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_replica::epoch::Epoch;
use lifeboat_replica::fork::{NOTE_VERSION, Note, Why};
use lifeboat_replica::head::{Base, Owner};
use lifeboat_replica::layout::{ForkName, Level};
use lifeboat_replica::page_sums::PageSums;

use crate::blocking::blocking;
use crate::bucket::Bucket;
use crate::clock::wall_ms;
use crate::database::{DatabaseError, WriteLock};
use crate::deriving::{self, DerivedFile, Deriving};
use crate::exit::{Exit, Failure};
use crate::{compact, retry};

/// How a database came to be one that has to be saved.
#[derive(Clone, Debug)]
pub struct Story {
    /// Why it is saved.
    pub why: Why,
    /// Who had it.
    pub owner: Owner,
    /// The lineage that it was of; empty where nothing says.
    pub lineage: String,
    /// The epoch of its last writer; 0 where nothing says.
    pub epoch: Epoch,
    /// The newest state of the replica that is known to be one of it.
    pub base: Option<Base>,
    /// How many transactions came after it, where they were counted.
    pub transactions: Option<u64>,
}

/// Saves the database under this lock; `None` where a fenced writer's is a state of the replica, so that nothing is at stake.
///
/// # Errors
/// [`Failure`] when it cannot be read, or the store does not take it. Then there is no fork, and the database is as it was.
pub async fn save(
    bucket: &Bucket,
    lock: &Arc<WriteLock>,
    story: &Story,
) -> Result<Option<ForkName>, Failure> {
    for again in 0..AGAIN_MAX {
        let (opened, theirs) = (Arc::clone(lock), story.clone());
        let Some((reading, file, checksum)) = blocking(move || begin(&opened, &theirs)).await? else {
            return Ok(None);
        };
        let name = ForkName::new(story.epoch, checksum, again);
        let (page_count, page_size) = (file.header.commit.get(), file.header.page_size.get());
        let written = compact::write_to(bucket, name.pages_key(), file).await;
        drop(reading);
        let bytes = match written {
            Ok(written) => written.size,
            // Another database of the same rolling checksum has this name.
            Err(failure) if failure.exit == Exit::Damaged => continue,
            Err(failure) => return Err(failure),
        };
        let note = Note {
            format_version: NOTE_VERSION,
            why: story.why,
            saved_ms: wall_ms(),
            owner: story.owner.clone(),
            lineage: story.lineage.clone(),
            base: story.base,
            transactions: story.transactions,
            page_count,
            page_size,
            checksum: Some(checksum),
            bytes,
        };
        retry::lasting(PATIENCE, || bucket.create_fork_note(&name, &note)).await?;
        return Ok(Some(name));
    }
    Err(Failure::bug(format!("{bucket} holds {AGAIN_MAX} forks of one checksum that are not the database")))
}

/// Begins to read the file of a fork.
fn begin(lock: &WriteLock, story: &Story) -> Result<Option<(Deriving, DerivedFile, Checksum)>, Failure> {
    let view = lock.view()?;
    let mut checksum = Checksum::EMPTY;
    view.pages()?.for_each(&every_page(), |page, image| {
        checksum = checksum.toggle(PageChecksum::of(page, image));
        Ok::<(), DatabaseError>(())
    })?;
    let is_state_of_it = story.base.is_some_and(|base| base.checksum == Some(checksum));
    let may_be_done_without = match story.why {
        Why::Fenced => is_state_of_it && story.transactions.is_none_or(|count| count == 0),
        // It goes, or is gone on from: equal checksums are no proof that nothing differs.
        Why::Diverged => false,
    };
    if may_be_done_without {
        return Ok(None);
    }
    let last = Txid::try_new(story.base.map_or(0, |base| base.txid).saturating_add(1)).unwrap_or(Txid::FIRST);
    let name =
        FileName::try_new(Txid::FIRST, last).ok_or_else(|| Failure::bug("a fork ends before it begins"))?;
    let job = Job {
        level: Level::SNAPSHOT,
        name,
        pre_apply: Checksum::EMPTY,
        post_apply: checksum,
        pages: every_page(),
    };
    let (reading, file) = deriving::begin(view, job, &PageSums::unknown(), (story.epoch, NO_TIME))?;
    Ok(Some((reading, file, checksum)))
}

fn every_page() -> DirtyPages {
    let mut pages = DirtyPages::new();
    pages.insert_all();
    pages
}

/// A fork is the same file whenever it is saved.
const NO_TIME: i64 = 0;
/// Databases of one rolling checksum are rare, and none is lost.
const AGAIN_MAX: u8 = 16;
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
