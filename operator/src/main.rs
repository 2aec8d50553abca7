//! The program `lifeboat-operator`: parses, sets up telemetry, dispatches.

use std::process::ExitCode;

use clap::Parser as _;
use lifeboat_operator::args::{Args, Command};
use lifeboat_operator::{Error, crds, run, telemetry};

fn main() -> ExitCode {
    let args = Args::parse();
    telemetry::init(args.log_format);
    let result = match args.command {
        Command::Run(run) => run::start(&run),
        Command::Crds(crds) => crds::run(&crds),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", error.chain());
            ExitCode::from(Error::exit_code(&error))
        }
    }
}
