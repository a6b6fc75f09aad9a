//! In place of `otel` where that was not built in: says so.

use crate::failure::{Exit, Failure};
use std::convert::Infallible;
use std::sync::Arc;
use turnwise_metrics::Spans;

/// There is none.
pub(crate) struct Exporter(Infallible);

impl Exporter {
    pub(crate) fn start(_endpoint: &str) -> Result<Exporter, Failure> {
        Err(Failure::new(
            Exit::Usage,
            "OpenTelemetry is not built in",
            "telemetry.otlp_endpoint is set, and this binary was built without the feature `otel`",
        )
        .hint("build it with `cargo build --release --features otel`, or unset OTEL_EXPORTER_OTLP_ENDPOINT"))
    }

    pub(crate) fn spans(&self) -> Arc<dyn Spans> {
        match self.0 {}
    }

    pub(crate) async fn stop(self) {
        match self.0 {}
    }
}
