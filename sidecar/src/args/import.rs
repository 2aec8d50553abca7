//! Arguments of `import`.

use clap::{Args, ValueEnum};
use lifeboat_replica::litestream_03::WalPlace;

use super::{ReplicaArgs, WrittenArgs};

/// Arguments of `import`.
#[derive(Args, Debug)]
pub struct ImportArgs {
    /// Which replica.
    #[command(flatten)]
    pub replica: ReplicaArgs,

    /// The file, and how.
    #[command(flatten)]
    pub written: WrittenArgs,

    /// Which of Litestream's formats, where a prefix holds both [default: the one that is there]
    #[arg(long, value_enum, value_name = "VERSION")]
    pub format: Option<ImportFormat>,

    /// Of 0.3: this generation, 16 hexadecimal digits [default: the one that was written to last]
    #[arg(long, value_name = "NAME")]
    pub generation: Option<String>,

    /// The newest state that is not younger, such as 2026-11-27T20:15:00Z
    #[arg(long, value_name = "RFC3339", value_parser = super::parse_timestamp)]
    pub timestamp: Option<jiff::Timestamp>,

    /// Of 0.3: the state before this piece of a WAL, as its file is named, such as 0000002a_00001020
    #[arg(long, value_name = "PLACE", conflicts_with = "timestamp")]
    pub stop_before: Option<WalPlace>,

    /// Replace the file if it exists.
    #[arg(long)]
    pub force: bool,
}

/// A format of Litestream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ImportFormat {
    /// Snapshots and pieces of WALs.
    #[value(name = "0.3")]
    V03,
    /// LTX files, as ours.
    #[value(name = "0.5")]
    V05,
}

pub(super) const IMPORT_EXAMPLES: &str = "Examples:
  lifeboat import -o app.db s3://bucket/path
  lifeboat import -o then.db --timestamp 2026-11-27T20:15:00Z s3://bucket/path
  lifeboat replicate app.db s3://bucket/new-path";
