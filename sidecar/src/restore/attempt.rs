//! One restore: list, plan, gather, put in place; and again when files went away meanwhile.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::time::{Duration, Instant};

use lifeboat_ltx::Txid;
use lifeboat_replica::PlanError;
use lifeboat_replica::head::Base;
use lifeboat_replica::inventory::{FileEntry, Inventory};
use lifeboat_replica::layout::Level;
use lifeboat_replica::restore::detour::Detour;
use lifeboat_replica::restore::time::TimeSearch;
use lifeboat_replica::restore::{RestorePlan, Target, plan_latest};
use lifeboat_wire::Reason;

use super::gather::gather;
use super::source::Source;
use super::{Origin, Outcome, Restored, RoutedAround};
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
    let (mut detour, mut seen, mut first) = (Detour::default(), Seen::default(), None);
    let mut went = 0;
    // Ends: files go away so often and no more, and with every other failure one more file is given up.
    loop {
        let failure = match list_and_plan(bucket, how, &mut detour, &mut seen).await? {
            Ok(None) => return Ok(None),
            Ok(Some(planned)) => match attempt(bucket, planned, output, local.as_ref(), how).await {
                Ok(restored) => {
                    let seconds = begun.elapsed().as_secs_f64();
                    return Ok(Some(Restored { seconds, routed_around: routed_around(&detour), ..restored }));
                }
                Err(failure) => failure.about(bucket),
            },
            Err(failure) => no_other_way(first.take(), failure.about(bucket)),
        };
        // Files may go while they are read, by retention; then a new plan leads there. If nothing moved, it is damage.
        if is_gone(&failure) && seen.has_moved {
            tracing::debug!("{failure}; listing again");
            (first, went) = (None, went + 1);
            if went < PLANS_MAX {
                continue;
            }
            return Err(Failure::unavailable(format!(
                "{bucket}: its files went away {PLANS_MAX} times while they were read; try again"
            )));
        }
        if failure.exit != Exit::Damaged || failure.suspects.is_empty() {
            return Err(failure);
        }
        tracing::warn!("{failure}; looking for other files that lead there");
        detour.suspect(failure.suspects.clone(), &failure.message);
        first = Some(Failure { suspects: Vec::new(), ..failure });
    }
}

/// Restores a database out of one file that holds all of it, wherever in the bucket that lies.
///
/// # Errors
/// [`Failure`]; then `output` is as it was.
pub async fn restore_whole(
    bucket: &Bucket,
    file: FileEntry,
    output: &Path,
    how: &How,
) -> Result<Restored, Failure> {
    let begun = Instant::now();
    let plan = plan_latest(&Inventory::new(vec![file], None)).map_err(unreachable)?;
    let planned = Planned { plan, lineage: None, newest_pages: 0 };
    let restored = attempt(bucket, planned, output, None, how).await;
    let restored = restored.map_err(|failure| failure.about(bucket))?;
    Ok(Restored { seconds: begun.elapsed().as_secs_f64(), ..restored })
}

/// Why there is no plan. Where files were found damaged, that is what counts.
fn no_other_way(first: Option<Failure>, failure: Failure) -> Failure {
    let Some(first) = first.filter(|_| failure.exit != Exit::Unavailable) else { return failure };
    Failure { message: format!("{first}; no other files lead there"), ..first }
}

fn routed_around(detour: &Detour) -> Vec<RoutedAround> {
    let avoided = detour.avoided();
    avoided
        .map(|(file, problem)| RoutedAround { file: file.to_owned(), problem: problem.to_owned() })
        .collect()
}

/// The plan, for whoever only wants to see it; `None` where the replica is proved to hold no database.
///
/// # Errors
/// [`Failure`] when there is no plan.
pub(super) async fn plan_only(bucket: &Bucket, how: &How) -> Result<Option<RestorePlan>, Failure> {
    let (mut detour, mut seen) = (Detour::default(), Seen::default());
    loop {
        match list_and_plan(bucket, how, &mut detour, &mut seen).await? {
            Err(failure) if is_gone(&failure) && seen.has_moved && seen.lists < PLANS_MAX => {}
            planned => {
                let planned = planned.map_err(|failure| failure.about(bucket))?;
                return Ok(planned.map(|planned| planned.plan));
            }
        }
    }
}

/// Whether it is files that are not there: perhaps they went, by retention, while the replica was looked at.
fn is_gone(failure: &Failure) -> bool {
    failure.exit == Exit::Damaged && failure.reason == Reason::ChainGap
}

/// A plan, and of which replica.
struct Planned {
    plan: RestorePlan,
    /// `None` where there is no head, as in Litestream's replicas.
    lineage: Option<String>,
    /// The newest slot with pages up to the target; 0 where none is left.
    newest_pages: u64,
}

impl Planned {
    fn new(inventory: Inventory, target: Target, detour: &mut Detour) -> Result<Self, PlanError> {
        let is_upto = |file: &&FileEntry| match target {
            Target::Latest => true,
            Target::Txid(txid) => file.max <= txid,
        };
        let newest = inventory.slots().filter(is_upto).rfind(|file| !file.is_seal());
        let newest_pages = newest.map_or(0, |file| file.max.get());
        let lineage = inventory.head().map(|head| head.lineage.clone());
        Ok(Self { plan: detour.plan(inventory, target)?, lineage, newest_pages })
    }
}

/// What is known of the lists so far.
#[derive(Debug, Default)]
struct Seen {
    lists: usize,
    digest: Option<u64>,
    /// Whether the newest is another one than the one before it.
    has_moved: bool,
    /// Up to where slots were given up when the one before it was made.
    given_up_before: u64,
    given_up: u64,
}

impl Seen {
    fn take(&mut self, inventory: &Inventory) {
        let digest = digest(inventory);
        self.lists += 1;
        self.has_moved = self.digest.replace(digest) != Some(digest);
        self.given_up_before = std::mem::replace(&mut self.given_up, inventory.given_up());
    }
}

/// A plan after a fresh list; after another one where that may have missed what is wanted.
async fn list_and_plan(
    bucket: &Bucket,
    how: &How,
    detour: &mut Detour,
    seen: &mut Seen,
) -> Result<Result<Option<Planned>, Failure>, Failure> {
    let source = Source::new(bucket.clone(), how.patience, Progress::none());
    loop {
        let inventory = retry::lasting(how.patience, || bucket.inventory()).await?;
        if !inventory.holds_pages() && !inventory.is_outdated() {
            return Ok(Ok(None));
        }
        seen.take(&inventory);
        let target = target(&source, &inventory, how.wanted, detour).await;
        let missed =
            missed(how.wanted, &target).filter(|txid| inventory.may_lack(*txid, seen.given_up_before));
        let is_exact = matches!(how.wanted, Wanted::Txid(_));
        let planned =
            target.and_then(|target| Planned::new(inventory, target, detour).map(Some).map_err(unreachable));
        match missed {
            Some(txid) if seen.has_moved && seen.lists < PLANS_MAX && !(is_exact && planned.is_ok()) => {
                tracing::debug!(
                    "the lists are older than the head, which matters for txid {txid}; listing again"
                );
            }
            Some(_) | None => return Ok(planned),
        }
    }
}

/// The state that would have been better, if only a file ended there: the one that is wanted, or the one after the one that a
/// point in time seems to mean.
fn missed(wanted: Wanted, target: &Result<Target, Failure>) -> Option<Txid> {
    match (wanted, target) {
        (Wanted::Txid(txid), _) => Some(txid),
        (Wanted::Time(_), Ok(Target::Txid(found))) => found.next(),
        (Wanted::Time(_), Ok(Target::Latest) | Err(_)) | (Wanted::Latest, _) => None,
    }
}

/// The TXID that a point in time means.
async fn target(
    source: &Source,
    inventory: &Inventory,
    wanted: Wanted,
    detour: &mut Detour,
) -> Result<Target, Failure> {
    let time = match wanted {
        Wanted::Latest => return Ok(Target::Latest),
        Wanted::Txid(txid) => return Ok(Target::Txid(txid)),
        Wanted::Time(time) => time,
    };
    let mut search = TimeSearch::begin(inventory, time).map_err(unreachable)?;
    while let Some(file) = search.ask() {
        search.answer(time_at(source, inventory, file, detour).await?);
    }
    Ok(Target::Txid(search.finish().map_err(unreachable)?.txid))
}

/// When the state that a file ends at was stored: as its header says, or that of another file that ends there.
async fn time_at(
    source: &Source,
    inventory: &Inventory,
    file: &FileEntry,
    detour: &mut Detour,
) -> Result<i64, Failure> {
    let mut first = None;
    for file in inventory.files().iter().filter(|other| other.max == file.max && !detour.avoids(&other.key)) {
        match source.header(file).await {
            Ok(header) => {
                first
                    .into_iter()
                    .for_each(|(key, failure): (_, Failure)| detour.avoid(key, &failure.message));
                return Ok(header.timestamp_ms);
            }
            Err(failure) if failure.reason == Reason::IntegrityFailed => {
                first = first.or(Some((&file.key, failure)));
            }
            Err(failure) => return Err(failure),
        }
    }
    Err(first.map_or_else(|| Failure::bug("a state without a file that ends there"), |(_, failure)| failure))
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
    planned: Planned,
    output: &Path,
    local: Option<&Local>,
    how: &How,
) -> Result<Restored, Failure> {
    let Planned { plan, lineage, newest_pages } = planned;
    let source = Source::new(bucket.clone(), how.patience, Progress::begin(plan.bytes()));
    let (rebuild, newest) = gather(&source, &plan, output, local, how.parallelism).await?;
    let finish = how.finish;
    let merged =
        plan.files().iter().filter(|file| file.level > Level::CAPTURED || Some(file.max) == plan.target());
    let suspects = merged.map(|file| file.key.clone()).collect();
    let (rebuilt, newest) =
        blocking(move || rebuild.finish(&newest, &finish, suspects).map(|rebuilt| (rebuilt, newest))).await?;
    source.end();
    let slot = Base { txid: newest.max_txid.get(), checksum: Some(rebuilt.checksum) };
    Ok(Restored {
        origin: lineage.map(|lineage| Origin { lineage, slot, newest_pages }),
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
pub(crate) fn digest(inventory: &Inventory) -> u64 {
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
