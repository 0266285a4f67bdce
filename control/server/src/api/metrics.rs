//! `/metrics` in the Prometheus text format, with kube-apiserver's names where it has one.

use std::time::Duration;

use copepod_client::Body;
use http::{Method, Response, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::respond;
use crate::store::Store;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    verb: String,
    code: u16,
}

/// The API's metrics.
pub struct Metrics {
    registry: Registry,
    requests: Family<Labels, Counter>,
    duration: Histogram,
    revision: Gauge,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let mut registry = Registry::default();
        let requests = Family::<Labels, Counter>::default();
        let bounds = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0];
        let duration = Histogram::new(bounds);
        let revision = Gauge::default();
        registry.register("apiserver_request", "Requests by HTTP method and code", requests.clone());
        registry.register("apiserver_request_duration_seconds", "Time until the head of the answer", duration.clone());
        registry.register("apiserver_storage_revision", "Revision of the last committed change", revision.clone());
        Metrics { registry, requests, duration, revision }
    }
}

impl Metrics {
    /// Counts a request.
    pub fn request(&self, method: &Method, code: StatusCode, took: Duration) {
        self.requests.get_or_create(&Labels { verb: method.to_string(), code: code.as_u16() }).inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// The text.
    pub fn answer(&self, store: &Store) -> Response<Body> {
        self.revision.set(store.snapshot().revision() as i64);
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => respond::bytes(200, "application/openmetrics-text; version=1.0.0; charset=utf-8", text.into()),
            Err(e) => respond::text(500, e.to_string()),
        }
    }
}
