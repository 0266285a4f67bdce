//! A user with changing wishes: deployments that come, go, grow, shrink and change; services; pods deleted by hand; at
//! whichever server answers. And several who want the same at the same time: the rest of a quota, addresses.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use copepod_machine::View as _;
use copepod_model::request::{Body, PatchType, Propagation};
use copepod_model::{ApiRequest, UserInfo, Verb};
use serde_json::{Value, json};

use super::POOL;
use super::api::{Api, Sender, request};
use crate::chance::Chance;
use crate::faults::Fault;
use crate::group::net::Place;
use crate::invariants::resource_quota::NAMESPACE;
use crate::kv::any;

/// The user.
struct User {
    chance: Chance,
    /// Whether pods are not to wait long for a node that is lost.
    hasty: bool,
    user: Arc<UserInfo>,
}

/// Wishes something now and then, until `over`. What the API refuses as upstream would is fine, and so is that nobody
/// answers; an internal error is not.
pub async fn live(api: Rc<Api>, place: Place, over: Rc<Cell<bool>>, chance: Chance) {
    let hasty = api.shape.faults.contains(&Fault::Silence);
    let mut user = User { chance, hasty, user: Arc::new(UserInfo::system("user")) };
    let group = api.group.clone();
    while !over.get() {
        group.exec.sleep(Duration::from_millis(20 + user.chance.below(1500))).await;
        let Some(server) = any(&group, &mut user.chance) else { continue };
        let Some(request) = user.wish(&api, server) else { continue };
        ask(&api, place, server, request).await;
    }
}

async fn ask(api: &Rc<Api>, place: Place, server: u64, request: ApiRequest) {
    if let Err(e) = api.call(place, server, Sender::outside("user"), request).await
        && e.code == 500
    {
        api.group.broke("refused", format!("the API failed: {e}"));
    }
}

/// Makes Secrets of a few names, more than the quota allows, and deletes them, until `over`; others do the same.
pub async fn hoard(api: Rc<Api>, place: Place, over: Rc<Cell<bool>>, mut chance: Chance) {
    let user = Arc::new(UserInfo::system("user"));
    let group = api.group.clone();
    while !over.get() {
        group.exec.sleep(Duration::from_millis(10 + chance.below(800))).await;
        let Some(server) = any(&group, &mut chance) else { continue };
        let name = format!("secret-{}", chance.below(6));
        let request = match chance.one_in(3) {
            true => request(&user, Verb::Delete, "secrets", NAMESPACE, &name),
            false => {
                let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
                ApiRequest { body: Body::Object(secret), ..request(&user, Verb::Create, "secrets", NAMESPACE, "") }
            }
        };
        ask(&api, place, server, request).await;
    }
}

/// Makes Services of a few names, of one family or of both, with load balancers and without; changes and deletes them, until
/// `over`; others do the same.
pub async fn publish(api: Rc<Api>, place: Place, over: Rc<Cell<bool>>, mut chance: Chance) {
    let user = Arc::new(UserInfo::system("user"));
    let group = api.group.clone();
    while !over.get() {
        group.exec.sleep(Duration::from_millis(20 + chance.below(1500))).await;
        let Some(server) = any(&group, &mut chance) else { continue };
        let name = format!("lb-{}", chance.below(5));
        let merge = |spec: Value| {
            let patch = Body::Patch(PatchType::Merge, json!({"spec": spec}));
            ApiRequest { body: patch, ..request(&user, Verb::Patch, "services", "default", &name) }
        };
        let request = match chance.below(7) {
            0..=3 => {
                let body = Body::Object(service(&name, &mut chance));
                ApiRequest { body, ..request(&user, Verb::Create, "services", "default", "") }
            }
            4 => merge(json!({"type": if chance.one_in(2) { "LoadBalancer" } else { "ClusterIP" }})),
            5 => merge(json!({"ipFamilyPolicy": if chance.one_in(2) { "PreferDualStack" } else { "SingleStack" }})),
            _ => request(&user, Verb::Delete, "services", "default", &name),
        };
        ask(&api, place, server, request).await;
    }
}

/// A Service of the pods of some Deployment.
fn service(name: &str, chance: &mut Chance) -> Value {
    let mut spec = json!({
        "selector": {"app": format!("app-{}", chance.below(4))}, "ports": [{"port": 80, "targetPort": 8080}],
        "ipFamilyPolicy": if chance.one_in(3) { "SingleStack" } else { "PreferDualStack" },
    });
    if chance.one_in(4) {
        spec["ipFamilies"] = json!(["IPv6"]);
    }
    if !chance.one_in(4) {
        spec["type"] = "LoadBalancer".into();
        spec["externalTrafficPolicy"] = if chance.one_in(3) { "Local" } else { "Cluster" }.into();
        if chance.one_in(4) {
            spec["loadBalancerIP"] = POOL[chance.below(POOL.len() as u64) as usize].into();
        }
    }
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}

/// Other pods for a Deployment.
pub fn new_image(user: &Arc<UserInfo>, name: &str, version: u64) -> ApiRequest {
    let image = format!("file:///v{version}.wasm");
    patch(user, name, json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}}))
}

fn patch(user: &Arc<UserInfo>, name: &str, patch: Value) -> ApiRequest {
    let r = request(user, Verb::Patch, "deployments.apps", "default", name);
    ApiRequest { body: Body::Patch(PatchType::Strategic, patch), ..r }
}

impl User {
    fn wish(&mut self, api: &Api, server: u64) -> Option<ApiRequest> {
        let name = format!("app-{}", self.chance.below(4));
        let replicas = self.chance.below(6);
        let version = self.chance.below(3);
        // Some say nothing, and wait for five minutes.
        let patience = self.hasty.then(|| self.chance.below(4)).filter(|seconds| *seconds > 0);
        Some(match self.chance.below(9) {
            0..=2 => self.body(Verb::Create, "deployments.apps", "", deployment(&name, replicas, version, patience)),
            3 => patch(&self.user, &name, json!({"spec": {"replicas": replicas}})),
            4 => new_image(&self.user, &name, self.chance.below(4)),
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
                let view = api.group.snapshot(server)?;
                let pods: Vec<_> = view.list("pods", Some("default")).collect();
                let pod = pods.get(self.chance.below(pods.len() as u64) as usize)?;
                request(&self.user, Verb::Delete, "pods", "default", pod.name())
            }
            7 => {
                let service = json!({
                    "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
                    "spec": {
                        "selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}],
                        "type": if version == 0 { "NodePort" } else { "ClusterIP" },
                    },
                });
                self.body(Verb::Create, "services", "", service)
            }
            _ => request(&self.user, Verb::Delete, "services", "default", &name),
        })
    }

    fn body(&self, verb: Verb, resource: &str, name: &str, object: Value) -> ApiRequest {
        ApiRequest { body: Body::Object(object), ..request(&self.user, verb, resource, "default", name) }
    }
}

/// A Deployment whose pods tolerate the loss of their node for so many seconds, or for as long as who says nothing.
fn deployment(name: &str, replicas: u64, version: u64, patience: Option<u64>) -> Value {
    let mut container = json!({
        "name": "c", "image": format!("file:///v{version}.wasm"), "ports": [{"containerPort": 8080}],
        "resources": {"requests": {"cpu": "150m", "memory": "8Mi"}},
    });
    let probe = json!({"httpGet": {"port": 8080}, "periodSeconds": 5, "failureThreshold": 1});
    if version > 0 {
        container["readinessProbe"] = probe.clone();
    }
    if version > 1 {
        container["livenessProbe"] = probe;
    }
    // By default a quarter of them, rounded up and down.
    let strategy = match version {
        0 => json!({}),
        1 => json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}),
        _ => json!({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}),
    };
    let mut spec = json!({"containers": [container]});
    if let Some(seconds) = patience {
        let tolerates =
            |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
        let lost = ["node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"];
        spec["tolerations"] = lost.map(tolerates).to_vec().into();
    }
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}}, "strategy": strategy,
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": spec,
            },
        },
    })
}
