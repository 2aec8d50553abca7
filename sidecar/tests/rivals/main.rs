//! Rivals: several machines on one replica, each with a database and an application of its own, none of which knows of the
//! others. They are stopped and go on, are killed, and lose the road to the bucket, at any time.
//!
//! Whatever happens, what `lifeboat sync` called stored is in the bucket afterwards, once and for all; the bucket holds one
//! history without gaps; and what a loser committed and could not store is still on its machine, and in the fork that it saved.
//!
//! `RIVALS_ROUNDS` and `RIVALS_SEED` make other stories; see `make rivals`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod ledger;
mod node;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use ledger::{Ledger, counted};
use node::{Node, Road};
use support::dice::Dice;
use support::proxy::Proxy;
use support::s3::S3Server;
use support::weather::Weather;
use support::{Place, Ran, dump, lifeboat, litestream};

#[test]
fn two_machines_on_one_bucket_beyond_bad_roads_mix_nothing_and_lose_nothing_stored() {
    Rivalry::in_a_bucket(2).goes_well();
}

#[test]
fn three_machines_on_one_bucket_beyond_bad_roads_mix_nothing_and_lose_nothing_stored() {
    Rivalry::in_a_bucket(3).goes_well();
}

#[test]
fn three_processes_on_one_folder_mix_nothing_and_lose_nothing_stored() {
    Rivalry::in_a_folder(3).goes_well();
}

struct Rivalry {
    place: Place,
    s3: Option<S3Server>,
    url: String,
    nodes: Vec<Node>,
    ledger: Arc<Ledger>,
    dice: Dice,
    lineage: Option<String>,
}

impl Rivalry {
    fn in_a_bucket(nodes: usize) -> Self {
        let s3 = S3Server::start();
        let (seed, port) = (seed(), s3.port());
        let road = |n: usize| {
            let proxy = Proxy::start(port);
            proxy.set_weather(Weather::new(seed + n as u64, ROUGH));
            Road { url: URL.to_owned(), proxy: Some(proxy), environment: s3.credentials().to_vec() }
        };
        let roads = (0..nodes).map(road).collect();
        Self::new(Place::new(), Some(s3), URL.to_owned(), roads)
    }

    fn in_a_folder(nodes: usize) -> Self {
        let place = Place::new();
        std::fs::create_dir(place.path("replica")).unwrap();
        let url = place.url("replica");
        let road = || Road { url: url.clone(), proxy: None, environment: Vec::new() };
        let roads = (0..nodes).map(|_| road()).collect();
        Self::new(place, None, url, roads)
    }

    fn new(place: Place, s3: Option<S3Server>, url: String, roads: Vec<Road>) -> Self {
        let ledger = Arc::new(Ledger::default());
        let node = |(n, road)| Node::new(n, road, Arc::clone(&ledger));
        let nodes = roads.into_iter().enumerate().map(node).collect();
        Self { place, s3, url, nodes, ledger, dice: Dice::new(seed()), lineage: None }
    }

    fn goes_well(mut self) {
        let (begun, rounds) = (Instant::now(), rounds());
        for round in 1..=rounds {
            self.round();
            if round % 8 == 0 {
                self.check();
            }
        }
        self.ends_well();
        let fenced: usize = self.nodes.iter().map(|node| node.fenced.len()).sum();
        let aside: usize = self.nodes.iter().map(|node| node.put_aside.len()).sum();
        let mishaps: usize = self.nodes.iter().filter_map(Node::proxy).map(Proxy::mishaps).sum();
        let stored: i64 = self.ledger.all().values().map(|rows| rows.stored).sum();
        println!(
            "{rounds} rounds in {:?}: {stored} rows called stored, {fenced} times one lost its replica, {aside} databases \
             put aside, {mishaps} mishaps",
            begun.elapsed()
        );
        assert!(fenced > 0 && aside > 0 && stored > 0, "nobody ever met another");
    }

    /// Something happens to one of them, and then all go on for a while. Mostly it happens to one that writes.
    fn round(&mut self) {
        let nodes = self.nodes.len();
        let by_chance = self.dice.below(nodes);
        let writing = (0..nodes).find(|n| self.nodes[*n].is_running());
        let chosen = writing.filter(|_| self.dice.percent(80)).unwrap_or(by_chance);
        let other = (chosen + 1 + self.dice.below(nodes - 1)) % nodes;
        if self.nodes[chosen].is_running() {
            match self.dice.below(8) {
                // The classic: it stands still while another takes over, and wakes up in the middle of what it did.
                0..4 => {
                    self.nodes[chosen].signal(Signal::STOP);
                    self.nodes[other].start();
                    self.pause(200);
                    self.nodes[chosen].signal(Signal::CONT);
                }
                // It dies, and another is first, or it comes back before anybody does.
                4 | 5 => {
                    self.nodes[chosen].kill();
                    let next = self.dice.one_of(&[chosen, other]);
                    self.nodes[next].start();
                }
                6 => drop(self.nodes[chosen].stop()),
                _ => self.storm(chosen),
            }
        } else {
            self.nodes[chosen].start();
        }
        self.pause(400);
    }

    /// Hardly anything of what one node sends gets through, for a while.
    fn storm(&mut self, chosen: usize) {
        if let Some(proxy) = self.nodes[chosen].proxy() {
            proxy.turn_weather(STORM);
        }
        self.pause(600);
        if let Some(proxy) = self.nodes[chosen].proxy() {
            proxy.turn_weather(ROUGH);
        }
    }

    fn pause(&mut self, milliseconds_max: usize) {
        std::thread::sleep(Duration::from_millis(self.dice.below(milliseconds_max) as u64));
    }

    /// Holds the bucket as it is against everything that was said before.
    fn check(&mut self) {
        let before = self.ledger.all();
        let out = self.place.text("restored.db");
        let ran = self.ours(&["restore", "--force", "--if-replica-exists", "-o", &out, &self.url]);
        ran.says(0, &[]);
        if !Path::new(&out).exists() {
            assert!(before.values().all(|rows| rows.stored == 0), "rows were stored, and nothing is there");
            return;
        }
        self.ledger.check(&before, Path::new(&out));
        let lineage = self.lineage_now();
        assert_eq!(self.lineage.get_or_insert_with(|| lineage.clone()), &lineage);
    }

    fn lineage_now(&self) -> String {
        let head = match &self.s3 {
            Some(s3) => s3.file("app/lifeboat/head.json"),
            None => self.place.path("replica/lifeboat/head.json"),
        };
        let head: serde_json::Value = serde_json::from_slice(&std::fs::read(head).unwrap()).unwrap();
        head["lineage"].as_str().unwrap().to_owned()
    }

    /// All stop in order on good roads. Then the bucket is whole, Litestream reads the same from it, and every row that any
    /// application ever committed is somewhere.
    fn ends_well(&mut self) {
        for node in &mut self.nodes {
            if let Some(proxy) = node.proxy() {
                proxy.turn_weather(0);
            }
            node.stop();
        }
        self.check();
        let restored = self.place.path("restored.db");
        for node in &self.nodes {
            node.check_rows(&counted(&restored));
        }
        self.forks_hold_what_was_lost(&counted(&restored));
        self.ours(&["verify", "--level", "deep", &self.url]).says(0, &[]);
        self.litestream_reads_the_same();
    }

    fn forks_hold_what_was_lost(&self, restored: &BTreeMap<String, i64>) {
        for (n, fenced) in self.nodes.iter().flat_map(|node| &node.fenced).enumerate() {
            let Some(fork) = &fenced.fork else {
                fenced.check(restored);
                continue;
            };
            let out = self.place.text(&format!("fork-{n}.db"));
            self.ours(&["forks", "restore", "-o", &out, &self.url, fork]).says(0, &[]);
            fenced.check(&counted(Path::new(&out)));
        }
    }

    fn litestream_reads_the_same(&self) {
        let (restored, theirs) = (self.place.path("restored.db"), self.place.path("litestream.db"));
        let url = match &self.s3 {
            Some(s3) => format!("{URL}?endpoint={}&forcePathStyle=true&region=us-east-1", s3.endpoint()),
            None => self.url.clone(),
        };
        let args = ["restore", "-o", &theirs.display().to_string(), &url];
        Ran::new(&litestream(&args, self.s3.as_ref()).output().unwrap()).says(0, &[]);
        assert_eq!(dump(&restored), dump(&theirs), "Litestream reads another database");
    }

    /// Our program on the good road.
    fn ours(&self, args: &[&str]) -> Ran {
        let mut command = lifeboat(args);
        if let Some(s3) = &self.s3 {
            command.envs(s3.credentials()).args(["--endpoint", &s3.endpoint()]);
        }
        Ran::new(&command.output().unwrap())
    }
}

fn rounds() -> u32 {
    number("RIVALS_ROUNDS").map_or(ROUNDS, |rounds| u32::try_from(rounds).unwrap())
}

fn seed() -> u64 {
    number("RIVALS_SEED").unwrap_or(1)
}

fn number(name: &str) -> Option<u64> {
    let number = std::env::var(name).ok().filter(|text| !text.is_empty());
    number.map(|text| text.parse().unwrap())
}

const URL: &str = "s3://lifeboat/app";
/// As many as a short run has time for.
const ROUNDS: u32 = 12;
/// To so many requests of a hundred something happens, always and in a storm.
const ROUGH: usize = 8;
const STORM: usize = 95;
