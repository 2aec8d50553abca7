//! Any server that speaks S3.
//!
//! In:  calls of [`Store`].
//! Out: signed requests, and answers that were checked: sizes, ranges, complete lists.
//!
//! Writes go out once: whether to repeat one whose outcome is unknown is the caller's business. Reads are tried twice.
//! Only SigV4 with the payload's SHA-256 or MD5 is used to guard uploads, because the newer checksum headers are not
//! understood by every server.

mod answer;
mod copy;
mod credentials;
mod kept_as;
mod parts;
mod patience;
mod request;
mod tls;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::StalledStreamProtectionConfig;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    IdentityCache, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
};

use self::credentials::{Rotating, Source};
use self::patience::Patience;
use crate::error::{Place, StoreError};

pub use self::kept_as::KeptAs;

/// Where a bucket is and how to get in.
#[derive(Clone, Debug)]
pub struct S3Config {
    /// Name of the bucket.
    pub bucket: String,
    /// What goes in front of every key; may be empty. Slashes at its ends do not count.
    pub path: String,
    /// The region. Without one: environment, then profile, then `us-east-1` where an endpoint is given.
    pub region: Option<String>,
    /// URL of the server; AWS when none is given.
    pub endpoint: Option<String>,
    /// Puts the bucket into the URL's path instead of its host name.
    pub force_path_style: bool,
    /// A folder with credentials; without one `keys`, and without them the SDK's default chain.
    pub credentials_dir: Option<PathBuf>,
    /// Credentials that the caller was told, as by a config file.
    pub keys: Option<Keys>,
    /// How new objects are kept.
    pub kept_as: KeptAs,
    /// A PEM file with authorities to believe besides the machine's own.
    pub ca_file: Option<PathBuf>,
    /// How long one attempt may take before its first answer. Uploads may take any time while they move.
    pub attempt_timeout: Duration,
}

/// An access key and its secret, which is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// The access key id.
    pub id: String,
    /// The secret access key.
    pub secret: String,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A bucket on a server that speaks S3.
#[derive(Clone, Debug)]
pub struct S3 {
    /// For reads: tries twice.
    reads: Client,
    /// For writes: tries once.
    writes: Client,
    bucket: String,
    path: String,
    /// Shared by all paths of the bucket: they have one link.
    patience: Arc<Patience>,
    copy_bytes_max: u64,
    kept_as: KeptAs,
    /// Those that may change; `None` for fixed ones.
    credentials: Option<Rotating>,
    store: Arc<str>,
}

impl S3 {
    /// Prepares to use a bucket. Asks it nothing yet.
    ///
    /// # Errors
    /// [`StoreError::Misconfigured`] when the region is missing, or bucket or endpoint are no such thing.
    pub async fn open(config: S3Config) -> Result<Self, StoreError> {
        let path = config.path.trim_matches('/').to_owned();
        let store: Arc<str> = describe(&config, &path).into();
        let wrong = |reason: &str| {
            let place = Place { key: String::new(), store: store.clone() };
            Err(StoreError::Misconfigured { place, reason: reason.to_owned() })
        };
        if config.bucket.is_empty() || config.bucket.contains('/') {
            return wrong("the name of the bucket is empty or contains a slash");
        }
        if config.endpoint.as_ref().is_some_and(|endpoint| !is_http(endpoint)) {
            return wrong("the endpoint must begin with http:// or https://");
        }
        let http = match tls::http_client(config.ca_file.as_deref()) {
            Ok(http) => http,
            Err(reason) => return wrong(&reason),
        };
        let sdk = sdk_config(&config, http.clone()).await;
        if sdk.region().is_none() {
            return wrong(
                "no region is set; name it with --region or AWS_REGION, or name a server with --endpoint",
            );
        }
        let credentials = credentials(&config, http, sdk.region().cloned());
        let client = |retry| client_config(&sdk, &config, credentials.clone()).retry_config(retry);
        let reads = client(RetryConfig::standard().with_max_attempts(2));
        // Uploads are watched over here: the SDK would give up one on a slow link.
        let watch = StalledStreamProtectionConfig::enabled().upload_enabled(false).build();
        let writes = client(RetryConfig::disabled()).stalled_stream_protection(watch);
        Ok(Self {
            reads: Client::from_conf(reads.build()),
            writes: Client::from_conf(writes.build()),
            bucket: config.bucket,
            path,
            patience: Arc::new(Patience::new(config.attempt_timeout)),
            copy_bytes_max: copy::BYTES_MAX,
            kept_as: config.kept_as,
            credentials,
            store,
        })
    }

    /// Another path of the same bucket, over the same connections.
    #[must_use]
    pub fn below(&self, path: &str) -> Self {
        let store = format!("{}", self.store);
        let (bucket, endpoint) = store.split_once(" at ").unwrap_or((&store, ""));
        let at = if endpoint.is_empty() { String::new() } else { format!(" at {endpoint}") };
        let below = self.full_key(path.trim_matches('/'));
        let store = format!("{}/{}{at}", bucket.trim_end_matches('/'), path.trim_matches('/'));
        Self {
            path: below.trim_end_matches('/').to_owned(),
            store: store.trim_end_matches('/').into(),
            ..self.clone()
        }
    }

    /// The same for a server that copies no more than so many bytes, at least 5 MiB, in one request.
    #[must_use]
    pub fn copying_at_most(self, bytes: u64) -> Self {
        Self { copy_bytes_max: bytes, ..self }
    }

    /// The whole key: the store's path, then the caller's key.
    fn full_key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}/{key}", self.path) }
    }

    fn place(&self, key: &str) -> Place {
        Place { key: key.to_owned(), store: self.store.clone() }
    }
}

fn describe(config: &S3Config, path: &str) -> String {
    let slash = if path.is_empty() { "" } else { "/" };
    let url = format!("s3://{}{slash}{path}", config.bucket);
    match &config.endpoint {
        Some(endpoint) => format!("{url} at {}", without_password(endpoint)),
        None => url,
    }
}

/// An endpoint may carry a user and a password by mistake; messages must not.
fn without_password(endpoint: &str) -> String {
    match (endpoint.split_once("://"), endpoint.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        (Some(_) | None, Some(_) | None) => endpoint.to_owned(),
    }
}

fn is_http(endpoint: &str) -> bool {
    endpoint.starts_with("http://") || endpoint.starts_with("https://")
}

/// The region to use, unless the SDK's own chain is to find it.
async fn region(config: &S3Config) -> Option<Region> {
    if let Some(region) = &config.region {
        return Some(Region::new(region.clone()));
    }
    // Other servers than AWS do not care, but the signature needs one. The SDK's chain would end by asking the machine
    // for its own region, which says nothing about somebody else's server and takes seconds where nobody answers.
    config.endpoint.as_ref()?;
    let chain = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::new())
        .or_else(Region::from_static("us-east-1"));
    chain.region().await
}

async fn sdk_config(config: &S3Config, http: SharedHttpClient) -> SdkConfig {
    // No read timeout: it would count the upload too, and the SDK keeps a pool of connections for each value. A download
    // that stalls is ended by the SDK's watch over its throughput.
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(config.attempt_timeout);
    let mut loader =
        aws_config::defaults(BehaviorVersion::latest()).http_client(http).timeout_config(timeouts.build());
    if let Some(region) = region(config).await {
        loader = loader.region(region);
    }
    loader.load().await
}

/// The credentials that may change; `None` where the config names fixed ones.
fn credentials(config: &S3Config, http: SharedHttpClient, region: Option<Region>) -> Option<Rotating> {
    match (&config.credentials_dir, &config.keys) {
        (Some(folder), _) => Some(Rotating::new(Source::Folder(folder.clone()))),
        (None, Some(_)) => None,
        (None, None) => Some(Rotating::new(Source::Usual { http, region })),
    }
}

fn client_config(
    sdk: &SdkConfig,
    config: &S3Config,
    credentials: Option<Rotating>,
) -> aws_sdk_s3::config::Builder {
    let mut builder = aws_sdk_s3::config::Builder::from(sdk)
        .force_path_style(config.force_path_style)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(rotating) = credentials {
        // It keeps what it read itself, so that a refusal makes it read again at once.
        builder = builder.credentials_provider(rotating).identity_cache(IdentityCache::no_cache());
    } else if let Some(Keys { id, secret }) = config.keys.clone() {
        builder = builder.credentials_provider(Credentials::new(id, secret, None, None, "config"));
    }
    match &config.endpoint {
        Some(endpoint) => builder.endpoint_url(endpoint),
        None => builder,
    }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> S3Config {
        S3Config {
            bucket: "b".into(),
            path: "/a/b/".into(),
            region: Some("r".into()),
            endpoint: Some("http://user:secret@127.0.0.1:1".into()),
            force_path_style: true,
            credentials_dir: Some("/nowhere".into()),
            keys: None,
            kept_as: KeptAs::default(),
            ca_file: None,
            attempt_timeout: Duration::from_secs(1),
        }
    }

    #[tokio::test]
    async fn the_path_goes_in_front_of_keys_and_no_password_into_messages() {
        let store = S3::open(config()).await.unwrap();
        assert_eq!(store.full_key("0000/x"), "a/b/0000/x");
        assert_eq!(&*store.store, "s3://b/a/b at http://127.0.0.1:1");
        let store = S3::open(S3Config { path: "/".into(), endpoint: None, ..config() }).await.unwrap();
        assert_eq!(store.full_key("x"), "x");
        assert_eq!(&*store.store, "s3://b");
    }

    #[tokio::test]
    async fn what_cannot_be_a_bucket_or_an_endpoint_is_refused_at_once() {
        let wrong = [
            S3Config { bucket: String::new(), ..config() },
            S3Config { bucket: "a/b".into(), ..config() },
            S3Config { endpoint: Some("127.0.0.1:1".into()), ..config() },
            S3Config { ca_file: Some("/nowhere".into()), ..config() },
        ];
        for config in wrong {
            assert!(matches!(S3::open(config).await, Err(StoreError::Misconfigured { .. })));
        }
    }
}
