//! The registry of kinds: everything about a kind that is not the same for all kinds, as one value per kind.
//!
//! Generic code (routing, discovery, OpenAPI, RBAC, storage, the CLI) reads this table and never matches on kinds. Custom
//! resources join the same table while the server runs, so it is a value, not a static.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use crate::{FieldError, Time, UserInfo};

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
    /// What may be done with its objects: all of [`VERBS`], but for what upstream has no route for.
    pub verbs: &'static [&'static str],
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

/// The verbs that nearly every kind has.
pub const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

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

    /// Whether such a subresource is about the status; by default none is, and the stored status stays.
    fn owns_status(&self, _subresource: &str) -> bool {
        false
    }

    /// Restores what may not be written with the status, of which the generic part is done.
    fn prepare_status(&self, _new: &mut Value, _old: &Value) {}

    /// Errors of a status write.
    fn validate_status(&self, _new: &Value, _old: &Value, _errors: &mut Vec<FieldError>) {}

    /// Clears what a creating client may not set (`status` is cleared for kinds that have the subresource) and sets
    /// what upstream's strategy sets, such as a pod's phase `Pending` and QoS class.
    fn prepare_create(&self, _object: &mut Value) {}

    /// Writes down who creates the object, for kinds that keep it.
    fn record_requester(&self, _object: &mut Value, _user: &UserInfo) {}

    /// Restores what an updating client may not change.
    fn prepare_update(&self, _new: &mut Value, _old: &Value) {}

    /// Fills in the times that whoever changes the object or a subresource of it has left out.
    fn stamp(&self, _new: &mut Value, _old: &Value, _now: Time) {}

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

    /// The versions that are served besides the stored one.
    fn versions(&self) -> &'static [Version] {
        &[]
    }

    /// Why an object is kept and acts on nothing here, if that is so: who writes it is warned.
    fn unenforced(&self, _object: &Value) -> Option<&'static str> {
        None
    }

    /// Whether a DELETE that names no propagation policy leaves the dependents alone.
    fn orphans(&self) -> bool {
        false
    }

    /// What who sends such a DELETE is warned of.
    fn orphans_warning(&self) -> Option<&'static str> {
        None
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
    /// The same kinds at the versions that are not stored, by the group that they have there.
    others: BTreeMap<(String, String), Vec<Arc<Kind>>>,
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
        let key = (kind.group.to_string(), kind.plural.to_string());
        self.others.remove(&key);
        for other in kind.strategy.versions().iter().map(|v| Arc::new(kind.at(v))) {
            let all = self.others.entry((other.group.to_string(), other.plural.to_string())).or_default();
            all.retain(|k| k.version != other.version);
            all.push(other);
        }
        self.by_resource.insert(key, Arc::new(kind));
    }
    /// By group and plural.
    pub fn resource(&self, group: &str, plural: &str) -> Option<&Arc<Kind>> {
        // Tuples of Strings cannot be looked up by &str without building a key; the registry is small and this is cheap.
        self.by_resource.get(&(group.to_string(), plural.to_string()))
    }
    /// By plural and any group that it is served in, as it is stored.
    pub fn stored(&self, group: &str, plural: &str) -> Option<&Arc<Kind>> {
        let elsewhere =
            |k: &&Arc<Kind>| k.plural == plural && k.strategy.versions().iter().any(|v| v.group == Some(group));
        self.resource(group, plural).or_else(|| self.iter().find(elsewhere))
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
        self.every_version().find(|k| k.kind == kind && k.api_version() == api_version)
    }
    /// By group, plural and version: the kind as clients of that version see it.
    pub fn served(&self, group: &str, plural: &str, version: &str) -> Option<&Arc<Kind>> {
        let key = (group.to_string(), plural.to_string());
        let others = self.others.get(&key).into_iter().flatten();
        self.by_resource.get(&key).into_iter().chain(others).find(|k| k.version == version)
    }
    /// In the order of group and plural, each once, as it is stored.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.by_resource.values()
    }
    /// The same at every version that is served.
    pub fn every_version(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.by_resource.values().chain(self.others.values().flatten())
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
            verbs: VERBS,
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
        api_version(self.group, self.version)
    }
    /// `deployments.apps`.
    pub fn group_resource(&self) -> String {
        if self.group.is_empty() { self.plural.into() } else { format!("{}.{}", self.plural, self.group) }
    }
}

fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.into() } else { format!("{group}/{version}") }
}

pub mod admissionregistration;
pub mod apiregistration;
pub mod apps;
pub mod autoscaling;
pub mod batch;
pub mod certificates;
pub mod coordination;
pub mod core;
pub mod discovery;
pub mod duration;
mod events;
pub mod fields;
pub mod flowcontrol;
pub mod gateway_api;
mod int_or_percent;
pub mod metadata;
pub mod names;
pub mod networking;
pub mod node;
pub mod policy;
pub mod rbac;
pub mod scheduling;
pub mod storage;
mod table;
mod version;
mod workload;

pub use version::Version;

#[cfg(test)]
mod tests;

fn builtin() -> Vec<Kind> {
    vec![
        core::binding::kind(),
        core::component_status::kind(),
        core::config_map::kind(),
        core::endpoints::kind(),
        core::event::kind(),
        core::limit_range::kind(),
        core::namespace::kind(),
        core::node::kind(),
        core::persistent_volume::kind(),
        core::persistent_volume_claim::kind(),
        core::pod::kind(),
        core::pod_template::kind(),
        core::replication_controller::kind(),
        core::resource_quota::kind(),
        core::secret::kind(),
        core::service::kind(),
        core::service_account::kind(),
        admissionregistration::mutating_webhook_configuration::kind(),
        admissionregistration::validating_admission_policy::kind(),
        admissionregistration::validating_admission_policy_binding::kind(),
        admissionregistration::validating_webhook_configuration::kind(),
        apiregistration::api_service::kind(),
        apps::controller_revision::kind(),
        apps::daemon_set::kind(),
        apps::deployment::kind(),
        apps::replica_set::kind(),
        apps::stateful_set::kind(),
        autoscaling::horizontal_pod_autoscaler::kind(),
        batch::cron_job::kind(),
        batch::job::kind(),
        certificates::certificate_signing_request::kind(),
        coordination::lease::kind(),
        discovery::endpoint_slice::kind(),
        flowcontrol::flow_schema::kind(),
        flowcontrol::priority_level_configuration::kind(),
        gateway_api::gateway::kind(),
        gateway_api::gateway_class::kind(),
        gateway_api::grpc_route::kind(),
        gateway_api::http_route::kind(),
        gateway_api::reference_grant::kind(),
        gateway_api::tcp_route::kind(),
        gateway_api::tls_route::kind(),
        networking::ingress::kind(),
        networking::ingress_class::kind(),
        networking::ip_address::kind(),
        networking::network_policy::kind(),
        networking::service_cidr::kind(),
        node::runtime_class::kind(),
        policy::pod_disruption_budget::kind(),
        rbac::cluster_role::kind(),
        rbac::cluster_role_binding::kind(),
        rbac::role::kind(),
        rbac::role_binding::kind(),
        scheduling::priority_class::kind(),
        storage::csi_driver::kind(),
        storage::csi_node::kind(),
        storage::csi_storage_capacity::kind(),
        storage::storage_class::kind(),
        storage::volume_attachment::kind(),
        storage::volume_attributes_class::kind(),
    ]
}
