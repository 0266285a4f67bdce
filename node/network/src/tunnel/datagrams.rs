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
use super::serve::refuse;
use super::session::claim;
use super::wire::{self, Heard, Refusal};
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
/// A pod's share of them.
const SHARE: usize = 512;
/// Nobody is asked again so soon after it has refused a flow.
const PAUSE: Duration = Duration::from_secs(1);
/// A flow without datagrams ends after so long: Linux' time of a UDP conversation.
const IDLE: Duration = Duration::from_secs(120);

/// Who sends datagrams to other nodes: by the pod's UID, then by its port and whom it sends to.
#[derive(Default)]
pub(super) struct Flows(HashMap<Arc<str>, OfPod>);

type OfPod = HashMap<(u16, SocketAddr), mpsc::Sender<Bytes>>;

impl Flows {
    /// A pod has gone: what it has sent is sent, and that was all.
    pub(super) fn end(&mut self, uid: &str) {
        self.0.remove(uid);
    }

    /// How many a pod has.
    #[cfg(test)]
    pub(super) fn of(&self, uid: &str) -> usize {
        self.0.get(uid).map_or(0, HashMap::len)
    }

    /// Whether there is room for one more flow of a pod.
    fn is_room(&mut self, uid: &str) -> bool {
        let fits = |flows: &Flows| {
            let own = flows.0.get(uid).map_or(0, HashMap::len);
            own < SHARE && flows.0.values().map(HashMap::len).sum::<usize>() < FLOWS
        };
        if fits(self) {
            return true;
        }
        self.0.values_mut().for_each(|own| own.retain(|_, flow| !flow.is_closed()));
        self.0.retain(|_, own| !own.is_empty());
        fits(self)
    }
}

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
        let uid = &pod.identity().uid;
        let mut flows = lock(&self.0.tunnel.flows);
        let flow = flows.0.get(uid).and_then(|own| own.get(&(port, to)));
        let data = match flow.map(|flow| flow.try_send(data.clone())) {
            // What there is no room for is lost.
            Some(Ok(()) | Err(TrySendError::Full(_))) => return Ok(()),
            Some(Err(TrySendError::Closed(data))) => data,
            None => data,
        };
        if !flows.is_room(uid) || !self.pod(pod.ip()).is_some_and(|here| Arc::ptr_eq(&here, pod)) {
            // No room, or the pod has just gone, and its flows with it.
            return Ok(());
        }
        let from = Source::Pod(pod.clone());
        let claim = claim(&from, SocketAddr::new(pod.ip_for(to.ip()), port)).ok_or(NetError::AccessDenied)?;
        let head = wire::datagrams(to, &claim).ok_or(NetError::InvalidArgument)?;
        let (tx, mut rx) = mpsc::channel(WAITING);
        // There is room for the first one.
        let _ = tx.try_send(data);
        flows.0.entry(uid.clone()).or_default().insert((port, to), tx);
        drop(flows);
        let (network, node) = (self.clone(), node.clone());
        self.0.runtime.spawn(async move {
            let opening = timeout(network.0.config.connect_timeout, network.first_word(&node, &head, false));
            // Who sends is told nothing, as by a network that loses datagrams.
            let Ok(Ok(Ok((mut send, _recv, _lease)))) = opening.await else {
                // What comes meanwhile is lost.
                let _ = timeout(PAUSE, async { while rx.recv().await.is_some() {} }).await;
                return;
            };
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
            let mut opening = std::pin::pin!(opening);
            let mut first = Vec::new();
            let opened = loop {
                tokio::select! {
                    opened = &mut opening => break opened,
                    next = rx.recv() => match next {
                        Some(data) if first.len() < WAITING => first.push(data),
                        // What there is no room for is lost.
                        Some(_) => {}
                        // The flow has ended before it began.
                        None => return,
                    },
                }
            };
            let Ok(Ok(Ok((mut send, mut recv, _lease)))) = opened else { return };
            let take = |data| {
                answer(data);
                Ok(())
            };
            tokio::select! {
                () = outward(first, &mut rx, &mut send) => {}
                _ = inward(&mut recv, &take) => {}
            }
            drop(send.send_data(Bytes::new(), true));
        });
        Some(tx)
    }
}

/// Sends datagrams, the first ones first, until there are no more or the stream is cut.
async fn outward(first: Vec<Bytes>, rx: &mut mpsc::Receiver<Bytes>, send: &mut SendStream<Bytes>) {
    let mut first = first.into_iter();
    loop {
        let next = match first.next() {
            Some(data) => Some(data),
            None => rx.recv().await,
        };
        let Some(data) = next else { return };
        let mut capsule = encode(&data);
        while !capsule.is_empty() {
            if send_some(send, &mut capsule).await.is_err() {
                return;
            }
        }
    }
}

/// Takes datagrams until the other side has no more; fails with what is to be said to one that breaks the protocol, or whose
/// datagrams nobody takes any more.
async fn inward(
    recv: &mut RecvStream,
    take: &(impl Fn(Bytes) -> Result<(), Reason> + Send + Sync),
) -> Result<(), Reason> {
    let mut capsules = Capsules::default();
    while let Some(Ok(bytes)) = recv.data().await {
        capsules.feed(&bytes);
        while let Some(data) = capsules.next().map_err(|_| Reason::PROTOCOL_ERROR)? {
            take(data)?;
        }
        if recv.flow_control().release_capacity(bytes.len()).is_err() {
            break;
        }
    }
    Ok(())
}

/// Gives a pod the datagrams of another node's, as long as it has the port bound.
pub(super) async fn receive(
    network: &Network,
    heard: Heard,
    pod: Arc<PodHandle>,
    mut recv: RecvStream,
    mut respond: h2::server::SendResponse<Bytes>,
) {
    let Heard { to, claim, .. } = heard;
    if pod.udp(Scope::Pod, to).is_none() {
        return refuse(&mut respond, Refusal::Refused, None);
    }
    let claim = Arc::new(claim);
    let Ok(mut send) = respond.send_response(Response::new(()), false) else { return };
    // What policies do not let through is lost, as on a network that drops it.
    let mailbox = || match pod.udp(Scope::Pod, to) {
        Some(mailbox) => Ok(Some(mailbox).filter(|m| m.may_receive(&pod, to.port(), &claim))),
        None => Err(Reason::CONNECT_ERROR),
    };
    let done = match claim.whose {
        Whose::Pod(_) => {
            let push = |data| {
                if let Some(mailbox) = mailbox()? {
                    mailbox.push(Datagram { from: claim.address, data });
                }
                Ok(())
            };
            inward(&mut recv, &push).await
        }
        Whose::Node | Whose::Client => {
            let key = network.stream_flow(claim.address);
            let (answers, mut answered) = mpsc::channel(WAITING);
            let deliver = |data| {
                if let Some(mailbox) = mailbox()? {
                    network.deliver(key, &mailbox, to, &answers, data);
                }
                Ok(())
            };
            let done = tokio::select! {
                done = inward(&mut recv, &deliver) => done,
                // It does not end before the stream is cut: `answers` is here.
                () = outward(Vec::new(), &mut answered, &mut send) => Ok(()),
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
