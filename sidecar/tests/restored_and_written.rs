//! What an application writes to a restored file before anybody replicates it is a continuation where that is proved, and never
//! otherwise.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::os::unix::fs::{MetadataExt, chown};
use std::path::PathBuf;

use support::{Place, Ran, dump, eventually};

const TABLE: &str = "PRAGMA journal_mode = WAL; CREATE TABLE t (n INTEGER PRIMARY KEY, x);
    WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 100)
    INSERT INTO t SELECT n, randomblob(3500) FROM c;";

/// A replica of some slots, which nobody writes any more.
fn stored(place: &Place, name: &str) -> String {
    place.open(&format!("{name}.db")).execute_batch(TABLE).unwrap();
    let url = place.url(name);
    for n in 0..3 {
        replicated(place, &format!("{name}.db"), &url);
        if n < 2 {
            write(place, &format!("{name}.db"));
        }
    }
    url
}

fn write(place: &Place, db: &str) {
    place.open(db).execute("INSERT INTO t (x) VALUES (randomblob(300))", []).unwrap();
}

/// Follows until everything is stored. Returns the log.
#[track_caller]
fn replicated(place: &Place, db: &str, url: &str) -> String {
    let (code, log) = place.start(&["replicate", &place.text(db), url], "following").stop();
    assert_eq!(code, Some(0), "{log}");
    log
}

#[track_caller]
fn restore(place: &Place, db: &str, url: &str, more: &[&str]) {
    let (out, mut args) = (place.text(db), vec!["restore"]);
    args.extend(more);
    args.extend(["-o", &out, url]);
    place.run(&args).says(0, &["restored"]);
}

/// A start that is refused must not need to be stopped.
fn refused(place: &Place, db: &str, url: &str) -> Ran {
    let mut command = support::lifeboat(&["replicate", &place.text(db), url]);
    let (status, stderr) = place.spawn(&mut command).ends();
    Ran { code: status.code(), stdout: String::new(), stderr }
}

/// The slots with pages, oldest first.
fn slots(place: &Place, replica: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(place.path(&format!("{replica}/ltx/0"))).unwrap();
    let mut slots: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    slots.retain(|path| path.extension().is_some() && path.metadata().unwrap().len() > SEAL);
    slots.sort();
    slots
}

#[test]
fn what_is_written_between_a_restore_and_the_first_replication_is_stored() {
    let place = Place::new();
    let url = stored(&place, "app");
    // The second time over the file that the application has written to.
    for flags in [&[][..], &["--force"]] {
        restore(&place, "new.db", &url, flags);
        let before = slots(&place, "app").len();
        write(&place, "new.db");
        let log = replicated(&place, "new.db", &url);
        assert!(log.contains("those that differ are stored"), "{log}");
        let after = slots(&place, "app");
        assert_eq!(after.len(), before + 1, "{log}");
        assert!(after[before].metadata().unwrap().len() < 20_000, "all of it was stored again");
        restore(&place, "out.db", &url, &["--force"]);
        assert_eq!(dump(&place.path("out.db")), dump(&place.path("new.db")));
    }
}

#[test]
fn after_a_restore_nothing_is_stored_again() {
    let place = Place::new();
    let url = stored(&place, "app");
    let before = slots(&place, "app");
    restore(&place, "new.db", &url, &[]);
    replicated(&place, "new.db", &url);
    assert_eq!(slots(&place, "app"), before);
}

#[test]
fn a_slot_that_another_writer_stored_after_the_restore_is_not_written_over() {
    let place = Place::new();
    let url = stored(&place, "app");
    let running =
        place.start(&["replicate", "--sync-interval", "20ms", &place.text("app.db"), &url], "following");
    restore(&place, "new.db", &url, &[]);
    let before = slots(&place, "app").len();
    // One slot more, of the very epoch that was the newest when the file was restored.
    write(&place, "app.db");
    eventually("its slot", || (slots(&place, "app").len() > before).then_some(()), || running.log());
    assert_eq!(running.stop().0, Some(0));
    refused(&place, "new.db", &url).says(4, &["is an older state"]);
    write(&place, "new.db");
    let head = std::fs::read(place.path("app/lifeboat/head.json")).unwrap();
    refused(&place, "new.db", &url).says(4, &["not a continuation", "others have stored since"]);
    assert_eq!(std::fs::read(place.path("app/lifeboat/head.json")).unwrap(), head, "it was claimed");
    restore(&place, "out.db", &url, &[]);
    assert_eq!(dump(&place.path("out.db")), dump(&place.path("app.db")));
}

#[test]
fn an_older_state_that_was_restored_is_never_taken_for_the_newest() {
    let place = Place::new();
    let url = stored(&place, "app");
    let oldest = slots(&place, "app")[0].file_stem().unwrap().to_str().unwrap()[..16].to_owned();
    restore(&place, "old.db", &url, &["--txid", &oldest]);
    refused(&place, "old.db", &url).says(4, &["is an older state"]);
    write(&place, "old.db");
    refused(&place, "old.db", &url)
        .says(4, &[&format!("restored at txid {oldest}"), "others have stored since"]);
}

#[test]
fn a_record_speaks_of_the_file_that_was_restored_and_of_no_other() {
    let place = Place::new();
    let url = stored(&place, "app");
    let (new, aside) = (place.path("new.db"), place.path("aside.db"));
    restore(&place, "new.db", &url, &[]);
    // The record stays where the file was.
    std::fs::rename(&new, &aside).unwrap();
    write(&place, "aside.db");
    refused(&place, "aside.db", &url).says(4, &["no record beside it"]);
    // Another file comes under its name.
    std::fs::copy(&aside, &new).unwrap();
    refused(&place, "new.db", &url).says(4, &["another file"]);
    restore(&place, "new.db", &url, &["--force"]);
    write(&place, "new.db");
    replicated(&place, "new.db", &url);
}

#[test]
fn a_record_speaks_of_the_replica_that_was_restored_and_of_no_other() {
    let place = Place::new();
    let (url, other) = (stored(&place, "app"), stored(&place, "other"));
    restore(&place, "new.db", &other, &[]);
    write(&place, "new.db");
    refused(&place, "new.db", &url).says(4, &["another replica"]);
    // And it says nothing against a replica that is sound.
    let (config, new) = (place.text("lifeboat.yml"), place.text("new.db"));
    std::fs::write(&config, format!("dbs: [{{path: '{new}', replica: {{url: '{url}'}}}}]\n")).unwrap();
    place.run(&["verify", "--config", &config, &new]).says(0, &["Every file is what was written"]);
    replicated(&place, "new.db", &other);
    place.run(&["verify", "--config", &config, &new]).says(6, &["lineage"]);
}

#[test]
fn a_restored_file_may_go_to_another_place_and_the_one_it_came_from_is_not_begun_anew() {
    let place = Place::new();
    let (url, elsewhere) = (stored(&place, "app"), place.url("elsewhere"));
    for db in ["new.db", "again.db"] {
        restore(&place, db, &url, &[]);
        write(&place, db);
    }
    replicated(&place, "new.db", &elsewhere);
    std::fs::remove_dir_all(place.path("app")).unwrap();
    refused(&place, "again.db", &url).says(4, &["holds no database"]);
}

#[test]
fn a_file_that_was_restored_may_become_a_copy_that_follows() {
    let place = Place::new();
    let url = stored(&place, "app");
    restore(&place, "copy.db", &url, &[]);
    let args = ["restore", "-f", "--force", "-o", &place.text("copy.db"), &url];
    assert_eq!(place.start(&args, "copy.db follows").stop().0, Some(0));
}

#[test]
fn what_root_restores_belongs_with_its_record_to_the_owner_of_the_folder() {
    let place = Place::new();
    let url = stored(&place, "app");
    let folder = place.path("volume");
    std::fs::create_dir(&folder).unwrap();
    if rustix::process::geteuid().is_root() {
        chown(&folder, Some(1234), Some(1234)).unwrap();
    }
    restore(&place, "volume/new.db", &url, &[]);
    let owner = folder.metadata().unwrap().uid();
    let beside = folder.join(".new.db-lifeboat");
    let left = ["lock", "record.json", "pages"].map(|name| beside.join(name));
    for path in [folder.join("new.db"), beside].iter().chain(&left) {
        assert_eq!(path.metadata().unwrap().uid(), owner, "{}", path.display());
    }
}

/// Size of a slot without pages.
const SEAL: u64 = 131;
