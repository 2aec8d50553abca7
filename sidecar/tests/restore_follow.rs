//! `lifeboat restore -f`: a copy that stays close behind, readable at any moment, and never anything but a stored state.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lifeboat_ltx::{Checksum, LtxFile, PageChecksum, Txid, decode_whole};
use rusqlite::{Connection, OpenFlags};
use support::{Place, Running, dump, eventually};

/// Two accounts whose sum never changes, and room that comes and goes.
const BANK: &str = "CREATE TABLE account (id INTEGER PRIMARY KEY, money INTEGER NOT NULL, pad BLOB);
    INSERT INTO account VALUES (1, 500, zeroblob(5000)), (2, 500, NULL);
    CREATE TABLE room (n INTEGER PRIMARY KEY, b BLOB);";

struct World {
    place: Place,
    url: String,
}

impl World {
    /// With a writer that has stored the first slot.
    fn new() -> (Self, Running) {
        let place = Place::new();
        place.open("app.db").execute_batch(BANK).unwrap();
        let url = place.url("replica");
        let args = ["replicate", "--sync-interval", "20ms", &place.text("app.db"), &url];
        let replicating = place.start(&args, "following");
        let slots = place.path("replica/ltx/0");
        let is_stored = || {
            let mut files = std::fs::read_dir(&slots).ok()?.flatten();
            files.any(|file| file.metadata().is_ok_and(|file| file.len() > 131)).then_some(())
        };
        eventually("the first slot", is_stored, || replicating.log());
        (Self { place, url }, replicating)
    }

    fn follow(&self) -> Running {
        let copy = self.place.text("copy.db");
        let args =
            ["restore", "-f", "--follow-interval", "20ms", "--log-level", "debug", "-o", &copy, &self.url];
        self.place.spawn(&mut support::lifeboat(&args))
    }

    fn reader(&self) -> Connection {
        let path = self.place.path("copy.db");
        let open = || {
            let reader = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE).ok()?;
            reader.busy_timeout(Duration::from_secs(5)).unwrap();
            reader.execute_batch("PRAGMA query_only=ON").ok()?;
            Some(reader)
        };
        eventually("the copy", open, || self.logs())
    }

    /// What every program said.
    fn logs(&self) -> String {
        let entries = std::fs::read_dir(self.place.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let logs = entries.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("log-"));
        logs.map(|path| std::fs::read_to_string(path).unwrap()).collect()
    }

    #[track_caller]
    fn arrives(&self, reader: &Connection, following: &Running, money: i64) {
        let read = || {
            let found =
                reader.query_row("SELECT money FROM account WHERE id = 1", [], |row| row.get::<_, i64>(0));
            (found == Ok(money)).then_some(())
        };
        eventually("the copy to follow", read, || following.log());
    }
}

/// What every reader must see, whenever it looks.
#[track_caller]
fn is_sound(reader: &Connection) {
    let sum: i64 = reader.query_row("SELECT sum(money) FROM account", [], |row| row.get(0)).unwrap();
    assert_eq!(sum, 1000);
    let check: String = reader.query_row("PRAGMA quick_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
}

#[test]
fn readers_of_a_copy_that_follows_always_see_a_sound_database() {
    let (world, replicating) = World::new();
    let following = world.follow();
    let (reader, app) = (world.reader(), world.place.open("app.db"));
    let begun = Instant::now();
    for step in 0..40 {
        let sql = "BEGIN; UPDATE account SET money = money - 1 WHERE id = 1;
            UPDATE account SET money = money + 1 WHERE id = 2;
            INSERT INTO room (b) SELECT zeroblob(3000) FROM account a, account b, account c; COMMIT;";
        app.execute_batch(sql).unwrap();
        if step % 10 == 9 {
            app.execute_batch("DELETE FROM room; VACUUM;").unwrap();
        }
        is_sound(&reader);
        std::thread::sleep(Duration::from_millis(10));
    }
    println!("{} ms of commits", begun.elapsed().as_millis());
    world.arrives(&reader, &following, 460);
    let (copy, source) = (world.place.path("copy.db"), world.place.path("app.db"));
    eventually("the last commit", || (dump(&copy) == dump(&source)).then_some(()), || following.log());
    is_sound(&reader);
    drop(reader);
    assert_eq!(following.stop().0, Some(0));
    assert_eq!(replicating.stop().0, Some(0));
    assert!(dump(&copy) == dump(&source), "another copy than the one before the end");
}

#[test]
fn a_follower_that_is_killed_again_and_again_goes_on_with_the_same_file() {
    let (world, _replicating) = World::new();
    let following = world.follow();
    let reader = world.reader();
    world.arrives(&reader, &following, 500);
    let (app, inode) = (world.place.open("app.db"), world.place.path("copy.db").metadata().unwrap().ino());
    let mut following = Some(following);
    for round in 1..8 {
        for _ in 0..10 {
            let sql = "BEGIN; UPDATE account SET money = money - 1 WHERE id = 1;
                UPDATE account SET money = money + 1 WHERE id = 2; COMMIT;";
            app.execute_batch(sql).unwrap();
            std::thread::sleep(Duration::from_millis(7));
        }
        following.take().unwrap().kill();
        is_sound(&reader);
        let again = world.follow();
        world.arrives(&reader, &again, 500 - round * 10);
        following = Some(again);
    }
    assert_eq!(world.place.path("copy.db").metadata().unwrap().ino(), inode);
    assert_eq!(following.unwrap().stop().0, Some(0));
}

#[test]
fn a_database_that_is_replicated_itself_is_never_followed_into() {
    let (world, replicating) = World::new();
    let (app, copy) = (world.place.text("app.db"), world.place.text("copy.db"));
    let other = world.place.url("other");
    world.place.run(&["restore", "-f", "--force", "-o", &app, &world.url]).says(4, &["app.db"]);
    assert_eq!(replicating.stop().0, Some(0));
    world.place.run(&["restore", "-f", "--force", "-o", &app, &world.url]).says(4, &["is replicated itself"]);
    let replicating = world.place.start(&["replicate", &app, &world.url], "following");
    let args = ["restore", "-f", "-o", &copy, &world.url];
    let following = world.place.start(&args, "copy.db follows");
    world
        .place
        .run(&["replicate", "--handover-timeout", "100ms", &copy, &other])
        .says(4, &["another lifeboat process"]);
    assert_eq!((following.stop().0, replicating.stop().0), (Some(0), Some(0)));
}

#[test]
fn a_copy_that_somebody_else_wrote_to_is_refused_and_not_mixed() {
    let (world, _replicating) = World::new();
    let following = world.follow();
    let reader = world.reader();
    // Only after a step of its own it is surely beyond its look at the whole copy.
    let pay = |money: i64| {
        let sql = format!("UPDATE account SET money = {money} WHERE id = 1");
        world.place.open("app.db").execute_batch(&sql).unwrap();
    };
    pay(499);
    world.arrives(&reader, &following, 499);
    drop(reader);
    world.place.open("copy.db").execute_batch("UPDATE account SET money = 7 WHERE id = 2").unwrap();
    pay(498);
    let (status, log) = following.ends();
    assert!(status.code() == Some(4) && log.contains("changed by somebody else"), "{log}");
    let (again, _) = world.follow().ends();
    assert_eq!(again.code(), Some(4));
}

/// A copy at the state in which account 1 has 500, and a replica that has gone on by these payments, one slot each. Nobody
/// writes any more; the slots are returned, oldest first.
fn left_behind(payments: &[i64]) -> (World, Vec<PathBuf>) {
    let (world, replicating) = World::new();
    let following = world.follow();
    let reader = world.reader();
    world.arrives(&reader, &following, 500);
    drop(reader);
    assert_eq!(following.stop().0, Some(0));
    let slots = world.place.path("replica/ltx/0");
    let names = || {
        let entries = std::fs::read_dir(&slots).unwrap().map(|entry| entry.unwrap().path());
        let mut paths: Vec<_> = entries.filter(|path| path.extension().is_some()).collect();
        paths.sort();
        paths
    };
    let before = names();
    for money in payments {
        let count = names().len();
        pay(&world.place, *money);
        eventually("a slot of its own", || (names().len() > count).then_some(()), || replicating.log());
    }
    assert_eq!(replicating.stop().0, Some(0));
    let more = names().split_off(before.len());
    assert_eq!(more.len(), payments.len());
    (world, more)
}

fn pay(place: &Place, money: i64) {
    let sql = format!(
        "UPDATE account SET money = {money} WHERE id = 1; UPDATE account SET money = 1000 - {money} WHERE id = 2"
    );
    place.open("app.db").execute_batch(&format!("BEGIN; {sql}; COMMIT")).unwrap();
}

/// Merges and snapshots within seconds.
const LIVELY: &str = "levels: [{interval: 100ms}, {interval: 500ms}, {interval: 1s}]\nsnapshot: {interval: 1s}\n\
    sync-interval: 20ms\n";

#[test]
fn a_damaged_file_on_the_way_of_a_copy_is_waited_out_and_gone_around_and_never_believed() {
    let (world, slots) = left_behind(&[499, 498, 497]);
    let mut bytes = std::fs::read(&slots[1]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&slots[1], bytes).unwrap();
    let following = world.follow();
    following.wait_for("the copy stays at txid");
    let reader = world.reader();
    world.arrives(&reader, &following, 499);
    is_sound(&reader);
    let config = world.place.path("lively.yml");
    let db = world.place.text("app.db");
    std::fs::write(&config, format!("{LIVELY}dbs: [{{path: '{db}', replica: {{url: '{}'}}}}]\n", world.url))
        .unwrap();
    let replicating =
        world.place.start(&["replicate", "--config", &config.display().to_string()], "following");
    let mut money = 490;
    let goes_on = || {
        pay(&world.place, money);
        money = if money == 490 { 480 } else { 490 };
        std::thread::sleep(Duration::from_millis(50));
        let found =
            reader.query_row("SELECT money FROM account WHERE id = 1", [], |row| row.get::<_, i64>(0));
        found.is_ok_and(|money| money < 497).then_some(())
    };
    eventually("the copy to go on", goes_on, || following.log());
    assert_eq!(replicating.stop().0, Some(0));
    let (copy, source) = (world.place.path("copy.db"), world.place.path("app.db"));
    eventually("the last commit", || (dump(&copy) == dump(&source)).then_some(()), || following.log());
    is_sound(&reader);
    drop(reader);
    assert_eq!(following.stop().0, Some(0));
}

#[test]
fn another_databases_snapshot_under_the_name_of_ours_does_not_become_the_copy() {
    let (world, slots) = left_behind(&[499, 498, 497]);
    // All that leads on is a snapshot, whole in itself, of which the slot after it knows better.
    let first = world.place.path("replica/ltx/0/0000000000000001-0000000000000001.ltx");
    let mut files =
        std::fs::read_dir(world.place.path("replica/ltx/0")).unwrap().map(|entry| entry.unwrap().path());
    let whole = files.find(|path| *path == first || path.metadata().unwrap().len() > 1000).unwrap();
    let mut snapshot = decode_whole(&std::fs::read(whole).unwrap()).unwrap();
    let last = decode_whole(&std::fs::read(&slots[1]).unwrap()).unwrap().header;
    (snapshot.header.min_txid, snapshot.header.max_txid) = (Txid::FIRST, last.max_txid);
    let sum = |file: &LtxFile| {
        let pages = file.pages.iter();
        pages.fold(Checksum::EMPTY, |sum, (page, image)| sum.toggle(PageChecksum::of(*page, image)))
    };
    let mark = lifeboat_ltx::Mark { pre_apply: Checksum::EMPTY, post_apply: sum(&snapshot) };
    snapshot.header.mark = Some(mark);
    let name = format!("{}-{}.ltx", Txid::FIRST, last.max_txid);
    std::fs::create_dir_all(world.place.path("replica/ltx/9")).unwrap();
    std::fs::write(world.place.path("replica/ltx/9").join(name), snapshot.encode().unwrap()).unwrap();
    slots[..2].iter().for_each(|slot| std::fs::remove_file(slot).unwrap());
    let before = dump(&world.place.path("copy.db"));
    let following = world.follow();
    following.wait_for("one of them is foreign");
    following.wait_for("the copy stays at txid");
    assert!(dump(&world.place.path("copy.db")) == before);
    assert_eq!(following.stop().0, Some(0));
}

#[test]
fn a_copy_that_is_ahead_of_its_replica_is_not_called_up_to_date() {
    let (world, slots) = left_behind(&[499, 498]);
    let following = world.follow();
    let reader = world.reader();
    world.arrives(&reader, &following, 498);
    drop(reader);
    slots.iter().for_each(|slot| std::fs::remove_file(slot).unwrap());
    let (status, log) = following.ends();
    assert!(status.code() == Some(4) && log.contains("and the copy is at"), "{log}");
}

#[test]
fn another_replica_at_the_same_place_is_refused_and_does_not_become_the_copy() {
    let (world, _) = left_behind(&[]);
    let before = dump(&world.place.path("copy.db"));
    std::fs::remove_dir_all(world.place.path("replica")).unwrap();
    let other = world.place.open("other.db");
    other.execute_batch(BANK).unwrap();
    // It has gone further than the copy, so no number tells it from a continuation.
    for money in [1, 2, 3, 4] {
        let args = ["replicate", &world.place.text("other.db"), &world.url];
        let replicating = world.place.start(&args, "following");
        other.execute("UPDATE account SET money = ?1", [money]).unwrap();
        assert_eq!(replicating.stop().0, Some(0));
    }
    let (status, log) = world.follow().ends();
    assert!(status.code() == Some(4) && log.contains("this is another replica"), "{log}");
    assert_eq!(dump(&world.place.path("copy.db")), before);
    // Nor does one of which nothing says whose it is.
    std::fs::remove_file(world.place.path("replica/lifeboat/head.json")).unwrap();
    let (status, log) = world.follow().ends();
    assert!(status.code() == Some(4) && log.contains("without lifeboat/head.json"), "{log}");
    assert_eq!(dump(&world.place.path("copy.db")), before);
}

#[test]
fn a_copy_that_did_not_know_its_replica_gets_to_know_it() {
    let (world, _) = left_behind(&[499]);
    let place = world.place.path(".copy.db-lifeboat/follow.json");
    let read = || serde_json::from_slice::<serde_json::Value>(&std::fs::read(&place).unwrap()).unwrap();
    let mut earlier = read();
    let lineage = earlier.as_object_mut().unwrap().remove("lineage").unwrap();
    std::fs::write(&place, earlier.to_string()).unwrap();
    let (following, reader) = (world.follow(), world.reader());
    world.arrives(&reader, &following, 499);
    drop(reader);
    assert_eq!(following.stop().0, Some(0));
    assert_eq!(read()["lineage"], lineage);
}
