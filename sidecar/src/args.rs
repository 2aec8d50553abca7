//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use lifeboat_ltx::Txid;

mod forks;
mod import;
mod lists;
mod take;
mod verify;
mod written;

pub use forks::{ForkAgainst, ForkRestoreArgs, ForkShowArgs, ForksListArgs, ForksVerb};
pub use import::{ImportArgs, ImportFormat};
pub use lists::{CompletionsArgs, ConfigCheckArgs, ConfigVerb, DatabasesArgs, LevelChoice, LtxArgs, ManArgs};
pub use take::Take;
pub use verify::{VerifyArgs, VerifyLevel};
pub use written::WrittenArgs;

use crate::database::Synchronous;

/// Keeps SQLite databases alive: every commit streams to S3 or a directory, and comes back from there.
#[derive(Debug, Parser)]
#[command(name = "lifeboat", version, propagate_version = true, after_help = EXIT_CODES)]
pub struct Cli {
    /// How log lines on standard error look.
    #[arg(long, global = true, value_enum, default_value = "text", env = "LIFEBOAT_LOG_FORMAT")]
    pub log_format: LogFormat,

    /// The least important lines to log: error, warn, info, debug or trace.
    #[arg(long, global = true, default_value = "info", env = "LIFEBOAT_LOG_LEVEL")]
    pub log_level: tracing::level_filters::LevelFilter,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Follow databases and store every commit, until stopped.
    ///
    /// `lifeboat replicate app.db s3://bucket/path` follows one database; without DB and URL every database of the
    /// config file is followed. On SIGTERM or SIGINT the last commits are stored first; on SIGHUP the config file is read again.
    #[command(after_long_help = REPLICATE_EXAMPLES)]
    Replicate(ReplicateArgs),
    /// Rebuild a database from its replica.
    ///
    /// `lifeboat restore -o out.db s3://bucket/path` restores from a URL; `lifeboat restore app.db` restores a database
    /// of the config file to its place. The file appears whole and verified, or not at all.
    #[command(after_long_help = RESTORE_EXAMPLES)]
    Restore(RestoreArgs),
    /// Wait until everything committed until now is stored.
    ///
    /// Asks the running `lifeboat replicate`, which stores at once what it would collect otherwise. `lifeboat sync` asks for
    /// all of its databases, `lifeboat sync app.db` for one.
    #[command(after_long_help = SYNC_EXAMPLES)]
    Sync(SyncArgs),
    /// Show what the running `lifeboat replicate` says of its databases.
    #[command(after_long_help = STATUS_EXAMPLES)]
    Status(StatusArgs),
    /// List the databases of the config file.
    ///
    /// Those of its folders are listed as they are found there now. Nothing is asked of any bucket.
    #[command(after_long_help = lists::DATABASES_EXAMPLES)]
    Databases(DatabasesArgs),
    /// List the files of a replica: slots, seals, merged files, snapshots.
    ///
    /// Of a URL, or of a database of the config file. Reads the list, and the first 100 bytes of every file.
    #[command(visible_alias = "list", after_long_help = lists::LTX_EXAMPLES)]
    Ltx(LtxArgs),
    /// Verify a replica: every file, and that all of them lead to one database.
    ///
    /// Of a URL, or of a database of the config file. Writes nothing. Ends with 0 when everything is as it must be, with 6 when
    /// anything is wrong; every wrong thing is named.
    #[command(after_long_help = verify::VERIFY_EXAMPLES)]
    Verify(VerifyArgs),
    /// Look at forks: databases that lost their replica to another writer.
    ///
    /// A writer that finds out that another one took over saves what it has beside the replica. Nothing of that is merged: a person
    /// looks at it, and takes what is missed.
    #[command(subcommand)]
    Forks(ForksVerb),
    /// Rebuild a database from what Litestream has stored, 0.3 or 0.5.
    ///
    /// Says which of its formats was found. The file appears whole, or not at all; what is damaged is named, and never taken for
    /// the end. Then `lifeboat replicate` stores it anew.
    #[command(after_long_help = import::IMPORT_EXAMPLES)]
    Import(ImportArgs),
    /// Look at the config file.
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Print completions for a shell.
    #[command(after_long_help = lists::COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArgs),
    /// Write the manual pages into a folder.
    #[command(after_long_help = lists::MAN_EXAMPLES)]
    Man(ManArgs),
    /// Print the version, and that of SQLite inside.
    Version,
    /// Look at the place where replicas lie.
    #[command(subcommand)]
    Store(StoreVerb),
    /// Ask the replicating process of this pod; used by its probes.
    Ctl(CtlArgs),
}

/// Where configuration comes from.
#[derive(Args, Debug, Default, Clone)]
pub struct ConfigArgs {
    /// The config file [default: $LIFEBOAT_CONFIG, /etc/lifeboat.yml, /etc/litestream.yml]
    #[arg(long, short = 'c', value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Read the whole config from $LIFEBOAT_CONFIG_INLINE, as in a pod.
    #[arg(long, conflicts_with = "config")]
    pub config_from_env: bool,

    /// Take $NAMES in the config file literally.
    #[arg(long)]
    pub no_expand_env: bool,
}

/// How to reach an S3 bucket that is not Amazon's own.
#[derive(Args, Debug, Default, Clone)]
pub struct StoreArgs {
    /// URL of an S3-compatible server, such as http://127.0.0.1:9000
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,

    /// Region of the bucket [default: $AWS_REGION; us-east-1 with an endpoint]
    #[arg(long)]
    pub region: Option<String>,

    /// Put the bucket in the URL's path instead of its host name [default: true with an endpoint]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub force_path_style: Option<bool>,

    /// PEM file with authorities to believe besides the machine's own [default: $AWS_CA_BUNDLE]
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    /// How the server encrypts what is stored: AES256, aws:kms or aws:kms:dsse [default: as the bucket says]
    #[arg(long, value_name = "KIND")]
    pub sse: Option<String>,

    /// The key it uses for that, as the KMS knows it [default: the bucket's]
    #[arg(long, value_name = "ID")]
    pub sse_kms_key_id: Option<String>,

    /// Storage class of what is stored, such as STANDARD_IA [default: the bucket's]
    #[arg(long, value_name = "CLASS")]
    pub storage_class: Option<String>,
}

/// Arguments of `replicate`.
#[derive(Args, Clone, Debug)]
pub struct ReplicateArgs {
    /// The database file; it may not exist yet.
    #[arg(requires = "url")]
    pub db: Option<PathBuf>,

    /// Where to: s3://bucket/path or file:///dir
    pub url: Option<String>,

    /// Configuration.
    #[command(flatten)]
    pub config: ConfigArgs,

    /// Store.
    #[command(flatten)]
    pub store: StoreArgs,

    /// The longest time commits are collected before they are stored, under steady load [default: 1s]
    #[arg(long, value_parser = parse_duration, value_name = "DURATION")]
    pub sync_interval: Option<Duration>,

    /// Slots a day and database, as a budget: under unbroken load the interval is stretched for it [default: none]
    #[arg(long, value_name = "N")]
    pub max_requests_per_day: Option<u32>,

    /// The longest time a commit waits because of the budget; it wins over the budget [default: 5m]
    #[arg(long, value_parser = parse_duration, value_name = "DURATION")]
    pub max_lag: Option<Duration>,

    /// How long the last commits may take to be stored after SIGTERM or SIGINT [default: 25s]
    #[arg(long, value_parser = parse_duration, value_name = "DURATION")]
    pub flush_timeout: Option<Duration>,

    /// How long to wait for a previous writer that still makes progress [default: 30s]
    #[arg(long, value_parser = parse_duration, value_name = "DURATION")]
    pub handover_timeout: Option<Duration>,

    /// Switch a database that is not in WAL mode to it; else replicate it as it is [default: true]
    #[arg(long, value_name = "BOOL")]
    pub enforce_wal: Option<bool>,

    /// What our checkpoints sync. `off` only for an application that runs with `PRAGMA synchronous=OFF` itself [default: normal]
    #[arg(long, value_enum, ignore_case = true, value_name = "WHAT")]
    pub synchronous: Option<Synchronous>,

    /// Run this command while its databases are replicated: it begins when all of them are followed, gets SIGTERM and
    /// SIGINT, and when it ends the last commits are stored and its exit code is ours
    #[arg(long, value_name = "CMD")]
    pub exec: Option<String>,

    /// Store everything that is committed now, then end
    #[arg(long, conflicts_with = "exec")]
    pub once: bool,

    /// Of more databases than this, metrics are of all of them together [default: 200]
    #[arg(long, value_name = "N")]
    pub metrics_databases_max: Option<usize>,

    /// Continue a replica that Litestream has written, after comparing the database with what it restores to. Stop Litestream
    /// first
    #[arg(long)]
    pub adopt: bool,

    /// Choose, where the database is no continuation of what is stored. The other one is saved as a fork first. For this start only
    #[arg(long, value_enum, value_name = "WHICH")]
    pub take: Option<Take>,

    /// Something is stored there already: refuse an empty place instead of beginning a new replica in it
    #[arg(long)]
    pub expect_data: bool,

    /// Serve /v1/status, /metrics, /healthz and /readyz on this address, such as 127.0.0.1:9898 [default: off]
    #[arg(long, value_name = "HOST:PORT")]
    pub addr: Option<String>,

    /// The control socket, for `lifeboat sync` and `lifeboat status`; `off` for none [default: /run/lifeboat/lifeboat.sock or
    /// $XDG_RUNTIME_DIR/lifeboat/lifeboat.sock, the first that can be had]
    #[arg(long, value_name = "PATH", env = "LIFEBOAT_SOCKET", value_parser = parse_socket)]
    pub socket: Option<PathBuf>,
}

/// Arguments of `sync`.
#[derive(Args, Debug)]
pub struct SyncArgs {
    /// Names or paths of databases [default: all that the process follows]
    #[arg(value_name = "DB")]
    pub databases: Vec<String>,

    /// Configuration: where the control socket is, unless that is said here.
    #[command(flatten)]
    pub config: ConfigArgs,

    /// How long to wait; then it ends with 5 and says what is missing
    #[arg(long, value_parser = parse_patience, value_name = "DURATION", default_value = "30s")]
    pub timeout: Duration,

    /// Litestream's way to wait, which is always done here.
    #[arg(long, hide = true)]
    pub wait: bool,

    /// Print one JSON object for each database.
    #[arg(long)]
    pub json: bool,

    /// The process's control socket [default: the config's; else the first of the usual ones where a process answers]
    #[arg(long, value_name = "PATH", env = "LIFEBOAT_SOCKET", value_parser = parse_socket)]
    pub socket: Option<PathBuf>,
}

/// Arguments of `status`.
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// Names or paths of databases [default: all that the process follows]
    #[arg(value_name = "DB")]
    pub databases: Vec<String>,

    /// Configuration: where the control socket is, unless that is said here.
    #[command(flatten)]
    pub config: ConfigArgs,

    /// Print what `/v1/status` answers.
    #[arg(long)]
    pub json: bool,

    /// The process's control socket [default: the config's; else the first of the usual ones where a process answers]
    #[arg(long, value_name = "PATH", env = "LIFEBOAT_SOCKET", value_parser = parse_socket)]
    pub socket: Option<PathBuf>,
}

/// Arguments of `restore`.
#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct RestoreArgs {
    /// A URL, or a database of the config file; in a pod every database of the config.
    #[arg(value_name = "URL|DB")]
    pub source: Option<String>,

    /// The file to write [default: the database's own path]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Configuration.
    #[command(flatten)]
    pub config: ConfigArgs,

    /// Store.
    #[command(flatten)]
    pub store: StoreArgs,

    /// Replace the file if it exists.
    #[arg(long)]
    pub force: bool,

    /// Do nothing and succeed if the file exists.
    #[arg(long)]
    pub if_db_not_exists: bool,

    /// Do nothing and succeed if nothing is stored.
    #[arg(long)]
    pub if_replica_exists: bool,

    /// In a pod: choose, where a database is no continuation of what is stored, as the refusal spells it. Without a name where there is one
    #[arg(long, value_name = "NAME:WHICH", env = "LIFEBOAT_TAKE", requires = "config_from_env")]
    pub take: Option<String>,

    /// Something is stored there: refuse an empty place. Of use in a pod, where the application would begin with nothing
    #[arg(long, conflicts_with = "if_replica_exists")]
    pub expect_data: bool,

    /// How long to try to reach the bucket [default: 10s, 60s in a pod]
    #[arg(long, value_parser = parse_duration, value_name = "DURATION")]
    pub wait: Option<Duration>,

    /// Restore exactly this TXID, 16 hexadecimal digits as in file names [default: the newest]
    #[arg(long, value_name = "TXID", conflicts_with = "timestamp")]
    pub txid: Option<Txid>,

    /// Restore the newest state that is not younger, such as 2026-11-27T20:15:00Z
    #[arg(long, value_name = "RFC3339", value_parser = parse_timestamp)]
    pub timestamp: Option<jiff::Timestamp>,

    /// Keep the file close behind the replica until told to stop; others may read it at any moment
    #[arg(short = 'f', long, conflicts_with_all = ["txid", "timestamp", "dry_run"])]
    pub follow: bool,

    /// How often a followed replica is looked at
    #[arg(long, value_parser = parse_duration, value_name = "DURATION", default_value = "1s")]
    pub follow_interval: Duration,

    /// How many requests to the bucket are under way at once
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub parallelism: u8,

    /// What SQLite itself checks before the file gets its place; its checksum is always checked
    #[arg(long, value_name = "HOW", value_enum, default_value_t = IntegrityCheck::None)]
    pub integrity_check: IntegrityCheck,

    /// Say what would be fetched, and do nothing.
    #[arg(long)]
    pub dry_run: bool,

    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Which of SQLite's own checks a restored database must pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IntegrityCheck {
    /// None.
    None,
    /// `PRAGMA quick_check`: the structure of tables.
    Quick,
    /// `PRAGMA integrity_check`: indexes and constraints too.
    Full,
}

/// What can be done with a store.
#[derive(Debug, Subcommand)]
pub enum StoreVerb {
    /// Find out whether a bucket or folder can guarantee one writer at a time.
    ///
    /// Every ability we rely on is tried on objects of its own, which are deleted again: some 1,400 requests. Ends with 0 when
    /// it can, with 4 when it cannot, and says what that means.
    #[command(after_long_help = STORE_CHECK_EXAMPLES)]
    Check(StoreCheckArgs),
}

/// The replica that a command is about.
#[derive(Args, Debug)]
pub struct ReplicaArgs {
    /// A URL, or a database of the config file.
    #[arg(value_name = "URL|DB")]
    pub source: String,

    /// Configuration.
    #[command(flatten)]
    pub config: ConfigArgs,

    /// Store.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Arguments of `store check`.
#[derive(Args, Debug)]
pub struct StoreCheckArgs {
    /// Which replica.
    #[command(flatten)]
    pub replica: ReplicaArgs,

    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `ctl`.
#[derive(Args, Debug)]
pub struct CtlArgs {
    /// What to ask.
    #[command(subcommand)]
    pub verb: CtlVerb,

    /// The control socket [default: the first of the usual ones where a process answers]
    #[arg(long, global = true, value_name = "PATH", env = "LIFEBOAT_SOCKET", value_parser = parse_socket)]
    pub socket: Option<PathBuf>,
}

/// What a probe may ask.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum CtlVerb {
    /// Does every database have its claim open? The startup probe.
    Started,
    /// Does the follower's loop turn? The liveness probe.
    Alive,
    /// Store what is there now; the pod is about to end. The preStop hook.
    Prestop,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Takes any path, and also the empty one of an environment variable that is set to nothing.
fn parse_socket(text: &str) -> Result<PathBuf, std::convert::Infallible> {
    Ok(PathBuf::from(text))
}

/// Parses `2026-11-27T20:15:00Z`, `2026-11-27T21:15:00+01:00`.
fn parse_timestamp(text: &str) -> Result<jiff::Timestamp, String> {
    let wrong = |_| format!("'{text}' is not a point in time; write it like 2026-11-27T20:15:00Z");
    text.parse().map_err(wrong)
}

/// A duration, or Litestream's plain number of seconds.
fn parse_patience(text: &str) -> Result<Duration, String> {
    text.parse().map_or_else(|_| parse_duration(text), |seconds| Ok(Duration::from_secs(seconds)))
}

/// Parses `1s`, `250ms`, `1h30m`.
///
/// # Errors
/// A sentence that says what a duration looks like.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is not a duration; write it like 250ms, 1s or 1h30m");
    let duration: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(duration).map_err(|_| wrong())
}

const REPLICATE_EXAMPLES: &str = "Examples:
  lifeboat replicate app.db s3://bucket/path
  lifeboat replicate '/data/*.db' s3://bucket/tenants
  lifeboat replicate --config /etc/lifeboat.yml
  lifeboat replicate --exec './shop --port 8080' app.db s3://bucket/path
  lifeboat replicate --once app.db s3://bucket/path";
const RESTORE_EXAMPLES: &str = "Examples:
  lifeboat restore -o out.db s3://bucket/path
  lifeboat restore /var/lib/shop/app.db";
const SYNC_EXAMPLES: &str = "Examples:
  lifeboat sync
  lifeboat sync --timeout 2m app.db";
const STATUS_EXAMPLES: &str = "Examples:
  lifeboat status
  lifeboat status --json app.db";
const EXIT_CODES: &str = "Exit codes: 0 done; 2 usage or config; 3 fenced by another writer; 4 refused; \
    5 bucket or process unavailable; 6 stored data damaged; 70 bug.";
const STORE_CHECK_EXAMPLES: &str = "Examples:
  lifeboat store check s3://bucket/path --endpoint http://127.0.0.1:9000
  lifeboat store check --json app.db | jq .canFence";
