//! An API in memory: what the agent uses of one, with the real schema's strategic merge.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use copepod_client::{Body, Client, List, Reply, Transport, WatchEvent, WatchStream};
use copepod_model::request::{Body as Payload, PatchType};
use copepod_model::schema::{Schema, merge_patch::merge_patch};
use copepod_model::{ApiRequest, Key, Object, Status, UserInfo, Verb, object};
use futures_util::StreamExt;
use serde_json::Value;
use tokio::sync::broadcast;

use crate::logs::lock;

pub struct Fake {
    state: Mutex<State>,
    issued: Mutex<u32>,
    reviews: Mutex<u32>,
    changes: broadcast::Sender<(bool, Arc<Object>)>,
}

#[derive(Default)]
struct State {
    revision: u64,
    objects: BTreeMap<Key, Arc<Object>>,
}

impl Fake {
    pub fn new() -> Arc<Fake> {
        Arc::new(Fake {
            state: Mutex::default(),
            issued: Mutex::default(),
            reviews: Mutex::default(),
            changes: broadcast::channel(4096).0,
        })
    }

    pub fn client(self: &Arc<Fake>) -> Client {
        Client::new(self.clone(), UserInfo::system("test"), "test")
    }

    pub fn put(&self, key: Key, value: Value) -> Arc<Object> {
        self.store(&mut lock(&self.state), key, value)
    }

    /// Changes an object that is there; nobody else changes it meanwhile.
    pub fn change<E>(
        &self,
        key: &Key,
        change: impl FnOnce(&mut Value) -> Result<(), E>,
    ) -> Option<Result<Arc<Object>, E>> {
        let mut state = lock(&self.state);
        let mut value = state.objects.get(key)?.value();
        Some(change(&mut value).map(|()| self.store(&mut state, key.clone(), value)))
    }

    fn store(&self, state: &mut State, key: Key, mut value: Value) -> Arc<Object> {
        state.revision += 1;
        if value["metadata"]["uid"].is_null() {
            value["metadata"]["uid"] = format!("uid-{}", state.revision).into();
        }
        let body = object::with_revision(&object::encode(&value), state.revision);
        let o = Arc::new(Object::decode(key.clone(), state.revision, body));
        state.objects.insert(key, o.clone());
        let _ = self.changes.send((true, o.clone()));
        o
    }

    pub fn get(&self, key: &Key) -> Option<Arc<Object>> {
        lock(&self.state).objects.get(key).cloned()
    }

    pub fn all(&self, resource: &str) -> Vec<Arc<Object>> {
        lock(&self.state).objects.values().filter(|o| &*o.key.resource == resource).cloned().collect()
    }

    /// How many reviews there were.
    pub fn reviews(&self) -> u32 {
        *lock(&self.reviews)
    }

    fn remove(&self, key: &Key) -> Option<Arc<Object>> {
        let mut state = lock(&self.state);
        let old = state.objects.remove(key)?;
        state.revision += 1;
        let gone = Arc::new(old.at_revision(state.revision));
        let _ = self.changes.send((false, gone.clone()));
        Some(gone)
    }

    /// Waits until an object satisfies `good`; `None` stands for its absence.
    pub async fn until(&self, key: &Key, good: impl Fn(Option<&Value>) -> bool) -> Value {
        let mut changes = self.changes.subscribe();
        let wait = async {
            loop {
                let now = self.get(key).map(|o| o.value());
                if good(now.as_ref()) {
                    return now.unwrap_or_default();
                }
                let _ = changes.recv().await;
            }
        };
        match tokio::time::timeout(std::time::Duration::from_secs(60), wait).await {
            Ok(value) => value,
            Err(_) => panic!(
                "{key} has not become what it should: {:#}",
                self.get(key).map(|o| o.value()).unwrap_or_default()
            ),
        }
    }
}

/// The token `good` is of `bot`, who may read metrics; `admin` may everything.
fn reviewed(mut review: Value) -> Value {
    let spec = &review["spec"];
    let status = if review["kind"] != "TokenReview" {
        let wanted = &spec["resourceAttributes"];
        let metrics = wanted["verb"] == "get" && wanted["subresource"] == "metrics";
        let here = wanted["resource"] == "nodes" && wanted["name"] == "n";
        let allowed = here && (spec["user"] == "admin" || spec["user"] == "bot" && metrics);
        serde_json::json!({ "allowed": allowed })
    } else if spec["token"] == "good" {
        serde_json::json!({"authenticated": true, "user": {"username": "bot"}})
    } else {
        serde_json::json!({"user": {}, "error": "invalid bearer token"})
    };
    review["status"] = status;
    review
}

fn selected(request: &ApiRequest, o: &Object) -> bool {
    let name = request.list.field_selector.strip_prefix("metadata.name=");
    let here = request.namespace.is_empty() || *o.key.namespace == *request.namespace;
    if !here || name.is_some_and(|n| o.name() != n) {
        return false;
    }
    let node = request.list.field_selector.strip_prefix("spec.nodeName=");
    *o.key.resource == *request.group_resource() && node.is_none_or(|n| o.meta.node_name.as_deref() == Some(n))
}

#[async_trait]
impl Transport for Fake {
    async fn call(&self, request: ApiRequest) -> Result<Reply, Status> {
        let mut key = request.key();
        if let (Verb::Create, None, Payload::Object(value)) = (request.verb, &request.subresource, &request.body) {
            key.name = value["metadata"]["name"].as_str().unwrap_or_default().into();
        }
        let missing = || Status::not_found(&key.resource, &key.name);
        match request.verb {
            Verb::Get => self.get(&key).map(Reply::Object).ok_or_else(missing),
            Verb::List => {
                let state = lock(&self.state);
                let items = state.objects.values().filter(|o| selected(&request, o)).cloned().collect();
                Ok(Reply::List(List { revision: state.revision, items, continue_token: String::new() }))
            }
            Verb::Create if request.subresource.as_deref() == Some("token") => {
                let mut issued = lock(&self.issued);
                *issued += 1;
                Ok(Reply::Json(serde_json::json!({"status": {
                    "token": format!("token {issued} for {}", key.name), "expirationTimestamp": "2099-01-01T00:00:00Z"}})))
            }
            Verb::Create if request.resource.ends_with("reviews") => {
                *lock(&self.reviews) += 1;
                let Payload::Object(review) = request.body else { return Err(Status::bad_request("no review")) };
                Ok(Reply::Json(reviewed(review)))
            }
            Verb::Create | Verb::Update => {
                let Payload::Object(value) = request.body else { return Err(Status::bad_request("no object")) };
                if request.verb == Verb::Create && self.get(&key).is_some() {
                    return Err(Status::already_exists(&key.resource, &key.name));
                }
                Ok(Reply::Object(self.put(key, value)))
            }
            Verb::Patch => {
                let changed = self.change(&key, |value| {
                    match request.body {
                        Payload::Patch(PatchType::Strategic, patch) => {
                            let (named, own) = (&patch["metadata"]["uid"], &value["metadata"]["uid"]);
                            assert_eq!(named, own, "the patch is for this very object");
                            let schema = Schema::builtin();
                            let (version, kind) = (value["apiVersion"].as_str(), value["kind"].as_str());
                            let ty = schema.lookup(version.unwrap_or_default(), kind.unwrap_or_default());
                            let ty = ty.expect("a kind that is known");
                            let merged = schema.strategic_merge(ty, value, &patch);
                            *value = merged.map_err(|e| Status::bad_request(e.to_string()))?;
                        }
                        Payload::Patch(_, patch) => merge_patch(value, patch),
                        _ => return Err(Status::bad_request("no patch")),
                    }
                    Ok(())
                });
                changed.ok_or_else(missing)?.map(Reply::Object)
            }
            _ => {
                assert_eq!(request.delete.grace_period_seconds, Some(0));
                self.remove(&key).map(Reply::Object).ok_or_else(missing)
            }
        }
    }

    async fn watch(&self, request: ApiRequest) -> Result<WatchStream, Status> {
        let changes = self.changes.subscribe();
        let from: u64 = request.list.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0);
        // What happened between the list and the subscription.
        let missed: Vec<_> =
            lock(&self.state).objects.values().filter(|o| o.revision > from).map(|o| (true, o.clone())).collect();
        let later =
            futures_util::stream::unfold(changes, |mut rx| async move { rx.recv().await.ok().map(|c| (c, rx)) });
        let all = futures_util::stream::iter(missed).chain(later);
        Ok(Box::pin(all.filter_map(move |(there, o)| {
            let event =
                selected(&request, &o).then(|| if there { WatchEvent::Modified(o) } else { WatchEvent::Deleted(o) });
            async move { event }
        })))
    }

    async fn raw(&self, _: http::Request<Bytes>, _: Arc<UserInfo>) -> Result<http::Response<Body>, Status> {
        Err(Status::no_such_path())
    }
}
