//! The node's own objects: its Node, its Lease, its status.

use std::sync::Arc;
use std::time::Duration;

use copepod_client::Client;
use copepod_model::request::PatchType;
use copepod_model::{Object, Status};
use copepod_node_plan::NodeFacts;
use copepod_node_plan::node::{self, Health, LEASE_NAMESPACE};
use copepod_node_routes::DATA_PORT;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ContainerImage, Node};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::clock::now;

/// Annotation that lists the blocks of the pod network that a node has leased, comma separated. `spec.podCIDRs` holds one
/// per address family at most, by Kubernetes' validation, so it names the first.
pub(crate) const BLOCKS: &str = "copepod.dev/pod-blocks";

/// How often the Lease is renewed.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Creates the Node, or takes the one that exists; tries until the API answers.
pub(crate) async fn register(
    client: &Client,
    facts: &NodeFacts,
    labels: &std::collections::BTreeMap<String, String>,
) -> Arc<Object> {
    let mut wait = Duration::from_millis(50);
    loop {
        match try_register(client, facts, labels).await {
            Ok(node) => return node,
            Err(e) => tracing::warn!(node = facts.name, error = %e, "cannot register the node yet"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(5));
    }
}

async fn try_register(
    client: &Client,
    facts: &NodeFacts,
    labels: &std::collections::BTreeMap<String, String>,
) -> Result<Arc<Object>, Status> {
    let wanted = serde_json::to_value(node::node(facts, labels)).map_err(Status::internal)?;
    match client.get("nodes", "", &facts.name).await {
        Ok(there) => {
            let missing = |k: &str, v: &Value| there.meta.labels.get(k).is_none_or(|have| v != &**have);
            let labels = wanted["metadata"]["labels"].as_object().cloned().unwrap_or_default();
            if labels.iter().any(|(k, v)| missing(k, v)) {
                let patch = json!({"metadata": {"labels": labels}});
                return client.patch("nodes", "", &facts.name, "", PatchType::Merge, patch).await;
            }
            Ok(there)
        }
        Err(e) if e.code == 404 => client.create("nodes", "", wanted).await,
        Err(e) => Err(e),
    }
}

/// Whether the pods of a Node have IPv6 addresses: one from before there were any keeps its `podCIDRs`, and its pods theirs.
pub(crate) fn is_dual_stack(node: &Object) -> bool {
    let spec = node.spec_and_status().0;
    let mut cidrs = spec["podCIDRs"].as_array().into_iter().flatten().filter_map(Value::as_str);
    spec["podCIDR"].as_str().is_none_or(str::is_empty) || cidrs.any(|cidr| cidr.contains(':'))
}

/// Writes down which blocks the node has leased. `first`, given with the first of them, are the node's `podCIDRs`, unless the
/// cluster has chosen them.
pub(crate) async fn record_blocks(
    client: &Client,
    name: &str,
    cidrs: &[String],
    first: Option<&[String; 2]>,
) -> Result<(), Status> {
    let mut patch = json!({"metadata": {"annotations": {BLOCKS: cidrs.join(",")}}});
    if let Some(first) = first
        && !client.get("nodes", "", name).await?.value()["spec"]["podCIDR"].is_string()
    {
        patch["spec"] = json!({"podCIDR": first[0], "podCIDRs": first});
    }
    client.patch("nodes", "", name, "", PatchType::Merge, patch).await.map(drop)
}

/// Says on the Node where the node takes streams of other nodes' pods, or that it does not; tries until the API answers.
pub(crate) async fn record_data_port(client: &Client, node: &Object, port: Option<u16>) {
    let wanted = port.map(|p| p.to_string());
    if node.meta.annotations.get(DATA_PORT).map(|have| &**have) == wanted.as_deref() {
        return;
    }
    let patch = json!({"metadata": {"annotations": {DATA_PORT: wanted}}});
    let mut wait = Duration::from_millis(50);
    while let Err(e) = client.patch("nodes", "", node.name(), "", PatchType::Merge, patch.clone()).await {
        tracing::warn!(node = node.name(), error = %e, "cannot say yet where the node takes pods' streams");
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(5));
    }
}

/// Keeps the Lease and the status fresh, for ever. `own` is the Node as the API has it.
pub(crate) async fn heartbeat(
    client: Client,
    facts: NodeFacts,
    images: impl Fn() -> Vec<ContainerImage> + Send,
    mut pressure: watch::Receiver<Health>,
    mut own: watch::Receiver<Arc<Object>>,
) {
    let mut ticks = tokio::time::interval(HEARTBEAT);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut lease: Option<Lease> = None;
    loop {
        // Pressure is told at once: the scheduler should know before it places the next pod. So is that a node is there which
        // somebody gave up.
        tokio::select! {
            _ = ticks.tick() => {}
            Ok(()) = pressure.changed() => {}
            () = given_up(&mut own) => {}
        }
        // First the Lease: to whom the node is lost without it, its word alone would be no news.
        match renew(&client, &facts.name, lease.take()).await {
            Ok(renewed) => lease = Some(renewed),
            Err(e) => {
                tracing::warn!(node = facts.name, error = %e, "cannot renew the node's lease");
                continue;
            }
        }
        let (health, node) = (*pressure.borrow_and_update(), own.borrow_and_update().clone());
        if let Err(e) = report(&client, &facts, &node, health, &images()).await {
            tracing::warn!(node = facts.name, error = %e, "cannot write the node's status");
        }
    }
}

/// Waits until the API shows the node as another than one that is ready, when it had not before.
async fn given_up(own: &mut watch::Receiver<Arc<Object>>) {
    while own.changed().await.is_ok() {
        let status = own.borrow_and_update().spec_and_status().1;
        let mut conditions = status["conditions"].as_array().into_iter().flatten();
        if conditions.any(|c| c["type"] == "Ready" && c["status"] != "True") {
            return;
        }
    }
    std::future::pending().await
}

async fn report(
    client: &Client,
    facts: &NodeFacts,
    node: &Object,
    health: Health,
    images: &[ContainerImage],
) -> Result<(), Status> {
    let there = node.typed::<Node>().and_then(|n| n.status).unwrap_or_default();
    let Some(mut patch) = node::report(facts, &there, health, images, now()) else { return Ok(()) };
    patch["metadata"] = json!({"uid": node.meta.uid});
    client.patch("nodes", "", &facts.name, "status", PatchType::Strategic, patch).await.map(drop)
}

async fn renew(client: &Client, name: &str, have: Option<Lease>) -> Result<Lease, Status> {
    const LEASES: &str = "leases.coordination.k8s.io";
    let have = match have {
        Some(lease) => Some(lease),
        None => match client.get(LEASES, LEASE_NAMESPACE, name).await {
            Ok(o) => o.typed::<Lease>(),
            Err(e) if e.code == 404 => None,
            Err(e) => return Err(e),
        },
    };
    let node = match have {
        Some(_) => None,
        None => Some(client.get("nodes", "", name).await?),
    };
    let uid = node.map(|n| n.meta.uid.to_string()).unwrap_or_default();
    let create = have.is_none();
    let lease = node::lease(name, &uid, have, now());
    let value = serde_json::to_value(&lease).map_err(Status::internal)?;
    let written = if create {
        client.create(LEASES, LEASE_NAMESPACE, value).await?
    } else {
        client.update(LEASES, LEASE_NAMESPACE, name, "", value).await?
    };
    written.typed().ok_or_else(|| Status::internal("the renewed lease does not decode"))
}

#[cfg(test)]
mod tests {
    use copepod_model::Key;
    use copepod_model::object::{encode, with_revision};

    use super::*;

    #[test]
    fn a_node_from_before_ipv6_keeps_its_pods_as_they_are() {
        for (spec, want) in [
            (json!({}), true),
            (json!({"podCIDR": "", "podCIDRs": null}), true),
            (json!({"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24", "fd00:10:244::af4:0/120"]}), true),
            (json!({"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24"]}), false),
            (json!({"podCIDR": "10.244.0.0/24"}), false),
        ] {
            let body = encode(&json!({"metadata": {"name": "n"}, "spec": spec}));
            let node = Object::decode(Key::new("nodes", "", "n"), 1, with_revision(&body, 1));
            assert_eq!(is_dual_stack(&node), want, "{spec}");
        }
    }
}
