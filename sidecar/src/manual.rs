//! What the program says of itself: version, completions, manual pages.

use std::io::{self, Write};

use clap::CommandFactory;

use crate::args::{Cli, CompletionsArgs, ManArgs};
use crate::exit::Failure;

/// Prints the version.
#[expect(clippy::print_stdout, reason = "results go to standard output")]
pub fn version() {
    println!("lifeboat {} with SQLite {}", env!("CARGO_PKG_VERSION"), rusqlite::version());
}

/// Prints completions for a shell.
///
/// # Errors
/// Usage when standard output cannot be written.
pub fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "lifeboat", &mut script);
    let written = io::stdout().write_all(&script);
    written.map_err(|error| Failure::usage(format!("standard output: {error}")))
}

/// Writes one manual page for each command.
///
/// # Errors
/// Usage when they cannot be written there.
#[expect(clippy::print_stdout, reason = "results go to standard output")]
pub fn pages(args: &ManArgs) -> Result<(), Failure> {
    let written =
        std::fs::create_dir_all(&args.dir).and_then(|()| clap_mangen::generate_to(Cli::command(), &args.dir));
    let dir = args.dir.display();
    written.map_err(|error| Failure::usage(format!("manual pages in {dir}: {error}")))?;
    println!("manual pages are in {dir}; read one with `man {dir}/lifeboat.1`");
    Ok(())
}
