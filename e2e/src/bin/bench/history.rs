//! The same database is restored after few files of its history were written, and after many.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::databases::{self, Equal};
use crate::load::LoadArgs;
use crate::rounds::{Numbers, Site, calm_down, commit, numbers};
use crate::sidecar::{self, Setting, Sidecar, Used, prefix};

/// Lets the application commit until few files of level 0 were written, restores, and goes on until there were many.
///
/// # Errors
/// When something does not work, or the restored database is another one.
pub(crate) fn round(site: &Site<'_>) -> Result<(Numbers, Option<Equal>)> {
    let databases = [site.database(0)];
    let [database] = &databases;
    databases::copy(&site.bench.source(DATABASE_MB)?, database)?;
    let setting =
        Setting { keys: MERGED_SOON, our_keys: &["sync-interval: 10ms"], ..site.setting(&databases) };
    let [few, many] = site.bench.history;
    let few = write_and_restore(site, &setting, database, few)?;
    let many = write_and_restore(site, &setting, database, many)?;
    let stored: usize = LEVELS.map(|level| site.store.ltx_sizes(&prefix(0), level).len()).iter().sum();
    let numbers = numbers([
        ("slots", many.slots as f64),
        ("files_left", stored as f64),
        ("wall_s", many.used.wall_s),
        ("wall_of_few", many.used.wall_s / few.used.wall_s),
        ("cpu_of_few", many.used.cpu_s / few.used.cpu_s),
        ("requests", many.requests as f64),
        ("requests_of_few", many.requests as f64 / few.requests as f64),
        ("peak_rss_mb", many.used.peak_rss_mb.max(few.used.peak_rss_mb)),
    ]);
    Ok((numbers, Some(Equal::Bytes)))
}

/// A restore after so many slots were written.
struct Restored {
    slots: u64,
    requests: usize,
    used: Used,
}

fn write_and_restore(
    site: &Site<'_>,
    setting: &Setting<'_>,
    database: &Path,
    slots: u64,
) -> Result<Restored> {
    let mut sidecar = Sidecar::start(site.variant, setting)?;
    sidecar.await_stored(&site.store, 1)?;
    // Every commit of so slow an application is a slot of its own.
    let rate = if slots < SECOND { RATE / 10 } else { RATE };
    while newest(site) < slots {
        let left = slots.saturating_sub(newest(site)) as f64;
        commit(&load(database, rate, (left / f64::from(rate)).clamp(0.1, 60.0)))?;
    }
    sidecar.await_quiet()?;
    sidecar.stop()?;
    let to = site.folder.join("restored.db");
    calm_down()?;
    let before = site.store.requests()?.len();
    let mut all = (0..RESTORES).map(|_| {
        let used = sidecar::restore(site.variant, setting, 0, &to, &[])?;
        ensure!(databases::compare(database, &to)? == Equal::Bytes, "same rows, but not the same bytes");
        fs::remove_file(&to)?;
        Ok(used)
    });
    let mut used = all.by_ref().collect::<Result<Vec<Used>>>()?;
    used.sort_by(|one, other| one.wall_s.total_cmp(&other.wall_s));
    let requests = (site.store.requests()?.len() - before) / RESTORES;
    Ok(Restored { slots: newest(site), requests, used: used.swap_remove(RESTORES / 2) })
}

fn load(database: &Path, rate: u32, seconds: f64) -> LoadArgs {
    LoadArgs {
        db: database.to_owned(),
        seconds,
        rate: Some(rate),
        synchronous: "NORMAL".to_owned(),
        journal_mode: "WAL".to_owned(),
        busy_timeout: 5000,
    }
}

/// The TXID of the newest slot.
fn newest(site: &Site<'_>) -> u64 {
    let files = LEVELS.map(|level| site.store.ltx_files(&prefix(0), level)).into_iter().flatten();
    let txids = files.filter_map(|file| {
        let stem = file.file_stem()?.to_str()?.to_owned();
        u64::from_str_radix(stem.split_once('-')?.1, 16).ok()
    });
    txids.max().unwrap_or(0)
}

/// Intervals as `MERGED_OFTEN` has them. What is merged goes at once: what many slots leave behind is measured, and not the slots
/// of the last five minutes, which would be nearly all of them here, and a hundredth of a day's elsewhere.
const MERGED_SOON: &[&str] = &[
    "levels: [{interval: 1s}, {interval: 5s}, {interval: 15s}]",
    "snapshot: {interval: 20s}",
    "l0-retention: 1s",
    "l0-retention-check-interval: 1s",
];
const LEVELS: [u8; 5] = [0, 1, 2, 3, 9];
/// So large that what the history adds to it means little.
const DATABASE_MB: u64 = 256;
/// Commits in a second.
const RATE: u32 = 200;
/// Slots that take longer than that.
const SECOND: u64 = 100;
/// The middle one counts.
const RESTORES: usize = 3;
