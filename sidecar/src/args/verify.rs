//! Arguments of `verify`.

use clap::{Args, ValueEnum};

use super::ReplicaArgs;

/// Arguments of `verify`.
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// Which replica.
    #[command(flatten)]
    pub replica: ReplicaArgs,

    /// How thoroughly: the list and every header; every byte and every state; a real restore besides [default: deep, or drill
    /// with --sql]
    #[arg(long, value_enum, ignore_case = true, value_name = "LEVEL")]
    pub level: Option<VerifyLevel>,

    /// A query of which the first column of the first row must be true in the restored database; may be repeated
    #[arg(long, value_name = "QUERY")]
    pub sql: Vec<String>,

    /// How many requests to the bucket are under way at once
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub parallelism: u8,

    /// How long the bucket is tried while nothing works
    #[arg(long, value_parser = super::parse_duration, value_name = "DURATION", default_value = "10s")]
    pub wait: std::time::Duration,

    /// Print the report as one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// How thoroughly a replica is verified. Each level includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VerifyLevel {
    /// The list, the head, and the header of every file.
    Chain,
    /// Every byte of every file, and the checksum of the database after each.
    Deep,
    /// A restore into a temporary file, SQLite's integrity check, and the queries.
    Drill,
}

pub(super) const VERIFY_EXAMPLES: &str = "Examples:
  lifeboat verify s3://bucket/path
  lifeboat verify --level chain /var/lib/shop/app.db
  lifeboat verify --sql 'SELECT count(*) > 1000 FROM orders' --json s3://bucket/path";
