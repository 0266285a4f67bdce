//! Streams into pods: exec, attach and port-forward, with the kubelet's paths, over WebSocket and SPDY, and proxied requests,
//! which may become streams. Whoever asks hands over its connection with the request (`hyper::upgrade`): the API server in this
//! process its client's, another machine its own. What a stream carries is decided in `copepod-node-streams`; here it is moved.

// A refusal is made at most once per session: its size does not matter.
#![allow(clippy::result_large_err)]

mod attach;
mod exec;
mod forward;
mod idle;
mod proxy;
mod remote;
mod spdy;
mod websocket;

use std::sync::Arc;

use base64::Engine as _;
use copepod_client::{Body, body};
use copepod_node_streams::channel;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::sync::Semaphore;

use crate::api::{decode, text};
use crate::dataplane::Door;
use idle::Idle;

/// Streaming sessions of a node at once.
const SESSIONS: usize = 1024;
/// What SPDY clients of exec and attach may speak, best first (kubelet `SupportedStreamingProtocols`).
const SPDY_COMMAND: [&str; 4] = ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
/// What SPDY clients of port-forward speak.
const SPDY_FORWARD: [&str; 1] = ["portforward.k8s.io"];

/// Answers for one node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Streaming {
    door: Door,
    sessions: Arc<Semaphore>,
}

/// What exec and attach ask for, by the kubelet's parameters.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Wants {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
    pub command: Vec<String>,
}

impl Wants {
    fn parse(query: &str) -> Result<Wants, Response<Body>> {
        let mut wants = Wants::default();
        for (key, value) in query.split('&').map(|p| p.split_once('=').unwrap_or((p, ""))) {
            let value = decode(&value.replace('+', " "));
            let flag = matches!(value.as_str(), "1" | "true");
            match key {
                "input" => wants.stdin = flag,
                "output" => wants.stdout = flag,
                "error" => wants.stderr = flag,
                "tty" => wants.tty = flag,
                "command" => wants.command.push(value),
                _ => {}
            }
        }
        // A terminal has one output.
        wants.stderr &= !wants.tty;
        if !(wants.stdin || wants.stdout || wants.stderr) {
            return Err(text(StatusCode::BAD_REQUEST, "you must specify at least 1 of stdin, stdout, stderr"));
        }
        Ok(wants)
    }
}

/// How a client speaks.
enum Speaks {
    WebSocket(channel::Protocol),
    Spdy(&'static str),
}

impl Streaming {
    pub fn new(door: Door) -> Streaming {
        Streaming { door, sessions: Arc::new(Semaphore::new(SESSIONS)) }
    }

    /// `/exec/NS/POD/CONTAINER` and `/attach/…`.
    pub fn remote_command(&self, request: Request<Body>, path: [&str; 4]) -> Response<Body> {
        self.try_remote_command(request, path).unwrap_or_else(|refusal| refusal)
    }

    fn try_remote_command(
        &self,
        mut request: Request<Body>,
        [verb, namespace, pod, container]: [&str; 4],
    ) -> Result<Response<Body>, Response<Body>> {
        let wants = Wants::parse(request.uri().query().unwrap_or_default())?;
        let found = self.door.find(namespace, pod).ok_or_else(no_pod)?;
        let (speaks, answer) = negotiate(request.headers(), channel::remote_command, &SPDY_COMMAND)?;
        let refused = |why: String| text(StatusCode::INTERNAL_SERVER_ERROR, &why);
        let run = match verb {
            "attach" => remote::Run::Attach(self.door.attach(&found, container).map_err(refused)?),
            _ => remote::Run::Exec(self.door.running(&found, container).map_err(refused)?),
        };
        let Ok(permit) = self.sessions.clone().try_acquire_owned() else { return Err(busy()) };
        let upgrade = hyper::upgrade::on(&mut request);
        let door = self.door.clone();
        tokio::spawn(async move {
            let _permit = permit;
            let Ok(upgraded) = upgrade.await else { return };
            let io = Idle::new(TokioIo::new(upgraded));
            let (session, transport) = remote::session();
            let served = async {
                match speaks {
                    Speaks::WebSocket(protocol) => websocket::remote_command(io, protocol, &wants, transport).await,
                    Speaks::Spdy(protocol) => spdy::remote_command(io, protocol, &wants, transport).await,
                }
            };
            // A client that is gone ends what it has begun: its side of the session is dropped.
            tokio::join!(served, remote::run(&door, run, &wants, session));
        });
        Ok(answer)
    }

    /// `/portForward/NS/POD`.
    pub fn port_forward(&self, request: Request<Body>, namespace: &str, pod: &str) -> Response<Body> {
        self.try_port_forward(request, namespace, pod).unwrap_or_else(|refusal| refusal)
    }

    fn try_port_forward(
        &self,
        mut request: Request<Body>,
        namespace: &str,
        pod: &str,
    ) -> Result<Response<Body>, Response<Body>> {
        let found = self.door.find(namespace, pod).ok_or_else(no_pod)?;
        let (speaks, answer) = negotiate(request.headers(), channel::port_forward, &SPDY_FORWARD)?;
        let query = request.uri().query().unwrap_or_default();
        let ports = query.split('&').filter_map(|p| p.strip_prefix("ports=").or(p.strip_prefix("port=")));
        let ports: Result<Vec<u16>, _> =
            ports.flat_map(|list| decode(list).split(',').map(str::parse).collect::<Vec<_>>()).collect();
        let bad = |why: &str| text(StatusCode::BAD_REQUEST, why);
        let ports = ports.map_err(|_| bad("port must be a number between 1 and 65535"))?;
        if matches!(&speaks, Speaks::WebSocket(p) if p.name != channel::TUNNEL) && ports.is_empty() {
            return Err(bad("query parameter \"port\" is required"));
        }
        let Ok(permit) = self.sessions.clone().try_acquire_owned() else { return Err(busy()) };
        let upgrade = hyper::upgrade::on(&mut request);
        let to = forward::Target { network: self.door.network(), pod: format!("{pod}_{namespace}"), ip: found.ip };
        tokio::spawn(async move {
            let _permit = permit;
            let Ok(upgraded) = upgrade.await else { return };
            let io = Idle::new(TokioIo::new(upgraded));
            match speaks {
                Speaks::Spdy(_) => forward::spdy(io, to).await,
                Speaks::WebSocket(p) if p.name == channel::TUNNEL => {
                    let (near, far) = tokio::io::duplex(64 * 1024);
                    tokio::join!(websocket::tunnel(io, near), forward::spdy(far, to));
                }
                Speaks::WebSocket(protocol) => websocket::forward(io, protocol, ports, to).await,
            }
        });
        Ok(answer)
    }
}

fn no_pod() -> Response<Body> {
    text(StatusCode::NOT_FOUND, "pod does not exist")
}

fn busy() -> Response<Body> {
    text(StatusCode::TOO_MANY_REQUESTS, "too many streams are open on this node")
}

/// What to speak, and the answer that says so.
fn negotiate(
    headers: &HeaderMap,
    websocket: fn(&str) -> Option<channel::Protocol>,
    spdy: &'static [&'static str],
) -> Result<(Speaks, Response<Body>), Response<Body>> {
    let all = |name: &str| {
        let values: Vec<&str> = headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).collect();
        values.join(",")
    };
    let upgrade = all("upgrade").to_ascii_lowercase();
    let mut answer = Response::new(body(""));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let set = |answer: &mut Response<Body>, name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            answer.headers_mut().insert(name, value);
        }
    };
    set(&mut answer, "connection", "Upgrade");
    let bad = |why: &str| Err(text(StatusCode::BAD_REQUEST, why));
    match upgrade.as_str() {
        "websocket" => {
            let key = all("sec-websocket-key");
            if all("sec-websocket-version") != "13" || key.is_empty() {
                return bad("a WebSocket handshake of version 13 is required");
            }
            let offered = all("sec-websocket-protocol");
            let Some(protocol) = websocket(&offered) else {
                return bad(&format!("unable to upgrade: none of the protocols {offered:?} is supported"));
            };
            set(&mut answer, "upgrade", "websocket");
            set(&mut answer, "sec-websocket-accept", &accept(&key));
            if !protocol.name.is_empty() {
                set(&mut answer, "sec-websocket-protocol", protocol.name);
            }
            Ok((Speaks::WebSocket(protocol), answer))
        }
        "spdy/3.1" => {
            let offered = all("x-stream-protocol-version");
            let offers: Vec<&str> = offered.split(',').map(str::trim).filter(|o| !o.is_empty()).collect();
            let found = spdy.iter().find(|p| offers.contains(p)).copied();
            // Clients of old offer none and speak the first version.
            let Some(protocol) = found.or(if offers.is_empty() { spdy.last().copied() } else { None }) else {
                let mut refused = text(
                    StatusCode::FORBIDDEN,
                    &format!(
                        "unable to upgrade: unable to negotiate protocol: client supports {offers:?}, server accepts {spdy:?}"
                    ),
                );
                set(&mut refused, "x-accept-stream-protocol-versions", &spdy.join(","));
                return Err(refused);
            };
            set(&mut answer, "upgrade", "SPDY/3.1");
            set(&mut answer, "x-stream-protocol-version", protocol);
            Ok((Speaks::Spdy(protocol), answer))
        }
        _ => {
            let mut refused = text(StatusCode::BAD_REQUEST, "Upgrade request required");
            refused.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            Err(refused)
        }
    }
}

/// `Sec-WebSocket-Accept` (RFC 6455 §4.2.2).
fn accept(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(digest)
}

#[cfg(test)]
mod tests;
