//! Whom to believe on the other end of a connection.

use std::path::Path;

use aws_sdk_s3::config::SharedHttpClient;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};

/// A client that believes the machine's authorities, and those in this file too.
///
/// # Errors
/// One line about a file that cannot be read or holds no certificate.
pub(super) fn http_client(ca_file: Option<&Path>) -> Result<SharedHttpClient, String> {
    let builder = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc));
    let Some(path) = ca_file else { return Ok(builder.build_https()) };
    let about = |reason: String| format!("the CA file {}: {reason}", path.display());
    let pem = std::fs::read(path).map_err(|error| about(error.to_string()))?;
    let trusted = TrustStore::default().with_pem_certificate(usable(&pem).map_err(about)?);
    let tls = TlsContext::builder().with_trust_store(trusted).build();
    Ok(builder.tls_context(tls.map_err(|error| about(error.to_string()))?).build_https())
}

/// The certificates of a PEM file that can be an authority's. One that cannot would make the client panic, and does not
/// matter among others: bundles of whole systems have some.
fn usable(pem: &[u8]) -> Result<Vec<u8>, String> {
    let certificates: Result<Vec<_>, _> = rustls_pemfile::certs(&mut &*pem).collect();
    let mut usable = String::new();
    for certificate in certificates.map_err(|error| format!("it is no PEM file: {error}"))? {
        if rustls::RootCertStore::empty().add(certificate.clone()).is_ok() {
            let text = aws_smithy_types::base64::encode(&certificate);
            usable += &format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
        }
    }
    if usable.is_empty() { Err("it holds no certificate of an authority".into()) } else { Ok(usable.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_certificate_is_refused_and_never_panics() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        assert!(http_client(Some(&path)).unwrap_err().contains("ca.pem"));
        for wrong in [
            "",
            "hello",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
        ] {
            std::fs::write(&path, wrong).unwrap();
            assert!(http_client(Some(&path)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn certificates_that_cannot_be_read_do_not_spoil_a_bundle() {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let bundle =
            format!("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n{}", made.cert.pem());
        let usable = usable(bundle.as_bytes()).unwrap();
        assert_eq!(rustls_pemfile::certs(&mut &*usable).count(), 1);
    }
}
