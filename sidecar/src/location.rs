//! Where a replica lives, as users write it: `s3://bucket/path?region=…`, `file:///dir`.

use std::fmt;
use std::path::{Path, PathBuf};

use lifeboat_store::{KeptAs, Keys};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use url::Url;

use crate::args::StoreArgs;

/// The place of one replica.
#[derive(Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one for each database, and most are buckets")]
pub enum Location {
    /// A prefix of a bucket.
    S3(S3Location),
    /// A folder.
    Directory(PathBuf),
}

/// A prefix of an S3 bucket and how to reach it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct S3Location {
    /// The bucket's name.
    pub bucket: String,
    /// The prefix, without slashes at its ends; may be empty.
    pub path: String,
    /// URL of the server; `None` for Amazon's.
    pub endpoint: Option<String>,
    /// The region; `None` for what the environment says.
    pub region: Option<String>,
    /// Bucket in the path; `None` for the default, which is true with an endpoint.
    pub force_path_style: Option<bool>,
    /// Access key id and secret from the config file; `None` for the default chain.
    pub keys: Option<Keys>,
    /// PEM file with authorities to believe; `None` for what the environment says.
    pub ca_file: Option<PathBuf>,
    /// Kind of encryption on the server; `None` for the bucket's default, as for the two that follow.
    pub sse: Option<String>,
    /// The key for it.
    pub sse_kms_key_id: Option<String>,
    /// Storage class.
    pub storage_class: Option<String>,
}

impl S3Location {
    /// How new objects are to be kept.
    ///
    /// # Errors
    /// One line about a value that cannot be.
    pub fn kept_as(&self) -> Result<KeptAs, String> {
        KeptAs::try_new(self.sse.as_deref(), self.sse_kms_key_id.as_deref(), self.storage_class.as_deref())
    }
}

impl Location {
    /// Parses a replica URL; flags win over what it says.
    ///
    /// # Errors
    /// One line that says what is wrong with the URL and what one looks like.
    pub fn parse(text: &str, flags: &StoreArgs) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| {
            format!("'{text}' is not a URL ({error}); write s3://bucket/path or file:///dir")
        })?;
        match url.scheme() {
            "file" => Self::parse_file(text, &url),
            "s3" => Self::parse_s3(text, &url, flags),
            other => {
                Err(format!("'{text}' has the scheme {other}; known are s3://bucket/path and file:///dir"))
            }
        }
    }

    fn parse_file(text: &str, url: &Url) -> Result<Self, String> {
        let is_local = text.starts_with("file:///");
        let path = url.to_file_path().ok().filter(|path| is_local && path != Path::new("/"));
        path.map(Self::Directory)
            .ok_or_else(|| format!("'{text}' names no folder; write file:///dir with three slashes"))
    }

    fn parse_s3(text: &str, url: &Url, flags: &StoreArgs) -> Result<Self, String> {
        if !url.username().is_empty() || url.password().is_some() {
            return Err("a replica URL must not hold credentials; set AWS_ACCESS_KEY_ID and \
                        AWS_SECRET_ACCESS_KEY, or keys in the config file"
                .to_owned());
        }
        let bucket = url.host_str().filter(|host| !host.is_empty());
        let mut s3 = S3Location {
            bucket: bucket
                .ok_or_else(|| format!("'{text}' names no bucket; write s3://bucket/path"))?
                .to_owned(),
            path: clean_prefix(&percent_encoding::percent_decode_str(url.path()).decode_utf8_lossy())?,
            ..S3Location::default()
        };
        for (key, value) in url.query_pairs() {
            match key.as_ref() {
                "endpoint" => s3.endpoint = Some(value.into_owned()),
                "region" => s3.region = Some(value.into_owned()),
                "force-path-style" | "forcePathStyle" => {
                    let wrong = |_| format!("'{text}': force-path-style is true or false");
                    s3.force_path_style = Some(value.parse().map_err(wrong)?);
                }
                "ca-file" | "caFile" => s3.ca_file = Some(PathBuf::from(value.into_owned())),
                "sse" => s3.sse = Some(value.into_owned()),
                "sse-kms-key-id" | "sseKmsKeyId" => s3.sse_kms_key_id = Some(value.into_owned()),
                "storage-class" | "storageClass" => s3.storage_class = Some(value.into_owned()),
                other => {
                    return Err(format!(
                        "'{text}' has the unknown option '{other}'; known are endpoint, region, force-path-style, ca-file, \
                         sse, sse-kms-key-id, storage-class"
                    ));
                }
            }
        }
        Self::S3(s3).with_flags(flags)
    }

    /// The location as the command line takes it, in quotes where a shell needs them. Keys are not in it.
    #[must_use]
    pub fn argument(&self) -> String {
        let s3 = match self {
            Self::Directory(path) => return format!("'file://{}'", escaped(&path.to_string_lossy())),
            Self::S3(s3) => s3,
        };
        let path_style = s3.force_path_style.map(|forced| forced.to_string());
        let ca_file = s3.ca_file.as_ref().map(|file| file.display().to_string());
        let options = [
            ("endpoint", s3.endpoint.as_ref()),
            ("region", s3.region.as_ref()),
            ("force-path-style", path_style.as_ref()),
            ("ca-file", ca_file.as_ref()),
            ("sse", s3.sse.as_ref()),
            ("sse-kms-key-id", s3.sse_kms_key_id.as_ref()),
            ("storage-class", s3.storage_class.as_ref()),
        ];
        let options =
            options.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", escaped(value?))));
        let query = options.collect::<Vec<_>>().join("&");
        let mark = if query.is_empty() { "" } else { "?" };
        format!("'s3://{}/{}{mark}{query}'", s3.bucket, escaped(&s3.path))
    }

    /// The location of a replica at a path below this one.
    #[must_use]
    pub fn below(&self, path: &str) -> Self {
        match self {
            Self::Directory(folder) => Self::Directory(folder.join(path)),
            Self::S3(s3) => {
                let path = format!("{}/{path}", s3.path).trim_start_matches('/').to_owned();
                Self::S3(S3Location { path, ..s3.clone() })
            }
        }
    }

    /// The location with the flags of the command line over it.
    ///
    /// # Errors
    /// One line about an endpoint that is no URL, or a kind of encryption or storage class that cannot be.
    pub fn with_flags(mut self, flags: &StoreArgs) -> Result<Self, String> {
        if let Self::S3(s3) = &mut self {
            s3.endpoint = flags.endpoint.clone().or_else(|| s3.endpoint.take());
            s3.region = flags.region.clone().or_else(|| s3.region.take());
            s3.force_path_style = flags.force_path_style.or(s3.force_path_style);
            s3.ca_file = flags.ca_file.clone().or_else(|| s3.ca_file.take());
            s3.sse = flags.sse.clone().or_else(|| s3.sse.take());
            s3.sse_kms_key_id = flags.sse_kms_key_id.clone().or_else(|| s3.sse_kms_key_id.take());
            s3.storage_class = flags.storage_class.clone().or_else(|| s3.storage_class.take());
            s3.kept_as()?;
            if let Some(endpoint) = &s3.endpoint {
                check_endpoint(endpoint)?;
            }
        }
        Ok(self)
    }
}

/// A text as a part of a URL in quotes, as readable as it can be.
fn escaped(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

const ESCAPED: &AsciiSet =
    &CONTROLS.add(b' ').add(b'%').add(b'#').add(b'?').add(b'&').add(b'+').add(b'\'').add(b'"');

/// Whether a command line argument is a URL rather than a path.
#[must_use]
pub fn is_url(text: &str) -> bool {
    text.contains("://")
}

/// A prefix without slashes at its ends, and without parts that some servers take for folders.
///
/// # Errors
/// One line about `.`, `..` and empty parts.
pub fn clean_prefix(path: &str) -> Result<String, String> {
    let path = path.trim_matches('/');
    if !path.is_empty() && path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(format!("the path '{path}' has empty, '.' or '..' parts; name a plain prefix"));
    }
    Ok(path.to_owned())
}

fn check_endpoint(endpoint: &str) -> Result<(), String> {
    let url = Url::parse(endpoint).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let Some(url) = url else { return Err(format!("the endpoint '{endpoint}' is not an http or https URL")) };
    // It is in every message about the replica, and what is signed needs none.
    if url.username().is_empty() && url.password().is_none() {
        return Ok(());
    }
    Err("the endpoint has a user name or a password in it; credentials come from the environment, a profile or the config".to_owned())
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "file://{}", path.display()),
            Self::S3(s3) => {
                write!(f, "s3://{}/{}", s3.bucket, s3.path)?;
                s3.endpoint.as_ref().map_or(Ok(()), |endpoint| write!(f, " at {endpoint}"))
            }
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Debug for S3Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Location::S3(self.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Location, String> {
        Location::parse(text, &StoreArgs::default())
    }

    #[test]
    fn an_endpoint_holds_no_password_because_it_is_in_every_message() {
        for endpoint in ["http://user:secret@127.0.0.1:9000", "http://user@127.0.0.1:9000"] {
            let wrong = parse(&format!("s3://b/p?endpoint={endpoint}")).unwrap_err();
            assert!(
                wrong.contains("password") && !wrong.contains("user:") && !wrong.contains("secret"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn an_s3_url_may_say_everything_but_keys() {
        let Location::S3(s3) =
            parse("s3://mybkt/a/b/?endpoint=http://127.0.0.1:9000&region=eu&force-path-style=false").unwrap()
        else {
            panic!("not s3");
        };
        assert_eq!((s3.bucket.as_str(), s3.path.as_str()), ("mybkt", "a/b"));
        assert_eq!(s3.endpoint.as_deref(), Some("http://127.0.0.1:9000"));
        assert_eq!((s3.region.as_deref(), s3.force_path_style), (Some("eu"), Some(false)));
        for url in [
            "s3://b/p?sse=aws:kms&sse-kms-key-id=alias/a&storage-class=STANDARD_IA&ca-file=/ca.pem",
            "s3://b/p?sse=aws:kms&sseKmsKeyId=alias/a&storageClass=STANDARD_IA&caFile=/ca.pem",
        ] {
            let Location::S3(s3) = parse(url).unwrap() else { panic!("not s3") };
            assert_eq!((s3.sse.as_deref(), s3.sse_kms_key_id.as_deref()), (Some("aws:kms"), Some("alias/a")));
            assert_eq!(s3.storage_class.as_deref(), Some("STANDARD_IA"));
            assert_eq!(s3.ca_file.as_deref(), Some(Path::new("/ca.pem")));
        }
        let refused = parse("s3://id:secret@mybkt/a").unwrap_err();
        assert!(!refused.contains("secret@"), "the message repeats the secret: {refused}");
    }

    #[test]
    fn a_location_is_said_so_that_it_can_be_given_again() {
        for url in [
            "s3://b/p",
            "s3://b/p?endpoint=http://127.0.0.1:9000&region=eu&sse=AES256",
            "file:///a/b c",
            "file:///it's/100%25",
        ] {
            let location = parse(url).unwrap();
            let again = parse(location.argument().trim_matches('\'')).unwrap();
            assert!(again == location, "{url}: {}", location.argument());
        }
    }

    #[test]
    fn flags_win_over_the_url() {
        let flags = StoreArgs { region: Some("us".to_owned()), ..StoreArgs::default() };
        let Ok(Location::S3(s3)) = Location::parse("s3://b/p?region=eu", &flags) else { panic!("not s3") };
        assert_eq!(s3.region.as_deref(), Some("us"));
    }

    #[test]
    fn a_folder_needs_three_slashes() {
        assert_eq!(parse("file:///a/b").unwrap(), Location::Directory(PathBuf::from("/a/b")));
        for wrong in [
            "file://a/b",
            "file:///",
            "ftp://x/y",
            "file:a/b",
            "s3:///p",
            "x",
            "s3://b/a/../c?x=1",
            "s3://b/p?endpoint=nine",
            "s3://b/p?sse=rot13",
            "s3://b/p?storage-class=GLACIER",
        ] {
            assert!(parse(wrong).is_err(), "{wrong} was taken");
        }
    }

    #[test]
    fn messages_never_show_the_keys_of_a_config_file() {
        let s3 = S3Location {
            keys: Some(Keys { id: "AKID".to_owned(), secret: "hush".to_owned() }),
            ..S3Location::default()
        };
        assert!(!format!("{s3:?}").contains("hush"));
    }
}
