//! Reads a page of metrics, strictly: what the OpenMetrics text format 1.0
//! does not allow stops the test.

use std::collections::{BTreeMap, BTreeSet};

/// Labels whose words are all told from the start.
const CLOSED: [&str; 8] = ["outcome", "reason", "answer", "condition", "stage", "operation", "kind", "state"];

/// One line with a value.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    family: String,
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// A page that was read.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Name and type of each family, in order.
    pub(crate) families: Vec<(String, String)>,
    pub(crate) samples: Vec<Sample>,
}

impl Page {
    pub(crate) fn read(text: &str) -> Page {
        let mut page = Page::default();
        let body = text.strip_suffix("# EOF\n").expect("the page ends with # EOF");
        let mut helped = None;
        for line in body.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a help has words");
                assert!(!help.is_empty(), "{line}");
                helped = Some(name.to_owned());
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a type has a name");
                assert_eq!(helped.take().as_deref(), Some(name), "help comes before type: {line}");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!(page.families.iter().all(|(other, _)| other != name), "twice: {line}");
                page.families.push((name.to_owned(), kind.to_owned()));
            } else {
                let (family, kind) = page.families.last().expect("a type comes before its samples");
                let sample = Sample::read(family, line);
                let suffix = sample.name.strip_prefix(family.as_str());
                let fits = match kind.as_str() {
                    "counter" => suffix == Some("_total"),
                    "gauge" => suffix == Some(""),
                    _ => matches!(suffix, Some("_bucket" | "_sum" | "_count")),
                };
                assert!(fits, "{line} under {family} ({kind})");
                page.samples.push(sample);
            }
        }
        let series: BTreeSet<String> = page.series();
        assert_eq!(series.len(), page.samples.len(), "a series comes twice");
        page.check_histograms();
        page
    }

    /// Each series by name and labels.
    pub(crate) fn series(&self) -> BTreeSet<String> {
        self.samples.iter().map(|sample| format!("{}{:?}", sample.name, sample.labels)).collect()
    }

    /// The value of the one series with this name and these labels.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let fits = |sample: &&Sample| {
            sample.name == name
                && sample.labels.len() == labels.len()
                && labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|is| is == value))
        };
        self.samples.iter().find(fits).map(|sample| sample.value)
    }

    /// Type, name and labels of each family. Words of a label are listed where
    /// the program has a closed list of them.
    pub(crate) fn list(&self) -> String {
        let mut list = String::new();
        for (family, kind) in &self.families {
            let mut labels: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
            for sample in self.samples.iter().filter(|sample| sample.family == *family) {
                for (label, word) in sample.labels.iter().filter(|(label, _)| *label != "le") {
                    let words = labels.entry(label).or_default();
                    if CLOSED.contains(&label.as_str()) && !words.contains(&word.as_str()) {
                        words.push(word);
                    }
                }
            }
            let labels = labels.into_iter().map(|(label, words)| match words.is_empty() {
                true => format!(" {label}"),
                false => format!(" {label}={}", words.join("|")),
            });
            list += &format!("{kind} {family}{}\n", labels.collect::<String>());
        }
        list
    }

    /// Buckets only grow, and the last one is the count.
    fn check_histograms(&self) {
        let mut last: BTreeMap<String, f64> = BTreeMap::new();
        for sample in self.samples.iter().filter(|sample| sample.name.ends_with("_bucket")) {
            let mut labels = sample.labels.clone();
            let bound = labels.remove("le").expect("a bucket has a bound");
            let family = sample.name.trim_end_matches("_bucket");
            let count = last.entry(format!("{family}{labels:?}")).or_default();
            assert!(sample.value >= *count, "{sample:?} is less than the bucket before");
            *count = sample.value;
            if bound == "+Inf" {
                let labels: Vec<_> = labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
                let all = self.value(&format!("{family}_count"), &labels);
                assert_eq!(all, Some(sample.value), "{sample:?}");
            }
        }
    }
}

impl Sample {
    fn read(family: &str, line: &str) -> Sample {
        let (series, value) = line.rsplit_once(' ').expect("a value behind a blank");
        let value = value.parse().expect("the value is a number");
        let (name, labels) = match series.split_once('{') {
            None => (series, ""),
            Some((name, rest)) => (name, rest.strip_suffix('}').expect("labels end")),
        };
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        assert!(!name.is_empty() && name.chars().all(is_word), "{line}");
        let mut rest = labels;
        let mut read = BTreeMap::new();
        while !rest.is_empty() {
            let (label, after) = rest.split_once("=\"").expect("a label has a value");
            assert!(!label.is_empty() && label.chars().all(is_word), "{line}");
            // No label of ours needs an escape.
            let (value, after) = after.split_once('"').expect("a value ends");
            assert!(!value.contains('\\'), "{line}");
            assert!(read.insert(label.to_owned(), value.to_owned()).is_none(), "{line}");
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        Sample { family: family.to_owned(), name: name.to_owned(), labels: read, value }
    }
}
