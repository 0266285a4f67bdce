//! What a cluster holds before anyone asks: system namespaces, default roles, the `kubernetes` Service with its endpoint.
//! Written where it is missing, so that a restart repairs what was deleted and leaves alone what was changed.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use copepod_client::Client;
use copepod_machine::{Ids as _, View as _};
use copepod_model::kinds::networking::service_cidr;
use copepod_model::request::PatchType;
use copepod_model::{Object, Status, UserInfo, gateway, object};
use copepod_state::{Op, Outcome, Require, Txn};
use serde_json::{Value, json};

use crate::api::{Api, InProcess};
use crate::{SystemIds, now};

const ENDPOINTS: &str = "endpoints";
const SLICES: &str = "endpointslices.discovery.k8s.io";

/// Writes what is missing, as the leader of `term`. `advertised` is where pods reach the servers.
pub async fn run(api: &Arc<Api>, term: u64, advertised: &[SocketAddr]) -> Result<(), Status> {
    // These precede every admission rule that would refuse them (a namespace to be in, a role to be bound), so they are
    // written as they are, in one transaction.
    let view = api.store().snapshot();
    let mut txn = Txn { fence: Some(term), ..Txn::default() };
    for (key, mut value) in copepod_registry::bootstrap_objects() {
        if let Some(old) = view.get(&key.resource, &key.namespace, &key.name) {
            if &*key.resource == service_cidr::RESOURCE {
                widen(&mut txn, &old, &value);
            }
            continue;
        }
        value["metadata"]["uid"] = SystemIds.uid().into();
        let made = now().rfc3339();
        value["metadata"]["creationTimestamp"] = made.as_str().into();
        for condition in value["status"]["conditions"].as_array_mut().into_iter().flatten() {
            condition["lastTransitionTime"] = made.as_str().into();
        }
        txn.require.push(Require::Absent(key.clone()));
        txn.ops.push(Op::Put { key, body: object::encode(&value), revised: true });
    }
    if !txn.ops.is_empty() {
        match api.store().propose(txn).await {
            Ok(Outcome::Applied(_)) => {}
            Ok(other) => return Err(Status::internal(format!("the first objects could not be written: {other:?}"))),
            Err(e) => return Err(Status::internal(e)),
        }
    }
    show_addresses(api, term).await?;
    let client = client(api, term);
    if view.get("ingressclasses.networking.k8s.io", "", "copepod").is_none() {
        let class = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
            "metadata": {
                "name": "copepod", "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"},
            },
            "spec": {"controller": "copepod.dev/ingress"},
        });
        client.create("ingressclasses.networking.k8s.io", "", class).await?;
    }
    if view.get(gateway::GATEWAY_CLASSES, "", gateway::GATEWAY_CLASS).is_none() {
        let class = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
            "metadata": {"name": gateway::GATEWAY_CLASS},
            "spec": {"controllerName": gateway::GATEWAY_CONTROLLER},
        });
        client.create(gateway::GATEWAY_CLASSES, "", class).await?;
    }
    if view.get("services", "default", "kubernetes").is_none() {
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
            "spec": {
                "clusterIP": "10.96.0.1", "type": "ClusterIP", "sessionAffinity": "None",
                "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}],
            },
        });
        client.create("services", "default", service).await?;
    }
    advertise(&client, advertised).await
}

/// Shows the network of IPv6 in the ServiceCIDR of a cluster that began without it, as upstream's becomes dual-stack.
fn widen(txn: &mut Txn, old: &Object, wanted: &Value) {
    let (mut new, cidrs) = (old.value(), &wanted["spec"]["cidrs"]);
    if new["spec"]["cidrs"] != json!([cidrs[0]]) || cidrs[1].is_null() {
        return;
    }
    new["spec"]["cidrs"] = cidrs.clone();
    txn.require.push(Require::At(old.key.clone(), old.revision));
    txn.ops.push(Op::Put { key: old.key.clone(), body: object::encode(&new), revised: true });
}

/// Makes the IPAddresses that Services lack. Where a Service has changed meanwhile, the next start looks again.
async fn show_addresses(api: &Arc<Api>, term: u64) -> Result<(), Status> {
    let view = api.store().snapshot();
    for (require, ops) in copepod_registry::missing_addresses(&*view, now(), &mut SystemIds) {
        let txn = Txn { fence: Some(term), require, ops };
        api.store().propose(txn).await.map_err(Status::internal)?;
    }
    Ok(())
}

/// A client as which the leader of `term` writes these.
pub(crate) fn client(api: &Arc<Api>, term: u64) -> Client {
    let transport = Arc::new(InProcess::fenced(api.clone(), term));
    Client::new(transport, UserInfo::system("system:apiserver"), "kube-apiserver")
}

/// The endpoints of the Service `kubernetes`, which has no selector: the servers, wherever they listen (upstream's
/// `pkg/controlplane/reconcilers`). A loopback address is no endpoint. A slice has one list of ports and one family of
/// addresses: servers that differ from the first one in these are left out.
pub(crate) async fn advertise(client: &Client, servers: &[SocketAddr]) -> Result<(), Status> {
    let usable: Vec<&SocketAddr> =
        servers.iter().filter(|at| !at.ip().is_loopback() && !at.ip().is_unspecified()).collect();
    let first = usable.first().copied().or(servers.first());
    let Some(first) = first else { return Ok(()) };
    let alike = |at: &&&SocketAddr| at.port() == first.port() && at.is_ipv6() == first.is_ipv6();
    let addresses: Vec<IpAddr> = usable.iter().filter(alike).map(|at| at.ip()).collect();
    let ports = json!([{"name": "https", "port": first.port(), "protocol": "TCP"}]);
    let listed: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
    let subsets = if listed.is_empty() { json!([]) } else { json!([{"addresses": listed, "ports": ports}]) };
    // Not to be mirrored, as its slice is written here as well.
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "kubernetes", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": subsets,
    });
    publish(client, ENDPOINTS, endpoints, json!({"subsets": subsets}), None).await?;
    let endpoint = |ip: &IpAddr| json!({"addresses": [ip], "conditions": {"ready": true}});
    let endpoints: Value = addresses.iter().map(endpoint).collect();
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": if first.is_ipv6() { "IPv6" } else { "IPv4" },
        "endpoints": endpoints, "ports": ports,
    });
    publish(client, SLICES, slice, json!({"endpoints": endpoints, "ports": ports}), Some("addressType")).await
}

/// Creates what the Service `kubernetes` is listed in, or applies `patch` to it; where the field `fixed` differs, which
/// cannot be changed, it is made anew.
async fn publish(
    client: &Client,
    resource: &str,
    object: Value,
    patch: Value,
    fixed: Option<&str>,
) -> Result<(), Status> {
    match client.get(resource, "default", "kubernetes").await {
        Err(e) if e.code == 404 => {}
        Err(e) => return Err(e),
        Ok(old) if fixed.is_some_and(|f| old.value()[f] != object[f]) => {
            client.delete(resource, "default", "kubernetes", Default::default()).await?;
        }
        Ok(_) => {
            return client.patch(resource, "default", "kubernetes", "", PatchType::Merge, patch).await.map(drop);
        }
    }
    client.create(resource, "default", object).await.map(drop)
}
