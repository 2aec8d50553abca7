//! `replicate --adopt`: a replica that Litestream has written becomes ours, and goes on where it ends.
//!
//! ```text
//! list ─► rebuild beside the database ─► seal ─► list ─► record and page log ─► head
//! ```
//!
//! The seal has the checksum of what was rebuilt and goes behind the newest file; the head says from where on slots may be
//! counted on. Record and page log say beside the database that it was followed up to the seal: that is what the person who
//! says `--adopt` vouches for. They come before the head, because with the head the adoption is done, and a start that finds
//! it done has to go on from them. So whoever dies at any moment, or hears no answer, begins anew: a seal of an attempt that
//! did not come to the head is one more file to build on. No file that is stored is changed.

use std::path::Path;
use std::time::Duration;

use lifeboat_ltx::{Header, Mark, Txid};
use lifeboat_replica::adoption::Record;
use lifeboat_replica::claim::seal_bytes;
use lifeboat_replica::epoch::Epoch;
use lifeboat_replica::foreign::ForeignEnd;
use lifeboat_replica::head::{Base, Head, hex};
use lifeboat_replica::inventory::{FileEntry, Inventory};
use lifeboat_replica::slot::WriteAnswer;
use lifeboat_wire::Reason;
use tokio::runtime::Handle;

use crate::blocking::blocking;
use crate::bucket::Bucket;
use crate::clock::wall_ms;
use crate::exit::Failure;
use crate::marks::Marks;
use crate::rebuild::Rebuilt;
use crate::restore::{How, restore};
use crate::retry::Trying;
use crate::{claim, marks, pod, pod_restore};

/// Makes the replica ours if another program has written it, or written to it last; else does nothing.
///
/// # Errors
/// Refused when there is no local database, or another program is still at work; damaged when what is stored does not lead to its
/// newest state.
pub async fn run(
    bucket: &Bucket,
    database: &Path,
    marks: &Marks,
    trying: &mut Trying,
) -> Result<(), Failure> {
    let inventory = bucket.inventory().await?;
    let Some(end) = foreign_end(bucket, &inventory).await? else { return Ok(()) };
    if !database.exists() {
        return Err(Failure::refused(
            Reason::DatabaseUnreadable,
            format!(
                "{} does not exist, so it continues nothing; restore it from {bucket} first",
                database.display()
            ),
        ));
    }
    tracing::info!(
        "{bucket} was written by another program; reading all of it to compare it with {}",
        database.display()
    );
    let rebuilt = rebuild(bucket, &end, marks).await?;
    let base = seal(bucket, &inventory, &end, &rebuilt, trying).await?;
    require_rest(bucket, base).await?;
    let head = end.head(inventory.head(), hex(pod::random_bits()?), pod::new_owner()?, base);
    let record = Record::new(&head, base, marks::boot_id()?, pod_restore::file_id(database)?);
    marks.write_record(&record.stored_at(bucket.to_string()))?;
    pod_restore::note(marks, database, &head.lineage, end.newest_slot(&inventory), &rebuilt)?;
    take(bucket, &inventory, &head, trying).await?;
    tracing::info!("{bucket} is continued from txid {:016x} on", base.txid);
    Ok(())
}

/// The end of the replica, where its newest pages are another program's.
async fn foreign_end(bucket: &Bucket, inventory: &Inventory) -> Result<Option<ForeignEnd>, Failure> {
    let found = ForeignEnd::find(inventory)
        .map_err(|error| Failure::damaged(Reason::ChainGap, format!("{bucket}: {error}")))?;
    let Some(end) = found else { return Ok(None) };
    if !end.is_beyond(inventory.head()) {
        return Ok(None);
    }
    match (inventory.head(), header(bucket, &end.pages).await?.mark) {
        (_, None) => Ok(Some(end)),
        (Some(_), Some(_)) => Ok(None),
        (None, Some(_)) => Err(Failure::refused(
            Reason::UnclaimedData,
            format!(
                "{bucket} was written by lifeboat, and lifeboat/head.json is gone: nothing says who may write; bring it back \
                 from the bucket's versions, or restore from here and replicate to an empty prefix"
            ),
        )),
    }
}

async fn header(bucket: &Bucket, file: &FileEntry) -> Result<Header, Failure> {
    bucket.header(file).await?.ok_or_else(|| claim::moved(bucket))
}

/// What the replica restores to, in a file of our own that does not stay.
async fn rebuild(bucket: &Bucket, end: &ForeignEnd, marks: &Marks) -> Result<Rebuilt, Failure> {
    let scratch = marks.folder().join("adopted.db");
    let how = How::to_go_on(PATIENCE);
    let (from, to, runtime) = (bucket.clone(), scratch.clone(), Handle::current());
    // A restore cannot be handed from thread to thread, as a follower is; so it gets one.
    let run = move || runtime.block_on(restore(&from, &to, &how));
    let restored = blocking(run).await;
    if let Err(error) = std::fs::remove_file(&scratch) {
        tracing::debug!("{}: {error}", scratch.display());
    }
    let restored = restored?.filter(|restored| restored.txid == Some(end.newest.max.to_string()));
    restored.and_then(|restored| restored.rebuilt).ok_or_else(|| claim::moved(bucket))
}

/// Puts a seal with the checksum of the restored state behind the newest file.
async fn seal(
    bucket: &Bucket,
    inventory: &Inventory,
    end: &ForeignEnd,
    rebuilt: &Rebuilt,
    trying: &mut Trying,
) -> Result<Base, Failure> {
    let (checksum, epoch) = (rebuilt.checksum, inventory.head().map_or(Epoch::FIRST, |head| head.epoch));
    let mark = Some(Mark { pre_apply: checksum, post_apply: checksum });
    let last = Header { mark, ..header(bucket, &end.newest).await? };
    let (header, bytes) = seal_bytes(epoch, Some(&last), wall_ms())?;
    let txid = header.max_txid;
    loop {
        match claim::or_unclear(bucket.create_seal(txid, &bytes).await, trying).await? {
            WriteAnswer::Done => break,
            WriteAnswer::Unclear => {}
            WriteAnswer::Rejected if is_there(bucket, txid, &bytes).await? => break,
            WriteAnswer::Rejected => return Err(claim::moved(bucket)),
        }
    }
    Ok(Base { txid: txid.get(), checksum: Some(checksum) })
}

async fn is_there(bucket: &Bucket, txid: Txid, bytes: &[u8]) -> Result<bool, Failure> {
    Ok(bucket.slot(txid).await?.and_then(|slot| slot.seal).is_some_and(|seal| seal == bytes))
}

/// Whoever still writes would go on behind our seal, and overwrite what we store.
async fn require_rest(bucket: &Bucket, base: Base) -> Result<(), Failure> {
    let files = bucket.files().await?;
    match files.iter().find(|file| file.max.get() > base.txid) {
        None => Ok(()),
        Some(file) => Err(Failure::refused(
            Reason::UnclaimedData,
            format!("{bucket}: another program has just stored {}; stop it first", file.key),
        )),
    }
}

/// Creates or replaces the head; afterwards only who claims may write. After an unclear answer only its content tells.
async fn take(
    bucket: &Bucket,
    inventory: &Inventory,
    head: &Head,
    trying: &mut Trying,
) -> Result<(), Failure> {
    loop {
        let found = bucket.head().await?;
        if found.as_ref().is_some_and(|(found, _)| found == head) {
            return Ok(());
        }
        if found.as_ref().map(|(found, _)| found) != inventory.head() {
            return Err(claim::moved(bucket));
        }
        let written = match &found {
            Some((_, etag)) => bucket.replace_head(head, etag).await,
            None => bucket.create_head(head).await,
        };
        match claim::or_unclear(written.map(|(answer, _)| answer), trying).await? {
            WriteAnswer::Done => return Ok(()),
            WriteAnswer::Rejected | WriteAnswer::Unclear => {}
        }
    }
}

/// How long the bucket is tried; after that everything begins anew.
const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
