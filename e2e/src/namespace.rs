//! One namespace for each test, cleared away afterwards.

use std::fmt::Write as _;
use std::time::Instant;

use anyhow::{Context as _, Result};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Namespace as KubeNamespace, Pod, Secret};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use lifeboat_api::SqliteReplica;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::lab::{Lab, OPERATOR_NAMESPACE};

/// The Secret with the keys of the lab's bucket, in every test's namespace.
pub const SECRET: &str = "s3-credentials";

/// A namespace under the restricted Pod Security Standard, with the keys of the lab's bucket in it.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// The lab it is in.
    pub lab: Lab,
    /// Its name.
    pub name: String,
}

/// Runs a test in a namespace of its own, and shows what is in there when the test fails.
///
/// # Errors
/// The test's own.
pub async fn in_namespace(purpose: &str, test: impl AsyncFnOnce(&Namespace) -> Result<()>) -> Result<()> {
    let namespace = Namespace::make(&Lab::join().await?, purpose).await?;
    let began = Instant::now();
    let result = Box::pin(test(&namespace)).await;
    match &result {
        Ok(()) => note(&format!("{}: done in {:.1} s", namespace.name, began.elapsed().as_secs_f64())),
        Err(_) => note(&namespace.evidence().await),
    }
    namespace.remove().await?;
    result
}

/// Tells whoever reads a test's output what it saw.
#[expect(clippy::print_stdout, reason = "the test harness shows or swallows what tests print")]
pub fn note(line: &str) {
    println!("{line}");
}

impl Namespace {
    /// Makes a namespace and the Secret in it.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn make(lab: &Lab, purpose: &str) -> Result<Self> {
        let namespaces: Api<KubeNamespace> = Api::all(lab.client.clone());
        let namespace = serde_json::from_value(json!({"metadata": {
            "generateName": format!("e2e-{purpose}-"),
            "labels": {"lifeboat-e2e": "true", "pod-security.kubernetes.io/enforce": "restricted"},
        }}))?;
        let made = namespaces.create(&PostParams::default(), &namespace).await.context("make a namespace")?;
        let namespace = Self { lab: lab.clone(), name: made.name_any() };
        namespace.set_keys(&lab.bucket.access_key_id, &lab.bucket.secret_access_key).await?;
        Ok(namespace)
    }

    /// Writes the Secret with the keys for the bucket, over the one that is there.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn set_keys(&self, access_key_id: &str, secret_access_key: &str) -> Result<()> {
        let secrets: Api<Secret> = Api::namespaced(self.lab.client.clone(), &self.name);
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": SECRET},
            "stringData": {"AWS_ACCESS_KEY_ID": access_key_id, "AWS_SECRET_ACCESS_KEY": secret_access_key},
        });
        let params = PatchParams::apply("lifeboat-e2e").force();
        secrets.patch(SECRET, &params, &Patch::Apply(secret)).await.context("write the keys")?;
        Ok(())
    }

    /// Begins to remove the namespace; the cluster ends that by itself.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn remove(&self) -> Result<()> {
        let namespaces: Api<KubeNamespace> = Api::all(self.lab.client.clone());
        namespaces.delete(&self.name, &DeleteParams::background()).await?;
        Ok(())
    }

    /// The pods in it.
    #[must_use]
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.lab.client.clone(), &self.name)
    }

    /// The StatefulSets in it.
    #[must_use]
    pub fn stateful_sets(&self) -> Api<StatefulSet> {
        Api::namespaced(self.lab.client.clone(), &self.name)
    }

    /// The replicas in it.
    #[must_use]
    pub fn replicas(&self) -> Api<SqliteReplica> {
        Api::namespaced(self.lab.client.clone(), &self.name)
    }

    /// Creates an object from its manifest, without `apiVersion` and `kind`.
    ///
    /// # Errors
    /// When the API server refuses it: with its words.
    pub async fn create<K>(&self, manifest: Value) -> Result<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
        K: Clone + std::fmt::Debug + DeserializeOwned + Serialize,
    {
        let object: K = serde_json::from_value(manifest)?;
        let api = Api::<K>::namespaced(self.lab.client.clone(), &self.name);
        let what = || format!("create {} {} in {}", K::kind(&()), object.name_any(), self.name);
        api.create(&PostParams::default(), &object).await.with_context(what)
    }

    /// What kubectl prints, for a command in this namespace.
    ///
    /// # Errors
    /// When kubectl fails: with what it said.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.lab.kubectl(&[&["--namespace", &self.name], args].concat()).await
    }

    /// Everything that helps to understand a failure.
    pub async fn evidence(&self) -> String {
        let mut text = format!("==== evidence from namespace {}\n", self.name);
        let looks: [&[&str]; 5] = [
            &["get", "sqlitereplicas,statefulsets,pods", "--output=wide"],
            &["describe", "pods"],
            &["describe", "sqlitereplicas"],
            &["get", "events", "--sort-by=.lastTimestamp"],
            &["logs", "--all-containers", "--prefix", "--tail=40", "--selector=app=shop", "--ignore-errors"],
        ];
        for look in looks {
            let seen = self.kubectl(look).await.unwrap_or_else(|error| format!("{error:#}\n"));
            // Writing into a String cannot fail.
            let _ = writeln!(text, "---- kubectl {}\n{seen}", look.join(" "));
        }
        let operator = [
            "--namespace",
            OPERATOR_NAMESPACE,
            "logs",
            "--tail=60",
            "--selector=app.kubernetes.io/name=lifeboat-operator",
        ];
        let seen = self.lab.kubectl(&operator).await.unwrap_or_else(|error| format!("{error:#}\n"));
        let _ = writeln!(text, "---- the operator\n{seen}");
        text
    }
}
