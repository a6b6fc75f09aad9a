//! What a scraper is told about requests: by route template, method and class
//! of status, never by what a path or a header said.

use crate::limits::ROUTES_COUNTED_MAX;
use crate::methods::{METHODS, known};
use http::{Method, StatusCode};
use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;
use turnwise_api::Code;
use turnwise_metrics::{Counter, Gauge, Histogram, Page, Source, TIMES};

/// The methods without a name count as one.
const OTHER_METHOD: &str = "other";
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// The template of requests that reached no route.
const NO_ROUTE: &str = "none";

/// Counts since this process started.
pub(crate) struct HttpCounts {
    /// Filled from the front, each once.
    routes: [OnceLock<Route>; ROUTES_COUNTED_MAX],
    problems: [Counter; Code::ALL.len()],
    pub(crate) streams: Gauge,
    pub(crate) stream_events: Counter,
}

struct Route {
    template: Box<str>,
    answers: [[Counter; CLASSES.len()]; METHODS.len() + 1],
    times: Histogram,
}

impl Default for HttpCounts {
    fn default() -> HttpCounts {
        HttpCounts {
            routes: [const { OnceLock::new() }; ROUTES_COUNTED_MAX],
            problems: std::array::from_fn(|_| Counter::default()),
            streams: Gauge::default(),
            stream_events: Counter::default(),
        }
    }
}

impl HttpCounts {
    /// The head of an answer is ready. `template` is the route's, as the router names it.
    pub(crate) fn answered(
        &self,
        template: Option<&str>,
        method: &Method,
        status: StatusCode,
        took: Duration,
    ) {
        let Some(route) = self.route(template.unwrap_or(NO_ROUTE)) else { return };
        let method = known(method).unwrap_or(METHODS.len());
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(count) = route.answers.get(method).and_then(|classes| classes.get(class)) {
            count.one();
        }
        route.times.took(took);
    }

    /// A request ended in this problem.
    pub(crate) fn problem(&self, code: Code) {
        let at = Code::ALL.iter().position(|known| *known == code);
        if let Some(count) = at.and_then(|at| self.problems.get(at)) {
            count.one();
        }
    }

    fn route(&self, template: &str) -> Option<&Route> {
        let new = || Route {
            template: template.into(),
            answers: Default::default(),
            times: Histogram::of_times(TIMES),
        };
        self.routes.iter().map(|place| place.get_or_init(new)).find(|route| &*route.template == template)
    }
}

impl Source for HttpCounts {
    fn tell(&self, page: &mut Page<'_>) -> fmt::Result {
        let routes = || self.routes.iter().map_while(OnceLock::get);
        let mut answers = Vec::new();
        for route in routes() {
            for (method, classes) in METHODS.into_iter().chain([OTHER_METHOD]).zip(&route.answers) {
                for (class, count) in CLASSES.into_iter().zip(classes).filter(|(_, count)| count.get() > 0) {
                    let labels = vec![("route", &*route.template), ("method", method), ("status", class)];
                    answers.push((labels, count.get()));
                }
            }
        }
        page.counters_of("turnwise_http_requests", "Requests answered.", &answers)?;
        let times = routes().map(|route| (&*route.template, &route.times));
        let help = "Until the head of the answer was ready.";
        page.histograms("turnwise_http_request_seconds", help, "route", times)?;
        let problems = Code::ALL.iter().map(|code| code.name()).zip(self.problems.iter().map(Counter::get));
        page.counters("turnwise_http_problems", "Requests refused or failed.", "code", problems)?;
        page.gauge("turnwise_streams_open", "Readers of event streams.", self.streams.get() as f64)?;
        let events = self.stream_events.get();
        page.counter("turnwise_stream_events", "Events handed to readers.", events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_count_by_name_and_the_rest_together() {
        let counts = HttpCounts::default();
        let invented = Method::from_bytes(b"BREW").expect("a method");
        let trace = Method::TRACE;
        for method in [&Method::GET, &Method::HEAD, &invented, &trace] {
            counts.answered(Some("/x"), method, StatusCode::OK, Duration::ZERO);
        }
        let by_method: Vec<u64> =
            counts.route("/x").into_iter().flat_map(|route| &route.answers).map(|of| of[1].get()).collect();
        assert_eq!(by_method, [1, 1, 0, 0, 0, 0, 0, 2]);
    }

    #[test]
    fn templates_beyond_the_limit_are_not_counted_and_harm_nobody() {
        let counts = HttpCounts::default();
        for number in 0..2 * ROUTES_COUNTED_MAX {
            let template = format!("/{number}");
            counts.answered(Some(&template), &Method::GET, StatusCode::OK, Duration::ZERO);
        }
        counts.answered(Some("/0"), &Method::GET, StatusCode::OK, Duration::ZERO);
        assert_eq!(counts.routes.iter().filter_map(OnceLock::get).count(), ROUTES_COUNTED_MAX);
        let first = counts.route("/0").map(|route| route.answers[0][1].get());
        assert_eq!(first, Some(2));
    }
}
