//! NetworkPolicies: which pods are isolated, and what is let through all the same (KEP-2079 for `endPort`; the semantics
//! are those of `networking.k8s.io/v1`). Policies are parsed once, and each pod knows those that are for it, so a decision
//! looks at nothing else; a change of a pod concerns that pod, one of a policy the pods that it is or was for.

mod rule;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use copepod_model::Object;
use copepod_model::facts::PodFacts;
use imbl::OrdMap;

use crate::neighbours::{SourcePod, uid};
use crate::service::Protocol;
use rule::Policy;

/// Label that every namespace has: its name.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
/// Where the cluster's DNS would be, and how its pods would be labelled: policies of other clusters say so.
const DNS_NAMESPACE: &str = "kube-system";
const DNS_LABEL: (&str, &str) = ("k8s-app", "kube-dns");
/// The names that its ports have.
const DNS_PORTS: [(&str, Protocol, u16); 2] = [("dns", Protocol::Udp, 53), ("dns-tcp", Protocol::Tcp, 53)];

/// Who is at the other end of what a pod's policies are asked about.
#[derive(Clone, Copy, Debug)]
pub enum Party<'a> {
    /// A pod, by who it is, at its address.
    Pod(&'a SourcePod, IpAddr),
    /// The processes of a node: probes, the ingress, port-forward. They reach every pod.
    Node,
    /// A client outside the cluster, at its address.
    Outside(IpAddr),
    /// Whoever has this address: the pod that is known there, or nobody of the cluster.
    Address(IpAddr),
    /// The cluster's DNS, which answers in process, as a pod of `kube-system` with the label `k8s-app: kube-dns`.
    Dns(IpAddr),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Ingress,
    Egress,
}

/// Labels, in the order of their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Labels(Box<[(Box<str>, Box<str>)]>);

impl Labels {
    fn of(object: &Object) -> Labels {
        Labels(object.meta.labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.binary_search_by(|(k, _)| (**k).cmp(key)).ok().map(|i| &*self.0[i].1)
    }
}

/// What a peer is tested for.
struct Subject<'a> {
    ip: IpAddr,
    /// If it is a pod.
    namespace: Option<&'a str>,
    namespace_labels: Option<&'a Labels>,
    /// `None` where nothing is known of the pod.
    labels: Option<&'a Labels>,
    ports: &'a [Named],
}

impl Subject<'_> {
    fn namespace_label(&self, key: &str) -> Option<&str> {
        let known = self.namespace_labels.and_then(|labels| labels.get(key));
        known.or(self.namespace.filter(|_| key == NAMESPACE_NAME))
    }
}

/// A named port of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    name: Box<str>,
    protocol: Protocol,
    number: u16,
}

/// Nobody of the cluster, at an address.
fn nobody<'a>(ip: IpAddr) -> Subject<'a> {
    Subject { ip: ip.to_canonical(), namespace: None, namespace_labels: None, labels: None, ports: &[] }
}

fn has_port(ports: &[Named], name: &str, (protocol, number): (Protocol, u16)) -> bool {
    ports.iter().any(|p| *p.name == *name && p.protocol == protocol && p.number == number)
}

#[derive(Clone, Debug)]
struct Pod {
    uid: Box<str>,
    labels: Labels,
    /// While it runs; one of each family at most.
    ips: Box<[IpAddr]>,
    ports: Box<[Named]>,
    /// The policies that are for it and isolate it, if any do.
    ingress: Option<Arc<[Arc<Policy>]>>,
    egress: Option<Arc<[Arc<Policy>]>>,
}

impl Pod {
    fn of(object: &Object) -> Pod {
        let facts: Arc<PodFacts> = object.facts();
        let named = facts.ports.iter().filter(|(name, ..)| !name.is_empty()).filter_map(|(name, number, protocol)| {
            Some(Named { name: name.as_str().into(), protocol: Protocol::parse(protocol)?, number: *number })
        });
        let runs = !matches!(facts.phase.as_str(), "Succeeded" | "Failed");
        Pod {
            uid: uid(object).into(),
            labels: Labels::of(object),
            ips: facts.ips.iter().filter(|_| runs).map(IpAddr::to_canonical).collect(),
            ports: named.collect(),
            ingress: None,
            egress: None,
        }
    }

    /// Whether what the API says of it is the same.
    fn is_same(&self, other: &Pod) -> bool {
        self.uid == other.uid && self.labels == other.labels && self.ips == other.ips && self.ports == other.ports
    }

    fn is_selected(&self, policy: &Policy) -> bool {
        policy.is_for(|k| self.labels.get(k))
    }

    fn guard(&mut self, policies: &OrdMap<Arc<str>, Arc<Policy>>) {
        let guards = |direction| -> Option<Arc<[Arc<Policy>]>> {
            let mine = policies.values().filter(|p| p.isolates(direction) && self.is_selected(p));
            let mine: Vec<Arc<Policy>> = mine.cloned().collect();
            (!mine.is_empty()).then(|| mine.into())
        };
        (self.ingress, self.egress) = (guards(Direction::Ingress), guards(Direction::Egress));
    }

    fn guards(&self, direction: Direction) -> Option<&[Arc<Policy>]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }
}

/// One namespace.
#[derive(Clone, Debug, Default)]
struct Space {
    /// Of the Namespace, once it is known.
    labels: Option<Labels>,
    pods: OrdMap<Arc<str>, Arc<Pod>>,
    policies: OrdMap<Arc<str>, Arc<Policy>>,
}

/// Every policy, and the pods and namespaces that they speak of. Parts are shared: a copy costs next to nothing.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    spaces: OrdMap<Arc<str>, Arc<Space>>,
    /// Namespace and name of the running pod that has an address.
    addresses: OrdMap<IpAddr, (Arc<str>, Arc<str>)>,
    /// How many policies there are.
    count: usize,
}

impl Policies {
    /// Whether there is no policy: then everything is let through.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether a pod may open a stream to a port, or send a datagram there: `port` is the one at the pod or host that
    /// takes it, not a Service's.
    pub fn may_leave(&self, pod: &SourcePod, to: Party<'_>, protocol: Protocol, port: u16) -> bool {
        let at = (protocol, port);
        self.lets_through(Direction::Egress, pod, to, at, |peer, name| has_port(peer.ports, name, at))
    }

    /// Whether what comes from somebody may enter a pod by this port.
    pub fn may_enter(&self, pod: &SourcePod, from: Party<'_>, protocol: Protocol, port: u16) -> bool {
        if matches!(from, Party::Node) {
            return true;
        }
        let at = (protocol, port);
        let own = |name: &str| self.known(pod).is_some_and(|(_, known)| has_port(&known.ports, name, at));
        self.lets_through(Direction::Ingress, pod, from, at, |_, name| own(name))
    }

    /// Whether a pod is known by its UID.
    pub fn knows(&self, pod: &SourcePod) -> bool {
        self.known(pod).is_some()
    }

    /// Whether somebody is known at an address.
    pub fn knows_address(&self, ip: IpAddr) -> bool {
        self.addresses.contains_key(&ip.to_canonical())
    }

    /// Whether policies decide who may come to the pod at an address.
    pub fn guards(&self, ip: IpAddr) -> bool {
        let guarded = |(namespace, name): &(Arc<str>, Arc<str>)| {
            let pod = self.spaces.get(namespace)?.pods.get(name)?;
            Some(pod.ingress.is_some())
        };
        self.addresses.get(&ip.to_canonical()).and_then(guarded).unwrap_or(false)
    }

    /// Whether nothing that a pod does or that is done to it is asked about.
    pub fn is_open(&self, pod: &SourcePod) -> bool {
        if self.is_empty() {
            return true;
        }
        match self.known(pod) {
            Some((_, known)) => known.ingress.is_none() && known.egress.is_none(),
            None => self.spaces.get(&*pod.namespace).is_none_or(|space| space.policies.is_empty()),
        }
    }

    fn lets_through(
        &self,
        direction: Direction,
        pod: &SourcePod,
        other: Party<'_>,
        at: (Protocol, u16),
        named: impl Fn(&Subject<'_>, &str) -> bool,
    ) -> bool {
        if self.is_empty() || matches!(other, Party::Pod(other, _) if other.uid == pod.uid) {
            return true;
        }
        let dns;
        let subject = match other {
            Party::Pod(other, ip) => self.subject(other, ip),
            Party::Address(ip) => self.at(ip),
            Party::Outside(ip) => nobody(ip),
            Party::Dns(ip) => {
                dns = (Labels(Box::new([(DNS_LABEL.0.into(), DNS_LABEL.1.into())])), DNS_PORTS.map(Named::from));
                let namespace_labels = self.spaces.get(DNS_NAMESPACE).and_then(|s| s.labels.as_ref());
                let (labels, ports) = (Some(&dns.0), &dns.1[..]);
                Subject { ip, namespace: Some(DNS_NAMESPACE), namespace_labels, labels, ports }
            }
            // Only what enters comes from there.
            Party::Node => return true,
        };
        let by = |p: &Policy| p.lets_through(direction, &subject, at, |name| named(&subject, name));
        match self.known(pod) {
            Some((_, known)) => known.guards(direction).is_none_or(|guards| guards.iter().any(|p| by(p))),
            // Its labels are not known yet, so any policy may be for it: those that are for all count, and no gap opens.
            None => {
                let Some(space) = self.spaces.get(&*pod.namespace) else { return true };
                let mut isolating = space.policies.values().filter(|p| p.isolates(direction)).peekable();
                isolating.peek().is_none() || isolating.any(|p| p.is_for_all() && by(p))
            }
        }
    }

    fn known(&self, pod: &SourcePod) -> Option<(&Space, &Pod)> {
        let space = self.spaces.get(&*pod.namespace)?;
        let known = space.pods.get(&*pod.name).filter(|known| *known.uid == *pod.uid)?;
        Some((space, known))
    }

    fn subject<'a>(&'a self, pod: &'a SourcePod, ip: IpAddr) -> Subject<'a> {
        let space = self.spaces.get(&*pod.namespace);
        let known = self.known(pod).map(|(_, known)| known);
        Subject {
            ip: ip.to_canonical(),
            namespace: Some(&pod.namespace),
            namespace_labels: space.and_then(|s| s.labels.as_ref()),
            labels: known.map(|k| &k.labels),
            ports: known.map_or(&[], |k| &k.ports),
        }
    }

    fn at(&self, ip: IpAddr) -> Subject<'_> {
        let Some((namespace, name)) = self.addresses.get(&ip.to_canonical()) else { return nobody(ip) };
        let Some(space) = self.spaces.get(&**namespace) else { return nobody(ip) };
        let Some(pod) = space.pods.get(&**name) else { return nobody(ip) };
        Subject {
            ip: ip.to_canonical(),
            namespace: Some(namespace),
            namespace_labels: space.labels.as_ref(),
            labels: Some(&pod.labels),
            ports: &pod.ports,
        }
    }

    /// Takes a Namespace as it is now; whether that changes anything.
    pub fn put_namespace(&mut self, namespace: &Object) -> bool {
        let labels = Some(Labels::of(namespace));
        self.change(&namespace.key.name, |space| {
            let changed = space.labels != labels;
            space.labels = labels;
            changed
        })
    }

    /// A Namespace is gone; whether it was known.
    pub fn remove_namespace(&mut self, name: &str) -> bool {
        self.change(name, |space| space.labels.take().is_some())
    }

    /// Takes a NetworkPolicy as it is now; whether that changes anything.
    pub fn put_policy(&mut self, policy: &Object) -> bool {
        let new = Arc::new(Policy::of(policy));
        let (mut fresh, name) = (false, policy.key.name.clone());
        let changed = self.change(&policy.key.namespace, |space| {
            let old = space.policies.insert(name, new.clone());
            fresh = old.is_none();
            let same = old.as_ref().is_some_and(|old| **old == *new);
            if !same {
                space.guard(|pod| pod.is_selected(&new) || old.as_ref().is_some_and(|old| pod.is_selected(old)));
            }
            !same
        });
        self.count += usize::from(fresh);
        changed
    }

    /// A NetworkPolicy is gone; whether it was known.
    pub fn remove_policy(&mut self, namespace: &str, name: &str) -> bool {
        let gone = self.change(namespace, |space| {
            let Some(old) = space.policies.remove(name) else { return false };
            space.guard(|pod| pod.is_selected(&old));
            true
        });
        self.count -= usize::from(gone);
        gone
    }

    /// Takes a Pod as it is now; whether that changes anything.
    pub fn put_pod(&mut self, pod: &Object) -> bool {
        let (namespace, name) = (pod.key.namespace.clone(), pod.key.name.clone());
        let mut new = Pod::of(pod);
        let old = self.spaces.get(&*namespace).and_then(|s| s.pods.get(&*name)).cloned();
        if old.as_ref().is_some_and(|old| old.is_same(&new)) {
            return false;
        }
        let ips = new.ips.clone();
        self.change(&namespace, |space| {
            new.guard(&space.policies);
            space.pods.insert(name.clone(), Arc::new(new));
            true
        });
        let left = old.iter().flat_map(|old| old.ips.iter()).filter(|old| !ips.contains(old));
        left.for_each(|old| self.free(*old, &namespace, &name));
        for ip in ips {
            self.addresses.insert(ip, (namespace.clone(), name.clone()));
        }
        true
    }

    /// A Pod is gone; whether it was known.
    pub fn remove_pod(&mut self, namespace: &str, name: &str) -> bool {
        let mut old = None;
        self.change(namespace, |space| {
            old = space.pods.remove(name);
            old.is_some()
        });
        for ip in old.iter().flat_map(|old| old.ips.iter()) {
            self.free(*ip, namespace, name);
        }
        old.is_some()
    }

    /// Forgets all Namespaces but these; whether that changes anything.
    pub fn keep_namespaces<'a>(&mut self, all: impl IntoIterator<Item = &'a Object>) -> bool {
        let keep: BTreeSet<&str> = all.into_iter().map(Object::name).collect();
        let known = self.spaces.iter().filter(|(_, space)| space.labels.is_some());
        let gone: Vec<Arc<str>> = known.map(|(name, _)| name.clone()).filter(|name| !keep.contains(&**name)).collect();
        let mut any = false;
        for name in &gone {
            any |= self.remove_namespace(name);
        }
        any
    }

    /// Forgets all NetworkPolicies but these; whether that changes anything.
    pub fn keep_policies<'a>(&mut self, all: impl IntoIterator<Item = &'a Object>) -> bool {
        let gone = self.others(all, |space| space.policies.keys());
        let mut any = false;
        for (namespace, name) in &gone {
            any |= self.remove_policy(namespace, name);
        }
        any
    }

    /// Forgets all Pods but these; whether that changes anything.
    pub fn keep_pods<'a>(&mut self, all: impl IntoIterator<Item = &'a Object>) -> bool {
        let gone = self.others(all, |space| space.pods.keys());
        let mut any = false;
        for (namespace, name) in &gone {
            any |= self.remove_pod(namespace, name);
        }
        any
    }

    /// Namespaces and names of what is known and not among `keep`.
    fn others<'a, 's, I: Iterator<Item = &'s Arc<str>>>(
        &'s self,
        keep: impl IntoIterator<Item = &'a Object>,
        names: impl Fn(&'s Space) -> I,
    ) -> Vec<(Arc<str>, Arc<str>)> {
        let keep: BTreeSet<(&str, &str)> = keep.into_iter().map(|o| (o.namespace(), o.name())).collect();
        let all = self.spaces.iter().flat_map(|(namespace, space)| names(space).map(move |name| (namespace, name)));
        let gone = all.filter(|(namespace, name)| !keep.contains(&(&***namespace, &***name)));
        gone.map(|(namespace, name)| (namespace.clone(), name.clone())).collect()
    }

    fn change(&mut self, namespace: &str, with: impl FnOnce(&mut Space) -> bool) -> bool {
        let mut space = self.spaces.get(namespace).map(|s| Space::clone(s)).unwrap_or_default();
        let changed = with(&mut space);
        match space.labels.is_none() && space.pods.is_empty() && space.policies.is_empty() {
            true => drop(self.spaces.remove(namespace)),
            false if changed => drop(self.spaces.insert(namespace.into(), Arc::new(space))),
            false => {}
        }
        changed
    }

    fn free(&mut self, ip: IpAddr, namespace: &str, name: &str) {
        // Another pod may have it by now.
        if self.addresses.get(&ip).is_some_and(|(ns, n)| **ns == *namespace && **n == *name) {
            self.addresses.remove(&ip);
        }
    }
}

impl Space {
    /// Finds the policies anew of those pods that a change concerns.
    fn guard(&mut self, concerned: impl Fn(&Pod) -> bool) {
        let of = self.pods.iter().filter(|(_, pod)| concerned(pod));
        let of: Vec<(Arc<str>, Arc<Pod>)> = of.map(|(name, pod)| (name.clone(), pod.clone())).collect();
        for (name, pod) in of {
            let mut pod = Pod::clone(&pod);
            pod.guard(&self.policies);
            self.pods.insert(name, Arc::new(pod));
        }
    }
}

impl From<(&str, Protocol, u16)> for Named {
    fn from((name, protocol, number): (&str, Protocol, u16)) -> Named {
        Named { name: name.into(), protocol, number }
    }
}

#[cfg(test)]
mod tests;
