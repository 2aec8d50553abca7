//! How objects are to be kept on the server: encrypted by it, and in which storage class.

use aws_sdk_s3::types::{ServerSideEncryption, StorageClass};

/// How new objects are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptAs {
    encryption: Option<ServerSideEncryption>,
    kms_key: Option<String>,
    storage_class: Option<StorageClass>,
}

impl KeptAs {
    /// Reads what a user wrote: the kind of encryption, the key of the KMS, the storage class.
    ///
    /// # Errors
    /// One line about a value that cannot be.
    pub fn try_new(
        encryption: Option<&str>,
        kms_key: Option<&str>,
        storage_class: Option<&str>,
    ) -> Result<Self, String> {
        let encryption = match (encryption, kms_key) {
            (None, None) => None,
            (None, Some(_)) => Some(ServerSideEncryption::AwsKms),
            (Some("AES256"), Some(_)) => {
                return Err(
                    "sse AES256 takes no sse-kms-key-id; write sse aws:kms, or remove one of the two".into(),
                );
            }
            (Some("AES256"), None) => Some(ServerSideEncryption::Aes256),
            (Some("aws:kms"), _) => Some(ServerSideEncryption::AwsKms),
            (Some("aws:kms:dsse"), _) => Some(ServerSideEncryption::AwsKmsDsse),
            (Some(other), _) => {
                return Err(format!("sse '{other}' is unknown; known are AES256, aws:kms and aws:kms:dsse"));
            }
        };
        if let Some(class) = storage_class.filter(|class| ARCHIVES.contains(class)) {
            return Err(format!(
                "objects of the storage class {class} cannot be read without being brought back first; choose one that is \
                 read at once, such as STANDARD or GLACIER_IR"
            ));
        }
        let storage_class = storage_class.map(StorageClass::from);
        Ok(Self { encryption, kms_key: kms_key.map(str::to_owned), storage_class })
    }

    pub(super) fn encryption(&self) -> Option<ServerSideEncryption> {
        self.encryption.clone()
    }

    pub(super) fn kms_key(&self) -> Option<String> {
        self.kms_key.clone()
    }

    pub(super) fn storage_class(&self) -> Option<StorageClass> {
        self.storage_class.clone()
    }
}

const ARCHIVES: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_alone_means_the_kms() {
        let kept = KeptAs::try_new(None, Some("alias/a"), None).unwrap();
        assert_eq!(kept.encryption(), Some(ServerSideEncryption::AwsKms));
        assert_eq!(KeptAs::try_new(None, None, None).unwrap(), KeptAs::default());
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_can() {
        for (sse, key, class) in [
            (Some("AES256"), Some("alias/a"), None),
            (Some("rot13"), None, None),
            (None, None, Some("GLACIER")),
            (None, None, Some("DEEP_ARCHIVE")),
        ] {
            assert!(KeptAs::try_new(sse, key, class).is_err(), "{sse:?} {key:?} {class:?}");
        }
    }
}
