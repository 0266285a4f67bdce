//! The other nodes: which part of the pod network is whose, where each of them takes streams of pods, which pods are bound
//! to it, and so whether a stream is whose it says it is.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use copepod_model::Object;
use copepod_model::facts::PodFacts;
use copepod_model::join_token::AGENT_KEY;
use imbl::OrdMap;
use serde_json::Value;

use crate::table::within;

/// Annotation of a Node: the port at its `InternalIP` where it takes streams of other nodes' pods.
pub const DATA_PORT: &str = "copepod.dev/data-port";

/// Annotation of the mirrors of static pods.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its name, which its certificates are for.
    pub name: Arc<str>,
    /// Where it takes streams.
    pub data: SocketAddr,
    /// Its part of the pod network, as the cluster has chosen it: addresses and prefix lengths.
    pub parts: Vec<(IpAddr, u8)>,
}

impl Neighbour {
    /// What a Node says of itself; none where it takes no streams, or has not joined: then nobody has chosen its part.
    pub fn of(node: &Object) -> Option<Neighbour> {
        node.meta.annotations.get(AGENT_KEY)?;
        let port = node.meta.annotations.get(DATA_PORT)?.parse::<u16>().ok().filter(|p| *p != 0)?;
        let (spec, status) = node.spec_and_status();
        let addresses = status["addresses"].as_array().into_iter().flatten();
        let internal = addresses.filter(|a| a["type"] == "InternalIP");
        let ip: IpAddr = internal.filter_map(|a| a["address"].as_str()?.parse().ok()).next()?;
        let mut parts: Vec<_> = spec["podCIDRs"].as_array().into_iter().flatten().filter_map(cidr).collect();
        if parts.is_empty() {
            parts.extend(cidr(&spec["podCIDR"]));
        }
        Some(Neighbour { name: node.name().into(), data: SocketAddr::new(ip, port), parts })
    }

    /// Whether an address is in its part.
    pub fn has(&self, ip: IpAddr) -> bool {
        self.parts.iter().any(|(network, bits)| within(ip, *network, *bits))
    }
}

fn cidr(text: &Value) -> Option<(IpAddr, u8)> {
    let (network, bits) = text.as_str()?.split_once('/')?;
    let network: IpAddr = network.parse().ok()?;
    let most = if network.is_ipv4() { 32 } else { 128 };
    Some((network, bits.parse().ok().filter(|b| *b <= most)?))
}

/// A pod as a source of streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcePod {
    /// UID.
    pub uid: Arc<str>,
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// Service account.
    pub service_account: Arc<str>,
}

/// Whose a stream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// A pod's.
    Pod(SourcePod),
    /// The sending node's own: its probes and its ingress.
    Node,
    /// A client's outside the cluster, who came by an address of the sending node.
    Client,
}

/// What a sending node says of a stream. Its text is one line: `pod NAMESPACE NAME UID SERVICEACCOUNT ADDRESS`,
/// `node ADDRESS` or `client ADDRESS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Whose it is.
    pub whose: Whose,
    /// The source's address, as the destination sees it.
    pub address: SocketAddr,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.whose {
            Whose::Pod(SourcePod { uid, namespace, name, service_account }) => {
                write!(f, "pod {namespace} {name} {uid} {service_account} ")?;
            }
            Whose::Node => f.write_str("node ")?,
            Whose::Client => f.write_str("client ")?,
        }
        self.address.fmt(f)
    }
}

impl FromStr for Claim {
    type Err = ();

    fn from_str(text: &str) -> Result<Claim, ()> {
        let words: Vec<&str> = text.split(' ').collect();
        let (whose, address) = match words.as_slice() {
            ["pod", namespace, name, uid, account, address] if words.iter().all(|w| !w.is_empty()) => {
                let [namespace, name, uid, service_account] = [namespace, name, uid, account].map(|w| Arc::from(*w));
                (Whose::Pod(SourcePod { uid, namespace, name, service_account }), address)
            }
            ["node", address] => (Whose::Node, address),
            ["client", address] => (Whose::Client, address),
            _ => return Err(()),
        };
        Ok(Claim { whose, address: address.parse().map_err(drop)? })
    }
}

/// What is to be made of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is true.
    True,
    /// Nothing is known of the pod or the node. It may be news that has not come yet.
    Unknown,
    /// It is not, and why.
    False(&'static str),
}

/// Namespace and name.
type PodName = (Arc<str>, Arc<str>);

fn pod_name(pod: &Object) -> PodName {
    (pod.namespace().into(), pod.name().into())
}

/// The other nodes and their pods. Immutable parts are shared: a copy costs next to nothing.
#[derive(Clone, Debug, Default)]
pub struct Neighbours {
    own: Arc<str>,
    nodes: OrdMap<Arc<str>, Arc<Neighbour>>,
    /// By the first address of a part.
    parts: OrdMap<IpAddr, (u8, Arc<Neighbour>)>,
    /// By namespace and name, which no two have, with the node that each is bound to.
    pods: OrdMap<PodName, (Arc<str>, Arc<SourcePod>)>,
}

impl Neighbours {
    /// Nobody yet, as the node `own` knows it, which is not among its neighbours.
    pub fn new(own: &str) -> Neighbours {
        Neighbours { own: own.into(), ..Neighbours::default() }
    }

    /// Takes a Node as it is now; whether that changes anything.
    pub fn put_node(&mut self, node: &Object) -> bool {
        let name = node.name();
        match Neighbour::of(node).filter(|_| *self.own != *name) {
            Some(new) if self.nodes.get(name).is_some_and(|old| **old == new) => false,
            Some(new) => {
                self.nodes.insert(new.name.clone(), Arc::new(new));
                self.divide();
                true
            }
            None => self.remove_node(name),
        }
    }

    /// A Node is gone; whether it was known.
    pub fn remove_node(&mut self, name: &str) -> bool {
        let gone = self.nodes.remove(name).is_some();
        if gone {
            self.divide();
        }
        gone
    }

    /// Nodes are few and seldom change. A part that two of them have is nobody's: one may say so to get the other's streams.
    fn divide(&mut self) {
        self.parts.clear();
        let all = || self.nodes.values().flat_map(|node| node.parts.iter().map(move |part| (node, *part)));
        let meet = |(a, x): (IpAddr, u8), (b, y): (IpAddr, u8)| within(a, b, y) || within(b, a, x);
        let alone = |(node, part): &(&Arc<Neighbour>, _)| {
            all().all(|(other, theirs)| other.name == node.name || !meet(*part, theirs))
        };
        let parts: Vec<_> = all().filter(alone).map(|(node, (first, bits))| (first, (bits, node.clone()))).collect();
        self.parts.extend(parts);
    }

    /// Takes a pod as it is now; whether that changes anything. What is asked of it never changes once it is bound.
    pub fn put_pod(&mut self, pod: &Object) -> bool {
        let Some(node) = pod.meta.node_name.as_ref().filter(|n| ***n != *self.own && !n.is_empty()) else {
            return false;
        };
        let (uid, key) = (uid(pod), pod_name(pod));
        // What is bound stays bound.
        if self.pods.get(&key).is_some_and(|(_, known)| *known.uid == *uid) {
            return false;
        }
        let facts: Arc<PodFacts> = pod.facts();
        let account = Some(facts.service_account.as_str()).filter(|a| !a.is_empty()).unwrap_or("default");
        let source = SourcePod {
            uid: uid.into(),
            namespace: key.0.clone(),
            name: key.1.clone(),
            service_account: account.into(),
        };
        self.pods.insert(key, (node.clone(), Arc::new(source)));
        true
    }

    /// A pod is gone; whether it was known.
    pub fn remove_pod(&mut self, pod: &Object) -> bool {
        let key = pod_name(pod);
        // One that came after it has its name.
        self.pods.get(&key).is_some_and(|(_, known)| *known.uid == *uid(pod)) && self.pods.remove(&key).is_some()
    }

    /// Forgets all Nodes but these; whether that changes anything.
    pub fn keep_nodes<'a>(&mut self, all: impl IntoIterator<Item = &'a Object>) -> bool {
        let keep: BTreeSet<&str> = all.into_iter().map(Object::name).collect();
        let gone: Vec<Arc<str>> = self.nodes.keys().filter(|name| !keep.contains(&***name)).cloned().collect();
        for name in &gone {
            self.remove_node(name);
        }
        !gone.is_empty()
    }

    /// Forgets all pods but these; whether that changes anything.
    pub fn keep_pods<'a>(&mut self, all: impl IntoIterator<Item = &'a Object>) -> bool {
        let keep: BTreeSet<PodName> = all.into_iter().map(pod_name).collect();
        let gone: Vec<PodName> = self.pods.keys().filter(|key| !keep.contains(*key)).cloned().collect();
        gone.iter().for_each(|key| drop(self.pods.remove(key)));
        !gone.is_empty()
    }

    /// The node of this name.
    pub fn node(&self, name: &str) -> Option<&Arc<Neighbour>> {
        self.nodes.get(name)
    }

    /// The node whose part of the pod network an address is in.
    pub fn of(&self, ip: IpAddr) -> Option<&Arc<Neighbour>> {
        let (first, (bits, node)) = self.parts.range(..=ip).next_back()?;
        within(ip, *first, *bits).then_some(node)
    }

    /// Whether what the node `sender` says of a stream is true. `inside` says whether an address is one of the cluster's.
    pub fn judge(&self, sender: &str, claim: &Claim, inside: impl Fn(IpAddr) -> bool) -> Verdict {
        let Some(node) = self.nodes.get(sender) else { return Verdict::Unknown };
        let ip = claim.address.ip().to_canonical();
        match &claim.whose {
            Whose::Client if inside(ip) => return Verdict::False("a client outside with an address of the cluster"),
            Whose::Client => return Verdict::True,
            _ if !node.has(ip) => return Verdict::False("the source's address is not in the sending node's part"),
            Whose::Node => return Verdict::True,
            Whose::Pod(_) => {}
        }
        let Whose::Pod(pod) = &claim.whose else { return Verdict::True };
        match self.pods.get(&(pod.namespace.clone(), pod.name.clone())) {
            None => Verdict::Unknown,
            // One of this name has gone, and the next one's news may be on its way.
            Some((_, known)) if known.uid != pod.uid => Verdict::Unknown,
            Some((bound, _)) if **bound != *sender => Verdict::False("the source pod is another node's"),
            Some((_, known)) if **known != *pod => Verdict::False("the source pod is another one"),
            Some(_) => Verdict::True,
        }
    }
}

/// The UID that a pod's node knows it by: that of a static pod stands in its mirror.
pub(crate) fn uid(pod: &Object) -> &str {
    pod.meta.annotations.get(MIRROR).map_or(&*pod.meta.uid, |uid| &**uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use copepod_model::Key;
    use copepod_model::object::{encode, with_revision};
    use serde_json::json;

    fn object(resource: &str, namespace: &str, name: &str, value: Value) -> Object {
        Object::decode(Key::new(resource, namespace, name), 1, with_revision(&encode(&value), 1))
    }

    fn node(name: &str, port: &str, cidr: &str) -> Object {
        let value = json!({"metadata": {"name": name, "annotations": {DATA_PORT: port, AGENT_KEY: "key"}},
            "spec": {"podCIDR": cidr, "podCIDRs": [cidr]},
            "status": {"addresses": [{"type": "Hostname", "address": name},
                {"type": "InternalIP", "address": "10.0.0.4"}]}});
        object("nodes", "", name, value)
    }

    fn pod(uid: &str, node: &str) -> Object {
        let value = json!({"metadata": {"name": uid, "namespace": "shop", "uid": uid},
            "spec": {"nodeName": node, "serviceAccountName": "till"}});
        object("pods", "shop", uid, value)
    }

    fn neighbours() -> Neighbours {
        let mut all = Neighbours::new("own");
        assert!(all.put_node(&node("d", "10251", "10.244.240.0/20")));
        assert!(all.put_node(&node("e", "7", "10.244.224.0/20")));
        assert!(all.put_pod(&pod("p", "d")));
        all
    }

    fn claim(text: &str) -> Claim {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_belongs_to_the_node_that_has_its_part() {
        let mut all = neighbours();
        let of = |all: &Neighbours, ip: &str| all.of(ip.parse().unwrap()).map(|n| n.name.to_string());
        for (ip, name) in [
            ("10.244.240.0", Some("d")),
            ("10.244.255.255", Some("d")),
            ("10.244.224.9", Some("e")),
            ("10.244.223.255", None),
            ("10.245.0.0", None),
            ("fd00::1", None),
        ] {
            assert_eq!(of(&all, ip).as_deref(), name, "{ip}");
        }
        assert_eq!(all.node("d").unwrap().data, "10.0.0.4:10251".parse().unwrap());
        assert!(!all.put_node(&node("d", "10251", "10.244.240.0/20")), "nothing new");
        assert!(!all.put_node(&node("own", "10251", "10.244.0.0/20")), "its own part is no neighbour's");
        for port in ["", "0", "x", "65536"] {
            assert!(Neighbour::of(&node("f", port, "10.244.208.0/20")).is_none(), "{port:?}");
        }
        assert!(all.put_node(&node("e", "", "10.244.224.0/20")), "one that takes no streams any more");
        assert_eq!(of(&all, "10.244.224.9"), None);
        assert!(all.remove_node("d") && !all.remove_node("d"));
        assert_eq!(of(&all, "10.244.240.0"), None);
    }

    #[test]
    fn a_part_that_two_nodes_have_is_nobodys() {
        let mut all = neighbours();
        let ip: IpAddr = "10.244.240.2".parse().unwrap();
        assert!(all.put_node(&node("x", "7", "10.244.240.0/25")));
        assert!(all.of(ip).is_none() && all.of("10.244.224.2".parse().unwrap()).is_some());
        assert!(all.remove_node("x") && all.of(ip).is_some_and(|n| &*n.name == "d"));
    }

    #[test]
    fn a_new_list_drops_what_is_not_in_it() {
        let mut all = neighbours();
        assert!(
            all.keep_nodes([&node("e", "7", "10.244.224.0/20")]) && all.node("d").is_none() && all.node("e").is_some()
        );
        assert!(all.keep_pods([&pod("q", "d")]) && !all.keep_pods([]));
    }

    #[test]
    fn claims_survive_their_text_and_nothing_else_is_one() {
        for text in ["pod shop p uid till 10.244.240.2:40000", "node 10.244.240.0:1", "client [2001:db8::1]:2"] {
            assert_eq!(claim(text).to_string(), text);
        }
        for bad in [
            "",
            "pod",
            "pod shop p uid  10.244.240.2:1",
            "pod a b c d e 1.2.3.4:1",
            "node",
            "node x",
            "client 1.2.3.4",
            "n 1.2.3.4:1",
        ] {
            assert_eq!(bad.parse::<Claim>(), Err(()), "{bad:?}");
        }
    }

    #[test]
    fn a_node_speaks_for_its_own_pods_only() {
        let mut all = neighbours();
        assert!(!all.put_pod(&pod("p", "e")), "what is bound stays bound");
        assert!(!all.put_pod(&pod("q", "own")) && !all.put_pod(&pod("q", "")), "nobody asks for these");
        let inside = |ip: IpAddr| within(ip, "10.244.0.0".parse().unwrap(), 16);
        let other = "the source's address is not in the sending node's part";
        for (sender, text, want) in [
            ("d", "pod shop p p till 10.244.240.2:4", Verdict::True),
            ("d", "pod shop q q till 10.244.240.2:4", Verdict::Unknown),
            ("f", "pod shop p p till 10.244.240.2:4", Verdict::Unknown),
            ("e", "pod shop p p till 10.244.224.2:4", Verdict::False("the source pod is another node's")),
            ("d", "pod shop p p root 10.244.240.2:4", Verdict::False("the source pod is another one")),
            // Nobody of that name is known, whoever may have the UID; it is refused when no news has come.
            ("d", "pod bank p p till 10.244.240.2:4", Verdict::Unknown),
            ("d", "pod shop p p till 10.244.224.2:4", Verdict::False(other)),
            ("d", "node 10.244.240.0:4", Verdict::True),
            ("d", "node 10.244.224.0:4", Verdict::False(other)),
            ("d", "client 192.0.2.1:4", Verdict::True),
            ("d", "client 10.244.240.2:4", Verdict::False("a client outside with an address of the cluster")),
        ] {
            assert_eq!(all.judge(sender, &claim(text), inside), want, "{sender}: {text}");
        }
        // Another pod that says by the annotation of mirrors that it has this UID takes nothing away from it.
        let mut forged =
            json!({"metadata": {"name": "x", "namespace": "evil", "uid": "x", "annotations": {MIRROR: "p"}}});
        forged["spec"] = json!({"nodeName": "e"});
        let forged = object("pods", "evil", "x", forged);
        assert!(all.put_pod(&forged) && all.remove_pod(&forged));
        assert_eq!(all.judge("d", &claim("pod shop p p till 10.244.240.2:4"), inside), Verdict::True);
        assert!(!all.keep_pods([&pod("p", "d")]) && all.node("d").is_some());
        assert!(all.remove_pod(&pod("p", "d")) && !all.remove_pod(&pod("p", "d")));
        assert_eq!(all.judge("d", &claim("pod shop p p till 10.244.240.2:4"), inside), Verdict::Unknown);
    }
}
