//! The bucket as somebody outside sees it: through curl, and through `lifeboat restore`.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::lab::binary;

/// A bucket and the keys to it.
#[derive(Clone)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// URL of the server, for pods.
    pub endpoint: String,
    /// URL of the server, for whoever runs beside the cluster.
    pub endpoint_outside: String,
    /// Region of the bucket.
    pub region: String,
    /// Access key id.
    pub access_key_id: String,
    /// Secret access key.
    pub secret_access_key: String,
}

impl std::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bucket({} at {})", self.name, self.endpoint)
    }
}

/// An object, as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its whole key.
    pub key: String,
    /// Its size in bytes.
    pub bytes: u64,
}

impl Bucket {
    /// The bucket that the lab made.
    pub(crate) fn of_the_lab() -> Result<Self> {
        let variable = |name: &str| env::var(name).with_context(|| format!("the lab sets no {name}"));
        let path = variable("LAB_S3_CREDENTIALS")?;
        let file = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let credential = |name: &str| {
            let line = file.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            line.map(str::to_owned).with_context(|| format!("{path} sets no {name}"))
        };
        Ok(Self {
            name: variable("LAB_S3_BUCKET")?,
            endpoint: variable("LAB_S3_ENDPOINT")?,
            endpoint_outside: variable("LAB_S3_ENDPOINT_OUTSIDE")?,
            region: variable("LAB_S3_REGION")?,
            access_key_id: credential("AWS_ACCESS_KEY_ID")?,
            secret_access_key: credential("AWS_SECRET_ACCESS_KEY")?,
        })
    }

    /// Lists all objects whose key begins with the prefix, in the order of their keys.
    ///
    /// # Errors
    /// When the bucket does not answer, or there are more than fit into one answer (1000).
    pub async fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        let query = format!("?list-type=2&prefix={}", prefix.replace('/', "%2F"));
        let answer = self.curl(&[], &query).await?;
        let xml = String::from_utf8(answer).context("read a listing")?;
        ensure!(
            !xml.contains("<IsTruncated>true"),
            "more than 1000 objects under {prefix}: make the test shorter"
        );
        xml.split("<Contents>").skip(1).map(parse_listed).collect()
    }

    /// Reads a whole object.
    ///
    /// # Errors
    /// When it does not exist, or the bucket does not answer.
    pub async fn get(&self, key: &str) -> Result<Vec<u8>> {
        self.curl(&[], key).await
    }

    /// Reads the first bytes of an object.
    ///
    /// # Errors
    /// As for [`Self::get`].
    pub async fn get_start(&self, key: &str, bytes: u64) -> Result<Vec<u8>> {
        self.curl(&["--range", &format!("0-{}", bytes - 1)], key).await
    }

    /// Reads an object that holds JSON.
    ///
    /// # Errors
    /// As for [`Self::get`], and when it is not JSON.
    pub async fn get_json(&self, key: &str) -> Result<Value> {
        serde_json::from_slice(&self.get(key).await?).with_context(|| format!("read {key}"))
    }

    /// Restores a database to a new file, as a user does on a laptop.
    ///
    /// # Errors
    /// What `lifeboat restore` said when it failed.
    pub async fn restore(&self, path: &str, target: &Path) -> Result<()> {
        let target = target.to_str().context("a path that is no text")?;
        self.lifeboat(&["restore", "-o", target], path).await.map(drop)
    }

    /// Runs a command of `lifeboat` about the replica at this path, and returns what it printed.
    ///
    /// # Errors
    /// What it said when it failed.
    pub async fn lifeboat(&self, command: &[&str], path: &str) -> Result<String> {
        let output = Command::new(binary("lifeboat")?)
            .args(command)
            .args(["--endpoint", &self.endpoint, "--region", &self.region, "--force-path-style"])
            .arg(format!("s3://{}/{path}", self.name))
            .env("AWS_ACCESS_KEY_ID", &self.access_key_id)
            .env("AWS_SECRET_ACCESS_KEY", &self.secret_access_key)
            .stdin(Stdio::null())
            .output()
            .await
            .with_context(|| format!("run lifeboat {}", command.join(" ")))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.success(),
            "lifeboat {} of {path}: {}: {}",
            command.join(" "),
            output.status,
            said.trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// One signed GET. The keys go to curl by its standard input, because arguments are for all to see.
    async fn curl(&self, args: &[&str], key: &str) -> Result<Vec<u8>> {
        let mut child = Command::new("curl")
            .args(["--silent", "--show-error", "--fail-with-body", "--max-time", "10", "--config", "-"])
            .args(["--aws-sigv4", &format!("aws:amz:{}:s3", self.region)])
            .args(["--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD"])
            .args(args)
            .arg(format!("{}/{}/{key}", self.endpoint_outside, self.name))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("run curl")?;
        let user = format!("user = \"{}:{}\"\n", self.access_key_id, self.secret_access_key);
        child.stdin.take().context("curl's input")?.write_all(user.as_bytes()).await?;
        let output = child.wait_with_output().await?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            bail!("GET {key}: {}: {}", said.trim(), String::from_utf8_lossy(&output.stdout));
        }
        Ok(output.stdout)
    }
}

fn parse_listed(entry: &str) -> Result<Listed> {
    let field = |name: &str| {
        let (_, rest) = entry.split_once(&format!("<{name}>"))?;
        rest.split_once("</").map(|(value, _)| value.to_owned())
    };
    Ok(Listed {
        key: field("Key").context("a listing without a key")?,
        bytes: field("Size").context("a listing without a size")?.parse()?,
    })
}
