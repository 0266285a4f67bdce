//! What a pod's containers refer to outside the pod.

use std::collections::BTreeMap;
use std::sync::Arc;

use copepod_model::Time;

/// What is known of a ConfigMap or Secret.
#[derive(Clone, Debug, PartialEq)]
pub enum Lookup {
    /// It exists, with these values (`data` and `binaryData`, decoded).
    Found(Arc<BTreeMap<String, Vec<u8>>>),
    /// It does not exist.
    Missing,
    /// Nobody has asked lately: the plan names it in `fetch` and waits.
    Unknown,
}

/// An object that a plan wants fetched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// `configmaps` or `secrets`.
    pub resource: &'static str,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// A Service, as environment variables describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRecord {
    /// Name.
    pub name: String,
    /// Cluster IP; Services without one are left out.
    pub ip: String,
    /// Ports in order.
    pub ports: Vec<ServicePort>,
}

/// A port of a [`ServiceRecord`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Name, empty when it has none.
    pub name: String,
    /// Number.
    pub port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
}

/// The lookups that a plan needs to start a container. `now` tells how fresh an answer has to be judged.
pub trait Refs {
    /// A ConfigMap's values.
    fn config_map(&self, namespace: &str, name: &str, now: Time) -> Lookup;
    /// A Secret's values.
    fn secret(&self, namespace: &str, name: &str, now: Time) -> Lookup;
    /// The Services of a namespace, in name order.
    fn services(&self, namespace: &str) -> Vec<ServiceRecord>;
}
