//! Real S3 servers on this machine: versitygw over a folder, and moto, which is no relative of it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{eventually, tool};

/// A running server with one bucket, `lifeboat`.
pub struct S3Server {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

/// Users of a versitygw that can be exchanged while it runs.
pub struct Users(tempfile::TempDir);

impl Users {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// From now on there is only this one; whoever comes with the keys of another is refused.
    pub fn only(&self, id: &str, secret: &str) {
        let users = format!(
            r#"{{"accessAccounts":{{"{id}":{{"access":"{id}","secret":"{secret}","role":"admin","userID":0,"groupID":0}}}}}}"#
        );
        let (new, place) = (self.0.path().join("users.new"), self.0.path().join("users.json"));
        std::fs::write(&new, users).unwrap();
        std::fs::rename(new, place).unwrap();
    }
}

impl S3Server {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// One that knows these users besides its own.
    pub fn start_for(users: &Users) -> Self {
        Self::start_with(&["--iam-dir".as_ref(), users.0.path(), "--iam-cache-disable".as_ref()])
    }

    /// One that speaks TLS, with a certificate and its key in these files.
    pub fn start_with_tls(certificate: &Path, key: &Path) -> Self {
        Self::start_with(&["--cert".as_ref(), certificate, "--key".as_ref(), key])
    }

    fn start_with(options: &[&Path]) -> Self {
        let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
        std::fs::create_dir(folder.path().join("lifeboat")).unwrap();
        let child = spawn(port, &folder, options);
        let server = Self { child, port, folder };
        server.wait();
        server
    }

    /// moto: it keeps what it is given in memory, believes every signature, and answers one request at a time.
    pub fn start_moto() -> Self {
        let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
        let mut command = Command::new(tool("MOTO_BIN", "moto"));
        let child =
            command.arg(port.to_string()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let server = Self { child, port, folder };
        server.wait();
        server.say("PUT", "/lifeboat", &[]);
        server
    }

    /// Sends a request that nobody signed, and gives the whole answer. Only moto takes it.
    pub fn say(&self, method: &str, path: &str, headers: &[&str]) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: 0\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
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
        self.child = spawn(self.port, &self.folder, &[]);
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

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn spawn(port: u16, folder: &tempfile::TempDir, options: &[&Path]) -> Child {
    Command::new(tool("VERSITYGW_BIN", "tools"))
        .args(options)
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
