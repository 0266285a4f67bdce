//! `/metrics` in the Prometheus text format, with kube-apiserver's names where it has one.

use std::time::Duration;

use copepod_client::Body;
use copepod_registry::Evaluation;
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

/// An [`Evaluation`] by upstream's names.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EvaluationLabels {
    decision: &'static str,
    policy_level: &'static str,
    policy_version: String,
    mode: &'static str,
    request_operation: &'static str,
    resource: &'static str,
    subresource: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FileLabel {
    file: &'static str,
}

/// The API's metrics, and its store's.
pub struct Metrics {
    registry: Registry,
    requests: Family<Labels, Counter>,
    duration: Histogram,
    evaluations: Family<EvaluationLabels, Counter>,
    revision: Gauge,
    size: Gauge,
    files: Family<FileLabel, Gauge>,
    objects: Gauge,
    object_bytes: Gauge,
    quota: Gauge,
    full: Gauge,
    term: Gauge,
    leads: Gauge,
    leader: Gauge,
}

impl Metrics {
    /// With the durations that `store` counts itself.
    pub fn new(store: &Store) -> Metrics {
        let mut registry = Registry::default();
        let requests = Family::<Labels, Counter>::default();
        let bounds = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0];
        let duration = Histogram::new(bounds);
        registry.register("apiserver_request", "Requests by HTTP method and code", requests.clone());
        registry.register("apiserver_request_duration_seconds", "Time until the head of the answer", duration.clone());
        let evaluations = Family::<EvaluationLabels, Counter>::default();
        let help = "What the Pod Security Standards had to say of pods and of templates of pods";
        registry.register("pod_security_evaluations", help, evaluations.clone());
        let commits = store.commit_durations();
        registry.register("copepod_store_commit_duration_seconds", "Time of the log's durable commits", commits);
        let files = Family::<FileLabel, Gauge>::default();
        registry.register("copepod_store_file_bytes", "Bytes of the store's files on disk", files.clone());
        let mut gauge = |name: &str, help: &str| {
            let gauge: Gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let revision = gauge("apiserver_storage_revision", "Revision of the last committed change");
        let size = gauge("apiserver_storage_size_bytes", "Bytes of all of the store's files on disk");
        let objects = gauge("copepod_store_objects", "Number of stored objects");
        let object_bytes =
            gauge("copepod_store_object_bytes", "Bytes of all stored objects, which count for the quota");
        let quota = gauge("copepod_store_quota_bytes", "The space quota, 0 for none");
        let full = gauge("copepod_store_space_alarm", "Whether the space quota is exceeded and nothing new is stored");
        let term = gauge("copepod_raft_term", "Current raft term");
        let leads = gauge("copepod_raft_is_leader", "Whether this server leads");
        let leader = gauge("copepod_raft_leader_id", "The leader's member id, 0 when none is known");
        Metrics {
            registry,
            requests,
            duration,
            evaluations,
            revision,
            size,
            files,
            objects,
            object_bytes,
            quota,
            full,
            term,
            leads,
            leader,
        }
    }

    /// Counts a request.
    pub fn request(&self, method: &Method, code: StatusCode, took: Duration) {
        self.requests.get_or_create(&Labels { verb: method.to_string(), code: code.as_u16() }).inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// Counts what the Pod Security Standards had to say of a request that is decided.
    pub fn evaluated(&self, all: Vec<Evaluation>) {
        for e in all {
            let labels = EvaluationLabels {
                decision: e.decision,
                policy_level: e.level,
                policy_version: e.version,
                mode: e.mode,
                request_operation: e.operation,
                resource: e.resource,
                subresource: e.subresource,
            };
            self.evaluations.get_or_create(&labels).inc();
        }
    }

    /// The text.
    pub fn answer(&self, store: &Store) -> Response<Body> {
        self.look(store);
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => respond::bytes(200, "application/openmetrics-text; version=1.0.0; charset=utf-8", text.into()),
            Err(e) => respond::text(500, e.to_string()),
        }
    }

    fn look(&self, store: &Store) {
        let report = store.report();
        for &(file, bytes) in &report.files {
            self.files.get_or_create(&FileLabel { file }).set(bytes as i64);
        }
        for (gauge, value) in [
            (&self.revision, store.snapshot().revision()),
            (&self.size, report.files.iter().map(|(_, bytes)| bytes).sum()),
            (&self.objects, report.objects),
            (&self.object_bytes, report.object_bytes),
            (&self.quota, report.quota),
            (&self.full, report.full.into()),
            (&self.term, store.term()),
            (&self.leads, store.is_leader().into()),
            (&self.leader, store.leader().unwrap_or(0)),
        ] {
            gauge.set(value as i64);
        }
    }
}
