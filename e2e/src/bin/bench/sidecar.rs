//! Starts a sidecar, ours or Litestream, on databases and a store; waits, asks, stops and restores.
//!
//! Both read the same config file, and both begin with an environment that holds the store's credentials only.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::process::{self, Usage};
use crate::store::{self, Store};

/// Who follows the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Variant {
    /// Nobody: what the application gets alone.
    None,
    /// Ours.
    Lifeboat,
    /// Litestream.
    Litestream,
}

/// The programs that are measured.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    /// Ours.
    pub(crate) lifeboat: PathBuf,
    /// Litestream's.
    pub(crate) litestream: PathBuf,
    /// The S3 server's.
    pub(crate) versitygw: PathBuf,
}

/// What a sidecar is started on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting<'a> {
    /// The programs.
    pub(crate) programs: &'a Programs,
    /// Where config and log go.
    pub(crate) folder: &'a Path,
    /// The store.
    pub(crate) store: &'a Store,
    /// The databases, in the order of their prefixes.
    pub(crate) databases: &'a [PathBuf],
    /// Lines of the config.
    pub(crate) keys: &'a [&'a str],
    /// Lines of the config that only ours understands.
    pub(crate) our_keys: &'a [&'a str],
}

/// A running sidecar; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Sidecar {
    variant: Variant,
    child: Child,
    port: u16,
    log: PathBuf,
    began: Instant,
}

/// The prefix of a database by its place in the config.
pub(crate) fn prefix(number: usize) -> String {
    format!("db-{number}")
}

impl Variant {
    /// As it stands in results.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lifeboat => "lifeboat",
            Self::Litestream => "litestream",
        }
    }
}

impl Sidecar {
    /// Starts the sidecar of this variant.
    ///
    /// # Errors
    /// When there is none, or it cannot be started.
    pub(crate) fn start(variant: Variant, setting: &Setting<'_>) -> Result<Self> {
        let port = store::free_port()?;
        let config = setting.folder.join("config.yml");
        fs::write(&config, config_text(variant, setting, port))?;
        let log = setting.folder.join("sidecar.log");
        let mut command = command(variant, setting.programs)?;
        command.arg("replicate");
        match variant {
            Variant::Lifeboat => command.args(["--log-level", "debug", "--config"]).arg(&config),
            Variant::None | Variant::Litestream => command.arg("-config").arg(&config),
        };
        let file = File::options().create(true).append(true).open(&log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let began = Instant::now();
        let child = command.spawn().with_context(|| format!("start {command:?}"))?;
        Ok(Self { variant, child, port, log, began })
    }

    /// Waits until every database is stored once; returns how long that took since the start.
    ///
    /// # Errors
    /// When it takes too long, or the sidecar ends.
    pub(crate) fn await_stored(&mut self, store: &Store, databases: usize) -> Result<Duration> {
        let (began, mut missing) = (self.began, (0..databases).collect::<Vec<_>>());
        self.wait("the first replication", |sidecar| match sidecar.variant {
            Variant::None => true,
            Variant::Lifeboat => sidecar.is_ready(),
            // It has no endpoint that says so. Its first file of level 0 holds the whole database.
            Variant::Litestream => {
                missing.retain(|number| store.ltx_sizes(&prefix(*number), 0).is_empty());
                missing.is_empty()
            }
        })?;
        Ok(began.elapsed())
    }

    /// Waits until it does nothing any more; returns what it had used by then.
    ///
    /// # Errors
    /// When it takes too long, or the sidecar ends.
    pub(crate) fn await_quiet(&mut self) -> Result<Usage> {
        let give_up = Instant::now() + PATIENCE;
        let mut last = self.usage()?;
        loop {
            std::thread::sleep(QUIET_SPAN);
            let usage = self.usage()?;
            if usage.cpu_s - last.cpu_s < QUIET_CPU_S {
                return Ok(usage);
            }
            ensure!(Instant::now() < give_up, "{} does not come to rest", self.variant.name());
            last = usage;
        }
    }

    /// What it has used.
    ///
    /// # Errors
    /// When it has ended.
    pub(crate) fn usage(&self) -> Result<Usage> {
        process::usage(self.child.id())
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to store the last commits and end, and waits for that.
    ///
    /// # Errors
    /// When it takes too long, or reports a failure.
    pub(crate) fn stop(mut self) -> Result<()> {
        let asked = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        ensure!(asked.success(), "SIGTERM could not be sent to {}", self.variant.name());
        let status = self.await_end()?;
        ensure!(status.success(), "{} ended with {status}; see {}", self.variant.name(), self.log.display());
        Ok(())
    }

    /// Ends it where it stands.
    ///
    /// # Errors
    /// When it has ended before.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// The longest time that it said to have held the application's write lock, milliseconds; `None` where it never
    /// said so.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub(crate) fn longest_write_lock_ms(&self) -> Result<Option<f64>> {
        Ok(longest_write_lock_ms(&fs::read_to_string(&self.log)?))
    }

    fn is_ready(&self) -> bool {
        let ask = || -> Result<bool> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_read_timeout(Some(ANSWER_MAX))?;
            stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer.starts_with("HTTP/1.1 200"))
        };
        ask().unwrap_or(false)
    }

    fn await_end(&mut self) -> Result<ExitStatus> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(Instant::now() < give_up, "{} does not end", self.variant.name());
            std::thread::sleep(LOOK_PAUSE);
        }
    }

    fn wait(&mut self, what: &str, mut is_done: impl FnMut(&Self) -> bool) -> Result<()> {
        let give_up = Instant::now() + PATIENCE;
        while !is_done(self) {
            let log = self.log.display();
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}; see {log}", self.variant.name());
            }
            ensure!(Instant::now() < give_up, "{}: {what} takes too long; see {log}", self.variant.name());
            std::thread::sleep(LOOK_PAUSE);
        }
        Ok(())
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a program that ran to its end has used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    /// From its start to its end, seconds.
    pub(crate) wall_s: f64,
    /// Seconds on a CPU.
    pub(crate) cpu_s: f64,
    /// The most memory it was seen to have.
    pub(crate) peak_rss_mb: f64,
}

/// Restores the database of this number to `to`.
///
/// # Errors
/// When the program refuses.
pub(crate) fn restore(
    variant: Variant,
    setting: &Setting<'_>,
    number: usize,
    to: &Path,
    more: &[&str],
) -> Result<Used> {
    let config = setting.folder.join("config.yml");
    let mut command = command(variant, setting.programs)?;
    let database = setting.databases.get(number).context("no such database")?;
    match variant {
        Variant::Lifeboat => command.arg("restore").arg("--config").arg(&config),
        Variant::None | Variant::Litestream => command.arg("restore").arg("-config").arg(&config),
    };
    command.args(more).arg("-o").arg(to).arg(database);
    let log = setting.folder.join("restore.log");
    let (status, used) = run(&mut command, &log)?;
    ensure!(status.success(), "{}: {}", variant.name(), fs::read_to_string(&log)?);
    Ok(used)
}

/// What a verification came to.
#[derive(Clone, Debug)]
pub(crate) struct Verified {
    /// Its exit code.
    pub(crate) code: Option<i32>,
    /// Its report and its log.
    pub(crate) said: String,
    /// What it has used.
    pub(crate) used: Used,
}

/// Verifies every byte of what we have stored of the database of this number.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn verify(setting: &Setting<'_>, number: usize) -> Result<Verified> {
    let mut command = command(Variant::Lifeboat, setting.programs)?;
    let database = setting.databases.get(number).context("no such database")?;
    command.args(["verify", "--level", "deep", "--config"]).arg(setting.folder.join("config.yml"));
    let log = setting.folder.join("verify.log");
    let (status, used) = run(command.arg(database), &log)?;
    Ok(Verified { code: status.code(), said: fs::read_to_string(&log)?, used })
}

/// Runs a program to its end.
fn run(command: &mut Command, log: &Path) -> Result<(ExitStatus, Used)> {
    command.stdin(Stdio::null()).stdout(File::create(log)?).stderr(File::options().append(true).open(log)?);
    let (cpu_before, began) = (process::ended_children_cpu_s()?, Instant::now());
    let mut child = command.spawn()?;
    let mut peak_rss_mb: f64 = 0.0;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        // It may end while we look.
        peak_rss_mb =
            process::usage(child.id()).map_or(peak_rss_mb, |usage| peak_rss_mb.max(usage.peak_rss_mb));
        std::thread::sleep(LOOK_PAUSE);
    };
    let wall_s = began.elapsed().as_secs_f64();
    Ok((status, Used { wall_s, cpu_s: process::ended_children_cpu_s()? - cpu_before, peak_rss_mb }))
}

fn command(variant: Variant, programs: &Programs) -> Result<Command> {
    let program = match variant {
        Variant::None => bail!("without a sidecar there is nothing to start"),
        Variant::Lifeboat => &programs.lifeboat,
        Variant::Litestream => &programs.litestream,
    };
    let mut command = Command::new(program);
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command.envs([("AWS_ACCESS_KEY_ID", store::ID), ("AWS_SECRET_ACCESS_KEY", store::SECRET)]);
    command.env("AWS_REGION", "us-east-1");
    Ok(command)
}

fn config_text(variant: Variant, setting: &Setting<'_>, port: u16) -> String {
    let mut text = format!("addr: 127.0.0.1:{port}\n");
    text.extend(setting.keys.iter().flat_map(|key| [key, "\n"]));
    if variant == Variant::Lifeboat {
        text.extend(setting.our_keys.iter().flat_map(|key| [key, "\n"]));
    }
    text += "dbs:\n";
    for (number, path) in setting.databases.iter().enumerate() {
        text += &format!(
            "  - path: {}\n    replica: {{type: s3, bucket: {}, path: {}, endpoint: '{}', region: us-east-1, force-path-style: true}}\n",
            path.display(),
            store::BUCKET,
            prefix(number),
            setting.store.endpoint(),
        );
    }
    text
}

fn longest_write_lock_ms(log: &str) -> Option<f64> {
    let microseconds =
        |line: &str| line.split_once(WRITE_LOCK_LINE)?.1.split_whitespace().next()?.parse().ok();
    log.lines().filter_map(microseconds).map(|us: f64| us / 1e3).reduce(f64::max)
}

/// How our log line about it ends, but for the unit.
const WRITE_LOCK_LINE: &str = "the write lock was held for ";
/// Nothing that is measured takes so long.
/// Ten thousand databases take minutes to be stored for the first time.
const PATIENCE: Duration = Duration::from_secs(900);
const LOOK_PAUSE: Duration = Duration::from_millis(5);
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Whoever uses less CPU than that in such a span is at rest.
const QUIET_SPAN: Duration = Duration::from_secs(2);
const QUIET_CPU_S: f64 = 0.05;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_hold_of_the_write_lock_is_found_in_a_log() {
        let log = "x DEBUG /a.db: the write lock was held for 812 µs\ny INFO stored\nz DEBUG /a.db: the write lock was held for 1500 µs\n";
        assert_eq!(longest_write_lock_ms(log), Some(1.5));
        assert_eq!(longest_write_lock_ms("y INFO stored"), None);
    }
}
