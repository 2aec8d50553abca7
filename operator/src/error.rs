//! What can go wrong around the decisions. "Not ready yet" is not an error; it is a decision.

use std::error::Error as _;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error as ThisError;

/// Why the operator, or one attempt of it, failed.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// The API server could not be reached or refused. Trying again may help.
    #[error("cannot {doing}")]
    Kube {
        /// What was to be done, as in "read SqliteReplica prod/shop".
        doing: String,
        /// What the client said.
        #[source]
        source: Box<kube::Error>,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {addr}; is it in use?")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A certificate could not be made or read.
    #[error(
        "cannot use the webhook's certificates ({doing}); delete the data of Secret {secret} to make new ones"
    )]
    Certificate {
        /// Name of the Secret.
        secret: String,
        /// Which step failed.
        doing: String,
    },
    /// A file could not be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A document of ours could not be encoded.
    #[error("cannot encode {what}: {why}; this is a bug")]
    Encode {
        /// Which document.
        what: &'static str,
        /// What the encoder said.
        why: String,
    },
    /// A part of the operator ended that must run for ever.
    #[error("the {part} ended although nobody asked it to; this is a bug")]
    Ended {
        /// Which part.
        part: &'static str,
    },
}

impl Error {
    /// Wraps an error of the client with what was to be done.
    pub(crate) fn kube(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Kube { doing, source: Box::new(source) }
    }

    /// The exit code of the program: 2 for its surroundings, 5 for a cluster that cannot be reached, 70 for a bug.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Kube { .. } => 5,
            Self::Listen { .. } | Self::Certificate { .. } | Self::Write { .. } => 2,
            Self::Encode { .. } | Self::Ended { .. } => 70,
        }
    }

    /// The message with every cause behind it, in one line.
    #[must_use]
    pub fn chain(&self) -> String {
        if let Self::Kube { source, .. } = self {
            return format!("{self}: {}", words(source));
        }
        let mut line = self.to_string();
        let mut source = self.source();
        while let Some(cause) = source {
            let _ = write!(line, ": {cause}");
            source = cause.source();
        }
        line
    }
}

/// What an error of the client means: the API server's own words, or those of the client with the innermost cause.
pub(crate) fn words(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return status.message.clone();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let (outer, inner) = (error.to_string(), cause.to_string());
    if outer.contains(&inner) { outer } else { format!("{outer}: {inner}") }
}

/// Whether the API server refuses because the object or its namespace is gone or going, which is nobody's trouble.
pub(crate) fn is_gone(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 404 || causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn refused(code: u16) -> kube::Error {
        let status = Status::failure("sqlitereplicas \"shop\" is forbidden", "Forbidden").with_code(code);
        kube::Error::Api(status.boxed())
    }

    #[test]
    fn an_error_says_what_was_to_be_done_and_what_the_api_server_said() {
        let error = Error::kube("read SqliteReplica prod/shop")(refused(403));
        assert_eq!(
            error.chain(),
            "cannot read SqliteReplica prod/shop: sqlitereplicas \"shop\" is forbidden"
        );
    }

    #[test]
    fn only_what_is_gone_is_gone() {
        assert!(is_gone(&refused(404)));
        assert!(!is_gone(&refused(403)));
    }
}
