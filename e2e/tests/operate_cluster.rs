//! Life with the operator, and without it.

use anyhow::{Context as _, Result, ensure};
use lifeboat_api::{ConditionStatus, ConditionType};
use lifeboat_e2e::app::{DATABASE, Delete, Labelled, NAME, POD};
use lifeboat_e2e::lineage::{Lineage, last_restorable_row};
use lifeboat_e2e::outage::without_operator;
use lifeboat_e2e::wait::{PATIENTLY, SOON};
use lifeboat_e2e::{App, Namespace, in_namespace, note, pods, until};

#[tokio::test]
async fn the_status_of_a_protected_database_is_true_in_every_condition_and_readable_in_columns() -> Result<()>
{
    in_namespace("conditions", async |namespace| {
        let app = App::start(namespace).await?;
        until(SOON, "all conditions", async || {
            let status = namespace.replicas().get(NAME).await?.status.context("there is no status")?;
            for type_ in ConditionType::ALL {
                let condition = status.condition(type_).with_context(|| format!("{type_} is missing"))?;
                ensure!(condition.status == ConditionStatus::True, "{type_}: {}", condition.message);
            }
            let main = status.databases.iter().find(|database| database.name == DATABASE);
            let main = main.context("the database is missing in the status")?;
            ensure!(main.pod.as_deref() == Some(POD), "its pod is {:?}", main.pod);
            main.position.as_ref().context("the status names no position").map(drop)
        })
        .await?;
        let table = namespace.kubectl(&["get", "sqr"]).await?;
        note(&table);
        let (header, row) = table.split_once('\n').context("a table of one line")?;
        let columns: Vec<_> = header.split_whitespace().collect();
        ensure!(
            columns == ["NAME", "WORKLOAD", "READY", "RESTORED", "REPLICATING", "REASON", "AGE"],
            "the columns are {columns:?}"
        );
        let cells: Vec<_> = row.split_whitespace().take(5).collect();
        ensure!(cells == [NAME, NAME, "True", "True", "True"], "the cells are {cells:?}");
        app.scale(0).await
    })
    .await
}

#[tokio::test]
async fn without_the_operator_running_pods_keep_replicating_and_new_ones_wait() -> Result<()> {
    in_namespace("absent", async |namespace| {
        let app = App::start(namespace).await?;
        let following = app.follow().await?;
        without_operator(&namespace.lab, async || {
            keeps_replicating(namespace, &app).await?;
            let old = app.pod().await?;
            app.delete(Delete::Gracefully).await?;
            until(PATIENTLY, "the refusal of a new pod", async || {
                // The old one may still be there, ending.
                let present = namespace.pods().get_opt(POD).await?;
                let is_old = present.as_ref().is_none_or(|pod| pods::uid(pod) == pods::uid(&old));
                ensure!(is_old, "a pod was created without the webhook");
                ensure!(present.is_none(), "the old pod is still ending");
                let events =
                    namespace.kubectl(&["get", "events", "--field-selector=reason=FailedCreate"]).await?;
                ensure!(events.contains("lifeboat"), "no event says why there is no pod: {events}");
                Ok(())
            })
            .await
        })
        .await?;
        let before = following.finish().await?;
        app.await_protected().await?;
        let after = app.await_rows(1).await?;
        ensure!(
            before.last() == after.last_at_start,
            "{} rows before, {} after",
            before.last(),
            after.last_at_start
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn two_namespaces_with_the_same_names_do_not_mix() -> Result<()> {
    in_namespace("left", async |left| {
        in_namespace("right", async |right| {
            let (here, there) = (App::start(left).await?, App::create(right, Labelled::ByItsAuthor).await?);
            there.await_protected().await?;
            // The left one is ahead, so that a mix-up would show.
            ensure!(here.rows().await?.last > there.rows().await?.last, "both have the same rows");
            let replaced = Box::pin(futures::future::try_join(
                here.replace(Delete::Gracefully),
                there.replace(Delete::Gracefully),
            ));
            for (replacement, name) in <[_; 2]>::from(replaced.await?).iter().zip([&left.name, &right.name]) {
                note(&format!("{name}: {}", replacement.summary()));
                ensure!(replacement.lost() == 0, "{name}: {}", replacement.summary());
            }
            for (app, namespace) in [(here, left), (there, right)] {
                let lineage = Lineage::read(&namespace.lab.bucket, &app.bucket_path()).await?;
                ensure!(
                    lineage.namespace == namespace.name,
                    "{} is owned by {}",
                    namespace.name,
                    lineage.namespace
                );
            }
            Ok(())
        })
        .await
    })
    .await
}

/// A row that is committed now is in the bucket a little later.
async fn keeps_replicating(namespace: &Namespace, app: &App<'_>) -> Result<()> {
    let now = app.rows().await?.last;
    until(SOON, "later rows in the bucket", async || {
        let stored = last_restorable_row(&namespace.lab.bucket, &app.bucket_path()).await?;
        ensure!(stored > now, "row {now} was committed, the bucket has {stored}");
        Ok(())
    })
    .await
}
