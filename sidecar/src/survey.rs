//! Looks up what was stored before this process, so that its merged files hold what those lacked.

use futures::{StreamExt, TryStreamExt, stream};
use lifeboat_replica::compaction::{Past, Survey};
use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_replica::head::Head;
use lifeboat_replica::inventory::{FileEntry, Inventory};
use lifeboat_replica::layout::Level;
use lifeboat_wire::Reason;

use crate::bucket::Bucket;
use crate::clock::wall_ms;
use crate::exit::Failure;

/// Everything up to `end`, by lists, headers and page indexes; no page is fetched.
///
/// # Errors
/// [`Failure`] when something cannot be read, or files are missing.
pub async fn look_up(bucket: &Bucket, head: &Head, end: u64) -> Result<Past, Failure> {
    let files = bucket.live_files(head.floor(Level::CAPTURED)).await?;
    let inventory = Inventory::new(files, Some(head.clone()));
    let survey = Survey::of(&inventory, end).ok_or_else(|| {
        Failure::damaged(Reason::ChainGap, format!("{bucket}: files below txid {end:016x} are missing"))
    })?;
    let headers = stream::iter(survey.headers().into_iter().cloned());
    let headers = headers.map(async |file: FileEntry| {
        let header = bucket.live_header(&file).await?;
        Ok::<_, Failure>((file.key, header))
    });
    let headers = headers.buffered(AT_ONCE).try_collect().await?;
    let pages = stream::iter(survey.indexes().into_iter().cloned());
    let pages = pages
        .map(async |file: FileEntry| Ok::<_, Failure>((file.key.clone(), pages_of(bucket, &file).await?)));
    let pages = pages.buffered(AT_ONCE).try_collect().await?;
    Ok(survey.past(&headers, &pages, wall_ms()))
}

async fn pages_of(bucket: &Bucket, file: &FileEntry) -> Result<DirtyPages, Failure> {
    let ends = bucket.ends(&file.key).await?;
    let ends = ends.ok_or_else(|| Failure::unavailable(format!("{bucket}: {} is gone", file.key)))?;
    let mut pages = DirtyPages::new();
    ends.tail.index.entries().iter().for_each(|entry| pages.insert(entry.page));
    Ok(pages)
}

const AT_ONCE: usize = 8;
