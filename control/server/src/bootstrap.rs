//! What a cluster holds before anyone asks: system namespaces, default roles, the `kubernetes` Service. Written where it is
//! missing, so that a restart repairs what was deleted and leaves alone what was changed.

use std::sync::Arc;

use copepod_client::Client;
use copepod_machine::{Ids as _, View as _};
use copepod_model::{Status, UserInfo, object};
use copepod_state::{Op, Outcome, Require, Txn};
use serde_json::json;

use crate::api::{Api, InProcess};
use crate::{SystemIds, now};

/// Writes what is missing.
pub async fn run(api: &Arc<Api>) -> Result<(), Status> {
    // These precede every admission rule that would refuse them (a namespace to be in, a role to be bound), so they are
    // written as they are, in one transaction.
    let view = api.store().snapshot();
    let mut txn = Txn::default();
    for (key, mut value) in copepod_registry::bootstrap_objects() {
        if view.get(&key.resource, &key.namespace, &key.name).is_some() {
            continue;
        }
        value["metadata"]["uid"] = SystemIds.uid().into();
        value["metadata"]["creationTimestamp"] = now().rfc3339().into();
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
    let client = Client::new(Arc::new(InProcess(api.clone())), UserInfo::system("system:apiserver"), "kube-apiserver");
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
    Ok(())
}
