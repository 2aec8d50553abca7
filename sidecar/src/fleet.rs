//! All followers of the process: those of the config, and those of databases that are found.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use lifeboat_wire::Reason;
use tokio::sync::mpsc::{self, Receiver};
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::board::{Board, Post};
use crate::config::{Config, DatabaseConfig};
use crate::discovery::{Discovery, Known, KnownDatabase};
use crate::exit::Failure;
use crate::follower::Follower;
use crate::limits::Shared;
use crate::shutdown;
use crate::watch::Watcher;

/// The followers, and what they share.
#[derive(Debug)]
pub struct Fleet {
    shared: Arc<Shared>,
    board: Arc<Board>,
    stop: CancellationToken,
    followers: JoinSet<Result<(), Failure>>,
    /// Databases that were found, by the task that follows them.
    found: HashMap<Id, Found>,
    known: Known,
    /// Where replicas are, as users see it.
    locations: HashSet<String>,
    gravest: Result<(), Failure>,
}

/// A database that was found, and ends with its file.
#[derive(Debug)]
struct Found {
    name: String,
    known: KnownDatabase,
    location: String,
    post: Post,
}

impl Fleet {
    /// Nobody follows anything yet.
    #[must_use]
    pub fn new(config: Arc<Config>, board: Arc<Board>, watcher: Watcher, stop: CancellationToken) -> Self {
        Self {
            shared: Arc::new(Shared::new(config, watcher)),
            board,
            stop,
            followers: JoinSet::new(),
            found: HashMap::new(),
            known: Known::default(),
            locations: HashSet::new(),
            gravest: Ok(()),
        }
    }

    /// Follows every database until all are done, and none can come any more.
    ///
    /// # Errors
    /// The gravest [`Failure`] of all databases.
    pub async fn follow_all(mut self) -> Result<(), Failure> {
        let config = Arc::clone(&self.shared.config);
        for database in &config.databases {
            if self.known.add(&database.path).is_some() {
                self.follow(database);
            } else {
                return Err(Failure::usage(format!(
                    "{} is another database of the config under a second name; remove one",
                    database.name
                )));
            }
        }
        let mut coming = self.discover().await?;
        let mut deadline = None;
        loop {
            let is_over = self.followers.is_empty() && (coming.is_closed() || self.stop.is_cancelled());
            tokio::select! {
                Some(ended) = self.followers.join_next_with_id() => self.ended(ended),
                Some(database) = coming.recv(), if !self.stop.is_cancelled() => self.follow_found(&database),
                () = self.stop.cancelled(), if deadline.is_none() => {
                    deadline = Some(Instant::now() + config.flush_timeout);
                }
                () = shutdown::at(deadline) => return Err(self.late()),
                () = std::future::ready(()), if is_over => return self.gravest,
            }
        }
    }

    /// Follows what is there, and listens for what comes.
    async fn discover(&mut self) -> Result<Receiver<DatabaseConfig>, Failure> {
        let (found, coming) = mpsc::channel(COMING_MAX);
        if self.shared.config.folders.is_empty() {
            return Ok(coming);
        }
        let mut discovery =
            Discovery::new(self.shared.config.folders.clone(), self.known.clone(), &self.shared.watcher);
        let looked = tokio::task::spawn_blocking(move || {
            let databases = discovery.look_first();
            (discovery, databases)
        });
        let (discovery, databases) = looked.await.map_err(|error| Failure::bug(error.to_string()))?;
        tracing::info!("{} databases found in {} folders", databases.len(), self.shared.config.folders.len());
        if databases.is_empty() && self.followers.is_empty() && !discovery.is_lasting() {
            return Err(Failure::usage(NOTHING_FOUND));
        }
        for database in &databases {
            self.follow_found(database);
        }
        if discovery.is_lasting() {
            tokio::spawn(discovery.run(found, self.stop.clone()));
        }
        Ok(coming)
    }

    fn follow(&mut self, database: &DatabaseConfig) -> (Id, Post) {
        self.locations.insert(database.location.to_string());
        let post = self.board.add(database);
        let (shared, stop) = (Arc::clone(&self.shared), self.stop.clone());
        let follower = Follower::new(database.clone(), shared, post.clone(), stop);
        (self.followers.spawn(follower.run()).id(), post)
    }

    fn follow_found(&mut self, database: &DatabaseConfig) {
        let Some(known) = self.known.add(&database.path) else { return };
        let (name, location) = (database.name.clone(), database.location.to_string());
        if self.locations.contains(&location) {
            let taken = format!(
                "{}: {location} is the replica of another database; it is not followed",
                database.name
            );
            tracing::error!("{taken}");
            let post = self.board.add(database);
            post.troubled(&Failure::refused(Reason::InvalidConfig, taken));
            return post.demand().end();
        }
        let (id, post) = self.follow(database);
        self.found.insert(id, Found { name, known, location, post });
    }

    fn ended(&mut self, ended: Result<(Id, Result<(), Failure>), tokio::task::JoinError>) {
        let (id, result) = match ended {
            Ok((id, result)) => (id, result),
            Err(error) => (error.id(), Err(Failure::bug(error.to_string()))),
        };
        if let Some(found) = self.found.remove(&id)
            && result.is_ok()
            && !self.stop.is_cancelled()
        {
            tracing::info!("{}: the file is gone; what was stored stays in {}", found.name, found.location);
            self.known.remove(&found.known);
            self.locations.remove(&found.location);
            found.post.remove();
        }
        if let Err(failure) = result {
            self.gravest = graver(std::mem::replace(&mut self.gravest, Ok(())), failure);
        }
    }

    fn late(&self) -> Failure {
        Failure::unavailable(format!(
            "the last commits could not be stored within {:?}; they are only in the local database",
            self.shared.config.flush_timeout
        ))
    }
}

fn graver(known: Result<(), Failure>, new: Failure) -> Result<(), Failure> {
    match known {
        Err(known) if known.exit.gravity() >= new.exit.gravity() => Err(known),
        Ok(()) | Err(_) => Err(new),
    }
}

/// Databases that were found and wait for their follower.
const COMING_MAX: usize = 16;
const NOTHING_FOUND: &str = "no databases: the folders of the config hold none, and are not watched; see 'dir' and 'pattern' in the config";
