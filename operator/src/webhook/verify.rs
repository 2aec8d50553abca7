//! Checks a served certificate as the API server will.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

/// Whether the leaf verifies against the bundle for this host now.
pub(crate) fn verifies(leaf_pem: &str, bundle_pem: &str, host: &str) -> bool {
    check(leaf_pem, bundle_pem, host).is_some()
}

fn check(leaf_pem: &str, bundle_pem: &str, host: &str) -> Option<()> {
    let mut roots = RootCertStore::empty();
    for root in certificates(bundle_pem) {
        roots.add(root).ok()?;
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()))
        .build()
        .ok()?;
    let name = ServerName::try_from(host.to_owned()).ok()?;
    let leaf = certificates(leaf_pem).into_iter().next()?;
    verifier.verify_server_cert(&leaf, &[], &name, &[], UnixTime::now()).ok().map(|_| ())
}

/// The certificates in a PEM text; what cannot be read is left out.
pub(crate) fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    rustls_pemfile::certs(&mut pem.as_bytes()).filter_map(Result::ok).collect()
}
