//! Forks: what lies beside a replica and never in it.

use lifeboat_ltx::{HEADER_SIZE, Header, Txid};
use lifeboat_replica::fork::{NOTE_BYTES_MAX, Note};
use lifeboat_replica::inventory::FileEntry;
use lifeboat_replica::layout::{FORKS_PREFIX, ForkName, Level};
use lifeboat_store::Body;
use lifeboat_wire::Reason;

use super::{Bucket, created};
use crate::exit::Failure;

impl Bucket {
    /// Every fork that is whole, ascending.
    ///
    /// # Errors
    /// [`Failure`] when the list cannot be read completely.
    pub async fn forks(&self) -> Result<Vec<ForkName>, Failure> {
        let listed = self.store.list(FORKS_PREFIX).await?;
        let mut names: Vec<_> = listed.iter().filter_map(|listed| ForkName::of_note(&listed.key)).collect();
        names.sort();
        Ok(names)
    }

    /// What a fork says of itself.
    ///
    /// # Errors
    /// [`Failure`] when it is gone, cannot be read, or is damaged.
    pub async fn fork_note(&self, fork: &ForkName) -> Result<Note, Failure> {
        let key = fork.note_key();
        let object = self.store.get(&key, NOTE_BYTES_MAX).await?;
        Note::decode(&object.bytes).map_err(|error| self.damaged(&key, &error))
    }

    /// Creates the note of a fork whose pages are stored. One that is there already says the same.
    ///
    /// # Errors
    /// [`Failure`] when the answer did not come, or was a refusal.
    pub async fn create_fork_note(&self, fork: &ForkName, note: &Note) -> Result<(), Failure> {
        let body = Body::from(note.encode());
        created(self.store.put_new(&fork.note_key(), body, Some(note.saved_ms)).await)
    }

    /// The pages of a fork as a file that a restore can begin and end with.
    ///
    /// # Errors
    /// [`Failure`] when they are gone, cannot be read, or are damaged.
    pub async fn fork_pages(&self, fork: &ForkName) -> Result<FileEntry, Failure> {
        let key = fork.pages_key();
        let gone =
            || Failure::damaged(Reason::ChainGap, format!("{self}: {key} is gone, and its note is not"));
        let (object, begin) = self.begin_of(&key, HEADER_SIZE as u64).await?.ok_or_else(gone)?;
        let header = Header::decode(&begin).map_err(|error| self.damaged(&key, &error))?;
        if header.min_txid != Txid::FIRST {
            return Err(self.damaged(&key, &"it does not hold the whole database"));
        }
        let (level, etag) = (Level::SNAPSHOT, object.etag.to_string());
        Ok(FileEntry { level, min: header.min_txid, max: header.max_txid, size: object.size, key, etag })
    }
}
