//! Arguments of `forks`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{ReplicaArgs, WrittenArgs};

/// What to do with forks.
#[derive(Debug, Subcommand)]
pub enum ForksVerb {
    /// List the forks of a replica: whose, since when, from where on, and how much.
    #[command(after_long_help = LIST_EXAMPLES)]
    List(ForksListArgs),
    /// Say what a fork holds that the replica does not: table by table, how many rows were added, removed and changed.
    ///
    /// Both databases are restored into a temporary folder, and compared by SQLite.
    #[command(after_long_help = SHOW_EXAMPLES)]
    Show(ForkShowArgs),
    /// Restore a fork to a file. It appears whole and verified, or not at all, and never over an existing file.
    #[command(after_long_help = RESTORE_EXAMPLES)]
    Restore(ForkRestoreArgs),
}

/// Arguments of `forks list`.
#[derive(Args, Debug)]
pub struct ForksListArgs {
    /// Which replica.
    #[command(flatten)]
    pub replica: ReplicaArgs,

    /// Print a JSON array.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `forks show`.
#[derive(Args, Debug)]
pub struct ForkShowArgs {
    /// Which replica.
    #[command(flatten)]
    pub replica: ReplicaArgs,

    /// Its name, or its epoch where there is one fork of it [default: the only one there is]
    #[arg(value_name = "FORK")]
    pub fork: Option<String>,

    /// What of the replica it is compared with
    #[arg(long, value_enum, value_name = "STATE", default_value_t = ForkAgainst::Newest)]
    pub against: ForkAgainst,

    /// How long the bucket is tried while nothing works
    #[arg(long, value_parser = super::parse_duration, value_name = "DURATION", default_value = "10s")]
    pub wait: Duration,

    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// A state of the replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ForkAgainst {
    /// The newest one.
    Newest,
    /// The one that the fork goes on from, as long as it can be restored.
    Base,
}

/// Arguments of `forks restore`.
#[derive(Args, Debug)]
pub struct ForkRestoreArgs {
    /// Which replica.
    #[command(flatten)]
    pub replica: ReplicaArgs,

    /// Its name, or its epoch where there is one fork of it [default: the only one there is]
    #[arg(value_name = "FORK")]
    pub fork: Option<String>,

    /// The file, and how.
    #[command(flatten)]
    pub written: WrittenArgs,
}

const LIST_EXAMPLES: &str = "Examples:
  lifeboat forks list s3://bucket/path
  lifeboat forks list --json /var/lib/shop/app.db";
const SHOW_EXAMPLES: &str = "Examples:
  lifeboat forks show s3://bucket/path 3
  lifeboat forks show --against base s3://bucket/path 3";
const RESTORE_EXAMPLES: &str = "Examples:
  lifeboat forks restore -o lost.db s3://bucket/path 3";
