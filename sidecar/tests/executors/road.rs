//! The way of one process to the bucket: every request is on its way on its own, and arrives also when its sender is gone.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lifeboat_replica::layout::Level;
use lifeboat_store::{Body, ETag, Listed, Object, ObjectReader, Place, Store, StoreError, Upload};
use tokio::time::sleep;

use crate::world::{Fate, LAYOUT, Lie, State, Stored, World, entry};

/// A road.
#[derive(Clone, Debug)]
pub(crate) struct Road {
    pub(crate) world: Arc<World>,
    /// Whose it is.
    pub(crate) who: usize,
}

impl Road {
    /// Sends a request; `effect` is what it does when it arrives.
    async fn ask<T: Send + 'static>(
        &self,
        what: String,
        effect: impl FnOnce(&mut State) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (fate, there, back, late) = self.world.state().draw();
        match fate {
            Fate::Answered => {
                let arrived = tokio::spawn(self.clone().arrive(what.clone(), there, effect)).await;
                sleep(back).await;
                arrived.unwrap_or_else(|_| Err(self.no_answer(&what)))
            }
            Fate::Unheard => {
                drop(tokio::spawn(self.clone().arrive(what.clone(), there, effect)));
                sleep(GIVEN_UP).await;
                Err(self.no_answer(&what))
            }
            Fate::Late => {
                drop(tokio::spawn(self.clone().arrive(what.clone(), GIVEN_UP + late, effect)));
                sleep(GIVEN_UP).await;
                Err(self.no_answer(&what))
            }
            Fate::Lost => {
                sleep(GIVEN_UP).await;
                Err(self.no_answer(&what))
            }
            Fate::Busy => {
                sleep(there).await;
                let (place, reason) = (place(&what), "slow down".to_owned());
                Err(StoreError::Busy { place, reason, retry_after: None })
            }
        }
    }

    async fn arrive<T>(
        self,
        what: String,
        after: Duration,
        effect: impl FnOnce(&mut State) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        sleep(after).await;
        let answer = effect(&mut self.world.state());
        let came = match &answer {
            Ok(_) => "done".to_owned(),
            Err(error) => error.to_string(),
        };
        self.world.say(&format!("{} {what}: {came}", self.who));
        answer
    }

    fn no_answer(&self, what: &str) -> StoreError {
        self.world.say(&format!("{} {what}: nobody answers", self.who));
        StoreError::Unreachable { place: place(what), reason: "no answer".to_owned() }
    }

    /// What a write does, and whether it may.
    fn create(&self, key: &str, bytes: Bytes) -> impl FnOnce(&mut State) -> Result<ETag, StoreError> + use<> {
        let (world, key) = (Arc::clone(&self.world), key.to_owned());
        move |state| {
            if state.objects.contains_key(&key) && world.lie != Some(Lie::Overwrites) {
                return Err(StoreError::Exists { place: place(&key) });
            }
            written(&world, state, &key, bytes)
        }
    }
}

/// An object is written, and what that means is looked at in the same moment.
fn written(world: &World, state: &mut State, key: &str, bytes: Bytes) -> Result<ETag, StoreError> {
    let version = state.put(key, bytes.clone());
    let slot = LAYOUT.parse_file_key(Level::CAPTURED, key);
    let outcome = match slot {
        Some(name) => state.truth.created(name.max().get(), &bytes),
        None if key == LAYOUT.head_key() => state.truth.headed(&bytes),
        None => Ok(()),
    };
    let outcome = outcome.and_then(|()| state.restorable());
    state.require(world.now_ms(), outcome);
    Ok(ETag::new(version.to_string()))
}

fn object<'s>(state: &'s State, key: &str, if_match: Option<&ETag>) -> Result<&'s Stored, StoreError> {
    let stored = state.objects.get(key).ok_or_else(|| StoreError::Absent { place: place(key) })?;
    match if_match {
        Some(etag) if etag.as_str() != stored.version.to_string() => {
            Err(StoreError::LostRace { place: place(key) })
        }
        Some(_) | None => Ok(stored),
    }
}

fn etag(stored: &Stored) -> ETag {
    ETag::new(stored.version.to_string())
}

fn place(key: &str) -> Place {
    Place { key: key.to_owned(), store: "the world".into() }
}

fn in_parts() -> StoreError {
    StoreError::Refused { place: place(""), reason: "nothing is sent in parts here".to_owned() }
}

#[async_trait]
impl Store for Road {
    async fn put_new(&self, key: &str, body: Body, _: Option<i64>) -> Result<ETag, StoreError> {
        let Body::Bytes(bytes) = body else { return Err(in_parts()) };
        let answer = self.ask(format!("creates {key}"), self.create(key, bytes)).await;
        match answer {
            Err(StoreError::Unreachable { .. }) if self.world.lie == Some(Lie::AnswersForLost) => {
                Ok(ETag::new("0"))
            }
            answer => answer,
        }
    }

    async fn begin_parts(&self, _: &str, _: u64, _: Option<i64>) -> Result<Upload, StoreError> {
        Err(in_parts())
    }

    async fn put_part(&self, _: &Upload, _: u32, _: Bytes) -> Result<ETag, StoreError> {
        Err(in_parts())
    }

    async fn complete_new(&self, _: &Upload, _: &[ETag]) -> Result<ETag, StoreError> {
        Err(in_parts())
    }

    async fn abandon(&self, _: &Upload) -> Result<(), StoreError> {
        Err(in_parts())
    }

    async fn unfinished(&self, _: &str) -> Result<Vec<Upload>, StoreError> {
        Ok(Vec::new())
    }

    async fn copy_new(&self, from: &Listed, to: &str) -> Result<ETag, StoreError> {
        let (world, from, key) = (Arc::clone(&self.world), from.clone(), to.to_owned());
        self.ask(format!("copies {} to {to}", from.key), move |state| {
            let bytes = object(state, &from.key, Some(&from.etag))?.bytes.clone();
            written(&world, state, &key, bytes)
        })
        .await
    }

    async fn put_if_match(&self, key: &str, body: Bytes, expected: &ETag) -> Result<ETag, StoreError> {
        let (world, key, expected) = (Arc::clone(&self.world), key.to_owned(), expected.clone());
        self.ask(format!("replaces {key}"), move |state| {
            let expected = Some(&expected).filter(|_| world.lie != Some(Lie::ForgetsConditions));
            object(state, &key, expected)?;
            written(&world, state, &key, body)
        })
        .await
    }

    async fn get(&self, key: &str, _: u64) -> Result<Object, StoreError> {
        let wanted = key.to_owned();
        self.ask(format!("reads {key}"), move |state| {
            let stored = object(state, &wanted, None)?;
            Ok(Object { bytes: stored.bytes.clone(), etag: etag(stored) })
        })
        .await
    }

    async fn get_range(
        &self,
        key: &str,
        range: Range<u64>,
        if_match: Option<&ETag>,
    ) -> Result<Bytes, StoreError> {
        let (wanted, if_match) = (key.to_owned(), if_match.cloned());
        self.ask(format!("reads {range:?} of {key}"), move |state| {
            let stored = object(state, &wanted, if_match.as_ref())?;
            let [from, to] = [range.start, range.end].map(|place| usize::try_from(place).unwrap());
            let reason = "it has not that many bytes".to_owned();
            let bytes = stored.bytes.get(from..to).map(Bytes::copy_from_slice);
            bytes.ok_or_else(|| StoreError::Mangled { place: place(&wanted), reason })
        })
        .await
    }

    async fn open(&self, key: &str, if_match: Option<&ETag>) -> Result<ObjectReader, StoreError> {
        let (wanted, if_match) = (key.to_owned(), if_match.cloned());
        self.ask(format!("opens {key}"), move |state| {
            let is_cut = state.dice.percent(state.rough / 2);
            let stored = object(state, &wanted, if_match.as_ref())?;
            let (size, etag) = (stored.bytes.len() as u64, etag(stored));
            let whole = stored.bytes.clone();
            let broken = || Err(io::Error::other("the connection broke"));
            let half = whole.slice(..whole.len() / 2);
            let pieces = if is_cut { vec![Ok(half), broken()] } else { vec![Ok(whole)] };
            let reader = Box::pin(tokio_util::io::StreamReader::new(futures::stream::iter(pieces)));
            Ok(ObjectReader { size, etag, reader })
        })
        .await
    }

    async fn list_after(&self, prefix: &str, after: &str) -> Result<Vec<Listed>, StoreError> {
        let (below, last) = (prefix.to_owned(), after.to_owned());
        let listed = self.ask(format!("lists {prefix} after '{after}'"), move |state| {
            let there = state.objects.iter().filter(|(key, _)| key.starts_with(&below) && **key > last);
            let line = |(key, stored): (&String, &Stored)| {
                let size = stored.bytes.len() as u64;
                Listed { key: key.clone(), size, etag: etag(stored), modified_ms: None }
            };
            Ok(there.map(line).collect())
        });
        match listed.await {
            Err(_) if self.world.lie == Some(Lie::ListsNothing) => Ok(Vec::new()),
            listed => listed,
        }
    }

    /// Not all of a batch that fails is still there.
    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        let (world, keys) = (Arc::clone(&self.world), keys.to_owned());
        self.ask(format!("deletes {keys:?}"), move |state| {
            let is_broken_off = state.dice.percent(state.rough);
            let end = if is_broken_off { keys.len() / 2 } else { keys.len() };
            for key in &keys[..end] {
                let Some(stored) = state.objects.remove(key) else { continue };
                let allowed = entry(key, &stored).map_or(Ok(()), |file| {
                    state.truth.deleted(file.level.get(), file.max.get(), stored.bytes.len())
                });
                state.reached.deleted += 1;
                let outcome = allowed.and_then(|()| state.restorable());
                state.require(world.now_ms(), outcome);
            }
            if is_broken_off {
                let reason = "the rest of the batch failed".to_owned();
                return Err(StoreError::Busy { place: place(""), reason, retry_after: None });
            }
            Ok(())
        })
        .await
    }

    fn describe(&self) -> String {
        "the world's bucket".to_owned()
    }
}

/// After so long nobody waits for an answer any more.
const GIVEN_UP: Duration = Duration::from_secs(2);
