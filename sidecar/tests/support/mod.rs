//! The real program as its users run it, and the applications beside it.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of this")]
#![allow(missing_debug_implementations, reason = "nobody prints these")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rusqlite::Connection;

pub mod application;
pub mod dice;
pub mod proxy;
pub mod s3;
pub mod weather;

use s3::S3Server;

/// A folder with a database, a replica, and a log of every program that ran.
pub struct Place {
    pub folder: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// The URL of a replica in a folder of this place.
    pub fn url(&self, name: &str) -> String {
        format!("file://{}", self.text(name))
    }

    /// Starts `lifeboat` and returns when its log says `word`.
    pub fn start(&self, args: &[&str], word: &str) -> Running {
        self.start_with(args, word, None)
    }

    pub fn start_with(&self, args: &[&str], word: &str, s3: Option<&S3Server>) -> Running {
        let running = self.spawn(&mut lifeboat_with(args, s3));
        running.wait_for(word);
        running
    }

    pub fn spawn(&self, command: &mut Command) -> Running {
        let number = std::fs::read_dir(self.folder.path()).unwrap().count();
        let log = self.path(&format!("log-{number}"));
        let child = command.stderr(File::create(&log).unwrap()).stdout(Stdio::null()).spawn().unwrap();
        Running { child: Some(child), log }
    }

    /// Runs `lifeboat` to its end.
    pub fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, None)
    }

    pub fn run_with(&self, args: &[&str], s3: Option<&S3Server>) -> Ran {
        Ran::new(&lifeboat_with(args, s3).stdin(Stdio::null()).output().unwrap())
    }

    pub fn open(&self, name: &str) -> Connection {
        let connection = Connection::open(self.path(name)).unwrap();
        connection.busy_timeout(Duration::from_secs(10)).unwrap();
        connection
    }
}

/// The program under test, without the caller's own configuration.
pub fn lifeboat(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
    command.args(args).env_remove("LIFEBOAT_CONFIG").env_remove("LIFEBOAT_POD_UID");
    // Tests run side by side, and none may meet the sockets of this machine.
    command.env("LIFEBOAT_SOCKET", "off");
    for name in
        ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_REGION", "AWS_ENDPOINT_URL"]
    {
        command.env_remove(name);
    }
    command.env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

/// The program with the server's credentials, and its endpoint as a flag.
pub fn lifeboat_with(args: &[&str], s3: Option<&S3Server>) -> Command {
    let mut command = lifeboat(args);
    if let Some(s3) = s3 {
        command.envs(s3.credentials()).args(["--endpoint", &s3.endpoint()]);
    }
    command
}

/// What a program left.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn new(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Asserts that the program ended with `code` and that its message holds every word.
    #[track_caller]
    pub fn says(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        for word in words {
            assert!(
                self.stderr.contains(word) || self.stdout.contains(word),
                "no '{word}' in: {}",
                self.stderr
            );
        }
    }
}

/// A program that runs in the background.
pub struct Running {
    child: Option<Child>,
    log: PathBuf,
}

impl Running {
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    #[track_caller]
    pub fn wait_for(&self, word: &str) {
        eventually(
            &format!("the log to say '{word}'"),
            || self.log().contains(word).then_some(()),
            || self.log(),
        );
    }

    /// Whether it has ended; nobody has asked for its code yet.
    pub fn is_over(&self) -> bool {
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        let pid = rustix::process::Pid::from_raw(self.pid()).unwrap();
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(pid), look).unwrap().is_some()
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.as_ref().unwrap().id()).unwrap()
    }

    /// Tells it to stop, as systemd or a kubelet does.
    #[track_caller]
    pub fn stop(mut self) -> (Option<i32>, String) {
        self.signal(rustix::process::Signal::TERM);
        let status = self.child.take().unwrap().wait().unwrap();
        (status.code(), self.log())
    }

    /// Pulls the plug.
    pub fn kill(mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Pulls the plug, and reads what it said until then.
    pub fn kill_and_read(self) -> String {
        let log = self.log.clone();
        self.kill();
        std::fs::read_to_string(log).unwrap_or_default()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    #[track_caller]
    pub fn ends(mut self) -> (ExitStatus, String) {
        let mut child = self.child.take().unwrap();
        let status = eventually("the program to end", || child.try_wait().unwrap(), || self.log());
        (status, self.log())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits for a condition, with a limit that only a hang reaches.
#[track_caller]
pub fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>, evidence: impl Fn() -> String) -> T {
    eventually_within(Duration::from_secs(60), what, look, evidence)
}

/// The same for what takes long.
#[track_caller]
pub fn eventually_within<T>(
    patience: Duration,
    what: &str,
    mut look: impl FnMut() -> Option<T>,
    evidence: impl Fn() -> String,
) -> T {
    let end = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain for {what}: {}", evidence());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A program of the machine, such as the official Litestream, from an environment variable that `make` sets.
#[track_caller]
pub fn tool(variable: &str, target: &str) -> PathBuf {
    let path = std::env::var_os(variable).unwrap_or_else(|| {
        panic!("${variable} is not set; run the tests with `make`, or see `make {target}`")
    });
    PathBuf::from(path)
}

/// The official Litestream, with the server's credentials.
#[track_caller]
pub fn litestream(args: &[&str], s3: Option<&S3Server>) -> Command {
    let mut command = Command::new(tool("LITESTREAM_BIN", "litestream"));
    // It refuses its own HTTP client when the machine sets a CA bundle.
    command.args(args).stdin(Stdio::null()).env_remove("AWS_CA_BUNDLE");
    if let Some(s3) = s3 {
        command.envs(s3.credentials());
    }
    command
}

/// Every row of every table, for comparing databases.
pub fn dump(path: &Path) -> Vec<String> {
    let database = Connection::open(path).unwrap();
    let mut names = database
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        .unwrap()
        .query_map([], |row| row.get::<_, String>(0))
        .unwrap()
        .map(Result::unwrap)
        .collect::<Vec<_>>();
    names.retain(|name| !name.starts_with("sqlite_"));
    let mut rows = Vec::new();
    for name in names {
        let mut statement = database.prepare(&format!("SELECT * FROM \"{name}\" ORDER BY rowid")).unwrap();
        let columns = statement.column_count();
        let mut found = statement.query([]).unwrap();
        while let Some(row) = found.next().unwrap() {
            let values: Vec<_> = (0..columns).map(|n| show(row.get_ref(n).unwrap())).collect();
            rows.push(format!("{name}: {}", values.join(", ")));
        }
    }
    rows
}

fn show(value: rusqlite::types::ValueRef<'_>) -> String {
    match value {
        rusqlite::types::ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
        rusqlite::types::ValueRef::Null
        | rusqlite::types::ValueRef::Integer(_)
        | rusqlite::types::ValueRef::Real(_)
        | rusqlite::types::ValueRef::Blob(_) => format!("{value:?}"),
    }
}
