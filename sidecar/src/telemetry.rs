//! Log lines on standard error.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use crate::args::LogFormat;

/// Begins logging. Libraries speak only from warnings up; `level` is for our own lines.
pub fn init(format: LogFormat, level: LevelFilter) {
    let filter = EnvFilter::new(format!(
        "warn,aws_config=error,aws_smithy_runtime=error,lifeboat={level},lifeboat_store={level}"
    ));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // It would say on standard error that standard error is gone, and panic.
    let lines = lines.log_internal_errors(false);
    match format {
        LogFormat::Text => lines.with_target(false).with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
}
