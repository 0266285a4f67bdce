//! A node: the agent's real plan over a data plane that answers late, in any order, and sometimes fails; it knows what a
//! list and a watch at some server tell it, and writes where it is answered.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use copepod_machine::{Time, View as _};
use copepod_model::request::{Body, PatchType};
use copepod_model::{ApiRequest, Object, Status, UserInfo, Verb};
use copepod_node_plan::{
    Effect, Lookup, NodeFacts, Observation, Observed, Refs, ServiceRecord, Token, node, plan, status_patch, vanish,
};
use copepod_state::{Change, Interest, Tables};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node as KubeNode, Pod};
use serde_json::{Value, json};

use super::NODES;
use super::api::{Api, Sender, benign, request};
use crate::chance::Chance;
use crate::faults::{Fault, Form, formed, struck};
use crate::group::hub::{WatchError, Watcher};
use crate::group::net::Place;
use crate::kv::any;

/// How often a node says that it lives within the time that it may be silent: every 10 s in 40 s, as upstream.
const HEARTBEATS: u32 = 4;
/// After a write that nobody answered it is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// After so long without a word it looks for another server.
const SILENCE: Duration = Duration::from_secs(10);

/// A simulated node.
pub struct Node {
    api: Rc<Api>,
    place: Place,
    facts: NodeFacts,
    chance: Chance,
    user: Arc<UserInfo>,
    pods: BTreeMap<Arc<str>, Here>,
    /// The pods of this node, as the watch tells them.
    told: BTreeMap<Arc<str>, Arc<Object>>,
    /// What the data plane will say, and when.
    later: Vec<(Time, u64, Arc<str>, Observation)>,
    order: u64,
    block: u8,
    heartbeat: Time,
    /// Whether containers fail.
    fails: Rc<Cell<bool>>,
    /// Whether this process runs, for those who see what it wrote later.
    lives: Rc<Cell<bool>>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.lives.set(false);
    }
}

/// A pod on this node.
struct Here {
    key: (String, String),
    ip: IpAddr,
    observed: Observed,
    wake: Option<Time>,
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
    pub fn new(api: Rc<Api>, number: u8, fails: Rc<Cell<bool>>, chance: Chance) -> Node {
        let (name, block) = (format!("n{number}"), number);
        let facts = NodeFacts {
            name: name.clone(),
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
            dual_stack: true,
            second_host_ip: None,
        };
        let user = UserInfo {
            name: format!("system:node:{name}"),
            groups: vec!["system:nodes".into(), "system:authenticated".into()],
            ..UserInfo::default()
        };
        Node {
            api,
            place: place(number),
            facts,
            chance,
            user: Arc::new(user),
            pods: BTreeMap::new(),
            told: BTreeMap::new(),
            later: Vec::new(),
            order: 0,
            block,
            heartbeat: crate::START,
            fails,
            lives: Rc::new(Cell::new(true)),
        }
    }

    /// The agent's process, until it is killed; a new one knows what the API knows.
    pub async fn live(mut self) {
        let group = self.api.group.clone();
        loop {
            let Some(server) = any(&group, &mut self.chance) else {
                group.exec.sleep(AGAIN).await;
                continue;
            };
            if self.stay(server).await.is_err() {
                group.exec.sleep(AGAIN).await;
            }
        }
    }

    /// Timers go by this.
    fn now(&self) -> Time {
        self.api.group.exec.now()
    }

    /// What pods are decided by and what others are told, which may be wrong.
    fn clock(&self) -> Time {
        self.api.group.clock(self.place)
    }

    async fn call(&self, server: u64, request: ApiRequest) -> Result<(), Status> {
        let sender = Sender { lives: Some(self.lives.clone()), ..Sender::outside("node") };
        self.api.call(self.place, server, sender, request).await
    }

    /// Works with one server until it is lost.
    async fn stay(&mut self, server: u64) -> Result<(), Status> {
        let group = self.api.group.clone();
        let view = self.api.read(self.place, server).await?;
        self.register(server, &view).await?;
        self.listed(&view);
        let interest = Interest { node_name: Some(self.facts.name.as_str().into()), ..Interest::all("pods") };
        let lost = || Status::unavailable("the server is lost");
        let watch: Watcher =
            group.ask(server, |p| p.hub.watch(interest, view.revision())).and_then(Result::ok).ok_or_else(lost)?;
        let mut heard = self.now();
        let resets = group.resets.get();
        loop {
            let seen = watch.signal().count();
            let reached = group.reaches(server, self.place) && group.reaches(self.place, server);
            if reached {
                heard = self.now();
                match watch.try_next() {
                    Ok(changes) => changes.iter().for_each(|c| self.notice(c)),
                    Err(WatchError::Compacted(_) | WatchError::Stopped) => return Err(lost()),
                }
            }
            if self.now().since(heard) >= SILENCE || group.resets.get() > resets {
                return Err(lost());
            }
            if self.step(server).await? {
                continue;
            }
            let wait = self.next_due();
            let wait = if reached { wait } else { wait.min(Duration::from_millis(500)) };
            group.exec.timeout(wait, watch.signal().changed(seen)).await;
        }
    }

    /// Registers the Node, if it is not there.
    async fn register(&mut self, server: u64, view: &Tables) -> Result<(), Status> {
        if view.get("nodes", "", &self.facts.name).is_none() {
            let object = node::node(&self.facts, &BTreeMap::new());
            let mut object = serde_json::to_value(object).map_err(Status::internal)?;
            object["status"] = Value::Null;
            let mut create = request(&self.user, Verb::Create, "nodes", "", "");
            create.body = Body::Object(object);
            match self.call(server, create).await {
                Err(e) if !benign(&e) => self.api.group.broke("refused", format!("a node cannot register: {e}")),
                done => done.or_else(|e| if e.code == 409 { Ok(()) } else { Err(e) })?,
            }
        }
        Ok(())
    }

    async fn heartbeat(&mut self, server: u64) -> Result<(), Status> {
        let name = self.facts.name.clone();
        // What the server shows; a write on it that is too old is refused and tried again.
        let Some(view) = self.api.group.snapshot(server) else { return Err(Status::unavailable("lost")) };
        let uid = view.get("nodes", "", &name).map(|o| o.meta.uid.to_string()).unwrap_or_default();
        let before = view.get("leases.coordination.k8s.io", node::LEASE_NAMESPACE, &name);
        let exists = before.is_some();
        let lease = node::lease(&name, &uid, before.and_then(|o| o.typed::<Lease>()), self.clock());
        let verb = if exists { Verb::Update } else { Verb::Create };
        let at = if exists { name.as_str() } else { "" };
        let mut write = request(&self.user, verb, "leases.coordination.k8s.io", node::LEASE_NAMESPACE, at);
        write.body = Body::Object(serde_json::to_value(lease).map_err(Status::internal)?);
        self.heartbeat = self.now() + AGAIN;
        self.call(server, write).await?;
        let Some(own) = view.get("nodes", "", &name) else { return Err(Status::unavailable("no such node")) };
        let there = own.typed::<KubeNode>().and_then(|n| n.status).unwrap_or_default();
        if let Some(report) = node::report(&self.facts, &there, node::Health::default(), &[], self.clock()) {
            let mut patch = request(&self.user, Verb::Patch, "nodes", "", &name);
            patch.subresource = Some("status".into());
            patch.body = Body::Patch(PatchType::Strategic, report);
            self.call(server, patch).await?;
        }
        self.heartbeat = self.now() + self.api.shape.grace / HEARTBEATS;
        Ok(())
    }

    /// Does one thing, if there is one to do now.
    async fn step(&mut self, server: u64) -> Result<bool, Status> {
        let now = self.now();
        if self.heartbeat <= now {
            return match self.heartbeat(server).await {
                Err(e) if !benign(&e) => {
                    self.api.group.broke("refused", format!("a heartbeat was refused: {e}"));
                    Ok(true)
                }
                Err(e) if e.code != 409 => Err(e),
                _ => Ok(true),
            };
        }
        // What the data plane says now, in an order that chance chooses among what is due.
        let due: Vec<usize> = (0..self.later.len()).filter(|i| self.later[*i].0 <= now).collect();
        if !due.is_empty() {
            let (_, _, uid, observation) = self.later.swap_remove(due[self.chance.below(due.len() as u64) as usize]);
            let now = self.clock();
            if let Some(here) = self.pods.get_mut(&uid) {
                here.observed.observe(&observation, now);
                here.wake = Some(now);
            }
            return Ok(true);
        }
        let now = self.clock();
        let awake: Vec<Arc<str>> =
            self.pods.iter().filter(|(_, h)| h.wake.is_some_and(|t| t <= now)).map(|(uid, _)| uid.clone()).collect();
        if awake.is_empty() {
            return Ok(false);
        }
        let uid = awake[self.chance.below(awake.len() as u64) as usize].clone();
        self.sync(server, &uid).await?;
        Ok(true)
    }

    /// How long until there will be something to do.
    fn next_due(&self) -> Duration {
        let (now, clock) = (self.now(), self.clock());
        let timers = self.later.iter().map(|(t, ..)| *t).chain([self.heartbeat]).map(|t| t.since(now));
        let wakes = self.pods.values().filter_map(|h| h.wake).map(|t| t.since(clock));
        timers.chain(wakes).min().unwrap_or_default()
    }

    /// Takes in a list: what is not in it has gone.
    fn listed(&mut self, view: &Tables) {
        let now = self.clock();
        self.told = view.on_node("pods", &self.facts.name, None).map(|o| (o.meta.uid.clone(), o.clone())).collect();
        self.pods.values_mut().for_each(|here| here.wake = Some(now));
        // Addresses that pods have are theirs before any is given away.
        let (with, without): (Vec<_>, Vec<_>) =
            self.told.values().cloned().partition(|o| o.value()["status"]["podIP"].is_string());
        with.iter().chain(&without).for_each(|pod| self.take_in(pod));
    }

    /// Takes in what changed about this node's pods.
    fn notice(&mut self, change: &Change) {
        let now = self.clock();
        let mine = |o: &&Arc<Object>| o.meta.node_name.as_deref() == Some(&*self.facts.name);
        let old = change.old.as_ref().filter(mine);
        match change.new.as_ref().filter(mine) {
            Some(new) => {
                let new = new.clone();
                self.told.insert(new.meta.uid.clone(), new.clone());
                self.take_in(&new);
            }
            None => {
                if let Some(old) = old {
                    self.told.remove(&old.meta.uid);
                    if let Some(here) = self.pods.get_mut(&old.meta.uid) {
                        here.wake = Some(now);
                    }
                }
            }
        }
    }

    fn take_in(&mut self, object: &Arc<Object>) {
        let now = self.clock();
        if let Some(here) = self.pods.get_mut(&object.meta.uid) {
            here.wake = Some(now);
            return;
        }
        let Some(pod) = object.typed::<Pod>() else { return };
        let given: BTreeSet<IpAddr> = self.pods.values().map(|h| h.ip).collect();
        // Its own, but for one that another pod has got meanwhile.
        let kept = pod
            .status
            .as_ref()
            .and_then(|s| s.pod_ip.as_ref()?.parse::<IpAddr>().ok())
            .filter(|ip| !given.contains(ip));
        let known = self.told.values().filter_map(|o| o.value()["status"]["podIP"].as_str()?.parse().ok());
        let taken: BTreeSet<IpAddr> = given.into_iter().chain(known).collect();
        let block = self.block;
        let free = (2..=254).map(|n| IpAddr::from([10, 244, block, n])).find(|ip| !taken.contains(ip));
        let Some(ip) = kept.or(free) else { return };
        let here = Here {
            key: (object.namespace().into(), object.name().into()),
            ip,
            observed: Observed::adopt(&pod, ip, now),
            wake: Some(now),
        };
        self.pods.insert(object.meta.uid.clone(), here);
    }

    async fn sync(&mut self, server: u64, uid: &Arc<str>) -> Result<(), Status> {
        let now = self.clock();
        let Some(here) = self.pods.get_mut(uid) else { return Ok(()) };
        here.wake = None;
        let (namespace, name) = here.key.clone();
        let Some(pod) = self.told.get(uid).and_then(|o| o.typed::<Pod>()) else {
            let (effects, gone) = vanish(&mut here.observed, now);
            if gone {
                self.pods.remove(uid);
            }
            self.perform(uid, effects);
            return Ok(());
        };
        let decided = plan(&pod, &mut here.observed, &RootCa, &self.facts, now);
        here.wake = decided.wake_at.into_iter().chain(decided.probe_at).min();
        for key in decided.tokens {
            let lives = Duration::from_secs(u64::try_from(key.seconds).unwrap_or(600));
            here.observed.token(&key, Ok(Token { text: "token".into(), issued: now, expires: now + lives }), now);
            here.wake = Some(now);
        }
        let status = serde_json::to_value(&decided.status).map_err(Status::internal)?;
        // What the API has, by the watch: others write it, too.
        let have = self.told.get(uid).map(|o| o.value()["status"].take()).unwrap_or_default();
        let patch = status_patch(&have, &status);
        self.perform(uid, decided.effects);
        if let Some(status) = patch {
            let mut patch = request(&self.user, Verb::Patch, "pods", &namespace, &name);
            patch.subresource = Some("status".into());
            patch.body = Body::Patch(PatchType::Strategic, json!({"metadata": {"uid": &**uid}, "status": status}));
            self.told_of(server, uid, patch).await?;
        }
        if decided.remove {
            let mut delete = request(&self.user, Verb::Delete, "pods", &namespace, &name);
            delete.delete.grace_period_seconds = Some(0);
            delete.delete.uid = Some(uid.to_string());
            self.told_of(server, uid, delete).await?;
        }
        Ok(())
    }

    /// A write about a pod; what nobody answered comes again.
    async fn told_of(&mut self, server: u64, uid: &Arc<str>, request: ApiRequest) -> Result<(), Status> {
        let done = self.call(server, request).await;
        let again = self.clock() + AGAIN;
        let here = self.pods.get_mut(uid);
        match done {
            Ok(()) => Ok(()),
            Err(e) if benign(&e) => {
                if let Some(here) = here.filter(|_| e.code != 404) {
                    here.wake = Some(again);
                }
                if e.code >= 500 { Err(e) } else { Ok(()) }
            }
            Err(e) => {
                self.api.group.broke("refused", format!("what a node says of a pod was refused: {e}"));
                Err(e)
            }
        }
    }

    /// Whether the data plane fails this time, once in so often.
    fn fails(&mut self, often: u64) -> bool {
        let fails = self.fails.get() && self.chance.one_in(often);
        if fails {
            struck(&self.api.group, Fault::Containers);
        }
        fails
    }

    fn luck(&mut self, often: u64, form: Form) -> Result<(), String> {
        if !self.fails(often) {
            return Ok(());
        }
        formed(&self.api.group, form);
        Err("no luck".into())
    }

    /// The data plane: each effect is answered a while later.
    fn perform(&mut self, uid: &Arc<str>, effects: Vec<Effect>) {
        for effect in effects {
            let after = Duration::from_millis(1 + self.chance.below(400));
            // As its machine's clock will say.
            let at = self.clock() + after;
            let observation = match effect {
                Effect::PullImage(wanted) => {
                    let request = wanted.id();
                    match self.luck(10, Form::Pull) {
                        Err(message) => Observation::ImageFailed { request, reason: "ErrImagePull".into(), message },
                        Ok(()) => Observation::ImageReady { request, digest: format!("sha256:{}", wanted.image) },
                    }
                }
                Effect::MountVolume { name, .. } => {
                    let result = self.luck(10, Form::Mount).map(|()| format!("/volumes/{name}").into());
                    Observation::VolumeMounted { uid: uid.clone(), name, result }
                }
                Effect::Start { id, .. } => {
                    if self.fails(6) {
                        let runs = Duration::from_millis(self.chance.below(5000));
                        // A failure, a trap, too much memory.
                        let (form, code, reason, message) = match self.chance.below(3) {
                            0 => (Form::Exit, 1, "Error", "crashed"),
                            1 => (Form::Trap, 134, "Error", "wasm trap: unreachable"),
                            _ => (Form::Memory, 137, "OOMKilled", "out of memory"),
                        };
                        formed(&self.api.group, form);
                        let (reason, message) = (reason.into(), message.into());
                        let exited = Observation::Exited { id: id.clone(), code, reason, message, at: at + runs };
                        self.say(after + runs, uid, exited);
                    }
                    Observation::Started { id, at }
                }
                Effect::Stop { id, .. } => {
                    let (reason, message) = ("Completed".into(), String::new());
                    Observation::Exited { id, code: 0, reason, message, at }
                }
                Effect::Hook { id, kind, .. } => {
                    Observation::Hooked { id, kind, result: self.luck(6, Form::Probe), at }
                }
                Effect::Probe { id, kind, .. } => {
                    Observation::Probed { id, kind, result: self.luck(4, Form::Probe), at }
                }
                _ => continue,
            };
            self.say(after, uid, observation);
        }
    }

    fn say(&mut self, after: Duration, uid: &Arc<str>, observation: Observation) {
        self.order += 1;
        self.later.push((self.now() + after, self.order, uid.clone(), observation));
    }
}

/// Where a node is in the network.
pub fn place(number: u8) -> Place {
    1000 + u64::from(number)
}

/// Where all of them are.
pub fn places() -> impl Iterator<Item = Place> {
    (1..=NODES).map(place)
}
