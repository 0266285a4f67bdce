//! Rules that look beyond the object itself. Mutating ones run before validation, validating ones after it.

mod default_ingress_class;
mod escalation;
mod image_namespace;
mod namespaces;
mod node_restriction;
mod service_account;
mod service_allocation;

use copepod_machine::{Ids, View};
use copepod_model::kinds::Kind;
use copepod_model::{Key, Status, UserInfo};
use copepod_state::{Op, Require};
use serde_json::Value;

use crate::Config;
use crate::call::{Call, Part};

pub use image_namespace::{IMAGE_HOST, image_attributes};
pub(crate) use namespaces::{exists as namespace_exists, unchanged as namespace_unchanged};

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
    pub(crate) user: &'r UserInfo,
    pub(crate) kind: &'r Kind,
    pub(crate) key: &'r Key,
    pub(crate) part: Part,
    pub(crate) operation: Operation,
    /// The stored object, of updates and deletes.
    pub(crate) old: Option<&'r Value>,
    /// What the rules add to the transaction.
    pub(crate) effects: Effects,
}

/// What admission adds to a transaction.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) require: Vec<Require>,
    pub(crate) ops: Vec<Op>,
}

impl Effects {
    pub(crate) fn merge(&mut self, other: Effects) {
        self.require.extend(other.require);
        self.ops.extend(other.ops);
    }
}

impl<'r> Review<'r> {
    pub(crate) fn new(call: &'r mut Call<'_, '_>, operation: Operation, old: Option<&'r Value>) -> Review<'r> {
        Review {
            config: &call.registry.config,
            view: call.env.view,
            ids: &mut *call.env.ids,
            user: &call.req.user,
            kind: &call.kind,
            key: &call.key,
            part: call.part,
            operation,
            old,
            effects: Effects::default(),
        }
    }

    /// Whether the review is of the whole object, not of a subresource.
    fn whole(&self) -> bool {
        matches!(self.part, Part::Whole)
    }

    /// A 403 in upstream's words for what admission refuses.
    fn forbid(&self, why: &str) -> Status {
        Status::forbidden(&self.key.resource, &self.key.name, why)
    }
}

type Mutate = fn(&mut Review<'_>, &mut Value) -> Result<(), Status>;
type Validate = fn(&mut Review<'_>, &Value) -> Result<(), Status>;
type Release = fn(&mut Review<'_>, &Value);

/// The mutating rules, in order.
const MUTATING: &[Mutate] = &[service_account::mutate, default_ingress_class::mutate, service_allocation::mutate];
/// The validating rules.
const VALIDATING: &[Validate] =
    &[namespaces::validate, node_restriction::validate, escalation::validate, image_namespace::validate];
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
