//! The page a scraper reads, in the OpenMetrics text format 1.0.

use crate::instrument::Histogram;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;

/// What the page says it is.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Somebody who counts. Asked at each scrape; answers from memory, without waiting.
pub trait Source: Send + Sync + 'static {
    /// Writes all it counts.
    ///
    /// # Errors
    /// Only those of the page itself.
    fn tell(&self, page: &mut Page<'_>) -> fmt::Result;
}

/// A page that is being written.
pub struct Page<'a>(DescriptorEncoder<'a>);

/// Labels of one series.
type Labels<'l> = [(&'l str, &'l str)];

impl Page<'_> {
    /// A counter; `_total` is put behind its name.
    pub fn counter(&mut self, name: &str, help: &str, count: u64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, f64>(&count, None)
    }

    /// Counters that differ in one label.
    pub fn counters<'w>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        counts: impl Iterator<Item = (&'w str, u64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (word, count) in counts {
            let labels: &Labels<'_> = &[(label, word)];
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&count, None)?;
        }
        Ok(())
    }

    /// Counters that differ in several labels.
    pub fn counters_of(
        &mut self,
        name: &str,
        help: &str,
        counts: &[(Vec<(&str, &str)>, u64)],
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, count) in counts {
            metric.encode_family(labels)?.encode_counter::<NoLabelSet, _, f64>(count, None)?;
        }
        Ok(())
    }

    /// A gauge.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    /// Gauges that differ in one label.
    pub fn gauges(&mut self, name: &str, help: &str, label: &str, values: &[(&str, f64)]) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (word, value) in values {
            let labels: &Labels<'_> = &[(label, word)];
            metric.encode_family(&labels)?.encode_gauge(value)?;
        }
        Ok(())
    }

    /// A histogram.
    pub fn histogram(&mut self, name: &str, help: &str, of: &Histogram) -> fmt::Result {
        let (sum, buckets) = of.snapshot();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    /// Histograms that differ in one label.
    pub fn histograms<'h>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        of: impl Iterator<Item = (&'h str, &'h Histogram)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (word, histogram) in of {
            let (sum, buckets) = histogram.snapshot();
            let count = buckets.iter().map(|(_, count)| count).sum();
            let labels: &Labels<'_> = &[(label, word)];
            metric.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }

    /// Facts that do not change, as labels of a gauge that is always 1.
    pub fn facts(&mut self, name: &str, help: &str, facts: &Labels<'_>) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        metric.encode_family(&facts)?.encode_gauge(&1_u64)
    }
}

struct Asked(Arc<dyn Source>);

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Asked")
    }
}

impl Collector for Asked {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.tell(&mut Page(encoder))
    }
}

/// The whole page, one source after the other.
#[must_use]
pub fn render(sources: &[Arc<dyn Source>]) -> String {
    let mut registry = Registry::default();
    for source in sources {
        registry.register_collector(Box::new(Asked(Arc::clone(source))));
    }
    let mut page = String::new();
    encode(&mut page, &registry).expect("writing to a String does not fail");
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    struct Some1;

    impl Source for Some1 {
        fn tell(&self, page: &mut Page<'_>) -> fmt::Result {
            let times = Histogram::of_times(&[1_000]);
            times.took(Duration::from_millis(3));
            page.counter("a", "How many.", 3)?;
            page.counters("b", "By word.", "word", [("x\"y", 1), ("z", 0)].into_iter())?;
            page.gauge("c", "Now.", 1.5)?;
            page.histogram("d_seconds", "How long.", &times)
        }
    }

    #[test]
    fn a_page_is_written_as_openmetrics() {
        let expected = "# HELP a How many.\n# TYPE a counter\na_total 3\n\
            # HELP b By word.\n# TYPE b counter\nb_total{word=\"x\\\"y\"} 1\nb_total{word=\"z\"} 0\n\
            # HELP c Now.\n# TYPE c gauge\nc 1.5\n\
            # HELP d_seconds How long.\n# TYPE d_seconds histogram\nd_seconds_sum 0.003\nd_seconds_count 1\n\
            d_seconds_bucket{le=\"0.001\"} 0\nd_seconds_bucket{le=\"+Inf\"} 1\n# EOF\n";
        assert_eq!(render(&[Arc::new(Some1)]), expected);
    }
}
