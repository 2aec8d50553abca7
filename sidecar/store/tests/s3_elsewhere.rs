//! Buckets and credentials that are somewhere else than in a test's own code.
//!
//! `a_bucket_of_yours_…` is for whoever has an account somewhere, or another server at hand. The other tests run it in
//! processes of their own against versitygw, each with credentials in another place where the AWS SDK looks for them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]

mod server;

use std::process::Command;
use std::time::Duration;

use lifeboat_store::{KeptAs, S3, S3Config, conformance};
use server::{ACCESS_KEY_ID, BUCKET, REGION, SECRET, Server};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a bucket: TEST_BUCKET, TEST_ENDPOINT (none for AWS), and credentials where the AWS SDK finds them"]
async fn a_bucket_of_yours_keeps_the_promises_of_a_store() {
    let endpoint = std::env::var("TEST_ENDPOINT").ok();
    let config = S3Config {
        bucket: std::env::var("TEST_BUCKET").unwrap(),
        path: "lifeboat-conformance".into(),
        region: None,
        force_path_style: endpoint.is_some(),
        endpoint,
        credentials_dir: None,
        keys: None,
        kept_as: KeptAs::default(),
        ca_file: std::env::var_os("TEST_CA_FILE").map(Into::into),
        attempt_timeout: Duration::from_secs(30),
    };
    conformance::run(&S3::open(config).await.unwrap()).await.unwrap();
}

/// Runs the test above in a process that has only these variables.
fn run_elsewhere(server: &Server, variables: &[(&str, &str)]) {
    let said = try_elsewhere(server, variables);
    assert!(said.contains("1 passed"), "{said}");
}

fn try_elsewhere(server: &Server, variables: &[(&str, &str)]) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "a_bucket_of_yours_keeps_the_promises_of_a_store"])
        .env_clear()
        .env("HOME", "/nowhere")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("TEST_BUCKET", BUCKET)
        .env("TEST_ENDPOINT", format!("http://{}", server.address))
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_in_the_environment_are_found() {
    let server = Server::start().await;
    let variables =
        [("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID), ("AWS_SECRET_ACCESS_KEY", SECRET), ("AWS_REGION", REGION)];
    run_elsewhere(&server, &variables);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_and_region_in_a_profile_are_found() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    let profile = format!(
        "[profile p]\nregion = {REGION}\naws_access_key_id = {ACCESS_KEY_ID}\naws_secret_access_key = {SECRET}\n"
    );
    std::fs::write(&path, profile).unwrap();
    run_elsewhere(&server, &[("AWS_CONFIG_FILE", path.to_str().unwrap()), ("AWS_PROFILE", "p")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_served_to_a_container_are_found() {
    let server = Server::start().await;
    let body = format!(
        r#"{{"AccessKeyId":"{ACCESS_KEY_ID}","SecretAccessKey":"{SECRET}","Token":"","Expiration":"2999-01-01T00:00:00Z"}}"#
    );
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let agent = server::answer_everybody(answer);
    let url = format!("http://{agent}/credentials");
    run_elsewhere(&server, &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str()), ("AWS_REGION", REGION)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_spoken_and_a_stranger_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| folder.path().join(name));
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let server = Server::start_with_tls(&certificate, &key);
    let endpoint = format!("https://localhost:{}", server.address.port());
    let variables = [
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_REGION", REGION),
        ("TEST_ENDPOINT", &endpoint),
    ];
    let said = try_elsewhere(&server, &variables);
    assert!(said.contains("UnknownIssuer") && said.contains("1 failed"), "{said}");
    let trusting = [variables.as_slice(), &[("SSL_CERT_FILE", certificate.to_str().unwrap())]].concat();
    run_elsewhere(&server, &trusting);
}
