//! What a restore leaves beside the file: the record that it is exactly a stored state of this replica, and the checksum of every
//! page. So whoever replicates it goes on from there, also when its application began first.
//!
//! The file is a new one, and was read back and held against the replica's checksum before it got its place. In the same boot,
//! whatever differs was written to this file afterwards. Nothing is claimed by that: where others have stored pages after that state,
//! the file continues nothing.

use std::time::Duration;

use lifeboat_replica::adoption::Record;
use lifeboat_wire::Reason;

use super::{Origin, Restored};
use crate::bucket::Bucket;
use crate::exit::Failure;
use crate::marks::{self, Lock, Marks};
use crate::pod_restore;
use crate::rebuild::Rebuilt;

/// Leaves the record. Without it the file is as good; only what is written to it before it is replicated has no proof.
pub(super) async fn leave_record(bucket: &Bucket, restored: &Restored, lock: Option<Lock>) {
    let (Some(origin), Some(rebuilt)) = (&restored.origin, &restored.rebuilt) else { return };
    match leave(bucket, restored, (origin, rebuilt), lock).await {
        Ok(()) => {}
        // Whoever replicates it already writes a record of its own.
        Err(failure) if failure.reason == Reason::LockHeld => tracing::debug!("{failure}"),
        Err(failure) => tracing::warn!(
            "{failure}; {} is whole, but begin `lifeboat replicate` before anything is written to it",
            restored.path.display()
        ),
    }
}

async fn leave(
    bucket: &Bucket,
    restored: &Restored,
    (origin, rebuilt): (&Origin, &Rebuilt),
    lock: Option<Lock>,
) -> Result<(), Failure> {
    let marks = Marks::beside(&restored.path);
    let _lock = match lock {
        Some(lock) => lock,
        None => marks.lock(Duration::ZERO).await?,
    };
    let (lineage, file_id) = (origin.lineage.clone(), rebuilt.file_id.clone());
    let record = Record::of_restore(lineage, origin.slot, marks::boot_id()?, file_id);
    marks.write_record(&record.stored_at(bucket.to_string()))?;
    pod_restore::note(&marks, &restored.path, &origin.lineage, origin.newest_pages, rebuilt)?;
    marks.give_to_owner_of(&restored.path)
}
