//! `lifeboat forks`: looks at databases that lost their replica, and brings them back as files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lifeboat_ltx::Txid;
use lifeboat_replica::fork::{Note, Why};
use lifeboat_replica::layout::{ForkName, meant};
use lifeboat_wire::Reason;
use serde::Serialize;

use crate::args::{
    ForkAgainst, ForkRestoreArgs, ForkShowArgs, ForksListArgs, IntegrityCheck, ReplicaArgs, WrittenArgs,
};
use crate::blocking::blocking;
use crate::bucket::Bucket;
use crate::clock::rfc3339;
use crate::connect;
use crate::database::difference::{TableDifference, differences};
use crate::exit::Failure;
use crate::rebuild::{Finish, KeepSums, Overwrite, target_exists};
use crate::restore::{How, Restored, Wanted, restore as restore_replica, restore_whole};
use crate::retry;
use crate::scratch::Scratch;
use crate::table::{aligned, bytes, counted, to_the_second};

/// One fork, as `forks list --json` prints it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    /// As the other verbs take it.
    fork: String,
    epoch: u64,
    why: Why,
    /// Who had the database, in words.
    owner: String,
    /// When it was saved: RFC 3339, UTC.
    saved: Option<String>,
    /// The TXID from which on it is another history; `None` where nothing says.
    base_txid: Option<String>,
    base_checksum: Option<String>,
    /// Transactions after that, where they were counted.
    transactions: Option<u64>,
    pages: u32,
    page_size: u32,
    checksum: Option<String>,
    /// Bytes in the bucket.
    bytes: u64,
}

/// What `forks show --json` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    #[serde(flatten)]
    fork: Listed,
    against: ForkAgainst,
    /// The TXID of the state that it was compared with.
    against_txid: Option<String>,
    /// Tables that differ.
    tables: Vec<TableDifference>,
    /// How many do not.
    equal_tables: usize,
}

/// Runs `forks list`.
///
/// # Errors
/// [`Failure`] when the replica cannot be read.
#[expect(clippy::print_stdout, reason = "results go to standard output")]
pub async fn list(args: &ForksListArgs) -> Result<(), Failure> {
    let bucket = open(&args.replica).await?;
    let mut listed = Vec::new();
    for fork in bucket.forks().await? {
        listed.push(Listed::new(&fork, &bucket.fork_note(&fork).await?));
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&listed).unwrap_or_default());
    } else if listed.is_empty() {
        println!("{bucket} has no forks");
    } else {
        print!("{}", table(&listed));
    }
    Ok(())
}

/// Runs `forks show`.
///
/// # Errors
/// [`Failure`] when there is no such fork, or it or the replica cannot be restored.
#[expect(clippy::print_stdout, reason = "results go to standard output")]
pub async fn show(args: &ForkShowArgs) -> Result<(), Failure> {
    let bucket = open(&args.replica).await?;
    let (fork, note) = find(&bucket, args.fork.as_deref(), args.wait).await?;
    let folder = Scratch::create()?;
    let (ours, theirs) = (folder.path().join("fork.db"), folder.path().join("replica.db"));
    restore_fork(&bucket, &fork, &ours, args.wait, IntegrityCheck::None).await?;
    let how = how(wanted(args.against, &note, &fork)?, args.wait, IntegrityCheck::None);
    let restored = restore_replica(&bucket, &theirs, &how).await.map_err(|failure| match args.against {
        ForkAgainst::Base if failure.reason == Reason::NothingToRestore => Failure {
            message: format!(
                "{failure}; the state that the fork goes on from is not kept any more, use --against newest"
            ),
            ..failure
        },
        ForkAgainst::Base | ForkAgainst::Newest => failure,
    })?;
    let nothing =
        || Failure::refused(Reason::NothingToRestore, format!("{bucket} holds no database to compare with"));
    let restored = restored.ok_or_else(nothing)?;
    let compared = blocking(move || differences(&ours, &theirs)).await?;
    let (tables, equal): (Vec<_>, Vec<_>) = compared.into_iter().partition(TableDifference::is_any);
    let shown = Shown {
        fork: Listed::new(&fork, &note),
        against: args.against,
        against_txid: restored.txid,
        tables,
        equal_tables: equal.len(),
    };
    if args.json {
        println!("{}", serde_json::to_string(&shown).unwrap_or_default());
    } else {
        print!("{}", said(&shown));
    }
    Ok(())
}

/// Runs `forks restore`.
///
/// # Errors
/// [`Failure`]; then no file was written.
#[expect(clippy::print_stdout, reason = "results go to standard output")]
pub async fn restore(args: &ForkRestoreArgs) -> Result<(), Failure> {
    let WrittenArgs { output, integrity_check, wait, json } = &args.written;
    if output.exists() {
        return Err(Failure {
            message: format!("{} exists; choose another with -o", output.display()),
            ..target_exists(output)
        });
    }
    let bucket = open(&args.replica).await?;
    let (fork, _) = find(&bucket, args.fork.as_deref(), *wait).await?;
    let restored = restore_fork(&bucket, &fork, output, *wait, *integrity_check).await?;
    let out = RestoredFork {
        fork: fork.to_string(),
        path: output.clone(),
        bytes: restored.bytes,
        checksum: restored.checksum,
    };
    if *json {
        println!("{}", serde_json::to_string(&out).unwrap_or_default());
    } else {
        println!("restored {} from fork {fork} of {bucket}: {}", out.path.display(), bytes(out.bytes));
    }
    Ok(())
}

/// What `forks restore --json` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RestoredFork {
    fork: String,
    path: PathBuf,
    /// Size of the database.
    bytes: u64,
    checksum: Option<String>,
}

async fn open(replica: &ReplicaArgs) -> Result<Bucket, Failure> {
    let location = connect::meant(&replica.source, &replica.config, &replica.store)?;
    connect::open(&location, connect::Folder::MustExist).await
}

/// The fork that is meant; the only one, where none is named.
async fn find(bucket: &Bucket, named: Option<&str>, patience: Duration) -> Result<(ForkName, Note), Failure> {
    let names = retry::lasting(patience, || bucket.forks()).await?;
    let refused = |why: String| Failure::refused(Reason::NothingToRestore, format!("{bucket}: {why}"));
    let fork = match (named, names.as_slice()) {
        (None, [only]) => only.clone(),
        (None, [_, _, ..]) => {
            return Err(Failure::usage(format!(
                "{bucket} has {}; name one, see `lifeboat forks list`",
                counted(names.len(), "fork")
            )));
        }
        (named, names) => meant(names, named.unwrap_or_default()).map_err(refused)?.clone(),
    };
    let note = retry::lasting(patience, || bucket.fork_note(&fork)).await?;
    Ok((fork, note))
}

async fn restore_fork(
    bucket: &Bucket,
    fork: &ForkName,
    to: &Path,
    patience: Duration,
    integrity: IntegrityCheck,
) -> Result<Restored, Failure> {
    let pages = retry::lasting(patience, || bucket.fork_pages(fork)).await?;
    restore_whole(bucket, pages, to, &how(Wanted::Latest, patience, integrity)).await
}

fn how(wanted: Wanted, patience: Duration, integrity: IntegrityCheck) -> How {
    let finish = Finish { overwrite: Overwrite::Never, integrity, sums: KeepSums::No };
    How { wanted, parallelism: PARALLELISM, patience, finish }
}

fn wanted(against: ForkAgainst, note: &Note, fork: &ForkName) -> Result<Wanted, Failure> {
    match against {
        ForkAgainst::Newest => Ok(Wanted::Latest),
        ForkAgainst::Base => {
            note.base.and_then(|base| Txid::try_new(base.txid)).map(Wanted::Txid).ok_or_else(|| {
                let why = format!(
                    "fork {fork} goes on from no state of the replica that is known; use --against newest"
                );
                Failure::refused(Reason::NothingToRestore, why)
            })
        }
    }
}

impl Listed {
    fn new(fork: &ForkName, note: &Note) -> Self {
        Self {
            fork: fork.to_string(),
            epoch: fork.epoch().get(),
            why: note.why,
            owner: note.owner.to_string(),
            saved: rfc3339(note.saved_ms),
            base_txid: note.base.map(|base| format!("{:016x}", base.txid)),
            base_checksum: note.base.and_then(|base| base.checksum).map(|checksum| checksum.to_string()),
            transactions: note.transactions,
            pages: note.page_count,
            page_size: note.page_size,
            checksum: note.checksum.map(|checksum| checksum.to_string()),
            bytes: note.bytes,
        }
    }
}

fn unknown() -> String {
    "-".to_owned()
}

fn table(listed: &[Listed]) -> String {
    let headings = ["FORK", "WHY", "SAVED AT", "BASE TXID", "TRANSACTIONS", "SIZE", "OWNER"];
    let mut rows = vec![headings.map(str::to_owned)];
    rows.extend(listed.iter().map(|fork| {
        [
            fork.fork.clone(),
            match fork.why {
                Why::Fenced => "fenced".to_owned(),
                Why::Diverged => "diverged".to_owned(),
            },
            fork.saved.as_deref().map_or_else(unknown, to_the_second),
            fork.base_txid.clone().unwrap_or_else(unknown),
            fork.transactions.map_or_else(unknown, |count| count.to_string()),
            bytes(fork.bytes),
            fork.owner.clone(),
        ]
    }));
    aligned(&rows)
}

fn said(shown: &Shown) -> String {
    let (fork, at) = (&shown.fork, shown.against_txid.as_deref().unwrap_or("?"));
    let count = fork.transactions.map_or_else(
        || "an unknown number of transactions".to_owned(),
        |count| counted(usize::try_from(count).unwrap_or(usize::MAX), "transaction"),
    );
    let from = fork.base_txid.as_ref().map_or_else(String::new, |base| format!(" after txid {base}"));
    let mut text = format!("fork {} of {}: {count}{from}\n", fork.fork, fork.owner);
    if shown.tables.is_empty() {
        return text + &format!("no row differs from the replica at txid {at}\n");
    }
    text += &format!("compared with the replica at txid {at}, the fork has\n\n");
    let mut rows = vec![["TABLE", "ADDED", "REMOVED", "CHANGED", ""].map(str::to_owned)];
    rows.extend(shown.tables.iter().map(|table| {
        let count = |count: Option<u64>| count.map_or_else(unknown, |count| count.to_string());
        let remark = table.remark.clone().unwrap_or_default();
        [table.name.clone(), count(table.added), count(table.removed), count(table.changed), remark]
    }));
    text += &aligned(&rows);
    text + &format!("\n{} without a difference\n", counted(shown.equal_tables, "other table"))
}

/// Requests under way at once.
const PARALLELISM: usize = 8;
