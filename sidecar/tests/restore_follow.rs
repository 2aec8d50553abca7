//! `lifeboat restore -f`: a copy that stays close behind, readable at any moment, and never anything but a stored state.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use support::{Place, Running, dump, eventually};

/// Two accounts whose sum never changes, and room that comes and goes.
const BANK: &str = "CREATE TABLE account (id INTEGER PRIMARY KEY, money INTEGER NOT NULL, pad BLOB);
    INSERT INTO account VALUES (1, 500, zeroblob(5000)), (2, 500, NULL);
    CREATE TABLE room (n INTEGER PRIMARY KEY, b BLOB);";

struct World {
    place: Place,
    url: String,
    replicating: Running,
}

impl World {
    fn new() -> Self {
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
        Self { place, url, replicating }
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
        eventually("the copy", open, String::new)
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
    let world = World::new();
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
    assert_eq!(world.replicating.stop().0, Some(0));
    assert!(dump(&copy) == dump(&source), "another copy than the one before the end");
}

#[test]
fn a_follower_that_is_killed_again_and_again_goes_on_with_the_same_file() {
    let world = World::new();
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
    let world = World::new();
    let (app, copy) = (world.place.text("app.db"), world.place.text("copy.db"));
    let other = world.place.url("other");
    world.place.run(&["restore", "-f", "--force", "-o", &app, &world.url]).says(4, &["app.db"]);
    assert_eq!(world.replicating.stop().0, Some(0));
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
    let world = World::new();
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
