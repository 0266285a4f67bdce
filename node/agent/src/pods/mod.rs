//! The loop over all pods of the node: one task, no matter how many there are. Changes and observations come in, plans are
//! made, effects and writes go out.

mod disks;
mod entry;
mod evict;
mod follow;
mod images;
mod line;
mod refs;
mod statics;
mod tokens;
mod unplanned;
mod unwritten;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use copepod_client::Client;
use copepod_model::facts::PodFacts;
use copepod_model::request::{DeleteOptions, PatchType};
use copepod_model::{Object, Status, Time};
use copepod_node_plan::node::Health;
use copepod_node_plan::usage::ProbeCount;
use copepod_node_plan::{
    Claim, Effect, HostPort, Lookup, NodeFacts, Observation, Observed, Reference, TimerWheel, Token, TokenKey, admit,
    comes_up, eviction, host_ports, log_attempt, plan, vanish,
};
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::addresses::AddressPool;
use crate::clock::{now, until};
use crate::events::Recorder;
use crate::logs::Logs;
use crate::reflect::Change;
use crate::register::record_blocks;
use crate::routes::Services;
use crate::static_pods::Set;
pub(crate) use disks::Disks;
use entry::{Entry, Write};
use follow::Follow;
pub(crate) use images::Collector;
use images::Pull;
use refs::RefCache;
pub(crate) use refs::values;
use statics::{Name, Statics, is_mirror};
use tokens::{Tokens, Wish, service_account};
use unplanned::Unplanned;
use unwritten::Unwritten;

/// How many writes to the API are under way at once.
const WRITES: usize = 32;
/// How many pods are planned before what has happened meanwhile is looked at, and written.
const PLANS: usize = 16;
/// How long a write that failed waits.
const RETRY: Duration = Duration::from_secs(1);

type Uid = Arc<str>;

/// A question of the node API.
pub(crate) enum Ask {
    /// Which attempt of which pod a log request means; or the HTTP status and text of the refusal.
    Log {
        namespace: String,
        pod: String,
        container: String,
        previous: bool,
        answer: oneshot::Sender<Result<(Uid, u32), (u16, String)>>,
    },
    /// All pods.
    Pods(oneshot::Sender<Vec<Arc<Object>>>),
    /// How all probes have ended so far.
    Probes(oneshot::Sender<Vec<ProbeCount>>),
}

/// What the loop is connected to.
pub(crate) struct Wires {
    pub changes: mpsc::Receiver<Change>,
    /// The node's own object.
    pub node: mpsc::Receiver<Change>,
    /// The static pods, whenever they have changed.
    pub statics: mpsc::Receiver<Set>,
    pub observations: mpsc::UnboundedReceiver<Observation>,
    pub asks: mpsc::Receiver<Ask>,
    /// True once Services and routes are known.
    pub ready: watch::Receiver<bool>,
    /// Whether the node is short of something.
    pub pressure: watch::Sender<Health>,
}

/// The loop's state.
pub(crate) struct Pods {
    client: Client,
    facts: NodeFacts,
    recorder: Recorder,
    logs: Arc<Logs>,
    addresses: AddressPool,
    refs: RefCache,
    follow: Follow,
    entries: HashMap<Uid, Entry>,
    statics: Statics,
    /// The node's own object, as it was seen last.
    node: Value,
    /// What the pods that were taken claim together.
    taken: Claim,
    /// The host ports of those that have some.
    exposed: HashMap<Uid, Vec<HostPort>>,
    /// Pods for which there is no address.
    homeless: BTreeMap<Uid, Arc<Object>>,
    /// When pods want to be planned again.
    wakes: TimerWheel<Uid>,
    /// When pods are planned again for which something could not be written or read.
    retries: TimerWheel<Uid>,
    /// When the next probe of each pod is due: so usual that it does without a plan.
    probes: TimerWheel<Uid>,
    /// Pods that have to be planned.
    dirty: Unplanned,
    /// Pods that may have something to write.
    unwritten: Unwritten,
    tokens: Tokens,
    /// Who waits for an image; the data plane is asked once.
    pulling: HashMap<u64, Pull>,
    collector: Collector,
    effects: mpsc::UnboundedSender<Effect>,
    jobs: JoinSet<Done>,
    writing: usize,
    /// The API has said which pods are there.
    listed: bool,
    /// What belongs to no pod any more has been deleted.
    swept: bool,
    memory: evict::Memory,
    disks: Disks,
}

/// How a request to the API ended.
enum Done {
    Wrote(Uid, Option<u64>, Result<Option<Arc<Object>>, Status>),
    Fetched(Reference, Lookup),
    Token(Uid, TokenKey, Result<Token, String>),
    Mirrored(Name, Result<Option<Arc<Object>>, ()>),
    Recorded,
}

impl Pods {
    #[allow(clippy::too_many_arguments)] // what the loop is made of
    pub fn new(
        client: Client,
        facts: NodeFacts,
        node: Value,
        recorder: Recorder,
        logs: Arc<Logs>,
        addresses: AddressPool,
        services: Services,
        effects: mpsc::UnboundedSender<Effect>,
        collector: Collector,
        disks: Disks,
    ) -> Pods {
        Pods {
            client,
            facts,
            recorder,
            logs,
            addresses,
            refs: RefCache::new(services),
            follow: Follow::default(),
            entries: HashMap::new(),
            statics: Statics::default(),
            node,
            taken: Claim::default(),
            exposed: HashMap::new(),
            homeless: BTreeMap::new(),
            wakes: TimerWheel::default(),
            retries: TimerWheel::default(),
            probes: TimerWheel::default(),
            dirty: Unplanned::default(),
            unwritten: Unwritten::default(),
            tokens: Tokens::default(),
            pulling: HashMap::new(),
            collector,
            effects,
            jobs: JoinSet::new(),
            writing: 0,
            listed: false,
            swept: false,
            memory: evict::Memory::default(),
            disks,
        }
    }

    /// Runs until the watch's side is dropped.
    pub async fn run(mut self, mut wires: Wires) {
        if wires.ready.wait_for(|r| *r).await.is_err() {
            return;
        }
        let mut looks = tokio::time::interval(evict::EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let at = now();
            self.dirty.extend(self.wakes.take(at));
            self.dirty.extend(self.retries.take(at));
            for _ in 0..PLANS {
                let Some(uid) = self.dirty.pop() else { break };
                self.plan(&uid, at);
            }
            for uid in self.probes.take(at) {
                self.probe(&uid, at);
            }
            let writes_at = self.write(at);
            self.recorder.give_way(self.writing > 0 || self.tokens.is_busy() || !self.dirty.is_empty());
            let looks_at = [&self.wakes, &self.retries, &self.probes].map(TimerWheel::next_look);
            let next = looks_at.into_iter().flatten().chain(writes_at).min();
            tokio::select! {
                change = wires.changes.recv() => match change {
                    Some(change) => self.change(change),
                    None => return,
                },
                Some(Change::Put(node)) = wires.node.recv() => self.node = node.value(),
                Some(o) = wires.observations.recv() => self.observe(o),
                Some(set) = wires.statics.recv() => self.statics(set),
                Some(ask) = wires.asks.recv() => self.answer(ask),
                Some(done) = self.jobs.join_next() => self.done(done),
                (reference, lookup) = self.follow.next() => self.followed(reference, lookup),
                () = until(next) => {}
                // The others go on after whoever waits for this thread.
                () = tokio::task::yield_now(), if !self.dirty.is_empty() => {}
                () = self.collector.tick() => self.collect_images(),
                _ = looks.tick() => {
                    self.look(&wires.pressure);
                    self.report_pulled();
                }
            }
            // What waits already is taken in before anything is planned: one plan for all of it.
            while let Ok(change) = wires.changes.try_recv() {
                self.change(change);
            }
            while let Ok(o) = wires.observations.try_recv() {
                self.observe(o);
            }
            while let Some(done) = self.jobs.try_join_next() {
                self.done(done);
            }
            while let Some((reference, lookup)) = self.follow.try_next() {
                self.followed(reference, lookup);
            }
        }
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::Reset(all) => {
                let keep: BTreeSet<Uid> = all.iter().map(|o| o.meta.uid.clone()).collect();
                let own = self.entries.iter().filter(|(_, e)| !e.is_static).map(|(uid, _)| uid);
                let gone: Vec<Uid> = own.chain(self.homeless.keys()).filter(|u| !keep.contains(*u)).cloned().collect();
                self.keep_mirrors(&keep);
                gone.iter().for_each(|uid| self.forget(uid));
                // Addresses that pods have are theirs before any is given away.
                let (with, without): (Vec<_>, Vec<_>) = all.into_iter().partition(|o| pod_ip(o).is_some());
                with.into_iter().chain(without).for_each(|o| self.put(o));
                self.listed = true;
                self.sync_statics();
            }
            Change::Put(o) => self.put(o),
            Change::Gone(o) => self.forget(&o.meta.uid),
        }
    }

    fn put(&mut self, object: Arc<Object>) {
        let uid = object.meta.uid.clone();
        if is_mirror(&object) {
            return self.put_mirror(object);
        }
        if let Some(entry) = self.entries.get_mut(&uid) {
            if entry.see(object) {
                self.dirty.insert(uid);
            }
            return;
        }
        let Some(pod) = object.typed::<Pod>() else {
            tracing::warn!(pod = %object.key, "the pod does not decode");
            return;
        };
        let claim = claim(&object, &pod);
        // A pod that was taken before is not judged again: it may go on when its node has changed.
        let unknown = pod.status.as_ref().is_none_or(|s| s.start_time.is_none());
        let new = unknown && claim != Claim::default();
        let ports = if claim == Claim::default() { Vec::new() } else { host_ports(&pod) };
        if new
            && let Err(refusal) = admit(&object.value(), claim, self.taken, self.clash(&ports), &self.facts, &self.node)
        {
            let mut observed = Observed::adopt(&pod, Ipv4Addr::UNSPECIFIED.into(), now());
            observed.refuse(refusal, now());
            self.homeless.remove(&uid);
            self.entries.insert(uid.clone(), Entry::new(object, observed, false, Claim::default()));
            self.dirty.begin(uid);
            return;
        }
        let (ip, addressed) = match self.address(&pod) {
            Some(found) => found,
            None => {
                self.homeless.insert(uid, object);
                return;
            }
        };
        self.homeless.remove(&uid);
        let mut observed = Observed::adopt(&pod, ip, now());
        // What it wants since, it has to be given.
        let given = observed.allocated(&pod).filter(|_| claim != Claim::default());
        let claim = given.map_or(claim, |pod| copepod_node_plan::claim(&pod));
        let health = self.health();
        // Whether those that ran here before may stay on a short disk is decided by what they hold.
        if let Some(message) =
            eviction::refuses(&pod, Health { disk_pressure: health.disk_pressure && unknown, ..health })
        {
            observed.evict(message);
        }
        self.take(&uid, claim, ports);
        let mut entry = Entry::new(object, observed, addressed, claim);
        entry.keep(Box::new(pod));
        self.entries.insert(uid.clone(), entry);
        self.dirty.begin(uid);
    }

    /// Whether a pod that was taken has one of these host ports.
    fn clash(&self, ports: &[HostPort]) -> bool {
        ports.iter().any(|p| self.exposed.values().flatten().any(|held| held.clashes(p)))
    }

    /// Counts a pod among those that were taken.
    fn take(&mut self, uid: &Uid, claim: Claim, ports: Vec<HostPort>) {
        self.taken.add(claim);
        if !ports.is_empty() {
            self.exposed.insert(uid.clone(), ports);
        }
    }

    /// The pod's address: the one it has, or a new one; and whether it counts as taken.
    fn address(&mut self, pod: &Pod) -> Option<(IpAddr, bool)> {
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
        let own = pod.status.as_ref().and_then(|s| s.pod_ip.as_deref()?.parse().ok());
        if let (Some(ip), Some("Succeeded" | "Failed")) = (own, phase) {
            return Some((ip, false));
        }
        if let Some(ip) = own.filter(|ip| self.addresses.reserve(*ip)) {
            return Some((ip, true));
        }
        if let Some(ip) = self.addresses.take() {
            return Some((ip, true));
        }
        self.addresses.lease()?;
        let (client, name) = (self.client.clone(), self.facts.name.clone());
        let cidrs = self.addresses.cidrs();
        let first = self.addresses.pod_cidrs().filter(|_| cidrs.len() == 1);
        self.jobs.spawn(async move {
            while let Err(e) = record_blocks(&client, &name, &cidrs, first.as_ref()).await {
                tracing::warn!(node = name, error = %e, "cannot write down the node's address blocks");
                tokio::time::sleep(RETRY).await;
            }
            Done::Recorded
        });
        self.addresses.take().map(|ip| (ip, true))
    }

    /// The pod's object is gone.
    fn forget(&mut self, uid: &Uid) {
        if self.forget_mirror(uid) {
            return;
        }
        self.homeless.remove(uid);
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.gone = true;
            self.dirty.insert(uid.clone());
        }
    }

    fn observe(&mut self, observation: Observation) {
        let observation = match observation {
            Observation::Usage { memory } => return self.evict(memory),
            Observation::Storage { pods } => return self.evict_for_disk(pods),
            other => other,
        };
        let at = now();
        let to: Vec<Uid> = match &observation {
            Observation::Images { images, disk } => return self.images_seen(images.clone(), *disk),
            Observation::ImagesRemoved { freed, errors } => return self.images_removed(*freed, errors),
            Observation::ImagePulling { .. }
            | Observation::ImageProgress { .. }
            | Observation::ImagePulled { .. }
            | Observation::ImageReady { .. }
            | Observation::ImageFailed { .. } => self.pulled(&observation),
            Observation::VolumeMounted { uid, .. }
            | Observation::VolumeUsage { uid, .. }
            | Observation::StorageUsage { uid, .. }
            | Observation::HostPortFailed { uid, .. } => vec![uid.clone()],
            Observation::Started { id, .. }
            | Observation::Exited { id, .. }
            | Observation::Hooked { id, .. }
            | Observation::Resized { id, .. }
            | Observation::Probed { id, .. } => vec![id.pod_uid.clone()],
            Observation::Usage { .. } | Observation::Storage { .. } => Vec::new(),
        };
        for uid in to {
            let Some(entry) = self.entries.get_mut(&uid) else { continue };
            if entry.observed.observe(&observation, at) {
                self.dirty.insert(uid);
            } else {
                // One more probe that says what the last one said: nothing but the next one follows from it.
                self.probe(&uid, at);
            }
        }
    }

    /// Sends the probes of a pod that are due, in which nothing else happens.
    fn probe(&mut self, uid: &Uid, at: Time) {
        let Some(entry) = self.entries.get_mut(uid).filter(|e| !e.gone) else { return };
        let (effects, next) = entry.observed.probe(at);
        self.arm_probe(uid, next);
        for effect in effects {
            let _ = self.effects.send(effect);
        }
    }

    fn arm_probe(&mut self, uid: &Uid, next: Option<Time>) {
        match next {
            Some(next) if self.probes.get(uid) == Some(next) => {}
            Some(next) => self.probes.insert(uid.clone(), next),
            None => self.probes.remove(uid),
        }
    }

    /// Plans a pod again at this time, or before: any plan asks for all that is missing.
    fn retry(&mut self, uid: Uid, at: Time) {
        if self.retries.get(&uid).is_none_or(|sooner| at < sooner) {
            self.retries.insert(uid, at);
        }
    }

    /// Nothing of a pod is left here.
    fn drop_entry(&mut self, uid: &Uid) {
        self.entries.remove(uid);
        for wheel in [&mut self.wakes, &mut self.retries, &mut self.probes] {
            wheel.remove(uid);
        }
    }

    fn plan(&mut self, uid: &Uid, at: Time) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        self.wakes.remove(uid);
        if entry.gone {
            let (effects, done) = vanish(&mut entry.observed, at);
            self.arm_probe(uid, None);
            self.carry_out(uid, effects);
            if done {
                self.drop_entry(uid);
                self.unfollow(uid, &BTreeSet::new());
            }
            return;
        }
        let Some(pod) = entry.pod() else { return };
        let mut shrunk = false;
        if entry.claim != Claim::default() {
            let mut others = self.taken;
            others.free(entry.claim);
            if let Some(claim) = entry.observed.resize(&pod, others, &self.facts) {
                let before = std::mem::replace(&mut entry.claim, claim);
                shrunk = claim.cpu_millis < before.cpu_millis || claim.memory < before.memory;
                self.taken = others;
                self.taken.add(claim);
            }
        }
        let plan = plan(&pod, &mut entry.observed, &self.refs, &self.facts, at);
        for event in plan.events {
            self.recorder.record(&entry.object, event);
        }
        entry.remove = plan.remove;
        entry.wanted = serde_json::to_value(&plan.status).ok();
        if let Some(wake) = plan.wake_at {
            self.wakes.insert(uid.clone(), wake);
        }
        let (pod_key, account) = (entry.object.key.clone(), service_account(&pod));
        // Once it runs it is seldom planned, and the decoded pod is several times its JSON.
        if plan.status.phase.as_deref() == Some("Pending") {
            entry.keep(pod);
        }
        entry.coming = comes_up(&plan.status) && !plan.remove;
        self.unwritten.insert(uid.clone(), entry.coming, at);
        self.arm_probe(uid, plan.probe_at);
        for reference in plan.fetch {
            if self.refs.want(&reference, uid) {
                self.jobs.spawn(fetch(self.client.clone(), reference));
            }
        }
        for token in plan.tokens {
            self.tokens.add(Wish { pod: pod_key.clone(), account: account.clone(), uid: uid.clone(), key: token });
        }
        self.ask_for_tokens();
        self.unfollow(uid, &plan.follow);
        for reference in plan.follow {
            self.follow.add(reference, uid, &self.client);
        }
        if shrunk {
            self.retry_resizes();
        }
        self.carry_out(uid, plan.effects);
        if plan.remove && self.entries.get(uid).is_some_and(|e| e.is_static) {
            self.drop_entry(uid);
            self.sync_statics();
        }
    }

    /// Ends the following of what a pod shows no more.
    fn unfollow(&mut self, uid: &Uid, keep: &BTreeSet<Reference>) {
        for reference in self.follow.keep(uid, keep) {
            self.refs.unpin(&reference);
        }
    }

    /// Something that volumes show has changed.
    fn followed(&mut self, reference: Reference, lookup: Lookup) {
        let users = self.follow.users(&reference);
        if !users.is_empty() {
            self.dirty.extend(users);
            self.refs.pin(reference, lookup);
        }
    }

    /// There is room again: pods that wait for some to be resized may have it.
    fn retry_resizes(&mut self) {
        let waiting = self.entries.iter().filter(|(_, e)| e.observed.is_deferred());
        self.dirty.extend(waiting.map(|(uid, _)| uid.clone()));
    }

    fn carry_out(&mut self, uid: &Uid, effects: Vec<Effect>) {
        for effect in effects {
            match &effect {
                Effect::PullImage(request) => {
                    self.pull(uid, request.clone());
                    continue;
                }
                Effect::DetachPod { .. } | Effect::RemovePod { .. } => {
                    self.exposed.remove(uid);
                    if let Some(entry) = self.entries.get_mut(uid) {
                        self.taken.free(std::mem::take(&mut entry.claim));
                    }
                    self.retry_resizes();
                    if let Some(entry) = self.entries.get_mut(uid)
                        && std::mem::take(&mut entry.addressed)
                    {
                        self.addresses.free(entry.observed.ip());
                        // Whoever waits for an address may have this one.
                        if let Some((_, object)) = self.homeless.pop_first() {
                            self.put(object);
                        }
                    }
                }
                _ => {}
            }
            // The data plane goes only when the agent does.
            let _ = self.effects.send(effect);
        }
    }

    /// Begins as many writes as may be under way; when to look again, unless one of them ends before.
    fn write(&mut self, at: Time) -> Option<Time> {
        while self.writing < WRITES
            && let Some(uid) = self.unwritten.pop(at)
        {
            let Some(entry) = self.entries.get_mut(&uid) else { continue };
            let Some(write) = entry.write() else { continue };
            self.writing += 1;
            let (client, key) = (self.client.clone(), entry.object.key.clone());
            self.jobs.spawn(async move {
                match write {
                    Write::Status(patch, hash) => {
                        let done = client
                            .patch("pods", &key.namespace, &key.name, "status", PatchType::Strategic, patch)
                            .await;
                        Done::Wrote(uid, Some(hash), done.map(Some))
                    }
                    Write::Delete => {
                        let options = DeleteOptions {
                            grace_period_seconds: Some(0),
                            uid: Some(uid.to_string()),
                            ..DeleteOptions::default()
                        };
                        let done = client.delete("pods", &key.namespace, &key.name, options).await;
                        Done::Wrote(uid, None, done.map(|_| None))
                    }
                }
            });
        }
        if self.writing < WRITES { self.unwritten.next_look(at) } else { None }
    }

    fn done(&mut self, done: Result<Done, tokio::task::JoinError>) {
        let at = now();
        match done {
            Ok(Done::Wrote(uid, hash, result)) => {
                self.writing -= 1;
                let Some(entry) = self.entries.get_mut(&uid) else { return };
                entry.writing = false;
                match (result, hash) {
                    (Ok(object), Some(hash)) => {
                        let other = object.is_some_and(|o| entry.wrote(hash, o));
                        self.unwritten.insert(uid.clone(), entry.coming, at);
                        if other {
                            self.dirty.insert(uid);
                        }
                    }
                    (Ok(_), None) => {}
                    // It is gone, or another one has its name: the watch tells.
                    (Err(e), _) if e.code == 404 => {}
                    (Err(e), hash) => {
                        tracing::warn!(pod = %entry.object.key, error = %e, "cannot write, trying again");
                        entry.delete_sent &= hash.is_some();
                        self.retry(uid, at + RETRY);
                    }
                }
            }
            Ok(Done::Fetched(reference, lookup)) => {
                let unknown = lookup == Lookup::Unknown;
                for uid in self.refs.answer(reference, lookup, at) {
                    if unknown {
                        self.retry(uid, at + RETRY);
                    } else {
                        self.dirty.insert(uid);
                    }
                }
            }
            Ok(Done::Token(uid, key, result)) => self.token_came(uid, &key, result, at),
            Ok(Done::Mirrored(name, result)) => self.mirrored(name, result),
            Ok(Done::Recorded) => {}
            Err(error) => tracing::error!(%error, "a task of the agent has failed"),
        }
    }

    fn answer(&self, ask: Ask) {
        match ask {
            Ask::Pods(answer) => {
                let _ = answer.send(self.entries.values().map(|e| e.object.clone()).collect());
            }
            Ask::Probes(answer) => {
                let _ = answer.send(self.entries.values().flat_map(Entry::probe_counts).collect());
            }
            Ask::Log { namespace, pod, container, previous, answer } => {
                let named = |e: &&Entry| e.object.namespace() == namespace && e.object.name() == pod;
                // A pod that is going may share its name with the next one.
                let found = self.entries.values().filter(named).max_by_key(|e| !e.gone);
                let result = match found {
                    None => Err((404, "pod does not exist".into())),
                    Some(e) => match log_attempt(&pod, &e.status(), &container, previous) {
                        Ok(attempt) => Ok((e.object.meta.uid.clone(), attempt)),
                        Err(text) => Err((400, text)),
                    },
                };
                let _ = answer.send(result);
            }
        }
    }
}

/// What a pod takes of the node: nothing once it is over.
fn claim(object: &Object, pod: &Pod) -> Claim {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return Claim::default();
    }
    let facts = object.facts::<PodFacts>();
    let (cpu_millis, memory) = (facts.cpu_millis, facts.memory_bytes);
    Claim { cpu_millis, memory, storage: facts.storage_bytes, pods: 1 }
}

fn pod_ip(object: &Object) -> Option<IpAddr> {
    object.spec_and_status().1["podIP"].as_str().and_then(|ip| ip.parse().ok())
}

async fn fetch(client: Client, reference: Reference) -> Done {
    let lookup = match client.get(reference.resource, &reference.namespace, &reference.name).await {
        Ok(o) => Lookup::Found(Arc::new(values(reference.resource, &o.value()))),
        Err(e) if e.code == 404 => Lookup::Missing,
        Err(e) => {
            tracing::warn!(?reference, error = %e, "cannot read what a pod refers to");
            Lookup::Unknown
        }
    };
    Done::Fetched(reference, lookup)
}
