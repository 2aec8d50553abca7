//! A sidecar that comes back to a large database which it has stored before.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::databases::{self, Equal};
use crate::load::LoadArgs;
use crate::rounds::{Numbers, Site, calm_down, commit, mb, numbers};
use crate::sidecar::{Sidecar, Variant};
use crate::store::Request;

/// Lets the sidecar store the large database, ends it, and looks at what it does when it starts again.
///
/// # Errors
/// When something does not work, or the restored database is another one.
pub(crate) fn round(site: &Site<'_>, is_killed: bool) -> Result<(Numbers, Option<Equal>)> {
    let databases = [site.database(0)];
    let [database] = &databases;
    databases::copy(&site.bench.source(site.bench.large_mb)?, database)?;
    let load = LoadArgs {
        db: database.clone(),
        seconds: 1.0,
        rate: Some(1000),
        synchronous: "NORMAL".to_owned(),
        journal_mode: "WAL".to_owned(),
        busy_timeout: 5000,
    };
    let setting = site.setting(&databases);
    let mut sidecar = Sidecar::start(site.variant, &setting)?;
    sidecar.await_stored(&site.store, 1)?;
    // So that the chain and the WAL have something in them.
    commit(&load)?;
    sidecar.await_quiet()?;
    if is_killed {
        sidecar.kill()?;
        commit(&load)?;
    } else {
        sidecar.stop()?;
    }
    calm_down()?;
    let before = site.store.requests()?.len();
    let mut sidecar = Sidecar::start(site.variant, &setting)?;
    // Litestream has no sign of being ready that could be compared.
    let ready = match site.variant {
        Variant::Lifeboat => Some(sidecar.await_stored(&site.store, 1)?),
        Variant::None | Variant::Litestream => None,
    };
    let at_ready = site.store.requests()?.split_off(before);
    sidecar.await_quiet()?;
    thread::sleep(SETTLING);
    let usage = sidecar.usage()?;
    let requests = site.store.requests()?.split_off(before);
    sidecar.stop()?;
    let mut numbers = numbers([
        ("requests", requests.len() as f64),
        ("requests_beyond_claim", beyond_claim(&requests) as f64),
        ("uploaded_again_mb", mb(uploaded_beyond_claim(&requests))),
        ("cpu_s", usage.cpu_s),
        ("peak_rss_mb", usage.peak_rss_mb),
    ]);
    if let Some(ready) = ready {
        let until_ready =
            [("ready_ms", ready.as_secs_f64() * 1e3), ("requests_until_ready", at_ready.len() as f64)];
        numbers.extend(self::numbers(until_ready));
    }
    Ok((numbers, site.check(&setting, 0)?))
}

/// Requests that do not belong to a claim: neither about the head, nor about a seal.
fn beyond_claim(requests: &[Request]) -> usize {
    let seals = seals(requests);
    requests.iter().filter(|request| !is_of_claim(request, &seals)).count()
}

fn uploaded_beyond_claim(requests: &[Request]) -> u64 {
    let seals = seals(requests);
    requests.iter().filter(|request| !is_of_claim(request, &seals)).map(|request| request.stored_bytes).sum()
}

fn is_of_claim(request: &Request, seals: &BTreeSet<&str>) -> bool {
    request.key.ends_with("/head.json") || seals.contains(request.key.as_str())
}

fn seals(requests: &[Request]) -> BTreeSet<&str> {
    let seals = requests.iter().filter(|request| request.stored_bytes == SEAL_BYTES);
    seals.map(|request| request.key.as_str()).collect()
}

/// A seal has exactly so many bytes, and no other slot has; see docs/formats/ltx.md.
const SEAL_BYTES: u64 = 131;
const SETTLING: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_and_seal_belong_to_the_claim_and_nothing_else() {
        let request = |operation: &str, key: &str, stored_bytes| Request {
            operation: operation.to_owned(),
            key: key.to_owned(),
            is_done: true,
            stored_bytes,
        };
        let requests = [
            request("PutObject", "a/lifeboat/head.json", 300),
            request("ListObjectsV2", "-", 0),
            request("PutObject", "a/0000/2.ltx", 131),
            request("PutObject", "a/0000/2.ltx", 0),
            request("PutObject", "a/0000/3.ltx", 5000),
        ];
        assert_eq!((beyond_claim(&requests), uploaded_beyond_claim(&requests)), (2, 5000));
    }
}
