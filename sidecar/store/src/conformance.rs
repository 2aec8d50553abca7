//! The promises of [`Store`] as one suite. Every implementation passes it, and so must every server we recommend.
//!
//! It works below a fresh prefix and deletes what it made. It never asserts: a broken promise is a value, so that a
//! program may run the suite against somebody's server.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt, stream};
use thiserror::Error;
use tokio::io::AsyncReadExt;

use crate::error::StoreError;
use crate::store::{Body, ETag, Listed, Store};

/// A promise that was not kept.
#[derive(Clone, Debug, Error)]
#[error("this store does not keep a promise: {promise}; found: {found}")]
pub struct Broken {
    /// What every store must do.
    pub promise: &'static str,
    /// What this one did.
    pub found: String,
}

/// Tries every promise.
///
/// # Errors
/// The first promise that is not kept.
pub async fn run(store: &dyn Store) -> Result<(), Broken> {
    let suite = Suite { store, prefix: format!("conformance/{:016x}", random()?) };
    let outcome = suite.run().await;
    suite.clean_up().await?;
    outcome
}

mod parts;

/// The last promise that is tried.
pub const STALE_COPY: &str = "copying with a stale ETag is a lost race";

struct Suite<'a> {
    store: &'a dyn Store,
    prefix: String,
}

impl Suite<'_> {
    async fn run(&self) -> Result<(), Broken> {
        self.what_is_not_there_is_absent().await?;
        self.creating_is_exclusive().await?;
        self.one_of_many_creators_wins().await?;
        self.replacing_needs_the_right_etag().await?;
        self.one_of_many_replacers_wins().await?;
        self.bytes_come_back_exactly().await?;
        self.reads_are_bounded_and_conditional().await?;
        self.lists_are_complete().await?;
        self.copies_are_whole().await?;
        self.parts_become_one_object().await?;
        self.completing_is_exclusive().await?;
        self.what_is_abandoned_is_gone().await?;
        self.what_somebody_left_is_found().await?;
        self.deleting_deletes().await?;
        // Last, because a server that does everything else may not know this condition.
        self.what_changed_is_not_copied().await
    }

    async fn what_is_not_there_is_absent(&self) -> Result<(), Broken> {
        let key = self.key("absent");
        let promise = "reading or replacing what is not there says that it is absent";
        check(promise, &self.store.get(&key, 10).await, is_absent)?;
        check(promise, &self.store.get_range(&key, 0..1, None).await, is_absent)?;
        check(promise, &self.store.open(&key, None).await, is_absent)?;
        let etag = self.create("for-its-etag", b"x").await?;
        check(promise, &self.store.put_if_match(&key, Bytes::from_static(b"x"), &etag).await, is_absent)?;
        let listed = self.list("absent").await?;
        ensure("an empty list is no error", listed.is_empty(), &listed)
    }

    async fn creating_is_exclusive(&self) -> Result<(), Broken> {
        let etag = self.create("slot", b"first").await?;
        let again = self.put_new("slot", b"second").await;
        check("creating what exists says so", &again, |again| {
            matches!(again, Err(StoreError::Exists { .. }))
        })?;
        let same = self.put_new("slot", b"first").await;
        check("also with the same bytes", &same, |same| matches!(same, Err(StoreError::Exists { .. })))?;
        let found = self.store.get(&self.key("slot"), 100).await;
        check("and changes nothing", &found, |found| {
            found.as_ref().is_ok_and(|found| found.bytes == b"first"[..] && found.etag == etag)
        })
    }

    async fn one_of_many_creators_wins(&self) -> Result<(), Broken> {
        let promise = "of many who create at once exactly one succeeds, and its bytes stay";
        let bodies: Vec<_> = (0..RACERS).map(|racer| format!("racer {racer}").into_bytes()).collect();
        let outcomes = join_all(bodies.iter().map(|body| self.put_new("race", body))).await;
        let winners: Vec<_> = outcomes.iter().zip(&bodies).filter(|(outcome, _)| outcome.is_ok()).collect();
        ensure(promise, winners.len() == 1, &outcomes)?;
        let is_loss = |outcome: &Result<ETag, StoreError>| match outcome {
            Ok(_) => true,
            Err(error) => matches!(error, StoreError::Exists { .. }) || error.is_retry(),
        };
        ensure(promise, outcomes.iter().all(is_loss), &outcomes)?;
        let found = self.store.get(&self.key("race"), 100).await;
        check(promise, &found, |found| {
            found.as_ref().is_ok_and(|found| winners.iter().all(|(_, body)| found.bytes == **body))
        })
    }

    async fn replacing_needs_the_right_etag(&self) -> Result<(), Broken> {
        let key = self.key("head");
        let first = self.create("head", b"1").await?;
        let promise = "replacing with the right ETag succeeds and gives a new one";
        let second = self.store.put_if_match(&key, Bytes::from_static(b"2"), &first).await;
        check(promise, &second, |second| second.as_ref().is_ok_and(|second| *second != first))?;
        let stale = self.store.put_if_match(&key, Bytes::from_static(b"3"), &first).await;
        check("replacing with a stale ETag is a lost race", &stale, is_lost)?;
        let found = self.store.get(&key, 10).await;
        check("and changes nothing", &found, |found| match (found, &second) {
            (Ok(found), Ok(second)) => found.bytes == b"2"[..] && found.etag == *second,
            (_, _) => false,
        })
    }

    async fn one_of_many_replacers_wins(&self) -> Result<(), Broken> {
        let promise = "of many who replace at once exactly one succeeds";
        let key = self.key("contended-head");
        let etag = self.create("contended-head", b"old").await?;
        let bodies: Vec<_> = (0..RACERS).map(|racer| Bytes::from(format!("racer {racer}"))).collect();
        let outcomes =
            join_all(bodies.iter().map(|body| self.store.put_if_match(&key, body.clone(), &etag))).await;
        let winners: Vec<_> = outcomes.iter().zip(&bodies).filter(|(outcome, _)| outcome.is_ok()).collect();
        ensure(promise, winners.len() == 1, &outcomes)?;
        let found = self.store.get(&key, 100).await;
        check(promise, &found, |found| {
            found.as_ref().is_ok_and(|found| winners.iter().all(|(_, body)| found.bytes == **body))
        })
    }

    async fn bytes_come_back_exactly(&self) -> Result<(), Broken> {
        let promise = "bytes come back exactly, whole, by ranges and as a stream";
        let large: Vec<u8> = (0..LARGE).map(|at| at.to_le_bytes()[at % 3]).collect();
        for (name, content) in [("empty", &[][..]), ("one", &[0][..]), ("large", &large)] {
            let etag = self.create(name, content).await?;
            self.reads_back(promise, name, content, &etag).await?;
        }
        let file = temporary_file(&large).map_err(|error| broken("this machine can write a file", &error))?;
        let body = Body::File { file: Arc::new(file), len: large.len() as u64 - 1 };
        for name in ["file", "the-same-file-again"] {
            let etag = self.store.put_new(&self.key(name), body.clone(), None).await;
            let etag = etag.map_err(|error| broken("a file is stored", &error))?;
            self.reads_back(promise, name, &large[..large.len() - 1], &etag).await?;
        }
        Ok(())
    }

    async fn reads_back(
        &self,
        promise: &'static str,
        name: &str,
        content: &[u8],
        etag: &ETag,
    ) -> Result<(), Broken> {
        let key = self.key(name);
        let size = content.len() as u64;
        let whole = self.store.get(&key, size).await.map_err(|error| broken(promise, &error))?;
        ensure(
            promise,
            whole.bytes == content && whole.etag == *etag,
            &(name, whole.bytes.len(), &whole.etag),
        )?;
        let mut opened = self.store.open(&key, Some(etag)).await.map_err(|error| broken(promise, &error))?;
        let mut bytes = Vec::new();
        opened.reader.read_to_end(&mut bytes).await.map_err(|error| broken(promise, &error))?;
        ensure(promise, bytes == content && opened.size == size, &(name, bytes.len(), opened.size))?;
        for range in [0..0, 0..size.min(1), size / 2..size, size.saturating_sub(24)..size] {
            let part = self.store.get_range(&key, range.clone(), Some(etag)).await;
            let part = part.map_err(|error| broken(promise, &error))?;
            let expected = content.iter().skip(to_index(range.start)).take(to_index(range.end - range.start));
            ensure(promise, part.iter().eq(expected), &(name, range, part.len()))?;
        }
        Ok(())
    }

    async fn reads_are_bounded_and_conditional(&self) -> Result<(), Broken> {
        let key = self.key("read");
        let stale = self.create("read", b"old!").await?;
        let large = self.store.get(&key, 3).await;
        check("an object larger than the limit is not read", &large, |large| {
            matches!(large, Err(StoreError::TooLarge { size: 4, max: 3, .. }))
        })?;
        let beyond = self.store.get_range(&key, 2..6, None).await;
        let promise = "a range beyond the end is not passed off as a whole one";
        check(promise, &beyond, |beyond| matches!(beyond, Err(StoreError::Mangled { .. })))?;
        let beyond = self.store.get_range(&key, 5..6, None).await;
        check(promise, &beyond, |beyond| matches!(beyond, Err(StoreError::Mangled { .. })))?;
        let replaced = self.store.put_if_match(&key, Bytes::from_static(b"new!"), &stale).await;
        check("replacing succeeds", &replaced, Result::is_ok)?;
        let promise = "reading with a stale ETag is a lost race";
        check(promise, &self.store.get_range(&key, 0..1, Some(&stale)).await, is_lost)?;
        check(promise, &self.store.open(&key, Some(&stale)).await, is_lost)
    }

    async fn lists_are_complete(&self) -> Result<(), Broken> {
        let names: Vec<_> = (0..LISTED).map(|number| format!("many/{number:04x}")).collect();
        let created: Vec<ETag> = stream::iter(names.iter().map(|name| self.create(name, b"seven b")))
            .buffered(RACERS)
            .try_collect()
            .await?;
        self.create("many-others", b"").await?;
        let expected: Vec<_> = names
            .iter()
            .zip(created)
            .map(|(name, etag)| Listed { key: self.key(name), size: 7, etag, modified_ms: None })
            .collect();
        let listed = undated(self.list("many/").await?);
        ensure("a list shows every stored object, by key", listed == expected, &listed.len())?;
        let some = self.list("many/000").await?;
        ensure("a prefix may end within a name", some.len() == 16, &some)?;
        let (prefix, after) = (self.key("many/"), self.key("many/0009"));
        let later = self.store.list_after(&prefix, &after).await;
        let later = later.map_err(|error| broken("listing from a key on succeeds", &error))?;
        let later = undated(later);
        let is_rest = expected.get(10..).is_some_and(|rest| rest == later);
        ensure("a list may begin after a key", is_rest, &later.len())?;
        let all = self.list("many").await?;
        ensure("and need not end with a slash", all.len() == expected.len() + 1, &all.len())
    }

    async fn copies_are_whole(&self) -> Result<(), Broken> {
        let promise = "a copy has the bytes of its source, and stays when the source goes";
        let content: Vec<u8> = (0..LARGE).map(|at| at.to_le_bytes()[at % 3]).collect();
        let etag = self.create("folder/source", &content).await?;
        let source =
            Listed { key: self.key("folder/source"), size: content.len() as u64, etag, modified_ms: None };
        let copied = self.store.copy_new(&source, &self.key("another/copy")).await;
        let copied = copied.map_err(|error| broken(promise, &error))?;
        self.reads_back(promise, "another/copy", &content, &copied).await?;
        self.reads_back(promise, "folder/source", &content, &source.etag).await?;
        let listed = self.list("another/copy").await?;
        let is_listed = listed.iter().all(|listed| listed.etag == copied && listed.size == source.size);
        ensure(promise, is_listed && listed.len() == 1, &listed)?;
        let gone = self.store.delete(std::slice::from_ref(&source.key)).await;
        check(promise, &gone, Result::is_ok)?;
        self.reads_back(promise, "another/copy", &content, &copied).await?;
        let absent = self.store.copy_new(&source, &self.key("another/none")).await;
        check("what is not there is not copied", &absent, is_absent)?;
        let none = self.list("another/none").await?;
        ensure("and leaves nothing", none.is_empty(), &none)
    }

    async fn what_changed_is_not_copied(&self) -> Result<(), Broken> {
        let etag = self.create("changing-source", b"old").await?;
        let source =
            Listed { key: self.key("changing-source"), size: 3, etag: etag.clone(), modified_ms: None };
        let replaced = self.store.put_if_match(&source.key, Bytes::from_static(b"new"), &etag).await;
        check("replacing succeeds", &replaced, Result::is_ok)?;
        let stale = self.store.copy_new(&source, &self.key("copy-of-what-changed")).await;
        check(STALE_COPY, &stale, is_lost)?;
        let none = self.list("copy-of-what-changed").await?;
        ensure("and leaves nothing", none.is_empty(), &none)
    }

    async fn deleting_deletes(&self) -> Result<(), Broken> {
        let promise = "deleted objects are gone, others stay, and deleting twice is fine";
        self.create("gone", b"x").await?;
        self.create("stays", b"x").await?;
        let keys = [self.key("gone"), self.key("was-never-there"), self.key("no-folder/x")];
        for _ in 0..2 {
            check(promise, &self.store.delete(&keys).await, Result::is_ok)?;
            check(promise, &self.store.get(&self.key("gone"), 10).await, is_absent)?;
        }
        check(promise, &self.store.get(&self.key("stays"), 10).await, Result::is_ok)?;
        self.create("gone", b"again").await.map(|_| ())
    }

    async fn clean_up(&self) -> Result<(), Broken> {
        let keys: Vec<_> = self.list("").await?.into_iter().map(|listed| listed.key).collect();
        self.store.delete(&keys).await.map_err(|error| broken("deleting succeeds", &error))?;
        let left = self.list("").await?;
        ensure("a list after deleting is empty", left.is_empty(), &left)
    }

    fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.prefix)
    }

    async fn put_new(&self, name: &str, content: &[u8]) -> Result<ETag, StoreError> {
        let body = Body::from(content.to_vec());
        self.store.put_new(&self.key(name), body, Some(1_700_000_000_123)).await
    }

    /// Creates, and tries again when the store is busy, as every caller does.
    async fn create(&self, name: &str, content: &[u8]) -> Result<ETag, Broken> {
        let begin = Instant::now();
        loop {
            match self.put_new(name, content).await {
                Ok(etag) => return Ok(etag),
                Err(error) if error.is_retry() && begin.elapsed() < PATIENCE => {}
                Err(error) => return Err(broken("creating succeeds", &error)),
            }
        }
    }

    async fn list(&self, name: &str) -> Result<Vec<Listed>, Broken> {
        self.store.list(&self.key(name)).await.map_err(|error| broken("listing succeeds", &error))
    }
}

/// When something was stored is the store's to say.
fn undated(listed: Vec<Listed>) -> Vec<Listed> {
    listed.into_iter().map(|listed| Listed { modified_ms: None, ..listed }).collect()
}

fn is_absent<T>(outcome: &Result<T, StoreError>) -> bool {
    outcome.as_ref().is_err_and(StoreError::is_absent)
}

fn is_lost<T>(outcome: &Result<T, StoreError>) -> bool {
    matches!(outcome, Err(StoreError::LostRace { .. }))
}

fn check<T: Debug>(promise: &'static str, found: &T, is_kept: impl FnOnce(&T) -> bool) -> Result<(), Broken> {
    ensure(promise, is_kept(found), found)
}

fn ensure(promise: &'static str, is_kept: bool, found: &dyn Debug) -> Result<(), Broken> {
    if is_kept { Ok(()) } else { Err(Broken { promise, found: format!("{found:?}") }) }
}

fn broken(promise: &'static str, error: &dyn std::fmt::Display) -> Broken {
    Broken { promise, found: error.to_string() }
}

fn to_index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn temporary_file(content: &[u8]) -> std::io::Result<std::fs::File> {
    let mut file = tempfile::tempfile()?;
    std::io::Write::write_all(&mut file, content)?;
    Ok(file)
}

fn random() -> Result<u64, Broken> {
    let mut bytes = [0; 8];
    let filled = getrandom::fill(&mut bytes);
    filled.map_err(|error| broken("this machine has random numbers", &error))?;
    Ok(u64::from_le_bytes(bytes))
}

const RACERS: usize = 32;
/// More than one page of a list.
const LISTED: usize = 1100;
const LARGE: usize = 3_000_001;
const PATIENCE: Duration = Duration::from_secs(30);
