//! What an S3 server's refusal means.
//!
//! In:  what the SDK reports, reduced to a few facts.
//! Out: the [`StoreError`] that callers act on.
//!
//! Servers agree on status codes more than on the words beside them, so the words are only used where the status
//! leaves more than one meaning.

use std::error::Error;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::error::{Place, StoreError};

/// What was asked; decides what a failed condition means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Create if absent.
    Create,
    /// Replace or read if unchanged.
    IfMatch,
    /// Anything without a condition.
    Plain,
}

/// Why a request did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The server said so.
    Refusal(Refusal),
    /// No answer, or half of one.
    NoAnswer { reason: String },
    /// Nothing to sign with.
    NoCredentials { reason: String },
    /// The request could not even be built.
    NotSent { reason: String },
}

/// An answer that is not success.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) message: String,
    pub(super) region: Option<String>,
    pub(super) retry_after: Option<Duration>,
}

impl Failure {
    pub(super) fn from_sdk<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: Error + ProvideErrorMetadata + 'static,
    {
        if let Some(raw) = error.raw_response() {
            let service = error.as_service_error();
            return Self::Refusal(Refusal {
                status: raw.status().as_u16(),
                code: service.and_then(|service| service.code()).unwrap_or_default().to_owned(),
                message: service.and_then(|service| service.message()).unwrap_or_default().to_owned(),
                region: header(raw, "x-amz-bucket-region").map(str::to_owned),
                retry_after: header(raw, "retry-after")
                    .and_then(|text| text.parse().ok())
                    .map(Duration::from_secs),
            });
        }
        let reason = chain(error);
        match credentials_error(error) {
            Some(CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_)) => {
                // The chain lists every place on a line of its own.
                Self::NoCredentials { reason: reason.split_whitespace().collect::<Vec<_>>().join(" ") }
            }
            // Somebody else issues them and did not answer.
            Some(_) => Self::NoAnswer { reason },
            None if matches!(error, SdkError::ConstructionFailure(_)) => Self::NotSent { reason },
            None => Self::NoAnswer { reason },
        }
    }

    pub(super) fn into_error(self, asked: Asked, place: Place) -> StoreError {
        match self {
            Self::Refusal(refusal) => refusal.into_error(asked, place),
            Self::NoAnswer { reason } => StoreError::Unreachable { place, reason },
            Self::NoCredentials { reason } => StoreError::NoCredentials { place, reason },
            Self::NotSent { reason } => StoreError::Misconfigured { place, reason },
        }
    }
}

impl Refusal {
    fn into_error(self, asked: Asked, place: Place) -> StoreError {
        let reason = self.reason();
        match (self.status, self.code.as_str()) {
            (404, "NoSuchBucket") => {
                StoreError::BucketAbsent { place: Place { key: String::new(), ..place } }
            }
            (404, "NoSuchUpload") => StoreError::UploadGone { place },
            (404, "NoSuchKey" | "NotFound") => StoreError::Absent { place },
            (412, _) if asked == Asked::Create => StoreError::Exists { place },
            (412, _) if asked == Asked::IfMatch => StoreError::LostRace { place },
            (409, _) if asked != Asked::Plain => StoreError::Conflict { place },
            (301 | 307, _) | (400, "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
                StoreError::WrongRegion {
                    region: self.region.or_else(|| expected_region(&self.message)),
                    place,
                    reason,
                }
            }
            // Of the many words for "not now" only 501 says "never".
            (400, "RequestTimeout") | (408 | 429 | 500 | 502..=599, _) => {
                StoreError::Busy { place, reason, retry_after: self.retry_after }
            }
            (400, "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired") | (401 | 403, _) => {
                StoreError::Denied { place, reason }
            }
            // An object without the bytes it was listed with is not what it must be.
            (416, _) => StoreError::Mangled { place, reason },
            // A success whose text could not be understood, or that broke off.
            (200..=299, _) => StoreError::Unreachable { place, reason },
            (_, _) => StoreError::Refused { place, reason },
        }
    }

    fn reason(&self) -> String {
        let Self { status, code, message, .. } = self;
        match (code.is_empty(), message.is_empty()) {
            (true, true) => format!("HTTP status {status}"),
            (true, false) => format!("{message} (HTTP status {status})"),
            (false, true) => format!("{code} (HTTP status {status})"),
            (false, false) => format!("{code}: {message} (HTTP status {status})"),
        }
    }
}

/// AWS names the right region only in prose: `…; expecting 'eu-west-1'`.
fn expected_region(message: &str) -> Option<String> {
    let (_, after) = message.split_once("expecting '")?;
    let (region, _) = after.split_once('\'')?;
    Some(region.to_owned())
}

/// The causes, outermost first, each once.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

fn credentials_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a CredentialsError> {
    let mut next: Option<&'a (dyn Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref() {
            return Some(found);
        }
        next = cause.source();
    }
    None
}

fn header<'a>(raw: &'a HttpResponse, name: &str) -> Option<&'a str> {
    raw.headers().get(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place { key: "k".into(), store: "s3://b".into() }
    }

    fn refused(status: u16, code: &str, asked: Asked) -> StoreError {
        let refusal = Refusal { status, code: code.into(), ..Refusal::default() };
        Failure::Refusal(refusal).into_error(asked, place())
    }

    #[test]
    fn a_missing_bucket_is_not_a_missing_object() {
        assert!(refused(404, "NoSuchKey", Asked::Plain).is_absent());
        assert!(refused(404, "NoSuchKey", Asked::IfMatch).is_absent());
        assert!(matches!(refused(404, "NoSuchBucket", Asked::Plain), StoreError::BucketAbsent { .. }));
    }

    #[test]
    fn a_404_that_does_not_say_what_is_missing_proves_nothing() {
        assert!(matches!(refused(404, "", Asked::Plain), StoreError::Refused { .. }));
    }

    #[test]
    fn a_missing_upload_is_not_a_missing_object() {
        let gone = refused(404, "NoSuchUpload", Asked::Create);
        assert!(matches!(gone, StoreError::UploadGone { .. }) && !gone.is_absent() && !gone.is_retry());
    }

    #[test]
    fn a_failed_condition_means_what_was_asked() {
        assert!(matches!(refused(412, "PreconditionFailed", Asked::Create), StoreError::Exists { .. }));
        assert!(matches!(refused(412, "", Asked::IfMatch), StoreError::LostRace { .. }));
        assert!(matches!(refused(412, "", Asked::Plain), StoreError::Refused { .. }));
        assert!(matches!(
            refused(409, "ConditionalRequestConflict", Asked::Create),
            StoreError::Conflict { .. }
        ));
    }

    #[test]
    fn overload_is_worth_another_try_and_refusal_is_not() {
        for status in [408, 429, 500, 502, 503, 504, 507, 530] {
            assert!(refused(status, "", Asked::Create).is_retry(), "{status}");
        }
        for (status, code) in
            [(403, "AccessDenied"), (400, "ExpiredToken"), (501, "NotImplemented"), (400, "")]
        {
            let error = refused(status, code, Asked::Create);
            assert!(!error.is_retry() && error.is_refusal(), "{error}");
        }
    }

    #[test]
    fn the_right_region_is_found_in_the_header_or_in_the_prose() {
        let prose = Refusal {
            status: 400,
            code: "AuthorizationHeaderMalformed".into(),
            message: "the region 'us-east-1' is wrong; expecting 'eu-west-1'".into(),
            ..Refusal::default()
        };
        let text = prose.into_error(Asked::Plain, place()).to_string();
        assert!(text.starts_with("k in s3://b is in another region (eu-west-1): "), "{text}");
        let header = Refusal { status: 301, region: Some("eu-west-2".into()), ..Refusal::default() };
        assert!(header.into_error(Asked::Plain, place()).to_string().contains("(eu-west-2)"));
        assert!(refused(307, "", Asked::Plain).to_string().ends_with("set the region"));
    }
}
