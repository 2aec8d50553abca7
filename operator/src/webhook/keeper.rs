//! Keeps the webhook's certificates: in the Secret, in the webhook configuration, and in our own server.
//!
//! Every replica of the operator runs this. The Secret is written by compare-and-swap on its `resourceVersion`, so they
//! agree; the bundle is written before a new leaf is served; and the server takes a new leaf without a restart. We are
//! ready only while the leaf that we serve verifies against the bundle that the API server has.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use lifeboat_api::names;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::certificates::{Certificates, renew};
use super::verify::{certificates, verifies};
use crate::Error;
use crate::args::RunArgs;
use crate::health::Readiness;
use crate::run::{ROUND_MAX, in_time};

/// How often everything is checked. Both reads are of single objects.
const EVERY: Duration = Duration::from_secs(10);

/// How soon a round that failed is tried again; twice as late each time, up to [`EVERY`].
const SOON: Duration = Duration::from_secs(1);

/// How often a lost race for the Secret is run again before it counts as a failure.
const RACES_MAX: usize = 5;

/// The certificate that is served now.
#[derive(Default)]
pub(crate) struct Served(ArcSwapOption<CertifiedKey>);

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served").field("has_certificate", &self.0.load().is_some()).finish()
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

/// Keeps the certificates of one replica of the operator.
pub(crate) struct Keeper {
    secrets: Api<Secret>,
    configurations: Api<MutatingWebhookConfiguration>,
    secret: String,
    configuration: String,
    host: String,
    served: Arc<Served>,
    readiness: Readiness,
}

impl Keeper {
    pub(crate) fn new(client: &Client, args: &RunArgs, readiness: Readiness) -> Self {
        Self {
            secrets: Api::namespaced(client.clone(), &args.namespace),
            configurations: Api::all(client.clone()),
            secret: args.webhook_secret.clone(),
            configuration: args.webhook_configuration.clone(),
            host: format!("{}.{}.svc", args.webhook_service, args.namespace),
            served: Arc::default(),
            readiness,
        }
    }

    /// What the server takes its certificate from.
    pub(crate) fn certificate(&self) -> Arc<dyn ResolvesServerCert> {
        Arc::clone(&self.served) as Arc<dyn ResolvesServerCert>
    }

    /// Keeps the certificates until cancelled.
    pub(crate) async fn run(self, cancelled: CancellationToken) {
        let mut pause = Duration::ZERO;
        loop {
            tokio::select! {
                () = cancelled.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            let later = pause.saturating_mul(2).clamp(SOON, EVERY);
            pause = match self.keep_within(ROUND_MAX).await {
                Ok(true) => EVERY,
                Ok(false) => later,
                Err(error) => {
                    tracing::warn!("{}", error.chain());
                    later
                }
            };
        }
    }

    async fn keep_within(&self, deadline: Duration) -> Result<bool, Error> {
        in_time(deadline, || "keep the webhook's certificates".to_owned(), self.keep()).await
    }

    /// One round; whether we are ready after it.
    ///
    /// A round that fails changes nothing: the certificate in use stays, and so does the readiness.
    async fn keep(&self) -> Result<bool, Error> {
        let certificates = self.agree().await?;
        let live = self.publish(&certificates.bundle).await?;
        self.serve(&certificates)?;
        let is_ready = verifies(&certificates.leaf, &live, &self.host);
        self.readiness.set(is_ready);
        Ok(is_ready)
    }

    /// The certificates that all replicas use, made or renewed if they are due.
    async fn agree(&self) -> Result<Certificates, Error> {
        let doing = || format!("read Secret {}", self.secret);
        for _ in 0..RACES_MAX {
            let mut secret = self.secrets.get(&self.secret).await.map_err(Error::kube(doing()))?;
            let present = decode(&secret);
            let renewed =
                renew(present.as_ref(), &self.host, today()).map_err(|error| self.unusable(&error))?;
            let Some(certificates) = renewed.or_else(|| present.clone()) else { continue };
            if Some(&certificates) == present.as_ref() {
                return Ok(certificates);
            }
            secret.data = Some(encode(&certificates)?);
            match self.secrets.replace(&self.secret, &PostParams::default(), &secret).await {
                Ok(_) => {
                    tracing::info!("renewed the webhook's certificates in Secret {}", self.secret);
                    return Ok(certificates);
                }
                // Another replica was faster; what it wrote is as good.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(Error::kube(format!("write Secret {}", self.secret))(error)),
            }
        }
        Err(Error::Certificate { secret: self.secret.clone(), doing: "it changes all the time".to_owned() })
    }

    /// Writes the bundle into the webhook configuration if it is not there; returns what is there now.
    async fn publish(&self, bundle: &str) -> Result<String, Error> {
        let name = &self.configuration;
        let doing = |what| format!("{what} MutatingWebhookConfiguration {name}");
        let present = self.configurations.get(name).await.map_err(Error::kube(doing("read")))?;
        if bundles(&present).all(|live| live == bundle) {
            return Ok(bundle.to_owned());
        }
        let webhooks = present.webhooks.iter().flatten().map(|webhook| {
            json!({ "name": webhook.name, "clientConfig": { "caBundle": ByteString(bundle.as_bytes().to_vec()) } })
        });
        let webhooks: Vec<_> = webhooks.collect();
        let params =
            PatchParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Strategic(json!({ "webhooks": webhooks }));
        let patched =
            self.configurations.patch(name, &params, &patch).await.map_err(Error::kube(doing("patch")))?;
        tracing::info!("wrote the webhook's authority into MutatingWebhookConfiguration {name}");
        let live = bundles(&patched).next().unwrap_or_default();
        Ok(live)
    }

    /// Hands the leaf to the server.
    fn serve(&self, certificates: &Certificates) -> Result<(), Error> {
        let unusable = |error: &dyn fmt::Display| self.unusable(error);
        let key = rustls_pemfile::private_key(&mut certificates.leaf_key.as_bytes())
            .map_err(|error| unusable(&error))?
            .ok_or_else(|| unusable(&"the key is missing"))?;
        let chain = super::verify::certificates(&certificates.leaf);
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let certified = CertifiedKey::from_der(chain, key, &provider).map_err(|error| unusable(&error))?;
        self.served.0.store(Some(Arc::new(certified)));
        Ok(())
    }

    fn unusable(&self, error: &dyn fmt::Display) -> Error {
        Error::Certificate { secret: self.secret.clone(), doing: error.to_string() }
    }
}

/// The bundles of all webhooks of a configuration; a missing one is empty.
fn bundles(configuration: &MutatingWebhookConfiguration) -> impl Iterator<Item = String> {
    configuration.webhooks.iter().flatten().map(|webhook| {
        let bundle =
            webhook.client_config.ca_bundle.as_ref().map(|bundle| bundle.0.as_slice()).unwrap_or_default();
        String::from_utf8_lossy(bundle).into_owned()
    })
}

fn today() -> Date {
    Timestamp::now().to_zoned(TimeZone::UTC).date()
}

const BUNDLE: &str = "ca.crt";
const AUTHORITY_KEY: &str = "ca.key";
const LEAF: &str = "tls.crt";
const LEAF_KEY: &str = "tls.key";
const DATES: &str = "dates.json";

/// The certificates in a Secret; `None` if there are none, or none that can be used, so that new ones are made.
fn decode(secret: &Secret) -> Option<Certificates> {
    let data = secret.data.as_ref()?;
    let text = |key: &str| String::from_utf8(data.get(key)?.0.clone()).ok();
    let certificates_ = Certificates {
        bundle: text(BUNDLE)?,
        authority_key: text(AUTHORITY_KEY)?,
        leaf: text(LEAF)?,
        leaf_key: text(LEAF_KEY)?,
        dates: serde_json::from_str(&text(DATES)?).ok()?,
    };
    let is_usable =
        !certificates(&certificates_.leaf).is_empty() && !certificates(&certificates_.bundle).is_empty();
    is_usable.then_some(certificates_)
}

fn encode(certificates: &Certificates) -> Result<BTreeMap<String, ByteString>, Error> {
    let dates = serde_json::to_string(&certificates.dates)
        .map_err(|error| Error::Encode { what: "the dates of certificates", why: error.to_string() })?;
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    Ok(BTreeMap::from([
        (BUNDLE.to_owned(), bytes(&certificates.bundle)),
        (AUTHORITY_KEY.to_owned(), bytes(&certificates.authority_key)),
        (LEAF.to_owned(), bytes(&certificates.leaf)),
        (LEAF_KEY.to_owned(), bytes(&certificates.leaf_key)),
        (DATES.to_owned(), bytes(&dates)),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_round_that_gets_no_answer_ends() {
        let keeper = Keeper {
            secrets: Api::namespaced(crate::tests::silent().await, "lifeboat"),
            configurations: Api::all(crate::tests::silent().await),
            secret: "tls".to_owned(),
            configuration: "injector".to_owned(),
            host: "lifeboat.lifeboat.svc".to_owned(),
            served: Arc::default(),
            readiness: Readiness::default(),
        };
        let round = keeper.keep_within(Duration::from_millis(50));
        let error = tokio::time::timeout(Duration::from_secs(10), round).await.unwrap().unwrap_err();
        assert!(error.chain().starts_with("cannot keep the webhook's certificates within 50ms"), "{error:?}");
    }
}
