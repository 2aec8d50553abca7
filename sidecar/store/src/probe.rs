//! What only trying tells about a server.

use bytes::Bytes;

use crate::error::StoreError;
use crate::store::{Body, Store};

/// Whether completing an object sent in parts respects one that is there already, and works where there is none.
///
/// Some servers know the condition when an object is sent at once, and ignore it here: then a writer that was overtaken
/// could replace what its successor stored. `scratch` is a key that nobody else uses; nothing of it is left behind.
///
/// # Errors
/// When the server could not be asked. A refusal of the requests themselves is an answer: `false`.
pub async fn completes_exclusively(store: &dyn Store, scratch: &str) -> Result<bool, StoreError> {
    match store.put_new(scratch, Body::from(FIRST.to_vec()), None).await {
        Ok(_) | Err(StoreError::Exists { .. }) => {}
        Err(error) => return Err(error),
    }
    let outcome = try_out(store, scratch).await;
    let cleaned = store.delete(&[scratch.to_owned()]).await;
    match outcome.and_then(|is_exclusive| cleaned.map(|()| is_exclusive)) {
        // Who may create, but not this, does without.
        Err(error) if error.is_refusal() || matches!(error, StoreError::Mangled { .. }) => {
            tracing::debug!("large objects are not sent in parts: {error}");
            Ok(false)
        }
        known => known,
    }
}

async fn try_out(store: &dyn Store, scratch: &str) -> Result<bool, StoreError> {
    let is_refused = match complete(store, scratch).await {
        Ok(()) => false,
        Err(StoreError::Exists { .. }) => true,
        Err(error) => return Err(error),
    };
    let is_intact = store.get(scratch, SCRATCH_BYTES_MAX).await?.bytes == FIRST;
    store.delete(&[scratch.to_owned()]).await?;
    complete(store, scratch).await?;
    Ok(is_refused && is_intact && store.get(scratch, SCRATCH_BYTES_MAX).await?.bytes == SECOND)
}

async fn complete(store: &dyn Store, scratch: &str) -> Result<(), StoreError> {
    let upload = store.begin_parts(scratch, PART_BYTES, None).await?;
    let completed = match store.put_part(&upload, 1, Bytes::from_static(SECOND)).await {
        Ok(part) => store.complete_new(&upload, &[part]).await,
        Err(error) => Err(error),
    };
    if completed.is_err() {
        store.abandon(&upload).await?;
    }
    completed.map(drop)
}

const FIRST: &[u8] = b"was here first";
const SECOND: &[u8] = b"came second";
const SCRATCH_BYTES_MAX: u64 = 1024;
/// The smallest that every server takes.
const PART_BYTES: u64 = 5 << 20;
