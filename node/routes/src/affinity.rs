//! Session affinity `ClientIP`: which endpoint a client of a Service port was last sent to.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::service::{Protocol, ServiceKey, ServicePort, Side, weight};

/// How many clients are remembered. Beyond it those whose time is over are forgotten, and if none is, all.
const MAX: usize = 65_536;

type Client = (ServiceKey, u16, Protocol, IpAddr);

/// What is remembered about clients. Times are durations since any one fixed moment.
#[derive(Debug, Default)]
pub struct Affinity {
    last: HashMap<Client, (SocketAddr, Duration, Duration)>,
}

impl Affinity {
    /// The endpoint for a new connection of `client`: the one it had, if that was within the Service's timeout and the
    /// endpoint still takes connections; otherwise one that depends on the client alone, so that nodes agree. `None` if the
    /// Service wants no affinity or has no endpoint. The choice is remembered from `now` on.
    pub fn choose(&mut self, port: &ServicePort, side: Side, client: IpAddr, now: Duration) -> Option<SocketAddr> {
        let timeout = Duration::from_secs(port.affinity_seconds?.into());
        let list = port.eligible(side);
        let key = (port.service.clone(), port.port, port.protocol, client);
        let before = self
            .last
            .get(&key)
            .filter(|(addr, at, _)| now.saturating_sub(*at) < timeout && list.iter().any(|e| e.addr == *addr));
        let chosen = match before {
            Some((addr, ..)) => *addr,
            None => list.iter().max_by_key(|e| weight(client, e.addr))?.addr,
        };
        self.remember(key, chosen, now, timeout);
        Some(chosen)
    }

    /// Notes that another endpoint than the chosen one took the connection.
    pub fn moved(&mut self, port: &ServicePort, client: IpAddr, to: SocketAddr, now: Duration) {
        if let Some(seconds) = port.affinity_seconds {
            let key = (port.service.clone(), port.port, port.protocol, client);
            self.remember(key, to, now, Duration::from_secs(seconds.into()));
        }
    }

    fn remember(&mut self, key: Client, addr: SocketAddr, now: Duration, timeout: Duration) {
        if self.last.len() >= MAX && !self.last.contains_key(&key) {
            self.last.retain(|_, (_, at, timeout)| now.saturating_sub(*at) < *timeout);
            if self.last.len() >= MAX {
                self.last.clear();
            }
        }
        self.last.insert(key, (addr, now, timeout));
    }
}
