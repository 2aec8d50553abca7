//! A pod loses its volume, and its replacement begins where it ended.

use std::time::Duration;

use anyhow::{Result, ensure};
use lifeboat_e2e::app::{Delete, Labelled, SYNC_INTERVAL};
use lifeboat_e2e::bucket::Bucket;
use lifeboat_e2e::lineage::{Lineage, last_restorable_row};
use lifeboat_e2e::outage::without_bucket;
use lifeboat_e2e::wait::PATIENTLY;
use lifeboat_e2e::{App, Namespace, in_namespace, note, pods, until};
use lifeboat_wire::{Outcome, Reason};

/// What one PUT may take on a machine with two busy cores; it takes milliseconds on an idle one.
const ONE_PUT: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_graceful_delete_loses_nothing() -> Result<()> {
    in_namespace("graceful", async |namespace| {
        let app = App::start(namespace).await?;
        for _ in 0..2 {
            let replacement = app.replace(Delete::Gracefully).await?;
            note(&format!("graceful delete: {}", replacement.summary()));
            ensure!(replacement.before.stopped_in_order, "the application was not given the time to stop");
            ensure!(replacement.lost() == 0, "lost rows: {}", replacement.summary());
        }
        check_restored(&app).await
    })
    .await
}

#[tokio::test]
async fn a_forced_delete_loses_at_most_one_sync_interval_and_one_put() -> Result<()> {
    in_namespace("forced", async |namespace| loses_at_most_the_promised(namespace, Delete::ByForce).await)
        .await
}

#[tokio::test]
async fn a_pod_that_hangs_and_is_deleted_by_force_loses_at_most_one_sync_interval_and_one_put() -> Result<()>
{
    in_namespace("frozen", async |namespace| loses_at_most_the_promised(namespace, Delete::Frozen).await)
        .await
}

#[tokio::test]
async fn while_the_bucket_is_unreachable_a_new_pod_waits_and_says_why_and_never_starts_empty() -> Result<()> {
    in_namespace("outage", async |namespace| {
        let app = App::start(namespace).await?;
        let following = app.follow().await?;
        app.scale(0).await?;
        let before = following.finish().await?.last();
        without_bucket(&namespace.lab, async || {
            app.scale(1).await?;
            let words = until(PATIENTLY, "the restore step's reason", async || {
                let pod = app.pod().await?;
                ensure!(!pods::app_was_started(&pod), "the application runs without its database");
                pods::restore_words(&pod)
            })
            .await?;
            note(&format!("kubectl describe pod shows: {}", words.1.message));
            ensure!(words.0.exit_code == 5, "the restore step ended with {}", words.0.exit_code);
            ensure!(words.1.reason == Some(Reason::StoreUnavailable), "the reason is {:?}", words.1.reason);
            ensure!(
                words.1.message.contains(&namespace.lab.bucket.name),
                "the message does not name the bucket"
            );
            ensure!(!pods::app_was_started(&app.pod().await?), "the application runs without its database");
            Ok(())
        })
        .await?;
        app.await_protected().await?;
        let after = app.await_rows(1).await?;
        ensure!(
            after.last_at_start == before,
            "row {before} was committed, {} came back",
            after.last_at_start
        );
        check_restored(&app).await
    })
    .await
}

#[tokio::test]
async fn a_bucket_that_does_not_exist_is_not_taken_for_an_empty_one() -> Result<()> {
    in_namespace("typo", async |namespace| {
        let typo = Bucket { name: "lifebaot".to_owned(), ..namespace.lab.bucket.clone() };
        let app = App::create_in(namespace, &typo, Labelled::ByItsAuthor).await?;
        is_refused(&app, Reason::BucketNotFound, "lifebaot").await
    })
    .await
}

#[tokio::test]
async fn keys_that_the_bucket_refuses_keep_a_pod_from_starting_until_they_are_right() -> Result<()> {
    in_namespace("keys", async |namespace| {
        let bucket = &namespace.lab.bucket;
        namespace.set_keys(&bucket.access_key_id, "not-the-secret").await?;
        let app = App::create(namespace, Labelled::ByItsAuthor).await?;
        is_refused(&app, Reason::StoreAccessDenied, &bucket.name).await?;
        namespace.set_keys(&bucket.access_key_id, &bucket.secret_access_key).await?;
        app.await_protected().await
    })
    .await
}

/// The restore step ends at once with a refusal, and the application does not start.
async fn is_refused(app: &App<'_>, reason: Reason, word: &str) -> Result<()> {
    let (ended, words) =
        until(PATIENTLY, "the refusal", async || pods::restore_words(&app.pod().await?)).await?;
    note(&words.message);
    ensure!(ended.exit_code == 4, "the restore step ended with {}", ended.exit_code);
    ensure!(words.reason == Some(reason), "the reason is {:?}", words.reason);
    ensure!(words.message.contains(word), "the message does not name {word}: {}", words.message);
    ensure!(!pods::app_was_started(&app.pod().await?), "the application runs without its database");
    Ok(())
}

/// Twice, because the second time there is a predecessor's restored database to lose.
async fn loses_at_most_the_promised(namespace: &Namespace, how: Delete) -> Result<()> {
    let app = App::start(namespace).await?;
    let before = Lineage::read(&namespace.lab.bucket, &app.bucket_path()).await?;
    for _ in 0..2 {
        let replacement = app.replace(how).await?;
        note(&format!("{how:?}: {}", replacement.summary()));
        let promised = replacement.before.last_older_than(SYNC_INTERVAL + ONE_PUT);
        ensure!(
            replacement.after.last_at_start >= promised,
            "row {promised} was committed {:?} before the end and is gone: {}",
            SYNC_INTERVAL + ONE_PUT,
            replacement.summary()
        );
    }
    check_restored(&app).await?;
    let lineage = check_one_lineage(namespace, &app, &before).await?;
    note(&format!(
        "{} slots by {} writers, {} seals",
        lineage.writers.len(),
        lineage.writer_count(),
        lineage.seals
    ));
    Ok(())
}

/// The pod's own words: its database was rebuilt.
async fn check_restored(app: &App<'_>) -> Result<()> {
    let (_, words) = pods::restore_words(&app.pod().await?)?;
    let restored = words.databases.iter().all(|database| database.outcome == Outcome::Restored);
    ensure!(restored && words.databases.len() == 1, "the restore step says {words:?}");
    Ok(())
}

/// Old and new pods have written at the same time for some seconds: one chain of writers came out of it.
async fn check_one_lineage(namespace: &Namespace, app: &App<'_>, before: &Lineage) -> Result<Lineage> {
    app.scale(0).await?;
    let (bucket, path) = (&namespace.lab.bucket, app.bucket_path());
    let after = Lineage::read(bucket, &path).await?;
    ensure!(after.id == before.id, "a second lineage was begun");
    ensure!(after.state == "closed", "the last writer ended in order, but the head is {}", after.state);
    ensure!(after.writers.starts_with(&before.writers), "the past was changed");
    ensure!(after.seals >= 2, "{} seals after two takeovers", after.seals);
    last_restorable_row(bucket, &path).await?;
    Ok(after)
}
