//! A node: the agent's real plan over a data plane that answers late, in any order, and sometimes fails.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use copepod_machine::Time;
use copepod_model::request::{Body, PatchType};
use copepod_model::{UserInfo, Verb};
use copepod_node_plan::{
    Effect, Lookup, NodeFacts, Observation, Observed, Refs, ServiceRecord, Token, node, plan, vanish,
};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::api::Api;
use crate::chance::Chance;
use crate::client::{benign, request};

/// How often a node says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// A simulated node.
pub struct Node {
    facts: NodeFacts,
    chance: Chance,
    user: Arc<UserInfo>,
    pods: BTreeMap<Arc<str>, Here>,
    /// What the data plane will say, and when.
    later: Vec<(Time, u64, Arc<str>, Observation)>,
    order: u64,
    next_ip: u8,
    block: u8,
    heartbeat: Time,
    cursor: usize,
}

/// A pod on this node.
struct Here {
    key: (String, String),
    observed: Observed,
    wake: Option<Time>,
    seen: u64,
    status: Value,
}

/// Only what every pod's token volume shows.
struct RootCa;
impl Refs for RootCa {
    fn config_map(&self, _: &str, name: &str, _: Time) -> Lookup {
        match name {
            "kube-root-ca.crt" => Lookup::Found(Arc::new([("ca.crt".to_string(), b"ca".to_vec())].into())),
            _ => Lookup::Missing,
        }
    }
    fn secret(&self, _: &str, _: &str, _: Time) -> Lookup {
        Lookup::Missing
    }
    fn services(&self, _: &str) -> Vec<ServiceRecord> {
        Vec::new()
    }
}

impl Node {
    /// A node with room for a few dozen pods.
    pub fn new(name: &str, block: u8, chance: Chance) -> Node {
        let facts = NodeFacts {
            name: name.into(),
            host_ip: IpAddr::from([192, 0, 2, block]),
            cluster_domain: "cluster.local".into(),
            cpu_millis: 2000,
            memory: 1 << 30,
            storage: 1 << 34,
            allocatable_cpu_millis: 2000,
            allocatable_memory: 1 << 30,
            eviction_memory: copepod_node_plan::eviction::MEMORY_THRESHOLD,
            eviction_disk: copepod_node_plan::eviction::DiskThresholds::default(),
            max_pods: 100,
            machine_id: String::new(),
            boot_id: String::new(),
            kernel_version: String::new(),
            os_image: String::new(),
            architecture: "amd64".into(),
            version: "v1.35.0".into(),
            runtime_version: "sim://1".into(),
            api_port: 0,
            pod_cidrs: vec![format!("10.244.{block}.0/24")],
        };
        let user = UserInfo {
            name: format!("system:node:{name}"),
            groups: vec!["system:nodes".into(), "system:authenticated".into()],
            ..UserInfo::default()
        };
        Node {
            facts,
            chance,
            user: Arc::new(user),
            pods: BTreeMap::new(),
            later: Vec::new(),
            order: 0,
            next_ip: 1,
            block,
            heartbeat: crate::START,
            cursor: 0,
        }
    }

    /// Registers the Node and its first Lease.
    pub fn register(&mut self, api: &mut Api) -> Result<(), String> {
        let object = node::node(&self.facts, &BTreeMap::new());
        let mut object = serde_json::to_value(object).map_err(|e| e.to_string())?;
        object["status"] = Value::Null;
        let mut create = request(&self.user, Verb::Create, "nodes", "", "");
        create.body = Body::Object(object);
        api.call("node", &create).map_err(|e| format!("a node cannot register: {e}"))?;
        self.heartbeat(api)
    }

    fn heartbeat(&mut self, api: &mut Api) -> Result<(), String> {
        let (name, now) = (self.facts.name.clone(), api.now());
        let uid = api.get("nodes", "", &name).map(|o| o.meta.uid.to_string()).unwrap_or_default();
        let before = api.get("leases.coordination.k8s.io", node::LEASE_NAMESPACE, &name);
        let exists = before.is_some();
        let lease = node::lease(&name, &uid, before.and_then(|o| o.typed::<Lease>()), now);
        let verb = if exists { Verb::Update } else { Verb::Create };
        let at = if exists { name.as_str() } else { "" };
        let mut write = request(&self.user, verb, "leases.coordination.k8s.io", node::LEASE_NAMESPACE, at);
        write.body = Body::Object(serde_json::to_value(lease).map_err(|e| e.to_string())?);
        api.call("node", &write).map_err(|e| format!("a lease cannot be renewed: {e}"))?;
        let status = node::node_status(&self.facts, None, node::Health::default(), &[], crate::START);
        let stored = api.get("nodes", "", &name).map(|o| o.value()["status"].clone()).unwrap_or_default();
        if stored["allocatable"].is_null()
            || stored["conditions"].as_array().is_some_and(|c| c.iter().any(|c| c["status"] == "Unknown"))
        {
            let mut patch = request(&self.user, Verb::Patch, "nodes", "", &name);
            patch.subresource = Some("status".into());
            patch.body = Body::Patch(PatchType::Merge, json!({"status": status}));
            api.call("node", &patch).map_err(|e| format!("a node's status cannot be written: {e}"))?;
        }
        self.heartbeat = now + HEARTBEAT;
        Ok(())
    }

    /// Does one thing, if there is one to do now. With `chaos`, containers crash and pulls fail now and then.
    pub fn step(&mut self, api: &mut Api, chaos: bool) -> Result<bool, String> {
        let now = api.now();
        if self.heartbeat <= now {
            self.heartbeat(api)?;
            return Ok(true);
        }
        self.notice(api);
        // What the data plane says now, in an order that chance chooses among what is due.
        let due: Vec<usize> = (0..self.later.len()).filter(|i| self.later[*i].0 <= now).collect();
        if !due.is_empty() {
            let (_, _, uid, observation) = self.later.swap_remove(due[self.chance.below(due.len() as u64) as usize]);
            if let Some(here) = self.pods.get_mut(&uid) {
                here.observed.observe(&observation, now);
                here.wake = Some(now);
            }
            return Ok(true);
        }
        let awake: Vec<Arc<str>> =
            self.pods.iter().filter(|(_, h)| h.wake.is_some_and(|t| t <= now)).map(|(uid, _)| uid.clone()).collect();
        if awake.is_empty() {
            return Ok(false);
        }
        let uid = awake[self.chance.below(awake.len() as u64) as usize].clone();
        self.sync(api, &uid, chaos)?;
        Ok(true)
    }

    /// When there will be something to do.
    pub fn next_due(&self) -> Option<Time> {
        let later = self.later.iter().map(|(t, ..)| *t);
        let wakes = self.pods.values().filter_map(|h| h.wake);
        later.chain(wakes).chain([self.heartbeat]).min()
    }

    /// The agent's process ends, with all that runs in it, and another one begins: it knows what the API knows.
    pub fn restart(&mut self) {
        self.pods.clear();
        self.later.clear();
        self.cursor = 0;
    }

    /// Takes in what changed about this node's pods.
    fn notice(&mut self, api: &Api) {
        let now = api.now();
        for (change, _) in api.since(self.cursor) {
            if &*change.key.resource != "pods" {
                continue;
            }
            let mine = |o: &Option<Arc<copepod_model::Object>>| {
                o.as_ref().is_some_and(|o| o.meta.node_name.as_deref() == Some(&*self.facts.name))
            };
            if let (true, Some(new)) = (mine(&change.new), &change.new) {
                let uid = new.meta.uid.clone();
                if !self.pods.contains_key(&uid) {
                    // What is told may be old, after a restart; what counts is what is there.
                    let there = api.get("pods", new.namespace(), new.name()).filter(|o| o.meta.uid == uid);
                    let Some(pod) = there.and_then(|o| o.typed::<Pod>()) else { continue };
                    let kept = pod.status.as_ref().and_then(|s| s.pod_ip.as_ref()?.parse().ok());
                    let ip = kept.unwrap_or_else(|| {
                        self.next_ip = self.next_ip.wrapping_add(1).max(1);
                        IpAddr::from([10, 244, self.block, self.next_ip])
                    });
                    let here = Here {
                        key: (new.namespace().into(), new.name().into()),
                        observed: Observed::adopt(&pod, ip, now),
                        wake: Some(now),
                        seen: 0,
                        status: Value::Null,
                    };
                    self.pods.insert(uid.clone(), here);
                }
                if let Some(here) = self.pods.get_mut(&uid).filter(|h| h.seen < new.revision) {
                    here.seen = new.revision;
                    here.wake = Some(now);
                }
            } else if let (true, Some(old)) = (mine(&change.old), &change.old)
                && let Some(here) = self.pods.get_mut(&old.meta.uid)
            {
                here.wake = Some(now);
            }
        }
        self.cursor = api.count();
    }

    fn sync(&mut self, api: &mut Api, uid: &Arc<str>, chaos: bool) -> Result<(), String> {
        let now = api.now();
        let Some(here) = self.pods.get_mut(uid) else { return Ok(()) };
        here.wake = None;
        let (namespace, name) = here.key.clone();
        let stored = api.get("pods", &namespace, &name).filter(|o| o.meta.uid == *uid);
        let Some(pod) = stored.and_then(|o| o.typed::<Pod>()) else {
            let (effects, gone) = vanish(&mut here.observed, now);
            if gone {
                self.pods.remove(uid);
            }
            self.perform(uid, effects, now, chaos);
            return Ok(());
        };
        let decided = plan(&pod, &mut here.observed, &RootCa, &self.facts, now);
        here.wake = decided.wake_at.into_iter().chain(decided.probe_at).min();
        for key in decided.tokens {
            let lives = Duration::from_secs(u64::try_from(key.seconds).unwrap_or(600));
            here.observed.token(&key, Ok(Token { text: "token".into(), issued: now, expires: now + lives }), now);
            here.wake = Some(now);
        }
        let status = serde_json::to_value(&decided.status).map_err(|e| e.to_string())?;
        let write = here.status != status;
        here.status = status.clone();
        self.perform(uid, decided.effects, now, chaos);
        if write {
            let mut patch = request(&self.user, Verb::Patch, "pods", &namespace, &name);
            patch.subresource = Some("status".into());
            patch.body = Body::Patch(PatchType::Strategic, json!({"metadata": {"uid": &**uid}, "status": status}));
            match api.call("node", &patch) {
                Err(e) if !benign(&e) => return Err(format!("a pod's status was refused: {e}")),
                _ => {}
            }
        }
        if decided.remove {
            let mut delete = request(&self.user, Verb::Delete, "pods", &namespace, &name);
            delete.delete.grace_period_seconds = Some(0);
            delete.delete.uid = Some(uid.to_string());
            match api.call("node", &delete) {
                Err(e) if !benign(&e) => return Err(format!("a pod's removal was refused: {e}")),
                _ => {}
            }
        }
        Ok(())
    }

    /// The data plane: each effect is answered a while later.
    fn perform(&mut self, uid: &Arc<str>, effects: Vec<Effect>, now: Time, chaos: bool) {
        for effect in effects {
            let at = now + Duration::from_millis(1 + self.chance.below(400));
            match effect {
                Effect::PullImage(wanted) => {
                    let request = wanted.id();
                    let observation = if chaos && self.chance.one_in(10) {
                        let (reason, message) = ("ErrImagePull".into(), "no luck".into());
                        Observation::ImageFailed { request, reason, message }
                    } else {
                        Observation::ImageReady { request, digest: format!("sha256:{}", wanted.image) }
                    };
                    self.say(at, uid, observation);
                }
                Effect::MountVolume { name, .. } => {
                    let failed = chaos && self.chance.one_in(10);
                    let result = if failed { Err("no luck".into()) } else { Ok(format!("/volumes/{name}").into()) };
                    self.say(at, uid, Observation::VolumeMounted { uid: uid.clone(), name, result });
                }
                Effect::Start { id, .. } => {
                    self.say(at, uid, Observation::Started { id: id.clone(), at });
                    if chaos && self.chance.one_in(6) {
                        let at = at + Duration::from_millis(self.chance.below(5000));
                        let (reason, message) = ("Error".into(), "crashed".into());
                        self.say(at, uid, Observation::Exited { id, code: 1, reason, message, at });
                    }
                }
                Effect::Stop { id, .. } => {
                    let (reason, message) = ("Completed".into(), String::new());
                    self.say(at, uid, Observation::Exited { id, code: 0, reason, message, at });
                }
                Effect::Hook { id, kind, .. } => {
                    let failed = chaos && self.chance.one_in(6);
                    let result = if failed { Err("no luck".into()) } else { Ok(()) };
                    self.say(at, uid, Observation::Hooked { id, kind, result, at });
                }
                Effect::Probe { id, kind, .. } => {
                    let failed = chaos && self.chance.one_in(4);
                    let result = if failed { Err("no luck".into()) } else { Ok(()) };
                    self.say(at, uid, Observation::Probed { id, kind, result, at })
                }
                _ => {}
            }
        }
    }

    fn say(&mut self, at: Time, uid: &Arc<str>, observation: Observation) {
        self.order += 1;
        self.later.push((at, self.order, uid.clone(), observation));
    }
}
