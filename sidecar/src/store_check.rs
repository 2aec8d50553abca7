//! `lifeboat store check`: can this bucket or folder guarantee one writer at a time?

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use lifeboat_replica::layout::Layout;
use lifeboat_store::check::{self, Finding, RACERS, can_fence};
use lifeboat_store::{Directory, S3, Store};
use lifeboat_wire::Reason;
use serde::Serialize;

use crate::args::StoreCheckArgs;
use crate::exit::Failure;
use crate::location::{Location, S3Location};
use crate::{connect, pod};

/// What came of a check, as `--json` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    /// The store.
    pub store: String,
    /// Whether it can guarantee one writer at a time.
    pub can_fence: bool,
    /// What was tried.
    pub checks: Vec<One>,
}

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct One {
    /// Its name.
    pub name: &'static str,
    /// Whether the store can do it.
    pub ok: bool,
    /// Whether it cannot do without.
    pub needed: bool,
    /// What it did instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// What that means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub means: Option<&'static str>,
    #[serde(skip)]
    tried: &'static str,
}

/// Runs the command.
///
/// # Errors
/// Refused when the store cannot fence; otherwise when nothing could be found out.
#[expect(clippy::print_stdout, reason = "results go to standard output")]
pub async fn run(args: &StoreCheckArgs) -> Result<(), Failure> {
    let checked = checked(args).await?;
    if args.json {
        println!("{}", serde_json::to_string(&checked).unwrap_or_default());
    } else {
        print!("{}", table(&checked));
    }
    if checked.can_fence {
        return Ok(());
    }
    Err(Failure::refused(
        Reason::StoreNotConformant,
        format!(
            "{} cannot guarantee one writer at a time, so no replica may be kept here; use another server, or a newer \
             version of it",
            checked.store
        ),
    ))
}

async fn checked(args: &StoreCheckArgs) -> Result<Checked, Failure> {
    match connect::meant(&args.replica.source, &args.replica.config, &args.replica.store)? {
        Location::S3(s3) => in_bucket(&s3).await,
        Location::Directory(folder) => in_folder(&folder).await,
    }
}

async fn in_bucket(s3: &S3Location) -> Result<Checked, Failure> {
    let config = connect::s3_config(s3)?;
    let store = S3::open(config.clone()).await?;
    let mut racers: Vec<Arc<dyn Store>> = Vec::new();
    for _ in 0..RACERS {
        racers.push(Arc::new(S3::open(config.clone()).await?));
    }
    let scratch = Layout::Bucket.scratch_key(u128::from_ne_bytes(pod::random_bits()?));
    let findings = check::run(&store, &racers, &format!("{scratch}-")).await?;
    Ok(Checked::new(store.describe(), &findings))
}

/// In a folder of its own beside or in the one that is meant, so that nothing stays, also where that one does not exist yet.
async fn in_folder(folder: &Path) -> Result<Checked, Failure> {
    connect::require_exclusive(folder)?;
    let described = format!("file://{}", folder.display());
    let there = folder.ancestors().find(|above| above.is_dir()).unwrap_or(folder);
    let scratch = tempfile::Builder::new().prefix(".lifeboat-check-").tempdir_in(there).map_err(|error| {
        Failure::refused(
            Reason::StoreAccessDenied,
            format!("{described}: nothing can be made there: {error}"),
        )
    })?;
    let store = Directory::open(scratch.path().to_owned()).await?;
    let racers: Vec<_> = (0..RACERS).map(|_| Arc::new(store.clone()) as Arc<dyn Store>).collect();
    let findings = check::run(&store, &racers, "").await?;
    Ok(Checked::new(described, &findings))
}

impl Checked {
    fn new(store: String, findings: &[Finding]) -> Self {
        let checks = findings.iter().map(|finding| One {
            name: finding.ability.name(),
            ok: finding.instead.is_none(),
            needed: finding.ability.is_needed(),
            found: finding.instead.clone(),
            means: finding.instead.as_ref().map(|_| finding.ability.without_it()),
            tried: finding.ability.tried(),
        });
        Self { store, can_fence: can_fence(findings), checks: checks.collect() }
    }
}

/// A line for each thing that was tried, and below each that failed what it means.
#[must_use]
pub fn table(checked: &Checked) -> String {
    let mut text = format!("{}\n\n", checked.store);
    let width = checked.checks.iter().map(|one| one.name.len()).max().unwrap_or(0);
    for one in &checked.checks {
        let verdict = match (one.ok, one.needed) {
            (true, _) => "ok  ",
            (false, true) => "FAIL",
            (false, false) => "no  ",
        };
        let _ = writeln!(text, "{verdict}  {:width$}  {}", one.name, one.tried);
        for (word, said) in [("found", one.found.as_deref()), ("means", one.means)] {
            if let Some(said) = said {
                let _ = writeln!(text, "      {:width$}  {word}: {said}", "");
            }
        }
    }
    let verdict = if checked.can_fence {
        "This store can guarantee one writer at a time."
    } else {
        "This store cannot guarantee one writer at a time. Keep no replica here."
    };
    let _ = writeln!(text, "\n{verdict}");
    text
}

#[cfg(test)]
mod tests {
    use lifeboat_store::check::Ability;

    use super::*;

    #[test]
    fn the_table_says_what_failed_and_what_that_means() {
        let finding =
            |ability, instead: Option<&str>| Finding { ability, instead: instead.map(str::to_owned) };
        let findings = [
            finding(Ability::Create, None),
            finding(Ability::CreateOnce, Some("it did")),
            finding(Ability::Delete, Some("not allowed")),
        ];
        let checked = Checked::new("s3://b/p".to_owned(), &findings);
        assert_eq!(
            table(&checked),
            "\
s3://b/p

ok    create       creates an object
FAIL  create-once  refuses to create it again
                   found: it did
                   means: two writers would overwrite each other's commits, and nobody would notice
no    delete       deletes
                   found: not allowed
                   means: nothing that is no longer needed can be removed, and what this check made is still there

This store cannot guarantee one writer at a time. Keep no replica here.
"
        );
        assert!(Checked::new(String::new(), &findings[2..]).can_fence, "deleting is not needed to fence");
    }
}
