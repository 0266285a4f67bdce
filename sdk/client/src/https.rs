//! The API over HTTPS: HTTP/2 where the server speaks it, pooled connections, another server where one is lost.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use copepod_model::request::{Body as Payload, FieldValidation, ListOptions, PatchType, Propagation};
use copepod_model::{ApiRequest, Status, UserInfo, Verb};
use futures_util::stream;
use http::{Method, Request, Response, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::config::Kubeconfig;
use crate::reach::Reach;
use crate::tls::{self, Credential, Rotating};
use crate::transport::{Body, List, Reply, Transport, WatchEvent, WatchStream, object_of};

/// Longest answer that is read whole, in bytes: a list of everything in a large cluster.
const MAX_ANSWER: usize = 1 << 30;
/// Longest event of a watch, and longest answer that is an error, in bytes.
const MAX_EVENT: usize = 16 << 20;
/// How long an answer may take; servers give up earlier. One that answers pings and nothing else must not hold anybody.
const ANSWER: Duration = Duration::from_secs(90);

/// The HTTPS transport, to one or several servers of a cluster.
pub struct Https {
    reach: Reach,
    token: String,
}

impl Https {
    /// A transport to the servers that `config` names; connects on first use.
    pub fn new(config: &Kubeconfig) -> io::Result<Https> {
        let bad = |e: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidInput, e.to_string());
        let text = |pem: &[u8]| String::from_utf8_lossy(pem).into_owned();
        let ca = text(&config.ca_pem);
        let tls = if config.cert_pem.is_empty() {
            tls::anonymous(&ca)
        } else {
            let credential = Credential { cert: text(&config.cert_pem), key: text(&config.key_pem) };
            Rotating::new(&credential).and_then(|own| own.client_config(&ca))
        };
        let reach = Reach::new(tls.map_err(|e| bad(&e))?, config.servers());
        Ok(Https { reach, token: config.token.clone() })
    }

    /// A transport to `servers` (`https://host:port`, one at least) by `tls`, for who keeps the list of them up to date.
    pub fn over(tls: rustls::ClientConfig, servers: Vec<String>) -> Https {
        Https { reach: Reach::new(tls, servers), token: String::new() }
    }

    /// The servers that are known, in the order of the list.
    pub fn servers(&self) -> Vec<String> {
        self.reach.servers()
    }

    /// From now on these are the servers; an empty list changes nothing.
    pub fn set_servers(&self, servers: Vec<String>) {
        self.reach.set_servers(servers);
    }

    async fn send(&self, mut request: Request<Bytes>) -> Result<Response<Incoming>, Status> {
        self.dress(&mut request);
        self.reach.call(request).await
    }

    fn dress(&self, request: &mut Request<Bytes>) {
        if !self.token.is_empty()
            && let Ok(value) = format!("Bearer {}", self.token).parse()
        {
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        let user_agent = header::HeaderValue::from_static(concat!("copepod/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().entry(header::USER_AGENT).or_insert(user_agent);
    }

    async fn whole(&self, request: Request<Bytes>) -> Result<Bytes, Status> {
        let safe = matches!(*request.method(), Method::GET | Method::HEAD);
        let late = |_| match safe {
            true => Status::unavailable("the server did not answer in time"),
            false => Status::timeout("the server did not answer in time, the outcome of the request is unknown"),
        };
        tokio::time::timeout(ANSWER, self.answer(request, safe)).await.map_err(late)?
    }

    async fn answer(&self, request: Request<Bytes>, safe: bool) -> Result<Bytes, Status> {
        let answer = self.send(request).await?;
        let code = answer.status();
        let body = http_body_util::Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let broken = |e| match safe {
            true => Status::unavailable(format!("the answer broke off: {e}")),
            // Something was done, and what is not known.
            false => Status::timeout(format!("the answer broke off, the outcome of the request is unknown: {e}")),
        };
        let body = body.map_err(broken)?.to_bytes();
        if code.is_success() { Ok(body) } else { Err(Status::from_json(code.as_u16(), &body)) }
    }
}

#[async_trait]
impl Transport for Https {
    async fn call(&self, request: ApiRequest) -> Result<Reply, Status> {
        let resource = request.group_resource();
        let list = request.verb == Verb::List;
        let body = self.whole(http_request(&request)?).await?;
        let value: Value = serde_json::from_slice(&body).map_err(Status::internal)?;
        if !list {
            let stored = value["metadata"]["uid"].is_string();
            return Ok(if stored { Reply::Object(Arc::new(object_of(&resource, &value))) } else { Reply::Json(value) });
        }
        let meta = &value["metadata"];
        let (api_version, kind) =
            (value["apiVersion"].clone(), value["kind"].as_str().unwrap_or("").trim_end_matches("List"));
        let items = value["items"].as_array().into_iter().flatten().map(|item| {
            // Items of a list leave out what the list says for all of them.
            let mut item = item.clone();
            if item["kind"].is_null() {
                item["kind"] = kind.into();
                item["apiVersion"] = api_version.clone();
            }
            Arc::new(object_of(&resource, &item))
        });
        Ok(Reply::List(List {
            revision: meta["resourceVersion"].as_str().and_then(|s| s.parse().ok()).unwrap_or(0),
            items: items.collect(),
            continue_token: meta["continue"].as_str().unwrap_or_default().to_string(),
        }))
    }

    async fn watch(&self, request: ApiRequest) -> Result<WatchStream, Status> {
        let resource = request.group_resource();
        let mut head = http_request(&request)?;
        self.dress(&mut head);
        let begun = tokio::time::timeout(ANSWER, self.reach.stream(head)).await;
        let (answer, place) = begun.map_err(|_| Status::unavailable("the server did not answer in time"))??;
        let code = answer.status();
        if !code.is_success() {
            let body = http_body_util::Limited::new(answer.into_body(), MAX_EVENT).collect().await;
            let body = body.map(|b| b.to_bytes()).unwrap_or_default();
            return Err(Status::from_json(code.as_u16(), &body));
        }
        let state = (answer.into_body(), BytesMut::new(), resource, place);
        Ok(Box::pin(stream::unfold(state, |(mut body, mut buffer, resource, place)| async move {
            loop {
                if let Some(end) = buffer.iter().position(|b| *b == b'\n') {
                    let line = buffer.split_to(end + 1);
                    if let Some(event) = event(&resource, &line) {
                        return Some((event, (body, buffer, resource, place)));
                    }
                    continue;
                }
                // One that is too long ends the watch, and is read by a list then.
                let frame = body.frame().await?.inspect_err(|_| place.broke()).ok();
                let frame = frame.filter(|_| buffer.len() <= MAX_EVENT)?;
                if let Some(data) = frame.data_ref() {
                    buffer.extend_from_slice(data);
                }
            }
        })))
    }

    async fn raw(&self, request: Request<Bytes>, _user: Arc<UserInfo>) -> Result<Response<Body>, Status> {
        Ok(self.send(request).await?.map(|b| b.map_err(io::Error::other).boxed()))
    }
}

fn event(resource: &str, line: &[u8]) -> Option<WatchEvent> {
    let v: Value = serde_json::from_slice(line).ok()?;
    let object = || Arc::new(object_of(resource, &v["object"]));
    Some(match v["type"].as_str()? {
        "ADDED" => WatchEvent::Added(object()),
        "MODIFIED" => WatchEvent::Modified(object()),
        "DELETED" => WatchEvent::Deleted(object()),
        "BOOKMARK" => {
            let initial = v["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true";
            WatchEvent::Bookmark(object().revision, initial)
        }
        _ => {
            let code = v["object"]["code"].as_u64().unwrap_or(500) as u16;
            WatchEvent::Error(Status::from_json(code, v["object"].to_string().as_bytes()))
        }
    })
}

/// The HTTP request that a plain request is on the wire.
fn http_request(request: &ApiRequest) -> Result<Request<Bytes>, Status> {
    let mut path = String::new();
    path.push_str(if request.group.is_empty() { "/api/" } else { "/apis/" });
    if !request.group.is_empty() {
        path.push_str(&request.group);
        path.push('/');
    }
    path.push_str(&request.version);
    if !request.namespace.is_empty() && request.resource != "namespaces" {
        path.push_str("/namespaces/");
        path.push_str(&escape(&request.namespace));
    }
    path.push('/');
    path.push_str(&request.resource);
    let creates_object = request.verb == Verb::Create && request.subresource.is_none();
    if !request.name.is_empty() && !creates_object {
        path.push('/');
        path.push_str(&escape(&request.name));
    }
    if let Some(sub) = &request.subresource {
        path.push('/');
        path.push_str(sub);
    }
    let query = query(request);
    if !query.is_empty() {
        path.push('?');
        path.push_str(&query.iter().map(|(k, v)| format!("{k}={}", escape(v))).collect::<Vec<_>>().join("&"));
    }
    let method = match request.verb {
        Verb::Get | Verb::List | Verb::Watch => Method::GET,
        Verb::Create => Method::POST,
        Verb::Update => Method::PUT,
        Verb::Patch => Method::PATCH,
        Verb::Delete | Verb::DeleteCollection => Method::DELETE,
    };
    let (media_type, body) = match (&request.body, request.verb) {
        (Payload::Object(v), _) => ("application/json", v.to_string().into()),
        (Payload::Json(b), _) => ("application/json", b.clone()),
        (Payload::Patch(kind, v), _) => (PatchType::media_type(*kind), v.to_string().into()),
        (Payload::None, Verb::Delete | Verb::DeleteCollection) => {
            ("application/json", delete_options(request).to_string().into())
        }
        (Payload::None, _) => ("", Bytes::new()),
    };
    let mut builder = Request::builder().method(method).uri(path).header(header::ACCEPT, "application/json");
    if !media_type.is_empty() {
        builder = builder.header(header::CONTENT_TYPE, media_type);
    }
    builder.body(body).map_err(|e| Status::bad_request(e.to_string()))
}

fn query(request: &ApiRequest) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    let writes = !matches!(request.verb, Verb::Get | Verb::List | Verb::Watch);
    if writes {
        if !request.field_manager.is_empty() && !matches!(request.verb, Verb::Delete | Verb::DeleteCollection) {
            out.push(("fieldManager", request.field_manager.clone()));
        }
        match request.field_validation {
            FieldValidation::Strict => out.push(("fieldValidation", "Strict".into())),
            FieldValidation::Warn => out.push(("fieldValidation", "Warn".into())),
            FieldValidation::Ignore => {}
        }
        if request.dry_run {
            out.push(("dryRun", "All".into()));
        }
        if request.force {
            out.push(("force", "true".into()));
        }
    }
    let ListOptions { label_selector, field_selector, limit, continue_token, .. } = &request.list;
    let list = &request.list;
    for (k, v) in [("labelSelector", label_selector), ("fieldSelector", field_selector), ("continue", continue_token)] {
        if !v.is_empty() {
            out.push((k, v.clone()));
        }
    }
    if *limit > 0 {
        out.push(("limit", limit.to_string()));
    }
    for (k, v) in [("resourceVersion", &list.resource_version), ("resourceVersionMatch", &list.resource_version_match)]
    {
        if let Some(v) = v {
            out.push((k, v.clone()));
        }
    }
    if request.verb == Verb::Watch {
        out.push(("watch", "true".into()));
        if list.allow_watch_bookmarks {
            out.push(("allowWatchBookmarks", "true".into()));
        }
        if let Some(send) = list.send_initial_events {
            out.push(("sendInitialEvents", send.to_string()));
        }
        if let Some(t) = list.timeout_seconds {
            out.push(("timeoutSeconds", t.to_string()));
        }
    }
    out
}

fn delete_options(request: &ApiRequest) -> Value {
    let d = &request.delete;
    let mut out = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
    if let Some(g) = d.grace_period_seconds {
        out["gracePeriodSeconds"] = g.into();
    }
    if d.uid.is_some() || d.resource_version.is_some() {
        out["preconditions"] = json!({"uid": d.uid, "resourceVersion": d.resource_version});
    }
    if let Some(p) = d.propagation {
        out["propagationPolicy"] = match p {
            Propagation::Background => "Background",
            Propagation::Foreground => "Foreground",
            Propagation::Orphan => "Orphan",
        }
        .into();
    }
    out
}

/// Percent-encodes everything but RFC 3986's unreserved characters, for a query's value or a path's segment.
pub fn escape(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => (b as char).to_string(),
            _ => format!("%{b:02X}"),
        })
        .collect()
}
