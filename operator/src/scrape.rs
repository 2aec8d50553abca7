//! Asks a sidecar for its status. Unauthenticated and read-only; the answer is a report, never an order.

use std::net::IpAddr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use lifeboat_plan::Report;
use lifeboat_wire::{STATUS_PATH, STATUS_PORT, Status};

/// How long a sidecar may take to answer.
const DEADLINE: Duration = Duration::from_secs(3);

/// The longest answer that is read, in bytes: far above that of a pod with thousands of databases.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Asks sidecars.
#[derive(Clone, Debug)]
pub(crate) struct Scraper {
    client: Client<HttpConnector, Empty<Bytes>>,
}

impl Scraper {
    pub(crate) fn new() -> Self {
        // Pods come and go; a kept connection would mostly be to one that is gone.
        Self { client: Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http() }
    }

    /// The status of the sidecar at `pod_ip`, or why it cannot be read.
    pub(crate) async fn status(&self, pod_ip: &str) -> Report {
        let host = match pod_ip.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => ip.to_string(),
            Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
            Err(_) => return Err(format!("{pod_ip} is not an address")),
        };
        let uri = format!("http://{host}:{STATUS_PORT}{STATUS_PATH}");
        let uri: Uri = uri.parse().map_err(|error| format!("{uri}: {error}"))?;
        match tokio::time::timeout(DEADLINE, self.get(uri)).await {
            Ok(report) => report,
            Err(_) => Err(format!("no answer within {} s", DEADLINE.as_secs())),
        }
    }

    async fn get(&self, uri: Uri) -> Report {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = uri;
        let response = self.client.request(request).await.map_err(|error| innermost(&error))?;
        if response.status() != StatusCode::OK {
            return Err(format!("it answered {}", response.status()));
        }
        let body = Limited::new(response.into_body(), BODY_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| error.to_string())?;
        serde_json::from_slice::<Status>(&body.to_bytes())
            .map_err(|error| format!("its answer is not a status: {error}"))
    }
}

/// The last cause of an error: "connection refused" rather than "client error (Connect)".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
