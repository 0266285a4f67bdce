//! Rules that look beyond the object itself. Mutating ones run before validation, validating ones after it.

mod certificates;
mod default_ingress_class;
mod default_storage_class;
mod default_toleration_seconds;
mod escalation;
mod image_namespace;
mod limit_ranger;
mod namespaces;
mod node_restriction;
mod node_taint;
mod pod_security;
mod priority;
mod resource_quota;
mod runtime_class;
mod service_account;
mod service_allocation;
mod storage_object_in_use;
mod unenforced;

use copepod_machine::{Ids, Time, View};
use copepod_model::kinds::Kind;
use copepod_model::{Key, Status, UserInfo};
use copepod_state::{Op, Require};
use serde_json::Value;

use crate::Config;
use crate::call::{Call, Part};

pub use image_namespace::{IMAGE_HOST, image_attributes};
pub(crate) use namespaces::{exists as namespace_exists, unchanged as namespace_unchanged};
pub use pod_security::Evaluation;
pub use service_allocation::missing_addresses;

/// What is being done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
}

/// What a rule sees.
pub(crate) struct Review<'r> {
    pub(crate) config: &'r Config,
    pub(crate) view: &'r dyn View,
    pub(crate) ids: &'r mut dyn Ids,
    pub(crate) now: Time,
    pub(crate) user: &'r UserInfo,
    pub(crate) kind: &'r Kind,
    pub(crate) key: &'r Key,
    pub(crate) part: Part,
    pub(crate) operation: Operation,
    /// The stored object, of updates and deletes.
    pub(crate) old: Option<&'r Value>,
    /// What the rules add to the transaction.
    pub(crate) effects: Effects,
    /// What is to be counted.
    evaluations: &'r mut Vec<Evaluation>,
}

/// What admission adds to a transaction.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) require: Vec<Require>,
    pub(crate) ops: Vec<Op>,
    /// What the client is told besides.
    pub(crate) warnings: Vec<String>,
    /// Whether many writers are expected to want the same: then losing a race is no failure, however often.
    pub(crate) contended: bool,
}

impl Effects {
    pub(crate) fn merge(&mut self, other: Effects) {
        self.require.extend(other.require);
        self.ops.extend(other.ops);
        self.warnings.extend(other.warnings);
        self.contended |= other.contended;
    }
}

impl<'r> Review<'r> {
    pub(crate) fn new(call: &'r mut Call<'_, '_>, operation: Operation, old: Option<&'r Value>) -> Review<'r> {
        Review {
            config: &call.registry.config,
            view: call.env.view,
            ids: &mut *call.env.ids,
            now: call.env.now,
            user: &call.req.user,
            kind: &call.kind,
            key: &call.key,
            part: call.part,
            operation,
            old,
            effects: Effects::default(),
            evaluations: &mut call.env.evaluations,
        }
    }

    /// Whether the review is of the whole object, not of a subresource.
    fn whole(&self) -> bool {
        matches!(self.part, Part::Whole)
    }

    /// Whether the review is of a whole object of this resource that is being created.
    fn creates(&self, resource: &str) -> bool {
        self.operation == Operation::Create && self.whole() && &*self.key.resource == resource
    }

    /// Whether the review is of a pod whose resources change while it runs.
    fn resizes(&self) -> bool {
        matches!(self.part, Part::Other("resize")) && &*self.key.resource == "pods"
    }

    /// A 403 in upstream's words for what admission refuses.
    fn forbid(&self, why: &str) -> Status {
        Status::forbidden(&self.key.resource, &self.key.name, why)
    }
}

type Mutate = fn(&mut Review<'_>, &mut Value) -> Result<(), Status>;
type Validate = fn(&mut Review<'_>, &Value) -> Result<(), Status>;
type Release = fn(&mut Review<'_>, &Value);

/// The mutating rules, in upstream's order; what upstream has in its storage comes last.
const MUTATING: &[Mutate] = &[
    limit_ranger::mutate,
    service_account::mutate,
    node_taint::mutate,
    priority::mutate,
    default_toleration_seconds::mutate,
    default_storage_class::mutate,
    storage_object_in_use::mutate,
    runtime_class::mutate,
    default_ingress_class::mutate,
    service_allocation::mutate,
];
/// The validating rules, likewise; quotas are charged when nothing else is in the way.
const VALIDATING: &[Validate] = &[
    namespaces::validate,
    limit_ranger::validate,
    node_restriction::validate,
    service_account::validate,
    pod_security::validate,
    priority::validate,
    runtime_class::validate,
    certificates::validate,
    escalation::validate,
    image_namespace::validate,
    unenforced::validate,
    resource_quota::validate,
];
/// What takes back what a rule has given to an object, once the object is removed.
const RELEASING: &[Release] = &[service_allocation::release];

/// Runs the mutating rules.
pub(crate) fn mutate(review: &mut Review<'_>, object: &mut Value) -> Result<(), Status> {
    MUTATING.iter().try_for_each(|rule| rule(review, object))
}

/// Runs the validating rules; for a delete, on the object to be deleted.
pub(crate) fn validate(review: &mut Review<'_>, object: &Value) -> Result<(), Status> {
    VALIDATING.iter().try_for_each(|rule| rule(review, object))
}

/// Runs when `object` is about to be removed.
pub(crate) fn released(review: &mut Review<'_>, object: &Value) {
    for rule in RELEASING {
        rule(review, object);
    }
}
