//! A cluster for tests: tables, a registry, and requests in few words.

use std::sync::Arc;

use copepod_machine::{SeededIds, Time, View};
use copepod_model::kinds::Kinds;
use copepod_model::request::{Body, PatchType};
use copepod_model::{ApiRequest, Object, Status, UserInfo, Verb};
use copepod_state::{Outcome, Tables, apply};
use serde_json::{Value, json};

use crate::{Config, Decision, Env, Registry, Sealer, bootstrap_objects};

pub(crate) struct Cluster {
    pub(crate) tables: Tables,
    pub(crate) registry: Registry,
    pub(crate) ids: SeededIds,
    pub(crate) now: Time,
}

/// What a client sees: the code and the object, or the Status.
pub(crate) type Seen = Result<(u16, Value), Status>;

pub(crate) fn admin() -> Arc<UserInfo> {
    Arc::new(UserInfo::system("admin"))
}

pub(crate) fn user(name: &str, groups: &[&str]) -> Arc<UserInfo> {
    Arc::new(UserInfo {
        name: name.into(),
        groups: groups.iter().map(|g| g.to_string()).collect(),
        ..UserInfo::default()
    })
}

/// A request in the form `deployments.apps default/web status`.
pub(crate) fn request(verb: Verb, what: &str) -> ApiRequest {
    let mut words = what.split(' ');
    let resource = words.next().unwrap();
    let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
    let mut req = ApiRequest::new(admin(), verb, group, "v1", plural);
    let place = words.next().unwrap_or_default();
    let (namespace, name) = place.split_once('/').unwrap_or(("", place));
    req.namespace = namespace.into();
    req.name = name.into();
    req.subresource = words.next().map(Into::into);
    req.field_manager = "test".into();
    req
}

impl Cluster {
    /// A cluster with nothing in it.
    pub(crate) fn empty() -> Cluster {
        let config = Config::new(Sealer::new(&[7; 32]));
        let registry = Registry::new(Arc::new(Kinds::builtin()), config);
        Cluster { tables: Tables::default(), registry, ids: SeededIds(1), now: Time::from_secs(1_800_000_000) }
    }

    /// A cluster after its first start, with the default service account.
    pub(crate) fn new() -> Cluster {
        let mut cluster = Cluster::empty();
        for (key, object) in bootstrap_objects() {
            let mut req = request(Verb::Create, &key.resource);
            req.namespace = key.namespace.to_string();
            req.body = Body::Object(object);
            cluster.send(&req).unwrap_or_else(|e| panic!("{key}: {e}"));
        }
        cluster.create("serviceaccounts default/", json!({"metadata":{"name":"default"}})).unwrap();
        cluster
    }

    /// Decides and applies.
    pub(crate) fn send(&mut self, req: &ApiRequest) -> Seen {
        let mut env = Env::new(&self.tables, self.now, &mut self.ids);
        match self.registry.decide(&mut env, req)? {
            Decision::Answer(answer) => Ok((answer.code, answer.object)),
            Decision::Write(write) => match apply(&mut self.tables, 1, &write.txn).0 {
                Outcome::Applied(revisions) => {
                    let bytes: Value = serde_json::from_slice(&write.response(&revisions)).unwrap();
                    let code = write.code;
                    let value = write.response_value(&revisions);
                    assert_eq!(bytes, value, "both forms of the answer are the same");
                    Ok((code, value))
                }
                other => panic!("{other:?}: a decision on the newest view applies"),
            },
        }
    }

    pub(crate) fn create(&mut self, what: &str, object: Value) -> Seen {
        let mut req = request(Verb::Create, what);
        req.body = Body::Object(object);
        self.send(&req)
    }

    pub(crate) fn update(&mut self, what: &str, object: Value) -> Seen {
        let mut req = request(Verb::Update, what);
        req.body = Body::Object(object);
        self.send(&req)
    }

    pub(crate) fn patch(&mut self, format: PatchType, what: &str, patch: Value) -> Seen {
        let mut req = request(Verb::Patch, what);
        req.body = Body::Patch(format, patch);
        self.send(&req)
    }

    pub(crate) fn delete(&mut self, what: &str) -> Seen {
        self.send(&request(Verb::Delete, what))
    }

    pub(crate) fn find(&self, what: &str) -> Option<Arc<Object>> {
        let req = request(Verb::Get, what);
        self.tables.get(&req.group_resource(), &req.namespace, &req.name)
    }

    /// The stored object as clients see it.
    pub(crate) fn value(&self, what: &str) -> Value {
        self.registry.unseal(&self.tables, &self.find(what).unwrap_or_else(|| panic!("no {what}"))).unwrap()
    }

    /// The names of the internal keys of a resource.
    pub(crate) fn internal(&self, resource: &str) -> Vec<String> {
        self.tables.list(resource, None).map(|o| o.name().to_string()).collect()
    }
}

/// A pod with one container.
pub(crate) fn pod(name: &str) -> Value {
    json!({"metadata":{"name":name},"spec":{"containers":[{"name":"c","image":"i"}]}})
}

/// A deployment.
pub(crate) fn deployment(name: &str) -> Value {
    json!({"metadata":{"name":name},"spec":{"replicas":2,"selector":{"matchLabels":{"a":"b"}},
        "template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}})
}

/// `code message` of an error.
pub(crate) fn error(seen: Seen) -> String {
    match seen {
        Ok((code, v)) => format!("{code} {v}"),
        Err(status) => format!("{} {}", status.code, status.message),
    }
}
