//! Where answers to datagrams of clients leave: by the socket to which a client has come, or from any address that it has sent to.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use copepod_node_routes::FlowKey;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::sleep;

use crate::network::Network;
use crate::policy::Who;
use crate::sync::lock;
use crate::transparent;

/// The most addresses that have a socket at once. Beyond that the one gives way that has sent nothing for longest, and is opened
/// anew for its next answer.
const MOST: usize = 256;
/// A socket that has sent nothing for so long is closed: Linux' time of a UDP conversation.
const IDLE: Duration = Duration::from_secs(120);

/// Where answers leave.
#[derive(Clone)]
pub(crate) enum Answers {
    /// By the socket to which clients have come.
    Listener(Arc<UdpSocket>),
    /// From whichever address a client has sent to, which is none of this host's. All that come so are this host's own processes and
    /// pods in its namespaces.
    Anywhere(Arc<Senders>),
}

impl Answers {
    /// Who has come from an address.
    pub(super) fn who_came(&self, network: &Network, ip: IpAddr) -> Who {
        match self {
            Answers::Anywhere(_) if network.in_namespace(ip).is_none() && !network.in_cluster(ip) => Who::Node,
            _ => network.who_came(ip),
        }
    }

    /// Sends an answer to the client of a flow. What cannot be sent is lost, as datagrams are: a full send buffer loses some, too.
    pub(super) fn send(&self, network: &Network, key: FlowKey, data: &[u8]) {
        let _ = match self {
            Answers::Listener(socket) => socket.send_to(data, key.client).map(drop),
            Answers::Anywhere(senders) => senders.send(network, key, data),
        };
    }
}

/// Sockets of addresses that are not this host's, opened by the first answer from each.
#[derive(Default)]
pub(crate) struct Senders {
    kept: Mutex<Kept<Arc<Sender>>>,
    /// There is one, where there was none.
    opened: Notify,
}

struct Sender {
    socket: UdpSocket,
    _room: OwnedSemaphorePermit,
}

impl Senders {
    fn send(&self, network: &Network, key: FlowKey, data: &[u8]) -> io::Result<()> {
        let sender = {
            let mut kept = lock(&self.kept);
            let first = kept.all.is_empty();
            let sender = kept.get(key.at, network.now(), || {
                let room = network.outgoing(1)?;
                Ok(Arc::new(Sender { socket: transparent::sender(key.at)?, _room: room }))
            })?;
            if first {
                self.opened.notify_one();
            }
            sender
        };
        sender.socket.send_to(data, key.client).map(drop)
    }

    /// Closes those that have sent nothing for a while, for ever.
    pub(crate) async fn close_idle(&self, network: &Network) {
        loop {
            self.opened.notified().await;
            loop {
                let next = lock(&self.kept).sweep(network.now());
                let Some(next) = next else { break };
                sleep(next).await;
            }
        }
    }

    /// Closes all of them. Another answer would open one again.
    pub(crate) fn close(&self) {
        lock(&self.kept).all.clear();
    }
}

/// What is kept for addresses, and when each was used last: durations since any one fixed moment.
struct Kept<T> {
    all: HashMap<SocketAddr, (T, Duration)>,
}

impl<T> Default for Kept<T> {
    fn default() -> Kept<T> {
        Kept { all: HashMap::new() }
    }
}

impl<T: Clone> Kept<T> {
    /// What is kept for an address, or is made for it now.
    fn get(&mut self, at: SocketAddr, now: Duration, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if let Some((kept, used)) = self.all.get_mut(&at) {
            *used = now;
            return Ok(kept.clone());
        }
        if self.all.len() >= MOST
            && let Some(oldest) = self.all.iter().min_by_key(|(_, (_, used))| *used).map(|(at, _)| *at)
        {
            self.all.remove(&oldest);
        }
        let made = make()?;
        self.all.insert(at, (made.clone(), now));
        Ok(made)
    }

    /// Gives up what was not used for a while. Answers after how long to look again, if there is more.
    fn sweep(&mut self, now: Duration) -> Option<Duration> {
        self.all.retain(|_, (_, used)| now < *used + IDLE);
        self.all.values().map(|(_, used)| (*used + IDLE).saturating_sub(now)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        ([10, 244, 0, 5], port).into()
    }

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn one_is_made_for_an_address_and_kept_while_it_is_used() {
        let mut kept = Kept::default();
        assert_eq!(kept.get(at(1), secs(0), || Ok('a')).unwrap(), 'a');
        assert_eq!(kept.get(at(1), secs(100), || Ok('b')).unwrap(), 'a');
        assert_eq!(kept.get(at(2), secs(150), || Ok('c')).unwrap(), 'c');
        assert_eq!(kept.sweep(secs(200)), Some(secs(20)));
        assert_eq!(kept.sweep(secs(220)), Some(secs(50)));
        assert_eq!(kept.get(at(1), secs(230), || Ok('d')).unwrap(), 'd', "it was given up");
        assert_eq!(kept.sweep(secs(350)), None);
        let failed = kept.get(at(3), secs(400), || Err(io::ErrorKind::AddrInUse.into())).unwrap_err();
        assert_eq!((failed.kind(), kept.all.len()), (io::ErrorKind::AddrInUse, 0));
    }

    #[test]
    fn the_one_unused_for_longest_gives_way() {
        let mut kept = Kept::default();
        let most = u16::try_from(MOST).unwrap();
        for n in 0..most {
            kept.get(at(n), secs(n.into()), || Ok(n)).unwrap();
        }
        kept.get(at(0), secs(1000), || Ok(9)).unwrap();
        kept.get(at(most), secs(1001), || Ok(most)).unwrap();
        assert_eq!(kept.all.len(), MOST);
        assert!(kept.all.contains_key(&at(0)) && !kept.all.contains_key(&at(1)) && kept.all.contains_key(&at(most)));
    }
}
