//! Puts the parts together and takes them apart again on SIGTERM.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::Api;
use kube::runtime::events::{Recorder, Reporter};
use kube::{Client, ResourceExt as _};
use lifeboat_api::names;
use lifeboat_inject::Defaults;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::args::RunArgs;
use crate::controller::Shared;
use crate::health::Readiness;
use crate::scrape::Scraper;
use crate::{Error, abandoned, controller, health, webhook};

/// Runs the operator until it is told to end.
///
/// # Errors
///
/// Any that keeps it from starting, or that ends a part of it that must not end.
pub fn start(args: &RunArgs) -> Result<(), Error> {
    // The one provider of cryptography in the process; a second one would make rustls refuse to choose.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Encode { what: "a runtime", why: error.to_string() })?;
    runtime.block_on(run(args))
}

async fn run(args: &RunArgs) -> Result<(), Error> {
    let webhook_listener = listen(args.webhook_addr).await?;
    let health_listener = listen(args.health_addr).await?;
    let client = Client::try_default().await.map_err(Error::kube("connect to the cluster"))?;
    let shared = Arc::new(Shared {
        recorder: Recorder::new(
            client.clone(),
            Reporter { controller: names::FIELD_MANAGER.to_owned(), instance: args.pod_name.clone() },
        ),
        scraper: Scraper::new(),
        defaults: defaults(args, &client).await?,
        client,
    });
    let readiness = Readiness::default();
    // The controller stops at once, so that its successor has the field; the webhook goes on for a while.
    let (ending, closing) = (CancellationToken::new(), CancellationToken::new());
    let mut parts = JoinSet::new();
    let keeper = webhook::Keeper::new(&shared.client, args, readiness.clone());
    let server = webhook::server(&shared, keeper.certificate());
    parts.spawn(named("webhook", webhook::serve(webhook_listener, server, closing.clone())));
    parts.spawn(named("certificate keeper", keeper.run(closing.clone())));
    parts.spawn(named("controller", controller::run(Arc::clone(&shared), ending.clone())));
    let watching = (Arc::clone(&shared), ending.clone());
    parts.spawn(named("abandoned", async move { abandoned::run(&watching.0, watching.1).await }));
    let health = health::serve(health_listener, readiness.clone(), closing.clone());
    parts.spawn(named("health endpoint", async move {
        if let Err(error) = health.await {
            tracing::error!("the health endpoint failed: {error}");
        }
    }));
    tracing::info!("lifeboat-operator {} started", env!("CARGO_PKG_VERSION"));
    let result = tokio::select! {
        part = parts.join_next() => Err(ended(part)),
        () = terminated() => {
            tracing::info!("told to end; serving on for {} s", args.lame_duck.as_secs());
            readiness.end();
            ending.cancel();
            tokio::time::sleep(args.lame_duck).await;
            Ok(())
        }
    };
    ending.cancel();
    closing.cancel();
    while parts.join_next().await.is_some() {}
    result
}

/// The longest that one round of work may take, before it counts as failed and is tried again.
///
/// A connection that died silently would else hold a round, and with it one replica or the certificates, for ever. Watches
/// are not rounds: they are to last.
pub(crate) const ROUND_MAX: Duration = Duration::from_secs(30);

/// Gives up `work` after `deadline`.
pub(crate) async fn in_time<T>(
    deadline: Duration,
    doing: impl FnOnce() -> String,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(deadline, work).await {
        Ok(result) => result,
        Err(elapsed) => {
            let doing = format!("{} within {deadline:?}", doing());
            Err(Error::kube(doing)(kube::Error::Service(elapsed.into())))
        }
    }
}

async fn named(part: &'static str, work: impl Future<Output = ()>) -> &'static str {
    work.await;
    part
}

fn ended(part: Option<Result<&'static str, tokio::task::JoinError>>) -> Error {
    match part {
        Some(Ok(part)) => Error::Ended { part },
        Some(Err(error)) => {
            tracing::error!("{error}");
            Error::Ended { part: "part that panicked" }
        }
        None => Error::Ended { part: "last part" },
    }
}

async fn listen(addr: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(addr).await.map_err(|source| Error::Listen { addr, source })
}

async fn defaults(args: &RunArgs, client: &Client) -> Result<Defaults, Error> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let system = namespaces
        .get_metadata("kube-system")
        .await
        .map_err(Error::kube("read namespace kube-system, whose UID identifies the cluster"))?;
    Ok(Defaults {
        image: args.sidecar_image.clone(),
        image_pull_policy: args.sidecar_image_pull_policy.clone().filter(|policy| !policy.is_empty()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cluster: system.uid().unwrap_or_default(),
    })
}

/// Returns on SIGTERM or SIGINT.
async fn terminated() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("cannot listen for signals; ending will be abrupt");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
