//! A user with changing wishes: deployments that come, go, grow, shrink and change; services; pods deleted by hand.

use std::sync::Arc;

use copepod_machine::View as _;
use copepod_model::request::{Body, PatchType, Propagation};
use copepod_model::{ApiRequest, Status, UserInfo, Verb};
use serde_json::{Value, json};

use crate::api::Api;
use crate::chance::Chance;

/// The user.
pub struct Client {
    chance: Chance,
    user: Arc<UserInfo>,
}

/// A request for a resource in GroupResource form.
pub fn request(user: &Arc<UserInfo>, verb: Verb, resource: &str, namespace: &str, name: &str) -> ApiRequest {
    let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
    let mut r = ApiRequest::new(user.clone(), verb, group, "v1", plural);
    r.namespace = namespace.into();
    r.name = name.into();
    r.field_manager = user.name.clone();
    r
}

impl Client {
    /// A user with a stream of chance.
    pub fn new(chance: Chance) -> Client {
        Client { chance, user: Arc::new(UserInfo::system("user")) }
    }

    /// Wishes something. What the API refuses as upstream would is fine; an internal error is not.
    pub fn step(&mut self, api: &mut Api) -> Result<(), String> {
        let name = format!("app-{}", self.chance.below(4));
        let replicas = self.chance.below(6);
        let version = self.chance.below(3);
        let request = match self.chance.below(9) {
            0..=2 => self.body(Verb::Create, "deployments.apps", "", deployment(&name, replicas, version)),
            3 => self.patch(&name, json!({"spec": {"replicas": replicas}})),
            4 => {
                let image = format!("file:///v{}.wasm", self.chance.below(4));
                self.patch(
                    &name,
                    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}}),
                )
            }
            5 => {
                let mut r = request(&self.user, Verb::Delete, "deployments.apps", "default", &name);
                r.delete.propagation = Some(match self.chance.below(3) {
                    0 => Propagation::Background,
                    1 => Propagation::Foreground,
                    _ => Propagation::Orphan,
                });
                r
            }
            6 => {
                let pods: Vec<_> = api.view().list("pods", Some("default")).collect();
                let Some(pod) = pods.get(self.chance.below(pods.len() as u64) as usize) else { return Ok(()) };
                request(&self.user, Verb::Delete, "pods", "default", pod.name())
            }
            7 => {
                let service = json!({
                    "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
                    "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]},
                });
                self.body(Verb::Create, "services", "", service)
            }
            _ => request(&self.user, Verb::Delete, "services", "default", &name),
        };
        match api.call("user", &request) {
            Err(e) if e.code >= 500 => Err(format!("the API failed: {e}")),
            _ => Ok(()),
        }
    }

    fn body(&self, verb: Verb, resource: &str, name: &str, object: Value) -> ApiRequest {
        ApiRequest { body: Body::Object(object), ..request(&self.user, verb, resource, "default", name) }
    }

    fn patch(&self, name: &str, patch: Value) -> ApiRequest {
        let r = request(&self.user, Verb::Patch, "deployments.apps", "default", name);
        ApiRequest { body: Body::Patch(PatchType::Strategic, patch), ..r }
    }
}

fn deployment(name: &str, replicas: u64, version: u64) -> Value {
    let mut container = json!({
        "name": "c", "image": format!("file:///v{version}.wasm"), "ports": [{"containerPort": 8080}],
        "resources": {"requests": {"cpu": "50m", "memory": "8Mi"}},
    });
    let probe = json!({"httpGet": {"port": 8080}, "periodSeconds": 5, "failureThreshold": 1});
    if version > 0 {
        container["readinessProbe"] = probe.clone();
    }
    if version > 1 {
        container["livenessProbe"] = probe;
    }
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [container]},
            },
        },
    })
}

/// What a refusal is called when it does not matter: the object is gone or has moved on.
pub fn benign(status: &Status) -> bool {
    matches!(status.code, 404 | 409)
}
