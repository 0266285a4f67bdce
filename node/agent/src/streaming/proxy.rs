//! `/podProxy/…`: a client's request to a port of a pod, sent on as kube-apiserver's proxy would: a function call to a
//! `wasi:http` component, a connection to anything else. On 101 the client's connection and the pod's become one.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use copepod_client::{Body, body};
use copepod_model::Status;
use copepod_node_network::{HttpError, HttpOptions, NetError, Network, Source};
use copepod_node_streams::proxy::Proxied;
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::idle::{self, Idle};
use super::{Streaming, busy};
use crate::api::{object, text};
use crate::dataplane::tls;

impl Streaming {
    /// Answers such a request.
    pub async fn proxy(&self, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path().to_string();
        match Proxied::parse(&path) {
            Some(to) => self.try_proxy(request, &to).await.unwrap_or_else(|refusal| refusal),
            None => text(StatusCode::NOT_FOUND, "404 page not found"),
        }
    }

    async fn try_proxy(&self, mut request: Request<Body>, to: &Proxied<'_>) -> Result<Response<Body>, Response<Body>> {
        let changes = request.headers().contains_key(header::UPGRADE);
        let failed = |error: HttpError| refusal(changes, &error.in_go(to.to));
        let network = self.door.network();
        // One of the same name that has come since has other addresses.
        let there = network.pod(to.to.ip()).map(|pod| pod.identity().uid.clone());
        if self.door.find(to.namespace, to.pod).is_none_or(|pod| Some(pod.uid) != there) {
            return Err(failed(HttpError::Connect(NetError::RemoteUnreachable)));
        }
        let session = match changes {
            true => {
                Some((self.sessions.clone().try_acquire_owned().map_err(|_| busy())?, hyper::upgrade::on(&mut request)))
            }
            false => None,
        };
        let query = request.uri().query().map(|q| format!("?{q}")).unwrap_or_default();
        let uri = format!("{}{query}", to.path).parse::<Uri>();
        *request.uri_mut() = uri.map_err(|_| failed(HttpError::InvalidRequest("its path")))?;
        let options = HttpOptions { between_bytes_timeout: idle::IDLE, ..HttpOptions::default() };
        let answer = match to.https {
            true => over_tls(&network, to.to, request, options.first_byte_timeout).await,
            false => network.request(Source::Node, to.to, request, options).await,
        };
        let mut answer = answer.map_err(failed)?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer);
        }
        let Some((permit, client)) = session else {
            return Err(failed(HttpError::Protocol("101 without a request for it".into())));
        };
        let pod = hyper::upgrade::on(&mut answer);
        tokio::spawn(async move {
            let _permit = permit;
            let (Ok(client), Ok(pod)) = (client.await, pod.await) else { return };
            let (mut client, mut pod) = (Idle::new(TokioIo::new(client)), TokioIo::new(pod));
            if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut pod).await {
                tracing::debug!(%error, "a proxied stream to a pod broke off");
            }
        });
        Ok(answer.map(|_| body("")))
    }
}

/// The request over TLS. Whatever certificate the pod has is fine, as it is to kube-apiserver's proxy.
async fn over_tls(
    network: &Network,
    to: SocketAddr,
    request: Request<Body>,
    patience: Duration,
) -> Result<Response<Body>, HttpError> {
    let failed = |e: hyper::Error| HttpError::Protocol(e.to_string());
    let answer = async {
        let conn = network.connect(Source::Node, to).await.map_err(HttpError::Connect)?;
        let stream = tls::connect(conn.stream, &to.ip().to_string()).await.map_err(HttpError::Tls)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        // It ends with its sender and the answer.
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.map_err(failed)
    };
    let answer = tokio::time::timeout(patience, answer).await.map_err(|_| HttpError::ResponseTimeout)??;
    Ok(answer.map(|body| body.map_err(io::Error::other).boxed()))
}

/// What upstream's proxy says when it does not reach a pod.
fn refusal(changes: bool, why: &str) -> Response<Body> {
    let status = match changes {
        true => Status { code: 500, reason: "", message: format!("error dialing backend: {why}"), details: None },
        false => Status::unavailable(format!("error trying to reach service: {why}")),
    };
    let mut answer = object(&status.to_json());
    *answer.status_mut() = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer
}
