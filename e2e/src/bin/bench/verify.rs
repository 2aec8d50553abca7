//! Everything that is stored of a large database is verified.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use crate::databases::{self, Equal};
use crate::rounds::{Numbers, Site, calm_down, mb, numbers, size};
use crate::sidecar::{self, Sidecar, prefix};

/// Stores the large database, and one row in a hundred changed; verifies that, and again with one byte changed, which must be
/// found.
///
/// # Errors
/// When something does not work, a sound replica is called damaged, or a damaged one sound.
pub(crate) fn round(site: &Site<'_>) -> Result<(Numbers, Option<Equal>)> {
    let databases = [site.database(0)];
    let [database] = &databases;
    databases::copy(&site.bench.source(site.bench.large_mb)?, database)?;
    let setting = site.setting(&databases);
    let mut sidecar = Sidecar::start(site.variant, &setting)?;
    sidecar.await_stored(&site.store, 1)?;
    databases::change_one_in_a_hundred(database)?;
    sidecar.await_quiet()?;
    sidecar.stop()?;
    calm_down()?;
    let verified = sidecar::verify(&setting, 0)?;
    ensure!(verified.code == Some(0), "a sound replica is not called so: {}", verified.said);
    must_be_found(site, &setting)?;
    let (database_mb, used) = (mb(size(database)?), verified.used);
    let stored: u64 = largest_first(site)?.iter().map(|(bytes, _)| bytes).sum();
    let numbers = numbers([
        ("wall_s", used.wall_s),
        ("cpu_s", used.cpu_s),
        ("peak_rss_mb", used.peak_rss_mb),
        ("database_mb", database_mb),
        ("stored_mb", mb(stored)),
        ("database_mb_per_cpu_s", database_mb / used.cpu_s),
    ]);
    Ok((numbers, site.check(&setting, 0)?))
}

/// One byte in the middle of the largest file.
fn must_be_found(site: &Site<'_>, setting: &sidecar::Setting<'_>) -> Result<()> {
    let (_, largest) = largest_first(site)?.into_iter().next().context("nothing is stored")?;
    let good = fs::read(&largest)?;
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    if let Some(byte) = bad.get_mut(middle) {
        *byte ^= 1;
    }
    fs::write(&largest, bad)?;
    let verified = sidecar::verify(setting, 0)?;
    fs::write(&largest, good)?;
    let name = largest.file_name().unwrap_or_default().to_string_lossy();
    let is_found = verified.code == Some(6) && verified.said.contains(&*name);
    ensure!(is_found, "a changed byte of {name} is not found: {}", verified.said);
    Ok(())
}

/// The stored files and their sizes.
fn largest_first(site: &Site<'_>) -> Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for level in [0, 1, 2, 3, 9] {
        for file in site.store.ltx_files(&prefix(0), level) {
            files.push((size(&file)?, file));
        }
    }
    files.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
    Ok(files)
}
