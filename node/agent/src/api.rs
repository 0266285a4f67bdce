//! The node API: what the API server asks a node for (the kubelet's paths). Called in process, or behind mTLS.

use std::sync::Arc;
use std::time::Duration;

use copepod_client::{Body, body};
use copepod_model::pod_log::PodLogOptions;
use copepod_model::{Object, Time};
use copepod_node_plan::ContainerId;
use copepod_node_plan::usage::ImagesOf;
use copepod_node_streams::proxy;
use http::{Method, Request, Response, StatusCode, header};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::clock::now;
use crate::logs::{LogOptions, Logs, stream};
use crate::pods::Ask;
use crate::streaming::Streaming;
use crate::usage::Usage;

/// Answers for one node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct NodeApi {
    pub asks: mpsc::Sender<Ask>,
    pub logs: Arc<Logs>,
    pub streaming: Streaming,
    pub usage: Arc<Usage>,
    /// `/configz`.
    pub configz: Arc<Value>,
}

impl NodeApi {
    /// Answers one request.
    pub async fn handle(&self, request: Request<Body>) -> Response<Body> {
        let path = segments(request.uri().path());
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        if let &[verb @ ("exec" | "attach"), namespace, pod, container] = path.as_slice() {
            return self.streaming.remote_command(request, [verb, namespace, pod, container]);
        }
        if let &["portForward", namespace, pod] = path.as_slice() {
            return self.streaming.port_forward(request, namespace, pod);
        }
        if path.first() == Some(&proxy::PREFIX) {
            return self.streaming.proxy(request).await;
        }
        if request.method() != Method::GET {
            return text(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed");
        }
        match path.as_slice() {
            ["healthz"] | ["healthz", "ping"] => text(StatusCode::OK, "ok"),
            ["configz"] => object(&self.configz),
            ["pods"] => self.pods().await,
            ["containerLogs", namespace, pod, container] => {
                match options(request.uri().query().unwrap_or_default(), now()) {
                    Ok(options) => self.log(namespace, pod, container, options).await,
                    Err((code, why)) => text(code, &why),
                }
            }
            ["metrics", "probes"] => self.probes().await,
            ["metrics", "cadvisor"] => self.cadvisor().await,
            path => {
                let query = request.uri().query().unwrap_or_default().to_string();
                let answer = self.usage.answer(path, &query).await;
                answer.unwrap_or_else(|| text(StatusCode::NOT_FOUND, "404 page not found"))
            }
        }
    }

    async fn probes(&self) -> Response<Body> {
        let (tx, rx) = oneshot::channel();
        let asked = self.asks.send(Ask::Probes(tx)).await.is_ok();
        match if asked { rx.await.ok() } else { None } {
            Some(counts) => prometheus(copepod_node_plan::usage::probes(&counts)),
            None => stopping(),
        }
    }

    async fn cadvisor(&self) -> Response<Body> {
        let Some(pods) = self.ask_pods().await else { return stopping() };
        let usage = self.usage.clone();
        // Every pod is decoded, which may take a while.
        match tokio::task::spawn_blocking(move || usage.cadvisor(&images(&pods))).await {
            Ok(text) => prometheus(text),
            Err(e) => text(StatusCode::INTERNAL_SERVER_ERROR, &e.to_string()),
        }
    }

    /// The node's pods; `None` while the agent stops.
    async fn ask_pods(&self) -> Option<Vec<Arc<Object>>> {
        let (tx, rx) = oneshot::channel();
        self.asks.send(Ask::Pods(tx)).await.ok()?;
        rx.await.ok()
    }

    async fn pods(&self) -> Response<Body> {
        let Some(pods) = self.ask_pods().await else { return stopping() };
        let items: Vec<Value> = pods.iter().map(|o| o.value()).collect();
        object(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
    }

    async fn log(&self, namespace: &str, pod: &str, container: &str, options: LogOptions) -> Response<Body> {
        let (answer, rx) = oneshot::channel();
        let ask = Ask::Log {
            namespace: namespace.into(),
            pod: pod.into(),
            container: container.into(),
            previous: options.previous,
            answer,
        };
        let asked = self.asks.send(ask).await.is_ok();
        let Some(found) = (if asked { rx.await.ok() } else { None }) else { return stopping() };
        let (pod_uid, attempt) = match found {
            Ok(found) => found,
            Err((code, why)) => return text(StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_REQUEST), &why),
        };
        let id = ContainerId { pod_uid, container: container.into(), attempt };
        let live = self.logs.live(&id).filter(|l| !l.has_ended());
        let mut response = Response::new(stream(self.logs.path(&id, namespace, pod), live, options));
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain"));
        response
    }
}

/// The decoded segments of a path, empty ones left out.
pub(crate) fn segments(path: &str) -> Vec<String> {
    path.split('/').filter(|p| !p.is_empty()).map(decode).collect()
}

/// The images that containers of pods have been given.
fn images(pods: &[Arc<Object>]) -> ImagesOf {
    let mut out = ImagesOf::new();
    for pod in pods {
        let value = pod.value();
        for list in ["initContainers", "containers", "ephemeralContainers"] {
            for c in value["spec"][list].as_array().into_iter().flatten() {
                if let (Some(name), Some(image)) = (c["name"].as_str(), c["image"].as_str()) {
                    out.insert((pod.meta.uid.to_string(), name.into()), image.into());
                }
            }
        }
    }
    out
}

fn stopping() -> Response<Body> {
    text(StatusCode::SERVICE_UNAVAILABLE, "the node is shutting down")
}

pub(crate) fn text(status: StatusCode, what: &str) -> Response<Body> {
    let mut response = Response::new(body(what.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// An answer of JSON.
pub(crate) fn object(value: &Value) -> Response<Body> {
    typed("application/json", value.to_string())
}

/// An answer in Prometheus' text format.
pub(crate) fn prometheus(text: String) -> Response<Body> {
    typed("text/plain; version=0.0.4; charset=utf-8", text)
}

fn typed(media: &'static str, content: String) -> Response<Body> {
    let mut response = Response::new(body(content));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media));
    response
}

/// `v1.PodLogOptions` from a query; else the code and the text of the answer.
fn options(query: &str, now: Time) -> Result<LogOptions, (StatusCode, String)> {
    let pairs = query.split('&').filter(|p| !p.is_empty()).map(|p| p.split_once('=').unwrap_or((p, "")));
    let given: Vec<(&str, String)> = pairs.map(|(k, v)| (k, decode(&v.replace('+', " ")))).collect();
    let asked = PodLogOptions::read(|name| given.iter().find(|(k, _)| *k == name).map(|(_, v)| v.as_str()))
        .map_err(|e| (StatusCode::BAD_REQUEST, e))?;
    if let [error, ..] = asked.errors().as_slice() {
        return Err((StatusCode::UNPROCESSABLE_ENTITY, error.to_string()));
    }
    let count = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok());
    let ago = |seconds: u64| {
        let nanoseconds = u64::try_from(Duration::from_secs(seconds).as_nanos()).unwrap_or(u64::MAX);
        Time(now.0.saturating_sub(nanoseconds))
    };
    Ok(LogOptions {
        follow: asked.follow,
        previous: asked.previous,
        timestamps: asked.timestamps,
        tail: count(asked.tail_lines),
        limit: count(asked.limit_bytes),
        since: asked.since_time.or(count(asked.since_seconds).map(ago)),
    })
}

/// Percent-decoding; what is malformed stays as it is.
pub(crate) fn decode(text: &str) -> String {
    let b = text.as_bytes();
    let hex = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut out = Vec::with_capacity(b.len());
    let mut i = 0;
    while i < b.len() {
        if b[i] == b'%'
            && let (Some(high), Some(low)) = (b.get(i + 1).copied().and_then(hex), b.get(i + 2).copied().and_then(hex))
        {
            out.push(high << 4 | low);
            i += 3;
            continue;
        }
        out.push(b[i]);
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_options_are_read_from_the_query() {
        let now = Time::from_secs(100);
        let o = options("follow=true&tailLines=5&sinceSeconds=40&timestamps=1&limitBytes=9&container=x", now).unwrap();
        let want = LogOptions {
            follow: true,
            tail: Some(5),
            since: Some(Time::from_secs(60)),
            timestamps: true,
            limit: Some(9),
            previous: false,
        };
        assert_eq!(o, want);
        assert_eq!(options("sinceTime=1970-01-01T00%3A00%3A05Z", now).unwrap().since, Some(Time::from_secs(5)));
        for (bad, code) in
            [("tailLines=-1", 422), ("limitBytes=0", 422), ("sinceSeconds=x", 400), ("sinceTime=yesterday", 400)]
        {
            assert_eq!(options(bad, now).map_err(|(c, _)| c.as_u16()), Err(code), "{bad}");
        }
    }
}
