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

/// The longest answer that is read, in bytes: far above that of a pod with 16 databases. Any pod may answer anything, and
/// many are asked at the same time.
const BODY_BYTES_MAX: usize = 256 * 1024;

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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one request at an address of the loopback network, as a pod would at its own.
    async fn pod(ip: &str, answer: String) {
        let listener = TcpListener::bind((ip, STATUS_PORT)).await.unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await.unwrap();
            let _ = stream.write_all(answer.as_bytes()).await;
        });
    }

    fn http(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn a_status_is_read() {
        pod("127.98.98.1", http("200 OK", r#"{"version":"0.1.0","databases":[]}"#)).await;
        assert_eq!(Scraper::new().status("127.98.98.1").await.unwrap().version, "0.1.0");
    }

    #[tokio::test]
    async fn what_is_not_a_status_is_an_error_in_words() {
        pod("127.98.98.2", http("503 Service Unavailable", "")).await;
        let error = Scraper::new().status("127.98.98.2").await.unwrap_err();
        assert_eq!(error, "it answered 503 Service Unavailable");
        pod("127.98.98.3", http("200 OK", "<html>")).await;
        assert!(Scraper::new().status("127.98.98.3").await.unwrap_err().contains("not a status"));
    }

    #[tokio::test]
    async fn an_endless_answer_is_cut_off() {
        let status = |bytes: usize| {
            let rest = r#"{"version":"","databases":[]}"#;
            rest.replace(r#""""#, &format!("\"{}\"", "x".repeat(bytes - rest.len())))
        };
        pod("127.98.98.4", http("200 OK", &status(256 * 1024 + 1))).await;
        assert!(Scraper::new().status("127.98.98.4").await.unwrap_err().contains("length limit"));
        pod("127.98.98.6", http("200 OK", &status(256 * 1024))).await;
        assert!(Scraper::new().status("127.98.98.6").await.is_ok());
    }

    #[tokio::test]
    async fn a_pod_that_does_not_listen_or_has_no_address_is_an_error_in_words() {
        let error = Scraper::new().status("127.98.98.5").await.unwrap_err();
        assert!(error.to_lowercase().contains("refused"), "{error}");
        assert_eq!(
            Scraper::new().status("shop.example").await.unwrap_err(),
            "shop.example is not an address"
        );
    }
}
