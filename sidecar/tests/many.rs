//! Many databases in one process: found, followed, gone, each for itself.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use support::s3::S3Server;
use support::{Place, Running, dump, eventually, eventually_within, lifeboat};

const TABLE: &str =
    "PRAGMA journal_mode = WAL; CREATE TABLE t (n INTEGER PRIMARY KEY); INSERT INTO t VALUES (1);";

/// Writes a config with these entries and starts to replicate.
fn replicate(place: &Place, dbs: &str) -> Running {
    fs::write(place.path("lifeboat.yml"), format!("dbs:\n{dbs}")).unwrap();
    place.start(
        &["replicate", "--config", &place.text("lifeboat.yml"), "--socket", &place.text("s")],
        "found in",
    )
}

fn entry(place: &Place, keys: &str) -> String {
    format!("- {{{keys}, replica: {{url: '{}'}}}}\n", place.url("replica"))
}

fn create(place: &Place, name: &str) {
    fs::create_dir_all(place.path(name).parent().unwrap()).unwrap();
    place.open(name).execute_batch(TABLE).unwrap();
}

fn insert(place: &Place, name: &str, n: i64) {
    place.open(name).execute("INSERT INTO t VALUES (?1)", [n]).unwrap();
}

fn slots(place: &Place, replica: &str) -> usize {
    fs::read_dir(place.path(replica).join("ltx/0")).map_or(0, Iterator::count)
}

/// Waits until the replica has a slot more than `before`.
#[track_caller]
fn wait_for_slot(place: &Place, replica: &str, before: usize, running: &Running) {
    eventually("another slot", || (slots(place, replica) > before).then_some(()), || running.log());
}

#[track_caller]
fn assert_restores(place: &Place, name: &str) {
    let (out, config) = (place.text("out.db"), place.text("lifeboat.yml"));
    let db = place.text(name);
    place.run(&["restore", "--force", "--config", &config, "-o", &out, &db]).says(0, &["restored"]);
    assert_eq!(dump(&place.path("out.db")), dump(&place.path(name)), "{name}");
}

#[test]
fn databases_of_a_folder_come_and_go_while_the_process_runs() {
    let place = Place::new();
    create(&place, "data/old.db");
    create(&place, "data/below/deep.db");
    create(&place, "data/other.sqlite");
    let dir = place.text("data");
    let running =
        replicate(&place, &entry(&place, &format!("dir: '{dir}', pattern: '*.db', recursive: true")));
    wait_for_slot(&place, "replica/old.db", 0, &running);
    wait_for_slot(&place, "replica/below/deep.db", 0, &running);
    // One comes, also in a folder that was not there.
    create(&place, "data/new.db");
    create(&place, "data/later/new.db");
    wait_for_slot(&place, "replica/new.db", 0, &running);
    wait_for_slot(&place, "replica/later/new.db", 0, &running);
    insert(&place, "data/later/new.db", 2);
    wait_for_slot(&place, "replica/later/new.db", 1, &running);
    // One goes, right after its last commit.
    let last = place.open("data/old.db");
    last.execute_batch("INSERT INTO t VALUES (2)").unwrap();
    for suffix in ["", "-wal", "-shm"] {
        fs::remove_file(place.path(&format!("data/old.db{suffix}"))).unwrap();
    }
    running.wait_for("old.db: the file is gone");
    drop(last);
    place.run(&["restore", "-o", &place.text("old.db"), &place.url("replica/old.db")]).says(0, &["restored"]);
    assert_eq!(dump(&place.path("old.db")), ["t: Integer(1)", "t: Integer(2)"], "the last commit was stored");
    // And comes back, as somebody restores it.
    fs::rename(place.path("old.db"), place.path("data/old.db")).unwrap();
    let again = || (running.log().matches("old.db: following").count() == 2).then_some(());
    eventually("its follower", again, || running.log());
    insert(&place, "data/old.db", 3);
    let restored = || {
        place.run(&["restore", "--force", "-o", &place.text("out.db"), &place.url("replica/old.db")]);
        (dump(&place.path("out.db")).len() == 3).then_some(())
    };
    eventually("the row after its return", restored, || running.log());
    assert!(!Path::new(&place.text("replica/other.sqlite")).exists(), "the pattern does not meet it");
    assert_eq!(running.stop().0, Some(0));
    for name in ["data/old.db", "data/below/deep.db", "data/new.db", "data/later/new.db"] {
        assert_restores(&place, name);
    }
}

#[test]
fn a_database_that_cannot_be_looked_at_is_not_taken_for_one_that_is_gone() {
    let place = Place::new();
    let names = ["data/a.db", "data/b.db"];
    names.iter().for_each(|name| create(&place, name));
    let folder = entry(&place, &format!("path: '{}'", place.text("data/*.db")));
    // One of the two is open and the other one asleep.
    let running = replicate(&place, &format!("{folder}max-open-databases: 1\n"));
    for name in ["replica/a.db", "replica/b.db"] {
        wait_for_slot(&place, name, 0, &running);
    }
    let applications = names.map(|name| place.open(name));
    for (application, name) in applications.iter().zip(names) {
        // It has its files open, and needs their names no more.
        application.execute("UPDATE t SET n = n", []).unwrap();
        // A link to itself, put in the file's place in one step: whether there is a database, nobody can say.
        fs::hard_link(place.path(name), place.path(&format!("{name}.kept"))).unwrap();
        symlink(place.path(name), place.path("data/loop")).unwrap();
        fs::rename(place.path("data/loop"), place.path(name)).unwrap();
    }
    for application in &applications {
        application.execute("INSERT INTO t VALUES (2)", []).unwrap();
    }
    let socket = place.text("s");
    let sync = |name: &str| {
        place.spawn(&mut lifeboat(&["sync", "--socket", &socket, "--timeout", "2m", &place.text(name)]))
    };
    let asking = names.map(sync);
    for name in names {
        let is_said = || {
            let status = place.run(&["status", "--socket", &socket, "--json", &place.text(name)]).stdout;
            (status.contains("\"DatabaseUnreadable\"") && status.contains("\"retry\"")).then_some(())
        };
        eventually("its trouble", is_said, || running.log());
    }
    for name in names {
        fs::rename(place.path(&format!("{name}.kept")), place.path(name)).unwrap();
    }
    for asked in asking {
        let (status, said) = asked.ends();
        assert_eq!(status.code(), Some(0), "{said}{}", running.log());
    }
    let log = running.log();
    assert!(!log.contains("gone") && log.matches(": following").count() == 2, "{log}");
    assert_eq!(running.stop().0, Some(0));
    names.iter().for_each(|name| assert_restores(&place, name));
}

#[test]
fn a_path_with_wildcards_is_followed_from_the_command_line_and_restored_by_url() {
    let place = Place::new();
    create(&place, "a.db");
    create(&place, "b.db");
    let running =
        place.start(&["replicate", &place.text("*.db"), &place.url("replica")], "2 databases found");
    wait_for_slot(&place, "replica/a.db", 0, &running);
    wait_for_slot(&place, "replica/b.db", 0, &running);
    assert_eq!(running.stop().0, Some(0));
    place.run(&["restore", "-o", &place.text("out.db"), &place.url("replica/b.db")]).says(0, &["restored"]);
}

#[test]
fn a_database_with_an_entry_of_its_own_is_not_followed_as_one_of_a_folder() {
    let place = Place::new();
    create(&place, "data/a.db");
    create(&place, "data/b.db");
    let own =
        format!("- {{path: '{}', replica: {{url: '{}'}}}}\n", place.text("data/a.db"), place.url("own"));
    let folder = entry(&place, &format!("path: '{}'", place.text("data/*.db")));
    let running = replicate(&place, &format!("{folder}{own}"));
    wait_for_slot(&place, "own", 0, &running);
    wait_for_slot(&place, "replica/b.db", 0, &running);
    assert!(!place.path("replica/a.db").exists());
    assert_eq!(running.stop().0, Some(0));
}

#[test]
fn one_bad_database_neither_stops_nor_delays_the_others_and_is_followed_once_it_is_good() {
    let place = Place::new();
    create(&place, "data/good.db");
    fs::write(place.path("data/bad.db"), vec![7; 8192]).unwrap();
    let running = replicate(&place, &entry(&place, &format!("path: '{}'", place.text("data/*.db"))));
    running.wait_for("is not an SQLite database");
    wait_for_slot(&place, "replica/good.db", 0, &running);
    insert(&place, "data/good.db", 2);
    wait_for_slot(&place, "replica/good.db", 1, &running);
    create(&place, "fresh.db");
    fs::rename(place.path("fresh.db"), place.path("data/bad.db")).unwrap();
    wait_for_slot(&place, "replica/bad.db", 0, &running);
    assert_eq!(running.stop().0, Some(0));
    assert_restores(&place, "data/good.db");
    assert_restores(&place, "data/bad.db");
}

#[test]
fn folders_without_databases_are_an_error_unless_they_are_watched() {
    let place = Place::new();
    let folder = entry(&place, &format!("dir: '{}', pattern: '*.db', watch: false", place.text("")));
    fs::write(place.path("lifeboat.yml"), format!("dbs:\n{folder}")).unwrap();
    let config = place.text("lifeboat.yml");
    place.run(&["replicate", "--config", &config]).says(2, &["no databases", "'pattern'"]);
}

#[test]
fn of_hundreds_of_databases_four_are_open_and_all_are_stored() {
    const COUNT: i64 = 200;
    let place = Place::new();
    for n in 0..COUNT {
        create(&place, &format!("data/{n}.db"));
    }
    let folder = entry(&place, &format!("path: '{}'", place.text("data/*.db")));
    fs::write(place.path("lifeboat.yml"), format!("max-open-databases: 4\ndbs:\n{folder}")).unwrap();
    let (config, socket) = (place.text("lifeboat.yml"), place.text("s"));
    let running =
        place.start(&["replicate", "--config", &config, "--socket", &socket], "200 databases found");
    for n in 0..COUNT {
        wait_for_slot(&place, &format!("replica/{n}.db"), 0, &running);
    }
    let threads =
        || fs::read_dir(format!("/proc/{}/task", running.pid())).unwrap().filter(is_capture).count();
    eventually("all but four to sleep", || (threads() <= 4).then_some(()), || threads().to_string());
    // Some are woken by a commit, some by a demand, some are not.
    for n in (0..COUNT).step_by(3) {
        insert(&place, &format!("data/{n}.db"), 2);
    }
    for n in (0..COUNT).step_by(3) {
        wait_for_slot(&place, &format!("replica/{n}.db"), 1, &running);
    }
    insert(&place, "data/1.db", 3);
    place.run(&["sync", "--socket", &socket, &place.text("data/1.db")]).says(0, &[]);
    assert!(slots(&place, "replica/1.db") >= 2, "the demand was answered before it was stored");
    eventually("all but four to sleep", || (threads() <= 4).then_some(()), || threads().to_string());
    // A commit right before the end, while asleep.
    insert(&place, "data/2.db", 4);
    assert_eq!(running.stop().0, Some(0));
    for n in (0..COUNT).filter(|n| n % 40 < 3) {
        assert_restores(&place, &format!("data/{n}.db"));
    }
    assert_eq!(slots(&place, "replica/4.db"), 1, "what slept was stored again");
}

#[test]
fn a_commit_that_wakes_its_database_before_it_is_visible_is_stored() {
    const COUNT: i64 = 150;
    let place = Place::new();
    create(&place, "data/0.db");
    for n in 1..COUNT {
        fs::copy(place.path("data/0.db"), place.path(&format!("data/{n}.db"))).unwrap();
    }
    let folder = entry(&place, &format!("path: '{}'", place.text("data/*.db")));
    fs::write(place.path("lifeboat.yml"), format!("max-open-databases: 4\ndbs:\n{folder}")).unwrap();
    let running = place.start(&["replicate", "--config", &place.text("lifeboat.yml")], "150 databases found");
    for n in 0..COUNT {
        wait_for_slot(&place, &format!("replica/{n}.db"), 0, &running);
    }
    for n in 0..COUNT {
        // It stays open: to close it would be another event.
        let application = place.open(&format!("data/{n}.db"));
        application.execute("INSERT INTO t VALUES (2)", []).unwrap();
        wait_for_slot(&place, &format!("replica/{n}.db"), 1, &running);
    }
    assert_eq!(running.stop().0, Some(0));
}

#[test]
fn while_the_bucket_is_away_no_more_are_open_than_may_be_and_afterwards_all_is_stored() {
    const COUNT: usize = 100;
    let (place, mut s3) = (Place::new(), S3Server::start());
    (0..COUNT).for_each(|n| create(&place, &format!("data/{n}.db")));
    let folder = place.text("data/*.db");
    let dbs = format!("- {{path: '{folder}', replica: {{url: 's3://lifeboat/many'}}}}");
    fs::write(place.path("lifeboat.yml"), format!("max-open-databases: 4\ndbs:\n{dbs}\n")).unwrap();
    let args = ["replicate", "--config", &place.text("lifeboat.yml"), "--log-level", "debug"];
    let running = place.start_with(&args, "100 databases found", Some(&s3));
    let replica = s3.file("many");
    let slots = |n: &usize| fs::read_dir(replica.join(format!("{n}.db/0000"))).map_or(0, Iterator::count);
    let stored = |least: usize| (0..COUNT).filter(|n| slots(n) >= least).count();
    let all_stored = |slots| (stored(slots) == COUNT).then_some(());
    eventually_within(PATIENCE, "all to be stored", || all_stored(1), || running.log());
    let open = || fs::read_dir(format!("/proc/{}/task", running.pid())).unwrap().filter(is_capture).count();
    eventually("all but four to sleep", || (open() <= 4).then_some(()), || running.log());
    s3.stop();
    (0..COUNT).for_each(|n| insert(&place, &format!("data/{n}.db"), 2));
    running.wait_for("trying again");
    let most = (0..40).map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        open()
    });
    assert!(most.max().unwrap() <= 4, "{}", running.log());
    s3.start_again();
    eventually_within(PATIENCE, "all to be stored", || all_stored(2), || running.log());
    assert_eq!(running.stop().0, Some(0));
}

/// For a hundred databases on a slow machine.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);

fn is_capture(task: &std::io::Result<fs::DirEntry>) -> bool {
    let name = fs::read_to_string(task.as_ref().unwrap().path().join("comm"));
    name.is_ok_and(|name| name.trim() == "capture")
}
