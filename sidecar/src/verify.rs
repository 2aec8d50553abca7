//! `lifeboat verify`: is everything that is stored what it must be, and does it lead to a database?

use std::path::Path;
use std::time::Instant;

use lifeboat_ltx::HEADER_SIZE;
use lifeboat_replica::adoption::Record;
use lifeboat_replica::head::Head;
use lifeboat_replica::inventory::{FileEntry, Inventory};
use lifeboat_replica::verify::walk::{self, Walk, Walked};
use lifeboat_replica::verify::{Finding, gone, listing, restorable};
use lifeboat_wire::Reason;

use crate::args::{VerifyArgs, VerifyLevel};
use crate::bucket::Bucket;
use crate::exit::Failure;
use crate::marks::Marks;
use crate::progress::Progress;
use crate::restore::{Source, digest};
use crate::{connect, retry, shutdown};

mod drill;
mod reading;
mod report;
mod sums;

use drill::Query;
use reading::{Depth, Lost, Reading};
pub use report::{Report, Restored};

/// Runs the command.
///
/// # Errors
/// Damaged when anything is wrong with the replica; otherwise when nothing could be found out.
#[expect(clippy::print_stdout, reason = "results go to standard output")]
pub async fn run(args: &VerifyArgs) -> Result<(), Failure> {
    let stop = shutdown::on_signal("nothing is left behind")?.stop;
    let report = tokio::select! {
        report = report(args) => report?,
        () = stop.cancelled() => return Err(Failure::unavailable("told to stop before the end; the replica was not verified")),
    };
    if args.json {
        println!("{}", serde_json::to_string(&report).unwrap_or_default());
    } else {
        print!("{}", report.text());
    }
    report.outcome()
}

async fn report(args: &VerifyArgs) -> Result<Report, Failure> {
    let begun = Instant::now();
    let level = level(args)?;
    let queries = args.sql.iter().map(|sql| Query::parse(sql)).collect::<Result<Vec<_>, _>>()?;
    let (location, database) = connect::meant_database(&args.replica)?;
    let bucket = connect::open(&location, connect::Folder::MustExist).await?;
    // Read before the list, which is at least as new.
    let record = database.as_deref().map(record).transpose()?.flatten();
    let mut report = Verifying { bucket: &bucket, args, level, record: record.as_ref() }.run().await?;
    if level == VerifyLevel::Drill {
        let drilled = drill::run(&bucket, args, &queries).await?;
        report.drilled(drilled);
    }
    report.seconds = begun.elapsed().as_secs_f64();
    Ok(report)
}

/// The level that is meant.
fn level(args: &VerifyArgs) -> Result<VerifyLevel, Failure> {
    match (args.level, args.sql.is_empty()) {
        (None, true) => Ok(VerifyLevel::Deep),
        (None | Some(VerifyLevel::Drill), _) => Ok(VerifyLevel::Drill),
        (Some(level), true) => Ok(level),
        (Some(VerifyLevel::Chain | VerifyLevel::Deep), false) => {
            Err(Failure::usage("--sql asks a restored database; leave --level out, or say --level drill"))
        }
    }
}

/// What this machine noted of the slot that it stored last; nothing where it only restored.
fn record(database: &Path) -> Result<Option<Record>, Failure> {
    Ok(Marks::beside(database).record()?.filter(|record| !record.is_of_restore()))
}

/// One replica that is verified.
struct Verifying<'a> {
    bucket: &'a Bucket,
    args: &'a VerifyArgs,
    level: VerifyLevel,
    record: Option<&'a Record>,
}

impl Verifying<'_> {
    async fn run(&self) -> Result<Report, Failure> {
        let (inventory, findings) = self.list().await?;
        if findings.is_empty() && !inventory.holds_pages() {
            return Err(Failure::refused(
                Reason::NothingToRestore,
                format!("{} holds no database, so there is nothing to verify; check the URL", self.bucket),
            ));
        }
        let mut walk = Walk::begin(inventory.head().cloned());
        walk.knows_of(findings);
        let mut files = inventory.files().to_vec();
        walk::sort(&mut files);
        let depth = match self.level {
            VerifyLevel::Chain => Depth::Headers,
            VerifyLevel::Deep | VerifyLevel::Drill => Depth::Everything,
        };
        let source = Source::new(self.bucket.clone(), self.args.wait, Progress::begin(bytes(&files, depth)));
        let parallelism = usize::from(self.args.parallelism);
        let reading = Reading::begin(walk, depth)?.read(&source, &files, depth, parallelism).await?;
        source.end();
        let (walked, lost) = reading.finish(self.record);
        self.report(&inventory, walked, lost, &source).await
    }

    /// A list that says of itself that something is wrong is read again: the writer may have been at work.
    async fn list(&self) -> Result<(Inventory, Vec<Finding>), Failure> {
        let mut seen = None;
        for _ in 0..LISTS_MAX {
            let inventory = retry::lasting(self.args.wait, || self.bucket.inventory()).await?;
            let findings = listing::look(&inventory);
            if findings.is_empty() {
                return Ok((inventory, findings));
            }
            // Lists that are older than the head say the same whatever was given up meanwhile.
            let outdated = inventory.is_outdated().then(|| digest(&inventory));
            let found = (findings, outdated);
            if seen.as_ref() == Some(&found) {
                return Ok((inventory, found.0));
            }
            seen = Some(found);
        }
        Err(Failure::unavailable(format!("{}: its list is another one each time; try again", self.bucket)))
    }

    async fn report(
        &self,
        inventory: &Inventory,
        mut walked: Walked,
        lost: Lost,
        source: &Source,
    ) -> Result<Report, Failure> {
        if !lost.gone.is_empty() {
            let now = retry::lasting(self.args.wait, || self.bucket.inventory()).await?;
            walked.findings.extend(lost.gone.iter().filter_map(|file| gone(file, &now)));
        }
        let (states, newest_sound) = restorable(inventory, &walked.findings);
        Ok(Report {
            replica: self.bucket.to_string(),
            level: self.level,
            ok: walked.findings.is_empty(),
            txid: walked.newest.map(|(txid, _)| format!("{txid:016x}")),
            checksum: walked.newest.map(|(_, checksum)| checksum.to_string()),
            epoch: inventory.head().map(|head: &Head| head.epoch.get()),
            files: inventory.files().len(),
            unproved: if self.level == VerifyLevel::Chain { None } else { Some(walked.unproved) },
            bytes: source.fetched(),
            states,
            newest_sound: newest_sound.map(|txid| txid.to_string()),
            drill: None,
            seconds: 0.0,
            findings: walked.findings,
        })
    }
}

/// As much as is going to be read.
fn bytes(files: &[FileEntry], depth: Depth) -> u64 {
    let most = match depth {
        Depth::Headers => HEADER_SIZE as u64,
        Depth::Everything => u64::MAX,
    };
    files.iter().map(|file| file.size.min(most)).sum()
}

/// How often a list is read that contradicts itself.
const LISTS_MAX: usize = 5;

#[cfg(test)]
mod tests;
