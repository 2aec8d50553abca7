//! Files, disks and folders that are not as they should be.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use super::*;

const MODES: [&str; 2] = ["DELETE", "WAL"];

/// Runs a program of the machine.
#[track_caller]
fn machine(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).status();
    assert!(status.is_ok_and(|status| status.success()), "{program} {args:?}");
}

/// A file system mounted in a place, until this is dropped.
struct Mount {
    at: PathBuf,
}

impl Mount {
    fn new(at: PathBuf, args: &[&str]) -> Self {
        fs::create_dir_all(&at).unwrap();
        machine("mount", &[args, &[at.to_str().unwrap()]].concat());
        Self { at }
    }
}

impl Mount {
    /// Full to the last byte: not even an empty file fits.
    fn fill(&self) {
        let _ = Command::new("dd")
            .args(["if=/dev/zero", "bs=4096", "status=none"])
            .stderr(std::process::Stdio::null())
            .arg(format!("of={}", self.at.join("filler").display()))
            .status();
        assert!(fs::write(self.at.join("more"), [0; 5000]).is_err(), "the disk is full");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}

#[test]
fn a_file_cut_short_is_said_and_nothing_is_stored_until_it_is_whole() {
    for mode in MODES {
        let (scene, application) = Scene::new(mode);
        let replicating = scene.start();
        scene.wait_until_stored();
        let (db, kept) = (scene.place.text("app.db"), scene.place.text("kept"));
        let files = scene.stored_files();
        checkpoint(&scene, &application);
        // Programs of their own: closing a descriptor here would drop SQLite's locks.
        machine("cp", &[&db, &kept]);
        machine("truncate", &["-s", "-16384", &db]);
        let status = scene.wait_for_trouble("DatabaseDamaged");
        assert!(status["message"].as_str().unwrap().contains("cut it short"), "{status}");
        std::thread::sleep(std::time::Duration::from_millis(500));
        assert_eq!(scene.stored_files(), files, "{mode}: nothing wrong is stored");
        machine("dd", &[&format!("if={kept}"), &format!("of={db}"), "conv=notrunc", "status=none"]);
        drop(application);
        let application = scene.place.open("app.db");
        insert(&application, 1);
        scene.wait_until_stored();
        scene.stop(replicating);
        let rows = dump(&scene.place.path("app.db")).len();
        scene.compare(rows);
    }
}

/// Brings everything into the file.
fn checkpoint(scene: &Scene, application: &Connection) {
    let done = || {
        let busy = application.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
        busy.is_ok_and(|busy| busy == 0).then_some(())
    };
    eventually("the checkpoint", done, || scene.status().to_string());
}

#[test]
fn a_header_that_is_none_any_more_is_said_and_nothing_is_stored_until_it_is_back() {
    let (scene, application) = Scene::new("DELETE");
    let replicating = scene.start();
    scene.wait_until_stored();
    let (db, kept) = (scene.place.text("app.db"), scene.place.text("kept"));
    let files = scene.stored_files();
    drop(application);
    machine("cp", &[&db, &kept]);
    let (from, to) = (format!("if={kept}"), format!("of={db}"));
    machine("dd", &["if=/dev/zero", &to, "bs=100", "count=1", "conv=notrunc", "status=none"]);
    scene.wait_for_trouble("DatabaseUnreadable");
    assert_eq!(scene.stored_files(), files);
    machine("dd", &[&from, &to, "conv=notrunc", "status=none"]);
    scene.wait_until_stored();
    insert(&scene.place.open("app.db"), 1);
    scene.stop(replicating);
    scene.compare(21);
}

#[test]
fn a_page_that_the_disk_cannot_read_is_said_and_nothing_is_stored_until_it_can() {
    for mode in MODES {
        let scene = Scene { place: Place::new() };
        let disk = BadDisk::new(&scene);
        let application = scene.application(mode);
        application.execute_batch("CREATE TABLE t(x)").unwrap();
        insert(&application, 1_000);
        let replicating = scene.start();
        scene.wait_until_stored();
        let mut files = scene.stored_files();
        if mode == "DELETE" {
            // It reads every page after every commit.
            disk.fail();
            scene.wait_for_trouble("DatabaseDamaged");
            assert_eq!(scene.stored_files(), files);
            disk.heal();
            scene.wait_until_stored();
        }
        scene.stop(replicating);
        files = scene.stored_files().max(files);
        disk.fail();
        let replicating = scene.spawn();
        // Which of the two words depends on what SQLite is doing when it meets the first such page.
        let is_said = |status: &serde_json::Value| {
            ["DatabaseDamaged", "DatabaseUnreadable"].contains(&status["reason"].as_str().unwrap_or_default())
        };
        let status = scene.wait_for(is_said, "what is wrong");
        assert_eq!(status["verdict"], "retry", "{status}");
        assert_eq!(scene.stored_files(), files, "{mode}");
        disk.heal();
        scene.wait_until_stored();
        scene.stop(replicating);
        scene.compare(1_000);
    }
}

/// A disk of which one half can be made unreadable: a file system in a file that is cut short and filled again.
struct BadDisk {
    image: String,
    kept: String,
    mount: Mount,
}

impl BadDisk {
    /// Puts the database of the scene on it.
    fn new(scene: &Scene) -> Self {
        let (image, kept) = (scene.place.text("image"), scene.place.text("kept"));
        machine("truncate", &["-s", "16M", &image]);
        machine("mkfs.ext4", &["-q", "-E", "lazy_itable_init=0", &image]);
        let mount = Mount::new(scene.place.path("disk"), &["-o", "loop,errors=continue", &image]);
        std::os::unix::fs::symlink(mount.at.join("app.db"), scene.place.path("app.db")).unwrap();
        Self { image, kept, mount }
    }

    fn fail(&self) {
        let database = self.mount.at.join("app.db");
        machine("touch", &[database.to_str().unwrap()]);
        machine("sync", &["-f", database.to_str().unwrap()]);
        machine("cp", &[&self.image, &self.kept]);
        machine("truncate", &["-s", "5M", &self.image]);
        forget(&database);
    }

    fn heal(&self) {
        let (from, to) = (format!("if={}", self.kept), format!("of={}", self.image));
        machine("dd", &[&from, &to, "bs=1M", "skip=5", "seek=5", "conv=notrunc", "status=none"]);
    }
}

/// Takes a file out of memory, so that it is read from its disk again.
fn forget(path: &Path) {
    machine(
        "dd",
        &[
            &format!("of={}", path.display()),
            "oflag=nocache",
            "conv=notrunc,fdatasync",
            "count=0",
            "status=none",
        ],
    );
}

#[test]
fn a_database_that_is_replaced_by_another_is_not_continued_and_the_old_state_stays_restorable() {
    for mode in MODES {
        let (scene, application) = Scene::new(mode);
        let replicating = scene.start();
        scene.wait_until_stored();
        let other = scene.place.open("other.db");
        other.execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES ('another')").unwrap();
        fs::rename(scene.place.path("other.db"), scene.place.path("app.db")).unwrap();
        let (status, log) = replicating.ends();
        assert_eq!(status.code(), Some(4), "{log}");
        assert!(log.contains("replaced") && log.contains("not a continuation"), "{log}");
        drop((application, other));
        let (copy, url) = (scene.place.text("copy.db"), scene.place.url("replica"));
        scene.place.run(&["restore", "-o", &copy, &url]).says(0, &["restored"]);
        assert_eq!(dump(Path::new(&copy)).len(), 20, "{mode}");
    }
}

#[test]
fn a_database_that_is_moved_away_and_back_is_followed_on() {
    for mode in MODES {
        let (scene, application) = Scene::new(mode);
        let replicating = scene.start();
        scene.wait_until_stored();
        drop(application);
        let (db, away) = (scene.place.path("app.db"), scene.place.path("away.db"));
        fs::rename(&db, &away).unwrap();
        scene.wait_for_trouble("WaitingForDatabase");
        fs::rename(&away, &db).unwrap();
        scene.wait_until_stored();
        insert(&scene.place.open("app.db"), 1);
        scene.stop(replicating);
        scene.compare(21);
    }
}

#[test]
fn a_read_only_file_system_is_refused() {
    let (scene, application) = Scene::new("DELETE");
    drop(application);
    let folder = scene.place.path("folder");
    fs::create_dir(&folder).unwrap();
    fs::rename(scene.place.path("app.db"), folder.join("app.db")).unwrap();
    let _mount = Mount::new(folder.clone(), &["--bind", "-o", "ro", folder.to_str().unwrap()]);
    let db = folder.join("app.db").display().to_string();
    for enforce in ["true", "false"] {
        let ran = scene.place.run(&["replicate", &db, &scene.place.url("replica"), "--enforce-wal", enforce]);
        ran.says(4, &["Read-only file system", "must exist and be writable"]);
    }
    assert!(!scene.place.path("replica").exists());
}

#[test]
fn a_file_that_we_may_only_read_is_followed_by_its_journal_and_refused_with_a_wal() {
    let (scene, application) = Scene::new("DELETE");
    fs::set_permissions(scene.place.folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    fs::set_permissions(scene.place.path("app.db"), fs::Permissions::from_mode(0o644)).unwrap();
    let (program, args) = (scene.place.path("lifeboat"), scene.args());
    fs::copy(env!("CARGO_BIN_EXE_lifeboat"), &program).unwrap();
    let as_nobody = |args: &[String]| {
        let mut command = Command::new(&program);
        command.args(args).uid(65_534).gid(65_534);
        command
    };
    let replicating = scene.place.spawn(&mut as_nobody(&args));
    scene.wait_until_stored();
    insert(&application, 1);
    scene.stop(replicating);
    scene.compare(21);
    application.execute_batch("PRAGMA journal_mode=WAL").unwrap();
    let (status, log) = scene.place.spawn(&mut as_nobody(&args)).ends();
    assert_eq!(status.code(), Some(4), "{log}");
    assert!(log.contains("cannot be opened for writing"), "{log}");
}

#[test]
fn on_a_full_disk_commits_are_still_stored() {
    let place = Place::new();
    let mount = Mount::new(place.path("disk"), &["-t", "tmpfs", "-o", "size=1m", "tmpfs"]);
    std::os::unix::fs::symlink(mount.at.join("app.db"), place.path("app.db")).unwrap();
    let scene = Scene { place };
    let application = scene.application("MEMORY");
    application.execute_batch("CREATE TABLE t(x)").unwrap();
    insert(&application, 20);
    let replicating = scene.start();
    scene.wait_until_stored();
    mount.fill();
    for _ in 0..3 {
        let files = scene.stored_files();
        application.execute_batch("UPDATE t SET x = randomblob(2000)").unwrap();
        scene.wait_until_stored();
        scene.wait_for(|status| status["verdict"].is_null(), "that all is well");
        assert_eq!(scene.stored_files(), files + 1);
    }
    scene.stop(replicating);
    let url = scene.place.url("replica");
    let copy = scene.place.text("copy.db");
    scene.place.run(&["restore", "-o", &copy, &url]).says(0, &["restored"]);
    assert_eq!(dump(&scene.place.path("app.db")), dump(Path::new(&copy)));
    // Begun again, the record is understood.
    let replicating = scene.start();
    application.execute_batch("UPDATE t SET x = randomblob(2000)").unwrap();
    scene.stop(replicating);
}

#[test]
fn while_the_wal_cannot_be_copied_into_the_database_commits_are_stored_and_it_heals_by_itself() {
    let place = Place::new();
    let mount = Mount::new(place.path("disk"), &["-t", "tmpfs", "-o", "size=4m", "tmpfs"]);
    std::os::unix::fs::symlink(mount.at.join("app.db"), place.path("app.db")).unwrap();
    let scene = Scene { place };
    let application = scene.application("WAL");
    application.execute_batch("CREATE TABLE t(x)").unwrap();
    insert(&application, 20);
    // A WAL that has room for what comes, while the database file has none.
    (0..50).for_each(|_| application.execute_batch("UPDATE t SET x = randomblob(2000)").unwrap());
    let replicating = scene.start();
    scene.wait_until_stored();
    mount.fill();
    for _ in 0..3 {
        let (files, stored) = (scene.stored_files(), scene.status()["position"]["txid"].clone());
        insert(&application, 5);
        let is_stored = |status: &serde_json::Value| {
            status["position"]["txid"] != stored && status["unreplicatedBytes"] == 0
        };
        scene.wait_for(is_stored, "that all is stored");
        assert!(scene.stored_files() > files);
        let status = scene.wait_for_trouble("DatabaseUnreadable");
        assert!(status["message"].as_str().unwrap().contains("full"), "{status}");
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert_eq!(scene.status()["reason"], "DatabaseUnreadable", "it is not over");
    }
    fs::remove_file(mount.at.join("filler")).unwrap();
    scene.wait_until_stored();
    insert(&application, 1);
    scene.wait_until_stored();
    replicating.wait_for("its WAL is copied again");
    assert!(!replicating.log().contains("looking again"), "what was open stayed open");
    scene.stop(replicating);
    scene.compare(36);
}

#[test]
fn a_page_that_a_checkpoint_did_not_copy_is_found_before_it_is_stored_and_stays_refused() {
    let (scene, application) = Scene::new("WAL");
    let args = scene.args();
    let args = args.each_ref().map(|arg| if arg == "100ms" { "10s" } else { arg.as_str() });
    let replicating = scene.place.spawn(&mut support::lifeboat(&args));
    scene.wait_until_stored();
    let (db, kept, time) = (scene.place.text("app.db"), scene.place.text("kept"), scene.place.text("time"));
    machine("cp", &[&db, &kept]);
    // The first commit after a quiet time is stored at once, the second one when the interval is over.
    let files = scene.stored_files();
    insert(&application, 1);
    eventually("its slot", || (scene.stored_files() > files).then_some(()), || scene.status().to_string());
    application.execute_batch("UPDATE t SET x = randomblob(2000) WHERE rowid = 1").unwrap();
    let files = scene.stored_files();
    let is_settled = || (fs::read(&db).unwrap() != fs::read(&kept).unwrap()).then_some(());
    eventually("the WAL to be settled", is_settled, || scene.status().to_string());
    std::thread::sleep(std::time::Duration::from_millis(500));
    replicating.signal(rustix::process::Signal::STOP);
    machine("touch", &["-r", &db, &time]);
    machine("dd", &[&format!("if={kept}"), &format!("of={db}"), "conv=notrunc", "status=none"]);
    machine("touch", &["-r", &time, &db]);
    replicating.signal(rustix::process::Signal::CONT);
    let (status, log) = replicating.ends();
    assert_eq!(status.code(), Some(6), "{log}");
    assert!(log.contains("is not what was last committed"), "{log}");
    assert_eq!(scene.stored_files(), files, "nothing of it is stored");
    // Nobody who comes later knows what the WAL said.
    let again = scene.place.run(&args);
    again.says(6, &["is not what was last committed", "damaged.json"]);
    assert_eq!(scene.stored_files(), files, "nor later");
    drop(application);
    let restored = ["restore", "--force", "-o", &db, args[2]];
    scene.place.run(&restored).says(0, &["restored"]);
    let application = scene.application("WAL");
    let replicating = scene.start();
    insert(&application, 1);
    scene.wait_until_stored();
    scene.stop(replicating);
    scene.compare(22);
}

#[test]
fn an_application_whose_sqlite_can_lose_commits_is_told_so() {
    let (scene, application) = Scene::new("WAL");
    let replicating = scene.start();
    let stored = scene.wait_for(|status| status["sqliteVersion"].is_string(), "a version");
    assert_eq!(stored["sqliteVersion"], rusqlite::version());
    assert_eq!(stored["hasWalResetRace"], false, "ours has no such race");
    scene.stop(replicating);
    drop(application);
    // 3.45.1, in the header of the file.
    let header = scene.place.text("version");
    fs::write(&header, 3_045_001_u32.to_be_bytes()).unwrap();
    machine(
        "dd",
        &[
            &format!("if={header}"),
            &format!("of={}", scene.place.text("app.db")),
            "bs=1",
            "seek=96",
            "conv=notrunc",
            "status=none",
        ],
    );
    let replicating = scene.start();
    let stored = scene.wait_for(|status| status["sqliteVersion"].is_string(), "a version");
    assert_eq!((&stored["sqliteVersion"], &stored["hasWalResetRace"]), (&"3.45.1".into(), &true.into()));
    replicating.wait_for("SQLite 3.45.1");
    scene.stop(replicating);
}
