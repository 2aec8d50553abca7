//! `lifeboat status`: what the replicating process says of its databases, for people and for scripts.

use std::fmt::Write as _;

use lifeboat_wire::{DatabaseStatus, PruneFailures, Status, Verdict};

use crate::args::StatusArgs;
use crate::exit::Failure;
use crate::table::{aligned, bytes, to_the_second};
use crate::{socket, store_now};

/// Runs the command.
///
/// # Errors
/// Unavailable when no process answers.
#[expect(clippy::print_stdout, reason = "results go to standard output")]
pub async fn run(args: &StatusArgs) -> Result<(), Failure> {
    let mut status =
        store_now::ask_status(socket::named(args.socket.as_deref(), &args.config).as_deref()).await?;
    if !args.databases.is_empty() {
        let names = store_now::names(&status.databases, &args.databases)?;
        status.databases.retain(|database| names.contains(&database.name));
    }
    if args.json {
        println!("{}", serde_json::to_string(&status).unwrap_or_default());
    } else {
        print!("{}", table(&status));
    }
    Ok(())
}

/// A line for each database, and below them what is to be said of each.
#[must_use]
pub fn table(status: &Status) -> String {
    let mut rows =
        vec![["NAME", "STATE", "TXID", "STORED AT", "LAG", "UNSTORED", "REASON"].map(str::to_owned)];
    rows.extend(status.databases.iter().map(row));
    let mut text = aligned(&rows);
    if let Some(wrong) = &status.config_error {
        let _ = writeln!(text, "\nthe config before its last change is in use: {wrong}");
    }
    for database in &status.databases {
        for remark in remarks(database) {
            let _ = writeln!(text, "\n{remark}");
        }
    }
    text
}

fn row(database: &DatabaseStatus) -> [String; COLUMNS] {
    let unknown = || "-".to_owned();
    let position = database.position.as_ref();
    [
        database.name.clone(),
        condition(database).to_owned(),
        position.map_or_else(unknown, |position| position.txid.clone()),
        position.and_then(|position| position.time.as_deref()).map_or_else(unknown, to_the_second),
        database.lag_seconds.map_or_else(unknown, |lag| format!("{lag:.1}s")),
        database.unreplicated_bytes.map_or_else(unknown, bytes),
        database.reason.map_or_else(unknown, |reason| reason.as_str().to_owned()),
    ]
}

fn condition(database: &DatabaseStatus) -> &'static str {
    match database.verdict {
        Some(Verdict::Retry | Verdict::Rescan) => "retrying",
        Some(Verdict::Fence) => "fenced",
        Some(Verdict::Refuse) => "refused",
        Some(Verdict::Halt) => "stopped",
        Some(Verdict::Unknown) => "unknown",
        None if database.position.is_none() || database.unreplicated_bytes.is_none() => "starting",
        None if !database.is_stored() => "storing",
        None => "stored",
    }
}

fn remarks(database: &DatabaseStatus) -> impl Iterator<Item = String> {
    let named = |message: &String| {
        if message.starts_with(&database.name) {
            message.clone()
        } else {
            format!("{}: {message}", database.name)
        }
    };
    let trouble = Some(&database.message).filter(|message| !message.is_empty()).map(named);
    let costs = database.requests_per_day.map(|requests| {
        format!(
            "{}: max-lag costs {requests} slots a day at this pace, more than max-requests-per-day",
            database.name
        )
    });
    let lost = database.lost.last().map(|lost| {
        let (from, to) = (to_the_second(&lost.from), to_the_second(&lost.to));
        format!("{}: from {from} to {to} only the end can be restored", database.name)
    });
    let stays = database.prune_failures.as_ref().map(|failures| {
        let PruneFailures { since, message, .. } = failures;
        let since = to_the_second(since);
        format!("{}: files that nothing needs stay in the bucket since {since}: {message}", database.name)
    });
    let version = database.sqlite_version.as_deref().filter(|_| database.has_wal_reset_race);
    let race = version.map(|version| race(&database.name, version));
    trouble.into_iter().chain(costs).chain(lost).chain(stays).chain(race)
}

/// What there is to say of an application whose SQLite can lose commits by itself.
#[must_use]
pub fn race(name: &str, version: &str) -> String {
    format!(
        "{name}: its application writes with SQLite {version}, whose checkpoints can lose commits in a rare race; upgrade it to 3.51.3 (or 3.50.7, 3.44.6) or newer"
    )
}

const COLUMNS: usize = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_what_is_well_what_is_not_and_why() {
        let status: Status = serde_json::from_str(
            r#"{"version":"0.1.0","databases":[
            {"name":"main","path":"/data/app.db","epoch":12,"lagSeconds":0.0,"unreplicatedBytes":0,"verdict":null,
             "reason":null,"position":{"txid":"00000000000000a1","checksum":null,"time":"2026-11-23T06:59:41.5Z"}},
            {"name":"/data/sessions.db","path":"/data/sessions.db","epoch":3,"lagSeconds":61.25,
             "unreplicatedBytes":8192,"requestsPerDay":288,"sqliteVersion":"3.45.1","hasWalResetRace":true,"position":null,"verdict":"retry",
             "reason":"StoreUnavailable","message":"bucket shop: connection refused"}]}"#,
        )
        .unwrap();
        assert_eq!(
            table(&status),
            "\
NAME               STATE     TXID              STORED AT             LAG    UNSTORED  REASON
main               stored    00000000000000a1  2026-11-23 06:59:41Z  0.0s   0 B       -
/data/sessions.db  retrying  -                 -                     61.2s  8.00 KiB  StoreUnavailable

/data/sessions.db: bucket shop: connection refused

/data/sessions.db: max-lag costs 288 slots a day at this pace, more than max-requests-per-day

/data/sessions.db: its application writes with SQLite 3.45.1, whose checkpoints can lose commits in a rare race; upgrade it to 3.51.3 (or 3.50.7, 3.44.6) or newer
"
        );
    }
}
