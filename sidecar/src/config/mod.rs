//! The configuration: parsed once into values that cannot be wrong.

mod file;
mod folder;
mod rhythm;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use lifeboat_store::Keys;

use crate::args::{ConfigArgs, ReplicateArgs, StoreArgs, parse_duration};
use crate::database::EnforceWal;
use crate::exit::Failure;
use crate::location::{Location, S3Location, clean_prefix, is_url};
use crate::socket::Socket;

pub use folder::FolderConfig;

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
    /// The databases that are named one by one, in order.
    pub databases: Vec<DatabaseConfig>,
    /// Folders of databases, in order. Of two that name one database, the first counts, and a name of its own before both.
    pub folders: Vec<FolderConfig>,
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
    /// Whether it was found in a folder: then it goes when its file does.
    pub is_discovered: bool,
}

impl Config {
    /// The configuration of `lifeboat replicate`: one database of the command line, or a config's.
    ///
    /// # Errors
    /// [`Failure`] with exit code 2 that names the file and the key.
    pub fn for_replicate(args: &ReplicateArgs) -> Result<Self, Failure> {
        let mut config = match (&args.db, &args.url) {
            (Some(db), Some(url)) if is_url(&db.to_string_lossy()) && !is_url(url) => {
                return Err(Failure::usage(format!(
                    "the database comes first, then the URL: lifeboat replicate {url} {}",
                    db.display()
                )));
            }
            (Some(db), Some(url)) => {
                let mut config = Self::default();
                let location = Location::parse(url, &args.store).map_err(Failure::usage)?;
                match FolderConfig::from_path(db, &location)? {
                    Some(folder) => config.folders.push(folder),
                    None => config.databases.push(DatabaseConfig::new(db, location)?),
                }
                config
            }
            _ => Self::read(&args.config)?.with_store_flags(&args.store)?,
        };
        config.apply(args);
        if config.databases.is_empty() && config.folders.is_empty() {
            return Err(Failure::usage(NO_DATABASES));
        }
        for database in config.every() {
            database.check_rhythm().map_err(Failure::usage)?;
        }
        let costs: Vec<_> = config.every().filter_map(DatabaseConfig::cost_of_the_lag).collect();
        config.remarks.extend(costs);
        Ok(config)
    }

    /// Every database, and what those of each folder have in common.
    fn every(&self) -> impl Iterator<Item = &DatabaseConfig> {
        self.databases.iter().chain(self.folders.iter().map(|folder| &folder.each))
    }

    fn every_mut(&mut self) -> impl Iterator<Item = &mut DatabaseConfig> {
        self.databases.iter_mut().chain(self.folders.iter_mut().map(|folder| &mut folder.each))
    }

    fn apply(&mut self, args: &ReplicateArgs) {
        self.addr = args.addr.clone().or_else(|| self.addr.take());
        let socket = args.socket.clone().map(Socket::from).filter(|socket| *socket != Socket::Usual);
        self.socket = socket.unwrap_or_else(|| self.socket.clone());
        self.flush_timeout = args.flush_timeout.unwrap_or(self.flush_timeout);
        self.handover_timeout = args.handover_timeout.unwrap_or(self.handover_timeout);
        for database in self.every_mut() {
            database.sync_interval = args.sync_interval.unwrap_or(database.sync_interval);
            database.max_lag = args.max_lag.or(database.max_lag);
            database.max_requests_per_day = args.max_requests_per_day.or(database.max_requests_per_day);
            database.enforce_wal = args.enforce_wal.unwrap_or(database.enforce_wal);
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
        if args.config_from_env {
            let text = std::env::var(INLINE)
                .map_err(|_| Failure::usage(format!("--config-from-env: ${INLINE} is not set")))?;
            return Self::parse(&text).map_err(|failure| failure.about(format!("${INLINE}")));
        }
        let path = config_path(args)?;
        let text = std::fs::read_to_string(&path).map_err(|error| {
            Failure::usage(format!("config file {}: {error}; name another with --config", path.display()))
        })?;
        let about = |failure: Failure| failure.about(format!("config file {}", path.display()));
        let text = if args.no_expand_env { text } else { expand(&text).map_err(about)? };
        Self::parse(&text).map_err(about)
    }

    /// Parses a config's text, YAML or JSON.
    ///
    /// # Errors
    /// [`Failure`] with exit code 2 that names the key.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let file: file::File = if text.trim().is_empty() {
            file::File::default()
        } else {
            // An excerpt of the file could show its secrets.
            let options = serde_saphyr::options! { with_snippet: false };
            serde_saphyr::from_str_with_options(text, options)
                .map_err(|error| Failure::usage(error.to_string()))?
        };
        let mut config = Self::default();
        config.note_others("", &file.others)?;
        let duration = |key: &str, text: &Option<String>, default| duration(key, text.as_deref(), default);
        config.addr = file.addr.clone();
        config.socket = file.socket.clone().map(PathBuf::from).map_or(config.socket, Socket::from);
        config.flush_timeout = duration("flush-timeout", &file.flush_timeout, config.flush_timeout)?;
        config.handover_timeout =
            duration("handover-timeout", &file.handover_timeout, config.handover_timeout)?;
        let at_least_one = |key: &str, found: Option<usize>, default: usize| match found {
            Some(0) => Err(Failure::usage(format!("{key} is at least 1"))),
            found => Ok(found.unwrap_or(default)),
        };
        config.max_open_databases =
            at_least_one("max-open-databases", file.max_open_databases, config.max_open_databases)?;
        config.max_concurrent_uploads = at_least_one(
            "max-concurrent-uploads",
            file.max_concurrent_uploads,
            config.max_concurrent_uploads,
        )?;
        config.handover_dir = file.handover_dir.clone().map(PathBuf::from);
        for (number, entry) in file.dbs.iter().flatten().enumerate() {
            config.add(&file, entry).map_err(|failure| failure.about(format!("dbs[{number}]")))?;
        }
        Ok(config)
    }

    fn add(&mut self, file: &file::File, entry: &file::Database) -> Result<(), Failure> {
        self.note_others("dbs: ", &entry.others)?;
        let named = match (&entry.path, &entry.dir) {
            (Some(path), None) if entry.pattern.is_some() || entry.recursive.or(entry.watch).is_some() => {
                return Err(Failure::usage(format!(
                    "{path}: 'pattern', 'recursive' and 'watch' belong to 'dir', and 'path' takes wildcards itself"
                )));
            }
            (Some(path), None) | (None, Some(path)) => path,
            (None, None) => return Err(Failure::usage("the key 'path' is missing")),
            (Some(path), Some(_)) => {
                return Err(Failure::usage(format!("{path}: an entry has one of 'path' and 'dir'")));
            }
        };
        let (path, location) = (expand_home(named), self.entry_location(file, entry, named)?);
        let folder = match &entry.dir {
            Some(_) => Some(FolderConfig::from_entry(entry, &path, &location)),
            None => FolderConfig::from_path(&path, &location).transpose(),
        };
        let about = |failure: Failure| failure.about(named);
        match folder.transpose().map_err(about)? {
            Some(_) if entry.name.is_some() => {
                Err(Failure::usage(format!("{named}: many databases cannot have one 'name'; remove it")))
            }
            Some(mut folder) => {
                self.fill(&mut folder.each, file, entry)?;
                self.refuse_twice(&folder.each, |_| false)?;
                self.folders.push(folder);
                Ok(())
            }
            None => {
                let mut database = DatabaseConfig::new(&path, location)?;
                database.name = entry.name.clone().unwrap_or(database.name);
                self.fill(&mut database, file, entry)?;
                self.refuse_twice(&database, |other| {
                    other.path == database.path || other.name == database.name
                })?;
                self.databases.push(database);
                Ok(())
            }
        }
    }

    fn refuse_twice(
        &self,
        database: &DatabaseConfig,
        is_same: impl Fn(&DatabaseConfig) -> bool,
    ) -> Result<(), Failure> {
        let is_taken = self.every().any(|other| other.location == database.location);
        if is_taken || self.databases.iter().any(is_same) {
            return Err(Failure::usage(format!(
                "{} is listed twice: every database has a path, a name and a replica of its own",
                database.name
            )));
        }
        Ok(())
    }

    fn entry_location(
        &mut self,
        file: &file::File,
        entry: &file::Database,
        path: &str,
    ) -> Result<Location, Failure> {
        let replica = match (&entry.replica, entry.replicas.as_slice()) {
            (Some(replica), []) | (None, [replica]) => replica,
            (None, []) => return Err(Failure::usage(format!("{path}: the key 'replica' is missing"))),
            (Some(_) | None, _) => {
                return Err(Failure::usage(format!(
                    "{path}: one replica for each database; remove the others"
                )));
            }
        };
        self.note_others("replica: ", &replica.others)?;
        location(file, replica).map_err(|message| Failure::usage(format!("{path}: {message}")))
    }

    /// What the keys of an entry, and above it those of the file, say of a database.
    fn fill(
        &self,
        database: &mut DatabaseConfig,
        file: &file::File,
        entry: &file::Database,
    ) -> Result<(), Failure> {
        let replica = entry.replica.as_ref().or_else(|| entry.replicas.first());
        let interval = [
            &entry.sync_interval,
            &replica.and_then(|replica| replica.sync_interval.clone()),
            &file.sync_interval,
        ]
        .into_iter()
        .flatten()
        .next()
        .cloned();
        database.sync_interval = duration("sync-interval", interval.as_deref(), database.sync_interval)?;
        let lag = entry.max_lag.as_ref().or(file.max_lag.as_ref());
        database.max_lag = lag.map(|lag| duration("max-lag", Some(lag), Duration::ZERO)).transpose()?;
        database.max_requests_per_day = entry.max_requests_per_day.or(file.max_requests_per_day);
        let name = &database.name;
        database.check_rhythm().map_err(|wrong| Failure::usage(format!("{name}: {wrong}")))?;
        database.enforce_wal = entry.enforce_wal.or(file.enforce_wal).unwrap_or(true);
        Ok(())
    }

    /// Keys nothing took: Litestream's are mentioned, all others are typing errors.
    fn note_others(&mut self, place: &str, others: &file::Others) -> Result<(), Failure> {
        for key in others.keys() {
            if !file::LITESTREAM_KEYS.contains(&key.as_str()) {
                return Err(Failure::usage(format!("{place}the key '{key}' is unknown")));
            }
            self.remarks.push(format!("{place}litestream's key '{key}' has no effect here"));
        }
        Ok(())
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
            handover_timeout: Duration::from_secs(40),
            handover_dir: None,
            max_open_databases: 32,
            max_concurrent_uploads: 8,
            databases: Vec::new(),
            folders: Vec::new(),
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
            is_discovered: false,
        })
    }
}

fn location(file: &file::File, replica: &file::Replica) -> Result<Location, String> {
    let mut location = match (&replica.url, replica.kind.as_deref()) {
        (Some(_), _) if replica.bucket.is_some() || replica.path.is_some() => {
            return Err("the replica's key 'url' says bucket and path; remove 'bucket' and 'path'".to_owned());
        }
        (Some(url), _) => Location::parse(url, &StoreArgs::default())?,
        (None, Some("s3")) => {
            let bucket = replica.bucket.clone().ok_or("the replica's key 'bucket' is missing")?;
            Location::S3(S3Location {
                bucket,
                path: clean_prefix(replica.path.as_deref().unwrap_or_default())?,
                ..S3Location::default()
            })
        }
        (None, Some("file") | None) if replica.path.is_some() => Location::Directory(
            absolute(&expand_home(replica.path.as_deref().unwrap_or_default())).map_err(|f| f.message)?,
        ),
        (None, Some("file") | None) => return Err("the replica's key 'url' is missing".to_owned()),
        (None, Some(other)) => {
            return Err(format!("the replica type '{other}' is unknown; known are s3 and file"));
        }
    };
    if let Location::S3(s3) = &mut location {
        s3.endpoint = replica.endpoint.clone().or_else(|| s3.endpoint.take());
        s3.region = replica.region.clone().or_else(|| s3.region.take());
        s3.force_path_style = replica.force_path_style.or(s3.force_path_style);
        let id = replica.access_key_id.as_ref().or(file.access_key_id.as_ref());
        let secret = replica.secret_access_key.as_ref().or(file.secret_access_key.as_ref());
        s3.keys = match (id, secret) {
            (Some(id), Some(secret)) => Some(Keys { id: id.clone(), secret: secret.clone() }),
            (None, None) => None,
            (Some(_) | None, _) => {
                return Err("'access-key-id' and 'secret-access-key' go together".to_owned());
            }
        };
    }
    location.with_flags(&StoreArgs::default())
}

fn config_path(args: &ConfigArgs) -> Result<PathBuf, Failure> {
    let named = args.config.clone().or_else(|| std::env::var_os("LIFEBOAT_CONFIG").map(PathBuf::from));
    let usual = || CONFIG_PATHS.iter().map(PathBuf::from).find(|path| path.exists());
    named.or_else(usual).ok_or_else(|| {
        Failure::usage(format!(
            "no config file: name one with --config or $LIFEBOAT_CONFIG, or write {}; or say what and \
             where: `lifeboat replicate DB URL`, `lifeboat restore -o DB URL`",
            CONFIG_PATHS[0]
        ))
    })
}

/// Replaces `$NAME` and `${NAME}`, as Litestream does; but a name that is not set is an error here, not an empty string.
fn expand(text: &str) -> Result<String, Failure> {
    shellexpand::env(text).map(std::borrow::Cow::into_owned).map_err(|error| {
        Failure::usage(format!(
            "the environment variable {} is not set; set it, or use --no-expand-env to take '$' literally",
            error.var_name
        ))
    })
}

fn expand_home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        (Some(_) | None, _) => PathBuf::from(path),
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::usage(format!("path '{}': {error}", path.display())))
}

fn duration(key: &str, text: Option<&str>, default: Duration) -> Result<Duration, Failure> {
    text.map_or(Ok(default), parse_duration).map_err(|message| Failure::usage(format!("{key}: {message}")))
}

/// The environment variable of a whole config.
const INLINE: &str = "LIFEBOAT_CONFIG_INLINE";
const CONFIG_PATHS: [&str; 2] = ["/etc/lifeboat.yml", "/etc/litestream.yml"];
const NO_DATABASES: &str =
    "no databases: the config lists none under 'dbs'; add one, or name a database and a URL";
