//! Agents: who they are, what they may call themselves, their certificates, their part of the pod network.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use copepod_client::join::{AgentAnswer, AgentRequest};
use copepod_client::{Client, tls};
use copepod_machine::View as _;
use copepod_model::certificate::reserved;
use copepod_model::join_token::AGENT_KEY;
use copepod_model::kinds::names;
use copepod_model::request::PatchType;
use copepod_model::{FieldError, Object, Status, UserInfo};
use copepod_state::Interest;
use serde_json::json;

use super::Joining;
use crate::api::{Api, InProcess};
use crate::now;
use crate::pki::PkiError;

const NODES: &str = "nodes";
const GROUP: &str = "system:nodes";
const PREFIX: &str = "system:node:";
/// Addresses of one node.
const ADDRESSES: usize = 16;
/// How long the cluster may take to choose a node's part of the pod network.
const ALLOCATION: Duration = Duration::from_secs(10);

/// The node whose certificate it is.
pub(super) fn node_of(user: &UserInfo) -> Option<&str> {
    user.name.strip_prefix(PREFIX).filter(|n| !n.is_empty() && user.in_group(GROUP))
}

/// A request that makes sense.
#[derive(Debug, PartialEq, Eq)]
struct Checked {
    addresses: Vec<IpAddr>,
}

fn check(request: &AgentRequest, service: Option<IpAddr>) -> Result<Checked, Status> {
    let mut errors = Vec::new();
    let name = request.name.as_str();
    if let Err(why) = names::subdomain(name) {
        errors.push(FieldError::invalid("name", name, why));
    } else if let Some(why) = reserved(name) {
        errors.push(FieldError::forbidden("name", why));
    }
    if request.addresses.is_empty() {
        errors.push(FieldError::required("addresses", ""));
    }
    if request.addresses.len() > ADDRESSES {
        errors.push(FieldError::too_many("addresses", request.addresses.len(), ADDRESSES));
    }
    let mut addresses = Vec::new();
    for (i, text) in request.addresses.iter().enumerate().take(ADDRESSES) {
        let field = format!("addresses[{i}]");
        match text.parse::<IpAddr>() {
            Ok(ip) if ip.is_unspecified() || ip.is_multicast() => {
                errors.push(FieldError::invalid(field, text.as_str(), "must be the address of one host"));
            }
            Ok(ip) if service == Some(ip) => {
                errors.push(FieldError::forbidden(field, "the API server is known by this address"));
            }
            Ok(ip) => addresses.push(ip),
            Err(_) => errors.push(FieldError::invalid(field, text.as_str(), "must be a valid IP address")),
        }
    }
    if errors.is_empty() {
        Ok(Checked { addresses })
    } else {
        Err(Status::invalid("copepod.dev", "AgentRequest", name, &errors))
    }
}

/// Whether the agent with the public key `key` may have the name that `node` has. `certificate` is the name in the client
/// certificate of its connection, which counts only where no agent's key is known: a name may have gone to another agent since
/// that certificate was given.
fn may_be(name: &str, node: Option<&Object>, key: &str, certificate: Option<&str>) -> Result<(), Status> {
    let Some(node) = node else { return Ok(()) };
    let known = node.meta.annotations.get(AGENT_KEY).filter(|known| !known.is_empty());
    if known.map_or(certificate == Some(name), |known| **known == *key) {
        return Ok(());
    }
    let why = "another agent has this name; choose another one, or delete the Node if that agent is gone for good";
    Err(Status::conflict(NODES, name, why))
}

impl Api {
    /// A new agent, or one that has lost the answer to its last attempt.
    pub(super) async fn join_agent(
        self: &Arc<Self>,
        joining: &Joining,
        certificate: Option<Box<str>>,
        request: AgentRequest,
    ) -> Result<AgentAnswer, Status> {
        if request.serving_request.is_empty() {
            let error = FieldError::required("servingRequest", "");
            return Err(Status::invalid("copepod.dev", "AgentRequest", &request.name, &[error]));
        }
        self.agent(joining, certificate.as_deref(), request).await
    }

    /// An agent with a certificate: what it needs to begin, and new certificates if it asks for them.
    pub(super) async fn renew_agent(
        self: &Arc<Self>,
        joining: &Joining,
        node: &str,
        request: AgentRequest,
    ) -> Result<AgentAnswer, Status> {
        if request.name != node {
            return Err(Status::forbidden(NODES, &request.name, &format!("this is the certificate of node {node:?}")));
        }
        self.agent(joining, Some(node), request).await
    }

    async fn agent(
        self: &Arc<Self>,
        joining: &Joining,
        certificate: Option<&str>,
        request: AgentRequest,
    ) -> Result<AgentAnswer, Status> {
        // It is signed by the agent's key, and so the proof of which agent it is, whether it wants the certificate or not.
        if request.client_request.is_empty() {
            let error = FieldError::required("clientRequest", "");
            return Err(Status::invalid("copepod.dev", "AgentRequest", &request.name, &[error]));
        }
        let view = self.store.read_index().await.map_err(|e| Status::unavailable(e.to_string()))?;
        let service = view.get("services", "default", "kubernetes");
        let service = service.and_then(|s| s.value()["spec"]["clusterIP"].as_str()?.parse().ok());
        let checked = check(&request, service)?;
        let name = request.name.as_str();
        let user = format!("{PREFIX}{name}");
        let sign = |pem: &str, dns: &[String], ips: &[IpAddr]| match pem {
            "" => Ok(String::new()),
            pem => joining.pki.sign(pem, (&user, &[GROUP]), dns, ips, now()).map_err(|e| match e {
                PkiError::Request(why) => Status::bad_request(format!("not a request for a certificate: {why}")),
                other => Status::internal(other),
            }),
        };
        let client_certificate = sign(&request.client_request, &[], &[])?;
        let serving_certificate = sign(&request.serving_request, &[name.to_string()], &checked.addresses)?;
        let key = tls::public_key_hash(&client_certificate);
        let key = key.ok_or_else(|| Status::internal("a certificate that cannot be read"))?;
        let node = view.get(NODES, "", name);
        may_be(name, node.as_deref(), &key, certificate)?;
        self.claim(name, node.as_deref(), &key).await?;
        let pod_cidr = self.pod_cidr(name).await?;
        Ok(AgentAnswer {
            client_certificate,
            serving_certificate,
            ca: joining.pki.ca_pem().into(),
            servers: self.servers().await,
            pod_cidr,
        })
    }

    /// Makes the Node the agent's with this key.
    async fn claim(self: &Arc<Self>, name: &str, node: Option<&Object>, key: &str) -> Result<(), Status> {
        let user = UserInfo::system("system:apiserver");
        let client = Client::new(Arc::new(InProcess::new(self.clone())), user, "kube-apiserver");
        let annotations = json!({AGENT_KEY: key});
        let Some(node) = node else {
            let object = json!({
                "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "annotations": annotations},
            });
            // Two that come at once with one name: the second is told that it exists.
            return client.create(NODES, "", object).await.map(drop);
        };
        if node.meta.annotations.get(AGENT_KEY).is_some_and(|known| **known == *key) {
            return Ok(());
        }
        let patch = json!({"metadata": {"uid": &*node.meta.uid, "annotations": annotations}});
        client.patch(NODES, "", name, "", PatchType::Merge, patch).await.map(drop)
    }

    /// The part of the pod network that the cluster has chosen for the node, as soon as it has.
    async fn pod_cidr(&self, name: &str) -> Result<String, Status> {
        let chosen = async {
            loop {
                let view = self.store.snapshot();
                let node = view.get(NODES, "", name).map(|n| n.value()).unwrap_or_default();
                if let Some(cidr) = node["spec"]["podCIDR"].as_str().filter(|c| !c.is_empty()) {
                    return Ok(cidr.to_string());
                }
                let interest = Interest { name: Some(name.into()), ..Interest::all(NODES) };
                let behind = || Status::unavailable("the node's changes cannot be followed");
                let mut watcher = self.store.watch(interest, view.revision()).map_err(|_| behind())?;
                watcher.next().await.map_err(|_| behind())?;
            }
        };
        let none = || Status::unavailable(format!("node {name:?} has no part of the pod network yet"));
        tokio::time::timeout(ALLOCATION, chosen).await.unwrap_or_else(|_| Err(none()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use copepod_model::Key;
    use copepod_model::object::{encode, with_revision};

    fn node(key: &str) -> Object {
        let value = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "annotations": {AGENT_KEY: key}},
        });
        Object::decode(Key::new(NODES, "", "n"), 7, with_revision(&encode(&value), 7))
    }

    #[test]
    fn a_name_belongs_to_the_agent_that_has_it() {
        let (there, nobodys) = (node("a"), node(""));
        for (node, key, certificate, want) in [
            (None, "b", None, true),
            (Some(&there), "a", None, true),
            (Some(&there), "b", None, false),
            (Some(&there), "b", Some("n"), false),
            (Some(&nobodys), "b", Some("n"), true),
            (Some(&nobodys), "b", Some("m"), false),
            (Some(&nobodys), "b", None, false),
        ] {
            let answer = may_be("n", node, key, certificate);
            assert_eq!(answer.as_ref().map_err(|e| e.code).err(), (!want).then_some(409), "{key} {certificate:?}");
        }
    }

    #[test]
    fn an_agent_may_not_pass_for_the_api() {
        let ask = |name: &str, addresses: &[&str]| {
            let addresses = addresses.iter().map(ToString::to_string).collect();
            let request = AgentRequest { name: name.into(), addresses, ..AgentRequest::default() };
            check(&request, Some([10, 96, 0, 1].into())).map_err(|e| e.message)
        };
        assert_eq!(ask("n1", &["10.0.0.7", "fd00::7"]).map(|c| c.addresses.len()), Ok(2));
        for (name, addresses, why) in [
            ("N1", &["10.0.0.7"][..], "name: Invalid value: \"N1\""),
            ("kubernetes.default.svc", &["10.0.0.7"], "name: Forbidden"),
            ("localhost", &["10.0.0.7"], "name: Forbidden"),
            ("server-1.copepod.internal", &["10.0.0.7"], "name: Forbidden"),
            ("web.default.svc.cluster.local", &["10.0.0.7"], "name: Forbidden"),
            ("n1", &[], "addresses: Required value"),
            ("n1", &["10.0.0.7", "0.0.0.0"], "addresses[1]: Invalid value: \"0.0.0.0\""),
            ("n1", &["10.96.0.1"], "addresses[0]: Forbidden"),
            ("n1", &["home"], "addresses[0]: Invalid value: \"home\""),
        ] {
            let message = ask(name, addresses).unwrap_err();
            assert!(message.contains(why), "{message}");
        }
        assert!(ask("n1", &["10.0.0.7"; 17]).unwrap_err().contains("Too many"));
    }

    #[test]
    fn who_has_a_nodes_certificate() {
        let user =
            |name: &str, group: &str| UserInfo { name: name.into(), groups: vec![group.into()], ..UserInfo::default() };
        assert_eq!(node_of(&user("system:node:n", GROUP)), Some("n"));
        assert_eq!(node_of(&user("system:node:n", "system:masters")), None);
        assert_eq!(node_of(&user("system:node:", GROUP)), None);
        assert_eq!(node_of(&user("n", GROUP)), None);
    }
}
