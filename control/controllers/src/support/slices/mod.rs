//! What the controllers that write EndpointSlices share: which slices are a controller's, and the writes that make them list
//! what they should.

mod pack;

use std::collections::BTreeMap;

use copepod_machine::{Action, Plan, View};
use copepod_model::{Key, Object};
use serde_json::{Map, Value, json};

use super::ports::Port;
use super::{ownership, text};

/// The slices.
pub(crate) const SLICES: &str = "endpointslices.discovery.k8s.io";
/// The label with the name of the Service whose endpoints a slice lists.
pub(crate) const SERVICE_NAME: &str = copepod_model::facts::SERVICE_NAME_LABEL;
/// The label with the controller that a slice belongs to.
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";

/// Endpoints of one address type by [`identity`], by their ports.
pub(crate) type Wanted = BTreeMap<Vec<Port>, BTreeMap<String, Value>>;

/// What tells endpoints apart: the address, and the pod behind it.
pub(crate) fn identity(endpoint: &Value) -> String {
    format!("{} {}", text(&endpoint["addresses"][0]), text(&endpoint["targetRef"]["uid"]))
}

/// A controller's slices for one Service.
pub(crate) struct Slices<'a> {
    /// `apiVersion` and `kind` of the owner.
    pub gvk: (&'static str, &'static str),
    /// Owns the slices and has the Service's name: the Service or its Endpoints.
    pub owner: &'a Object,
    /// The fields of `metadata` that every slice has, such as `labels`.
    pub metadata: Map<String, Value>,
    /// The most endpoints in one slice.
    pub max: usize,
    /// Whether one empty slice stays where there are no endpoints, so that consumers can tell "none" from "not yet".
    pub keep_one: bool,
}

impl Slices<'_> {
    /// Plans the writes that turn `existing` (of the address type `family`) into `wanted`.
    pub(crate) fn plan(&self, plan: &mut Plan, family: &str, existing: Vec<Value>, wanted: Wanted) {
        for change in pack::pack(existing, wanted, self) {
            match change {
                pack::Change::Create(ports, endpoints) => {
                    let ports: Vec<Value> = ports.iter().map(Port::in_slice).collect();
                    let mut object = json!({
                        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                        "metadata": {
                            "generateName": format!("{}-", self.owner.name()), "namespace": self.owner.namespace(),
                            "ownerReferences": [ownership::controller_ref(self.gvk, self.owner)],
                        },
                        "addressType": family, "ports": ports, "endpoints": endpoints,
                    });
                    self.describe(&mut object);
                    let namespace = self.owner.namespace().into();
                    plan.push(Action::Create { resource: SLICES, namespace, object }, "more endpoints than room");
                }
                pack::Change::Update(mut object) => {
                    self.describe(&mut object);
                    let name = text(&object["metadata"]["name"]).to_string();
                    let namespace = self.owner.namespace().into();
                    let update = Action::Update { resource: SLICES, namespace, name, subresource: "", object };
                    plan.push(update, "endpoints changed");
                }
                pack::Change::Delete(slice) => delete(plan, &slice, "nothing left in it"),
            }
        }
    }

    /// Whether a slice has the metadata that it should have; an empty map is as good as none.
    fn described(&self, slice: &Value) -> bool {
        let empty = |v: &Value| v.as_object().is_some_and(Map::is_empty);
        self.metadata.iter().all(|(k, wanted)| {
            let found = &slice["metadata"][k];
            found == wanted || (found.is_null() && empty(wanted))
        })
    }

    fn describe(&self, slice: &mut Value) {
        for (k, v) in &self.metadata {
            slice["metadata"][k] = v.clone();
        }
    }
}

/// Plans the deletion of a slice.
pub(crate) fn delete(plan: &mut Plan, slice: &Value, why: &str) {
    let meta = &slice["metadata"];
    let delete = Action::Delete {
        resource: SLICES.into(),
        namespace: text(&meta["namespace"]).into(),
        name: text(&meta["name"]).into(),
        uid: text(&meta["uid"]).into(),
        propagation: None,
        grace_seconds: None,
    };
    plan.push(delete, why);
}

/// The slices of a Service that `manager` writes and nobody is deleting.
pub(crate) fn of_service(view: &dyn View, namespace: &str, service: &str, manager: &str) -> Vec<Value> {
    let own = |s: &Object| service_of(s, manager) == Some(service) && s.meta.deletion_timestamp.is_none();
    view.list(SLICES, Some(namespace)).filter(|s| own(s)).map(|s| s.value()).collect()
}

/// The Service whose endpoints a slice lists, if `manager` writes it.
fn service_of<'s>(slice: &'s Object, manager: &str) -> Option<&'s str> {
    let managed = slice.meta.labels.get(MANAGED_BY).is_some_and(|m| &**m == manager);
    slice.meta.labels.get(SERVICE_NAME).filter(|_| managed).map(|s| &**s)
}

/// The keys, of the Service or of what has its name in `resource`, that the change of a slice of `manager` concerns.
pub(crate) fn keys(manager: &str, resource: &str, old: Option<&Object>, new: Option<&Object>) -> Vec<Key> {
    let of = |o: Option<&Object>| {
        let o = o?;
        service_of(o, manager).map(|s| Key::new(resource, o.key.namespace.clone(), s))
    };
    let (before, after) = (of(old), of(new));
    if before == after { after.into_iter().collect() } else { before.into_iter().chain(after).collect() }
}
