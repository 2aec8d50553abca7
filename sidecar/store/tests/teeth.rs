//! Can the conformance suite fail? For every promise a store that breaks it, which the suite must find out.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "each method breaks its own promises and keeps the others"
)]

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use lifeboat_store::check::{self, Ability, RACERS, can_fence};
use lifeboat_store::{
    Body, Directory, ETag, Listed, Object, ObjectReader, Place, Store, StoreError, Upload,
    completes_exclusively, conformance,
};

/// A promise to break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    None,
    CreateOverwrites,
    CreateOverwritesInARace,
    ReplaceIgnoresTheETag,
    ReplaceCreates,
    ReplaceKeepsTheOld,
    ReadIgnoresTheETag,
    ReadIgnoresTheLimit,
    RangeIsTooLong,
    RangeIsClipped,
    AbsentIsRefused,
    LastByteIsLost,
    ListIsCut,
    ListIsUnordered,
    ListForgetsTheName,
    DeleteDoesNothing,
    DeleteWantsTheObject,
    CompleteOverwrites,
    CompleteForgetsTheLastPart,
    CompleteTakesTheFirstOfTwo,
    AbandonDoesNothing,
    UnfinishedIsForgotten,
    UnfinishedIgnoresThePrefix,
    CopyIsEmpty,
    CopyIgnoresTheETag,
    CopyTakesTheSource,
    ListAfterShowsAll,
}

const LIES: [Lie; 26] = [
    Lie::CreateOverwrites,
    Lie::CreateOverwritesInARace,
    Lie::ReplaceIgnoresTheETag,
    Lie::ReplaceCreates,
    Lie::ReplaceKeepsTheOld,
    Lie::ReadIgnoresTheETag,
    Lie::ReadIgnoresTheLimit,
    Lie::RangeIsTooLong,
    Lie::RangeIsClipped,
    Lie::AbsentIsRefused,
    Lie::LastByteIsLost,
    Lie::ListIsCut,
    Lie::ListIsUnordered,
    Lie::ListForgetsTheName,
    Lie::DeleteDoesNothing,
    Lie::DeleteWantsTheObject,
    Lie::CompleteOverwrites,
    Lie::CompleteForgetsTheLastPart,
    Lie::CompleteTakesTheFirstOfTwo,
    Lie::AbandonDoesNothing,
    Lie::UnfinishedIsForgotten,
    Lie::UnfinishedIgnoresThePrefix,
    Lie::CopyIsEmpty,
    Lie::CopyIgnoresTheETag,
    Lie::CopyTakesTheSource,
    Lie::ListAfterShowsAll,
];

#[derive(Debug)]
struct Liar {
    honest: Directory,
    lie: Lie,
    /// Parts that were sent already, by upload and number.
    sent: Mutex<BTreeSet<(String, u32)>>,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_finds_every_broken_promise() {
    for lie in LIES {
        let (_folder, store) = liar(lie).await;
        let broken = conformance::run(&store).await;
        assert!(broken.is_err(), "{lie:?} was not found out");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_finds_nothing_wrong_with_an_honest_store() {
    let (_folder, store) = liar(Lie::None).await;
    conformance::run(&store).await.unwrap();
}

#[tokio::test]
async fn the_probe_believes_only_a_store_that_respects_what_is_there() {
    for (lie, expected) in
        [(Lie::None, true), (Lie::CompleteOverwrites, false), (Lie::AbandonDoesNothing, true)]
    {
        let (_folder, store) = liar(lie).await;
        for _ in 0..2 {
            assert_eq!(completes_exclusively(&store, "probe").await.unwrap(), expected, "{lie:?}");
            assert!(store.list("").await.unwrap().is_empty(), "{lie:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_check_names_what_a_store_cannot_do_and_leaves_nothing() {
    let cannot = [
        (Lie::None, &[][..]),
        (Lie::CreateOverwrites, &[Ability::CreateOnce, Ability::CreateRace][..]),
        (Lie::CreateOverwritesInARace, &[Ability::CreateRace]),
        (Lie::ReplaceIgnoresTheETag, &[Ability::ReplaceStale, Ability::ReplaceRace]),
        (Lie::ReplaceCreates, &[Ability::ReplaceAbsent]),
        (Lie::ReplaceKeepsTheOld, &[Ability::ReplaceStale, Ability::ReplaceRace]),
        (Lie::ReadIgnoresTheETag, &[Ability::ReadStale]),
        (Lie::RangeIsTooLong, &[Ability::ReadRange]),
        (Lie::ListIsCut, &[Ability::List]),
        (Lie::ListIsUnordered, &[Ability::List]),
        (Lie::CompleteOverwrites, &[Ability::PartsOnce]),
        (Lie::DeleteDoesNothing, &[Ability::PartsOnce, Ability::Delete]),
    ];
    for (lie, expected) in cannot {
        let (_folder, store) = liar(lie).await;
        let store = Arc::new(store);
        let racers: Vec<_> = (0..RACERS).map(|_| store.clone() as Arc<dyn Store>).collect();
        let findings = check::run(&*store, &racers, "scratch-").await.unwrap();
        let missing: Vec<_> = findings
            .iter()
            .filter(|finding| finding.instead.is_some())
            .map(|finding| finding.ability)
            .collect();
        assert_eq!(missing, expected, "{lie:?}: {findings:?}");
        assert_eq!(can_fence(&findings), expected.iter().all(|ability| !ability.is_needed()), "{lie:?}");
        let left = store.honest.list("").await.unwrap();
        assert!(left.is_empty() || lie == Lie::DeleteDoesNothing, "{lie:?}: {left:?}");
    }
}

async fn liar(lie: Lie) -> (tempfile::TempDir, Liar) {
    let folder = tempfile::tempdir().unwrap();
    let honest = Directory::create(folder.path().into()).await.unwrap();
    (folder, Liar { honest, lie, sent: Mutex::default() })
}

impl Liar {
    fn lies(&self, lie: Lie) -> bool {
        self.lie == lie
    }

    async fn overwrite(&self, key: &str, body: Body) -> Result<ETag, StoreError> {
        loop {
            self.honest.delete(&[key.to_owned()]).await?;
            match self.honest.put_new(key, body.clone(), None).await {
                Err(StoreError::Exists { .. }) => {} // another one overwrote it in between
                outcome => return outcome,
            }
        }
    }

    fn refused(&self, key: &str) -> StoreError {
        let place = Place { key: key.into(), store: self.describe().into() };
        StoreError::Refused { place, reason: "404".into() }
    }
}

#[async_trait]
impl Store for Liar {
    async fn put_new(&self, key: &str, body: Body, timestamp_ms: Option<i64>) -> Result<ETag, StoreError> {
        let is_race = self.lies(Lie::CreateOverwritesInARace) && key.contains("race");
        if self.lies(Lie::CreateOverwrites) || is_race {
            return self.overwrite(key, body).await;
        }
        let body = match body {
            Body::Bytes(bytes) if self.lies(Lie::LastByteIsLost) && bytes.len() > 1_000_000 => {
                Body::Bytes(bytes.slice(..bytes.len() - 1))
            }
            body => body,
        };
        self.honest.put_new(key, body, timestamp_ms).await
    }

    async fn begin_parts(
        &self,
        key: &str,
        part_bytes: u64,
        timestamp_ms: Option<i64>,
    ) -> Result<Upload, StoreError> {
        self.honest.begin_parts(key, part_bytes, timestamp_ms).await
    }

    async fn put_part(&self, upload: &Upload, number: u32, bytes: Bytes) -> Result<ETag, StoreError> {
        let is_second = !self.sent.lock().unwrap().insert((upload.id.clone(), number));
        if self.lies(Lie::CompleteTakesTheFirstOfTwo) && is_second {
            return Ok(ETag::new(bytes.len().to_string()));
        }
        self.honest.put_part(upload, number, bytes).await
    }

    async fn complete_new(&self, upload: &Upload, parts: &[ETag]) -> Result<ETag, StoreError> {
        if self.lies(Lie::CompleteOverwrites) {
            self.honest.delete(std::slice::from_ref(&upload.key)).await?;
        }
        let etag = self.honest.complete_new(upload, parts).await?;
        if self.lies(Lie::CompleteForgetsTheLastPart) && parts.len() > 1 {
            let whole = self.honest.get(&upload.key, u64::MAX).await?.bytes;
            return self.overwrite(&upload.key, Body::Bytes(whole.slice(..whole.len() - 1000))).await;
        }
        Ok(etag)
    }

    async fn abandon(&self, upload: &Upload) -> Result<(), StoreError> {
        if self.lies(Lie::AbandonDoesNothing) { Ok(()) } else { self.honest.abandon(upload).await }
    }

    async fn unfinished(&self, prefix: &str) -> Result<Vec<Upload>, StoreError> {
        match self.lie {
            Lie::UnfinishedIsForgotten => Ok(Vec::new()),
            Lie::UnfinishedIgnoresThePrefix => {
                let folder =
                    prefix.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
                self.honest.unfinished(&folder).await
            }
            _ => self.honest.unfinished(prefix).await,
        }
    }

    async fn copy_new(&self, from: &Listed, to: &str) -> Result<ETag, StoreError> {
        if self.lies(Lie::CopyIsEmpty) {
            return self.honest.put_new(to, Body::from(Vec::new()), None).await;
        }
        let mut from = from.clone();
        if self.lies(Lie::CopyIgnoresTheETag) {
            from.etag = self.honest.open(&from.key, None).await?.etag;
        }
        let copied = self.honest.copy_new(&from, to).await?;
        if self.lies(Lie::CopyTakesTheSource) {
            self.honest.delete(std::slice::from_ref(&from.key)).await?;
        }
        Ok(copied)
    }

    async fn put_if_match(&self, key: &str, body: Bytes, expected: &ETag) -> Result<ETag, StoreError> {
        match self.honest.put_if_match(key, body.clone(), expected).await {
            Err(StoreError::LostRace { .. }) if self.lies(Lie::ReplaceIgnoresTheETag) => {
                self.overwrite(key, body.into()).await
            }
            Err(StoreError::Absent { .. }) if self.lies(Lie::ReplaceCreates) => {
                self.overwrite(key, body.into()).await
            }
            Err(StoreError::LostRace { .. }) if self.lies(Lie::ReplaceKeepsTheOld) => Ok(expected.clone()),
            outcome => outcome,
        }
    }

    async fn get(&self, key: &str, max_bytes: u64) -> Result<Object, StoreError> {
        let max_bytes = if self.lies(Lie::ReadIgnoresTheLimit) { u64::MAX } else { max_bytes };
        match self.honest.get(key, max_bytes).await {
            Err(StoreError::Absent { .. }) if self.lies(Lie::AbsentIsRefused) => Err(self.refused(key)),
            outcome => outcome,
        }
    }

    async fn get_range(
        &self,
        key: &str,
        range: Range<u64>,
        if_match: Option<&ETag>,
    ) -> Result<Bytes, StoreError> {
        let if_match = if_match.filter(|_| !self.lies(Lie::ReadIgnoresTheETag));
        let size = self.honest.open(key, if_match).await?.size;
        let range = match self.lie {
            Lie::RangeIsTooLong => range.start..(range.end + 1).min(size),
            Lie::RangeIsClipped => range.start.min(size)..range.end.min(size),
            _ => range,
        };
        self.honest.get_range(key, range, if_match).await
    }

    async fn open(&self, key: &str, if_match: Option<&ETag>) -> Result<ObjectReader, StoreError> {
        self.honest.open(key, if_match).await
    }

    async fn list_after(&self, prefix: &str, after: &str) -> Result<Vec<Listed>, StoreError> {
        let after = if self.lies(Lie::ListAfterShowsAll) { "" } else { after };
        let mut listed = self.honest.list_after(prefix, after).await?;
        match self.lie {
            Lie::ListIsCut => listed.truncate(1000),
            Lie::ListIsUnordered => listed.reverse(),
            Lie::ListForgetsTheName => {
                let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
                listed = self.honest.list(&format!("{folder}/")).await?;
            }
            _ => {}
        }
        Ok(listed)
    }

    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        for key in keys {
            if self.lies(Lie::DeleteWantsTheObject) {
                self.honest.get(key, u64::MAX).await?;
            }
        }
        if self.lies(Lie::DeleteDoesNothing) { Ok(()) } else { self.honest.delete(keys).await }
    }

    fn describe(&self) -> String {
        self.honest.describe()
    }
}
