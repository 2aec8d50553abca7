//! Credentials that change while we run: files of a folder, as Kubernetes projects a Secret, or whatever the AWS SDK finds.
//!
//! What was read is kept for a while, and read again when it is about to expire, and whenever a server refuses it: old keys may
//! end at any moment, and whoever rotates them must not have to restart us. The SDK's own chain is built anew each time,
//! because it reads its files only once.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use aws_config::Region;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, Result, future};
use aws_sdk_s3::config::SharedHttpClient;
use tokio::sync::Mutex;

/// Where credentials come from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// A folder with the files `access-key-id`, `secret-access-key` and perhaps `session-token`.
    Folder(PathBuf),
    /// Environment, profile, process, container or machine: the first that has any, as the AWS SDK looks for them.
    Usual {
        /// For those that are asked over the network.
        http: SharedHttpClient,
        /// For those that are asked in a region.
        region: Option<Region>,
    },
}

/// The credentials in use, shared by all who ask the same server.
#[derive(Clone, Debug)]
pub(super) struct Rotating(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    source: Source,
    /// Grows whenever other credentials are read.
    version: AtomicU64,
    kept: Mutex<Option<Kept>>,
}

/// What was read, and when.
#[derive(Debug)]
struct Kept {
    credentials: Credentials,
    read: Instant,
}

impl Rotating {
    /// Credentials from there. Nothing is read yet.
    pub(super) fn new(source: Source) -> Self {
        Self(Arc::new(Inner { source, version: AtomicU64::new(0), kept: Mutex::new(None) }))
    }

    /// Names the credentials that a request sent now is signed with.
    pub(super) fn version(&self) -> u64 {
        self.0.version.load(Ordering::SeqCst)
    }

    /// Whether there are others than those a server has just refused, so that asking again makes sense. Of many who are
    /// refused at once the first reads again, and the others see what it found.
    pub(super) async fn are_newer_than(&self, refused: u64) -> bool {
        let mut kept = self.0.kept.lock().await;
        if self.version() != refused {
            return true;
        }
        if let Ok(credentials) = self.0.source.read().await {
            self.keep(&mut kept, credentials);
        }
        self.version() != refused
    }

    async fn current(&self) -> Result {
        let mut kept = self.0.kept.lock().await;
        if let Some(kept) = kept.as_ref().filter(|kept| self.0.source.is_fresh(kept)) {
            return Ok(kept.credentials.clone());
        }
        match (self.0.source.read().await, kept.as_ref()) {
            (Ok(credentials), _) => {
                self.keep(&mut kept, credentials.clone());
                Ok(credentials)
            }
            // Half way through a rotation, or nobody answers; what we have may still do.
            (Err(error), Some(kept)) if !kept.ends_within(Duration::ZERO) => {
                tracing::debug!("credentials cannot be read again, the old ones are used: {error}");
                Ok(kept.credentials.clone())
            }
            (Err(error), Some(_) | None) => Err(error),
        }
    }

    fn keep(&self, kept: &mut Option<Kept>, credentials: Credentials) {
        if !kept.as_ref().is_some_and(|kept| is_same(&kept.credentials, &credentials)) {
            self.0.version.fetch_add(1, Ordering::SeqCst);
        }
        *kept = Some(Kept { credentials, read: Instant::now() });
    }
}

impl ProvideCredentials for Rotating {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.current())
    }
}

impl Source {
    async fn read(&self) -> Result {
        match self {
            // Three small files, usually in memory: not worth a thread.
            Self::Folder(folder) => read(folder),
            Self::Usual { http, region } => {
                let asked = ProviderConfig::without_region()
                    .with_region(region.clone())
                    .with_http_client(http.clone());
                let chain = DefaultCredentialsChain::builder().configure(asked).build().await;
                chain.provide_credentials().await
            }
        }
    }

    fn is_fresh(&self, kept: &Kept) -> bool {
        let (age, good_for) = (kept.read.elapsed(), self.good_for());
        match kept.credentials.expiry() {
            Some(_) => {
                !kept.ends_within(BEFORE_THE_END) || (age < AGAIN && !kept.ends_within(Duration::ZERO))
            }
            None => age < good_for,
        }
    }

    /// How long credentials that name no end of their own are believed.
    const fn good_for(&self) -> Duration {
        match self {
            Self::Folder(_) => Duration::from_secs(30),
            Self::Usual { .. } => Duration::from_secs(5 * 60),
        }
    }
}

impl Kept {
    fn ends_within(&self, time: Duration) -> bool {
        self.credentials.expiry().is_some_and(|end| end <= SystemTime::now() + time)
    }
}

fn read(folder: &Path) -> Result {
    let access_key_id =
        read_file(folder, "access-key-id")?.ok_or_else(|| missing(folder, "access-key-id"))?;
    let secret =
        read_file(folder, "secret-access-key")?.ok_or_else(|| missing(folder, "secret-access-key"))?;
    let token = read_file(folder, "session-token")?;
    Ok(Credentials::new(access_key_id, secret, token, None, "folder"))
}

/// The content without white space around it; `None` for no file or an empty one.
fn read_file(folder: &Path, name: &str) -> std::result::Result<Option<String>, CredentialsError> {
    match std::fs::read_to_string(folder.join(name)) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let reason = format!("{} cannot be read: {error}", folder.join(name).display());
            Err(CredentialsError::not_loaded(reason))
        }
    }
}

fn missing(folder: &Path, name: &str) -> CredentialsError {
    CredentialsError::not_loaded(format!("{} is missing or empty", folder.join(name).display()))
}

fn is_same(a: &Credentials, b: &Credentials) -> bool {
    (a.access_key_id(), a.secret_access_key(), a.session_token())
        == (b.access_key_id(), b.secret_access_key(), b.session_token())
}

/// So long before their end credentials are read again.
const BEFORE_THE_END: Duration = Duration::from_secs(60);
/// Credentials that are issued for less than that are not asked for with every request.
const AGAIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, id: &str, secret: &str) {
        std::fs::write(folder.join("access-key-id"), id).unwrap();
        std::fs::write(folder.join("secret-access-key"), secret).unwrap();
    }

    fn of(folder: &Path) -> Rotating {
        Rotating::new(Source::Folder(folder.to_owned()))
    }

    #[tokio::test]
    async fn a_changed_secret_is_seen_after_a_refusal_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "id\n", "one\n");
        let rotating = of(folder.path());
        assert_eq!(rotating.current().await.unwrap().access_key_id(), "id");
        let used = rotating.version();
        assert!(!rotating.are_newer_than(used).await);
        write(folder.path(), "id", "two");
        std::fs::write(folder.path().join("session-token"), "token").unwrap();
        assert_eq!(rotating.current().await.unwrap().secret_access_key(), "one");
        assert!(rotating.are_newer_than(used).await);
        assert_eq!(rotating.current().await.unwrap().secret_access_key(), "two");
        assert_eq!(rotating.current().await.unwrap().session_token(), Some("token"));
    }

    #[tokio::test]
    async fn everybody_who_was_refused_with_the_old_keys_hears_of_the_new_ones() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "id", "one");
        let rotating = of(folder.path());
        rotating.current().await.unwrap();
        let used = rotating.version();
        write(folder.path(), "id", "two");
        for part in 0..3 {
            assert!(rotating.are_newer_than(used).await, "part {part}");
        }
        assert!(!rotating.are_newer_than(rotating.version()).await);
    }

    #[tokio::test]
    async fn credentials_that_cannot_be_read_again_are_used_on() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "id", "one");
        let rotating = of(folder.path());
        rotating.current().await.unwrap();
        std::fs::remove_file(folder.path().join("access-key-id")).unwrap();
        let long_ago = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
        rotating.0.kept.lock().await.as_mut().unwrap().read = long_ago;
        assert_eq!(rotating.current().await.unwrap().secret_access_key(), "one");
    }

    #[test]
    fn credentials_are_read_again_before_they_end() {
        let source = Source::Folder(PathBuf::new());
        let kept = |seconds, age| Kept {
            credentials: Credentials::new(
                "id",
                "secret",
                None,
                Some(SystemTime::now() + Duration::from_secs(seconds)),
                "test",
            ),
            read: Instant::now().checked_sub(Duration::from_secs(age)).unwrap(),
        };
        assert!(source.is_fresh(&kept(3600, 1800)));
        assert!(!source.is_fresh(&kept(30, 1800)));
        assert!(source.is_fresh(&kept(30, 1)), "issued for half a minute");
        assert!(!source.is_fresh(&kept(0, 1)));
    }

    #[tokio::test]
    async fn a_missing_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "id", " \n");
        let error = of(folder.path()).current().await.unwrap_err();
        let reason = std::error::Error::source(&error).unwrap().to_string();
        assert!(reason.ends_with("secret-access-key is missing or empty"), "{reason}");
    }

    #[tokio::test]
    async fn what_is_kept_shows_no_secret_when_printed() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "id", "hush");
        let rotating = of(folder.path());
        rotating.current().await.unwrap();
        assert!(!format!("{rotating:?}").contains("hush"));
    }
}
