//! Credentials in files, as Kubernetes projects a Secret.
//!
//! The files are read again every 30 seconds and after a refusal, so rotating the Secret needs no restart.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, Result, future};

/// A folder with the files `access-key-id`, `secret-access-key` and perhaps `session-token`.
#[derive(Clone, Debug)]
pub struct CredentialsDir(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    kept: Mutex<Option<Kept>>,
}

/// What was read, and when.
#[derive(Clone, Debug)]
struct Kept {
    credentials: Credentials,
    read: Instant,
}

impl CredentialsDir {
    /// Credentials from this folder. Nothing is read yet.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self(Arc::new(Inner { folder, kept: Mutex::new(None) }))
    }

    /// Reads again what a server has just refused. Returns whether it changed, so that asking again makes sense.
    pub(crate) fn has_changed(&self) -> bool {
        let before = self.kept();
        let Ok(credentials) = read(&self.0.folder) else {
            return false;
        };
        let is_same = before.as_ref().is_some_and(|before| is_same(&before.credentials, &credentials));
        self.keep(credentials);
        !is_same
    }

    fn current(&self) -> Result {
        match self.kept() {
            Some(kept) if kept.read.elapsed() < GOOD_FOR => Ok(kept.credentials),
            Some(_) | None => {
                let credentials = read(&self.0.folder)?;
                self.keep(credentials.clone());
                Ok(credentials)
            }
        }
    }

    fn kept(&self) -> Option<Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, credentials: Credentials) {
        let kept = Kept { credentials, read: Instant::now() };
        *self.0.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
    }
}

impl ProvideCredentials for CredentialsDir {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        // Three small files, usually in memory: not worth a thread.
        future::ProvideCredentials::ready(self.current())
    }
}

fn read(folder: &Path) -> Result {
    let access_key_id =
        read_file(folder, "access-key-id")?.ok_or_else(|| missing(folder, "access-key-id"))?;
    let secret =
        read_file(folder, "secret-access-key")?.ok_or_else(|| missing(folder, "secret-access-key"))?;
    let token = read_file(folder, "session-token")?;
    Ok(Credentials::new(access_key_id, secret, token, None, "CredentialsDir"))
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

const GOOD_FOR: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, id: &str, secret: &str) {
        std::fs::write(folder.join("access-key-id"), id).unwrap();
        std::fs::write(folder.join("secret-access-key"), secret).unwrap();
    }

    #[test]
    fn a_changed_secret_is_seen_after_a_refusal_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "id\n", "one\n");
        let dir = CredentialsDir::new(folder.path().to_owned());
        assert_eq!(dir.current().unwrap().access_key_id(), "id");
        assert!(!dir.has_changed());
        write(folder.path(), "id", "two");
        std::fs::write(folder.path().join("session-token"), "token").unwrap();
        assert_eq!(dir.current().unwrap().secret_access_key(), "one");
        assert!(dir.has_changed());
        assert_eq!(dir.current().unwrap().secret_access_key(), "two");
        assert_eq!(dir.current().unwrap().session_token(), Some("token"));
    }

    #[test]
    fn a_missing_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "id", " \n");
        let error = CredentialsDir::new(folder.path().to_owned()).current().unwrap_err();
        let reason = std::error::Error::source(&error).unwrap().to_string();
        assert!(reason.ends_with("secret-access-key is missing or empty"), "{reason}");
    }

    #[test]
    fn what_is_kept_shows_no_secret_when_printed() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "id", "hush");
        let dir = CredentialsDir::new(folder.path().to_owned());
        dir.current().unwrap();
        assert!(!format!("{dir:?}").contains("hush"));
    }
}
