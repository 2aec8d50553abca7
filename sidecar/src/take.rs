//! `--take`: a person chooses between a local database and a replica that it does not continue.
//!
//! ```text
//! neither   bucket ─► a file beside the database                                     nothing is started
//! remote    bucket ─► scratch ─► nobody has the database open ─► write lock ─► fork ─► rename
//! local     bucket ─► scratch ─► fork ─► a record that says: this database follows the newest slot
//! ```
//!
//! What is not taken is a fork before that, of which every page was read back. The local database becomes one ordinary slot behind what is
//! stored, and no history is rewritten. The record counts only in this boot, for this file and behind this very slot, so the choice is made
//! once; and where the two do not contradict each other by then, there is nothing to choose. Whoever dies at any moment finds the local
//! database in its place, or the bucket's, and chooses again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lifeboat_ltx::Txid;
use lifeboat_replica::adoption::{Adoption, Chain, Record, decide};
use lifeboat_replica::epoch::Epoch;
use lifeboat_replica::fork::Why;
use lifeboat_replica::head::{Base, Head};
use lifeboat_replica::layout::ForkName;
use lifeboat_wire::Reason;

use crate::args::Take;
use crate::blocking::blocking;
use crate::bucket::Bucket;
use crate::config::{Config, DatabaseConfig};
use crate::connect::Folder;
use crate::database::{Database, WriteLock, settle_alone};
use crate::exit::Failure;
use crate::fork::{self, Story};
use crate::marks::{self, Marks};
use crate::pod_restore::{file_id, look, note};
use crate::rebuild::{Finish, KeepSums, Overwrite, put_in_place, remove_leftovers, target_exists};
use crate::restore::{How, Restored, restore};
use crate::retry::{self, Trying};
use crate::{claim, connect, disk, pod};

/// Whether replication begins, once it was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// With what was taken.
    Begin,
    /// It does not: nothing was taken.
    Stop,
}

/// Takes what `lifeboat replicate --take` was told to, before anybody follows the database.
///
/// # Errors
/// [`Failure`]; then both are as they were.
pub async fn run(config: &Config, take: Take) -> Result<Next, Failure> {
    let database = only(config)?;
    let (marks, path) = (Marks::beside(&database.path), &database.path);
    let _lock = marks.lock(config.handover_timeout).await?;
    let folder = if take == Take::Local { Folder::Create } else { Folder::MustExist };
    let bucket = connect::open(&database.location, folder).await?;
    let trying = &mut Trying::lasting(PATIENCE);
    let chain = match claim::chain(&bucket, (&marks, database.expects_data), trying, |_| ()).await {
        Err(failure) if begins_anew(&failure, database, take) => {
            tracing::warn!(
                "{failure}. That was chosen now: {} is stored there as a new replica",
                path.display()
            );
            marks.remove_record()?;
            return Ok(Next::Begin);
        }
        chain => chain?,
    };
    let adoption = match look(database, &marks, &chain).await {
        Ok(local) => decide(&local, &chain, &marks::boot_id()?),
        // Pages of another size are no continuation either.
        Err(failure) if failure.reason == Reason::Diverged => Adoption::Diverged,
        Err(failure) => return Err(failure),
    };
    let is_absent = match adoption {
        Adoption::Restore => true,
        Adoption::Behind | Adoption::Diverged => false,
        Adoption::FirstStart | Adoption::Initial | Adoption::Same | Adoption::Continues => {
            tracing::info!(
                "{} and {bucket} do not contradict each other; there is nothing to choose",
                path.display()
            );
            return Ok(if take == Take::Neither { Next::Stop } else { Next::Begin });
        }
    };
    match take {
        Take::Neither => {
            say_beside(&bucket, path, &beside(&bucket, path).await?);
            return Ok(Next::Stop);
        }
        Take::Remote if is_absent => drop(restore(&bucket, path, &How::to_go_on(PATIENCE)).await?),
        Take::Remote => drop(replace(&bucket, path, &marks, &chain).await?),
        Take::Local if is_absent => {
            let why = format!("{} does not exist, so it cannot be taken; see --take remote", path.display());
            return Err(Failure::refused(Reason::WaitingForDatabase, why));
        }
        Take::Local => keep(&bucket, database, &marks, &chain).await?,
    }
    Ok(Next::Begin)
}

/// Whether an emptied place is the one in which the local database is to begin anew.
fn begins_anew(failure: &Failure, database: &DatabaseConfig, take: Take) -> bool {
    failure.reason == Reason::ReplicaEmpty
        && take == Take::Local
        && !database.expects_data
        && database.path.exists()
}

/// Nobody chooses for databases that he did not name.
fn only(config: &Config) -> Result<&DatabaseConfig, Failure> {
    match (config.databases.as_slice(), config.folders.as_slice()) {
        ([only], []) => Ok(only),
        (_, _) => Err(Failure::usage(
            "--take is about one database, and the config lists others: lifeboat replicate --take … DB URL",
        )),
    }
}

/// Writes the bucket's database beside the local one, to be looked at.
pub(crate) async fn beside(bucket: &Bucket, path: &Path) -> Result<Restored, Failure> {
    let copy = disk::beside(path, COPY);
    if copy.exists() {
        return Err(Failure {
            message: format!("{} exists; move it away", copy.display()),
            ..target_exists(&copy)
        });
    }
    remove_leftovers(&copy);
    let finish = Finish { overwrite: Overwrite::Never, sums: KeepSums::No, ..How::to_go_on(PATIENCE).finish };
    let restored = restore(bucket, &copy, &How { finish, ..How::to_go_on(PATIENCE) }).await?;
    restored.ok_or_else(|| claim::moved(bucket))
}

fn say_beside(bucket: &Bucket, path: &Path, copy: &Restored) {
    tracing::info!(
        "{} is what {bucket} holds at txid {}; compare it with {} and choose --take remote or --take local. Nothing was started",
        copy.path.display(),
        copy.txid.as_deref().unwrap_or("?"),
        path.display()
    );
}

/// Saves the local database as a fork, and puts the newest state of the bucket, which is that of `chain`, in its place.
pub(crate) async fn replace(
    bucket: &Bucket,
    path: &Path,
    marks: &Marks,
    chain: &Chain,
) -> Result<Restored, Failure> {
    let scratch = marks.folder().join(SCRATCH);
    let restored = rebuild(bucket, &scratch, chain).await?;
    let exchanged = exchange(bucket, path, &scratch, story(marks, chain)?).await;
    let fork = exchanged.inspect_err(|_| remove(&scratch))?;
    tracing::warn!(
        "{} is now what {bucket} holds at txid {:016x}; what it was before is fork {fork} there, see `lifeboat forks show`",
        path.display(),
        chain.newest
    );
    if let Some(rebuilt) = &restored.rebuilt {
        note(marks, path, &chain.lineage, chain.newest_pages, rebuilt)?;
    }
    Ok(restored)
}

async fn rebuild(bucket: &Bucket, scratch: &Path, chain: &Chain) -> Result<Restored, Failure> {
    remove(scratch);
    remove_leftovers(scratch);
    let restored = restore(bucket, scratch, &How::to_go_on(PATIENCE)).await?;
    let expected = Txid::try_new(chain.newest).map(|txid| txid.to_string());
    restored.filter(|restored| restored.txid == expected).ok_or_else(|| claim::moved(bucket))
}

/// Only a fork that is saved leads to the rename, and nobody commits in between.
async fn exchange(bucket: &Bucket, path: &Path, scratch: &Path, story: Story) -> Result<ForkName, Failure> {
    let (here, there) = (path.to_owned(), scratch.to_owned());
    let lock = blocking(move || {
        require_unused(&here)?;
        settle_alone(&here)?;
        Ok(Arc::new(WriteLock::take(&here)?))
    });
    let lock = lock.await.map_err(|failure| failure.about("the local database is not replaced"))?;
    let fork = save(bucket, &lock, &story).await?;
    let here = path.to_owned();
    blocking(move || {
        // The lock keeps nobody from opening the file, and who has it open would go on with one that has no name any more.
        require_unused(&here)?;
        put_in_place(&there, &here)?;
        drop(lock);
        Ok(fork)
    })
    .await
}

/// Refuses a database that somebody has open, as far as this process may see that.
fn require_unused(path: &Path) -> Result<(), Failure> {
    let users = disk::users(path);
    if users.is_empty() {
        return Ok(());
    }
    let users: Vec<_> = users.iter().map(u32::to_string).collect();
    let why = format!("{} is open in process {}; stop it first", path.display(), users.join(", "));
    Err(Failure::refused(Reason::LockHeld, why))
}

fn story(marks: &Marks, chain: &Chain) -> Result<Story, Failure> {
    let record = marks.record()?;
    Ok(Story {
        why: Why::Diverged,
        owner: pod::new_owner()?,
        lineage: record.as_ref().map(|record| record.lineage.clone()).unwrap_or_default(),
        epoch: record.as_ref().and_then(|record| record.epoch).unwrap_or(Epoch::new(0)),
        base: record.filter(|record| chain.has(record)).map(|record| record.slot),
        transactions: None,
    })
}

/// Declares the local database the continuation of the newest slot. The next slot carries what differs.
async fn keep(
    bucket: &Bucket,
    database: &DatabaseConfig,
    marks: &Marks,
    chain: &Chain,
) -> Result<(), Failure> {
    let head = give_up(bucket, database, marks, chain).await?;
    let slot = Base { txid: chain.newest, checksum: chain.checksum };
    let record = Record::new(&head, slot, marks::boot_id()?, file_id(&database.path)?);
    // Whoever writes now stores nothing under the epoch of the next claim: if it goes on, this is no continuation any more.
    let record = Record { epoch: Some(head.epoch.next()), ..record.stored_at(bucket.to_string()) };
    marks.write_record(&record)
}

/// Saves the newest state of the bucket as a fork, if the local database may come behind it: it would be merged with what comes.
pub(crate) async fn give_up(
    bucket: &Bucket,
    database: &DatabaseConfig,
    marks: &Marks,
    chain: &Chain,
) -> Result<Head, Failure> {
    require_page_size(bucket, database, chain).await?;
    let head = retry::lasting(PATIENCE, || bucket.head()).await?;
    let (head, _) = head.ok_or_else(|| claim::moved(bucket))?;
    let scratch = marks.folder().join(SCRATCH);
    let saved = save_newest(bucket, &scratch, &head, chain).await;
    remove(&scratch);
    tracing::warn!(
        "{} becomes the newest state of {bucket}; what was the newest, txid {:016x}, is fork {} there, see `lifeboat forks show`",
        database.path.display(),
        chain.newest,
        saved?
    );
    Ok(head)
}

async fn save_newest(
    bucket: &Bucket,
    scratch: &Path,
    head: &Head,
    chain: &Chain,
) -> Result<ForkName, Failure> {
    rebuild(bucket, scratch, chain).await?;
    let path = scratch.to_owned();
    let lock = blocking(move || Ok(Arc::new(WriteLock::take(&path)?))).await?;
    let story = Story {
        why: Why::Diverged,
        owner: head.owner.clone(),
        lineage: head.lineage.clone(),
        epoch: head.epoch,
        base: Some(Base { txid: chain.newest, checksum: chain.checksum }),
        transactions: None,
    };
    save(bucket, &lock, &story).await
}

async fn save(bucket: &Bucket, lock: &Arc<WriteLock>, story: &Story) -> Result<ForkName, Failure> {
    let saved = retry::lasting(PATIENCE, || fork::save(bucket, lock, story)).await?;
    saved.ok_or_else(|| Failure::bug("a database that diverged was not saved"))
}

/// Refuses a database whose pages are of another size than those that are stored: such a chain cannot be restored.
async fn require_page_size(bucket: &Bucket, database: &DatabaseConfig, chain: &Chain) -> Result<(), Failure> {
    let Some(newest) = Txid::try_new(chain.newest) else { return Err(claim::moved(bucket)) };
    let slot = retry::lasting(PATIENCE, || bucket.slot(newest)).await?;
    let was = slot.ok_or_else(|| claim::moved(bucket))?.header.page_size;
    let (path, enforce) = (database.path.clone(), database.enforce());
    let is = blocking(move || Ok(Database::open(&path, enforce)?.page_size())).await?;
    if was == is {
        return Ok(());
    }
    let path = database.path.display();
    let why = format!(
        "{path} has pages of {} bytes, and {bucket} of {}: it cannot go on there; replicate it to another place",
        is.get(),
        was.get()
    );
    Err(Failure::refused(Reason::Diverged, why))
}

fn remove(scratch: &Path) {
    for path in [scratch.to_owned(), disk::beside(scratch, "-wal"), disk::beside(scratch, "-shm")] {
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::debug!("{}: {error}", path.display());
        }
    }
}

/// What is built before it gets its place, in our folder beside the database.
const SCRATCH: &str = "taken.db";
/// What the name of the bucket's copy ends with.
const COPY: &str = ".replica";
/// How long the bucket is tried while nothing works.
const PATIENCE: Duration = Duration::from_secs(60);
