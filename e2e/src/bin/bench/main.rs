//! Measures what a sidecar costs: ours, Litestream's and none, in turn, round after round, on the same machine.
//!
//! `e2e/bench/run.sh` builds and starts it; `e2e/bench/README.md` says what is measured and how to read it. Nothing here
//! passes or fails by a time. What fails a run is a restored database that differs from its source.

mod budgets;
mod busy;
mod databases;
mod first;
mod history;
mod idle;
mod load;
mod peaks;
mod process;
mod report;
mod restart;
mod restore;
mod rounds;
mod scenario;
mod sidecar;
mod store;
mod verify;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Parser, Subcommand};

use crate::load::LoadArgs;
use crate::report::{Origin, Results};
use crate::rounds::{Bench, Round};
use crate::scenario::Scenario;
use crate::sidecar::{Programs, Variant};

/// Measures what a sidecar costs.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Measure.
    Run(RunArgs),
    /// Be the application: commit rows and print what that was like, as JSON.
    Load(LoadArgs),
}

#[derive(Args, Debug)]
struct RunArgs {
    /// What to measure [default: everything]
    scenarios: Vec<Scenario>,

    /// How often
    #[arg(long, default_value_t = 3)]
    rounds: u32,

    /// Seconds instead of minutes: does it work? The numbers mean little
    #[arg(long)]
    quick: bool,

    /// Leave this one out
    #[arg(long, value_name = "SIDECAR")]
    without: Vec<Variant>,

    /// Where everything is done; on a real disk
    #[arg(long, default_value = "target/bench")]
    folder: PathBuf,

    /// Where the results go
    #[arg(long, default_value = "target/bench/results")]
    results: PathBuf,

    /// Name of the results [default: today]. Those that are there are continued
    #[arg(long)]
    name: Option<String>,

    /// The commit that was built
    #[arg(long, default_value = "unknown")]
    commit: String,

    /// Our program
    #[arg(long, env = "LIFEBOAT_BIN")]
    lifeboat: PathBuf,

    /// Litestream's
    #[arg(long, env = "LITESTREAM_BIN")]
    litestream: PathBuf,

    /// The S3 server's
    #[arg(long, env = "VERSITYGW_BIN")]
    versitygw: PathBuf,
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Run(args) => run(&args),
        Verb::Load(args) => commit(&args),
    };
    let Err(error) = done else { return ExitCode::SUCCESS };
    // Nobody can be told when standard error is closed.
    let _ = writeln!(std::io::stderr().lock(), "{error:#}");
    ExitCode::FAILURE
}

fn commit(args: &LoadArgs) -> Result<()> {
    say(&serde_json::to_string(&load::run(args)?)?)
}

fn run(args: &RunArgs) -> Result<()> {
    let (bench, origin) = (bench(args)?, origin(args)?);
    let today = origin.time.get(..10).unwrap_or_default().to_owned();
    let name = args.name.as_ref().unwrap_or(&today);
    let mut results = Results::open(&args.results, name, origin)?;
    let scenarios = if args.scenarios.is_empty() { Scenario::ALL.to_vec() } else { args.scenarios.clone() };
    let mut failures = Vec::new();
    for scenario in scenarios {
        say(&format!("{}: {}", scenario.name(), scenario.sentence()))?;
        let last = results.last_round(scenario);
        for round in last + 1..=last + args.rounds {
            for variant in in_turn(scenario.variants(), round) {
                if args.without.contains(&variant) {
                    continue;
                }
                match bench.round(scenario, variant, round) {
                    Ok(done) => {
                        say(&format!("  {}", line(&done)))?;
                        results.rounds.push(done);
                        // Whoever is interrupted keeps what was measured.
                        results.write(&args.results, name)?;
                    }
                    Err(error) => {
                        say(&format!("  FAILED: {error:#}"))?;
                        failures.push(format!("{error:#}"));
                    }
                }
            }
        }
    }
    let mut table = String::new();
    report::write_budgets(&mut table, &results.rounds)?;
    say(&format!("\n{table}\nresults in {}", args.results.display()))?;
    ensure!(failures.is_empty(), "{} rounds failed: {}", failures.len(), failures.join("; "));
    Ok(())
}

/// Every round begins with another one, so that nobody always has the quiet or the warm machine.
fn in_turn<T: Copy>(all: &[T], round: u32) -> Vec<T> {
    let mut turned = all.to_vec();
    turned.rotate_left(usize::try_from(round).unwrap_or(0) % all.len().max(1));
    turned
}

fn bench(args: &RunArgs) -> Result<Bench> {
    let absolute =
        |path: &Path| path.canonicalize().with_context(|| format!("there is no {}", path.display()));
    std::fs::create_dir_all(&args.folder)?;
    let programs = Programs {
        lifeboat: absolute(&args.lifeboat)?,
        litestream: absolute(&args.litestream)?,
        versitygw: absolute(&args.versitygw)?,
    };
    let folder = absolute(&args.folder)?;
    Ok(if args.quick {
        Bench { programs, folder, large_mb: 32, paced_s: 2.0, full_s: 1.0, idle_s: 2.0, history: [5, 50] }
    } else {
        Bench {
            programs,
            folder,
            large_mb: 1024,
            paced_s: 30.0,
            full_s: 5.0,
            idle_s: 20.0,
            history: [10, 10_000],
        }
    })
}

fn origin(args: &RunArgs) -> Result<Origin> {
    let version = |program: &Path, argument: &str| -> Result<String> {
        let output = Command::new(program)
            .arg(argument)
            .output()
            .with_context(|| format!("start {}", program.display()))?;
        Ok(String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let cores = std::thread::available_parallelism()?;
    let cpus = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown CPU");
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let scale = if args.quick { "Quick: the numbers mean little." } else { "Full size." };
    Ok(Origin {
        time: jiff::Timestamp::now().round(jiff::Unit::Second)?.to_string(),
        machine: format!(
            "{cores} cores of {}, Linux {}.",
            model.trim_start_matches([':', '\t', ' ']),
            kernel.trim()
        ),
        versions: vec![
            format!("{}, commit {}", version(&args.lifeboat, "--version")?, args.commit),
            format!("litestream {}", version(&args.litestream, "version")?),
            version(&args.versitygw, "--version")?,
            format!("the application's SQLite {}", rusqlite::version()),
        ],
        settings: scale.to_owned(),
    })
}

fn line(round: &Round) -> String {
    let numbers: Vec<_> = round.numbers.iter().map(|(name, value)| format!("{name} {value:.3}")).collect();
    format!("{} {}: {}", round.variant.name(), round.round, numbers.join(", "))
}

fn say(line: &str) -> Result<()> {
    writeln!(std::io::stdout().lock(), "{line}").context("write to standard output")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_begins_with_another_variant() {
        let firsts: Vec<_> = (1..=3).map(|round| in_turn(&['a', 'b', 'c'], round)[0]).collect();
        assert_eq!(firsts, ['b', 'c', 'a']);
    }
}
