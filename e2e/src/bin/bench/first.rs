//! The first replication of a large database.

use anyhow::Result;

use crate::databases::{self, Equal};
use crate::peaks::Watching;
use crate::rounds::{Numbers, Site, calm_down, mb, numbers, size};
use crate::sidecar::{Sidecar, prefix};

/// Starts the sidecar on a copy, waits until it is stored and until nothing more is done, and restores it.
///
/// # Errors
/// When something does not work, or the restored database is another one.
pub(crate) fn round(site: &Site<'_>) -> Result<(Numbers, Option<Equal>)> {
    let databases = [site.database(0)];
    let [database] = &databases;
    databases::copy(&site.bench.source(site.bench.large_mb)?, database)?;
    calm_down()?;
    let setting = site.setting(&databases);
    let mut sidecar = Sidecar::start(site.variant, &setting)?;
    let watching = Watching::begin(database, Some(sidecar.pid()));
    let wall = sidecar.await_stored(&site.store, 1)?;
    let usage = sidecar.await_quiet()?;
    let peaks = watching.end();
    let requests = site.store.requests()?;
    let uploaded: u64 = requests.iter().map(|request| request.stored_bytes).sum();
    let once: u64 = site.store.ltx_sizes(&prefix(0), 0).iter().sum();
    sidecar.stop()?;
    let numbers = numbers([
        ("wall_s", wall.as_secs_f64()),
        ("cpu_s", usage.cpu_s),
        ("peak_rss_mb", usage.peak_rss_mb),
        ("database_mb", mb(size(database)?)),
        ("uploaded_mb", mb(uploaded)),
        ("uploaded_times", uploaded as f64 / once as f64),
        ("requests", requests.len() as f64),
        ("extra_disk_percent", 100.0 * peaks.extra_disk as f64 / size(database)? as f64),
        ("wal_peak_mb", mb(peaks.wal)),
    ]);
    Ok((numbers, site.check(&setting, 0)?))
}
