//! Probes over the pod network. Failures are told in the kubelet's words, which are Go's.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use copepod_client::body;
use copepod_node_network::{HttpError, HttpOptions, NetError, Network, Source};
use copepod_node_plan::ProbeHow;
use http::{Request, header};

/// Probes once.
pub(super) async fn probe(network: &Network, how: &ProbeHow, timeout: Duration) -> Result<(), String> {
    match how {
        ProbeHow::Tcp { host, port } => {
            let at = authority(host, *port);
            match tokio::time::timeout(timeout, connect(network, host, *port)).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(e)) => Err(format!("dial tcp {at}: {}", dial(e))),
                Err(_) => Err(format!("dial tcp {at}: i/o timeout")),
            }
        }
        ProbeHow::Http { host, port, path, headers, https } => {
            let at = authority(host, *port);
            let url = format!("{}://{at}{path}", if *https { "https" } else { "http" });
            let status =
                tokio::time::timeout(timeout, get(network, (host, *port), &url, headers, *https, timeout)).await;
            match status {
                Ok(Ok(200..=399)) => Ok(()),
                Ok(Ok(code)) => Err(format!("HTTP probe failed with statuscode: {code}")),
                Ok(Err(HttpError::Connect(e) | HttpError::Dns(_, e))) => {
                    Err(format!("Get \"{url}\": dial tcp {at}: {}", dial(e)))
                }
                Err(_) | Ok(Err(HttpError::ResponseTimeout)) => Err(format!(
                    "Get \"{url}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
                )),
                Ok(Err(e)) => Err(format!("Get \"{url}\": {e}")),
            }
        }
    }
}

async fn connect(network: &Network, host: &str, port: u16) -> Result<(), NetError> {
    let to = address(network, host, port).await?;
    network.connect(Source::Node, to).await.map(drop)
}

async fn get(
    network: &Network,
    (host, port): (&str, u16),
    url: &str,
    headers: &[(String, String)],
    tls: bool,
    timeout: Duration,
) -> Result<u16, HttpError> {
    let to = address(network, host, port).await.map_err(|e| HttpError::Dns(host.into(), e))?;
    let mut request = Request::get(url);
    let named = |name: &str| headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
    if !named("user-agent") {
        request = request.header(header::USER_AGENT, "kube-probe/1.35");
    }
    if !named("accept") {
        request = request.header(header::ACCEPT, "*/*");
    }
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(body("")).map_err(|_| HttpError::InvalidRequest("the probe's URL or headers"))?;
    let options =
        HttpOptions { connect_timeout: timeout, first_byte_timeout: timeout, between_bytes_timeout: timeout, tls };
    let response = network.request(Source::Node, to, request, options).await?;
    Ok(response.status().as_u16())
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
