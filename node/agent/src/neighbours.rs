//! Keeps the network's knowledge of other nodes and their pods as the API has it.

use std::sync::Arc;

use copepod_client::Client;
use copepod_model::Object;
use copepod_node_network::Network;
use copepod_node_routes::Neighbours;
use rustls::pki_types::CertificateDer;
use tokio::sync::{mpsc, watch};

use crate::reflect::{Change, reflect};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Node,
    Pod,
}

/// What has become of the knowledge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct News {
    any: bool,
    /// Nodes have changed.
    moved: bool,
}

/// Follows Nodes, and the pods of other nodes than `own`, for ever. `ready` turns true once all were listed and the network
/// knows it.
pub(crate) async fn run(client: Client, own: String, network: Network, ready: watch::Sender<bool>) {
    let (tx, mut rx) = mpsc::channel(1024);
    tokio::spawn(reflect(client.clone(), "nodes", String::new(), tx.clone(), |c| (Kind::Node, c)));
    let others = format!("spec.nodeName!={own}");
    tokio::spawn(reflect(client, "pods", others, tx, |c| (Kind::Pod, c)));
    let mut all = Neighbours::new(&own);
    let (mut nodes, mut pods) = (false, false);
    while let Some(first) = rx.recv().await {
        let (mut news, mut next) = (News::default(), Some(first));
        // Everything that waits is one change.
        while let Some((kind, change)) = next {
            if matches!(change, Change::Reset(_)) {
                match kind {
                    Kind::Node => nodes = true,
                    Kind::Pod => pods = true,
                }
                news.any = true;
            }
            take(&mut all, kind, change, &mut news);
            next = rx.try_recv().ok();
        }
        if nodes && pods && news.any {
            network.set_neighbours(Arc::new(all.clone()), news.moved);
            ready.send_if_modified(|r| !std::mem::replace(r, true));
        }
    }
}

fn take(all: &mut Neighbours, kind: Kind, change: Change, news: &mut News) {
    let put = |all: &mut Neighbours, o: &Object| match kind {
        Kind::Node => all.put_node(o),
        Kind::Pod => all.put_pod(o),
    };
    let changed = match change {
        Change::Put(o) => put(all, &o),
        Change::Gone(o) => match kind {
            Kind::Node => all.remove_node(o.name()),
            Kind::Pod => all.remove_pod(&o),
        },
        Change::Reset(list) => {
            let kept = list.iter().map(|o| &**o);
            let mut changed = match kind {
                Kind::Node => all.keep_nodes(kept),
                Kind::Pod => all.keep_pods(kept),
            };
            for o in &list {
                changed |= put(all, o);
            }
            changed
        }
    };
    news.any |= changed;
    news.moved |= changed && kind == Kind::Node;
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
        let mut all = Neighbours::new("own");
        let mut say = |kind, change| {
            let mut news = News::default();
            take(&mut all, kind, change, &mut news);
            (news.any, news.moved)
        };
        let pod = object("pods", "p", json!({"metadata": {"name": "p", "uid": "u"}, "spec": {"nodeName": "d"}}));
        assert_eq!(say(Kind::Node, Change::Reset(vec![node("d")])), (true, true));
        assert_eq!(say(Kind::Node, Change::Put(node("d"))), (false, false), "a heartbeat");
        assert_eq!(say(Kind::Pod, Change::Put(pod.clone())), (true, false));
        assert_eq!(say(Kind::Pod, Change::Put(pod.clone())), (false, false), "another status");
        assert_eq!(say(Kind::Pod, Change::Gone(pod)), (true, false));
        assert_eq!(say(Kind::Node, Change::Reset(vec![])), (true, true));
        assert_eq!(say(Kind::Node, Change::Gone(node("d"))), (false, false));
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
