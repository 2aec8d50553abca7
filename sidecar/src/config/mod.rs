//! The configuration: parsed once into values that cannot be wrong.

mod file;
mod folder;
mod history;
mod lines;
mod problems;
mod reading;
mod rhythm;
#[cfg(test)]
mod tests;
mod text;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::args::{ConfigArgs, ReplicateArgs, StoreArgs};
use crate::database::{EnforceWal, Synchronous};
use crate::exit::Failure;
use crate::location::{Location, is_url};
use crate::slot_file::Reserve;
use crate::socket::Socket;

pub use folder::FolderConfig;
pub use history::History;
pub use problems::{Problem, failure};
pub use text::ConfigText;

/// Everything a process of ours is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address of the status endpoint, if any.
    pub addr: Option<String>,
    /// The control socket.
    pub socket: Socket,
    /// How long the last commits may take after SIGTERM.
    pub flush_timeout: Duration,
    /// How long a predecessor that makes progress is waited for.
    pub handover_timeout: Duration,
    /// Where the init step leaves its claims for the sidecar; `None` outside a pod.
    pub handover_dir: Option<PathBuf>,
    /// How many databases are open at a time.
    pub max_open_databases: usize,
    /// How many slots are uploaded at a time.
    pub max_concurrent_uploads: usize,
    /// Of how many databases at most there are metrics one by one, and not of all together.
    pub metrics_databases_max: usize,
    /// What of the disk beside a database is left to its application.
    pub disk_reserve: Reserve,
    /// The application to run while its databases are replicated.
    pub exec: Option<String>,
    /// The databases that are named one by one, in order.
    pub databases: Vec<DatabaseConfig>,
    /// Folders of databases, in order. Of two that name one database, the first counts, and a name of its own before both.
    pub folders: Vec<FolderConfig>,
    /// Whether replicas that another program has written are continued.
    pub adopt: bool,
    /// What was accepted but means nothing here, one line each.
    pub remarks: Vec<String>,
}

/// One database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseConfig {
    /// Its name in statuses and requests; the path where the config names none.
    pub name: String,
    /// Absolute path.
    pub path: PathBuf,
    /// Its replica.
    pub location: Location,
    /// The longest time commits are collected under steady load.
    pub sync_interval: Duration,
    /// The longest time a commit waits because of the budget of requests; `None` for the default.
    pub max_lag: Option<Duration>,
    /// The budget: slots a day, if they are counted.
    pub max_requests_per_day: Option<u32>,
    /// Whether a database that is not in WAL mode is switched to it, or replicated as it is.
    pub enforce_wal: bool,
    /// What its application runs with, and our checkpoints too.
    pub synchronous: Synchronous,
    /// What becomes of its slots once they are stored.
    pub history: History,
    /// Whether something is known to be stored in its replica: an empty one is refused, and not begun anew.
    pub expects_data: bool,
    /// Whether it was found in a folder: then it goes when its file does.
    pub is_discovered: bool,
}

impl Config {
    /// The configuration of `lifeboat replicate`: one database of the command line, or a config's.
    ///
    /// # Errors
    /// [`Failure`] with exit code 2 that names the file and the key.
    pub fn for_replicate(args: &ReplicateArgs) -> Result<Self, Failure> {
        match (&args.db, &args.url) {
            (Some(db), Some(url)) if is_url(&db.to_string_lossy()) && !is_url(url) => Err(Failure::usage(
                format!("the database comes first, then the URL: lifeboat replicate {url} {}", db.display()),
            )),
            (Some(db), Some(url)) => {
                let mut config = Self::default();
                let location = Location::parse(url, &args.store).map_err(Failure::usage)?;
                match FolderConfig::from_path(db, &location)? {
                    Some(folder) => config.folders.push(folder),
                    None => config.databases.push(DatabaseConfig::new(db, location)?),
                }
                config.with_flags(args)
            }
            _ => Self::from_text(&ConfigText::load(&args.config)?, args),
        }
    }

    /// The configuration of `lifeboat replicate` in this text.
    ///
    /// # Errors
    /// As [`for_replicate`](Self::for_replicate).
    pub fn from_text(text: &ConfigText, args: &ReplicateArgs) -> Result<Self, Failure> {
        text.parse()?.with_store_flags(&args.store)?.with_flags(args)
    }

    fn with_flags(mut self, args: &ReplicateArgs) -> Result<Self, Failure> {
        self.apply(args);
        if self.databases.is_empty() && self.folders.is_empty() {
            return Err(Failure::usage(NO_DATABASES));
        }
        if let Some(folder) = self.folders.iter().find(|folder| folder.each.expects_data) {
            return Err(Failure::usage(format!("{}: {EXPECTS_OF_MANY}", folder.dir.display())));
        }
        for database in self.every() {
            database.check_rhythm().map_err(|(_, wrong)| Failure::usage(wrong))?;
        }
        let costs: Vec<_> = self.every().filter_map(DatabaseConfig::cost_of_the_lag).collect();
        self.remarks.extend(costs);
        Ok(self)
    }

    /// Every database, and what those of each folder have in common.
    pub fn every(&self) -> impl Iterator<Item = &DatabaseConfig> {
        self.databases.iter().chain(self.folders.iter().map(|folder| &folder.each))
    }

    fn every_mut(&mut self) -> impl Iterator<Item = &mut DatabaseConfig> {
        self.databases.iter_mut().chain(self.folders.iter_mut().map(|folder| &mut folder.each))
    }

    fn apply(&mut self, args: &ReplicateArgs) {
        self.adopt = args.adopt;
        self.addr = args.addr.clone().or_else(|| self.addr.take());
        let socket = args.socket.clone().map(Socket::from).filter(|socket| *socket != Socket::Usual);
        self.socket = socket.unwrap_or_else(|| self.socket.clone());
        self.metrics_databases_max = args.metrics_databases_max.unwrap_or(self.metrics_databases_max);
        self.exec = args.exec.clone().or_else(|| self.exec.take());
        self.flush_timeout = args.flush_timeout.unwrap_or(self.flush_timeout);
        self.handover_timeout = args.handover_timeout.unwrap_or(self.handover_timeout);
        for database in self.every_mut() {
            database.sync_interval = args.sync_interval.unwrap_or(database.sync_interval);
            database.max_lag = args.max_lag.or(database.max_lag);
            database.max_requests_per_day = args.max_requests_per_day.or(database.max_requests_per_day);
            database.enforce_wal = args.enforce_wal.unwrap_or(database.enforce_wal);
            database.synchronous = args.synchronous.unwrap_or(database.synchronous);
            database.expects_data |= args.expect_data;
            // The database may stand in a config that keeps more, and this process was not told of it.
            if args.take.is_some() && args.db.is_some() {
                database.history.window = FOR_EVER;
            }
        }
    }

    fn with_store_flags(mut self, flags: &StoreArgs) -> Result<Self, Failure> {
        for database in self.every_mut() {
            database.location = database.location.clone().with_flags(flags).map_err(Failure::usage)?;
        }
        Ok(self)
    }

    /// Reads the config file, or the environment's.
    ///
    /// # Errors
    /// [`Failure`] with exit code 2 that names the file and the key.
    pub fn read(args: &ConfigArgs) -> Result<Self, Failure> {
        ConfigText::load(args)?.parse()
    }

    /// The database that a user means by `path`.
    ///
    /// # Errors
    /// [`Failure`] with exit code 4 that names the databases there are.
    pub fn find(&self, path: &Path) -> Result<DatabaseConfig, Failure> {
        let wanted = absolute(path)?;
        let named = self.databases.iter().find(|database| database.path == wanted).cloned();
        let found = named.or_else(|| self.folders.iter().find_map(|folder| folder.database(&wanted)));
        found.ok_or_else(|| {
            let folders = self.folders.iter().map(|folder| folder.each.path.display().to_string());
            let known: Vec<_> = self
                .databases
                .iter()
                .map(|database| database.path.display().to_string())
                .chain(folders)
                .collect();
            let known = if known.is_empty() {
                "it lists none".to_owned()
            } else {
                format!("it lists {}", known.join(", "))
            };
            Failure::refused(
                lifeboat_wire::Reason::InvalidConfig,
                format!("database {} is not in the config; {known}", wanted.display()),
            )
        })
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            addr: None,
            socket: Socket::Usual,
            flush_timeout: Duration::from_secs(25),
            handover_timeout: Duration::from_secs(30),
            handover_dir: None,
            max_open_databases: 32,
            max_concurrent_uploads: 8,
            metrics_databases_max: 200,
            disk_reserve: Reserve::default(),
            exec: None,
            databases: Vec::new(),
            folders: Vec::new(),
            adopt: false,
            remarks: Vec::new(),
        }
    }
}

impl DatabaseConfig {
    /// Whether the database may be switched to WAL mode, in its opener's word.
    #[must_use]
    pub const fn enforce(&self) -> EnforceWal {
        if self.enforce_wal { EnforceWal::Yes } else { EnforceWal::No }
    }

    fn new(path: &Path, location: Location) -> Result<Self, Failure> {
        let path = absolute(path)?;
        let name = path.display().to_string();
        Ok(Self {
            name,
            path,
            location,
            sync_interval: Duration::from_secs(1),
            max_lag: None,
            max_requests_per_day: None,
            enforce_wal: true,
            synchronous: Synchronous::Normal,
            history: History::default(),
            expects_data: false,
            is_discovered: false,
        })
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::usage(format!("path '{}': {error}", path.display())))
}

/// What comes later to a folder has nothing stored yet.
/// Longer than anything is stored.
const FOR_EVER: Duration = Duration::from_secs(100 * 366 * 24 * 3_600);
const EXPECTS_OF_MANY: &str =
    "'expect-data' is said of single databases, not of those that are found in a folder";
const NO_DATABASES: &str =
    "no databases: the config lists none under 'dbs'; add one, or name a database and a URL";
