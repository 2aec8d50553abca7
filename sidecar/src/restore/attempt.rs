//! One restore: list, plan, gather, put in place; and again when files went away meanwhile.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::time::{Duration, Instant};

use lifeboat_ltx::Txid;
use lifeboat_replica::PlanError;
use lifeboat_replica::inventory::Inventory;
use lifeboat_replica::restore::time::TimeSearch;
use lifeboat_replica::restore::{RestorePlan, Target, into_plan};
use lifeboat_wire::Reason;

use super::gather::gather;
use super::source::Source;
use super::{Outcome, Restored};
use crate::args::IntegrityCheck;
use crate::blocking::blocking;
use crate::bucket::Bucket;
use crate::clock::rfc3339;
use crate::exit::{Exit, Failure};
use crate::local::Local;
use crate::progress::Progress;
use crate::rebuild::{Finish, KeepSums, Overwrite};
use crate::retry;

/// What is to be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The newest state.
    Latest,
    /// Exactly the state of this TXID.
    Txid(Txid),
    /// The newest state that is not younger than so many milliseconds since 1970.
    Time(i64),
}

/// How to restore.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// What.
    pub wanted: Wanted,
    /// How many requests are under way at once.
    pub parallelism: usize,
    /// How long the bucket is tried while nothing works.
    pub patience: Duration,
    /// What happens to the file.
    pub finish: Finish,
}

impl How {
    /// The newest state in place of whatever is there, with the checksum of every page: for whoever goes on writing it.
    #[must_use]
    pub const fn to_go_on(patience: Duration) -> Self {
        let finish =
            Finish { overwrite: Overwrite::Force, integrity: IntegrityCheck::None, sums: KeepSums::Yes };
        Self { wanted: Wanted::Latest, parallelism: PARALLELISM, patience, finish }
    }
}

/// Restores from `bucket` to `output`; `None` where the replica is proved to hold no database.
///
/// # Errors
/// [`Failure`]; then `output` is as it was.
pub async fn restore(bucket: &Bucket, output: &Path, how: &How) -> Result<Option<Restored>, Failure> {
    let begun = Instant::now();
    let local = local(output, how.finish.overwrite).await?;
    let mut seen = None;
    for _ in 0..PLANS_MAX {
        let (planned, inventory) = list_and_plan(bucket, how).await?;
        let failure = match planned {
            Ok(None) => return Ok(None),
            Ok(Some(plan)) => match attempt(bucket, plan, output, local.as_ref(), how).await {
                Ok(restored) => {
                    return Ok(Some(Restored { seconds: begun.elapsed().as_secs_f64(), ..restored }));
                }
                Err(failure) => failure.about(bucket),
            },
            Err(failure) => failure.about(bucket),
        };
        // Files may go while they are read, by retention; then a new plan leads there. If nothing moved, it is damage.
        let is_gap = failure.exit == Exit::Damaged && failure.reason == Reason::ChainGap;
        if !is_gap || seen.replace(inventory) == Some(inventory) {
            return Err(failure);
        }
        tracing::debug!("{failure}; listing again");
    }
    Err(Failure::unavailable(format!(
        "{bucket}: its files went away {PLANS_MAX} times while they were read; try again"
    )))
}

/// The plan, for whoever only wants to see it; `None` where the replica is proved to hold no database.
///
/// # Errors
/// [`Failure`] when there is no plan.
pub(super) async fn plan_only(bucket: &Bucket, how: &How) -> Result<Option<RestorePlan>, Failure> {
    list_and_plan(bucket, how).await?.0.map_err(|failure| failure.about(bucket))
}

/// A plan after a fresh list, and what tells the list from another one.
async fn list_and_plan(
    bucket: &Bucket,
    how: &How,
) -> Result<(Result<Option<RestorePlan>, Failure>, u64), Failure> {
    let inventory = retry::lasting(how.patience, || bucket.inventory()).await?;
    if !inventory.holds_pages() {
        return Ok((Ok(None), 0));
    }
    let source = Source::new(bucket.clone(), how.patience, Progress::none());
    let seen = digest(&inventory);
    let planned = match target(&source, &inventory, how.wanted).await {
        Ok(target) => into_plan(inventory, target).map(Some).map_err(unreachable),
        Err(failure) => Err(failure),
    };
    Ok((planned, seen))
}

/// The TXID that a point in time means.
async fn target(source: &Source, inventory: &Inventory, wanted: Wanted) -> Result<Target, Failure> {
    let time = match wanted {
        Wanted::Latest => return Ok(Target::Latest),
        Wanted::Txid(txid) => return Ok(Target::Txid(txid)),
        Wanted::Time(time) => time,
    };
    let mut search = TimeSearch::begin(inventory, time).map_err(unreachable)?;
    while let Some(file) = search.ask() {
        search.answer(source.header(file).await?.timestamp_ms);
    }
    Ok(Target::Txid(search.finish().map_err(unreachable)?.txid))
}

/// Files that are missing are damage; a target that is none is a wrong wish.
fn unreachable(error: PlanError) -> Failure {
    match error {
        PlanError::TooEarly { oldest_ms, .. } => Failure::refused(
            Reason::NothingToRestore,
            format!("{error}, {}", rfc3339(oldest_ms).unwrap_or_default()),
        ),
        PlanError::NoPoint { .. } | PlanError::EmptyReplica => {
            Failure::refused(Reason::NothingToRestore, error.to_string())
        }
        PlanError::Gap { .. } | PlanError::NoBeginning { .. } | _ => {
            Failure::damaged(Reason::ChainGap, error.to_string())
        }
    }
}

async fn attempt(
    bucket: &Bucket,
    plan: RestorePlan,
    output: &Path,
    local: Option<&Local>,
    how: &How,
) -> Result<Restored, Failure> {
    let source = Source::new(bucket.clone(), how.patience, Progress::begin(plan.bytes()));
    let (rebuild, newest) = gather(&source, plan.files(), output, local, how.parallelism).await?;
    let finish = how.finish;
    let (rebuilt, newest) =
        blocking(move || rebuild.finish(&newest, &finish).map(|rebuilt| (rebuilt, newest))).await?;
    source.end();
    Ok(Restored {
        txid: Some(newest.max_txid.to_string()),
        time: rfc3339(newest.timestamp_ms),
        checksum: Some(rebuilt.checksum.to_string()),
        bytes: rebuilt.bytes,
        files: plan.files().len(),
        fetched: source.fetched(),
        rebuilt: Some(rebuilt),
        ..Restored::nothing(Outcome::Restored, output)
    })
}

/// The file that is to be replaced: what it has in common with the target need not be fetched.
async fn local(output: &Path, overwrite: Overwrite) -> Result<Option<Local>, Failure> {
    if overwrite == Overwrite::Never {
        return Ok(None);
    }
    let path = output.to_owned();
    blocking(move || {
        // Without it only more is fetched.
        Ok(Local::read(&path).unwrap_or_else(|error| {
            tracing::debug!("{}: {error}; everything is fetched", path.display());
            None
        }))
    })
    .await
}

/// What tells one list of files from another.
fn digest(inventory: &Inventory) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in inventory.files() {
        (&file.key, &file.etag).hash(&mut hasher);
    }
    inventory.head().map(|head| head.revision).hash(&mut hasher);
    hasher.finish()
}

/// How often a restore may be planned anew because files went away.
const PLANS_MAX: usize = 10;
/// Requests of a restore that nobody said another number for.
const PARALLELISM: usize = 8;
