//! Datagrams to pods of other nodes: a stream for each socket and destination, which ends when nothing comes for a while.
//! Answers have a stream of their own, since to the pod that answers they are datagrams to another pod.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use copepod_node_routes::Neighbour;
use h2::{Reason, RecvStream};
use http::Response;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::timeout;

use super::capsule::{Capsules, encode};
use super::carry::{send_some, was_reset};
use super::session::claim;
use super::wire::{self, Heard};
use crate::connect::Source;
use crate::error::NetError;
use crate::network::Network;
use crate::pod::{PodHandle, Scope};
use crate::sync::lock;
use crate::udp::Datagram;

/// Datagrams of one flow that wait to be sent before further ones are lost.
const WAITING: usize = 64;
/// Flows of a node at once; datagrams of further ones are lost.
const FLOWS: usize = 4096;
/// A flow without datagrams ends after so long: Linux' time of a UDP conversation.
const IDLE: Duration = Duration::from_secs(120);

/// A pod by its UID, its port, and whom it sends to.
type Key = (Arc<str>, u16, SocketAddr);

/// Who sends datagrams to other nodes.
pub(super) type Flows = HashMap<Key, mpsc::Sender<Bytes>>;

impl Network {
    /// Sends a datagram of a pod's port to a pod of another node. As with any UDP, success does not mean that it arrives.
    pub(crate) fn send_remote_datagram(
        &self,
        pod: &Arc<PodHandle>,
        port: u16,
        node: &Arc<Neighbour>,
        to: SocketAddr,
        data: Bytes,
    ) -> Result<(), NetError> {
        let from = Source::Pod(pod.clone());
        let claim = claim(&from, SocketAddr::new(pod.ip(), port)).ok_or(NetError::AccessDenied)?;
        let head = wire::datagrams(to, &claim).ok_or(NetError::InvalidArgument)?;
        let key = (pod.identity().uid.clone(), port, to);
        let mut flows = lock(&self.0.tunnel.flows);
        let data = match flows.get(&key).map(|flow| flow.try_send(data.clone())) {
            // What there is no room for is lost.
            Some(Ok(()) | Err(TrySendError::Full(_))) => return Ok(()),
            Some(Err(TrySendError::Closed(data))) => data,
            None => data,
        };
        if flows.len() >= FLOWS {
            flows.retain(|_, flow| !flow.is_closed());
            if flows.len() >= FLOWS {
                return Ok(());
            }
        }
        let (tx, mut rx) = mpsc::channel(WAITING);
        // There is room for the first one.
        let _ = tx.try_send(data);
        flows.insert(key, tx);
        drop(flows);
        let (network, node) = (self.clone(), node.clone());
        self.0.runtime.spawn(async move {
            let opening = timeout(network.0.config.connect_timeout, network.first_word(&node, &head, false));
            // Who sends is told nothing, as by a network that loses datagrams.
            let Ok(Ok(Ok((mut send, _recv, _lease)))) = opening.await else { return };
            loop {
                let next = tokio::select! {
                    next = timeout(IDLE, rx.recv()) => next,
                    () = was_reset(&mut send) => return,
                };
                let Ok(Some(data)) = next else { break };
                let mut capsule = encode(&data);
                while !capsule.is_empty() {
                    if send_some(&mut send, &mut capsule).await.is_err() {
                        return;
                    }
                }
            }
            drop(send.send_data(Bytes::new(), true));
        });
        Ok(())
    }
}

/// Gives a pod the datagrams of another node's. Those for which nobody has bound the port are lost.
pub(super) async fn receive(
    heard: Heard,
    pod: Arc<PodHandle>,
    mut recv: RecvStream,
    mut respond: h2::server::SendResponse<Bytes>,
) {
    let Heard { to, claim, .. } = heard;
    let claim = Arc::new(claim);
    let Ok(mut send) = respond.send_response(Response::new(()), false) else { return };
    let mut capsules = Capsules::default();
    while let Some(Ok(bytes)) = recv.data().await {
        capsules.feed(&bytes);
        loop {
            match capsules.next() {
                Ok(Some(data)) => {
                    if let Some(mailbox) = pod.udp(Scope::Pod, to.port())
                        && mailbox.may_receive(&pod, to.port(), &claim)
                    {
                        mailbox.push(Datagram { from: claim.address, data });
                    }
                }
                Ok(None) => break,
                Err(_) => return send.send_reset(Reason::PROTOCOL_ERROR),
            }
        }
        if recv.flow_control().release_capacity(bytes.len()).is_err() {
            return;
        }
    }
    drop(send.send_data(Bytes::new(), true));
}
