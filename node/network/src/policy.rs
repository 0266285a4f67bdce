//! What NetworkPolicies let through: asked where something is opened, at both ends as far as they are this node's, and
//! asked again for all that is open when the answer may have changed. The receiving node asks for the destination, by
//! whom the sending node says it is; the sending one has asked for the source.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use copepod_node_routes::{Claim, Party, Policies, Protocol, ServicePort, Side, SourcePod, Whose};
use futures_util::task::AtomicWaker;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, timeout_at};

use crate::body::Body;
use crate::connect::{Source, Target};
use crate::error::NetError;
use crate::network::Network;
use crate::pod::{PodHandle, Scope};
use crate::sync::{read, write};
use crate::tracker::{Cut, Live};

/// Who is at one end.
#[derive(Clone, Debug)]
pub(crate) enum Who {
    /// A pod of this node: its policies are asked.
    Pod(Arc<SourcePod>, IpAddr),
    /// Somebody whom another node speaks for.
    Remote(Arc<Claim>),
    /// A node's own processes.
    Node,
    /// A client outside.
    Outside(IpAddr),
    /// Whoever has this address.
    Address(IpAddr),
}

impl Who {
    /// A pod, as the address `other` sees it.
    pub(crate) fn of(pod: &PodHandle, other: IpAddr) -> Who {
        Who::Pod(pod.source().clone(), pod.ip_for(other))
    }

    /// A client outside. Whoever comes by the host's loopback is one of its processes, which no pod can be.
    pub(crate) fn client(ip: IpAddr) -> Who {
        let ip = ip.to_canonical();
        if ip.is_loopback() { Who::Node } else { Who::Outside(ip) }
    }

    fn from(source: &Source, to: IpAddr) -> Who {
        match source {
            Source::Pod(pod) => Who::of(pod, to),
            Source::Node => Who::Node,
            Source::Client(client) => Who::client(client.ip()),
            Source::Remote(claim) => Who::claimed(claim),
        }
    }

    pub(crate) fn claimed(claim: &Arc<Claim>) -> Who {
        match claim.whose {
            Whose::Pod(_) => Who::Remote(claim.clone()),
            Whose::Node => Who::Node,
            Whose::Client => Who::client(claim.address.ip()),
        }
    }

    fn party(&self) -> Party<'_> {
        match self {
            Who::Pod(pod, ip) => Party::Pod(pod, *ip),
            Who::Remote(claim) => match &claim.whose {
                Whose::Pod(pod) => Party::Pod(pod, claim.address.ip()),
                Whose::Node => Party::Node,
                Whose::Client => Party::Outside(claim.address.ip()),
            },
            Who::Node => Party::Node,
            Who::Outside(ip) => Party::Outside(*ip),
            Who::Address(ip) => Party::Address(*ip),
        }
    }
}

/// Something that is open, or is to be.
#[derive(Clone, Debug)]
pub(crate) enum Flow {
    /// To a port of somebody.
    Direct { from: Who, to: Who, protocol: Protocol, port: u16 },
    /// To whichever endpoint of a Service.
    Service { from: Source, side: Side, port: Arc<ServicePort> },
}

impl Flow {
    pub(crate) fn udp(from: Who, to: Who, port: u16) -> Flow {
        Flow::Direct { from, to, protocol: Protocol::Udp, port }
    }
}

fn permits(policies: &Policies, from: &Who, to: &Who, protocol: Protocol, port: u16) -> bool {
    let leaves = match from {
        Who::Pod(pod, _) => policies.may_leave(pod, to.party(), protocol, port),
        _ => true,
    };
    leaves
        && match to {
            Who::Pod(pod, _) => policies.may_enter(pod, from.party(), protocol, port),
            _ => true,
        }
}

impl Network {
    /// Replaces what is known of NetworkPolicies and of those whom they speak of. What is open and not allowed any more is
    /// cut.
    pub fn set_policies(&self, policies: Arc<Policies>) {
        let old = std::mem::replace(&mut *write(&self.0.policies), policies.clone());
        self.0.policies_changed.notify_waiters();
        // Whatever is opened meanwhile asks after it has become known to its pod.
        if !policies.is_empty() {
            for pod in self.pods() {
                pod.tracker.cut_unless(|flow| self.allows(&policies, flow));
            }
        }
        drop(old);
    }

    /// What is known of NetworkPolicies.
    pub fn policies(&self) -> Arc<Policies> {
        read(&self.0.policies).clone()
    }

    fn allows(&self, policies: &Policies, flow: &Flow) -> bool {
        match flow {
            Flow::Direct { from, to, protocol, port } => permits(policies, from, to, *protocol, *port),
            Flow::Service { from, side, port } => {
                let routes = self.routes();
                let port = routes.again(port).unwrap_or(port);
                let endpoints = port.eligible(*side);
                // While nobody is there nothing is refused.
                endpoints.is_empty() || endpoints.iter().any(|endpoint| self.reaches(policies, from, endpoint.addr))
            }
        }
    }

    /// Whether what is open to an endpoint may be. Of who is not there nothing is asked.
    fn reaches(&self, policies: &Policies, from: &Source, to: SocketAddr) -> bool {
        match self.endpoint_target(to) {
            Ok(target) => self.asked(policies, from, &target, to),
            Err(_) => true,
        }
    }

    fn asked(&self, policies: &Policies, from: &Source, target: &Target, to: SocketAddr) -> bool {
        match flow(from, target, to) {
            Some(flow) => self.allows(policies, &flow),
            None => true,
        }
    }

    /// Whether what is described may be.
    pub(crate) fn permits(&self, flow: &Flow) -> bool {
        let policies = self.policies();
        policies.is_empty() || self.allows(&policies, flow)
    }

    /// Whether this node lets what `from` has open to an endpoint go on: what has failed was cut by it if not.
    pub(crate) fn lets_on(&self, from: &Source, to: SocketAddr) -> bool {
        let policies = self.policies();
        policies.is_empty() || self.reaches(&policies, from, to)
    }

    /// Fails with [`NetError::Forbidden`] unless a stream of `from` may go to a target at an address.
    pub(crate) fn permit(&self, from: &Source, target: &Target, to: SocketAddr) -> Result<(), NetError> {
        let policies = self.policies();
        match policies.is_empty() || self.asked(&policies, from, target, to) {
            true => Ok(()),
            false => {
                tracing::debug!(?from, %to, "a NetworkPolicy does not allow it");
                Err(NetError::Forbidden)
            }
        }
    }

    /// The same. A pod of another node may be faster than news of it, so these are waited for a moment.
    pub(crate) async fn permit_soon(&self, from: &Source, target: &Target, to: SocketAddr) -> Result<(), NetError> {
        if self.permit(from, target, to).is_ok() {
            return Ok(());
        }
        let until = Instant::now() + self.0.config.hold;
        loop {
            let news = self.0.policies_changed.notified();
            let refused = match self.permit(from, target, to) {
                Ok(()) => return Ok(()),
                Err(refused) => refused,
            };
            let unknown = matches!(target, Target::Remote(_)) && !self.policies().knows_address(to.ip());
            if !unknown || timeout_at(until, news).await.is_err() {
                return Err(refused);
            }
        }
    }

    /// The other node's refusal in the words of this one: where there are policies, it is theirs.
    pub(crate) fn forbidden(&self, error: NetError) -> NetError {
        match error {
            NetError::AccessDenied if !self.policies().is_empty() => NetError::Forbidden,
            other => other,
        }
    }

    /// Waits a moment for news of a pod that has just started, where policies may be for it.
    pub(crate) async fn acquainted(&self, pod: &PodHandle) {
        if self.policies().is_empty() {
            return;
        }
        let until = Instant::now() + self.0.config.hold;
        loop {
            let news = self.0.policies_changed.notified();
            let policies = self.policies();
            if policies.is_open(pod.source()) || policies.knows(pod.source()) || timeout_at(until, news).await.is_err()
            {
                return;
            }
        }
    }

    /// Whether policies decide who may come to a pod that is at, or stands behind, an address.
    pub(crate) fn is_guarded(&self, target: &Target, at: SocketAddr) -> bool {
        let policies = self.policies();
        match target {
            Target::Outside(_) => false,
            Target::Pod(..) | Target::Remote(_) => policies.guards(at.ip()),
            Target::Service(port) => port.eligible(Side::Inside).iter().any(|e| policies.guards(e.addr.ip())),
        }
    }

    /// Whether a pod may ask the cluster's DNS, over UDP or TCP.
    pub(crate) fn may_look_up(&self, pod: &PodHandle) -> bool {
        let policies = self.policies();
        let dns = Party::Dns(self.zone().dns_ip().unwrap_or(self.0.config.node_ip));
        let by = |protocol| policies.may_leave(pod.source(), dns, protocol, 53);
        policies.is_empty() || by(Protocol::Udp) || by(Protocol::Tcp)
    }

    /// Notes a request of `from` that a pod of this node is to answer, or that is to leave one for another node; it fails
    /// unless it may be. `None` where nothing is asked about it.
    pub(crate) fn watch(&self, from: &Source, target: &Target, to: SocketAddr) -> Result<Option<Permit>, NetError> {
        let tracker = match (target, from) {
            (Target::Pod(pod, _), _) => &pod.tracker,
            (_, Source::Pod(pod)) => &pod.tracker,
            _ => return Ok(None),
        };
        let Some(flow) = flow(from, target, to) else { return Ok(None) };
        let switch = Arc::<Switch>::default();
        let live = tracker.add(switch.clone(), Some(flow));
        self.permit(from, target, to)?;
        Ok(Some(Permit { switch, _live: live }))
    }
}

/// What policies are asked of a stream over TCP; `None` where they are not: within a pod, and of what a node does itself.
pub(crate) fn flow(from: &Source, target: &Target, to: SocketAddr) -> Option<Flow> {
    let to_whom = match target {
        Target::Pod(_, Scope::Loopback) | Target::Service(_) => return None,
        Target::Pod(pod, Scope::Pod) => Who::of(pod, to.ip()),
        Target::Remote(_) | Target::Outside(_) => Who::Address(to.ip()),
    };
    match (Who::from(from, to.ip()), to_whom) {
        (Who::Node, _) => None,
        (from, to_whom) => Some(Flow::Direct { from, to: to_whom, protocol: Protocol::Tcp, port: to.port() }),
    }
}

#[derive(Default)]
struct Switch {
    cut: AtomicBool,
    waker: AtomicWaker,
}

impl Cut for Switch {
    fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        self.waker.wake();
    }

    fn ends_with_pod(&self) -> bool {
        false
    }
}

impl Switch {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        if self.cut.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// A request that goes on as long as policies let it.
pub(crate) struct Permit {
    switch: Arc<Switch>,
    _live: Option<Live>,
}

impl Permit {
    /// What `work` gives, unless it is cut before.
    pub(crate) async fn hold<T>(&self, work: impl Future<Output = T>) -> Result<T, NetError> {
        tokio::select! {
            biased;
            () = poll_fn(|cx| self.switch.poll(cx)) => Err(NetError::ConnectionReset),
            done = work => Ok(done),
        }
    }

    /// A response whose body is cut with it.
    pub(crate) fn over(self, response: Response<Body>) -> Response<Body> {
        if response.body().is_end_stream() {
            return response;
        }
        response.map(|body| Watched { body: Some(body), permit: self }.boxed())
    }
}

/// A body that may be cut.
struct Watched {
    body: Option<Body>,
    permit: Permit,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        if this.permit.switch.poll(cx).is_ready() {
            // Whoever sends it is told at once.
            this.body = None;
            return Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into())));
        }
        Pin::new(body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}

#[cfg(test)]
mod tests;
