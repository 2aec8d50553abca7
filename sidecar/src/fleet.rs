//! All followers of the process: those of the config, those of databases that are found, and how they change with it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use lifeboat_wire::{DatabaseStatus, Reason};
use tokio::sync::mpsc::{self, Receiver};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::blocking::blocking;
use crate::board::{Board, Post};
use crate::config::{Config, DatabaseConfig, FolderConfig};
use crate::discovery::{Discovery, Known, KnownDatabase};
use crate::exit::Failure;
use crate::follower::Follower;
use crate::limits::Shared;
use crate::once;
use crate::reload::Reload;
use crate::shutdown;
use crate::table::counted;
use crate::watch::Watcher;

/// The followers, and what they share.
#[derive(Debug)]
pub struct Fleet {
    shared: Arc<Shared>,
    board: Arc<Board>,
    stop: CancellationToken,
    followers: JoinSet<Result<(), Failure>>,
    /// Every database that has, or had, a follower.
    followed: HashMap<Id, Followed>,
    /// Databases that were found and may not be followed.
    refused: Vec<(KnownDatabase, Post)>,
    known: Known,
    /// Where replicas are, as users see it.
    locations: HashSet<String>,
    /// Databases that are found; closed when none can come.
    coming: Receiver<DatabaseConfig>,
    /// Ends the looking for them.
    looking: CancellationToken,
    /// The config that is used as soon as all that left because of it have ended, and until when they may take.
    next: Option<(Config, Instant)>,
    /// Why not all of the config in use could be taken over.
    unused: Option<Failure>,
}

/// A database with its follower.
#[derive(Debug)]
struct Followed {
    config: DatabaseConfig,
    known: KnownDatabase,
    post: Post,
    stop: CancellationToken,
    task: AbortHandle,
    /// Whether the config does not want it any more, or wants it otherwise.
    is_leaving: bool,
    /// Why it ended, if not in order.
    failed: Option<Failure>,
}

/// Whether the process goes on when everything is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stay {
    /// Until it is told to stop.
    ForGood,
    /// No: what is committed now is stored, and that is all.
    Once,
}

impl Stay {
    /// Waits until the process has nothing more to do, if that ever comes.
    async fn until_enough(self, posts: Vec<Post>) -> Result<(), Failure> {
        match self {
            Self::ForGood => std::future::pending().await,
            Self::Once => once::until_stored(posts).await,
        }
    }
}

impl Fleet {
    /// Nobody follows anything yet.
    #[must_use]
    pub fn new(config: Arc<Config>, board: Arc<Board>, watcher: Watcher, stop: CancellationToken) -> Self {
        let (_, nobody_comes) = mpsc::channel(1);
        Self {
            shared: Arc::new(Shared::new(config, watcher, Arc::clone(&board.requests))),
            board,
            looking: stop.child_token(),
            stop,
            followers: JoinSet::new(),
            followed: HashMap::new(),
            refused: Vec::new(),
            known: Known::default(),
            locations: HashSet::new(),
            coming: nobody_comes,
            next: None,
            unused: None,
        }
    }

    /// Follows every database until all are done, and none can come any more. Takes over every config that `reloads` brings.
    ///
    /// # Errors
    /// The gravest [`Failure`] of all databases; usage where the newest config leaves none to follow.
    pub async fn follow_all(mut self, stay: Stay, reloads: Receiver<Reload>) -> Result<(), Failure> {
        let config = Arc::clone(&self.shared.config);
        one_name_each(&config)?;
        self.arrive(&config.databases)?;
        self.discover(config.folders.clone()).await?;
        self.board.all_known.cancel();
        self.until_all_end(stay, reloads).await
    }

    async fn until_all_end(mut self, stay: Stay, mut reloads: Receiver<Reload>) -> Result<(), Failure> {
        let flush_timeout = self.shared.config.flush_timeout;
        let mut once = Box::pin(stay.until_enough(self.board.posts()));
        let (mut enough, mut deadline) = (None, None);
        loop {
            let is_stopping = self.stop.is_cancelled();
            if is_stopping {
                self.next = None;
            }
            let is_over = self.followers.is_empty() && (self.coming.is_closed() || is_stopping);
            let leave_by = self.next.as_ref().map(|(_, by)| *by);
            tokio::select! {
                Some(ended) = self.followers.join_next_with_id() => self.ended(ended),
                // What was found with a config that is on its way out is found anew with the next, if that wants it.
                Some(database) = self.coming.recv(), if !is_stopping && self.next.is_none() => {
                    self.follow_found(&database);
                }
                Some(reload) = reloads.recv(), if !is_stopping => self.reload(reload),
                stored = &mut once, if enough.is_none() => {
                    self.stop.cancel();
                    enough = Some(stored);
                }
                () = self.stop.cancelled(), if deadline.is_none() => {
                    deadline = Some(Instant::now() + flush_timeout);
                }
                () = shutdown::at(deadline) => return Err(self.late()),
                () = shutdown::at(leave_by) => self.leave_now(),
                () = std::future::ready(()), if is_over && self.next.is_none() => break,
            }
            self.take_over_next().await;
        }
        // Whoever was told to stop has stored everything that was followed.
        let unused = self.unused.filter(|_| !self.stop.is_cancelled());
        let failures = self.followed.into_values().filter_map(|followed| followed.failed);
        Failure::gravest(failures.chain(unused).chain(enough.and_then(Result::err)))
    }

    /// Follows databases that are named one by one, all but those that are followed under another name.
    fn arrive(&mut self, databases: &[DatabaseConfig]) -> Result<(), Failure> {
        let mut arrived = Ok(());
        for database in databases {
            match self.known.add(&database.path) {
                Some(known) => self.follow(database, known),
                None => {
                    let second = "is another database of the config under a second name; remove one";
                    arrived = arrived.and_then(|()| Err(Failure::usage(second).about(&database.name)));
                }
            }
        }
        arrived
    }

    /// Follows what is there, and listens for what comes.
    async fn discover(&mut self, folders: Vec<FolderConfig>) -> Result<(), Failure> {
        let (found, coming) = mpsc::channel(COMING_MAX);
        self.coming = coming;
        if folders.is_empty() {
            return Ok(());
        }
        let count = folders.len();
        let mut discovery = Discovery::new(folders, self.known.clone(), &self.shared.watcher);
        let looked = blocking(move || {
            let databases = discovery.look_first();
            Ok((discovery, databases))
        });
        let (discovery, databases) = looked.await?;
        let found_now = counted(databases.len(), "database");
        tracing::info!("{found_now} found in {}", counted(count, "folder"));
        if databases.is_empty() && self.followers.is_empty() && !discovery.is_lasting() {
            return Err(Failure::usage(NOTHING_FOUND));
        }
        for database in &databases {
            self.follow_found(database);
        }
        if discovery.is_lasting() {
            self.looking = self.stop.child_token();
            tokio::spawn(discovery.run(found, self.looking.clone()));
        }
        Ok(())
    }

    fn follow(&mut self, database: &DatabaseConfig, known: KnownDatabase) {
        self.locations.insert(database.location.to_string());
        let (post, stop) = (self.board.add(database), self.stop.child_token());
        let follower = Follower::new(database.clone(), Arc::clone(&self.shared), post.clone(), stop.clone());
        let task = self.followers.spawn(follower.run());
        let config = database.clone();
        let followed =
            Followed { config, known, post, stop, task: task.clone(), is_leaving: false, failed: None };
        self.followed.insert(task.id(), followed);
    }

    fn follow_found(&mut self, database: &DatabaseConfig) {
        let Some(known) = self.known.add(&database.path) else { return };
        let location = database.location.to_string();
        if self.locations.contains(&location) {
            let taken = format!(
                "{}: {location} is the replica of another database; it is not followed",
                database.name
            );
            tracing::error!("{taken}");
            let post = self.board.add(database);
            post.troubled(&Failure::refused(Reason::InvalidConfig, taken));
            post.demand().end();
            self.refused.push((known, post));
            return;
        }
        self.follow(database, known);
    }

    fn ended(&mut self, ended: Result<(Id, Result<(), Failure>), JoinError>) {
        let (id, result) = match ended {
            Ok((id, result)) => (id, result),
            Err(error) if error.is_cancelled() => (error.id(), Err(Failure::unavailable(LEFT_TOO_LATE))),
            Err(error) => (error.id(), Err(Failure::bug(error.to_string()))),
        };
        let Some(followed) = self.followed.get_mut(&id) else { return };
        let (name, location) = (&followed.config.name, &followed.config.location);
        let is_gone = followed.config.is_discovered && result.is_ok() && !self.stop.is_cancelled();
        match result {
            Err(failure) if followed.is_leaving => tracing::error!("{}", failure.about(name)),
            Err(failure) => followed.failed = Some(failure),
            Ok(()) if followed.is_leaving => tracing::info!("{name}: not followed any more as it was"),
            Ok(()) if is_gone => {
                tracing::info!("{name}: the file is gone; what was stored stays in {location}");
            }
            Ok(()) => {}
        }
        if followed.is_leaving || is_gone {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: Id) {
        if let Some(followed) = self.followed.remove(&id) {
            self.known.remove(&followed.known);
            self.locations.remove(&followed.config.location.to_string());
            followed.post.remove();
        }
    }

    /// Takes a new config over, or says why not.
    fn reload(&mut self, reload: Reload) {
        let checked = reload.and_then(|config| one_name_each(&config).map(|()| config));
        match checked {
            Ok(config) => {
                self.let_go(&config);
                self.looking.cancel();
                self.next = Some((config, Instant::now() + self.shared.config.flush_timeout));
            }
            Err(failure) => {
                tracing::error!("the config is not taken over, the one before stays in use: {failure}");
                self.board.reloaded(Some(failure.message));
            }
        }
    }

    /// Tells everybody to end who is not wanted any more, or is wanted otherwise. All others hear nothing of it.
    fn let_go(&mut self, config: &Config) {
        let is_same = |followed: &Followed| {
            let config_of_it = &followed.config;
            // Whoever is named comes before whoever is found, also where only their replica is the same.
            let is_taken = config_of_it.is_discovered
                && config.databases.iter().any(|named| named.location == config_of_it.location);
            !is_taken && config.find(&config_of_it.path).is_ok_and(|wanted| wanted == *config_of_it)
        };
        let mut ended = Vec::new();
        for (id, followed) in &mut self.followed {
            if followed.is_leaving || is_same(followed) {
                continue;
            }
            tracing::info!("{}: the config has changed; storing the last commits", followed.config.name);
            followed.is_leaving = true;
            followed.stop.cancel();
            if followed.task.is_finished() && followed.failed.is_some() {
                ended.push(*id);
            }
        }
        ended.into_iter().for_each(|id| self.forget(id));
        for (known, post) in self.refused.drain(..) {
            self.known.remove(&known);
            post.remove();
        }
    }

    /// Whoever has not ended by now is ended: the others wait for the new config.
    fn leave_now(&self) {
        let leaving = self.followed.values().filter(|followed| followed.is_leaving);
        leaving.for_each(|followed| followed.task.abort());
    }

    /// Once everybody who leaves has left, those that are new begin.
    async fn take_over_next(&mut self) {
        if self.stop.is_cancelled() || self.followed.values().any(|followed| followed.is_leaving) {
            return;
        }
        let Some((config, _)) = self.next.take() else { return };
        let present: HashSet<_> = self.followed.values().map(|followed| &followed.config.path).collect();
        let is_new = |database: &&DatabaseConfig| !present.contains(&database.path);
        let new: Vec<_> = config.databases.iter().filter(is_new).cloned().collect();
        let (arrived, looked) = (self.arrive(&new), self.discover(config.folders).await);
        let followed = counted(self.followers.len(), "database");
        match arrived.and(looked) {
            Ok(()) => {
                tracing::info!("the new config is in use: {followed} followed");
                self.board.reloaded(None);
                self.unused = None;
            }
            Err(failure) => {
                tracing::error!("the new config is in use, but not all of it: {failure}");
                self.board.reloaded(Some(failure.message.clone()));
                self.unused = Some(failure);
            }
        }
    }

    fn late(&self) -> Failure {
        let statuses = self.board.status().databases;
        let what_waits = |status: &DatabaseStatus| match status.unreplicated_bytes.filter(|bytes| *bytes > 0)
        {
            Some(bytes) => format!("{} ({bytes} bytes)", status.name),
            None => status.name.clone(),
        };
        let waiting: Vec<_> = statuses.iter().filter(|status| !status.is_stored()).map(what_waits).collect();
        let shown = waiting.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
        let others = waiting.len().saturating_sub(NAMED_MAX);
        let others = if others > 0 { format!(" and {others} more") } else { String::new() };
        let of = if shown.is_empty() { String::new() } else { format!(" of {shown}{others}") };
        Failure::unavailable(format!(
            "the last commits{of} could not be stored within {:?}; they are only in the local database",
            self.shared.config.flush_timeout
        ))
    }
}

/// Whether no database of the config has two names: links are followed.
fn one_name_each(config: &Config) -> Result<(), Failure> {
    let mut names = BTreeMap::new();
    for database in &config.databases {
        if let Some(other) = names.insert(crate::disk::real(&database.path), &database.name) {
            return Err(Failure::usage(format!(
                "{} is {other} under a second name; remove one",
                database.name
            )));
        }
    }
    Ok(())
}

/// Databases that were found and wait for their follower.
const COMING_MAX: usize = 16;
/// Names in one message.
const NAMED_MAX: usize = 10;
const NOTHING_FOUND: &str = "no databases: the folders of the config hold none, and are not watched; see 'dir' and 'pattern' in the config";
const LEFT_TOO_LATE: &str = "its last commits could not be stored in time after the change of the config; they are only in the local database";

#[cfg(test)]
mod tests;
