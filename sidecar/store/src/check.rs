//! Whether a store can be trusted with a replica: every ability we rely on, tried on scratch keys that are removed again.
//!
//! In:  a store, further connections to it, and a prefix that nobody else uses.
//! Out: a [`Finding`] for each [`Ability`]. A store that does not answer, or lets nobody in, is an error: nothing was found
//!      out about it.
//!
//! Unlike [`crate::conformance`], which stops at the first broken promise of an implementation, this looks at all of
//! them and speaks to whoever chose the server.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt, stream};

use crate::error::StoreError;
use crate::probe::completes_exclusively;
use crate::store::{Body, ETag, Store};

/// How many writers race for one key.
pub const RACERS: usize = 32;

/// Something a store must be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ability {
    /// Create an object.
    Create,
    /// Refuse to create it again.
    CreateOnce,
    /// Let one of many win who create it at once.
    CreateRace,
    /// Replace an object that is still the expected one.
    Replace,
    /// Refuse to replace one that has changed.
    ReplaceStale,
    /// Refuse to replace one that is not there.
    ReplaceAbsent,
    /// Let one of many win who replace it at once.
    ReplaceRace,
    /// Refuse to read one that has changed.
    ReadStale,
    /// Read exactly the bytes that were asked for.
    ReadRange,
    /// List what was just stored, all of it.
    List,
    /// Refuse to put parts together where something stands.
    PartsOnce,
    /// Delete.
    Delete,
}

impl Ability {
    /// Every ability, in the order in which they are tried.
    pub const ALL: [Self; 12] = [
        Self::Create,
        Self::CreateOnce,
        Self::CreateRace,
        Self::Replace,
        Self::ReplaceStale,
        Self::ReplaceAbsent,
        Self::ReplaceRace,
        Self::ReadStale,
        Self::ReadRange,
        Self::List,
        Self::PartsOnce,
        Self::Delete,
    ];

    /// Its name for scripts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::CreateOnce => "create-once",
            Self::CreateRace => "create-race",
            Self::Replace => "replace",
            Self::ReplaceStale => "replace-stale",
            Self::ReplaceAbsent => "replace-absent",
            Self::ReplaceRace => "replace-race",
            Self::ReadStale => "read-stale",
            Self::ReadRange => "read-range",
            Self::List => "list",
            Self::PartsOnce => "parts-once",
            Self::Delete => "delete",
        }
    }

    /// What was tried, for people.
    #[must_use]
    pub const fn tried(self) -> &'static str {
        match self {
            Self::Create => "creates an object",
            Self::CreateOnce => "refuses to create it again",
            Self::CreateRace => "lets one win of 32 that create it at once",
            Self::Replace => "replaces an object that is the expected one",
            Self::ReplaceStale => "refuses to replace one that has changed",
            Self::ReplaceAbsent => "refuses to replace one that is not there",
            Self::ReplaceRace => "lets one win of 32 that replace it at once",
            Self::ReadStale => "refuses to read one that has changed",
            Self::ReadRange => "reads exactly the bytes asked for",
            Self::List => "lists what was just stored, over several pages",
            Self::PartsOnce => "refuses to put parts together where something stands",
            Self::Delete => "deletes",
        }
    }

    /// What it means for the user when a store cannot do it.
    #[must_use]
    pub const fn without_it(self) -> &'static str {
        match self {
            Self::Create => "nothing can be stored here",
            Self::CreateOnce | Self::CreateRace => {
                "two writers would overwrite each other's commits, and nobody would notice"
            }
            Self::Replace => "nobody could take this replica over",
            Self::ReplaceStale | Self::ReplaceAbsent | Self::ReplaceRace => {
                "two processes could both believe that they are the one writer"
            }
            Self::ReadStale | Self::ReadRange => "a restore could mix the bytes of two files",
            Self::List => "a restore could miss the newest commits",
            Self::PartsOnce => {
                "large slots are written to the local disk first and sent at once: have room for the whole database there"
            }
            Self::Delete => {
                "nothing that is no longer needed can be removed, and what this check made is still there"
            }
        }
    }

    /// Whether one writer at a time cannot be guaranteed without it.
    #[must_use]
    pub const fn is_needed(self) -> bool {
        !matches!(self, Self::PartsOnce | Self::Delete)
    }
}

/// What came of trying an ability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was tried.
    pub ability: Ability,
    /// What the store did instead; `None` when it can.
    pub instead: Option<String>,
}

/// Whether a store with these findings can guarantee one writer at a time.
#[must_use]
pub fn can_fence(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.instead.is_none() || !finding.ability.is_needed())
}

/// Tries every ability below the prefix `scratch`. Each of `racers` should be a connection of its own.
///
/// # Errors
/// When the store does not answer or lets nobody in. What was made is deleted all the same, if it can be.
pub async fn run(
    store: &dyn Store,
    racers: &[Arc<dyn Store>],
    scratch: &str,
) -> Result<Vec<Finding>, StoreError> {
    let check = Check { store, racers, scratch, made: Mutex::default() };
    let tried = check.try_all().await;
    let deleted = check.clean_up().await;
    let mut findings = tried?;
    findings.push(Finding { ability: Ability::Delete, instead: deleted? });
    Ok(findings)
}

struct Check<'a> {
    store: &'a dyn Store,
    racers: &'a [Arc<dyn Store>],
    scratch: &'a str,
    /// Every key that something may stand under.
    made: Mutex<Vec<String>>,
}

/// What the store did instead, if it did not do the right thing.
type Tried = Result<Option<String>, StoreError>;

impl Check<'_> {
    async fn try_all(&self) -> Result<Vec<Finding>, StoreError> {
        let mut findings = Vec::new();
        for ability in Ability::ALL.into_iter().filter(|ability| *ability != Ability::Delete) {
            findings.push(Finding { ability, instead: self.try_patiently(ability).await? });
            // Without that all others would only say the same.
            if ability == Ability::Create && findings.iter().any(|finding| finding.instead.is_some()) {
                break;
            }
        }
        Ok(findings)
    }

    /// A busy store is asked again, on fresh keys.
    async fn try_patiently(&self, ability: Ability) -> Tried {
        let mut attempt = 1;
        loop {
            match self.attempt(ability).await {
                Err(error) if error.is_retry() && attempt < ATTEMPTS => {
                    tracing::debug!("{}: {error}; trying again", ability.name());
                    tokio::time::sleep(PAUSE * attempt).await;
                    attempt += 1;
                }
                // Whoever says so again and again to the only one who writes does not mean that others write.
                Err(error @ StoreError::Conflict { .. }) => return Ok(Some(error.to_string())),
                outcome => return outcome,
            }
        }
    }

    async fn attempt(&self, ability: Ability) -> Tried {
        match ability {
            Ability::Create => match self.create("create", FIRST).await {
                Ok(_) => Ok(None),
                Err(error) => said(error),
            },
            Ability::CreateOnce => self.create_once().await,
            Ability::CreateRace => self.create_race().await,
            Ability::Replace => self.replace().await,
            Ability::ReplaceStale => self.replace_stale().await,
            Ability::ReplaceAbsent => self.replace_absent().await,
            Ability::ReplaceRace => self.replace_race().await,
            Ability::ReadStale => self.read_stale().await,
            Ability::ReadRange => self.read_range().await,
            Ability::List => self.list().await,
            Ability::PartsOnce => match completes_exclusively(self.store, &self.fresh("parts")).await {
                Ok(true) => Ok(None),
                Ok(false) => Ok(Some("it overwrote what stood there, or takes no parts".to_owned())),
                Err(error) => said(error),
            },
            Ability::Delete => Ok(None),
        }
    }

    async fn create_once(&self) -> Tried {
        let (key, _) = self.create("once", FIRST).await?;
        let again = self.store.put_new(&key, Body::from(SECOND.to_vec()), None).await;
        let refused = must_be(again, |error| matches!(error, StoreError::Exists { .. }), "it did")?;
        if refused.is_some() { Ok(refused) } else { self.still_holds(&key, FIRST).await }
    }

    async fn create_race(&self) -> Tried {
        self.race("created", |number| async move {
            let key = self.fresh(&format!("race-{number}"));
            let writes = self.racers.iter().zip(0..).map(|(racer, name)| {
                let key = key.clone();
                async move { racer.put_new(&key, Body::from(bid(number, name)), None).await }
            });
            (key.clone(), join_all(writes).await)
        })
        .await
    }

    async fn replace_race(&self) -> Tried {
        let made = self.create("contended", FIRST).await?;
        let version = &Mutex::new(made);
        self.race("replaced", |number| async move {
            let (key, etag) = version.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let writes = self.racers.iter().zip(0..).map(|(racer, name)| {
                let (key, etag) = (key.clone(), etag.clone());
                async move { racer.put_if_match(&key, bid(number, name).into(), &etag).await }
            });
            let outcomes = join_all(writes).await;
            let next = match self.store.get(&key, SCRATCH_BYTES_MAX).await {
                Ok(object) => object.etag,
                Err(_) => etag,
            };
            *version.lock().unwrap_or_else(PoisonError::into_inner) = (key.clone(), next);
            (key, outcomes)
        })
        .await
    }

    /// Runs several races: in each at most one may be told that it won, and what it wrote must stand there.
    async fn race<F>(&self, what: &str, round: impl Fn(usize) -> F) -> Tried
    where
        F: Future<Output = (String, Vec<Result<ETag, StoreError>>)>,
    {
        for number in 0..ROUNDS {
            let (key, outcomes) = round(number).await;
            let won: Vec<_> = (0..).zip(&outcomes).filter(|(_, outcome)| outcome.is_ok()).collect();
            let (winner, winners) = (won.first().map(|(name, _)| *name), won.len());
            if winners > 1 {
                return Ok(Some(format!(
                    "{winners} of {} were told that they had {what} it",
                    outcomes.len()
                )));
            }
            let is_loss = |error: &StoreError| {
                matches!(error, StoreError::Exists { .. } | StoreError::LostRace { .. }) || error.is_retry()
            };
            if let Some(error) = outcomes.into_iter().filter_map(Result::err).find(|error| !is_loss(error)) {
                return said(error);
            }
            if let Some(name) = winner
                && let Some(instead) = self.still_holds(&key, &bid(number, name)).await?
            {
                return Ok(Some(instead));
            }
        }
        Ok(None)
    }

    async fn replace(&self) -> Tried {
        let (key, etag) = self.create("replace", FIRST).await?;
        match self.store.put_if_match(&key, Bytes::from_static(SECOND), &etag).await {
            Ok(new) if new == etag => Ok(Some("the new content has the ETag of the old".to_owned())),
            Ok(_) => self.still_holds(&key, SECOND).await,
            Err(error) => said(error),
        }
    }

    async fn replace_stale(&self) -> Tried {
        let (key, stale) = self.replaced("stale").await?;
        let again = self.store.put_if_match(&key, Bytes::from_static(THIRD), &stale).await;
        let refused = must_be(again, |error| matches!(error, StoreError::LostRace { .. }), "it did")?;
        if refused.is_some() { Ok(refused) } else { self.still_holds(&key, SECOND).await }
    }

    async fn replace_absent(&self) -> Tried {
        let (_, etag) = self.create("its-etag", FIRST).await?;
        let key = self.fresh("absent");
        let written = self.store.put_if_match(&key, Bytes::from_static(SECOND), &etag).await;
        let is_right =
            |error: &StoreError| matches!(error, StoreError::Absent { .. } | StoreError::LostRace { .. });
        must_be(written, is_right, "it created one")
    }

    async fn read_stale(&self) -> Tried {
        let (key, stale) = self.replaced("read").await?;
        let read = self.store.get_range(&key, 0..1, Some(&stale)).await;
        must_be(read, |error| matches!(error, StoreError::LostRace { .. }), "it gave the new one")
    }

    async fn read_range(&self) -> Tried {
        let content: Vec<u8> = (0..=u8::MAX).collect();
        let (key, etag) = self.create("range", &content).await?;
        match self.store.get_range(&key, 7..250, Some(&etag)).await {
            Ok(bytes) if bytes[..] == content[7..250] => Ok(None),
            Ok(_) => Ok(Some("it gave other bytes".to_owned())),
            Err(error) => said(error),
        }
    }

    async fn list(&self) -> Tried {
        // Another attempt must not find what an earlier one made.
        let group = self.made.lock().unwrap_or_else(PoisonError::into_inner).len();
        let names: Vec<_> = (0..LISTED).map(|number| format!("many-{group}-{number:04}")).collect();
        let names = names.iter().map(|name| self.create(name, FIRST));
        let made: Vec<_> = stream::iter(names).buffered(RACERS).try_collect().await?;
        let listed = match self.store.list(&self.key(&format!("many-{group}-"))).await {
            Ok(listed) => listed,
            Err(error) => return said(error),
        };
        let expected: Vec<_> = made.iter().map(|(key, etag)| (key, etag)).collect();
        let found: Vec<_> = listed.iter().map(|listed| (&listed.key, &listed.etag)).collect();
        let missing = expected.iter().filter(|made| !found.contains(made)).count();
        Ok(match (missing, expected == found) {
            (0, true) => None,
            (0, false) => Some("it listed others besides".to_owned()),
            (missing, _) => Some(format!("{missing} of {LISTED} were missing, or had another ETag")),
        })
    }

    async fn clean_up(&self) -> Tried {
        let made = std::mem::take(&mut *self.made.lock().unwrap_or_else(PoisonError::into_inner));
        match self.store.delete(&made).await {
            Ok(()) => {}
            Err(error) if error.is_retry() => self.store.delete(&made).await?,
            Err(error) => return Ok(Some(format!("{error}; the prefix is '{}'", self.scratch))),
        }
        let Some(first) = made.first() else { return Ok(None) };
        must_be(self.store.get(first, SCRATCH_BYTES_MAX).await, StoreError::is_absent, "it is still there")
    }

    /// An object whose first version is gone: its key, and the ETag of that version.
    async fn replaced(&self, name: &str) -> Result<(String, ETag), StoreError> {
        let (key, stale) = self.create(name, FIRST).await?;
        self.store.put_if_match(&key, Bytes::from_static(SECOND), &stale).await?;
        Ok((key, stale))
    }

    async fn still_holds(&self, key: &str, content: &[u8]) -> Tried {
        let found = self.store.get(key, SCRATCH_BYTES_MAX).await?;
        Ok((found.bytes != content).then(|| "it said so, and another content stands there".to_owned()))
    }

    async fn create(&self, name: &str, content: &[u8]) -> Result<(String, ETag), StoreError> {
        let key = self.fresh(name);
        let etag = self.store.put_new(&key, Body::from(content.to_vec()), None).await?;
        Ok((key, etag))
    }

    /// A key that was not used before, also by an earlier attempt.
    fn fresh(&self, name: &str) -> String {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let key = self.key(&format!("{name}-{}", made.len()));
        made.push(key.clone());
        key
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.scratch)
    }
}

/// The right error is what is wanted, success is not.
fn must_be<T>(
    outcome: Result<T, StoreError>,
    is_right: impl Fn(&StoreError) -> bool,
    otherwise: &str,
) -> Tried {
    match outcome {
        Ok(_) => Ok(Some(otherwise.to_owned())),
        Err(error) if is_right(&error) => Ok(None),
        Err(error) => said(error),
    }
}

/// What a store refuses for a reason of its own is a finding. Who cannot be reached, or does not let us in, said nothing.
fn said(error: StoreError) -> Tried {
    match error {
        StoreError::Refused { .. }
        | StoreError::Mangled { .. }
        | StoreError::Absent { .. }
        | StoreError::Exists { .. }
        | StoreError::LostRace { .. }
        | StoreError::UploadGone { .. }
        | StoreError::TooLarge { .. } => Ok(Some(error.to_string())),
        StoreError::Conflict { .. }
        | StoreError::Busy { .. }
        | StoreError::Unreachable { .. }
        | StoreError::BucketAbsent { .. }
        | StoreError::Denied { .. }
        | StoreError::NoCredentials { .. }
        | StoreError::WrongRegion { .. }
        | StoreError::Misconfigured { .. } => Err(error),
    }
}

/// What one of the racers writes; no two alike, also not in another round: an ETag may be a hash of the content.
fn bid(round: usize, racer: usize) -> Vec<u8> {
    format!("racer {racer} of round {round}").into_bytes()
}

const FIRST: &[u8] = b"was here first";
const SECOND: &[u8] = b"came second";
const THIRD: &[u8] = b"came too late";
const SCRATCH_BYTES_MAX: u64 = 1024;
const ROUNDS: usize = 5;
/// More than one page of a list, which has at most 1,000 entries.
const LISTED: usize = 1_001;
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(300);
