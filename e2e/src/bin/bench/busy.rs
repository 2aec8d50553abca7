//! An application that commits, beside a sidecar or alone.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::databases::{self, Equal};
use crate::load::LoadArgs;
use crate::peaks::Watching;
use crate::rounds::{Numbers, Site, calm_down, commit, mb, numbers};
use crate::scenario::Commits;
use crate::sidecar::{Sidecar, Variant};

/// Lets the sidecar store a small database, then lets the application commit, and compares what is stored in the end.
///
/// # Errors
/// When something does not work, or the restored database is another one.
pub(crate) fn round(site: &Site<'_>, commits: &Commits) -> Result<(Numbers, Option<Equal>)> {
    let databases = [site.database(0)];
    let [database] = &databases;
    databases::copy(&site.bench.source(SMALL_MB)?, database)?;
    let mut load = LoadArgs {
        db: database.clone(),
        seconds: 0.01,
        rate: None,
        synchronous: commits.synchronous.to_owned(),
        journal_mode: commits.journal_mode.to_owned(),
        busy_timeout: commits.busy_timeout,
    };
    // The table, and the journal mode, are there before anybody follows.
    commit(&load)?;
    (load.seconds, load.rate) = match commits.rate {
        Some(_) => (site.bench.paced_s, commits.rate),
        None => (site.bench.full_s, None),
    };
    let mut setting = site.setting(&databases);
    (setting.keys, setting.our_keys) = (commits.keys, commits.our_keys);
    let mut sidecar = match site.variant {
        Variant::None => None,
        Variant::Lifeboat | Variant::Litestream => Some(Sidecar::start(site.variant, &setting)?),
    };
    if let Some(sidecar) = &mut sidecar {
        sidecar.await_stored(&site.store, 1)?;
        sidecar.await_quiet()?;
    }
    calm_down()?;
    let requests_before = site.store.requests()?.len();
    let cpu_before = sidecar.as_ref().map(Sidecar::usage).transpose()?.map_or(0.0, |usage| usage.cpu_s);
    let watching = Watching::begin(database, sidecar.as_ref().map(Sidecar::pid));
    let seen = commit(&load)?;
    // What the last second needs afterwards belongs to it.
    thread::sleep(AFTERWARDS);
    let peaks = watching.end();
    let mut numbers = numbers([
        ("commits_per_s", seen.commits as f64 / seen.seconds),
        ("app_cpu_us", seen.cpu_us),
        ("p50_ms", seen.p50_ms),
        ("p99_ms", seen.p99_ms),
        ("p999_ms", seen.p999_ms),
        ("max_ms", seen.max_ms),
        ("busy", seen.busy as f64),
        ("wal_peak_mb", mb(peaks.wal)),
    ]);
    if let Some(sidecar) = sidecar {
        let usage = sidecar.usage()?;
        let requests = site.store.requests()?.split_off(requests_before);
        let uploaded: u64 = requests.iter().map(|request| request.stored_bytes).sum();
        numbers.extend(self::numbers([
            ("cpu_s", usage.cpu_s - cpu_before),
            ("peak_rss_mb", usage.peak_rss_mb),
            ("extra_disk_mb", mb(peaks.extra_disk)),
            ("uploaded_mb", mb(uploaded)),
            ("requests", requests.len() as f64),
            ("files_read", requests.iter().filter(|request| request.reads_file()).count() as f64),
        ]));
        numbers.extend(sidecar.longest_write_lock_ms()?.map(|longest| ("write_lock_ms".to_owned(), longest)));
        sidecar.stop()?;
    }
    Ok((numbers, site.check(&setting, 0)?))
}

/// Size of the database before.
const SMALL_MB: u64 = 16;
const AFTERWARDS: Duration = Duration::from_secs(2);
