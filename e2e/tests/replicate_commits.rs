//! Commits of a running pod reach the bucket, and whoever reads the bucket finds one true database.

use anyhow::{Context as _, Result, ensure};
use lifeboat_e2e::app::DATABASE;
use lifeboat_e2e::lineage::{Lineage, last_restorable_row};
use lifeboat_e2e::wait::SOON;
use lifeboat_e2e::{App, in_namespace, note, until};

#[tokio::test]
async fn what_a_running_pod_has_committed_can_be_restored_on_another_machine() -> Result<()> {
    in_namespace("commits", async |namespace| {
        let app = App::start(namespace).await?;
        let (bucket, path) = (&namespace.lab.bucket, app.bucket_path());
        let seen = app.rows().await?.last;
        let restored = until(SOON, "the rows in the bucket", async || {
            let last = last_restorable_row(bucket, &path).await?;
            ensure!(last >= seen, "row {seen} was committed, the bucket has {last}");
            Ok(last)
        })
        .await?;
        note(&format!("row {seen} was seen in the pod, row {restored} came out of the bucket"));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_sidecar_tells_where_it_stands_and_moves_on() -> Result<()> {
    in_namespace("status", async |namespace| {
        let app = App::start(namespace).await?;
        let position = async || {
            let status = app.sidecar().await?;
            let main = status.databases.into_iter().find(|database| database.name == DATABASE);
            let main = main.context("the sidecar does not know of the database")?;
            ensure!(main.verdict.is_none(), "the sidecar is not well: {}", main.message);
            main.position.map(|position| position.txid).context("nothing is stored yet")
        };
        let first = until(SOON, "a first position", position).await?;
        until(SOON, "a later position", async || {
            let now = position().await?;
            ensure!(now > first, "still at {now}");
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test]
async fn every_start_of_a_pod_is_one_more_writer_of_one_lineage() -> Result<()> {
    in_namespace("writers", async |namespace| {
        let app = App::start(namespace).await?;
        let (bucket, path) = (&namespace.lab.bucket, app.bucket_path());
        app.scale(0).await?;
        let first = Lineage::read(bucket, &path).await?;
        ensure!(first.state == "closed", "an orderly end leaves the head {}", first.state);
        app.scale(1).await?;
        app.await_protected().await?;
        app.await_rows(1).await?;
        app.scale(0).await?;
        let second = Lineage::read(bucket, &path).await?;
        ensure!(second.id == first.id, "the second pod began another lineage");
        ensure!(second.epoch > first.epoch, "the second pod wrote as {} after {}", second.epoch, first.epoch);
        ensure!(second.writers.starts_with(&first.writers), "the past was changed");
        ensure!(second.namespace == namespace.name, "the owner is in namespace {}", second.namespace);
        Ok(())
    })
    .await
}
