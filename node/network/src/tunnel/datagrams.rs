//! Datagrams to pods of other nodes: a stream for each socket and destination, which ends when nothing comes for a while.
//! Answers to pods have a stream of their own, since to the pod that answers they are datagrams to another pod. Those to
//! clients outside, who have come by a node port, go back on the stream, since only the node there can send them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use copepod_node_routes::{Neighbour, Whose};
use h2::{Reason, RecvStream, SendStream};
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

impl Network {
    /// A stream for the datagrams of a client that has come to this node, shown as `shown`, to a pod of another one; `answer`
    /// gets the answers. It ends when the sender is dropped; if it ends before, the sender is closed.
    pub(crate) fn carry_datagrams(
        &self,
        node: Arc<Neighbour>,
        from: &Source,
        shown: SocketAddr,
        to: SocketAddr,
        answer: impl Fn(Bytes) + Send + Sync + 'static,
    ) -> Option<mpsc::Sender<Bytes>> {
        let head = wire::datagrams(to, &claim(from, shown)?)?;
        let (tx, mut rx) = mpsc::channel(WAITING);
        let network = self.clone();
        self.0.runtime.spawn(async move {
            let opening = timeout(network.0.config.connect_timeout, network.first_word(&node, &head, false));
            let Ok(Ok(Ok((mut send, mut recv, _lease)))) = opening.await else { return };
            tokio::select! {
                () = outward(&mut rx, &mut send) => {}
                _ = inward(&mut recv, &answer) => {}
            }
            drop(send.send_data(Bytes::new(), true));
        });
        Some(tx)
    }
}

/// Sends datagrams until there are no more or the stream is cut.
async fn outward(rx: &mut mpsc::Receiver<Bytes>, send: &mut SendStream<Bytes>) {
    while let Some(data) = rx.recv().await {
        let mut capsule = encode(&data);
        while !capsule.is_empty() {
            if send_some(send, &mut capsule).await.is_err() {
                return;
            }
        }
    }
}

/// Takes datagrams until the other side has no more; fails with what is to be said to one that breaks the protocol.
async fn inward(recv: &mut RecvStream, take: &(impl Fn(Bytes) + Send + Sync)) -> Result<(), Reason> {
    let mut capsules = Capsules::default();
    while let Some(Ok(bytes)) = recv.data().await {
        capsules.feed(&bytes);
        while let Some(data) = capsules.next().map_err(|_| Reason::PROTOCOL_ERROR)? {
            take(data);
        }
        if recv.flow_control().release_capacity(bytes.len()).is_err() {
            break;
        }
    }
    Ok(())
}

/// Gives a pod the datagrams of another node's. Those for which nobody has bound the port are lost.
pub(super) async fn receive(
    network: &Network,
    heard: Heard,
    pod: Arc<PodHandle>,
    mut recv: RecvStream,
    mut respond: h2::server::SendResponse<Bytes>,
) {
    let Heard { to, claim, .. } = heard;
    let Ok(mut send) = respond.send_response(Response::new(()), false) else { return };
    let done = match claim.whose {
        Whose::Pod(_) => {
            let push = |data| {
                if let Some(mailbox) = pod.udp(Scope::Pod, to.port()) {
                    mailbox.push(Datagram { from: claim.address, data });
                }
            };
            inward(&mut recv, &push).await
        }
        Whose::Node | Whose::Client => {
            let key = network.stream_flow(claim.address);
            let (answers, mut answered) = mpsc::channel(WAITING);
            let deliver = |data| network.deliver(key, &pod, to, &answers, data);
            let done = tokio::select! {
                done = inward(&mut recv, &deliver) => done,
                // It does not end before the stream is cut: `answers` is here.
                () = outward(&mut answered, &mut send) => Ok(()),
            };
            network.end_flow(key);
            done
        }
    };
    match done {
        Ok(()) => drop(send.send_data(Bytes::new(), true)),
        Err(reason) => send.send_reset(reason),
    }
}
