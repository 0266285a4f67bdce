//! A pod's own questions to name servers, from its address and through its network, as a C library would ask them.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use copepod_dns_zone::{Reply, ask, reply};
use tokio::time::timeout;

use crate::error::NetError;
use crate::pod::PodHandle;

/// How long one attempt takes, and how many there are.
const PATIENCE: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 2;

/// The addresses of an absolute name, as the server at port 53 of `server` says, IPv4 first.
pub(crate) async fn addresses(pod: &Arc<PodHandle>, server: IpAddr, name: &str) -> Result<Vec<IpAddr>, NetError> {
    let id = RandomState::new().hash_one(name) as u16;
    let questions = [ask(id, name, false), ask(id.wrapping_add(1), name, true)];
    let [Some(v4), Some(v6)] = questions else { return Err(NetError::NameUnresolvable) };
    let mut questions = [(v4, None), (v6, None)];
    let to = SocketAddr::new(server, 53);
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = pod.bind_udp(SocketAddr::new(any, 0))?;
    for _ in 0..ATTEMPTS {
        for (question, _) in questions.iter().filter(|(_, said)| said.is_none()) {
            socket.send_to(question.clone(), to)?;
        }
        let listen = async {
            while questions.iter().any(|(_, said)| said.is_none()) {
                let datagram = socket.recv_from().await?;
                if datagram.from != to {
                    continue;
                }
                for (question, said) in questions.iter_mut().filter(|(_, said)| said.is_none()) {
                    *said = reply(question, &datagram.data);
                }
            }
            Ok::<(), NetError>(())
        };
        match timeout(PATIENCE, listen).await {
            Ok(result) => {
                result?;
                break;
            }
            Err(_) => continue,
        }
    }
    let [(_, v4), (_, v6)] = questions;
    let (mut ips, mut failed) = (Vec::new(), false);
    for said in [v4, v6] {
        match said {
            Some(Reply::Addresses(found)) => ips.extend(found),
            Some(Reply::Failed) | None => failed = true,
        }
    }
    match (ips.is_empty(), failed) {
        (false, _) => Ok(ips),
        (true, true) => Err(NetError::TemporaryResolverFailure),
        (true, false) => Err(NetError::NameUnresolvable),
    }
}
