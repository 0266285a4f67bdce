//! The registry over a small cluster, for targets that let it decide.

use std::sync::{Arc, OnceLock};

use copepod_machine::{SeededIds, Time};
use copepod_model::kinds::Kinds;
use copepod_model::request::{Body, FieldValidation};
use copepod_model::{ApiRequest, Status, UserInfo, Verb};
use copepod_registry::{Config, Decision, Env, Registry, Sealer, bootstrap_objects};
use copepod_state::{Outcome, Tables, apply};
use serde_json::Value;

use crate::samples;

/// A cluster as it is at one moment. A copy costs next to nothing.
#[derive(Clone)]
pub(crate) struct Cluster {
    registry: Arc<Registry>,
    tables: Tables,
    ids: SeededIds,
}

impl Cluster {
    /// One with what every cluster has, and the samples in the namespace `default`.
    pub(crate) fn new() -> Cluster {
        static MADE: OnceLock<Cluster> = OnceLock::new();
        MADE.get_or_init(Cluster::make).clone()
    }

    fn make() -> Cluster {
        let registry = Registry::new(Arc::new(Kinds::builtin()), Config::new(Sealer::new(&[7; 32])));
        let mut cluster = Cluster { registry: Arc::new(registry), tables: Tables::default(), ids: SeededIds(1) };
        for (key, object) in bootstrap_objects() {
            let (plural, group) = key.resource.split_once('.').unwrap_or((&key.resource, ""));
            let mut request = write(Verb::Create, (group, "v1", plural), Body::Object(object));
            request.namespace = key.namespace.to_string();
            cluster.send(&request).unwrap_or_else(|e| panic!("{key}: {}", e.message));
        }
        let account = serde_json::json!({"metadata": {"name": "default"}});
        let mut request = write(Verb::Create, ("", "v1", "serviceaccounts"), Body::Object(account));
        request.namespace = "default".into();
        cluster.send(&request).unwrap_or_else(|e| panic!("{}", e.message));
        for text in samples::OBJECTS {
            let object: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            if let Some(request) = create(&object, Body::Object(object.clone())) {
                cluster.send(&request).unwrap_or_else(|e| panic!("{text}: {}", e.message));
            }
        }
        cluster
    }

    /// Decides a request and applies it: what a client gets. A refusal is one of the client's making.
    pub(crate) fn send(&mut self, request: &ApiRequest) -> Result<Value, Status> {
        let now = Time::from_secs(1_800_000_000);
        let mut env = Env::new(&self.tables, now, &mut self.ids);
        let decision = self.registry.decide(&mut env, request);
        let decision = decision.inspect_err(|status| {
            assert!(
                (400..500).contains(&status.code),
                "a request makes it fail with {}: {}",
                status.code,
                status.message
            );
        })?;
        match decision {
            Decision::Answer(answer) => Ok(answer.object),
            Decision::Write(write) => match apply(&mut self.tables, 1, &write.txn).0 {
                Outcome::Applied(revisions) => {
                    let read: Result<Value, _> = serde_json::from_slice(&write.response(&revisions));
                    let read = read.unwrap_or_else(|e| panic!("the answer cannot be read: {e}"));
                    let value = write.response_value(&revisions);
                    assert!(crate::support::same(&read, &value), "the answer's two forms differ: {read} {value}");
                    Ok(value)
                }
                other => panic!("{other:?}: a decision on the newest view applies"),
            },
        }
    }
}

/// A request about a kind's objects: group, version and plural.
fn write(verb: Verb, (group, version, plural): (&str, &str, &str), body: Body) -> ApiRequest {
    let mut request = ApiRequest::new(Arc::new(UserInfo::system("admin")), verb, group, version, plural);
    request.field_manager = "fuzz".into();
    request.field_validation = FieldValidation::Warn;
    request.body = body;
    request
}

/// A request about an object of the kind that `like` is of; none if that is not served.
fn about(verb: Verb, like: &Value, body: Body) -> Option<ApiRequest> {
    let text = |name: &str| like[name].as_str().unwrap_or_default();
    let kind = Kinds::shared().gvk(text("apiVersion"), text("kind"))?.clone();
    let mut request = write(verb, (kind.group, kind.version, kind.plural), body);
    if kind.namespaced {
        request.namespace = "default".into();
    }
    Some(request)
}

/// The creation of an object of the kind that `like` is of.
pub(crate) fn create(like: &Value, body: Body) -> Option<ApiRequest> {
    about(Verb::Create, like, body)
}

/// A change of the object that `like` is.
pub(crate) fn change(verb: Verb, like: &Value, body: Body) -> Option<ApiRequest> {
    let mut request = about(verb, like, body)?;
    request.name = like["metadata"]["name"].as_str()?.into();
    Some(request)
}
