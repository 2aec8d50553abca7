//! The example application in a namespace: a StatefulSet on a volume that does not outlive its pod, protected by a replica.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use axum::http::Request;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use lifeboat_api::names::LABEL_REPLICA;
use lifeboat_api::{ConditionStatus, ConditionType, SqliteReplica};
use lifeboat_wire::{STATUS_PATH, STATUS_PORT, Status};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::bucket::Bucket;
use crate::namespace::{Namespace, SECRET};
use crate::pods;
use crate::rows::Rows;
use crate::wait::{PATIENTLY, SOON, until};
use crate::{Ledger, ledger::Following};

/// Name of the StatefulSet, of its replica, and the stem of its pod's name.
pub const NAME: &str = "shop";

/// Name of the one pod.
pub const POD: &str = "shop-0";

/// Name of the one database.
pub const DATABASE: &str = "main";

/// Longest time a commit waits before it is sent.
pub const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// Port of the application's HTTP server.
const APP_PORT: u16 = 8080;

/// Who writes our label into the pod template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labelled {
    /// The author of the manifest: no pod is ever created without our containers.
    ByItsAuthor,
    /// The operator, once it has seen workload and replica.
    ByTheOperator,
}

/// How a pod is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delete {
    /// With its grace period.
    Gracefully,
    /// With a grace period of 0: the API server forgets it at once, its containers live on for some seconds.
    ByForce,
    /// By force, after every process of it was stopped where it stood: what a node that hangs leaves behind. Works on
    /// the lab's own nodes only, where the test sees the processes.
    Frozen,
}

/// What a delete of the pod has cost.
#[derive(Clone, Debug)]
pub struct Replacement {
    /// Everything that the old pod's application had committed.
    pub before: Ledger,
    /// What the new one found and has.
    pub after: Rows,
    /// From the delete until the new pod was ready.
    pub took: Duration,
}

impl Replacement {
    /// How many committed rows did not come back.
    #[must_use]
    pub fn lost(&self) -> i64 {
        self.before.last() - self.after.last_at_start
    }

    /// One line for whoever reads a test's output.
    #[must_use]
    pub fn summary(&self) -> String {
        let end = if self.before.stopped_in_order { "stopped in order" } else { "was killed" };
        let (before, after) = (self.before.last(), self.after.last_at_start);
        let took = self.took.as_secs_f64();
        format!(
            "the application {end}; rows before {before}, after {after}, lost {}, ready after {took:.1} s",
            self.lost()
        )
    }
}

/// The application in one namespace.
#[derive(Clone, Copy, Debug)]
pub struct App<'ns> {
    namespace: &'ns Namespace,
}

impl<'ns> App<'ns> {
    /// Applies the replica and the StatefulSet; nothing is waited for.
    ///
    /// # Errors
    /// When the API server refuses either.
    pub async fn create(namespace: &'ns Namespace, labelled: Labelled) -> Result<Self> {
        Self::create_in(namespace, &namespace.lab.bucket, labelled).await
    }

    /// The same with another bucket than the lab's.
    ///
    /// # Errors
    /// When the API server refuses either.
    pub async fn create_in(namespace: &'ns Namespace, bucket: &Bucket, labelled: Labelled) -> Result<Self> {
        namespace.create::<SqliteReplica>(replica(bucket)).await?;
        namespace.create::<StatefulSet>(stateful_set(labelled)).await?;
        Ok(Self { namespace })
    }

    /// Applies both and waits until the database is protected and rows are there.
    ///
    /// # Errors
    /// When that takes too long: what is missing.
    pub async fn start(namespace: &'ns Namespace) -> Result<Self> {
        let app = Self::create(namespace, Labelled::ByItsAuthor).await?;
        app.await_protected().await?;
        app.await_rows(10).await?;
        Ok(app)
    }

    /// Waits until the replica is Ready and its workload has no rollout under way.
    ///
    /// # Errors
    /// When that takes too long: what is missing.
    pub async fn await_protected(&self) -> Result<()> {
        until(PATIENTLY, "a protected database", async || {
            let replica = self.namespace.replicas().get(NAME).await?;
            let status = replica.status.as_ref().context("the operator has not looked at the replica yet")?;
            let seen = status.observed_generation;
            ensure!(seen == replica.metadata.generation, "the status is about generation {seen:?}");
            let ready = status.condition(ConditionType::Ready).context("there is no condition Ready yet")?;
            ensure!(ready.status == ConditionStatus::True, "{}: {}", ready.reason, ready.message);
            let set = self.namespace.stateful_sets().get(NAME).await?;
            let progress = set.status.context("the StatefulSet has no status yet")?;
            ensure!(
                progress.observed_generation == set.metadata.generation,
                "a change of the StatefulSet is not seen yet"
            );
            ensure!(progress.current_revision == progress.update_revision, "a rollout is under way");
            let pod = self.pod().await?;
            pods::ensure_ready(&pod)?;
            ensure!(pods::is_injected(&pod), "the pod is bare");
            Ok(())
        })
        .await
    }

    /// Waits until this process of the application has committed that many rows.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn await_rows(&self, count: i64) -> Result<Rows> {
        until(SOON, "rows", async || {
            let rows = self.rows().await?;
            let own = rows.last - rows.last_at_start;
            ensure!(own >= count, "{own} rows of this process so far");
            Ok(rows)
        })
        .await
    }

    /// Deletes the pod, waits until its replacement is ready, and says what that has cost.
    ///
    /// # Errors
    /// When no replacement becomes ready, or its rows are not whole.
    pub async fn replace(&self, how: Delete) -> Result<Replacement> {
        let old = self.pod().await?;
        let following = self.follow().await?;
        let began = Instant::now();
        self.delete(how).await?;
        let new = self.await_other_pod(&pods::uid(&old)).await?;
        let took = began.elapsed();
        ensure!(pods::is_injected(&new), "the replacement is bare");
        let after = self.await_rows(1).await?;
        ensure!(after.integrity == "ok" && after.gaps == 0, "the rows are not whole: {after:?}");
        let before = following.finish().await?;
        let (known, found) = (before.last(), after.last_at_start);
        ensure!(known >= found, "row {found} came back, but the ledger ends with row {known}");
        Ok(Replacement { before, after, took })
    }

    /// Asks for the end of the pod, and returns at once.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn delete(&self, how: Delete) -> Result<()> {
        let grace = match how {
            Delete::Gracefully => DeleteParams::default(),
            Delete::ByForce => DeleteParams::default().grace_period(0),
            Delete::Frozen => {
                pods::freeze_processes(&self.pod().await?).await?;
                DeleteParams::default().grace_period(0)
            }
        };
        self.namespace.pods().delete(POD, &grace).await?;
        Ok(())
    }

    /// Waits until another pod than this one is ready.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn await_other_pod(&self, old_uid: &str) -> Result<Pod> {
        until(PATIENTLY, "the replacement", async || {
            let pod = self.pod().await?;
            ensure!(pods::uid(&pod) != old_uid, "the old pod is still there");
            pods::ensure_ready(&pod)?;
            Ok(pod)
        })
        .await
    }

    /// Scales the workload. At 0, waits until its pod is gone; at 1, nothing is waited for.
    ///
    /// # Errors
    /// When the API server refuses, or the pod does not go.
    pub async fn scale(&self, replicas: u8) -> Result<()> {
        self.namespace.kubectl(&["scale", "statefulset", NAME, &format!("--replicas={replicas}")]).await?;
        if replicas == 0 {
            until(PATIENTLY, "the end of the pod", async || {
                ensure!(self.namespace.pods().get_opt(POD).await?.is_none(), "the pod is still there");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Begins to follow what the present pod's application commits.
    ///
    /// # Errors
    /// When its output cannot be read.
    pub async fn follow(&self) -> Result<Following> {
        Ledger::follow(self.namespace.pods(), POD).await
    }

    /// The pod, whatever state it is in.
    ///
    /// # Errors
    /// When there is none.
    pub async fn pod(&self) -> Result<Pod> {
        self.namespace.pods().get_opt(POD).await?.with_context(|| format!("there is no pod {POD}"))
    }

    /// What the application says about its rows.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn rows(&self) -> Result<Rows> {
        self.ask(APP_PORT, "/rows").await
    }

    /// What the sidecar says about itself.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn sidecar(&self) -> Result<Status> {
        self.ask(STATUS_PORT, STATUS_PATH).await
    }

    /// The sidecar's metrics, as Prometheus reads them.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self) -> Result<String> {
        self.text(STATUS_PORT, "/metrics").await
    }

    /// Where in the bucket the database is stored: the default, `<namespace>/<name>/<database>`.
    #[must_use]
    pub fn bucket_path(&self) -> String {
        format!("{}/{NAME}/{DATABASE}", self.namespace.name)
    }

    async fn ask<T: DeserializeOwned>(&self, port: u16, path: &str) -> Result<T> {
        let answer = self.text(port, path).await?;
        serde_json::from_str(&answer).with_context(|| format!("read {answer}"))
    }

    /// One GET, through the API server, so that it works wherever the test runs.
    async fn text(&self, port: u16, path: &str) -> Result<String> {
        let uri = format!("/api/v1/namespaces/{}/pods/{POD}:{port}/proxy{path}", self.namespace.name);
        let answer = self.namespace.lab.client.request_text(Request::get(uri).body(Vec::new())?).await;
        answer.with_context(|| format!("GET {path} of {POD}"))
    }
}

/// The replica's manifest: the lab's bucket, everything else as by default.
fn replica(bucket: &Bucket) -> Value {
    json!({
        "metadata": {"name": NAME},
        "spec": {
            "workloadRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": NAME},
            "databases": [{"name": DATABASE, "path": "/data/app.db"}],
            "store": {"s3": {
                "bucket": bucket.name,
                "region": bucket.region,
                "endpoint": bucket.endpoint,
                "allowInsecureEndpoint": true,
                "auth": {"secretRef": {"name": SECRET}},
            }},
        },
    })
}

/// The application's manifest, fit for the restricted Pod Security Standard.
fn stateful_set(labelled: Labelled) -> Value {
    let labels = match labelled {
        Labelled::ByItsAuthor => json!({"app": NAME, LABEL_REPLICA: NAME}),
        Labelled::ByTheOperator => json!({"app": NAME}),
    };
    json!({
        "metadata": {"name": NAME},
        "spec": {
            "serviceName": NAME,
            "replicas": 1,
            "selector": {"matchLabels": {"app": NAME}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "securityContext": {
                        "runAsNonRoot": true, "runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [{
                        "name": "app",
                        "image": "lab.local/app:dev",
                        "imagePullPolicy": "IfNotPresent",
                        "args": ["--db=/data/app.db", "--every=100ms"],
                        "ports": [{"name": "http", "containerPort": APP_PORT}],
                        "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 1},
                        "securityContext": {
                            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                            "capabilities": {"drop": ["ALL"]},
                        },
                        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                    }],
                    "volumes": [{"name": "data", "emptyDir": {}}],
                },
            },
        },
    })
}
