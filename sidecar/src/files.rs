//! `lifeboat ltx`: the files of a replica, level by level.

use futures::stream::{self, StreamExt, TryStreamExt};
use lifeboat_ltx::Header;
use lifeboat_replica::head::Head;
use lifeboat_replica::inventory::FileEntry;
use lifeboat_replica::layout::Level;
use serde::Serialize;

use crate::args::{LevelChoice, LtxArgs};
use crate::bucket::Bucket;
use crate::connect;
use crate::exit::Failure;
use crate::table::{aligned, bytes, to_the_second};

/// One file, as `ltx --json` prints it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    level: u8,
    min_txid: String,
    max_txid: String,
    /// Bytes.
    size: u64,
    /// When it was captured; `None` where it was not asked for.
    time: Option<String>,
    /// Who wrote it; 0 for Litestream, `None` where it was not asked for.
    epoch: Option<u64>,
    kind: Kind,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Kind {
    /// It holds pages.
    Data,
    /// It begins an epoch, and holds none.
    Seal,
    /// It was given up, and may be deleted at any time: nothing is restored from it.
    Dead,
}

/// Lists the files.
///
/// # Errors
/// [`Failure`] when the replica cannot be read.
#[expect(clippy::print_stdout, reason = "results go to standard output")]
pub async fn run(args: &LtxArgs) -> Result<(), Failure> {
    let bucket = connect::open(
        &connect::meant(&args.replica.source, &args.replica.config, &args.replica.store)?,
        connect::Folder::MustExist,
    )
    .await?;
    let mut files = bucket.files().await?;
    let head = bucket.head().await?.map(|(head, _)| head);
    files.retain(|file| match args.level {
        LevelChoice::All => true,
        LevelChoice::Only(level) => file.level == level,
    });
    files.sort_by_key(|file| (file.level, file.min, file.max));
    let listed: Vec<_> = stream::iter(files)
        .map(|file| list(&bucket, head.as_ref(), file, args.names_only))
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&listed).unwrap_or_default());
    } else if listed.is_empty() {
        println!("{bucket} holds no such files");
    } else {
        print!("{}", table(&listed));
    }
    Ok(())
}

async fn list(
    bucket: &Bucket,
    head: Option<&Head>,
    file: FileEntry,
    is_names_only: bool,
) -> Result<Listed, Failure> {
    let header = if is_names_only { None } else { bucket.header(&file).await? };
    Ok(listed(&file, head, header.as_ref()))
}

fn listed(file: &FileEntry, head: Option<&Head>, header: Option<&Header>) -> Listed {
    let kind = match head {
        Some(head) if !head.is_live(file.level, file.max) => Kind::Dead,
        Some(_) | None if file.is_seal() => Kind::Seal,
        Some(_) | None => Kind::Data,
    };
    let time = header.and_then(|header| jiff::Timestamp::from_millisecond(header.timestamp_ms).ok());
    Listed {
        level: file.level.get(),
        min_txid: file.min.to_string(),
        max_txid: file.max.to_string(),
        size: file.size,
        time: time.map(|time| time.to_string()),
        epoch: header.map(|header| header.node_id),
        kind,
    }
}

fn table(listed: &[Listed]) -> String {
    let headings = ["LEVEL", "MIN TXID", "MAX TXID", "SIZE", "TIME", "EPOCH", "KIND"];
    let mut rows = vec![headings.map(str::to_owned)];
    let unknown = || "-".to_owned();
    rows.extend(listed.iter().map(|file| {
        let kind = match file.kind {
            Kind::Data if file.level == Level::SNAPSHOT.get() => "snapshot",
            Kind::Data => "data",
            Kind::Seal => "seal",
            Kind::Dead => "dead",
        };
        [
            file.level.to_string(),
            file.min_txid.clone(),
            file.max_txid.clone(),
            bytes(file.size),
            file.time.as_deref().map_or_else(unknown, to_the_second),
            file.epoch.map_or_else(unknown, |epoch| epoch.to_string()),
            kind.to_owned(),
        ]
    }));
    aligned(&rows)
}

/// Files asked for their first bytes at the same time.
const AT_ONCE: usize = 32;
