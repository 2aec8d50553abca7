//! The rules of `SqliteReplica`, asked of the real API server: every obvious mistake is refused, with words that help.

use anyhow::{Context as _, Result, ensure};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use lifeboat_api::SqliteReplica;
use lifeboat_e2e::{Namespace, in_namespace};
use serde_json::{Value, json};

/// A change of the good manifest and a word of the refusal that it must meet.
type Mistake = (&'static str, Value, &'static str);

#[tokio::test]
async fn every_obvious_mistake_is_refused_with_words_that_help() -> Result<()> {
    in_namespace("rules", async |namespace| {
        create(namespace, &good()).await.context("the good manifest was refused")?;
        for (place, value, word) in mistakes() {
            let mut manifest = good();
            set(&mut manifest, place, value.clone())?;
            let refusal = create(namespace, &manifest).await.err();
            let words = format!("{:#}", refusal.with_context(|| format!("{place}: {value} was accepted"))?);
            ensure!(words.contains(word), "{place}: {value} was refused without the word {word}: {words}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_says_where_a_database_lies_cannot_be_changed_and_the_rest_can() -> Result<()> {
    in_namespace("immutable", async |namespace| {
        let replica: SqliteReplica = namespace.create(good()).await?;
        let api = api(namespace);
        let params = PatchParams { dry_run: true, ..PatchParams::default() };
        let name = replica.metadata.name.context("the replica has no name")?;
        for (place, value, word) in [
            ("/spec/workloadRef/name", json!("other"), "create another SqliteReplica"),
            ("/spec/databases/0/path", json!("/data/other.db"), "path of a database cannot be changed"),
            ("/spec/store/s3/bucket", json!("other"), "left behind"),
            ("/spec/store/s3/prefix", json!("other"), "left behind"),
            ("/spec/store/s3/endpoint", json!("https://other"), "left behind"),
        ] {
            let mut manifest = good();
            set(&mut manifest, place, value.clone())?;
            let refusal = api.patch(&name, &params, &Patch::Merge(&manifest)).await.err();
            let words = refusal.with_context(|| format!("{place} was changed to {value}"))?.to_string();
            ensure!(words.contains(word), "{place}: {value} was refused without the word {word}: {words}");
        }
        for (place, value) in [
            ("/spec/store/s3/region", json!("eu-central-1")),
            ("/spec/store/s3/prefix", json!(null)),
            ("/spec/replication", json!({"syncInterval": "100ms"})),
            ("/spec/replication", json!({"syncInterval": "1h"})),
            ("/spec/replication", json!({"maxRequestsPerDay": 24, "maxLag": "24h"})),
            ("/spec/replication", json!({"levels": ["1m", "1m", "2h"]})),
            ("/spec/replication", json!({"levels": ["5m"], "snapshot": {"maxLogRatio": 0.5}})),
            ("/spec/replication", json!({"snapshot": {"interval": "720h", "maxLogRatio": 1}})),
            ("/spec/retention", json!({"window": "720h"})),
            ("/spec/databases/1", json!({"name": "second", "path": "/data/second.db"})),
        ] {
            let mut manifest = good();
            set(&mut manifest, place, value.clone())?;
            api.patch(&name, &params, &Patch::Merge(&manifest))
                .await
                .with_context(|| format!("{place}: {value}"))?;
        }
        Ok(())
    })
    .await
}

fn mistakes() -> Vec<Mistake> {
    let mut all = mistakes_about_databases();
    all.extend([
        ("/metadata/name", json!("a".repeat(53)), "at most 52 characters"),
        ("/spec/workloadRef/kind", json!("DaemonSet"), "Unsupported value"),
        ("/spec/workloadRef/kind", json!("CronJob"), "does not fit the kind"),
        ("/spec/store/s3/bucket", json!("Shop"), "spec.store.s3.bucket"),
        ("/spec/store/s3/prefix", json!("/shop"), "spec.store.s3.prefix"),
        ("/spec/store/s3/prefix", json!("shop/"), "spec.store.s3.prefix"),
        ("/spec/store/s3/prefix", json!("shop/../other"), "must be clean"),
        ("/spec/store/s3/endpoint", json!("http://s3.example"), "allowInsecureEndpoint"),
        ("/spec/store/s3/endpoint", json!("https://key:secret@s3.example"), "spec.store.s3.endpoint"),
        ("/spec/store/s3/auth", json!({}), "secretRef"),
        ("/spec/replication", json!({"syncInterval": "99ms"}), "between 100ms and 1h"),
        ("/spec/replication", json!({"syncInterval": "61m"}), "between 100ms and 1h"),
        ("/spec/replication", json!({"syncInterval": "soon"}), "syncInterval"),
    ]);
    all.extend(mistakes_about_history());
    all
}

fn mistakes_about_history() -> Vec<Mistake> {
    let levels = |levels: &[&str]| json!({"levels": levels});
    vec![
        ("/spec/replication", json!({"maxRequestsPerDay": 23}), "greater than or equal to 24"),
        ("/spec/replication", json!({"maxRequestsPerDay": 1_000_000_001}), "maxRequestsPerDay"),
        (
            "/spec/replication",
            json!({"syncInterval": "10s", "maxLag": "9s"}),
            "at least as long as syncInterval",
        ),
        ("/spec/replication", json!({"maxLag": "900ms"}), "at least as long as syncInterval"),
        ("/spec/replication", json!({"maxLag": "25h"}), "at most 24h"),
        ("/spec/replication", levels(&[]), "at least 1 items"),
        ("/spec/replication", levels(&["1s", "2s", "3s", "4s"]), "at most 3 items"),
        ("/spec/replication", levels(&["999ms"]), "at least 1s"),
        ("/spec/replication", levels(&["6m"]), "as long as the one before"),
        ("/spec/replication", levels(&["1m", "2h"]), "as long as the one before"),
        ("/spec/replication", levels(&["1m", "30s", "1h"]), "as long as the one before"),
        ("/spec/replication", json!({"snapshot": {"interval": "0s"}}), "at least 1s"),
        ("/spec/replication", json!({"snapshot": {"maxLogRatio": 0}}), "at least 0.01"),
        ("/spec/replication", json!({"snapshot": {"maxLogRatio": 0.009}}), "at least 0.01"),
        ("/spec/replication", json!({"snapshot": {"maxLogRatio": 1001}}), "less than or equal to 1000"),
        ("/spec/retention", json!({"window": "59s"}), "at least 1m"),
        ("/spec/retention", json!({"window": "1w"}), "spec.retention.window"),
    ]
}

fn mistakes_about_databases() -> Vec<Mistake> {
    let two = |first: (&str, &str), second: (&str, &str)| json!([{"name": first.0, "path": first.1}, {"name": second.0, "path": second.1}]);
    vec![
        ("/spec/databases", json!([]), "at least 1 items"),
        ("/spec/databases", two(("a", "/d/a"), ("b", "/d/a")), "list every database once"),
        ("/spec/databases", two(("a", "/d/a"), ("a", "/d/b")), "Duplicate value"),
        ("/spec/databases/0/name", json!("Main"), "name"),
        ("/spec/databases/0/name", json!("a".repeat(41)), "40"),
        ("/spec/databases/0/path", json!("data/app.db"), "path"),
        ("/spec/databases/0/path", json!("/data/"), "path"),
        ("/spec/databases/0/path", json!("/data//app.db"), "path"),
        ("/spec/databases/0/path", json!("/data/$HOME/app.db"), "path"),
        ("/spec/databases/0/path", json!("/data/../app.db"), "must be clean"),
        ("/spec/databases/0/path", json!("/data/app.db-wal"), "not of its -wal"),
    ]
}

fn good() -> Value {
    json!({
        "apiVersion": "lifeboat.dev/v1alpha1",
        "kind": "SqliteReplica",
        "metadata": {"name": "rules"},
        "spec": {
            "workloadRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "nobody"},
            "databases": [{"name": "main", "path": "/data/app.db"}],
            "store": {"s3": {"bucket": "shop", "auth": {"secretRef": {"name": "s3-credentials"}}}},
        },
    })
}

/// Puts a value at a place of a manifest, whether something is there or not.
fn set(manifest: &mut Value, place: &str, value: Value) -> Result<()> {
    let (parent, name) = place.rsplit_once('/').context("a place begins with a slash")?;
    let parent = manifest.pointer_mut(parent).with_context(|| format!("there is no {parent}"))?;
    match parent.as_array_mut() {
        Some(items) if name.parse() == Ok(items.len()) => items.push(value),
        Some(items) => items[name.parse::<usize>()?] = value,
        None => parent[name] = value,
    }
    Ok(())
}

fn api(namespace: &Namespace) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<SqliteReplica>(&());
    Api::namespaced_with(namespace.lab.client.clone(), &namespace.name, &resource)
}

/// Asks whether a manifest would be accepted; nothing is stored.
async fn create(namespace: &Namespace, manifest: &Value) -> Result<()> {
    let object: DynamicObject = serde_json::from_value(manifest.clone())?;
    let params = PostParams { dry_run: true, ..PostParams::default() };
    api(namespace).create(&params, &object).await?;
    Ok(())
}
