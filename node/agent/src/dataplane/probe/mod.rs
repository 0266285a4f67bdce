//! Probes and lifecycle hooks over the pod network. Failures are told in the kubelet's words, which are Go's.

pub(crate) mod grpc;
mod http;
pub(crate) mod tls;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use copepod_node_network::{Conn, HttpError, NetError, Network, Source};
use copepod_node_plan::{HookHow, ProbeHow};

use self::http::Get;

/// What probes call themselves.
const USER_AGENT: &str = "kube-probe/1.35";
/// What lifecycle hooks call themselves.
const HOOK_AGENT: &str = "kube-lifecycle/1.35";

/// Probes once.
pub(super) async fn probe(network: &Network, how: &ProbeHow, timeout: Duration) -> Result<(), String> {
    match how {
        ProbeHow::Tcp { host, port } => tcp(network, host, *port, timeout).await,
        ProbeHow::Http { .. } => match get(network, how, USER_AGENT, timeout).await? {
            200..=399 => Ok(()),
            code => Err(format!("HTTP probe failed with statuscode: {code}")),
        },
        ProbeHow::Grpc { host, port, service } => {
            let at = authority(host, *port);
            let check = async {
                let conn = connect(network, host, *port)
                    .await
                    .map_err(|e| format!("error: failed to connect service at \"{at}\": dial tcp {at}: {}", dial(e)))?;
                grpc::check(conn, &at, service).await
            };
            let late = || Err(format!("timeout: health rpc did not complete within {timeout:?}"));
            tokio::time::timeout(timeout, check).await.unwrap_or_else(|_| late())
        }
        ProbeHow::Exec { .. } => Err("a command does not run over the network".into()),
    }
}

/// Runs a lifecycle hook.
pub(super) async fn hook(network: &Network, how: &HookHow, timeout: Duration) -> Result<(), String> {
    match how {
        HookHow::Sleep(time) => {
            tokio::time::sleep(*time).await;
            Ok(())
        }
        // Any answer will do.
        HookHow::Act(how @ ProbeHow::Http { .. }) => get(network, how, HOOK_AGENT, timeout).await.map(drop),
        HookHow::Act(how) => probe(network, how, timeout).await,
    }
}

async fn tcp(network: &Network, host: &str, port: u16, timeout: Duration) -> Result<(), String> {
    let at = authority(host, port);
    match tokio::time::timeout(timeout, connect(network, host, port)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(e)) => Err(format!("dial tcp {at}: {}", dial(e))),
        Err(_) => Err(format!("dial tcp {at}: i/o timeout")),
    }
}

async fn get(network: &Network, how: &ProbeHow, agent: &'static str, timeout: Duration) -> Result<u16, String> {
    let ProbeHow::Http { host, port, path, headers, https } = how else { return Err("not an HTTP probe".into()) };
    let get = Get { host, port: *port, path, headers, https: *https, agent };
    let failed = |why: &str| format!("Get \"{}\": {why}", get.url());
    match tokio::time::timeout(timeout, get.status(network, timeout)).await {
        Ok(Ok(code)) => Ok(code),
        Ok(Err(HttpError::Connect(e) | HttpError::Dns(_, e))) => {
            Err(failed(&format!("dial tcp {}: {}", authority(host, *port), dial(e))))
        }
        Err(_) | Ok(Err(HttpError::ResponseTimeout)) => {
            Err(failed("context deadline exceeded (Client.Timeout exceeded while awaiting headers)"))
        }
        Ok(Err(e)) => Err(failed(&e.to_string())),
    }
}

async fn connect(network: &Network, host: &str, port: u16) -> Result<Conn, NetError> {
    let to = address(network, host, port).await?;
    network.connect(Source::Node, to).await
}

async fn address(network: &Network, host: &str, port: u16) -> Result<SocketAddr, NetError> {
    let ip = match host.parse::<IpAddr>() {
        Ok(ip) => ip,
        Err(_) => network.resolve(host, &[]).await?.into_iter().next().ok_or(NetError::NameUnresolvable)?,
    };
    Ok(SocketAddr::new(ip, port))
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn dial(e: NetError) -> String {
    match e {
        NetError::ConnectionRefused => "connect: connection refused".into(),
        NetError::RemoteUnreachable => "connect: no route to host".into(),
        NetError::ConnectionReset => "read: connection reset by peer".into(),
        NetError::NameUnresolvable => "lookup: no such host".into(),
        NetError::Timeout => "i/o timeout".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
