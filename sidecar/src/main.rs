//! `lifeboat`: parse, begin logging, dispatch, end with the right code.

use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use lifeboat::args::{Cli, Command, ConfigVerb, ForksVerb, StoreVerb};
use lifeboat::exit::{Exit, Failure};
use lifeboat::{
    configured, ctl, files, forks, import, manual, replicate, restore, show, spelling, store_check,
    store_now, telemetry, verify,
};

fn main() -> ExitCode {
    if let Some(instead) = spelling::instead(std::env::args_os().skip(1)) {
        Cli::command().error(ErrorKind::UnknownArgument, instead).exit();
    }
    let cli = Cli::parse_from(spelling::ours(std::env::args_os(), &Cli::command()));
    telemetry::init(cli.log_format, cli.log_level);
    match run_to_the_end(cli.command) {
        Ok(code) => code.into(),
        Err(failure) => {
            tracing::error!("{failure}");
            failure.exit.into()
        }
    }
}

fn run_to_the_end(command: Command) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| Failure::no_thread(&error))?;
    let ended = runtime.block_on(run(command));
    // What nobody waits for any more, such as the query of a drill that was told to stop, may take for ever.
    runtime.shutdown_timeout(LEFT_OVER_MAX);
    ended
}

async fn run(command: Command) -> Result<u8, Failure> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match command {
        Command::Replicate(args) => return replicate::run(&args).await,
        Command::Restore(args) => restore::run(&args).await,
        Command::Sync(args) => store_now::run(&args).await,
        Command::Status(args) => show::run(&args).await,
        Command::Import(args) => import::run(&args).await,
        Command::Verify(args) => verify::run(&args).await,
        Command::Forks(ForksVerb::List(args)) => forks::list(&args).await,
        Command::Forks(ForksVerb::Show(args)) => forks::show(&args).await,
        Command::Forks(ForksVerb::Restore(args)) => forks::restore(&args).await,
        Command::Databases(args) => configured::list(&args),
        Command::Ltx(args) => files::run(&args).await,
        Command::Config(ConfigVerb::Check(args)) => configured::check(&args).await,
        Command::Completions(args) => manual::completions(&args),
        Command::Man(args) => manual::pages(&args),
        Command::Version => {
            manual::version();
            Ok(())
        }
        Command::Store(StoreVerb::Check(args)) => store_check::run(&args).await,
        Command::Ctl(args) => ctl::run(&args).await,
    }
    .map(|()| Exit::Done as u8)
}

/// How long work may still take that was given up.
const LEFT_OVER_MAX: Duration = Duration::from_secs(1);
