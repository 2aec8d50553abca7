//! Databases that nobody touches: what the sidecar does all the same.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::databases::{self, Equal};
use crate::rounds::{Numbers, Site, calm_down, mb, numbers};
use crate::sidecar::Sidecar;

/// Lets the sidecar store so many small databases, come to rest, and looks at it for a while.
///
/// # Errors
/// When something does not work, or a restored database is another one.
pub(crate) fn round(site: &Site<'_>, count: usize) -> Result<(Numbers, Option<Equal>)> {
    let databases: Vec<_> = (0..count).map(|number| site.database(number)).collect();
    let seed = site.folder.join("seed.db");
    databases::generate_tiny(&seed)?;
    for database in &databases {
        std::fs::copy(&seed, database)?;
    }
    calm_down()?;
    let setting = site.setting(&databases);
    let mut sidecar = Sidecar::start(site.variant, &setting)?;
    let stored = sidecar.await_stored(&site.store, count)?;
    sidecar.await_quiet()?;
    thread::sleep(SETTLING);
    let (before, asked_before) = (sidecar.usage()?, site.store.requests()?.len());
    let span = Duration::from_secs_f64(site.bench.idle_s);
    thread::sleep(span);
    let (after, requests) = (sidecar.usage()?, site.store.requests()?);
    let asked = requests.len() - asked_before;
    let uploaded: u64 = requests.iter().map(|request| request.stored_bytes).sum();
    sidecar.stop()?;
    let numbers = numbers([
        ("stored_after_s", stored.as_secs_f64()),
        ("uploaded_mb", mb(uploaded)),
        ("requests", asked as f64),
        ("wakeups_per_s", (after.wakeups - before.wakeups) as f64 / span.as_secs_f64()),
        ("cpu_ms_per_s", 1e3 * (after.cpu_s - before.cpu_s) / span.as_secs_f64()),
        ("rss_mb", after.rss_mb),
        ("peak_rss_mb", after.peak_rss_mb),
    ]);
    Ok((numbers, site.check(&setting, count - 1)?))
}

/// After the last work a sidecar may look again for a second or two.
const SETTLING: Duration = Duration::from_secs(3);
