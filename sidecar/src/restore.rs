//! `lifeboat restore`: a database out of its replica, whole and verified, or not at all.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lifeboat_replica::inventory::Inventory;
use lifeboat_replica::restore::{RestorePlan, plan_latest};
use lifeboat_wire::Reason;
use serde::Serialize;
use tokio_util::io::SyncIoBridge;

use crate::args::RestoreArgs;
use crate::bucket::{Bucket, OpenedFile};
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::location::{Location, is_url};
use crate::marks::{Lock, Marks};
use crate::progress::Progress;
use crate::rebuild::{ApplyError, Overwrite, Rebuild, Rebuilt, target_exists};
use crate::retry::Trying;
use crate::{connect, pod, pod_restore};

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
    /// The rolling checksum of the database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// Its size in bytes.
    pub bytes: u64,
    /// Files fetched.
    pub files: usize,
    /// Time taken.
    pub seconds: f64,
    /// What was written, page by page.
    #[serde(skip)]
    pub rebuilt: Option<Rebuilt>,
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

/// Runs the command.
///
/// # Errors
/// [`Failure`]; then no file was written.
pub async fn run(args: &RestoreArgs) -> Result<(), Failure> {
    if args.config.config_from_env && args.source.is_none() {
        return pod_restore::run(args).await;
    }
    let (location, output) = source(args)?;
    let restored = restore(args, &location, &output).await?;
    say(args, &restored, &location);
    Ok(())
}

/// Where from, and where to.
fn source(args: &RestoreArgs) -> Result<(Location, PathBuf), Failure> {
    let Some(source) = &args.source else {
        return Err(Failure::usage(
            "name a URL, or a database of the config file; see `lifeboat restore --help`",
        ));
    };
    if is_url(source) {
        let output = args.output.clone();
        let output = output.ok_or_else(|| Failure::usage("name the file to write with -o FILE"))?;
        return Ok((Location::parse(source, &args.store).map_err(Failure::usage)?, output));
    }
    let config = Config::read(&args.config)?;
    let database = config.find(Path::new(source))?;
    let location = database.location.clone().with_flags(&args.store).map_err(Failure::usage)?;
    Ok((location, args.output.clone().unwrap_or_else(|| database.path.clone())))
}

async fn restore(args: &RestoreArgs, location: &Location, output: &Path) -> Result<Restored, Failure> {
    let nothing = |outcome| Restored {
        outcome,
        path: output.to_owned(),
        txid: None,
        checksum: None,
        bytes: 0,
        files: 0,
        seconds: 0.0,
        rebuilt: None,
    };
    let exists = output.try_exists().map_err(|error| {
        Failure::refused(Reason::DatabaseUnreadable, format!("{}: {error}", output.display()))
    })?;
    if exists && args.if_db_not_exists {
        return Ok(nothing(Outcome::DatabaseExists));
    }
    if exists && !args.force {
        return Err(target_exists(output));
    }
    let _lock = lock(output).await?;
    let bucket = connect::open(location, connect::Folder::MustExist).await?;
    let mut trying = Trying::lasting(args.wait.unwrap_or_else(default_wait));
    let overwrite = if args.force { Overwrite::Force } else { Overwrite::Never };
    match latest(&bucket, output, overwrite, &mut trying).await? {
        Some(restored) => Ok(restored),
        None if args.if_replica_exists => Ok(nothing(Outcome::NothingStored)),
        None => Err(Failure::refused(
            Reason::NothingToRestore,
            format!("{bucket} holds no database; check the URL, or pass --if-replica-exists if that is fine"),
        )),
    }
}

/// A database that a process follows must not be replaced under it.
async fn lock(output: &Path) -> Result<Option<Lock>, Failure> {
    let marks = Marks::beside(output);
    if marks.folder().exists() { marks.lock(Duration::ZERO).await.map(Some) } else { Ok(None) }
}

/// How long the bucket is tried when nothing else is said.
#[must_use]
pub fn default_wait() -> Duration {
    Duration::from_secs(if pod::is_pod() { 60 } else { 10 })
}

/// Restores the newest state of `bucket` to `output`; `None` where the replica is proved to hold no database.
///
/// # Errors
/// [`Failure`]; then `output` is as it was.
pub async fn latest(
    bucket: &Bucket,
    output: &Path,
    overwrite: Overwrite,
    trying: &mut Trying,
) -> Result<Option<Restored>, Failure> {
    let mut seen: Option<Inventory> = None;
    loop {
        let inventory = match bucket.inventory().await {
            Ok(inventory) => {
                trying.worked();
                inventory
            }
            Err(failure) if failure.exit == Exit::Unavailable => {
                trying.again(failure).await?;
                continue;
            }
            Err(failure) => return Err(failure),
        };
        if !inventory.holds_pages() {
            return Ok(None);
        }
        let failure = match attempt(bucket, &inventory, output, overwrite).await {
            Ok(restored) => return Ok(Some(restored)),
            Err(failure) => failure,
        };
        // Files may go while they are read, by retention; then a new plan leads there. If nothing moved, it is damage.
        let is_new = seen.as_ref() != Some(&inventory);
        seen = Some(inventory);
        match failure.exit {
            Exit::Unavailable => trying.again(failure).await?,
            Exit::Damaged if is_new => tracing::debug!("{failure}; looking again"),
            Exit::Done | Exit::Usage | Exit::Fenced | Exit::Refused | Exit::Damaged | Exit::Bug => {
                return Err(failure);
            }
        }
    }
}

async fn attempt(
    bucket: &Bucket,
    inventory: &Inventory,
    output: &Path,
    overwrite: Overwrite,
) -> Result<Restored, Failure> {
    let begun = Instant::now();
    let plan = plan_latest(inventory)
        .map_err(|error| Failure::damaged(Reason::ChainGap, format!("{bucket}: {error}")))?;
    let rebuild = fetch(bucket, &plan, Rebuild::begin(output)?).await?;
    let finished = tokio::task::spawn_blocking(move || rebuild.finish(overwrite)).await;
    let rebuilt = finished.map_err(|error| Failure::bug(error.to_string()))??;
    Ok(Restored {
        outcome: Outcome::Restored,
        path: output.to_owned(),
        txid: plan.target().map(|txid| txid.to_string()),
        checksum: Some(rebuilt.checksum.to_string()),
        bytes: rebuilt.bytes,
        files: plan.files().len(),
        seconds: begun.elapsed().as_secs_f64(),
        rebuilt: Some(rebuilt),
    })
}

/// Fetches and applies every file of the plan, in order.
async fn fetch(bucket: &Bucket, plan: &RestorePlan, mut rebuild: Rebuild) -> Result<Rebuild, Failure> {
    let progress = Progress::begin(plan.bytes());
    for file in plan.files() {
        let reader = match bucket.open_file(file).await? {
            OpenedFile::Here(object) => object.reader,
            OpenedFile::Gone => {
                return Err(Failure::damaged(
                    Reason::ChainGap,
                    format!("{bucket}: {} was listed and is gone, or was replaced", file.key),
                ));
            }
        };
        let (entry, counted) = (file.clone(), progress.counting(SyncIoBridge::new(reader)));
        let applied = tokio::task::spawn_blocking(move || {
            let applied = rebuild.apply(&entry, counted);
            (rebuild, applied)
        });
        let (returned, applied) = applied.await.map_err(|error| Failure::bug(error.to_string()))?;
        rebuild = returned;
        applied.map_err(|error| match error {
            ApplyError::Read(error) => Failure::unavailable(format!("{bucket}: {}: {error}", file.key)),
            ApplyError::Failed(failure) => failure.about(bucket),
        })?;
    }
    progress.end();
    Ok(rebuild)
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
            "restored {path} from {location}: txid {}, {} bytes, {} files, {:.2} s",
            restored.txid.as_deref().unwrap_or("?"),
            restored.bytes,
            restored.files,
            restored.seconds
        ),
    }
}
