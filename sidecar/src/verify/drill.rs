//! The restore that proves that restores work: to a temporary file, checked by SQLite, asked, and gone again.

use std::path::Path;

use lifeboat_replica::verify::{Finding, Kind};

use super::report::Restored;
use crate::args::{IntegrityCheck, VerifyArgs};
use crate::blocking::blocking;
use crate::bucket::Bucket;
use crate::database::check;
use crate::exit::{Exit, Failure};
use crate::rebuild::{Finish, KeepSums, Overwrite};
use crate::restore::{How, Wanted, restore};
use crate::scratch::Scratch;

/// A query that must be true.
#[derive(Clone, Debug)]
pub(super) struct Query(String);

impl Query {
    /// Takes a query whose tables are not known yet.
    ///
    /// # Errors
    /// Usage when SQLite could not read it whatever the database.
    pub(super) fn parse(sql: &str) -> Result<Self, Failure> {
        match check::syntax_error(sql) {
            Some(wrong) => Err(Failure::usage(format!("--sql '{sql}': {wrong}"))),
            None => Ok(Self(sql.to_owned())),
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Drilled {
    /// The restore, if there is a database.
    pub(super) restored: Option<Restored>,
    /// What is wrong.
    pub(super) findings: Vec<Finding>,
}

/// Restores the newest state, asks the queries, and leaves nothing behind.
///
/// # Errors
/// When the store does not answer, or the machine has no room.
pub(super) async fn run(bucket: &Bucket, args: &VerifyArgs, queries: &[Query]) -> Result<Drilled, Failure> {
    let folder = Scratch::create()?;
    let database = folder.path().join("restored.db");
    let finish = Finish { overwrite: Overwrite::Never, integrity: IntegrityCheck::Full, sums: KeepSums::No };
    let how = How {
        wanted: Wanted::Latest,
        parallelism: usize::from(args.parallelism),
        patience: args.wait,
        finish,
    };
    let restored = match restore(bucket, &database, &how).await {
        Ok(Some(restored)) => restored,
        Ok(None) => return Ok(only(Finding::about(Kind::Restore, "there is nothing to restore"))),
        Err(failure) if failure.exit == Exit::Damaged => {
            return Ok(only(Finding::about(Kind::Restore, failure.message)));
        }
        Err(failure) => return Err(failure),
    };
    let (findings, true_ones) = ask(database, queries.to_vec()).await?;
    let restored = Restored {
        txid: restored.txid,
        time: restored.time,
        bytes: restored.bytes,
        seconds: restored.seconds,
        queries: true_ones,
    };
    Ok(Drilled { restored: Some(restored), findings })
}

fn only(finding: Finding) -> Drilled {
    Drilled { restored: None, findings: vec![finding] }
}

/// Asks every query; returns what is wrong, and how many were true.
async fn ask(database: std::path::PathBuf, queries: Vec<Query>) -> Result<(Vec<Finding>, usize), Failure> {
    blocking(move || {
        let asked: Vec<_> = queries.iter().map(|query| answer(&database, query)).collect();
        let true_ones = asked.iter().filter(|finding| finding.is_none()).count();
        Ok((asked.into_iter().flatten().collect(), true_ones))
    })
    .await
}

fn answer(database: &Path, Query(sql): &Query) -> Option<Finding> {
    let what = match check::truth(database, sql) {
        Ok(check::Truth::True) => return None,
        Ok(check::Truth::False(found)) => format!("it gives {found}"),
        Err(error) => error.to_string(),
    };
    Some(Finding::about(Kind::Sql, format!("'{sql}' is not true: {what}")))
}
