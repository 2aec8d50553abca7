//! Arguments of the commands that write a database out of something else than the replica of a database.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::IntegrityCheck;

/// The file, and how it comes about.
#[derive(Args, Debug)]
pub struct WrittenArgs {
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,

    /// What SQLite itself checks before the file gets its place
    #[arg(long, value_name = "HOW", value_enum, default_value_t = IntegrityCheck::Full)]
    pub integrity_check: IntegrityCheck,

    /// How long the bucket is tried while nothing works
    #[arg(long, value_parser = super::parse_duration, value_name = "DURATION", default_value = "10s")]
    pub wait: Duration,

    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}
