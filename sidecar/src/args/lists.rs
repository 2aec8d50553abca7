//! Arguments of the commands that list, look and explain, and ask nothing of a running process.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use lifeboat_replica::layout::Level;

use super::{ConfigArgs, ReplicaArgs};

/// Arguments of `databases`.
#[derive(Args, Debug)]
pub struct DatabasesArgs {
    /// Configuration.
    #[command(flatten)]
    pub config: ConfigArgs,

    /// Print a JSON array.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `ltx`.
#[derive(Args, Debug)]
pub struct LtxArgs {
    /// Which replica.
    #[command(flatten)]
    pub replica: ReplicaArgs,

    /// Only files of this level: 0 as captured, 1 to 3 merged, 9 whole databases; or all
    #[arg(long, value_name = "LEVEL", default_value = "all", value_parser = parse_level)]
    pub level: LevelChoice,

    /// Names and sizes only; then no file is asked for its time and its epoch.
    #[arg(long)]
    pub names_only: bool,

    /// Print a JSON array.
    #[arg(long)]
    pub json: bool,
}

/// The levels that are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LevelChoice {
    /// Every level.
    All,
    /// This one.
    Only(Level),
}

/// What to do with the config file.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Say everything that is wrong with the config file, each with its line and key.
    #[command(after_long_help = CONFIG_CHECK_EXAMPLES)]
    Check(ConfigCheckArgs),
}

/// Arguments of `config check`.
#[derive(Args, Debug)]
pub struct ConfigCheckArgs {
    /// Configuration.
    #[command(flatten)]
    pub config: ConfigArgs,

    /// Also read from every replica. Nothing is written, so whether that is allowed is not found out.
    #[arg(long)]
    pub connect: bool,

    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `completions`.
#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// The shell.
    pub shell: clap_complete::Shell,
}

/// Arguments of `man`.
#[derive(Args, Debug)]
pub struct ManArgs {
    /// The folder; it is made where it is missing.
    pub dir: PathBuf,
}

fn parse_level(text: &str) -> Result<LevelChoice, String> {
    if text == "all" {
        return Ok(LevelChoice::All);
    }
    let level = text.parse().ok().and_then(Level::from_number);
    level
        .map(LevelChoice::Only)
        .ok_or_else(|| format!("'{text}' is no level; there are 0, 1, 2, 3, 9 and all"))
}

pub(super) const DATABASES_EXAMPLES: &str = "Examples:
  lifeboat databases
  lifeboat databases --config /etc/lifeboat.yml --json";
pub(super) const LTX_EXAMPLES: &str = "Examples:
  lifeboat ltx s3://bucket/path
  lifeboat ltx /var/lib/shop/app.db
  lifeboat ltx --level 9 --json s3://bucket/path";
pub(super) const CONFIG_CHECK_EXAMPLES: &str = "Examples:
  lifeboat config check
  lifeboat config check --config new.yml --connect";
pub(super) const COMPLETIONS_EXAMPLES: &str = "Examples:
  lifeboat completions bash > /etc/bash_completion.d/lifeboat
  lifeboat completions zsh > /usr/local/share/zsh/site-functions/_lifeboat
  lifeboat completions fish > ~/.config/fish/completions/lifeboat.fish";
pub(super) const MAN_EXAMPLES: &str = "Examples:
  lifeboat man /usr/local/share/man/man1";
