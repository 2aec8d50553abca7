//! Makes the webhook's certificates: an authority of our own, and a leaf that it signs.
//!
//! Pure but for the randomness in the keys: what is due is decided from dates that are kept beside the certificates.
//! Authority a year, leaf a month, both renewed when two thirds have passed. The bundle holds the old authority beside
//! the new one, so that a leaf of either verifies while the replicas of the operator learn of the change.

use jiff::civil::Date;
use jiff::{Span, ToSpan as _};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde::{Deserialize, Serialize};

/// The first and the last day on which a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Validity {
    from: Date,
    to: Date,
}

impl Validity {
    /// From yesterday, because clocks differ.
    fn starting(today: Date, days: i64) -> Self {
        Self { from: today.saturating_sub(1.day()), to: today.saturating_add(Span::new().days(days)) }
    }

    fn is_due(self, today: Date) -> bool {
        let lifetime = days_between(self.from, self.to);
        days_between(self.from, today) * 3 >= lifetime * 2
    }
}

/// Everything that the Secret holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificates {
    /// One or two authorities, the present one first, as PEM.
    pub(crate) bundle: String,
    pub(crate) authority_key: String,
    pub(crate) leaf: String,
    pub(crate) leaf_key: String,
    pub(crate) dates: Dates,
}

/// When what was made. The authority's first day is also part of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Dates {
    authority: Validity,
    leaf: Validity,
}

const AUTHORITY_DAYS: i64 = 365;
const LEAF_DAYS: i64 = 30;

/// New certificates, if there are none or some are due; `None` if the present ones are good.
pub(crate) fn renew(
    present: Option<&Certificates>,
    host: &str,
    today: Date,
) -> Result<Option<Certificates>, rcgen::Error> {
    match present {
        None => Ok(Some(all(None, host, today)?)),
        Some(present) if present.dates.authority.is_due(today) => Ok(Some(all(Some(present), host, today)?)),
        Some(present) if present.dates.leaf.is_due(today) => {
            let key = KeyPair::from_pem(&present.authority_key)?;
            let params = authority_params(present.dates.authority);
            let issuer = Issuer::from_params(&params, key);
            let validity = leaf_validity(present.dates.authority, today);
            let (leaf, leaf_key) = leaf(&issuer, host, validity)?;
            let dates = Dates { leaf: validity, ..present.dates };
            Ok(Some(Certificates { leaf, leaf_key, dates, ..present.clone() }))
        }
        Some(_) => Ok(None),
    }
}

fn all(present: Option<&Certificates>, host: &str, today: Date) -> Result<Certificates, rcgen::Error> {
    let authority = Validity::starting(today, AUTHORITY_DAYS);
    let params = authority_params(authority);
    let key = KeyPair::generate()?;
    let mut bundle = params.self_signed(&key)?.pem();
    if let Some(present) = present {
        bundle.push_str(first_certificate(&present.bundle));
    }
    let authority_key = key.serialize_pem();
    let issuer = Issuer::from_params(&params, key);
    let validity = leaf_validity(authority, today);
    let (leaf, leaf_key) = leaf(&issuer, host, validity)?;
    Ok(Certificates { bundle, authority_key, leaf, leaf_key, dates: Dates { authority, leaf: validity } })
}

/// A leaf never outlives its authority.
fn leaf_validity(authority: Validity, today: Date) -> Validity {
    let wish = Validity::starting(today, LEAF_DAYS);
    Validity { from: wish.from, to: wish.to.min(authority.to) }
}

/// The same dates give the same name, so a leaf can be signed later without reading the authority's certificate.
fn authority_params(validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("lifeboat webhook authority of {}", validity.from));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, validity);
    params
}

fn leaf(
    issuer: &Issuer<'_, KeyPair>,
    host: &str,
    validity: Validity,
) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(vec![host.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, "lifeboat webhook");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, validity);
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn set_validity(params: &mut CertificateParams, validity: Validity) {
    let date = |date: Date| {
        rcgen::date_time_ymd(i32::from(date.year()), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    params.not_before = date(validity.from);
    params.not_after = date(validity.to);
}

fn first_certificate(bundle: &str) -> &str {
    const END: &str = "-----END CERTIFICATE-----\n";
    bundle.find(END).map_or("", |at| bundle.get(..at + END.len()).unwrap_or_default())
}

fn days_between(from: Date, to: Date) -> i32 {
    from.until(to).map_or(0, |span| span.get_days())
}

#[cfg(test)]
mod tests;
