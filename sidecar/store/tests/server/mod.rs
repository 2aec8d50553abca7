//! A real S3 server on this machine, and peers that misbehave as no real one does on demand.

#![allow(dead_code, reason = "each test file uses another part")]

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};
use lifeboat_store::{KeptAs, S3, S3Config};
use tempfile::TempDir;

pub(crate) const ACCESS_KEY_ID: &str = "lifeboat-test";
pub(crate) const SECRET: &str = "not-really-secret";
pub(crate) const REGION: &str = "eu-test-1";
pub(crate) const BUCKET: &str = "bucket";

/// A server with one bucket.
pub(crate) struct Server {
    process: Child,
    pub(crate) address: SocketAddr,
    folder: TempDir,
}

impl Server {
    /// Starts moto, which is no relative of versitygw, with an empty bucket.
    pub(crate) async fn start_moto() -> Self {
        let server = Self::spawn(|address, _| {
            let mut command = Command::new(binary("MOTO_BIN", "e2e/peers/moto.sh"));
            command.arg(address.port().to_string()).stderr(Stdio::null());
            command
        });
        let here = BucketLocationConstraint::from(REGION);
        let here = CreateBucketConfiguration::builder().location_constraint(here).build();
        let bucket = server.client().create_bucket().bucket(BUCKET).create_bucket_configuration(here);
        bucket.send().await.unwrap();
        server
    }

    /// Starts versitygw with an empty bucket.
    pub(crate) async fn start() -> Self {
        let server = Self::spawn(|address, folder| versitygw(address, folder, None));
        server.client().create_bucket().bucket(BUCKET).send().await.unwrap();
        server
    }

    /// Starts a server that speaks TLS, with a certificate and its key in these files.
    pub(crate) fn start_with_tls(certificate: &Path, key: &Path) -> Self {
        let server = Self::spawn(|address, folder| versitygw(address, folder, Some([certificate, key])));
        std::fs::create_dir(server.folder.path().join(BUCKET)).unwrap();
        server
    }

    fn spawn(command: impl Fn(SocketAddr, &Path) -> Command) -> Self {
        // Another process may take the port between our asking for it and the server's; then the next one.
        for _ in 0..5 {
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let folder = tempfile::tempdir().unwrap();
            let mut process = command(address, folder.path()).stdout(Stdio::null()).spawn().unwrap();
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_secs(20) && process.try_wait().unwrap().is_none() {
                if TcpStream::connect(address).is_ok() {
                    return Self { process, address, folder };
                }
                sleep(Duration::from_millis(20));
            }
            process.kill().ok();
            process.wait().ok();
        }
        panic!("the server did not come up");
    }

    pub(crate) fn stop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }

    /// The SDK itself, to look at what we did with other eyes.
    pub(crate) fn client(&self) -> aws_sdk_s3::Client {
        let http = aws_smithy_http_client::Builder::new().build_http();
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http)
            .region(Region::from_static(REGION))
            .endpoint_url(format!("http://{}", self.address))
            .credentials_provider(Credentials::new(ACCESS_KEY_ID, SECRET, None, None, "test"))
            .force_path_style(true);
        aws_sdk_s3::Client::from_conf(config.build())
    }

    pub(crate) fn config(&self) -> S3Config {
        let credentials = self.folder.path().join(".credentials");
        std::fs::create_dir_all(&credentials).unwrap();
        write_credentials(&credentials, SECRET);
        config(self.address, credentials)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(crate) fn write_credentials(folder: &Path, secret: &str) {
    std::fs::write(folder.join("access-key-id"), ACCESS_KEY_ID).unwrap();
    std::fs::write(folder.join("secret-access-key"), secret).unwrap();
}

pub(crate) fn config(address: SocketAddr, credentials: PathBuf) -> S3Config {
    S3Config {
        bucket: BUCKET.into(),
        path: "some/path".into(),
        region: Some(REGION.into()),
        endpoint: Some(format!("http://{address}")),
        force_path_style: true,
        credentials_dir: Some(credentials),
        keys: None,
        kept_as: KeptAs::default(),
        ca_file: None,
        attempt_timeout: Duration::from_secs(10),
    }
}

/// A store whose server gives every request the same answer, or, for an empty one, none.
pub(crate) async fn store_that_hears(answer: &str) -> (TempDir, S3) {
    let address = answer_everybody(answer.to_owned());
    let folder = tempfile::tempdir().unwrap();
    write_credentials(folder.path(), SECRET);
    let config =
        S3Config { attempt_timeout: Duration::from_millis(500), ..config(address, folder.path().into()) };
    (folder, S3::open(config).await.unwrap())
}

/// A server that gives every request the same answer, or, for an empty one, none.
pub(crate) fn answer_everybody(answer: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    spawn(move || {
        for stream in listener.incoming() {
            let answer = answer.clone();
            spawn(move || answer_all(&stream.unwrap(), &answer));
        }
    });
    address
}

/// Reads requests and gives each the answer; one with the header `x-slow` after a second.
fn answer_all(mut stream: &TcpStream, answer: &str) {
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    let mut body = 0;
    while lines.read_line(&mut line).is_ok_and(|length| length > 0) {
        if let Some(length) = line.strip_prefix("content-length: ") {
            body = length.trim().parse().unwrap();
        }
        if line == "\r\n" {
            if answer.is_empty() {
                lines.read_to_string(&mut line).ok();
            }
            io::copy(&mut lines.by_ref().take(body), &mut io::sink()).ok();
            if answer.contains("x-slow") {
                sleep(Duration::from_secs(1));
            }
            stream.write_all(answer.as_bytes()).ok();
            if answer.contains("connection: close") {
                return;
            }
            body = 0;
        }
        line.clear();
    }
}

/// A road to the server on which so many bytes a second get through, of all connections together.
pub(crate) fn slow_road(server: SocketAddr, bytes_a_second: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let gate = Arc::new(Mutex::new(()));
    spawn(move || {
        for client in listener.incoming() {
            let (client, gate) = (client.unwrap(), Arc::clone(&gate));
            spawn(move || drop(pass_slowly(client, server, &gate, bytes_a_second)));
        }
    });
    address
}

fn pass_slowly(
    mut client: TcpStream,
    server: SocketAddr,
    gate: &Mutex<()>,
    bytes_a_second: usize,
) -> io::Result<()> {
    let mut server = TcpStream::connect(server)?;
    let (mut from_server, mut to_client) = (server.try_clone()?, client.try_clone()?);
    spawn(move || drop(io::copy(&mut from_server, &mut to_client)));
    let mut buffer = vec![0; bytes_a_second / 20];
    loop {
        let count = client.read(&mut buffer)?;
        if count == 0 {
            return server.shutdown(std::net::Shutdown::Write);
        }
        let turn = gate.lock().unwrap();
        sleep(Duration::from_secs_f64(count as f64 / bytes_a_second as f64));
        drop(turn);
        server.write_all(&buffer[..count])?;
    }
}

fn versitygw(address: SocketAddr, folder: &Path, tls: Option<[&Path; 2]>) -> Command {
    let mut command = Command::new(binary("VERSITYGW_BIN", "e2e/lab/tools.sh"));
    command
        .args(["--quiet", "--region", REGION, "--port", &address.to_string()])
        .args(tls.iter().flat_map(|[certificate, key]| {
            [OsStr::new("--cert"), certificate.as_os_str(), OsStr::new("--key"), key.as_os_str()]
        }))
        .arg("posix")
        .arg(folder)
        .env("ROOT_ACCESS_KEY", ACCESS_KEY_ID)
        .env("ROOT_SECRET_KEY", SECRET);
    command
}

fn binary(variable: &str, script: &str) -> PathBuf {
    let binary = std::env::var_os(variable).map(PathBuf::from);
    binary
        .unwrap_or_else(|| panic!("{variable} is not set: run the tests with `make unit`; {script} makes it"))
}
