//! What a controller wants done, as data: the runner executes it through the API like any client.

use std::fmt;
use std::time::Duration;

use copepod_model::certificate::Template;
use copepod_model::request::{PatchType, Propagation};
use serde_json::Value;

/// One request to the API, or a wish of the reconcile itself. `resource` is a GroupResource such as `pods` or
/// `replicasets.apps`.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Create an object; with `metadata.generateName` the server names it. `AlreadyExists` is not an error for the runner.
    Create {
        /// GroupResource.
        resource: &'static str,
        /// Namespace.
        namespace: String,
        /// The object.
        object: Value,
    },
    /// Replace an object; `metadata.resourceVersion` in it is the precondition.
    Update {
        /// GroupResource.
        resource: &'static str,
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// Subresource such as `status`, empty for the object.
        subresource: &'static str,
        /// The object.
        object: Value,
    },
    /// Patch an object.
    Patch {
        /// GroupResource.
        resource: String,
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// Subresource such as `status`, empty for the object.
        subresource: &'static str,
        /// Format.
        kind: PatchType,
        /// Patch. A `metadata.uid` or `metadata.resourceVersion` in a merge patch is a precondition.
        patch: Value,
    },
    /// Delete an object.
    Delete {
        /// GroupResource.
        resource: String,
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// Only if it has this UID.
        uid: String,
        /// Propagation, or the kind's default.
        propagation: Option<Propagation>,
        /// Grace in seconds, or the object's own.
        grace_seconds: Option<i64>,
    },
    /// Bind a pod to a node (`pods/binding`).
    Bind {
        /// Namespace.
        namespace: String,
        /// Pod.
        name: String,
        /// Only the pod with this UID.
        uid: String,
        /// Node.
        node: String,
    },
    /// Have the cluster's CA issue a certificate for a CertificateSigningRequest, and write it into its status.
    Certify {
        /// Name of the request.
        name: String,
        /// Only the one with this UID.
        uid: String,
        /// What the certificate says.
        template: Box<Template>,
    },
    /// Record an Event about an object; the runner names it and counts repetitions.
    Event {
        /// The object it is about: `apiVersion`, `kind`, `namespace`, `name`, `uid`.
        regarding: Value,
        /// Normal or Warning.
        kind: EventType,
        /// CamelCase reason.
        reason: &'static str,
        /// Text for people.
        message: String,
    },
    /// Reconcile this key again after a while even if nothing changes.
    After(Duration),
}

/// The type of an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// Information.
    Normal,
    /// Something to look at.
    Warning,
}

/// An action and why it is taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What.
    pub action: Action,
    /// Why, for the log and for tests.
    pub why: String,
}

/// The steps of one reconcile, in order. Steps of the same kind on the same resource that follow each other may run
/// concurrently; the first failure ends the plan, and the key is tried again with back-off.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan(pub Vec<Step>);

impl Plan {
    /// Nothing to do.
    pub fn none() -> Plan {
        Plan::default()
    }
    /// Adds a step.
    pub fn push(&mut self, action: Action, why: impl Into<String>) {
        self.0.push(Step { action, why: why.into() });
    }
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |object: &Value| {
            let m = &object["metadata"];
            m["name"]
                .as_str()
                .map(Into::into)
                .unwrap_or_else(|| format!("{}*", m["generateName"].as_str().unwrap_or("")))
        };
        match self {
            Action::Create { resource, object, .. } => write!(f, "create {resource}/{}", named(object)),
            Action::Update { resource, name, subresource, .. } => {
                write!(f, "update {resource}/{name}{}", sub(subresource))
            }
            Action::Patch { resource, name, subresource, patch, .. } => {
                write!(f, "patch {resource}/{name}{} {patch}", sub(subresource))
            }
            Action::Delete { resource, name, .. } => write!(f, "delete {resource}/{name}"),
            Action::Bind { name, node, .. } => write!(f, "bind pods/{name} to {node}"),
            Action::Certify { name, template, .. } => {
                let (from, to) = (template.not_before.rfc3339(), template.not_after.rfc3339());
                write!(f, "certify {name} as {:?} from {from} to {to}", template.subject.common_name())
            }
            Action::Event { reason, message, .. } => write!(f, "event {reason}: {message}"),
            Action::After(d) => write!(f, "again after {d:?}"),
        }
    }
}

fn sub(subresource: &str) -> String {
    if subresource.is_empty() { String::new() } else { format!("/{subresource}") }
}

impl fmt::Display for Plan {
    /// One line: what tests compare and logs show.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, s) in self.0.iter().enumerate() {
            write!(f, "{}{} ({})", if i > 0 { "; " } else { "" }, s.action, s.why)?;
        }
        Ok(())
    }
}
