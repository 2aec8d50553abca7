//! The command line. Every option of `run` can also come from the environment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

/// Keeps SQLite databases in Kubernetes alive.
#[derive(Debug, Parser)]
#[command(name = "lifeboat-operator", version, about)]
pub struct Args {
    /// How log lines are written.
    #[arg(long, env = "LIFEBOAT_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text, global = true)]
    pub log_format: LogFormat,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines to read.
    Text,
    /// One JSON object a line.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the controller and the webhook.
    Run(Box<RunArgs>),
    /// Print the CustomResourceDefinitions, or write them into a checkout.
    Crds(CrdsArgs),
}

/// Options of `run`.
#[derive(Clone, Debug, ClapArgs)]
pub struct RunArgs {
    /// Image of the containers that are injected.
    #[arg(long, env = "LIFEBOAT_SIDECAR_IMAGE")]
    pub sidecar_image: String,
    /// Pull policy of that image: Always, IfNotPresent or Never; Kubernetes' own choice if empty.
    #[arg(long, env = "LIFEBOAT_SIDECAR_IMAGE_PULL_POLICY")]
    pub sidecar_image_pull_policy: Option<String>,
    /// Namespace of this pod.
    #[arg(long, env = "POD_NAMESPACE")]
    pub namespace: String,
    /// Name of this pod; it signs the events.
    #[arg(long, env = "POD_NAME")]
    pub pod_name: Option<String>,
    /// Name of the Service in front of the webhook.
    #[arg(long, env = "LIFEBOAT_WEBHOOK_SERVICE", default_value = "lifeboat-webhook")]
    pub webhook_service: String,
    /// Name of the MutatingWebhookConfiguration whose caBundle is kept.
    #[arg(long, env = "LIFEBOAT_WEBHOOK_CONFIGURATION", default_value = "lifeboat-injector")]
    pub webhook_configuration: String,
    /// Name of the Secret that holds the webhook's certificates.
    #[arg(long, env = "LIFEBOAT_WEBHOOK_SECRET", default_value = "lifeboat-webhook-tls")]
    pub webhook_secret: String,
    /// Address of the webhook.
    #[arg(long, env = "LIFEBOAT_WEBHOOK_ADDR", default_value = "0.0.0.0:9443")]
    pub webhook_addr: SocketAddr,
    /// Address of /healthz and /readyz.
    #[arg(long, env = "LIFEBOAT_HEALTH_ADDR", default_value = "0.0.0.0:8080")]
    pub health_addr: SocketAddr,
    /// Seconds for which the webhook goes on serving after SIGTERM, until the Service sends no more requests here.
    #[arg(long = "lame-duck-seconds", env = "LIFEBOAT_LAME_DUCK_SECONDS", default_value = "5", value_parser = seconds)]
    pub lame_duck: Duration,
}

/// Options of `crds`.
#[derive(Clone, Debug, ClapArgs)]
pub struct CrdsArgs {
    /// Write the files into this checkout instead of printing them.
    #[arg(long, value_name = "CHECKOUT")]
    pub write: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u64>() {
        Ok(seconds) if seconds <= 60 => Ok(Duration::from_secs(seconds)),
        Ok(_) | Err(_) => Err("must be a number of seconds from 0 to 60".to_owned()),
    }
}
