//! One round: one scenario, once, with one sidecar or none.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::databases::{self, Equal};
use crate::load::{LoadArgs, LoadReport};
use crate::scenario::{Load, Scenario};
use crate::sidecar::{self, Programs, Setting, Variant};
use crate::store::Store;
use crate::{busy, first, history, idle, restart, restore, verify};

/// What was measured, by name; each name ends with its unit.
pub(crate) type Numbers = BTreeMap<String, f64>;

/// One round's result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Round {
    /// What was done.
    pub(crate) scenario: Scenario,
    /// Who followed.
    pub(crate) variant: Variant,
    /// From 1.
    pub(crate) round: u32,
    /// What was measured.
    pub(crate) numbers: Numbers,
    /// How the restored database equals its source; `None` where nothing was stored.
    pub(crate) restored: Option<Equal>,
}

/// What all rounds have in common.
#[derive(Clone, Debug)]
pub(crate) struct Bench {
    /// The programs.
    pub(crate) programs: Programs,
    /// Where everything is done.
    pub(crate) folder: PathBuf,
    /// Size of the large database, megabytes.
    pub(crate) large_mb: u64,
    /// How long the application commits at a pace, seconds.
    pub(crate) paced_s: f64,
    /// How long it commits at full speed, seconds.
    pub(crate) full_s: f64,
    /// How long an idle sidecar is looked at, seconds.
    pub(crate) idle_s: f64,
    /// After how many files of level 0 a restore is measured: few, and many.
    pub(crate) history: [u64; 2],
}

/// A round under way: an empty folder and an empty store.
#[derive(Debug)]
pub(crate) struct Site<'a> {
    /// What all rounds have in common.
    pub(crate) bench: &'a Bench,
    /// Who follows.
    pub(crate) variant: Variant,
    /// The folder; `db` below it holds the databases and nothing else.
    pub(crate) folder: PathBuf,
    /// The store.
    pub(crate) store: Store,
}

impl Bench {
    /// Does one round.
    ///
    /// # Errors
    /// When something does not work, or the restored database is another one.
    pub(crate) fn round(&self, scenario: Scenario, variant: Variant, round: u32) -> Result<Round> {
        let folder = self.folder.join("round");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(folder.join("db"))?;
        let store = Store::start(&self.programs.versitygw, &folder)?;
        let site = Site { bench: self, variant, folder, store };
        let load_before = load_average()?;
        let measured = match scenario.load() {
            Load::None { databases } => idle::round(&site, databases),
            Load::First => first::round(&site),
            Load::Restore => restore::round(&site),
            Load::Verify => verify::round(&site),
            Load::History => history::round(&site),
            Load::Restart { is_killed } => restart::round(&site, is_killed),
            Load::Commits(commits) => busy::round(&site, &commits),
        };
        let (mut numbers, restored) =
            measured.with_context(|| format!("{}, {}, round {round}", scenario.name(), variant.name()))?;
        numbers.insert("load_before".to_owned(), load_before);
        Ok(Round { scenario, variant, round, numbers, restored })
    }

    /// A database of this size that is made once and kept.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn source(&self, megabytes: u64) -> Result<PathBuf> {
        fs::create_dir_all(&self.folder)?;
        let path = self.folder.join(format!("source-{megabytes}.db"));
        if !path.exists() {
            databases::generate(&path, megabytes)?;
        }
        Ok(path)
    }
}

impl Site<'_> {
    /// The path of a database of this round.
    pub(crate) fn database(&self, number: usize) -> PathBuf {
        self.folder.join("db").join(format!("app-{number}.db"))
    }

    /// What a sidecar is started on.
    pub(crate) fn setting<'a>(&'a self, databases: &'a [PathBuf]) -> Setting<'a> {
        let (programs, folder, store) = (&self.bench.programs, &self.folder, &self.store);
        Setting { programs, folder, store, databases, keys: &[], our_keys: &[] }
    }

    /// Restores the database of this number and compares it with its source.
    ///
    /// # Errors
    /// When it cannot be restored, or differs; of ours, in a single byte.
    pub(crate) fn check(&self, setting: &Setting<'_>, number: usize) -> Result<Option<Equal>> {
        if self.variant == Variant::None {
            return Ok(None);
        }
        let restored = self.folder.join("restored.db");
        sidecar::restore(self.variant, setting, number, &restored, &[])?;
        let equal = databases::compare(&setting.databases[number], &restored)?;
        ensure!(
            equal == Equal::Bytes || self.variant != Variant::Lifeboat,
            "the restored database has the same rows, but not the same bytes"
        );
        fs::remove_file(restored)?;
        Ok(Some(equal))
    }
}

/// Numbers with their names.
pub(crate) fn numbers<const COUNT: usize>(named: [(&str, f64); COUNT]) -> Numbers {
    named.map(|(name, number)| (name.to_owned(), number)).into()
}

/// Runs the application in a process of its own.
///
/// # Errors
/// When it fails.
pub(crate) fn commit(load: &LoadArgs) -> Result<LoadReport> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("load").arg("--db").arg(&load.db).args(["--seconds", &load.seconds.to_string()]);
    command.args(["--synchronous", &load.synchronous, "--journal-mode", &load.journal_mode]);
    command.args(["--busy-timeout", &load.busy_timeout.to_string()]);
    if let Some(rate) = load.rate {
        command.args(["--rate", &rate.to_string()]);
    }
    let output = command.output().context("start the application")?;
    ensure!(output.status.success(), "the application: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("read the application's report")
}

/// Lets the disk write what it still has to, so that it does not do so during the measurement.
///
/// # Errors
/// When there is no `sync`.
pub(crate) fn calm_down() -> Result<()> {
    Command::new("sync").status().context("start sync")?;
    std::thread::sleep(Duration::from_millis(500));
    Ok(())
}

/// Megabytes of bytes.
pub(crate) fn mb(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Size of a file.
///
/// # Errors
/// When it is not there.
pub(crate) fn size(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).with_context(|| format!("look at {}", path.display()))?.len())
}

/// How many processes wanted a CPU during the last minute, on average: whether the machine was quiet.
fn load_average() -> Result<f64> {
    let text = fs::read_to_string("/proc/loadavg")?;
    text.split_whitespace().next().and_then(|load| load.parse().ok()).context("understand /proc/loadavg")
}
