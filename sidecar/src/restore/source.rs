//! Where a restore fetches from: one replica, asked patiently.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use lifeboat_ltx::{HEADER_SIZE, Header};
use lifeboat_replica::inventory::FileEntry;
use lifeboat_wire::Reason;

use crate::bucket::Bucket;
use crate::exit::Failure;
use crate::progress::Progress;
use crate::retry;

/// A replica, and how long to ask it for each thing.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    bucket: Bucket,
    patience: Duration,
    progress: Progress,
}

impl Source {
    /// Asks `bucket` for each thing until nothing has worked for as long as `patience`.
    #[must_use]
    pub(crate) const fn new(bucket: Bucket, patience: Duration, progress: Progress) -> Self {
        Self { bucket, patience, progress }
    }

    /// These bytes of a listed file.
    ///
    /// # Errors
    /// Unavailable when the bucket does not answer; damaged, with [`Reason::ChainGap`], when the file is gone or is another
    /// one than was listed: then the replica must be listed again.
    pub(crate) async fn fetch(&self, file: &FileEntry, range: Range<u64>) -> Result<Bytes, Failure> {
        let read = retry::lasting(self.patience, || self.bucket.range_of(file, range.clone())).await?;
        let bytes = read.ok_or_else(|| {
            let message = format!("{} was listed and is gone, or was replaced", file.key);
            Failure::damaged(Reason::ChainGap, message).suspecting([file.key.clone()])
        })?;
        self.progress.add(bytes.len() as u64);
        Ok(bytes)
    }

    /// The header of a listed file.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch); damaged also when it is none.
    pub(crate) async fn header(&self, file: &FileEntry) -> Result<Header, Failure> {
        let bytes = self.fetch(file, 0..file.size.min(HEADER_SIZE as u64)).await?;
        Header::decode(&bytes).map_err(|error| damaged(file, error))
    }

    /// A file from front to back, with some pieces under way ahead of the reader. A failure comes as an [`io::Error`] made of
    /// the [`Failure`].
    pub(crate) fn pieces(&self, file: &FileEntry) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
        let (source, file) = (self.clone(), Arc::new(file.clone()));
        let size = file.size;
        let begins = std::iter::successors(Some(0), |at| Some(at + PIECE_BYTES));
        let begins = begins.take_while(move |at| *at < size);
        let fetching = stream::iter(begins).map(move |at| {
            let (source, file) = (source.clone(), Arc::clone(&file));
            async move { source.fetch(&file, at..size.min(at + PIECE_BYTES)).await }
        });
        fetching.buffered(PIECES_AHEAD).map_err(io::Error::other)
    }

    /// Nothing more is fetched.
    pub(crate) fn end(&self) {
        self.progress.end();
    }

    /// How many bytes have come.
    #[must_use]
    pub(crate) fn fetched(&self) -> u64 {
        self.progress.bytes()
    }
}

/// A file that is not what it must be.
pub(crate) fn damaged(file: &FileEntry, what: impl std::fmt::Display) -> Failure {
    let failure = Failure::damaged(Reason::IntegrityFailed, format!("{}: {what}", file.key));
    failure.suspecting([file.key.clone()])
}

const PIECE_BYTES: u64 = 1024 * 1024;
const PIECES_AHEAD: usize = 4;
