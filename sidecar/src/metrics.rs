//! `/metrics`: what is on the board, in Prometheus' words. docs/metrics.md explains every line.
//!
//! Nothing is kept here. Each scrape reads the board anew, so a database that is gone leaves no line behind.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Instant;

use lifeboat_store::Requests;
use lifeboat_wire::{DatabaseStatus, Verdict};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::board::{Board, Reloads, Sample};
use crate::disk;
use crate::measures::{Measures, Times};

mod process;

/// What Prometheus must be told the text is.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics as text; of more than `databases_max` databases only what is true of all of them together. Looks at files,
/// so it blocks.
#[must_use]
pub fn text(board: &Board, databases_max: usize) -> String {
    let mut ours = Registry::with_prefix("lifeboat");
    ours.register_collector(Box::new(Scrape::take(board, databases_max)));
    let mut machine = Registry::with_prefix("process");
    machine.register_collector(Box::new(process::Usage));
    let mut text = String::new();
    for registry in [&ours, &machine] {
        if let Err(error) = prometheus_text::encode(&mut text, registry) {
            let _ = writeln!(text, "# {error}");
        }
    }
    text
}

/// What was true at one moment.
#[derive(Debug)]
struct Scrape {
    databases: Vec<Line>,
    /// State of databases, and how many are in it.
    states: BTreeMap<&'static str, u64>,
    reloads: Reloads,
    requests: Arc<Requests>,
}

/// The numbers of one database, or of all together.
#[derive(Debug, Default)]
struct Line {
    /// `None` for all together.
    name: Option<String>,
    lag: Option<f64>,
    unreplicated: Option<u64>,
    txid: Option<u64>,
    position_time: Option<f64>,
    epoch: Option<u64>,
    fenced: u64,
    at_stake: u64,
    /// Whether the application has an SQLite that can lose commits.
    race: u64,
    unmerged: u64,
    unpruned: u64,
    age: Option<f64>,
    wal: Option<u64>,
    /// Reasons for which it is not simply well, and how many databases have each.
    troubles: BTreeMap<&'static str, u64>,
    measures: Measures,
}

type Labels = Vec<(&'static str, String)>;

impl Scrape {
    fn take(board: &Board, databases_max: usize) -> Self {
        let samples = board.samples();
        let mut states = BTreeMap::from(STATES.map(|state| (state, 0)));
        for sample in &samples {
            *states.entry(state(sample)).or_default() += 1;
        }
        let is_many = samples.len() > databases_max;
        let lines = samples.into_iter().map(Line::of);
        let databases = if is_many {
            let gone = Line { measures: board.gone(), ..Line::default() };
            vec![lines.fold(gone, Line::together)]
        } else {
            lines.collect()
        };
        Self { databases, states, reloads: board.reloads(), requests: Arc::clone(&board.requests) }
    }
}

impl Line {
    fn of(sample: Sample) -> Self {
        let Sample { status, measures, .. } = sample;
        let position = status.position.as_ref();
        let time = position.and_then(|position| position.time.as_deref()?.parse::<jiff::Timestamp>().ok());
        Self {
            lag: status.lag_seconds,
            unreplicated: status.unreplicated_bytes,
            txid: position.and_then(|position| u64::from_str_radix(&position.txid, 16).ok()),
            position_time: time.map(|time| time.as_duration().as_secs_f64()),
            epoch: status.epoch,
            fenced: u64::from(status.verdict == Some(Verdict::Fence)),
            at_stake: status.at_stake.as_ref().and_then(|at_stake| at_stake.transactions).unwrap_or(0),
            race: u64::from(status.has_wal_reset_race),
            unmerged: u64::from(status.merge_failures),
            unpruned: status.prune_failures.as_ref().map_or(0, |failures| u64::from(failures.count)),
            age: measures.stored_at.map(|at| Instant::now().saturating_duration_since(at).as_secs_f64()),
            wal: wal_bytes(&status),
            troubles: status.reason.iter().map(|reason| (reason.as_str(), 1)).collect(),
            name: Some(status.name),
            measures,
        }
    }

    /// What is true of both: the worst of ages and lags, the sum of the rest.
    fn together(mut self, other: Self) -> Self {
        for (reason, count) in other.troubles {
            *self.troubles.entry(reason).or_default() += count;
        }
        self.measures.add(&other.measures);
        let sum = |a: Option<u64>, b: Option<u64>| a.map_or(b, |a| Some(a + b.unwrap_or(0)));
        let worst = |a: Option<f64>, b: Option<f64>| a.map_or(b, |a| Some(a.max(b.unwrap_or(a))));
        Self {
            name: None,
            lag: worst(self.lag, other.lag),
            unreplicated: sum(self.unreplicated, other.unreplicated),
            txid: None,
            position_time: None,
            epoch: None,
            fenced: self.fenced + other.fenced,
            at_stake: self.at_stake + other.at_stake,
            race: self.race + other.race,
            unmerged: self.unmerged + other.unmerged,
            unpruned: self.unpruned + other.unpruned,
            age: worst(self.age, other.age),
            wal: sum(self.wal, other.wal),
            ..self
        }
    }

    fn labels(&self) -> Labels {
        self.name.iter().map(|name| ("database", name.clone())).collect()
    }
}

fn state(sample: &Sample) -> &'static str {
    match sample.status.verdict {
        Some(Verdict::Fence | Verdict::Refuse | Verdict::Halt) => "stopped",
        Some(Verdict::Retry | Verdict::Rescan | Verdict::Unknown) | None => match sample.status.epoch {
            None => "starting",
            Some(_) if sample.is_asleep => "asleep",
            Some(_) => "open",
        },
    }
}

/// Length of the WAL beside the database; `None` where there is none. The file is not opened.
fn wal_bytes(status: &DatabaseStatus) -> Option<u64> {
    let wal = disk::beside(disk::real(status.path.as_ref()).as_path(), "-wal");
    std::fs::metadata(wal).ok().map(|wal| wal.len())
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.gauges(&mut encoder)?;
        self.counters(&mut encoder)?;
        self.process_wide(&mut encoder)
    }
}

impl Scrape {
    fn gauges(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (seconds, bytes) = (Some(&Unit::Seconds), Some(&Unit::Bytes));
        let of = |value: fn(&Line) -> Option<f64>| {
            self.databases.iter().filter_map(move |line| Some((line.labels(), value(line)?)))
        };
        gauge(
            encoder,
            "lag",
            "Age of the oldest commit that is not stored, 0 when nothing waits.",
            seconds,
            of(|line| line.lag),
        )?;
        let help = "Bytes of commits that are seen and not yet stored.";
        gauge(encoder, "unreplicated", help, bytes, of(|line| line.unreplicated.map(float)))?;
        let help = "TXID of the newest slot that is proved to be stored.";
        gauge(encoder, "position_txid", help, None, of(|line| line.txid.map(float)))?;
        let help = "When the newest stored state was stored, seconds since 1970.";
        gauge(encoder, "position_timestamp", help, seconds, of(|line| line.position_time))?;
        let help = "Time since this process stored a slot; absent before its first.";
        gauge(encoder, "stored_age", help, seconds, of(|line| line.age))?;
        gauge(
            encoder,
            "epoch",
            "Epoch in which this process writes.",
            None,
            of(|line| line.epoch.map(float)),
        )?;
        let help = "1 when another writer took the replica over and nothing is stored any more.";
        gauge(encoder, "fenced", help, None, of(|line| Some(float(line.fenced))))?;
        let help = "Transactions that a fenced writer could not store: they are in the local database, and in a fork.";
        gauge(encoder, "fenced_transactions", help, None, of(|line| Some(float(line.at_stake))))?;
        let help = "1 when the application's SQLite can lose commits in a race of its checkpoints.";
        gauge(encoder, "wal_reset_race", help, None, of(|line| Some(float(line.race))))?;
        let help = "Attempts in a row to merge slots that came to nothing.";
        gauge(encoder, "merge_failures", help, None, of(|line| Some(float(line.unmerged))))?;
        let help = "Attempts in a row to delete what nothing needs that came to nothing.";
        gauge(encoder, "prune_failures", help, None, of(|line| Some(float(line.unpruned))))?;
        gauge(encoder, "wal", "Length of the database's WAL.", bytes, of(|line| line.wal.map(float)))?;
        let troubles = self.databases.iter().flat_map(|line| {
            line.troubles.iter().map(|(reason, count)| {
                let mut labels = line.labels();
                labels.push(("reason", (*reason).to_owned()));
                (labels, float(*count))
            })
        });
        gauge(
            encoder,
            "trouble",
            "1 for a database that is not simply well, with the reason.",
            None,
            troubles,
        )
    }

    fn counters(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let of = |value: fn(&Measures) -> u64| {
            self.databases.iter().map(move |line| (line.labels(), value(&line.measures)))
        };
        counter(
            encoder,
            "stored_slots",
            "Slots stored by this process.",
            None,
            of(|measures| measures.slots),
        )?;
        let help = "Bytes of slots stored by this process.";
        counter(encoder, "stored", help, Some(&Unit::Bytes), of(|measures| measures.slot_bytes))?;
        let help = "How long writers of the application were kept out, each time.";
        let unit = Some(&Unit::Seconds);
        let mut metric = encoder.encode_descriptor("write_lock", help, unit, MetricType::Histogram)?;
        for line in &self.databases {
            histogram(&mut metric, &line.labels(), &line.measures.kept_writers_out)?;
        }
        Ok(())
    }

    fn process_wide(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let label = |name: &'static str, value: &str| vec![(name, value.to_owned())];
        let states = self.states.iter().map(|(state, count)| (label("state", state), float(*count)));
        gauge(encoder, "databases", "Databases of this process, by what they are doing.", None, states)?;
        let requests = self.requests.counts().into_iter().map(|((operation, outcome), count)| {
            (vec![("operation", operation.to_owned()), ("outcome", outcome.to_owned())], count)
        });
        counter(encoder, "store_requests", "Requests to stores, by how they ended.", None, requests)?;
        let Reloads { taken, refused, wrong } = &self.reloads;
        let reloads = [("taken", *taken), ("refused", *refused)];
        let reloads = reloads.into_iter().map(|(outcome, count)| (label("outcome", outcome), count));
        counter(encoder, "config_reloads", "Changes of the config file since the start.", None, reloads)?;
        let help = "1 when the newest config file is in use, 0 when it was refused.";
        gauge(encoder, "config_current", help, None, [(Vec::new(), float(u64::from(wrong.is_none())))])?;
        let version = label("version", env!("CARGO_PKG_VERSION"));
        gauge(encoder, "build", "Always 1, with the release as a label.", None, [(version, 1.0)])
    }
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    values: impl IntoIterator<Item = (Labels, f64)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
    for (labels, value) in values {
        if labels.is_empty() {
            metric.encode_gauge(&value)?;
        } else {
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
    }
    Ok(())
}

fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    values: impl IntoIterator<Item = (Labels, u64)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, unit, MetricType::Counter)?;
    for (labels, value) in values {
        if labels.is_empty() {
            metric.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        } else {
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
    }
    Ok(())
}

fn counter_of_floats(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: f64,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, unit, MetricType::Counter)?;
    metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
}

fn histogram(metric: &mut MetricEncoder<'_>, labels: &Labels, times: &Times) -> fmt::Result {
    let buckets = times.buckets();
    if labels.is_empty() {
        return metric.encode_histogram::<NoLabelSet>(times.sum, times.count, &buckets, None);
    }
    metric.encode_family(labels)?.encode_histogram::<NoLabelSet>(times.sum, times.count, &buckets, None)
}

/// Prometheus knows no other numbers.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2 to the 53rd")]
const fn float(number: u64) -> f64 {
    number as f64
}

const STATES: [&str; 4] = ["starting", "open", "asleep", "stopped"];

#[cfg(test)]
mod tests {
    use lifeboat_wal::sqlite_version::SqliteVersion;

    use super::*;
    use crate::config::Config;
    use crate::exit::Failure;
    use crate::watch::Watcher;

    fn board() -> Arc<Board> {
        let text =
            "dbs: [{path: /a.db, replica: {url: 'file:///x'}}, {path: /b.db, replica: {url: 'file:///y'}}]";
        let board = Board::new(Watcher::start().unwrap());
        for database in &Config::parse(text).unwrap().databases {
            let post = board.add(database);
            post.opened(7);
            post.stored_slot(100);
            post.turned(50, Some(Instant::now()));
            let old = SqliteVersion::from_stored(3_045_001).unwrap();
            assert!(post.written_by(old) && !post.written_by(old), "it is news once");
            post.troubled(&Failure::fenced("gone"));
        }
        board
    }

    #[test]
    fn few_databases_have_a_line_each_and_many_one_together() {
        let each = text(&board(), 2);
        for line in [
            "lifeboat_unreplicated_bytes{database=\"/a.db\"} 50",
            "lifeboat_stored_bytes_total{database=\"/b.db\"} 100",
            "lifeboat_trouble{database=\"/a.db\",reason=\"SealedByNewerEpoch\"} 1",
            "lifeboat_databases{state=\"stopped\"} 2",
        ] {
            assert!(each.contains(line), "no {line} in:\n{each}");
        }
        let together = text(&board(), 1);
        for line in [
            "lifeboat_unreplicated_bytes 100",
            "lifeboat_stored_slots_total 2",
            "lifeboat_fenced 2",
            "lifeboat_wal_reset_race 2",
            "lifeboat_trouble{reason=\"SealedByNewerEpoch\"} 2",
        ] {
            assert!(together.contains(line), "no {line} in:\n{together}");
        }
        assert!(!together.contains("/a.db"), "{together}");
    }

    #[test]
    fn totals_of_all_never_sink_when_a_database_goes() {
        let board = board();
        board.find("/a.db").unwrap().remove();
        assert!(text(&board, 0).contains("lifeboat_stored_slots_total 2"), "{}", text(&board, 0));
    }
}
