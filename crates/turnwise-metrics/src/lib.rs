//! Counters, gauges and histograms of atomics, and the page that tells them to
//! Prometheus; and spans of traces for whoever collects them. Each crate names its own; labels are words of the program, never
//! something that came from outside. Knows no other crate of the workspace.

mod instrument;
mod page;
mod span;

pub use instrument::{COMMIT_TIMES, Counter, Gauge, Held, Histogram, ITEMS, TIMES, Words};
pub use page::{CONTENT_TYPE, Page, Source, render};
pub use span::{Place, Span, SpanKind, SpanValue, Spans};
