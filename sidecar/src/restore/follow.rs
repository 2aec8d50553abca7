//! `lifeboat restore -f`: a copy that stays close behind its replica, and that others may read at any moment.
//!
//! File after file is applied through SQLite, each in one transaction and only when it is proved. Beside the copy stands where
//! it is, and while a step is made also where it will be: whoever is killed at any moment knows the copy again by its checksum.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use lifeboat_ltx::{Decoder, PageChecksum, Txid};
use lifeboat_replica::PlanError;
use lifeboat_replica::head::Head;
use lifeboat_replica::inventory::FileEntry;
use lifeboat_replica::restore::detour::{Detour, Onward};
use lifeboat_wal::{PageNo, PageSize};
use lifeboat_wire::Reason;
use serde::{Deserialize, Serialize};
use tokio_util::io::{StreamReader, SyncIoBridge};
use tokio_util::sync::CancellationToken;

use super::attempt::{How, restore};
use super::gather;
use super::source::{Source, damaged};
use super::{Outcome, Restored};
use crate::blocking::blocking;
use crate::bucket::Bucket;
use crate::database::ReadableCopy;
use crate::disk;
use crate::exit::{Exit, Failure};
use crate::marks::{Lock, Marks};
use crate::progress::Progress;
use crate::rebuild::{Overwrite, target_exists};
use crate::retry::Trying;

/// Where a copy is, as `follow.json` beside it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Position {
    /// 16 hexadecimal digits.
    txid: String,
    /// The rolling checksum of the stored state.
    checksum: String,
    /// The checksum of page 1 as it is stored.
    page_one: u64,
}

/// What `follow.json` says: where the copy is; or, when it was killed in a step, one of two places.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Progressing {
    /// The lineage of the replica that it is a copy of; `None` where there was no head, as in Litestream's replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lineage: Option<String>,
    at: Position,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<Position>,
}

/// A copy, and where it is.
struct Following {
    path: PathBuf,
    copy: ReadableCopy,
    marks: Marks,
    lineage: Option<String>,
    at: Position,
    txid: Txid,
}

/// A file that is ready to be followed with.
pub(super) struct Begun {
    restored: Option<Restored>,
    output: PathBuf,
    marks: Marks,
    /// Held for life: nobody replicates the copy meanwhile.
    _lock: Lock,
}

/// Makes sure that there is a copy, and that it is known where it is.
///
/// # Errors
/// [`Failure`]; then no file was written.
pub(super) async fn begin(bucket: &Bucket, output: &Path, how: &How) -> Result<Begun, Failure> {
    let marks = Marks::beside(output);
    let lock = marks.lock(Duration::ZERO).await?;
    if marks.record()?.is_some_and(|record| !record.is_of_restore()) {
        let what = format!("{} is replicated itself; follow with another file", output.display());
        return Err(Failure::refused(Reason::TargetExists, what));
    }
    let restored = begin_copy(bucket, output, how, &marks).await?;
    Ok(Begun { restored, output: output.to_owned(), marks, _lock: lock })
}

impl Begun {
    /// What it began with; `None` where the replica holds no database.
    pub(super) const fn restored(&self) -> Option<&Restored> {
        self.restored.as_ref()
    }

    /// Keeps the copy close behind the replica until it is told to stop.
    ///
    /// # Errors
    /// [`Failure`]; then the copy is at some stored state.
    pub(super) async fn follow(
        &mut self,
        bucket: &Bucket,
        how: &How,
        interval: Duration,
        stop: &CancellationToken,
    ) -> Result<(), Failure> {
        if self.restored.is_none() {
            return Ok(());
        }
        let (path, marks) = (self.output.clone(), self.marks.clone());
        let following = blocking(move || Following::open(&path, marks)).await?;
        let source = Source::new(bucket.clone(), how.patience, Progress::none());
        let mut catching_up = CatchingUp { bucket, source, detour: Detour::default() };
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            ended = catching_up.for_ever(following, interval) => ended,
        }
    }
}

async fn begin_copy(
    bucket: &Bucket,
    output: &Path,
    how: &How,
    marks: &Marks,
) -> Result<Option<Restored>, Failure> {
    let exists = output.try_exists().map_err(|error| unreadable(output, &error))?;
    if exists && how.finish.overwrite == Overwrite::Never {
        return match read_place(marks)? {
            Some(_) => Ok(Some(Restored::nothing(Outcome::DatabaseExists, output))),
            None => Err(target_exists(output)),
        };
    }
    let Some(restored) = restore(bucket, output, how).await? else {
        return Ok(None);
    };
    let (path, page_size) = (output.to_owned(), restored.rebuilt.as_ref().map(|rebuilt| rebuilt.page_size));
    let page_one = blocking(move || read_page_one(&path, page_size)).await?;
    let at = Position {
        txid: restored.txid.clone().unwrap_or_default(),
        checksum: restored.checksum.clone().unwrap_or_default(),
        page_one: page_one.get(),
    };
    let lineage = restored.origin.as_ref().map(|origin| origin.lineage.clone());
    write_place(marks, &Progressing { lineage, at, next: None })?;
    Ok(Some(restored))
}

impl Following {
    /// Opens the copy and finds out at which of its noted places it is.
    fn open(path: &Path, marks: Marks) -> Result<Self, Failure> {
        let place = read_place(&marks)?.ok_or_else(|| target_exists(path))?;
        let mut copy = ReadableCopy::open(path, PageChecksum::from_bits(place.at.page_one))?;
        let lineage = place.lineage;
        for at in [Some(place.at), place.next].into_iter().flatten() {
            copy.set_page_one(PageChecksum::from_bits(at.page_one));
            if let Ok(txid) = at.txid.parse()
                && copy.checksum().to_string() == at.checksum
            {
                return Ok(Self { path: path.to_owned(), copy, marks, lineage, at, txid });
            }
        }
        Err(changed(path))
    }

    /// Refuses another replica than the one that this is a copy of: no file of it ever leads on from here.
    fn require_replica(&mut self, head: Option<&Head>) -> Result<(), Failure> {
        let found = match (&self.lineage, head.map(|head| &head.lineage)) {
            (Some(ours), Some(theirs)) if ours == theirs => return Ok(()),
            (None, None) => return Ok(()),
            // Litestream's became ours, and goes on.
            (None, Some(theirs)) => {
                self.lineage = Some(theirs.clone());
                return Ok(());
            }
            (Some(ours), Some(theirs)) => format!("of the lineage {theirs}, and not {ours}"),
            (Some(ours), None) => format!("without lifeboat/head.json, and not the lineage {ours}"),
        };
        let what = format!(
            "this is another replica than {} was made of: {found}; restore it anew with --force, or follow with another file",
            self.path.display()
        );
        Err(Failure::refused(Reason::Diverged, what))
    }

    /// Applies one file.
    fn apply(
        &mut self,
        file: &FileEntry,
        pieces: impl Stream<Item = io::Result<Bytes>> + Unpin,
    ) -> Result<(), Failure> {
        let failed = |error| super::pages::failed(file, error);
        let reader = SyncIoBridge::new(StreamReader::new(pieces));
        let mut decoder = Decoder::begin(reader).map_err(failed)?;
        let header = decoder.header().clone();
        let mut step = self.copy.begin()?;
        if (header.min_txid, header.max_txid, header.page_size) != (file.min, file.max, step.page_size()) {
            return Err(damaged(file, "its header says another name or page size"));
        }
        if step.is_on_foreign_ground()? {
            return Err(changed(&self.path));
        }
        let is_next = self.txid.next() == Some(header.min_txid);
        let before = header.mark.filter(|_| is_next).map(|mark| mark.pre_apply.to_string());
        if before.is_some_and(|before| before != self.at.checksum) {
            return Err(contradicts(file, "it does not continue the copy; is it another replica?"));
        }
        while let Some(page) = decoder.next_page().map_err(failed)? {
            step.put(page.no, page.image)?;
        }
        decoder.finish().map_err(failed)?;
        let (checksum, page_one) = step.finish(header.commit)?;
        if let Some(expected) =
            header.mark.map(|mark| mark.post_apply).filter(|expected| *expected != checksum)
        {
            let what =
                format!("the copy would have the checksum {checksum}, but the replica says {expected}");
            return Err(contradicts(file, &what));
        }
        let next = Position {
            txid: header.max_txid.to_string(),
            checksum: checksum.to_string(),
            page_one: page_one.get(),
        };
        let place = |at: &Position, next: Option<&Position>| {
            let (lineage, at, next) = (self.lineage.clone(), at.clone(), next.cloned());
            write_place(&self.marks, &Progressing { lineage, at, next })
        };
        place(&self.at, Some(&next))?;
        step.commit(header.commit)?;
        place(&next, None)?;
        (self.at, self.txid) = (next, header.max_txid);
        Ok(())
    }
}

/// What keeps a copy close behind a replica.
struct CatchingUp<'a> {
    bucket: &'a Bucket,
    source: Source,
    /// The files that were found damaged. What leads around them may be stored only later, by a merge or a snapshot.
    detour: Detour,
}

impl CatchingUp<'_> {
    /// What cannot be had now is tried again: the bucket comes back, and where a file is damaged, another one that leads on
    /// is stored sooner or later. The copy stays as it is meanwhile, and that is said.
    async fn for_ever(&mut self, mut following: Following, interval: Duration) -> Result<(), Failure> {
        let mut trying = Trying::forever();
        loop {
            let (returned, caught_up) = self.catch_up(following).await?;
            following = returned;
            match caught_up {
                Ok(()) => {
                    trying.worked();
                    tokio::time::sleep(interval).await;
                }
                Err(failure) if is_passing(&failure) => {
                    let failure = failure.about(self.bucket);
                    let message = format!("{failure}; the copy stays at txid {}", following.at.txid);
                    trying.again(Failure { message, ..failure }).await?;
                }
                Err(failure) => return Err(failure.about(self.bucket)),
            }
        }
    }

    /// Applies every file that is new.
    async fn catch_up(
        &mut self,
        mut following: Following,
    ) -> Result<(Following, Result<(), Failure>), Failure> {
        let inventory = match self.bucket.inventory().await {
            Ok(inventory) => inventory,
            Err(failure) => return Ok((following, Err(failure))),
        };
        if let Err(failure) = following.require_replica(inventory.head()) {
            return Ok((following, Err(failure)));
        }
        let steps = match self.detour.plan_onward(&inventory, following.txid) {
            Ok(steps) => steps,
            Err(error) => return Ok((following, Err(no_way(&error)))),
        };
        for Onward { file, witness } in steps {
            if let Some(witness) = witness
                && let Err(failure) = gather::require_witness(&self.source, &file, &witness).await
            {
                return Ok((following, Err(self.suspect(failure))));
            }
            let pieces = Box::pin(self.source.pieces(&file));
            let (returned, applied) = blocking(move || {
                let applied = following.apply(&file, pieces);
                Ok((following, applied))
            })
            .await?;
            following = returned;
            if let Err(failure) = applied {
                return Ok((following, Err(self.suspect(failure))));
            }
            tracing::debug!("the copy is at txid {}", following.at.txid);
        }
        Ok((following, Ok(())))
    }

    /// Remembers what is damaged.
    fn suspect(&mut self, failure: Failure) -> Failure {
        match (failure.reason, failure.suspects.as_slice()) {
            (Reason::ChainGap, _) | (_, []) => {}
            (Reason::Diverged, keys) => {
                keys.iter().for_each(|key| self.detour.contradicted(key, &failure.message));
            }
            (_, [key]) => self.detour.avoid(key, &failure.message),
            (_, keys) => self.detour.suspect(keys.to_vec(), &failure.message),
        }
        failure
    }
}

/// Whether it may be otherwise at the next look: the store is away, files went by retention, or one is damaged.
fn is_passing(failure: &Failure) -> bool {
    let is_about_files = failure.reason == Reason::ChainGap || !failure.suspects.is_empty();
    failure.exit == Exit::Unavailable || (failure.exit == Exit::Damaged && is_about_files)
}

fn no_way(error: &PlanError) -> Failure {
    if matches!(error, PlanError::SetBack { .. }) {
        return Failure::refused(Reason::Diverged, error.to_string());
    }
    Failure::damaged(Reason::ChainGap, error.to_string())
}

/// A file that is sound by itself, and does not lead on from the copy.
fn contradicts(file: &FileEntry, what: &str) -> Failure {
    Failure { reason: Reason::Diverged, ..damaged(file, what) }
}

/// A copy that is not ours alone any more is not mixed with what is stored.
fn changed(path: &Path) -> Failure {
    let what = format!(
        "{} was changed by somebody else, or is another file; restore it anew with --force",
        path.display()
    );
    Failure::refused(Reason::Diverged, what)
}

fn place_file(marks: &Marks) -> PathBuf {
    marks.folder().join("follow.json")
}

fn read_place(marks: &Marks) -> Result<Option<Progressing>, Failure> {
    let path = place_file(marks);
    let bytes = disk::read_if_exists(&path).map_err(|error| unreadable(&path, &error))?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

fn write_place(marks: &Marks, place: &Progressing) -> Result<(), Failure> {
    let path = place_file(marks);
    let json = serde_json::to_vec(place).map_err(|error| Failure::bug(error.to_string()))?;
    disk::replace(&path, &json).map_err(|error| unreadable(&path, &error))
}

/// The checksum of page 1 of a file that nobody has opened yet.
fn read_page_one(path: &Path, page_size: Option<PageSize>) -> Result<PageChecksum, Failure> {
    let mut image = vec![0; page_size.map_or(0, |size| size.get() as usize)];
    let read = std::fs::File::open(path).and_then(|file| file.read_exact_at(&mut image, 0));
    read.map_err(|error| unreadable(path, &error))?;
    Ok(PageChecksum::of(PageNo::FIRST, &image))
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::refused(Reason::DatabaseUnreadable, format!("{}: {error}", path.display()))
}
