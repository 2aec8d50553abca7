//! An S3 server of our own on this machine, versitygw over a folder, and what was asked of it.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// A running server with one empty bucket; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Store {
    child: Child,
    port: u16,
    folder: PathBuf,
}

/// One request, from the server's access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// Such as `PutObject`.
    pub(crate) operation: String,
    /// The key of the object; `-` for a list.
    pub(crate) key: String,
    /// Whether the answer was that it is done.
    pub(crate) is_done: bool,
    /// Bytes that were stored.
    pub(crate) stored_bytes: u64,
}

impl Request {
    /// Whether a stored file, or a part of one, came back.
    pub(crate) fn reads_file(&self) -> bool {
        self.is_done && self.operation == "GetObject" && self.key.ends_with(".ltx")
    }
}

impl Store {
    /// Starts a server that keeps everything below `folder`.
    ///
    /// # Errors
    /// When it does not begin to listen.
    pub(crate) fn start(program: &Path, folder: &Path) -> Result<Self> {
        let folder = folder.join("s3");
        fs::create_dir_all(folder.join("data").join(BUCKET))?;
        let port = free_port()?;
        let child = Command::new(program)
            .args(["--quiet", "--port", &format!("127.0.0.1:{port}"), "--access-log"])
            .arg(folder.join("requests"))
            .arg("posix")
            .arg(folder.join("data"))
            .env("ROOT_ACCESS_KEY", ID)
            .env("ROOT_SECRET_KEY", SECRET)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.join("log"))?)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let store = Self { child, port, folder };
        let give_up = Instant::now() + START_MAX;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(
                Instant::now() < give_up,
                "the S3 server does not listen; see {}/log",
                store.folder.display()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(store)
    }

    /// Where it listens.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Everything that was asked since it started, in order.
    ///
    /// # Errors
    /// When the access log cannot be read.
    pub(crate) fn requests(&self) -> Result<Vec<Request>> {
        let log =
            fs::read_to_string(self.folder.join("requests")).context("read the S3 server's access log")?;
        Ok(log.lines().filter_map(parse).map(|request| self.with_whole_object(request)).collect())
    }

    /// The access log does not know the sizes of parts. So the request that joins them counts the whole object.
    fn with_whole_object(&self, mut request: Request) -> Request {
        if request.operation == "CompleteMultipartUpload" && request.is_done {
            let object = self.folder.join("data").join(BUCKET).join(&request.key);
            request.stored_bytes = fs::metadata(object).map_or(0, |metadata| metadata.len());
        }
        request
    }

    /// The LTX files of one level of a replica.
    pub(crate) fn ltx_files(&self, prefix: &str, level: u8) -> Vec<PathBuf> {
        let level = self.folder.join("data").join(BUCKET).join(prefix).join(format!("{level:04}"));
        let entries = fs::read_dir(level).into_iter().flatten().flatten().map(|entry| entry.path());
        entries.filter(|path| path.extension().is_some_and(|suffix| suffix == "ltx")).collect()
    }

    /// Their sizes.
    pub(crate) fn ltx_sizes(&self, prefix: &str, level: u8) -> Vec<u64> {
        let files = self.ltx_files(prefix, level).into_iter();
        files.filter_map(|file| fs::metadata(file).ok()).map(|metadata| metadata.len()).collect()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody listens on now.
///
/// # Errors
/// When the kernel has none.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The fields stand where Amazon's server access logs have them; the time is two of them.
fn parse(line: &str) -> Option<Request> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let operation = fields.get(7)?.strip_prefix("s3_")?.to_owned();
    let is_done = fields.get(10)?.starts_with('2');
    let size = fields.get(13)?.parse().unwrap_or(0);
    let stored_bytes = if is_done && operation == "PutObject" { size } else { 0 };
    Some(Request { operation, key: (*fields.get(8)?).to_owned(), is_done, stored_bytes })
}

/// The one bucket.
pub(crate) const BUCKET: &str = "lifeboat";
/// The server's only user.
pub(crate) const ID: &str = "lifeboat-bench";
/// Its password, good for this server on the loopback device only.
pub(crate) const SECRET: &str = "a-secret-of-this-run-only";
const START_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_access_log_says_what_was_stored() {
        let line = |operation: &str, status: u16| {
            format!(
                "u lifeboat [23/November/2026:21:38:51 +0000] 127.0.0.1 u 4XLJ s3_{operation} y/lifeboat/head.json \
                 /lifeboat/y/lifeboat/head.json?x-id=PutObject {status} - 0 297 0 0 - aws-sdk-rust/1.7.0"
            )
        };
        let request = parse(&line("PutObject", 200)).unwrap();
        assert_eq!((request.key.as_str(), request.stored_bytes), ("y/lifeboat/head.json", 297));
        assert_eq!(parse(&line("PutObject", 412)).unwrap().stored_bytes, 0);
        assert_eq!(parse(&line("GetObject", 200)).unwrap().stored_bytes, 0);
        assert_eq!(parse("log starts 2026-11-23 21:38:50 +0000 UTC"), None);
    }
}
