//! API servers for tests: one that answers with a given replica, and one that never answers.

use std::sync::{Arc, Mutex};

use axum::Json;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use kube::runtime::events::{Recorder, Reporter};
use kube::{Client, Config};
use lifeboat_inject::Defaults;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::controller::Shared;
use crate::scrape::Scraper;

pub(crate) fn replica() -> Value {
    json!({
        "apiVersion": "lifeboat.dev/v1alpha1",
        "kind": "SqliteReplica",
        "metadata": { "name": "shop", "namespace": "prod", "uid": "u-r", "generation": 3 },
        "spec": {
            "workloadRef": { "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "shop" },
            "databases": [{ "name": "main", "path": "/data/app.db" }],
            "store": { "s3": { "bucket": "acme", "auth": { "secretRef": { "name": "s3" } } } },
        },
    })
}

pub(crate) fn shared(client: Client) -> Shared {
    Shared {
        recorder: Recorder::new(client.clone(), Reporter { controller: "lifeboat".into(), instance: None }),
        scraper: Scraper::new(),
        defaults: Defaults {
            image: "i".to_owned(),
            image_pull_policy: None,
            version: "0.1.0".to_owned(),
            cluster: "c".to_owned(),
        },
        client,
    }
}

fn client(listener: &TcpListener) -> Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let url = format!("http://{}", listener.local_addr().unwrap());
    Client::try_from(Config::new(url.parse().unwrap())).unwrap()
}

/// A client of a server that takes connections and says nothing.
pub(crate) async fn silent() -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = client(&listener);
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.push(stream);
        }
    });
    client
}

/// A server that reads out one replica, or none, takes every change, and remembers what it was asked.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    replica: Option<Value>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Answers {
    pub(crate) fn new(replica: Option<Value>) -> Self {
        Self { replica, requests: Arc::default() }
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) async fn serve(&self) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = client(&listener);
        let answers = self.clone();
        let answer = move |method, uri| std::future::ready(answers.answer(&method, &uri));
        let router = axum::Router::new().fallback(answer);
        tokio::spawn(async move { axum::serve(listener, router).await });
        client
    }

    fn answer(&self, method: &Method, uri: &Uri) -> Response {
        self.requests.lock().unwrap().push(format!("{method} {}", uri.path()));
        let is_change = method == Method::PATCH;
        let changed =
            || json!({ "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "shop" } });
        let found = if is_change { Some(changed()) } else { self.replica.clone() };
        let gone = || json!({ "kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404 });
        match found {
            Some(object) => Json(object).into_response(),
            None => (StatusCode::NOT_FOUND, Json(gone())).into_response(),
        }
    }
}
