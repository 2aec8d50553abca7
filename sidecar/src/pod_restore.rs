//! The init step of a pod: claim and seal every database, restore or adopt it, leave the claim for the sidecar.
//!
//! The seal comes before the volume is touched: from then on a predecessor that still runs somewhere can acknowledge
//! nothing that this pod would not have.

use std::path::Path;
use std::time::{Duration, Instant};

use lifeboat_replica::adoption::{
    Adoption, Chain, Content, Contradiction, Local, Record, decide, why_diverged,
};
use lifeboat_replica::claim::Sealed;
use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_replica::page_log::LogIdentity;
use lifeboat_wire::{DatabaseOutcome, Outcome, Position, Reason, Step, Termination};

use crate::args::{RestoreArgs, Take};
use crate::blocking::blocking;
use crate::board::position;
use crate::bucket::Bucket;
use crate::config::{Config, DatabaseConfig};
use crate::database::{Database, DatabaseError, EnforceWal, roll_back};
use crate::exit::{Exit, Failure};
use crate::first_view::{self, Expected};
use crate::handover::{self, HandOver};
use crate::marks::{self, Marks};
use crate::page_log_file::PageLogFile;
use crate::rebuild::Rebuilt;
use crate::restore::{How, Restored, default_wait, restore};
use crate::retry::Trying;
use crate::{claim, connect, disk, pod, rebuild, take};

mod choice;

use self::choice::Choice;

/// Prepares every database of the config for its application.
///
/// # Errors
/// The first [`Failure`]; the pod waits with it as its reason, and the step is tried again by the kubelet.
pub async fn run(args: &RestoreArgs) -> Result<(), Failure> {
    let mut outcomes = Vec::new();
    let ended = prepare_all(args, &mut outcomes).await;
    let (message, reason, exit) = match &ended {
        Ok(()) => (sentence(&outcomes), None, Exit::Done),
        Err(failure) => (failure.message.clone(), Some(failure.reason), failure.exit),
    };
    tracing::info!("{message}");
    pod::say_last_words(&Termination {
        message,
        step: Step::Restore,
        reason,
        exit_code: exit as u8,
        databases: outcomes,
    });
    ended
}

async fn prepare_all(args: &RestoreArgs, outcomes: &mut Vec<DatabaseOutcome>) -> Result<(), Failure> {
    let config = Config::read(&args.config)?;
    if config.databases.is_empty() {
        return Err(Failure::usage("the config lists no databases under 'dbs'"));
    }
    let choice = Choice::parse(args.take.as_deref().unwrap_or_default(), &config)?;
    for database in &config.databases {
        let begun = Instant::now();
        let patience = args.wait.unwrap_or_else(default_wait);
        let wish = Wish {
            expects_data: args.expect_data || database.expects_data,
            choice: choice.as_ref().filter(|choice| choice.name == database.name),
            patience,
        };
        let prepared = prepare(&config, database, wish).await;
        let (outcome, position, bytes) = prepared.map_err(|failure| failure.about(&database.name))?;
        let seconds = begun.elapsed().as_secs_f64();
        outcomes.push(DatabaseOutcome { name: database.name.clone(), outcome, position, bytes, seconds });
    }
    Ok(())
}

async fn prepare(
    config: &Config,
    database: &DatabaseConfig,
    wish: Wish<'_>,
) -> Result<(Outcome, Option<Position>, u64), Failure> {
    let trying = &mut Trying::lasting(wish.patience);
    let marks = Marks::beside(&database.path);
    let _lock = marks.lock(config.handover_timeout).await?;
    marks.require_not_fenced()?;
    rebuild::remove_leftovers(&database.path);
    let bucket = connect::open(&database.location, connect::Folder::Create).await?;
    let sealed = seal(&bucket, (config, database), &marks, wish, trying).await?;
    let chain = claim::chain(&bucket, (&marks, wish.expects_data), trying, |_| ()).await?;
    let (adoption, why) = judge(database, &marks, &chain, wish.choice).await?;
    let (outcome, bytes, chain) = match adoption {
        Adoption::FirstStart => (Outcome::FirstStart, 0, chain),
        Adoption::Same => {
            write_record(&marks, &bucket, database, &sealed)?;
            (Outcome::UpToDate, 0, chain.recorded())
        }
        Adoption::Initial | Adoption::Continues => (Outcome::UpToDate, 0, chain),
        Adoption::Restore | Adoption::Behind => {
            let restored = bring_back(&bucket, database, &sealed, wish.patience).await?;
            write_record(&marks, &bucket, database, &sealed)?;
            if let Some(rebuilt) = &restored.rebuilt {
                note(&marks, &database.path, &chain.lineage, chain.newest_pages, rebuilt)?;
            }
            (Outcome::Restored, restored.bytes, chain.recorded())
        }
        Adoption::Diverged => {
            let (outcome, bytes) = choose(&bucket, database, &marks, &chain, (wish.choice, &why)).await?;
            write_record(&marks, &bucket, database, &sealed)?;
            (outcome, bytes, chain.recorded())
        }
    };
    if let Some(folder) = &config.handover_dir {
        let claim = HandOver { chain: Some(chain), ..HandOver::from(&sealed) };
        handover::leave(folder, &database.name, &claim)?;
    }
    let stored = (sealed.base.txid > 0).then(|| position(sealed.base, None));
    Ok((outcome, stored, bytes))
}

/// What a start is told besides the config.
#[derive(Clone, Copy, Debug)]
struct Wish<'a> {
    /// Whether something is known to be stored.
    expects_data: bool,
    /// What somebody chose.
    choice: Option<&'a Choice>,
    /// How long the bucket is tried while nothing works.
    patience: Duration,
}

/// Claims and seals. In an emptied place a replica begins anew only if somebody chose that.
async fn seal(
    bucket: &Bucket,
    (config, database): (&Config, &DatabaseConfig),
    marks: &Marks,
    wish: Wish<'_>,
    trying: &mut Trying,
) -> Result<Sealed, Failure> {
    let claimant =
        |promise| claim::claimant(database.sync_interval, config.handover_timeout, false, None, promise);
    match claim::seal(bucket, claimant(marks.promise(bucket, wish.expects_data)?)?, trying).await {
        Err(failure) if failure.reason == Reason::ReplicaEmpty => {
            give_up_lost(failure, database, marks, wish)?
        }
        sealed => return sealed,
    }
    claim::seal(bucket, claimant(None)?, trying).await
}

/// Takes away the record of what `lost` says is not stored any more, if somebody chose the local database in this very case.
fn give_up_lost(
    lost: Failure,
    database: &DatabaseConfig,
    marks: &Marks,
    wish: Wish<'_>,
) -> Result<(), Failure> {
    let is_choice = !wish.expects_data && database.path.exists();
    let Some(record) = marks.record()?.filter(|_| is_choice) else { return Err(lost) };
    let contradiction = Contradiction::with_loss(&file_id(&database.path)?, &record);
    if wish.choice.and_then(|choice| choice.in_case_of(contradiction)) == Some(Take::Local) {
        let path = database.path.display();
        tracing::warn!("{lost}. That was chosen now: {path} is stored there as a new replica");
        return marks.remove_record();
    }
    let command = annotate(&database.name, "local", contradiction);
    Err(Failure { message: format!("{}, or have this step do it: `{command}`", lost.message), ..lost })
}

/// The command by which a person chooses for this pod.
fn annotate(name: &str, which: &str, contradiction: Contradiction) -> String {
    let pod = pod::for_kubectl();
    format!("kubectl annotate pod {pod} --overwrite lifeboat.dev/take={name}:{which}@{contradiction}")
}

/// What becomes of the local database, and why it is for a person to say, if it is.
async fn judge(
    database: &DatabaseConfig,
    marks: &Marks,
    chain: &Chain,
    choice: Option<&Choice>,
) -> Result<(Adoption, String), Failure> {
    let boot_id = marks::boot_id()?;
    let local = match look(database, marks, chain).await {
        // Pages of another size are no continuation either.
        Err(failure) if failure.reason == Reason::Diverged => {
            return Ok((Adoption::Diverged, failure.message));
        }
        local => local?,
    };
    let adoption = decide(&local, chain, &boot_id);
    let Local::Present { record, file_id, .. } = &local else { return Ok((adoption, String::new())) };
    Ok(match adoption {
        // Somebody put it there, or says so: it is not set forward over his head.
        Adoption::Behind if record.as_ref().is_some_and(Record::is_of_restore) => {
            (Adoption::Diverged, "it is an older state that was restored there".to_owned())
        }
        Adoption::Behind if choice.is_some_and(|choice| choice.take == Take::Local) => {
            (Adoption::Diverged, "it is an older state".to_owned())
        }
        Adoption::Diverged => (Adoption::Diverged, why_diverged(record.as_ref(), file_id, chain, &boot_id)),
        Adoption::FirstStart
        | Adoption::Initial
        | Adoption::Restore
        | Adoption::Same
        | Adoption::Continues
        | Adoption::Behind => (adoption, String::new()),
    })
}

/// What becomes of a database that is no continuation of the replica: nothing, unless somebody chose in this very contradiction.
async fn choose(
    bucket: &Bucket,
    database: &DatabaseConfig,
    marks: &Marks,
    chain: &Chain,
    (choice, why): (Option<&Choice>, &str),
) -> Result<(Outcome, u64), Failure> {
    let contradiction = Contradiction::between(&file_id(&database.path)?, chain);
    match choice.and_then(|choice| choice.in_case_of(contradiction)) {
        None => Err(diverged(database, bucket, contradiction, (choice, why))),
        Some(Take::Neither) => {
            let copy = match take::beside(bucket, &database.path).await {
                Ok(copy) => format!("what {bucket} holds was written to {}, to compare", copy.path.display()),
                // The kubelet tries again for as long as nobody chooses, and this must stay readable.
                Err(failure) if failure.reason == Reason::TargetExists => {
                    format!("{} to have what {bucket} holds written there now, to compare", failure.message)
                }
                Err(failure) => return Err(failure),
            };
            Err(diverged(database, bucket, contradiction, (None, why)).about(copy))
        }
        Some(Take::Remote) => {
            let restored = take::replace(bucket, &database.path, marks, chain).await?;
            Ok((Outcome::Restored, restored.bytes))
        }
        Some(Take::Local) => {
            take::give_up(bucket, database, marks, chain).await?;
            Ok((Outcome::UpToDate, 0))
        }
    }
}

/// The local database, looked at through SQLite: its WAL may hold commits that the file does not.
pub(crate) async fn look(database: &DatabaseConfig, marks: &Marks, chain: &Chain) -> Result<Local, Failure> {
    let (path, enforce, marks_there) = (database.path.clone(), database.enforce(), marks.clone());
    let (expected, lineage) = (marks.expected(chain), chain.lineage.clone());
    let looked = move || content(&path, enforce, expected, &marks_there, lineage);
    let Some(content) = blocking(looked).await? else {
        return Ok(Local::Absent);
    };
    Ok(Local::Present { content, file_id: file_id(&database.path)?, record: marks.record()? })
}

/// What the database holds; `None` where there is none. What was found out is left for the sidecar in the page log.
fn content(
    path: &Path,
    enforce: EnforceWal,
    mut expected: Expected,
    marks: &Marks,
    lineage: String,
) -> Result<Option<Content>, Failure> {
    let opened = match Database::open(path, enforce) {
        // The application begins after us, so nobody else will.
        Err(DatabaseError::HotJournal { .. }) => roll_back(path).and_then(|()| Database::open(path, enforce)),
        opened => opened,
    };
    let mut database = match opened {
        Ok(database) => database,
        Err(DatabaseError::Absent { .. } | DatabaseError::Empty { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let identity = LogIdentity { lineage, boot_id: marks::boot_id()?, file_id: file_id(path)? };
    let here = (identity.boot_id.as_str(), identity.file_id.as_str());
    let looked = first_view::look(&mut database, &mut expected, here, &mut DirtyPages::new(), &|| true)?;
    let found = looked.ok_or_else(|| Failure::bug("a look was called off that always was wanted"))?;
    if let Some(known) = found.known {
        let mut log = PageLogFile::new(marks.folder(), identity, database.page_size());
        log.begin(known.txid, &known.sums, known.anchor.as_ref());
    }
    Ok(Some(found.content))
}

/// Restores to the seal exactly: what is beyond it cannot be, and less than it would lose acknowledged commits.
async fn bring_back(
    bucket: &Bucket,
    database: &DatabaseConfig,
    sealed: &Sealed,
    patience: Duration,
) -> Result<Restored, Failure> {
    let restored = restore(bucket, &database.path, &How::to_go_on(patience)).await?;
    let restored = restored.ok_or_else(|| Failure::bug("a replica with pages restored to nothing"))?;
    let expected = format!("{:016x}", sealed.base.txid);
    if restored.txid.as_deref() != Some(expected.as_str()) {
        return Err(Failure::damaged(
            Reason::ChainGap,
            format!("{bucket} restores to txid {:?} and not to this claim's seal {expected}", restored.txid),
        ));
    }
    Ok(restored)
}

/// Leaves word of every page that was restored, up to the newest slot with pages, so that the sidecar stores none of them again.
pub(crate) fn note(
    marks: &Marks,
    path: &Path,
    lineage: &str,
    newest_pages: u64,
    rebuilt: &Rebuilt,
) -> Result<(), Failure> {
    let (boot_id, file_id) = (marks::boot_id()?, file_id(path)?);
    let identity = LogIdentity { lineage: lineage.to_owned(), boot_id, file_id };
    if let Some(sums) = &rebuilt.sums {
        PageLogFile::new(marks.folder(), identity, rebuilt.page_size).begin(newest_pages, sums, None);
    }
    Ok(())
}

fn write_record(
    marks: &Marks,
    bucket: &Bucket,
    database: &DatabaseConfig,
    sealed: &Sealed,
) -> Result<(), Failure> {
    let record = Record::new(&sealed.head, sealed.base, marks::boot_id()?, file_id(&database.path)?);
    marks.write_record(&record.stored_at(bucket.to_string()))
}

pub(crate) fn file_id(path: &Path) -> Result<String, Failure> {
    let found = disk::file_id(path).map_err(|error| Failure::bug(format!("{}: {error}", path.display())))?;
    Ok(found.unwrap_or_default())
}

/// The refusal that asks for a choice. `spent` was made in another case.
fn diverged(
    database: &DatabaseConfig,
    bucket: &Bucket,
    contradiction: Contradiction,
    (spent, why): (Option<&Choice>, &str),
) -> Failure {
    let spent = spent.map_or("", |_| {
        "The choice in the annotation is not about these two as they are now, so it was not carried out: it was made before, or does \
         not say. "
    });
    let name = &database.name;
    Failure::refused(
        Reason::Diverged,
        format!(
            "{} is not a continuation of what {bucket} holds: {why}. {spent}Choose, and this step does it when it is tried again; the other one \
             is saved there as a fork first: `{}` for \
             the bucket's, {name}:local@{contradiction} for the local one, or {name}:neither to have the bucket's beside the local one \
             and start nothing",
            database.path.display(),
            annotate(name, "remote", contradiction),
        ),
    )
}

fn sentence(outcomes: &[DatabaseOutcome]) -> String {
    let each = outcomes.iter().map(|done| {
        let at = done.position.as_ref().map_or(String::new(), |at| format!(" at txid {}", at.txid));
        match done.outcome {
            Outcome::Restored => {
                format!("{}: restored{at}, {} bytes in {:.2} s", done.name, done.bytes, done.seconds)
            }
            Outcome::FirstStart => format!("{}: first start, nothing stored yet", done.name),
            Outcome::UpToDate => format!("{}: the local database is current{at}", done.name),
            Outcome::Flushed
            | Outcome::TailNotStored
            | Outcome::Fenced
            | Outcome::Failed
            | Outcome::Unknown => {
                format!("{}: {:?}", done.name, done.outcome)
            }
        }
    });
    each.collect::<Vec<_>>().join("; ")
}
