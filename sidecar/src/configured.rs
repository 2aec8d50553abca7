//! `lifeboat databases` and `lifeboat config check`: what the config file says, and whether it can be so.

use futures::stream::{self, StreamExt};
use serde::Serialize;

use crate::args::{ConfigCheckArgs, DatabasesArgs};
use crate::config::{Config, ConfigText, DatabaseConfig, Problem};
use crate::connect;
use crate::discovery::{Discovery, Known};
use crate::disk;
use crate::exit::Failure;
use crate::location::Location;
use crate::table::{aligned, counted};
use crate::watch::Watcher;

/// A database, as `databases --json` prints it.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    path: String,
    replica: String,
    /// Whether it was found in a folder of the config.
    found: bool,
}

/// Lists the databases of the config.
///
/// # Errors
/// Usage when the config cannot be read.
#[expect(clippy::print_stdout, reason = "results go to standard output")]
pub fn list(args: &DatabasesArgs) -> Result<(), Failure> {
    let config = Config::read(&args.config)?;
    let databases: Vec<_> = config.databases.iter().cloned().chain(found(&config)?).map(listed).collect();
    if args.json {
        println!("{}", serde_json::to_string_pretty(&databases).unwrap_or_default());
        return Ok(());
    }
    let mut rows = vec![["NAME", "PATH", "REPLICA"].map(str::to_owned)];
    rows.extend(databases.into_iter().map(|database| [database.name, database.path, database.replica]));
    print!("{}", aligned(&rows));
    Ok(())
}

fn listed(database: DatabaseConfig) -> Listed {
    let (path, replica) = (database.path.display().to_string(), database.location.to_string());
    Listed { name: database.name, path, replica, found: database.is_discovered }
}

/// The databases that are in the config's folders now.
fn found(config: &Config) -> Result<Vec<DatabaseConfig>, Failure> {
    if config.folders.is_empty() {
        return Ok(Vec::new());
    }
    let (watcher, known) = (start_watcher()?, Known::default());
    let named: Vec<_> = config.databases.iter().map(|database| known.add(&database.path)).collect();
    let mut found = Discovery::new(config.folders.clone(), known, &watcher).look_first();
    drop(named);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn start_watcher() -> Result<Watcher, Failure> {
    Watcher::start().map_err(|error| Failure::bug(format!("no thread for the watcher: {error}")))
}

/// What `config check --json` prints.
#[derive(Debug, Serialize)]
struct Checked {
    from: String,
    problems: Vec<Problem>,
    remarks: Vec<String>,
    databases: usize,
    folders: usize,
    /// With `--connect`: every replica, and what is wrong with it.
    replicas: Vec<Asked>,
}

/// One replica that was asked.
#[derive(Debug, Serialize)]
struct Asked {
    replica: String,
    /// `None` where it answered.
    message: Option<String>,
    #[serde(skip)]
    failure: Option<Failure>,
}

/// Checks the config.
///
/// # Errors
/// Usage when anything is wrong with it; with `--connect` the gravest failure of all replicas.
#[expect(clippy::print_stdout, reason = "results go to standard output")]
pub async fn check(args: &ConfigCheckArgs) -> Result<(), Failure> {
    let text = ConfigText::load(&args.config)?;
    let (config, problems) = match text.check() {
        Ok(config) => (config, Vec::new()),
        Err(problems) => (Config::default(), problems),
    };
    let replicas = if args.connect { ask(&config).await } else { Vec::new() };
    let checked = Checked {
        from: text.from().to_owned(),
        problems,
        databases: config.databases.len(),
        folders: config.folders.len(),
        remarks: config.remarks,
        replicas,
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&checked).unwrap_or_default());
    } else {
        print!("{}", report(&checked));
    }
    outcome(checked)
}

fn report(checked: &Checked) -> String {
    let mut lines: Vec<_> = checked.problems.iter().map(ToString::to_string).collect();
    lines.extend(checked.remarks.iter().cloned());
    lines.extend(checked.replicas.iter().map(|asked| match &asked.message {
        Some(wrong) => wrong.clone(),
        None => format!("{} answers", asked.replica),
    }));
    if checked.problems.is_empty() {
        let Checked { from, databases, folders, .. } = checked;
        let mut what = counted(*databases, "database");
        if *folders > 0 {
            what = format!("{what} and {} of databases", counted(*folders, "folder"));
        }
        lines.push(format!("{from} can be used: {what}"));
    }
    lines.join("\n") + "\n"
}

fn outcome(checked: Checked) -> Result<(), Failure> {
    let count = checked.problems.len();
    if count > 0 {
        return Err(Failure::usage(format!("{}: {}", checked.from, counted(count, "problem"))));
    }
    let failures: Vec<_> = checked.replicas.into_iter().filter_map(|asked| asked.failure).collect();
    let count = failures.len();
    Failure::gravest(failures).map_err(|failure| {
        let message = format!("{} cannot be read as things are", counted(count, "replica"));
        Failure { message, ..failure }
    })
}

/// Reads from every replica.
async fn ask(config: &Config) -> Vec<Asked> {
    let locations: Vec<_> = config.every().map(|database| database.location.clone()).collect();
    stream::iter(locations).map(ask_one).buffered(AT_ONCE).collect().await
}

async fn ask_one(location: Location) -> Asked {
    let failure = match &location {
        // `lifeboat replicate` makes it.
        Location::Directory(folder) if disk::is_absent(folder) => None,
        Location::Directory(_) | Location::S3(_) => read(&location).await.err(),
    };
    let message = failure.as_ref().map(ToString::to_string);
    Asked { replica: location.to_string(), message, failure }
}

async fn read(location: &Location) -> Result<(), Failure> {
    let bucket = connect::open(location, connect::Folder::MustExist).await?;
    bucket.head().await.map(|_| ())
}

/// Replicas asked at the same time.
const AT_ONCE: usize = 16;
