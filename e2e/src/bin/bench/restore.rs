//! A large database comes back from its replica.

use std::fs::{self, File};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::databases::{self, Equal};
use crate::rounds::{Numbers, Site, calm_down, mb, numbers, size};
use crate::sidecar::{self, Setting, Sidecar, Used, Variant};

/// Lets the sidecar store the large database and end; restores it, and compares. Ours also brings the copy forward after one
/// row in a hundred was changed.
///
/// # Errors
/// When something does not work, or the restored database is another one.
pub(crate) fn round(site: &Site<'_>) -> Result<(Numbers, Option<Equal>)> {
    let databases = [site.database(0)];
    let [database] = &databases;
    databases::copy(&site.bench.source(site.bench.large_mb)?, database)?;
    let setting = site.setting(&databases);
    let mut sidecar = Sidecar::start(site.variant, &setting)?;
    sidecar.await_stored(&site.store, 1)?;
    sidecar.await_quiet()?;
    sidecar.stop()?;
    let copied_s = copied_s(database, &site.folder.join("copied.db"))?;
    let to = site.folder.join("restored.db");
    calm_down()?;
    let whole = sidecar::restore(site.variant, &setting, 0, &to, &[])?;
    let equal = databases::compare(database, &to)?;
    let mut numbers = numbers([
        ("wall_s", whole.wall_s),
        ("cpu_s", whole.cpu_s),
        ("peak_rss_mb", whole.peak_rss_mb),
        ("wall_of_a_copy", whole.wall_s / copied_s),
        ("database_mb", mb(size(database)?)),
    ]);
    if site.variant == Variant::Lifeboat {
        let behind = bring_forward(site, &setting, database, &to)?;
        numbers.insert("behind_wall_s".to_owned(), behind.wall_s);
        numbers.insert("behind_of_whole".to_owned(), behind.wall_s / whole.wall_s);
    }
    fs::remove_file(&to)?;
    Ok((numbers, Some(equal)))
}

/// Changes one row in a hundred, stores that, and restores over the older copy.
fn bring_forward(site: &Site<'_>, setting: &Setting<'_>, database: &Path, to: &Path) -> Result<Used> {
    let mut sidecar = Sidecar::start(site.variant, setting)?;
    sidecar.await_stored(&site.store, 1)?;
    databases::change_one_in_a_hundred(database)?;
    sidecar.await_quiet()?;
    sidecar.stop()?;
    calm_down()?;
    let behind = sidecar::restore(site.variant, setting, 0, to, &["--force"])?;
    databases::compare(database, to).context("the copy that was brought forward")?;
    Ok(behind)
}

/// How long it takes to copy the file and make that durable, seconds.
fn copied_s(from: &Path, to: &Path) -> Result<f64> {
    calm_down()?;
    let begun = Instant::now();
    let (mut source, mut copy) = (File::open(from)?, File::create(to)?);
    std::io::copy(&mut source, &mut copy)?;
    copy.sync_all()?;
    let copied = begun.elapsed().as_secs_f64();
    fs::remove_file(to)?;
    Ok(copied)
}
