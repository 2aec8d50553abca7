//! From a location to the replica in its store.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lifeboat_replica::layout::Layout;
use lifeboat_store::{Counted, Directory, Requests, S3, S3Config, Store};
use lifeboat_wire::Reason;

use crate::args::{ConfigArgs, ReplicaArgs, StoreArgs};
use crate::bucket::Bucket;
use crate::config::Config;
use crate::database::network_file_system;
use crate::exit::Failure;
use crate::location::{Location, S3Location, is_url};

/// What to do about a replica's folder that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folder {
    /// It is made: something will be stored there.
    Create,
    /// It is refused: nothing can be restored from there.
    MustExist,
}

/// Prepares the replica at `location`. A bucket is asked nothing yet.
///
/// # Errors
/// [`Failure`] when the location cannot be one.
pub async fn open(location: &Location, folder: Folder) -> Result<Bucket, Failure> {
    match location {
        Location::Directory(path) => {
            Ok(Bucket::new(Arc::new(directory(path, folder).await?), Layout::Directory))
        }
        Location::S3(s3) => {
            let store = S3::open(s3_config(s3)?).await?;
            Ok(Bucket::new(Arc::new(store), Layout::Bucket))
        }
    }
}

/// A store that a replica lies in.
#[derive(Clone, Debug)]
struct Known {
    root: S3Location,
    store: S3,
    /// Shared by its replicas: see [`Bucket::asking_with`].
    asking: Arc<tokio::sync::Mutex<()>>,
}

/// The connections to stores, one for each server, bucket and set of keys, however many replicas lie there.
#[derive(Debug, Default)]
pub struct Stores {
    known: Mutex<Vec<Known>>,
    requests: Arc<Requests>,
}

impl Stores {
    /// Connections whose requests count into `requests`.
    #[must_use]
    pub fn counting(requests: Arc<Requests>) -> Self {
        Self { known: Mutex::default(), requests }
    }

    /// As [`open`], over a connection that is there already, if there is one.
    ///
    /// # Errors
    /// As [`open`].
    pub async fn open(&self, location: &Location, folder: Folder) -> Result<Bucket, Failure> {
        let s3 = match location {
            Location::S3(s3) => s3,
            Location::Directory(path) => {
                return Ok(Bucket::new(self.counted(directory(path, folder).await?), Layout::Directory));
            }
        };
        let root = S3Location { path: String::new(), ..s3.clone() };
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known().iter().find(|known| known.root == root).cloned();
        let Known { store, asking, .. } = match found {
            Some(found) => found,
            None => {
                let store = S3::open(s3_config(&root)?).await?;
                let new = Known { root, store, asking: Arc::default() };
                known().push(new.clone());
                new
            }
        };
        let bucket = Bucket::new(self.counted(store.below(&s3.path)), Layout::Bucket);
        Ok(bucket.asking_with(asking))
    }

    fn counted(&self, store: impl Store + 'static) -> Arc<dyn Store> {
        Arc::new(Counted::new(store, Arc::clone(&self.requests)))
    }
}

async fn directory(path: &Path, folder: Folder) -> Result<Directory, Failure> {
    Ok(match folder {
        Folder::Create => {
            require_exclusive(path)?;
            Directory::create(path.to_owned()).await?
        }
        Folder::MustExist => Directory::open(path.to_owned()).await?,
    })
}

/// The replica that a user means: by its URL, or by a database of the config file.
///
/// # Errors
/// [`Failure`] with exit code 2 or 4.
pub fn meant(source: &str, config: &ConfigArgs, flags: &StoreArgs) -> Result<Location, Failure> {
    named(source, config, flags).map(|(location, _)| location)
}

/// The same, and the database itself where that is what was named.
///
/// # Errors
/// As [`meant`].
pub fn meant_database(replica: &ReplicaArgs) -> Result<(Location, Option<PathBuf>), Failure> {
    named(&replica.source, &replica.config, &replica.store)
}

fn named(
    source: &str,
    config: &ConfigArgs,
    flags: &StoreArgs,
) -> Result<(Location, Option<PathBuf>), Failure> {
    if is_url(source) {
        return Ok((Location::parse(source, flags).map_err(Failure::usage)?, None));
    }
    let database = Config::read(config)?.find(Path::new(source))?;
    Ok((database.location.with_flags(flags).map_err(Failure::usage)?, Some(database.path)))
}

/// Refuses a folder on a file system on which two machines may both be told that they created one file.
///
/// # Errors
/// [`Failure`] that names the file system.
pub fn require_exclusive(folder: &Path) -> Result<(), Failure> {
    let mut there = folder;
    while !there.exists() {
        let Some(above) = there.parent() else { return Ok(()) };
        there = if above.as_os_str().is_empty() { Path::new(".") } else { above };
    }
    let found = network_file_system(there);
    let found =
        found.map_err(|error| Failure::unavailable(format!("file://{}: {error}", folder.display())))?;
    found.map_or(Ok(()), |name| {
        Err(Failure::refused(
            Reason::StoreNotConformant,
            format!(
                "file://{} is on {name}, where creating a file exclusively and locking a folder cannot be relied on between \
                 machines; use a local disk, or a bucket",
                folder.display()
            ),
        ))
    })
}

/// How a bucket is reached.
///
/// # Errors
/// [`Failure`] about values that cannot be.
pub fn s3_config(s3: &S3Location) -> Result<S3Config, Failure> {
    let from_environment = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    Ok(S3Config {
        bucket: s3.bucket.clone(),
        path: s3.path.clone(),
        region: s3.region.clone(),
        endpoint: s3.endpoint.clone(),
        force_path_style: s3.force_path_style.unwrap_or_else(|| s3.endpoint.is_some()),
        credentials_dir: from_environment("LIFEBOAT_CREDENTIALS_DIR"),
        keys: s3.keys.clone(),
        kept_as: s3.kept_as().map_err(Failure::usage)?,
        ca_file: s3.ca_file.clone().or_else(|| from_environment("AWS_CA_BUNDLE")),
        attempt_timeout: ATTEMPT_TIMEOUT,
    })
}

/// How long the store may take before its first answer.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
