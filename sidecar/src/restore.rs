//! `lifeboat restore`: a database out of its replica, whole and verified, or not at all.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lifeboat_replica::head::Base;
use lifeboat_replica::restore::RestorePlan;
use lifeboat_wire::Reason;
use serde::Serialize;

use crate::args::RestoreArgs;
use crate::bucket::Bucket;
use crate::config::Config;
use crate::exit::Failure;
use crate::location::{Location, is_url};
use crate::marks::{Lock, Marks};
use crate::rebuild::{Finish, KeepSums, Overwrite, Rebuilt, target_exists};
use crate::retry::Trying;
use crate::{claim, connect, disk, pod, pod_restore, shutdown};

mod attempt;
mod follow;
mod gather;
mod jobs;
mod leaving;
mod pages;
mod source;

pub(crate) use attempt::digest;
pub use attempt::{How, Wanted, restore, restore_whole};
pub use gather::WHOLE_BYTES_MAX;
pub(crate) use pages::failed;
pub(crate) use source::{Source, damaged};

/// What came of a restore, as `--json` prints it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Restored {
    /// What was done.
    pub outcome: Outcome,
    /// The file.
    pub path: PathBuf,
    /// The TXID that was restored, 16 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub txid: Option<String>,
    /// When that state was stored, by the clock of its writer: RFC 3339, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// The rolling checksum of the database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// Its size in bytes.
    pub bytes: u64,
    /// Files of the plan.
    pub files: usize,
    /// Bytes fetched.
    pub fetched: u64,
    /// Time taken.
    pub seconds: f64,
    /// Files that were damaged, or that did not fit to the others, and were done without.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routed_around: Vec<RoutedAround>,
    /// What was written, page by page.
    #[serde(skip)]
    pub rebuilt: Option<Rebuilt>,
    /// Of which replica it is, where that has a head.
    #[serde(skip)]
    pub origin: Option<Origin>,
}

/// The stored state that a restored file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The lineage of the replica.
    pub lineage: String,
    /// The TXID, and the rolling checksum as recomputed from the file.
    pub slot: Base,
    /// The newest slot with pages up to there; 0 where none is left.
    pub newest_pages: u64,
}

impl Restored {
    /// A restore that found nothing to do.
    #[must_use]
    pub fn nothing(outcome: Outcome, path: &Path) -> Self {
        Self {
            outcome,
            path: path.to_owned(),
            txid: None,
            time: None,
            checksum: None,
            bytes: 0,
            files: 0,
            fetched: 0,
            seconds: 0.0,
            routed_around: Vec::new(),
            rebuilt: None,
            origin: None,
        }
    }
}

/// A stored file that a restore did without. The result is what it would have been with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RoutedAround {
    /// Its key.
    pub file: String,
    /// What is wrong with it.
    pub problem: String,
}

/// What a restore did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// The file was written.
    Restored,
    /// Nothing, because the file exists and `--if-db-not-exists` was given.
    DatabaseExists,
    /// Nothing, because nothing is stored and `--if-replica-exists` was given.
    NothingStored,
}

/// What a restore would do, as `--dry-run --json` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Planned<'p> {
    path: &'p Path,
    txid: String,
    /// Size of all files: the most that would be fetched.
    bytes: u64,
    files: Vec<PlannedFile>,
}

/// A file of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct PlannedFile {
    key: String,
    level: u8,
    min_txid: String,
    max_txid: String,
    bytes: u64,
}

/// Runs the command.
///
/// # Errors
/// [`Failure`]; then no file was written.
pub async fn run(args: &RestoreArgs) -> Result<(), Failure> {
    if args.config.config_from_env && args.source.is_none() {
        return pod_restore::run(args).await;
    }
    let (location, output, expects_data) = source(args)?;
    if expects_data && args.if_replica_exists {
        return Err(Failure::usage(format!(
            "{location} must not be empty ('expect-data'), so --if-replica-exists cannot be meant"
        )));
    }
    if args.dry_run {
        let bucket = connect::open(&location, connect::Folder::MustExist).await?;
        let plan = attempt::plan_only(&bucket, &how(args)).await?;
        return plan
            .map_or_else(|| Err(nothing_stored(&bucket)), |plan| say_plan(args, &plan, &output, &location));
    }
    if args.follow {
        return follow_file(args, &location, &output).await;
    }
    let restored = restore_file(args, &location, &output).await?;
    say(args, &restored, &location);
    Ok(())
}

/// How the command line wants it.
fn how(args: &RestoreArgs) -> How {
    let wanted = match (args.txid, args.timestamp) {
        (Some(txid), _) => Wanted::Txid(txid),
        (None, Some(time)) => Wanted::Time(time.as_millisecond()),
        (None, None) => Wanted::Latest,
    };
    let overwrite = if args.force { Overwrite::Force } else { Overwrite::Never };
    How {
        wanted,
        parallelism: usize::from(args.parallelism),
        patience: args.wait.unwrap_or_else(default_wait),
        finish: Finish { overwrite, integrity: args.integrity_check, sums: KeepSums::IfFew },
    }
}

/// Where from, where to, and whether a database is known to be there.
fn source(args: &RestoreArgs) -> Result<(Location, PathBuf, bool), Failure> {
    let Some(source) = &args.source else {
        return Err(Failure::usage(
            "name a URL, or a database of the config file; see `lifeboat restore --help`",
        ));
    };
    if is_url(source) {
        let output = args.output.clone();
        let output = output.ok_or_else(|| Failure::usage("name the file to write with -o FILE"))?;
        return Ok((connect::meant(source, &args.config, &args.store)?, output, args.expect_data));
    }
    let config = Config::read(&args.config)?;
    let database = config.find(Path::new(source))?;
    let location = database.location.clone().with_flags(&args.store).map_err(Failure::usage)?;
    let output = args.output.clone().unwrap_or_else(|| database.path.clone());
    Ok((location, output, args.expect_data || database.expects_data))
}

async fn restore_file(args: &RestoreArgs, location: &Location, output: &Path) -> Result<Restored, Failure> {
    let exists = output.try_exists().map_err(|error| {
        Failure::refused(Reason::DatabaseUnreadable, format!("{}: {error}", output.display()))
    })?;
    if exists && args.if_db_not_exists {
        return Ok(Restored::nothing(Outcome::DatabaseExists, output));
    }
    if exists && !args.force {
        return Err(target_exists(output));
    }
    let lock = lock(output).await?;
    say_if_wal_goes(output);
    let bucket = connect::open(location, connect::Folder::MustExist).await?;
    match restore(&bucket, output, &how(args)).await? {
        Some(restored) => {
            leaving::leave_record(&bucket, &restored, lock).await;
            Ok(restored)
        }
        None if args.if_replica_exists => {
            require_kept(&bucket, output, &how(args)).await?;
            Ok(Restored::nothing(Outcome::NothingStored, output))
        }
        None => Err(nothing_stored(&bucket)),
    }
}

/// What an application that was killed left in a WAL is no part of the file, and goes with it: whoever replaces it should know.
fn say_if_wal_goes(output: &Path) {
    let wal = disk::beside(&disk::real(output), "-wal");
    if std::fs::metadata(&wal).is_ok_and(|found| found.len() > 0) {
        tracing::warn!(
            "{} lies beside the file that is replaced; commits that are not in the file yet, and not stored, go with it",
            wal.display()
        );
    }
}

async fn follow_file(args: &RestoreArgs, location: &Location, output: &Path) -> Result<(), Failure> {
    let bucket = connect::open(location, connect::Folder::MustExist).await?;
    let stop = shutdown::on_signal("the copy stays as it is")?.stop;
    let mut copy = follow::begin(&bucket, output, &how(args)).await?;
    match (copy.restored(), args.if_replica_exists) {
        (None, false) => return Err(nothing_stored(&bucket)),
        (None, true) => say(args, &Restored::nothing(Outcome::NothingStored, output), location),
        (Some(restored), _) if restored.outcome == Outcome::Restored => say(args, restored, location),
        // It is there from before.
        (Some(_), _) => {}
    }
    tracing::info!("{} follows {location}", output.display());
    copy.follow(&bucket, &how(args), args.follow_interval, &stop).await
}

/// Refuses to call a replica empty of which the folder beside the database knows better: who hears that nothing is stored begins
/// with an empty database.
async fn require_kept(bucket: &Bucket, output: &Path, how: &How) -> Result<(), Failure> {
    let (marks, mut trying) = (Marks::beside(output), Trying::lasting(how.patience));
    if marks.promise(bucket, false)?.is_some() {
        claim::chain(bucket, (&marks, false), &mut trying, |_| ()).await?;
    }
    Ok(())
}

fn nothing_stored(bucket: &Bucket) -> Failure {
    Failure::refused(
        Reason::NothingToRestore,
        format!(
            "{bucket} holds no database; check the URL, or pass --if-replica-exists if that is fine. What Litestream 0.3 has \
             stored is read by `lifeboat import`"
        ),
    )
}

/// A database that a process follows must not be replaced under it.
///
/// # Errors
/// Refused while one follows it.
pub async fn lock(output: &Path) -> Result<Option<Lock>, Failure> {
    let marks = Marks::beside(output);
    if marks.folder().exists() { marks.lock(Duration::ZERO).await.map(Some) } else { Ok(None) }
}

/// How long the bucket is tried when nothing else is said.
#[must_use]
pub fn default_wait() -> Duration {
    Duration::from_secs(if pod::is_pod() { 60 } else { 10 })
}

#[expect(clippy::print_stdout, reason = "results go to standard output")]
fn say(args: &RestoreArgs, restored: &Restored, location: &Location) {
    if args.json {
        println!("{}", serde_json::to_string(restored).unwrap_or_default());
        return;
    }
    let path = restored.path.display();
    match restored.outcome {
        Outcome::DatabaseExists => println!("{path} exists; nothing was done"),
        Outcome::NothingStored => println!("{location} holds no database; nothing was done"),
        Outcome::Restored => println!(
            "restored {path} from {location}: txid {} of {}, {} bytes; fetched {} bytes of {} files in {:.2} s",
            restored.txid.as_deref().unwrap_or("?"),
            restored.time.as_deref().unwrap_or("?"),
            restored.bytes,
            restored.fetched,
            restored.files,
            restored.seconds
        ),
    }
    for RoutedAround { file, problem } in &restored.routed_around {
        println!("warning: {file} was not used: {problem}; the result is whole and exact all the same");
    }
}

#[expect(clippy::print_stdout, reason = "results go to standard output")]
fn say_plan(args: &RestoreArgs, plan: &RestorePlan, path: &Path, location: &Location) -> Result<(), Failure> {
    let files = plan.files().iter().map(|file| PlannedFile {
        key: file.key.clone(),
        level: file.level.get(),
        min_txid: file.min.to_string(),
        max_txid: file.max.to_string(),
        bytes: file.size,
    });
    let txid = plan.target().map_or_else(String::new, |txid| txid.to_string());
    let planned = Planned { path, txid, bytes: plan.bytes(), files: files.collect() };
    if args.json {
        println!("{}", serde_json::to_string(&planned).map_err(|error| Failure::bug(error.to_string()))?);
        return Ok(());
    }
    println!(
        "would restore {} from {location}: txid {}, at most {} bytes of {} files",
        path.display(),
        planned.txid,
        planned.bytes,
        planned.files.len()
    );
    for file in &planned.files {
        println!("  {} {} bytes", file.key, file.bytes);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
