//! Keeps the network's knowledge of other nodes and their pods, and of NetworkPolicies and those whom they speak of, as the
//! API has it.

use std::sync::Arc;

use copepod_client::Client;
use copepod_model::Object;
use copepod_node_network::Network;
use copepod_node_routes::{Neighbours, Policies};
use rustls::pki_types::CertificateDer;
use tokio::sync::{mpsc, watch};

use crate::reflect::{Change, reflect};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Node,
    Pod,
    Namespace,
    Policy,
}

/// What is followed. All pods: policies speak of the node's own ones as well.
const FOLLOWED: [(Kind, &str); 4] = [
    (Kind::Node, "nodes"),
    (Kind::Pod, "pods"),
    (Kind::Namespace, "namespaces"),
    (Kind::Policy, "networkpolicies.networking.k8s.io"),
];

/// What is known.
struct Known {
    neighbours: Neighbours,
    policies: Policies,
}

/// What has become of the knowledge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct News {
    /// Of nodes and others' pods.
    neighbours: bool,
    /// Nodes have changed.
    moved: bool,
    /// Of policies, pods and namespaces.
    policies: bool,
}

/// Follows them for ever, as the node `own` does. `ready` turns true once all were listed and the network knows it.
pub(crate) async fn run(client: Client, own: String, network: Network, ready: watch::Sender<bool>) {
    let (tx, mut rx) = mpsc::channel(1024);
    for (kind, resource) in FOLLOWED {
        tokio::spawn(reflect(client.clone(), resource, String::new(), tx.clone(), move |c| (kind, c)));
    }
    let mut known = Known { neighbours: Neighbours::new(&own), policies: Policies::default() };
    let (mut listed, mut missed) = (Vec::new(), News::default());
    while let Some(first) = rx.recv().await {
        let mut next = Some(first);
        // Everything that waits is one change.
        while let Some((kind, change)) = next {
            if matches!(change, Change::Reset(_)) && !listed.contains(&kind) {
                listed.push(kind);
                missed = News { neighbours: true, policies: true, ..missed };
            }
            take(&mut known, kind, change, &mut missed);
            next = rx.try_recv().ok();
        }
        if listed.len() < FOLLOWED.len() {
            continue;
        }
        let news = std::mem::take(&mut missed);
        // Before the neighbours: a pod that they know is one that policies know.
        if news.policies {
            network.set_policies(Arc::new(known.policies.clone()));
        }
        if news.neighbours {
            network.set_neighbours(Arc::new(known.neighbours.clone()), news.moved);
        }
        ready.send_if_modified(|r| !std::mem::replace(r, true));
    }
}

fn take(known: &mut Known, kind: Kind, change: Change, news: &mut News) {
    match change {
        Change::Put(o) => put(known, kind, &o, news),
        Change::Gone(o) => {
            let Known { neighbours, policies } = known;
            match kind {
                Kind::Node => moved(neighbours.remove_node(o.name()), news),
                Kind::Pod => {
                    news.neighbours |= neighbours.remove_pod(&o);
                    news.policies |= policies.remove_pod(o.namespace(), o.name());
                }
                Kind::Namespace => news.policies |= policies.remove_namespace(o.name()),
                Kind::Policy => news.policies |= policies.remove_policy(o.namespace(), o.name()),
            }
        }
        Change::Reset(list) => {
            let Known { neighbours, policies } = known;
            let kept = || list.iter().map(|o| &**o);
            match kind {
                Kind::Node => moved(neighbours.keep_nodes(kept()), news),
                Kind::Pod => {
                    news.neighbours |= neighbours.keep_pods(kept());
                    news.policies |= policies.keep_pods(kept());
                }
                Kind::Namespace => news.policies |= policies.keep_namespaces(kept()),
                Kind::Policy => news.policies |= policies.keep_policies(kept()),
            }
            list.iter().for_each(|o| put(known, kind, o, news));
        }
    }
}

fn put(Known { neighbours, policies }: &mut Known, kind: Kind, o: &Object, news: &mut News) {
    match kind {
        Kind::Node => moved(neighbours.put_node(o), news),
        Kind::Pod => {
            news.neighbours |= neighbours.put_pod(o);
            news.policies |= policies.put_pod(o);
        }
        Kind::Namespace => news.policies |= policies.put_namespace(o),
        Kind::Policy => news.policies |= policies.put_policy(o),
    }
}

fn moved(changed: bool, news: &mut News) {
    news.neighbours |= changed;
    news.moved |= changed;
}

/// The node whose client certificate it is: TLS has verified that it is the cluster's.
pub(crate) fn node_of(certificate: &CertificateDer<'_>) -> Option<String> {
    let user = copepod_client::certificate::user(certificate)?;
    let name = user.name.strip_prefix("system:node:").filter(|n| !n.is_empty() && user.in_group("system:nodes"))?;
    Some(name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use copepod_model::Key;
    use copepod_model::join_token::AGENT_KEY;
    use copepod_model::object::{encode, with_revision};
    use copepod_node_routes::DATA_PORT;
    use rcgen::{CertificateParams, DnType, KeyPair};
    use serde_json::{Value, json};

    fn object(resource: &str, name: &str, value: Value) -> Arc<Object> {
        Arc::new(Object::decode(Key::new(resource, "", name), 1, with_revision(&encode(&value), 1)))
    }

    fn node(name: &str) -> Arc<Object> {
        let value = json!({"metadata": {"name": name, "annotations": {DATA_PORT: "1", AGENT_KEY: "key"}},
            "spec": {"podCIDR": "10.244.240.0/20"},
            "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.4"}]}});
        object("nodes", name, value)
    }

    #[test]
    fn only_what_changes_is_news() {
        let mut known = Known { neighbours: Neighbours::new("own"), policies: Policies::default() };
        let mut news = |kind, change| {
            let mut news = News::default();
            take(&mut known, kind, change, &mut news);
            news
        };
        let mut say = |kind, change| {
            let News { neighbours, moved, .. } = news(kind, change);
            (neighbours, moved)
        };
        let pod = object("pods", "p", json!({"metadata": {"name": "p", "uid": "u"}, "spec": {"nodeName": "d"}}));
        assert_eq!(say(Kind::Node, Change::Reset(vec![node("d")])), (true, true));
        assert_eq!(say(Kind::Node, Change::Put(node("d"))), (false, false), "a heartbeat");
        assert_eq!(say(Kind::Pod, Change::Put(pod.clone())), (true, false));
        assert_eq!(say(Kind::Pod, Change::Put(pod.clone())), (false, false), "another status");
        assert_eq!(say(Kind::Pod, Change::Gone(pod)), (true, false));
        assert_eq!(say(Kind::Node, Change::Reset(vec![])), (true, true));
        assert_eq!(say(Kind::Node, Change::Gone(node("d"))), (false, false));
        let mut say = |kind, change| news(kind, change) == News { policies: true, ..News::default() };
        let own = |labels: Value| {
            let value = json!({"metadata": {"name": "o", "uid": "o", "labels": labels}, "spec": {"nodeName": "own"}});
            object("pods", "o", value)
        };
        assert!(say(Kind::Pod, Change::Put(own(json!({})))), "the node's own pod");
        assert!(!say(Kind::Pod, Change::Put(own(json!({})))) && say(Kind::Pod, Change::Put(own(json!({"a": "b"})))));
        let namespace = || object("namespaces", "n", json!({"metadata": {"name": "n"}}));
        assert!(
            say(Kind::Namespace, Change::Put(namespace())) && !say(Kind::Namespace, Change::Reset(vec![namespace()]))
        );
        let policy = || object("networkpolicies.networking.k8s.io", "p", json!({"spec": {"podSelector": {}}}));
        assert!(say(Kind::Policy, Change::Put(policy())) && say(Kind::Policy, Change::Gone(policy())));
    }

    #[test]
    fn a_certificate_is_a_nodes_by_name_and_organization() {
        let shown = |name: &str, organization: &str| {
            let mut params = CertificateParams::new(vec![]).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            params.distinguished_name.push(DnType::OrganizationName, organization);
            node_of(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der())
        };
        assert_eq!(shown("system:node:d", "system:nodes").as_deref(), Some("d"));
        assert_eq!(shown("system:node:", "system:nodes"), None);
        assert_eq!(shown("system:node:d", "system:masters"), None);
        assert_eq!(shown("kube-apiserver-kubelet-client", "system:nodes"), None);
    }
}
