//! Follows the Secrets that Ingresses and Gateways name for TLS, each by its name: the node may read no others.

use std::collections::BTreeMap;
use std::sync::Arc;

use copepod_client::Client;
use copepod_model::Object;
use copepod_node_network::{Certificates, certificate};
use copepod_node_routes::TlsSecret;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use crate::pods::values;
use crate::reflect::{Change, reflect_in};

/// Namespace and name.
type Name = (Arc<str>, Arc<str>);

/// A Secret that is followed until this is dropped.
struct Followed {
    secret: Option<Arc<Object>>,
    task: AbortHandle,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Shows TLS clients the certificates of `wanted` as their Secrets have them, for ever.
pub(crate) async fn run(client: Client, certificates: Arc<Certificates>, mut wanted: watch::Receiver<Vec<TlsSecret>>) {
    let (tx, mut rx) = mpsc::channel(64);
    let mut followed: BTreeMap<Name, Followed> = BTreeMap::new();
    loop {
        let list = wanted.borrow_and_update().clone();
        followed.retain(|name, _| list.iter().any(|t| (&t.namespace, &t.secret) == (&name.0, &name.1)));
        for tls in &list {
            let name: Name = (tls.namespace.clone(), tls.secret.clone());
            followed.entry(name.clone()).or_insert_with(|| {
                let selector = format!("metadata.name={}", name.1);
                let (client, tx) = (client.clone(), tx.clone());
                let task = tokio::spawn(async move {
                    let namespace = name.0.to_string();
                    let wrap = move |change| (name.clone(), change);
                    reflect_in(client, "secrets", namespace, selector, tx, wrap).await;
                });
                Followed { secret: None, task: task.abort_handle() }
            });
        }
        show(&certificates, &list, &followed);
        loop {
            tokio::select! {
                changed = wanted.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                Some((name, change)) = rx.recv() => {
                    // A last word about one that is not followed any more counts no more.
                    let Some(entry) = followed.get_mut(&name) else { continue };
                    entry.secret = match change {
                        Change::Reset(all) => all.into_iter().next(),
                        Change::Put(secret) => Some(secret),
                        Change::Gone(_) => None,
                    };
                    show(&certificates, &list, &followed);
                }
            }
        }
    }
}

fn show(certificates: &Certificates, list: &[TlsSecret], followed: &BTreeMap<Name, Followed>) {
    let found = list.iter().filter_map(|tls| {
        let secret = followed.get(&(tls.namespace.clone(), tls.secret.clone()))?.secret.as_ref()?;
        let data = values("secrets", &secret.value());
        let part = |key: &str| data.get(key).map(Vec::as_slice).unwrap_or_default();
        match certificate(part("tls.crt"), part("tls.key")) {
            Ok(certificate) => Some((tls.hosts.clone(), certificate)),
            Err(error) => {
                tracing::warn!(secret = %secret.key, error, "not usable for TLS, the default certificate is shown");
                None
            }
        }
    });
    certificates.set(found);
}
