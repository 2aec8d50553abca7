//! `lifeboat import`: a database out of what Litestream has stored, also that of 0.3.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

use lifeboat_replica::litestream_03::{self, Place, Plan, PlanError, Stored, Wanted};
use lifeboat_wire::Reason;
use serde::Serialize;
use tokio::io::AsyncRead;
use tokio_util::io::SyncIoBridge;

use crate::args::{ImportArgs, ImportFormat};
use crate::blocking::blocking;
use crate::bucket::Bucket;
use crate::clock::rfc3339;
use crate::connect;
use crate::exit::Failure;
use crate::rebuild::{Finish, KeepSums, Overwrite, target_exists};
use crate::restore::{How, Wanted as WantedState, lock, restore};
use crate::retry;

mod replay;

use replay::Replay;

/// What came of an import, as `--json` prints it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Imported {
    /// The format that was found: `0.3` or `0.5`.
    pub format: &'static str,
    /// The file.
    pub path: PathBuf,
    /// Of 0.3: the generation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<String>,
    /// Of 0.5: the TXID. Of 0.3: the last piece of a WAL that was played.
    pub position: Option<String>,
    /// When that was stored: RFC 3339, UTC.
    pub time: Option<String>,
    /// Size of the database in bytes.
    pub bytes: u64,
    /// How many objects it came from.
    pub files: usize,
    /// Time taken.
    pub seconds: f64,
}

/// Runs the command.
///
/// # Errors
/// [`Failure`]; then no file was written.
#[expect(clippy::print_stdout, reason = "results go to standard output")]
pub async fn run(args: &ImportArgs) -> Result<(), Failure> {
    let begun = Instant::now();
    if args.written.output.exists() && !args.force {
        return Err(target_exists(&args.written.output));
    }
    let _lock = lock(&args.written.output).await?;
    let location = connect::meant(&args.replica.source, &args.replica.config, &args.replica.store)?;
    let bucket = connect::open(&location, connect::Folder::MustExist).await?;
    let old = retry::lasting(args.written.wait, || old_objects(&bucket)).await?;
    let imported = match format(&bucket, args, !old.is_empty()).await? {
        ImportFormat::V05 => import_05(&bucket, args).await?,
        ImportFormat::V03 => import_03(&bucket, args, old).await?,
    };
    let imported = Imported { seconds: begun.elapsed().as_secs_f64(), ..imported };
    if args.written.json {
        println!("{}", serde_json::to_string(&imported).unwrap_or_default());
    } else {
        print!("{}", said(&imported, &bucket));
    }
    Ok(())
}

fn said(imported: &Imported, bucket: &Bucket) -> String {
    let of = imported.generation.as_ref().map_or_else(String::new, |name| format!(", generation {name}"));
    let (path, unknown) = (imported.path.display(), || "?".to_owned());
    format!(
        "found what Litestream {} writes at {bucket}{of}\nrestored {path}: {} of {}, {} bytes from {} files in {:.2} s\n",
        imported.format,
        imported.position.clone().unwrap_or_else(unknown),
        imported.time.clone().unwrap_or_else(unknown),
        imported.bytes,
        imported.files,
        imported.seconds
    )
}

/// Which format is meant: the one that is there.
async fn format(bucket: &Bucket, args: &ImportArgs, has_old: bool) -> Result<ImportFormat, Failure> {
    let has_new = retry::lasting(args.written.wait, || bucket.inventory()).await?.holds_pages();
    match (args.format, has_old, has_new) {
        (Some(format), ..) => Ok(format),
        (None, true, false) => Ok(ImportFormat::V03),
        (None, false, true) => Ok(ImportFormat::V05),
        (None, true, true) => Err(Failure::usage(format!(
            "{bucket} holds what Litestream 0.3 has written, and LTX files too; say which you mean with --format 0.3 or \
             --format 0.5"
        ))),
        (None, false, false) => Err(nothing(bucket)),
    }
}

fn nothing(bucket: &Bucket) -> Failure {
    Failure::refused(
        Reason::NothingToRestore,
        format!("{bucket} holds nothing that Litestream has written; check the URL"),
    )
}

/// What Litestream 0.3 has stored.
async fn old_objects(bucket: &Bucket) -> Result<Vec<Stored>, Failure> {
    let listed = bucket.list_below(litestream_03::PREFIX).await?;
    let objects = listed.into_iter().filter_map(|listed| {
        let (generation, place) = litestream_03::parse(&listed.key)?;
        let (etag, modified_ms) = (listed.etag.to_string(), listed.modified_ms.unwrap_or(0));
        Some(Stored { key: listed.key, etag, size: listed.size, modified_ms, generation, place })
    });
    Ok(objects.collect())
}

fn finish(args: &ImportArgs) -> Finish {
    let overwrite = if args.force { Overwrite::Force } else { Overwrite::Never };
    Finish { overwrite, integrity: args.written.integrity_check, sums: KeepSums::No }
}

async fn import_05(bucket: &Bucket, args: &ImportArgs) -> Result<Imported, Failure> {
    if args.generation.is_some() || args.stop_before.is_some() {
        return Err(Failure::usage(
            "--generation and --stop-before are about Litestream 0.3; here are LTX files, see `lifeboat restore --txid`",
        ));
    }
    let wanted = args.timestamp.map_or(WantedState::Latest, |time| WantedState::Time(time.as_millisecond()));
    let how = How { wanted, parallelism: PARALLELISM, patience: args.written.wait, finish: finish(args) };
    let restored = restore(bucket, &args.written.output, &how).await?.ok_or_else(|| nothing(bucket))?;
    Ok(Imported {
        format: "0.5",
        path: args.written.output.clone(),
        generation: None,
        position: restored.txid,
        time: restored.time,
        bytes: restored.bytes,
        files: restored.files,
        seconds: 0.0,
    })
}

async fn import_03(bucket: &Bucket, args: &ImportArgs, objects: Vec<Stored>) -> Result<Imported, Failure> {
    let wanted = Wanted {
        generation: args.generation.clone(),
        until_ms: args.timestamp.map(jiff::Timestamp::as_millisecond),
        stop_before: args.stop_before,
    };
    let plan = litestream_03::plan(objects, &wanted).map_err(|error| unreachable(&error).about(bucket))?;
    if plan.generations > 1 {
        let (count, name) = (plan.generations, &plan.snapshot.generation);
        tracing::info!("{bucket}: {count} generations; this is {name}, --generation chooses another");
    }
    let replay = play(bucket, &plan, &args.written.output).await.map_err(|failure| failure.about(bucket))?;
    let how = finish(args);
    let rebuilt = blocking(move || replay.finish(&how)).await?;
    let last = plan.last();
    let position = match last.place {
        Place::Snapshot(wal) => format!("the snapshot in WAL {wal:08x}"),
        Place::Piece(place) => place.to_string(),
    };
    Ok(Imported {
        format: "0.3",
        path: args.written.output.clone(),
        generation: Some(last.generation.clone()),
        position: Some(position),
        time: rfc3339(last.modified_ms),
        bytes: rebuilt.bytes,
        files: 1 + plan.wals.iter().map(Vec::len).sum::<usize>(),
        seconds: 0.0,
    })
}

fn unreachable(error: &PlanError) -> Failure {
    match error {
        PlanError::Missing { .. } => Failure::damaged(Reason::ChainGap, error.to_string()),
        PlanError::Nothing | PlanError::NoGeneration { .. } => {
            Failure::refused(Reason::NothingToRestore, error.to_string())
        }
    }
}

async fn play(bucket: &Bucket, plan: &Plan, output: &Path) -> Result<Replay, Failure> {
    let reader = open(bucket, &plan.snapshot).await?;
    let (target, snapshot) = (output.to_owned(), plan.snapshot.clone());
    let mut replay = blocking(move || Replay::begin(&target, &snapshot, reader)).await?;
    for piece in plan.wals.iter().flatten() {
        let (reader, piece) = (open(bucket, piece).await?, piece.clone());
        replay = blocking(move || replay.play(&piece, reader).map(|()| replay)).await?;
    }
    Ok(replay)
}

async fn open(bucket: &Bucket, object: &Stored) -> Result<FromStore<impl Read + Send + use<>>, Failure> {
    let reader = bucket.open_object(&object.key, &object.etag).await?;
    Ok(FromStore { reader: bridged(reader), key: object.key.clone() })
}

fn bridged(reader: impl AsyncRead + Send + Unpin + 'static) -> impl Read + Send {
    SyncIoBridge::new(reader)
}

/// A reader whose own failures are told from those of whoever decodes what it gives.
struct FromStore<R> {
    reader: R,
    key: String,
}

impl<R: Read> Read for FromStore<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.reader
            .read(into)
            .map_err(|error| io::Error::other(Failure::unavailable(format!("{}: {error}", self.key))))
    }
}

const PARALLELISM: usize = 8;
