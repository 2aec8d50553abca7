//! From a config's text to a [`Config`], or to everything that is wrong with it.

use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use clap::ValueEnum;
use lifeboat_store::Keys;
use serde::Deserialize;
use serde_ignored::Path as KeyPath;

use super::problems::{Problem, Problems, failure};
use super::{Config, DatabaseConfig, EXPECTS_OF_MANY, FolderConfig, absolute, file};
use crate::args::{StoreArgs, parse_duration};
use crate::database::Synchronous;
use crate::exit::Failure;
use crate::location::{Location, S3Location, clean_prefix};
use crate::slot_file::Reserve;
use crate::socket::Socket;

impl Config {
    /// Parses a config's text, YAML or JSON.
    ///
    /// # Errors
    /// [`Failure`] with exit code 2 that names line and key of the first problem.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        Self::check(text).map_err(|problems| failure(&problems))
    }

    /// Parses a config's text, YAML or JSON.
    ///
    /// # Errors
    /// Everything that is wrong. Of a text whose shape is wrong only the first thing, because what follows from it is none.
    pub fn check(text: &str) -> Result<Self, Vec<Problem>> {
        let mut problems = Problems::of(text);
        let mut ignored = Vec::new();
        let file = match decode(text, &mut ignored) {
            Ok(file) => file,
            Err(error) => {
                problems.undecodable(&error);
                return Err(problems.into_sorted());
            }
        };
        let mut reading = Reading { file: &file, config: Self::default(), problems };
        reading.note_ignored(&ignored);
        reading.top();
        for (number, entry) in file.dbs.iter().flatten().enumerate() {
            reading.entry(&format!("dbs[{number}]"), entry);
        }
        let Reading { config, problems, .. } = reading;
        if problems.is_empty() { Ok(config) } else { Err(problems.into_sorted()) }
    }
}

/// The file, and the places of the keys that nothing took.
fn decode(text: &str, ignored: &mut Vec<String>) -> Result<file::File, serde_saphyr::Error> {
    if text.trim().is_empty() {
        return Ok(file::File::default());
    }
    // An excerpt of the file could show its secrets.
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::with_deserializer_from_str_with_options(text, options, |deserializer| {
        let mut note = |path: KeyPath<'_>| ignored.push(spelled(&path));
        let tracked = serde_ignored::Deserializer::new(deserializer, &mut note);
        Option::<file::File>::deserialize(tracked).map(Option::unwrap_or_default)
    })
}

/// A place in the file, as [`super::lines::Lines`] spells it.
fn spelled(path: &KeyPath<'_>) -> String {
    match path {
        KeyPath::Root => String::new(),
        KeyPath::Seq { parent, index } => format!("{}[{index}]", spelled(parent)),
        KeyPath::Map { parent, key } => match spelled(parent) {
            parent if parent.is_empty() => key.clone(),
            parent => format!("{parent}.{key}"),
        },
        KeyPath::Some { parent } | KeyPath::NewtypeStruct { parent } | KeyPath::NewtypeVariant { parent } => {
            spelled(parent)
        }
    }
}

/// A config that is being read.
struct Reading<'f> {
    file: &'f file::File,
    config: Config,
    problems: Problems,
}

impl Reading<'_> {
    /// Keys nothing took: Litestream's are mentioned, all others are typing errors.
    fn note_ignored(&mut self, keys: &[String]) {
        for key in keys {
            let name = key.rsplit('.').next().unwrap_or(key);
            if file::LITESTREAM_KEYS.contains(&name) {
                let line = self.problems.line(key).map(|line| format!("line {line}: ")).unwrap_or_default();
                self.config.remarks.push(format!("{line}litestream's key '{key}' has no effect here"));
            } else {
                self.problems.unknown_key(key);
            }
        }
    }

    fn top(&mut self) {
        let file = self.file;
        self.config.addr.clone_from(&file.addr);
        if let Some(socket) = &file.socket {
            self.config.socket = named_socket(socket);
        }
        self.set("flush-timeout", &file.flush_timeout, parse_duration, |config| &mut config.flush_timeout);
        self.set("handover-timeout", &file.handover_timeout, parse_duration, |config| {
            &mut config.handover_timeout
        });
        self.set("max-open-databases", &file.max_open_databases, at_least_one, |config| {
            &mut config.max_open_databases
        });
        self.set("max-concurrent-uploads", &file.max_concurrent_uploads, at_least_one, |config| {
            &mut config.max_concurrent_uploads
        });
        self.set("metrics-databases-max", &file.metrics_databases_max, parse_size, |config| {
            &mut config.metrics_databases_max
        });
        self.set("disk-reserve", &file.disk_reserve, parse_reserve, |config| &mut config.disk_reserve);
        self.config.exec.clone_from(&file.exec);
        self.config.handover_dir = file.handover_dir.clone().map(PathBuf::from);
    }

    fn set<T>(
        &mut self,
        key: &str,
        text: &Option<String>,
        parse: impl FnOnce(&str) -> Result<T, String>,
        place: impl FnOnce(&mut Config) -> &mut T,
    ) {
        if let Some(value) = self.value(key, text.as_deref(), parse) {
            *place(&mut self.config) = value;
        }
    }

    /// A value that was given and is right.
    fn value<T>(
        &mut self,
        key: &str,
        text: Option<&str>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        text.and_then(|text| self.problems.take(key, parse(text)))
    }

    fn entry(&mut self, at: &str, entry: &file::Database) {
        let named = self.problems.take(at, entry_path(entry));
        let location = self.entry_location(at, entry);
        let (Some(named), Some(location)) = (named, location) else { return };
        let path = expand_home(named);
        let folder = match &entry.dir {
            Some(_) => FolderConfig::from_entry(entry, &path, &location).map(Some),
            None => FolderConfig::from_path(&path, &location),
        };
        let folder = folder.map_err(|failure| format!("{named}: {failure}"));
        match self.problems.take(at, folder) {
            Some(Some(_)) if entry.name.is_some() => self.problems.note(
                format!("{at}.name"),
                format!("{named}: many databases cannot have one 'name'; remove it"),
            ),
            Some(Some(_)) if entry.expect_data.is_some() => {
                self.problems.note(format!("{at}.expect-data"), format!("{named}: {EXPECTS_OF_MANY}"));
            }
            Some(Some(mut folder)) => {
                self.fill(at, &mut folder.each, entry);
                if self.is_its_own(at, &folder.each, |_| false) {
                    self.config.folders.push(folder);
                }
            }
            Some(None) => self.database(at, &path, location, entry),
            None => {}
        }
    }

    fn database(&mut self, at: &str, path: &Path, location: Location, entry: &file::Database) {
        let database = DatabaseConfig::new(path, location).map_err(|failure| failure.message);
        let Some(mut database) = self.problems.take(at, database) else { return };
        database.name = entry.name.clone().unwrap_or(database.name);
        self.fill(at, &mut database, entry);
        let is_same = |other: &DatabaseConfig| other.path == database.path || other.name == database.name;
        if self.is_its_own(at, &database, is_same) {
            self.config.databases.push(database);
        }
    }

    fn is_its_own(
        &mut self,
        at: &str,
        database: &DatabaseConfig,
        is_same: impl Fn(&DatabaseConfig) -> bool,
    ) -> bool {
        let is_taken = self.config.every().any(|other| other.location == database.location);
        let is_its_own = !is_taken && !self.config.databases.iter().any(is_same);
        if !is_its_own {
            let name = &database.name;
            self.problems.note(
                at,
                format!("{name} is listed twice: every database has a path, a name and a replica of its own"),
            );
        }
        is_its_own
    }

    fn entry_location(&mut self, at: &str, entry: &file::Database) -> Option<Location> {
        let path = entry.path.as_ref().or(entry.dir.as_ref()).map_or("", String::as_str);
        let (key, replica) = match (&entry.replica, entry.replicas.as_slice()) {
            (Some(replica), []) => ("replica", replica),
            (None, [replica]) => ("replicas[0]", replica),
            (None, []) => {
                self.problems.note(at, format!("{path}: the key 'replica' is missing"));
                return None;
            }
            (Some(_) | None, _) => {
                let message = format!("{path}: one replica for each database; remove the others");
                self.problems.note(format!("{at}.replicas"), message);
                return None;
            }
        };
        let key = format!("{at}.{key}");
        let path_style = replica.force_path_style.as_deref();
        let path_style = self.value(&format!("{key}.force-path-style"), path_style, parse_bool);
        let location = location(self.file, replica, path_style).map_err(|wrong| format!("{path}: {wrong}"));
        self.problems.take(&key, location)
    }

    /// What the keys of an entry, and above it those of the file, say of a database.
    fn fill(&mut self, at: &str, database: &mut DatabaseConfig, entry: &file::Database) {
        let (file, before) = (self.file, self.problems.len());
        let (interval, place) = own_interval(at, entry);
        let interval = self.layered(&place, "sync-interval", interval, &file.sync_interval, parse_duration);
        database.sync_interval = interval.unwrap_or(database.sync_interval);
        database.max_lag = self.layered(at, "max-lag", &entry.max_lag, &file.max_lag, parse_duration);
        let (own, top) = (&entry.max_requests_per_day, &file.max_requests_per_day);
        database.max_requests_per_day = self.layered(at, "max-requests-per-day", own, top, parse_number);
        let enforce = self.layered(at, "enforce-wal", &entry.enforce_wal, &file.enforce_wal, parse_bool);
        database.enforce_wal = enforce.unwrap_or(true);
        let synchronous =
            self.layered(at, "synchronous", &entry.synchronous, &file.synchronous, parse_synchronous);
        database.synchronous = synchronous.unwrap_or_default();
        let expects = self.value(&format!("{at}.expect-data"), entry.expect_data.as_deref(), parse_bool);
        database.expects_data = expects.unwrap_or(false);
        for (place, keys) in [(String::new(), file.history()), (format!("{at}."), entry.history())] {
            let history = database.history.with(keys);
            let history = history.map_err(|(key, wrong)| self.problems.note(format!("{place}{key}"), wrong));
            database.history = history.unwrap_or(database.history);
        }
        if self.problems.len() > before {
            return;
        }
        if let Err((key, wrong)) = database.check_rhythm() {
            let own = format!("{place}.{key}");
            let key = if self.problems.is_written(&own) { own } else { key.to_owned() };
            let key = if self.problems.is_written(&key) { key } else { at.to_owned() };
            self.problems.note(key, format!("{}: {wrong}", database.name));
        }
    }

    /// The value of an entry's key, else that of the file's.
    fn layered<T>(
        &mut self,
        at: &str,
        key: &str,
        own: &Option<String>,
        top: &Option<String>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match own {
            Some(own) => self.value(&format!("{at}.{key}"), Some(own), parse),
            None => self.value(key, top.as_deref(), parse),
        }
    }
}

/// The entry's own interval, and where it stands: there, or at its replica as with Litestream.
fn own_interval<'e>(at: &str, entry: &'e file::Database) -> (&'e Option<String>, String) {
    match (&entry.sync_interval, &entry.replica, entry.replicas.first()) {
        (None, Some(replica), _) => (&replica.sync_interval, format!("{at}.replica")),
        (None, None, Some(replica)) => (&replica.sync_interval, format!("{at}.replicas[0]")),
        (Some(_), _, _) | (None, None, None) => (&entry.sync_interval, at.to_owned()),
    }
}

/// The path or folder of an entry.
fn entry_path(entry: &file::Database) -> Result<&str, String> {
    match (&entry.path, &entry.dir) {
        (Some(path), None)
            if entry.pattern.is_some() || entry.recursive.is_some() || entry.watch.is_some() =>
        {
            Err(format!(
                "{path}: 'pattern', 'recursive' and 'watch' belong to 'dir', and 'path' takes wildcards itself"
            ))
        }
        (Some(path), None) | (None, Some(path)) => Ok(path),
        (None, None) => Err("the key 'path' is missing".to_owned()),
        (Some(path), Some(_)) => Err(format!("{path}: an entry has one of 'path' and 'dir'")),
    }
}

fn location(
    file: &file::File,
    replica: &file::Replica,
    force_path_style: Option<bool>,
) -> Result<Location, String> {
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
        s3.force_path_style = force_path_style.or(s3.force_path_style);
        s3.ca_file = replica.ca_file.as_deref().map(expand_home).or_else(|| s3.ca_file.take());
        s3.sse = replica.sse.clone().or_else(|| s3.sse.take());
        s3.sse_kms_key_id = replica.sse_kms_key_id.clone().or_else(|| s3.sse_kms_key_id.take());
        s3.storage_class = replica.storage_class.clone().or_else(|| s3.storage_class.take());
        s3.keys = keys(file, replica)?;
    }
    location.with_flags(&StoreArgs::default())
}

/// The replica's keys, else the file's.
fn keys(file: &file::File, replica: &file::Replica) -> Result<Option<Keys>, String> {
    let id = replica.access_key_id.as_ref().or(file.access_key_id.as_ref());
    let secret = replica.secret_access_key.as_ref().or(file.secret_access_key.as_ref());
    match (id, secret) {
        (Some(id), Some(secret)) => Ok(Some(Keys { id: id.clone(), secret: secret.clone() })),
        (None, None) => Ok(None),
        (Some(_) | None, _) => Err("'access-key-id' and 'secret-access-key' go together".to_owned()),
    }
}

fn named_socket(socket: &file::Socket) -> Socket {
    match socket {
        file::Socket::Path(path) => Socket::from(PathBuf::from(path)),
        file::Socket::Table(table) if !table.enabled => Socket::Usual,
        file::Socket::Table(table) => {
            table.path.as_ref().map_or(Socket::Usual, |path| Socket::from(PathBuf::from(path)))
        }
    }
}

fn expand_home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        (Some(_) | None, _) => PathBuf::from(path),
    }
}

/// `true` or `false`, and YAML's other words for them.
pub(super) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "true" | "yes" | "on" => Ok(true),
        "false" | "no" | "off" => Ok(false),
        _ => Err(format!("'{text}' is neither true nor false")),
    }
}

/// As SQLite writes it, in capitals or not.
fn parse_synchronous(text: &str) -> Result<Synchronous, String> {
    Synchronous::from_str(text, true).map_err(|_| format!("'{text}' is neither normal nor off"))
}

fn parse_number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("'{text}' is no whole number from 0 to {}", u32::MAX))
}

fn parse_size(text: &str) -> Result<usize, String> {
    usize::try_from(parse_number(text)?).map_err(|error| error.to_string())
}

fn parse_reserve(text: &str) -> Result<Reserve, String> {
    let bytes = text.parse::<ByteSize>();
    bytes
        .map(|bytes| Reserve::of(bytes.as_u64()))
        .map_err(|_| format!("'{text}' is no size; write it like 512MiB or 2GB"))
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match parse_size(text)? {
        0 => Err("this is at least 1".to_owned()),
        number => Ok(number),
    }
}
