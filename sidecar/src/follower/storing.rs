//! Storing what the capture thread cut, and the answers it waits for.

use std::time::Instant;

use lifeboat_replica::head::Base;

use super::Follower;
use crate::board::position;
use crate::capture::Order;
use crate::exit::Failure;
use crate::retry::Trying;
use crate::slot_file::SlotFile;
use crate::streaming::StreamedSlot;
use crate::upload_parts::Streamed;
use crate::writer::Writer;
use crate::{upload, upload_parts};

impl Follower {
    pub(super) async fn store(&self, writer: &mut Writer, slot: &SlotFile) -> Result<Order, Failure> {
        let begun = Instant::now();
        upload::store(&writer.bucket, slot, &self.post, &self.shared).await?;
        Ok(self.stored(writer, slot, begun).await)
    }

    pub(super) async fn store_streamed(
        &self,
        writer: &mut Writer,
        slot: StreamedSlot,
    ) -> Result<Order, Failure> {
        let begun = Instant::now();
        match upload_parts::store(&writer.bucket, slot, &self.post, &self.shared).await? {
            Streamed::Stored(slot) => Ok(self.stored(writer, &slot, begun).await),
            Streamed::Nothing => Ok(Order::Stored),
            Streamed::GivenUp { is_spooled } => Ok(Order::GivenUp { is_spooled }),
        }
    }

    /// How a large slot is to be sent. The bucket answers before it is read, so no view waits for one that is away.
    pub(super) async fn large(&self, writer: &Writer) -> Result<Order, Failure> {
        let mut trying = Trying::forever();
        loop {
            match writer.bucket.takes_parts().await {
                Ok(in_parts) => return Ok(Order::Large { in_parts }),
                Err(failure) if upload::is_passing(&failure) => {
                    self.post.troubled(&failure);
                    trying.again(failure).await?;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn stored(&self, writer: &mut Writer, slot: &SlotFile, begun: Instant) -> Order {
        let base = Base { txid: slot.header.max_txid.get(), checksum: Some(slot.post_apply) };
        self.marks.write_record_at_last(&self.record(writer, base), &self.post).await;
        writer.stored(base);
        self.post.stored_slot(slot.identity.size);
        self.post.stored(position(base, Some(jiff::Timestamp::now())));
        writer.say(&self.database.name, slot, begun.elapsed());
        Order::Stored
    }
}
