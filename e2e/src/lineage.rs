//! Proof that a replica in the bucket is one unbroken chain of writers.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

use crate::bucket::Bucket;

/// What the bucket holds of one database, read by somebody who trusts nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// The name of the chain of writers, from `head.json`.
    pub id: String,
    /// The number of the current writer.
    pub epoch: u64,
    /// `claiming`, `open` or `closed`.
    pub state: String,
    /// Namespace of the owner.
    pub namespace: String,
    /// The writer of every slot, from slot 1 on.
    pub writers: Vec<u64>,
    /// How many of the slots hold no pages.
    pub seals: usize,
}

/// The number of the writer: 8 bytes, big-endian, in the header of every LTX file (docs/formats/ltx.md).
const NODE_ID: std::ops::Range<usize> = 72..80;

/// Length of the header, in bytes.
const HEADER_BYTES: u64 = 100;

/// Length of a slot without pages, and of no other file, in bytes.
const SEAL_BYTES: u64 = 131;

impl Lineage {
    /// Reads the replica at `path` and checks that it is one chain: no slot is missing, none stands twice, and once a
    /// writer has taken over, nothing of an earlier one follows.
    ///
    /// # Errors
    /// What is broken.
    pub async fn read(bucket: &Bucket, path: &str) -> Result<Self> {
        let head = bucket.get_json(&format!("{path}/lifeboat/head.json")).await?;
        let listed = bucket.list(&format!("{path}/0000/")).await?;
        ensure!(!listed.is_empty(), "{path} has a head and no slots");
        let mut writers = Vec::with_capacity(listed.len());
        for (slot, object) in (1_u64..).zip(&listed) {
            let expected = format!("{path}/0000/{slot:016x}-{slot:016x}.ltx");
            ensure!(object.key == expected, "expected {expected}, found {}", object.key);
            let header = bucket.get_start(&object.key, HEADER_BYTES).await?;
            let node_id = header.get(NODE_ID).context("a slot shorter than a header")?;
            writers.push(u64::from_be_bytes(node_id.try_into()?));
        }
        ensure!(
            writers.is_sorted(),
            "a superseded writer has stored a slot after its successor: writers {writers:?}"
        );
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let epoch = head["epoch"].as_u64().context("head.json has no epoch")?;
        ensure!(
            writers.last() <= Some(&epoch),
            "a slot of writer {:?}, but head.json says {epoch}",
            writers.last()
        );
        Ok(Self {
            id: text(&head["lineage"]),
            epoch,
            state: text(&head["state"]),
            namespace: text(&head["owner"]["namespace"]),
            writers,
            seals: listed.iter().filter(|object| object.bytes == SEAL_BYTES).count(),
        })
    }

    /// How many writers have stored something.
    #[must_use]
    pub fn writer_count(&self) -> usize {
        let mut distinct = self.writers.clone();
        distinct.dedup();
        distinct.len()
    }
}

/// Restores the replica at `path` with the command line and returns the highest row in it.
///
/// # Errors
/// When it cannot be restored, is damaged, or has holes.
pub async fn last_restorable_row(bucket: &Bucket, path: &str) -> Result<i64> {
    let folder = TempDir::new()?;
    let target = folder.path().join("restored.db");
    bucket.restore(path, &target).await?;
    last_row(&target)
}

/// The highest row in the application's database at this path.
///
/// # Errors
/// When it is damaged, or has holes.
pub fn last_row(path: &Path) -> Result<i64> {
    let database = Connection::open(path)?;
    let integrity: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    ensure!(integrity == "ok", "the restored database is damaged: {integrity}");
    let (count, last): (i64, i64) =
        database.query_row("SELECT count(*), coalesce(max(n), 0) FROM rows", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    ensure!(count == last, "{count} rows, but the last is number {last}");
    Ok(last)
}
