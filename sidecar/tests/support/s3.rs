//! A real S3 server on this machine: versitygw over a folder.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::{eventually, tool};

/// A running server with one bucket, `lifeboat`.
pub struct S3Server {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl S3Server {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("lifeboat")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = spawn(port, &folder);
        let server = Self { child, port, folder };
        server.wait();
        server
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn credentials(&self) -> [(&'static str, &'static str); 3] {
        [("AWS_ACCESS_KEY_ID", ID), ("AWS_SECRET_ACCESS_KEY", SECRET), ("AWS_REGION", "us-east-1")]
    }

    /// The file behind an object.
    pub fn file(&self, key: &str) -> PathBuf {
        self.folder.path().join("lifeboat").join(key)
    }

    /// The names of all requests since it started, in order.
    pub fn requests(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.folder.path().with_extension("requests")).unwrap_or_default();
        let operation =
            |line: &str| line.split_whitespace().find_map(|word| word.strip_prefix("s3_")).map(str::to_owned);
        log.lines().filter_map(operation).collect()
    }

    pub fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Leaves every request without an answer, until it is [thawed](Self::thaw).
    pub fn freeze(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub fn start_again(&mut self) {
        self.child = spawn(self.port, &self.folder);
        self.wait();
    }

    fn wait(&self) {
        eventually(
            "the S3 server",
            || TcpStream::connect(("127.0.0.1", self.port)).ok().map(drop),
            String::new,
        );
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(self.folder.path().with_extension("requests"));
    }
}

fn spawn(port: u16, folder: &tempfile::TempDir) -> Child {
    Command::new(tool("VERSITYGW_BIN", "tools"))
        .args(["--port", &format!("127.0.0.1:{port}"), "--access-log"])
        .arg(folder.path().with_extension("requests"))
        .arg("posix")
        .arg(folder.path())
        .env("ROOT_ACCESS_KEY", ID)
        .env("ROOT_SECRET_KEY", SECRET)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

const ID: &str = "lifeboat-test";
const SECRET: &str = "a-secret-of-this-test-only";
