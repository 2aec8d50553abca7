//! Log lines, on standard error, chosen by `RUST_LOG`.

use tracing_subscriber::EnvFilter;

use crate::args::LogFormat;

/// Sets up logging; called once, first.
pub fn init(format: LogFormat) {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,kube=warn,hyper=warn"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // It would say on standard error that standard error is gone, and panic.
    let lines = lines.log_internal_errors(false);
    match format {
        LogFormat::Text => lines.with_ansi(false).with_target(false).init(),
        LogFormat::Json => lines.json().init(),
    }
}
