//! The registry of kinds: everything about a kind that is not the same for all kinds, as one value per kind.
//!
//! Generic code (routing, discovery, OpenAPI, RBAC, storage, the CLI) reads this table and never matches on kinds. Custom
//! resources join the same table while the server runs, so it is a value, not a static.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use crate::{FieldError, Time};

/// One kind at its storage version.
#[derive(Clone)]
pub struct Kind {
    /// API group, empty for core.
    pub group: &'static str,
    /// API version, such as `v1`.
    pub version: &'static str,
    /// `Deployment`.
    pub kind: &'static str,
    /// `deployments`.
    pub plural: &'static str,
    /// `deployment`.
    pub singular: &'static str,
    /// `deploy`.
    pub short_names: &'static [&'static str],
    /// `all`.
    pub categories: &'static [&'static str],
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Whether `/status` is a subresource of its own, and writes to the object leave `status` alone.
    pub status: bool,
    /// Where `/scale` finds its values.
    pub scale: Option<Scale>,
    /// Further subresources that the registry or the server implements: (name, kind it takes, verbs), such as
    /// `("binding", "Binding", ["create"])`, `("log", "Pod", ["get"])`.
    pub subresources: &'static [(&'static str, &'static str, &'static [&'static str])],
    /// Whether `metadata.generation` counts changes of the spec.
    pub generation: bool,
    /// How many seconds a DELETE waits for by default before the object may be removed; only pods do (their spec says).
    pub graceful: bool,
    /// What clients of a deprecated kind are warned with (header `Warning`), in upstream's words.
    pub deprecation: Option<&'static str>,
    /// What differs in behaviour.
    pub strategy: Arc<dyn Strategy>,
}

/// JSON paths (dotted) of a kind's scale subresource.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// `spec.replicas`.
    pub spec_replicas: &'static str,
    /// `status.replicas`.
    pub status_replicas: &'static str,
    /// `spec.selector`, a label selector.
    pub selector: &'static str,
}

/// A column of `kubectl get`: `metav1.TableColumnDefinition`.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Header.
    pub name: &'static str,
    /// `string`, `integer` …
    pub kind: &'static str,
    /// `name` for the first column, else empty.
    pub format: &'static str,
    /// 0 is always shown, 1 with `-o wide`.
    pub priority: i32,
    /// Description.
    pub description: &'static str,
}

/// A kind's own rules. Every method is pure; the default of each is "nothing special".
pub trait Strategy: Send + Sync {
    /// Fills in upstream's defaults. Idempotent.
    fn default(&self, _object: &mut Value) {}

    /// Errors of a new object. Metadata common to all kinds, unknown fields and JSON types are checked elsewhere.
    fn validate(&self, _object: &Value, _errors: &mut Vec<FieldError>) {}

    /// Further errors of a change, such as immutable fields. `validate` runs too.
    fn validate_update(&self, _new: &Value, _old: &Value, _errors: &mut Vec<FieldError>) {}

    /// Further errors of an object that is being created. `validate` runs too.
    fn validate_create(&self, _object: &Value, _errors: &mut Vec<FieldError>) {}

    /// Keeps of `new` what may be written to one of [`Kind::subresources`] that takes the whole object.
    fn prepare_subresource(&self, _subresource: &str, _new: &mut Value, _old: &Value) {}

    /// Further errors of such a write, in place of those of a change. `validate` runs too.
    fn validate_subresource(&self, _subresource: &str, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        self.validate_update(new, old, errors);
    }

    /// Errors of a status write.
    fn validate_status(&self, _new: &Value, _old: &Value, _errors: &mut Vec<FieldError>) {}

    /// Clears what a creating client may not set (`status` is cleared for kinds that have the subresource) and sets
    /// what upstream's strategy sets, such as a pod's phase `Pending` and QoS class.
    fn prepare_create(&self, _object: &mut Value) {}

    /// Restores what an updating client may not change.
    fn prepare_update(&self, _new: &mut Value, _old: &Value) {}

    /// Checks the object's name; upstream's default is an RFC 1123 subdomain.
    fn validate_name(&self, name: &str) -> Result<(), String> {
        names::subdomain(name)
    }

    /// Selectable fields besides `metadata.name` and `metadata.namespace`.
    fn selectable_fields(&self) -> &'static [&'static str] {
        &[]
    }

    /// The value of a selectable field; the default reads the path.
    fn field(&self, object: &Value, path: &str) -> String {
        field_at(object, path)
    }

    /// The columns of its Table.
    fn columns(&self) -> Vec<Column> {
        vec![NAME, AGE]
    }

    /// The cells of one row, as many as columns. `now` is for ages.
    fn cells(&self, object: &Value, now: Time) -> Vec<Value> {
        vec![object["metadata"]["name"].clone(), age(object, now)]
    }
}

/// The strategy of a kind without rules of its own.
pub struct Plain;
impl Strategy for Plain {}

/// The first column of nearly every kind.
pub const NAME: Column = Column {
    name: "Name",
    kind: "string",
    format: "name",
    priority: 0,
    description: "Name must be unique within a namespace.",
};
/// The age column.
pub const AGE: Column = Column {
    name: "Age",
    kind: "string",
    format: "",
    priority: 0,
    description: "CreationTimestamp is a timestamp representing the server time when this object was created.",
};

/// The cell of [`AGE`].
pub fn age(object: &Value, now: Time) -> Value {
    since(&object["metadata"]["creationTimestamp"], now)
}

/// The time since a timestamp, as `kubectl get` shows it.
pub fn since(timestamp: &Value, now: Time) -> Value {
    match timestamp.as_str().and_then(Time::parse) {
        Some(t) => duration::human(now.since(t)).into(),
        None => "<unknown>".into(),
    }
}

/// The text at a dotted path, empty when absent.
pub fn field_at(object: &Value, path: &str) -> String {
    match path.split('.').fold(object, |v, part| &v[part]) {
        Value::String(s) => s.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// All kinds that are served, by resource and by kind.
#[derive(Clone, Default)]
pub struct Kinds {
    by_resource: BTreeMap<(String, String), Arc<Kind>>,
}

impl Kinds {
    /// Kubernetes' kinds that this server implements.
    pub fn builtin() -> Kinds {
        let mut kinds = Kinds::default();
        for kind in builtin() {
            kinds.add(kind);
        }
        kinds
    }
    /// The same, made once in a process.
    pub fn shared() -> Arc<Kinds> {
        static SHARED: OnceLock<Arc<Kinds>> = OnceLock::new();
        SHARED.get_or_init(|| Arc::new(Kinds::builtin())).clone()
    }
    /// Adds or replaces a kind.
    pub fn add(&mut self, kind: Kind) {
        self.by_resource.insert((kind.group.into(), kind.plural.into()), Arc::new(kind));
    }
    /// By group and plural.
    pub fn resource(&self, group: &str, plural: &str) -> Option<&Arc<Kind>> {
        // Tuples of Strings cannot be looked up by &str without building a key; the registry is small and this is cheap.
        self.by_resource.get(&(group.to_string(), plural.to_string()))
    }
    /// By GroupResource text, such as `deployments.apps`.
    pub fn group_resource(&self, text: &str) -> Option<&Arc<Kind>> {
        let (plural, group) = text.split_once('.').unwrap_or((text, ""));
        self.resource(group, plural)
    }
    /// By group and kind.
    pub fn kind(&self, group: &str, kind: &str) -> Option<&Arc<Kind>> {
        self.iter().find(|k| k.group == group && k.kind == kind)
    }
    /// By `apiVersion` and `kind`, as a manifest has them.
    pub fn gvk(&self, api_version: &str, kind: &str) -> Option<&Arc<Kind>> {
        self.iter().find(|k| k.api_version() == api_version && k.kind == kind)
    }
    /// In the order of group and plural.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.by_resource.values()
    }
}

impl Kind {
    /// A kind that lives in namespaces and has nothing but its names and its rules.
    pub fn new(
        (group, version): (&'static str, &'static str),
        kind: &'static str,
        (plural, singular): (&'static str, &'static str),
        strategy: impl Strategy + 'static,
    ) -> Kind {
        Kind {
            group,
            version,
            kind,
            plural,
            singular,
            short_names: &[],
            categories: &[],
            namespaced: true,
            status: false,
            scale: None,
            subresources: &[],
            generation: false,
            graceful: false,
            deprecation: None,
            strategy: Arc::new(strategy),
        }
    }
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.into() } else { format!("{}/{}", self.group, self.version) }
    }
    /// `deployments.apps`.
    pub fn group_resource(&self) -> String {
        if self.group.is_empty() { self.plural.into() } else { format!("{}.{}", self.plural, self.group) }
    }
}

pub mod apps;
pub mod coordination;
pub mod core;
pub mod discovery;
pub mod duration;
pub mod fields;
pub mod gateway_api;
pub mod metadata;
pub mod names;
pub mod networking;
pub mod rbac;
mod table;

#[cfg(test)]
mod tests;

fn builtin() -> Vec<Kind> {
    vec![
        core::config_map::kind(),
        core::endpoints::kind(),
        core::event::kind(),
        core::namespace::kind(),
        core::node::kind(),
        core::pod::kind(),
        core::secret::kind(),
        core::service::kind(),
        core::service_account::kind(),
        apps::deployment::kind(),
        apps::replica_set::kind(),
        coordination::lease::kind(),
        discovery::endpoint_slice::kind(),
        gateway_api::gateway::kind(),
        gateway_api::gateway_class::kind(),
        gateway_api::grpc_route::kind(),
        gateway_api::http_route::kind(),
        gateway_api::reference_grant::kind(),
        networking::ingress::kind(),
        networking::ingress_class::kind(),
        rbac::cluster_role::kind(),
        rbac::cluster_role_binding::kind(),
        rbac::role::kind(),
        rbac::role_binding::kind(),
    ]
}
