//! Journal modes, and what applications do with them while they are followed.

use std::process::{Child, Command, Stdio};

use super::*;

#[test]
fn in_every_journal_mode_every_row_is_restored() {
    for mode in ["DELETE", "TRUNCATE", "PERSIST", "MEMORY", "OFF", "WAL"] {
        let (scene, application) = Scene::new(mode);
        application.execute_batch("PRAGMA synchronous=OFF").unwrap();
        let replicating = scene.start();
        insert(&application, 30);
        scene.wait_until_stored();
        insert(&application, 30);
        application.execute_batch("DELETE FROM t WHERE rowid <= 10; VACUUM").unwrap();
        insert(&application, 5);
        scene.stop(replicating);
        let found: String = application.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
        assert_eq!(found.to_uppercase(), mode, "it stays what it is");
        scene.compare(75);
        // Begun again, it knows the database.
        let replicating = scene.start();
        insert(&application, 1);
        scene.stop(replicating);
        scene.compare(76);
    }
}

#[test]
fn a_database_larger_than_what_fits_into_memory_at_once_is_stored_from_a_file() {
    let (scene, application) = Scene::new("DELETE");
    application.execute_batch("BEGIN").unwrap();
    insert(&application, 4_000);
    application.execute_batch("COMMIT").unwrap();
    let replicating = scene.start();
    for _ in 0..3 {
        insert(&application, 1);
        scene.wait_until_stored();
    }
    scene.stop(replicating);
    scene.compare(4_023);
    let last = std::fs::read_dir(scene.place.path("replica/ltx/0")).unwrap().map(Result::unwrap);
    let last = last.max_by_key(std::fs::DirEntry::file_name).unwrap();
    assert!(last.metadata().unwrap().len() < 40_000, "a row costs some pages and not the database");
}

#[test]
fn a_commit_is_stored_at_once_and_not_only_at_the_next_look() {
    let (scene, application) = Scene::new("MEMORY");
    let replicating = scene.start();
    scene.wait_until_stored();
    let files = scene.stored_files();
    insert(&application, 1);
    eventually("the commit to be stored", || (scene.stored_files() > files).then_some(()), String::new);
    scene.stop(replicating);
}

#[test]
fn a_database_that_is_switched_to_wal_and_back_loses_nothing() {
    let (scene, application) = Scene::new("DELETE");
    let replicating = scene.start();
    application.execute_batch("PRAGMA journal_mode=WAL").unwrap();
    insert(&application, 20);
    scene.wait_until_stored();
    // Followed by its WAL now, it cannot leave that mode.
    application.busy_timeout(std::time::Duration::ZERO).unwrap();
    let error = application.query_row("PRAGMA journal_mode=DELETE", [], |_| Ok(())).unwrap_err();
    assert_eq!(error.to_string(), "database is locked");
    application.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    scene.stop(replicating);
    scene.compare(40);
    // Nobody follows it now.
    application.execute_batch("PRAGMA journal_mode=DELETE").unwrap();
    insert(&application, 1);
    let replicating = scene.start();
    insert(&application, 1);
    scene.stop(replicating);
    scene.compare(42);
    // And with leave to do so, it is switched back.
    let (db, url) = (scene.place.text("app.db"), scene.place.url("replica"));
    let replicating = scene.place.start(&["replicate", &db, &url], "switched to WAL mode");
    replicating.wait_for("following");
    insert(&application, 1);
    scene.stop(replicating);
    scene.compare(43);
}

#[test]
fn another_page_size_is_refused_and_what_was_stored_stays_restorable() {
    for is_running in [true, false] {
        let (scene, application) = Scene::new("DELETE");
        let mut replicating = scene.start();
        scene.wait_until_stored();
        let before = dump(&scene.place.path("app.db"));
        if !is_running {
            scene.stop(replicating);
            application.execute_batch("PRAGMA page_size=8192; VACUUM").unwrap();
            replicating = scene.spawn();
        } else {
            application.execute_batch("PRAGMA page_size=8192; VACUUM").unwrap();
        }
        let (status, log) = replicating.ends();
        assert_eq!(status.code(), Some(4), "{log}");
        assert!(log.contains("8192 bytes now and had 4096"), "{log}");
        let (copy, url) = (scene.place.text("copy.db"), scene.place.url("replica"));
        scene.place.run(&["restore", "-o", &copy, &url]).says(0, &["restored"]);
        assert_eq!(dump(Path::new(&copy)), before);
    }
}

#[test]
fn an_application_in_exclusive_mode_is_named_and_waited_out() {
    for mode in ["DELETE", "WAL"] {
        let (scene, application) = Scene::new(mode);
        drop(application);
        let application = scene.place.open("app.db");
        application.execute_batch("PRAGMA locking_mode=EXCLUSIVE").unwrap();
        insert(&application, 1);
        let replicating = scene.spawn();
        let status = scene.wait_for_trouble("LockHeld");
        assert!(status["message"].as_str().unwrap().contains("locking_mode=EXCLUSIVE"), "{status}");
        std::thread::sleep(std::time::Duration::from_secs(1));
        let cpu = cpu_millis(&replicating);
        assert!(cpu < 500, "{cpu} ms of CPU only to wait");
        drop(application);
        scene.wait_until_stored();
        let application = scene.place.open("app.db");
        insert(&application, 1);
        scene.stop(replicating);
        scene.compare(22);
    }
}

#[test]
fn an_application_that_becomes_exclusive_while_it_is_followed_is_named_and_waited_out() {
    let (scene, application) = Scene::new("DELETE");
    let replicating = scene.start();
    scene.wait_until_stored();
    application.execute_batch("PRAGMA locking_mode=EXCLUSIVE").unwrap();
    insert(&application, 1);
    scene.wait_for_trouble("LockHeld");
    drop(application);
    scene.wait_until_stored();
    scene.stop(replicating);
    scene.compare(21);
}

/// The time that a process has used.
fn cpu_millis(running: &Running) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", running.pid())).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |n: usize| fields[n].parse::<u64>().unwrap();
    (ticks(11) + ticks(12)) * 10
}

#[test]
fn a_transaction_of_a_killed_application_is_not_read_before_the_application_took_it_back() {
    let (scene, application) = Scene::new("DELETE");
    let replicating = scene.start();
    insert(&application, 1);
    scene.wait_until_stored();
    let files = scene.stored_files();
    let mut writer = start_writer(&scene);
    writer.kill().unwrap();
    writer.wait().unwrap();
    assert!(scene.place.path("app.db-journal").metadata().unwrap().len() > 0, "a hot journal");
    let status = scene.wait_for_trouble("HotJournal");
    assert!(status["message"].as_str().unwrap().contains("killed"), "{status}");
    assert_eq!(scene.stored_files(), files, "half a transaction is not stored");
    insert(&application, 1);
    scene.wait_until_stored();
    scene.stop(replicating);
    scene.compare(22);
}

/// An application as a process of its own, in the middle of a transaction that has spilled into the file.
fn start_writer(scene: &Scene) -> Child {
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "modes::writer_of_half_a_transaction", "--nocapture", "--ignored"])
        .env("WRITE_TO", scene.place.path("app.db"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = Vec::new();
    let mut out = writer.stdout.take().unwrap();
    while !String::from_utf8_lossy(&said).contains("half way") {
        let mut byte = [0];
        out.read_exact(&mut byte).unwrap();
        said.push(byte[0]);
    }
    writer
}

/// Not a test: what [`start_writer`] starts.
#[test]
#[ignore = "the program that another test kills"]
fn writer_of_half_a_transaction() {
    let Some(path) = std::env::var_os("WRITE_TO") else { return };
    let database = Connection::open(path).unwrap();
    database.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    database.execute_batch("PRAGMA cache_size=5; BEGIN; UPDATE t SET x = randomblob(2000)").unwrap();
    insert(&database, 100);
    println!("half way");
    std::thread::sleep(std::time::Duration::from_secs(60));
}
