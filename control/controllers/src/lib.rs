//! Floor 2: the controllers, one file each. A controller is told which key to look at, reads the [`View`], and returns a
//! [`Plan`]; it never learns why it was woken. The shell keeps the queue, executes plans through the API like any other
//! client, and holds a key until the view includes that key's own last write.
#![deny(clippy::iter_over_hash_type)]

use std::sync::Arc;
use std::time::Duration;

use copepod_machine::{Plan, Step, View};
use copepod_model::join_token::Expiration;
use copepod_model::kinds::Kinds;
use copepod_model::{ApiRequest, Key, Object, Status, Time};

mod csr_approving;
mod csr_cleaner;
mod csr_signing;
mod deployment;
mod disruption;
mod endpoint_slice;
mod endpoint_slice_mirroring;
mod endpoints;
mod event_expiry;
mod flow_schema;
mod garbage_collector;
mod gateway;
mod ingress_status;
mod job;
mod load_balancer;
mod namespace;
mod node_ipam;
mod node_lifecycle;
mod pod_gc;
mod replica_set;
mod resource_quota;
mod root_ca;
mod service_account;
mod storage_protection;
mod support;
mod token_cleaner;

pub use csr_signing::certified;
pub use load_balancer::BalancerPool;
pub use support::names::fill_names;

/// Tells when the token of a bootstrap token's Secret ends, whose values are sealed to controllers; `None` where it cannot be opened.
pub type TokenEnd = Arc<dyn Fn(&dyn View, &Object) -> Option<Expiration> + Send + Sync>;

/// What the controllers are told once.
#[derive(Clone)]
pub struct Config {
    /// All kinds that are served: namespace deletion and the garbage collector work on every one of them.
    pub kinds: Arc<Kinds>,
    /// The cluster's CA certificate, published in every namespace.
    pub ca_pem: String,
    /// When these controllers began to run, by the steady clock of [`Controller::reconcile_steadily`]: lost contact is not
    /// death, so nobody is evicted before they have themselves been up for [`Config::node_grace`].
    pub started: Time,
    /// How long a node's lease may go without renewal before the node counts as unreachable.
    pub node_grace: Duration,
    /// How long Events are kept.
    pub event_ttl: Duration,
    /// The addresses that are set aside for load balancers; without any they have the nodes'.
    pub balancer_pool: BalancerPool,
    /// Whether the user of a request may make it, as a SubjectAccessReview would answer.
    pub allows: fn(&dyn View, &ApiRequest) -> bool,
    /// When bootstrap tokens end.
    pub token_end: TokenEnd,
}

impl Config {
    /// Kubernetes' defaults: 40 s of grace for nodes, Events for an hour. Nobody is allowed anything, and no Secret can be opened.
    pub fn new(kinds: Arc<Kinds>, ca_pem: String, started: Time) -> Config {
        Config {
            kinds,
            ca_pem,
            started,
            node_grace: Duration::from_secs(40),
            event_ttl: Duration::from_secs(3600),
            balancer_pool: BalancerPool::default(),
            allows: |_, _| false,
            token_end: Arc::new(|_: &dyn View, _: &Object| None),
        }
    }
}

/// One control loop.
pub trait Controller: Send + Sync {
    /// Its name, for logs and metrics.
    fn name(&self) -> &'static str;

    /// The GroupResources whose changes matter to it; `*` stands for all.
    fn watches(&self) -> &'static [&'static str];

    /// Which keys to reconcile for the change of one object; `old` or `new` may be absent. Called once for every change
    /// of what it watches, in order, beginning after the revision of the view that [`Controller::all`] saw.
    fn keys(&self, view: &dyn View, old: Option<&Object>, new: Option<&Object>) -> Vec<Key>;

    /// All keys, at the start and whenever changes may have been missed.
    fn all(&self, view: &dyn View) -> Vec<Key>;

    /// What to do about one key. `now` is the time of day, which may be set forward and back.
    fn reconcile(&self, view: &dyn View, key: &Key, now: Time) -> Plan;

    /// The same for a controller that measures how long something has lasted here, and what a runner calls: `steady` is the time of
    /// a clock that nobody sets. Where it begins is all one, as long as it is one clock for as long as the controllers live.
    fn reconcile_steadily(&self, view: &dyn View, key: &Key, now: Time, _steady: Time) -> Plan {
        self.reconcile(view, key, now)
    }

    /// What to record after `step` of a plan for `key` failed. The runner executes it once and ignores its failures.
    fn failed(&self, _view: &dyn View, _key: &Key, _step: &Step, _status: &Status, _now: Time) -> Plan {
        Plan::none()
    }
}

/// The list of controllers.
pub fn all(config: &Config) -> Vec<Box<dyn Controller>> {
    vec![
        Box::new(csr_approving::new(config)),
        Box::new(csr_cleaner::new(config)),
        Box::new(csr_signing::new(config)),
        Box::new(deployment::new(config)),
        Box::new(disruption::new(config)),
        Box::new(endpoint_slice::new(config)),
        Box::new(endpoint_slice_mirroring::new(config)),
        Box::new(endpoints::new(config)),
        Box::new(event_expiry::new(config)),
        Box::new(flow_schema::new(config)),
        Box::new(garbage_collector::new(config)),
        Box::new(gateway::new(config)),
        Box::new(ingress_status::new(config)),
        Box::new(job::new(config)),
        Box::new(load_balancer::new(config)),
        Box::new(namespace::new(config)),
        Box::new(node_ipam::new(config)),
        Box::new(node_lifecycle::new(config)),
        Box::new(pod_gc::new(config)),
        Box::new(replica_set::new(config)),
        Box::new(resource_quota::new(config)),
        Box::new(root_ca::new(config)),
        Box::new(service_account::new(config)),
        Box::new(storage_protection::new(config)),
        Box::new(token_cleaner::new(config)),
    ]
}
