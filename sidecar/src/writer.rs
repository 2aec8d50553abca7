//! The right to write one replica, from the claim to the orderly end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lifeboat_replica::adoption::Chain;
use lifeboat_replica::claim::Opened;
use lifeboat_replica::head::Base;
use lifeboat_replica::slot::WriteAnswer;

use crate::board::Post;
use crate::bucket::Bucket;
use crate::history::History;
use crate::marks::Lock;
use crate::slot_file::SlotFile;

/// A replica that may be written.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) bucket: Bucket,
    pub(crate) opened: Opened,
    /// What the bucket holds, as far as this writer knows.
    pub(crate) chain: Chain,
    pub(crate) boot_id: String,
    pub(crate) file_id: String,
    pub(crate) history: History,
    pub(crate) said: Option<Instant>,
    pub(crate) unsaid: u64,
    /// Whether what killed processes left of large slots was looked for.
    pub(crate) is_swept: bool,
    /// The right to the database on this machine.
    pub(crate) lock: Arc<Lock>,
}

impl Writer {
    /// Where the bucket's chain ends.
    pub(crate) const fn base(&self) -> Base {
        Base { txid: self.chain.newest, checksum: self.chain.checksum }
    }

    /// A slot with pages was stored, and the record written.
    pub(crate) fn stored(&mut self, base: Base) {
        (self.chain.newest, self.chain.newest_pages) = (base.txid, base.txid);
        (self.chain.checksum, self.chain.at_record) = (base.checksum, base.checksum);
        (self.chain.holds_pages, self.chain.since_record) = (true, Vec::new());
    }

    /// The orderly end: everything is stored, so a successor need not wait. It is a courtesy; a successor seals anyway.
    pub(crate) async fn close(&mut self, name: &str, post: &Post) {
        self.opened = self.history.end(post).await;
        let closed = self.opened.head.close();
        match self.bucket.replace_head(&closed, &self.opened.etag).await {
            Ok((WriteAnswer::Done, _)) => {
                tracing::info!("{name}: everything is stored, and the replica is closed")
            }
            Ok((WriteAnswer::Rejected | WriteAnswer::Unclear, _)) => {
                tracing::warn!("{name}: everything is stored; the replica has another writer already");
            }
            Err(failure) => {
                tracing::warn!(
                    "{name}: everything is stored, but the replica could not be closed: {failure}"
                );
            }
        }
    }

    /// A line for a slot now and then, and for every one at the debug level.
    pub(crate) fn say(&mut self, name: &str, slot: &SlotFile, took: Duration) {
        let (txid, bytes, millis) = (slot.header.max_txid, slot.identity.size, took.as_millis());
        if self.said.is_some_and(|said| said.elapsed() < SAY_AGAIN) {
            self.unsaid += 1;
            tracing::debug!("{name}: stored txid {txid}, {bytes} bytes in {millis} ms");
            return;
        }
        let others = std::mem::take(&mut self.unsaid);
        let others = if others > 0 { format!(" ({others} more since the last line)") } else { String::new() };
        tracing::info!("{name}: stored txid {txid}, {bytes} bytes in {millis} ms{others}");
        self.said = Some(Instant::now());
    }
}

const SAY_AGAIN: Duration = Duration::from_secs(10);
