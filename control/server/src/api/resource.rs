//! Requests for resources over HTTP: the head and body become an [`ApiRequest`], the answer takes the shape that was asked for.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use copepod_client::Body;
use copepod_model::kinds::Kind;
use copepod_model::request::{Body as Payload, DeleteOptions, PatchType, Propagation};
use copepod_model::schema::Schema;
use copepod_model::{ApiRequest, FieldError, Status, UserInfo, Verb, object};
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Limited};
use serde_json::{Value, json};

use super::execute::Answer;
use super::negotiate::{self, Accepted, Content, Encoding, Endpoint, Shape};
use super::path::{Query, ResourcePath, Target, dry_run_of};
use super::table::{self, Include};
use super::{Api, gzip, respond, usage};
use crate::now;

/// Longest request body in bytes: kube-apiserver's `MaxRequestBodyBytes`.
const BODY: usize = 3 * 1024 * 1024;
/// How long a client may take to send it.
const BODY_DEADLINE: Duration = Duration::from_secs(30);

impl Api {
    pub(super) async fn resource(
        self: &Arc<Self>,
        request: Request<Body>,
        user: Arc<UserInfo>,
        path: ResourcePath,
        query: Query,
    ) -> Result<Response<Body>, Status> {
        let header = |name: header::HeaderName| {
            request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_string()
        };
        let content_type = header(header::CONTENT_TYPE);
        let media = content_type.split(';').next().unwrap_or_default().trim().to_string();
        let mut api = api_request(request.method(), user, &path, &query, &header(header::USER_AGENT), &media)?;
        // Whether it is served at all comes before whether it is allowed, for those who may know; upstream authorizes
        // first, so that a stranger learns nothing from a 404.
        self.authorize(&api)?;
        if request.method() == Method::HEAD {
            // Upstream authorizes HEAD as it does GET, and serves it for no resource.
            return Err(Status::method_not_supported(&path.resource, "head"));
        }
        if path.subresource == "log" && path.resource == "pods" && api.verb == Verb::Get {
            return self.pod_log(&api, &query).await;
        }
        if super::streams::is_stream(&path) {
            return self.stream(&api, &path, &query, request).await;
        }
        usage::check_verb(&api)?;
        let accepted = negotiate::accept(&header(header::ACCEPT), self.endpoint(&api))?;
        if api.verb == Verb::Watch {
            let include = Include::parse(query.get("includeObject").unwrap_or_default());
            let response = self.watch_http(&api, accepted.streamed()?, include).await?;
            return Ok(self.warned(&api, response));
        }
        let gzips = gzip::accepted(request.headers());
        if !matches!(api.verb, Verb::Get | Verb::List) {
            let bytes = read(request.into_body()).await?;
            decode(&mut api, &content_type, bytes, &query)?;
        }
        let answer = self.execute(&api, None).await?;
        let include = Include::parse(query.get("includeObject").unwrap_or_default());
        let mut response = self.warned(&api, self.respond(&api, answer, accepted, include)?);
        if gzips {
            response = gzip::compressed(response).await?;
        }
        Ok(response)
    }

    /// The response, with a warning if its kind is deprecated.
    fn warned(&self, api: &ApiRequest, mut response: Response<Body>) -> Response<Body> {
        if let Some(text) = self.kind(api).ok().and_then(|k| k.deprecation) {
            respond::warn(&mut response, &[text.into()]);
        }
        response
    }

    /// What answers to a request can be.
    fn endpoint(&self, api: &ApiRequest) -> Endpoint {
        let kind = self.kind(api).ok();
        // Upstream makes custom resources of these; reviews are stored nowhere, but built in.
        let protobuf = match &kind {
            Some(kind) => Schema::builtin().has_protobuf(&kind.api_version(), kind.kind),
            None => !usage::serves(api),
        };
        let listed = matches!(api.subresource.as_deref(), None | Some("status" | "scale"));
        Endpoint { protobuf, tables: listed && (kind.is_some() || usage::serves(api)), partials: true }
    }

    fn respond(
        &self,
        api: &ApiRequest,
        answer: Answer,
        accepted: Accepted,
        include: Include,
    ) -> Result<Response<Body>, Status> {
        if usage::serves(api)
            && let Answer::Value(_, value, _) = &answer
        {
            return usage::respond(value, accepted, include);
        }
        // A deletion's Status is served as it is even to those who asked for a Table.
        let status = matches!(&answer, Answer::Value(_, value, _) if value["kind"] == "Status");
        let (code, warnings, list_meta, bytes) = match answer {
            Answer::Object(code, object, warnings) => {
                if accepted == Accepted::JSON {
                    let mut response = respond::bytes(code, "application/json", self.bytes(&object)?);
                    respond::warn(&mut response, &warnings);
                    return Ok(response);
                }
                (code, warnings, None, vec![self.bytes(&object)?])
            }
            Answer::Value(code, value, warnings) => (code, warnings, None, vec![value.to_string().into()]),
            Answer::List(page) => {
                let items: Vec<Bytes> = page.items.iter().map(|o| self.bytes(o)).collect::<Result<_, _>>()?;
                (200, vec![], Some(Self::list_meta(&page)), items)
            }
        };
        let kind = self.kind(api).ok();
        let (name, version) = match &kind {
            Some(k) => (k.kind.to_string(), k.api_version()),
            None => (String::new(), String::new()),
        };
        let values = || -> Result<Vec<Value>, Status> {
            bytes.iter().map(|b| serde_json::from_slice(b).map_err(Status::internal)).collect()
        };
        let mut response = match (accepted.shape, &kind) {
            (Shape::Table(beta), Some(kind))
                if matches!(api.subresource.as_deref(), None | Some("status")) && !status =>
            {
                let values = values()?;
                let meta = list_meta.unwrap_or_else(|| {
                    let rv = values.first().map_or(Value::Null, |v| v["metadata"]["resourceVersion"].clone());
                    json!({"resourceVersion": rv})
                });
                respond::encoded(
                    code,
                    &table::table(kind, &values, meta, true, include, beta, now()),
                    accepted.encoding,
                )?
            }
            (Shape::Table(beta), _) if api.subresource.as_deref() == Some("scale") && !status => {
                let scales = values()?;
                let meta = json!({"resourceVersion": scales.first().map(|v| &v["metadata"]["resourceVersion"])});
                respond::encoded(code, &table::scales(&scales, meta, include, beta, now()), accepted.encoding)?
            }
            (Shape::Partial(beta), Some(kind)) if !status => {
                if list_meta.is_some() {
                    return Err(not_of_that_number(kind, true));
                }
                let object = values()?.into_iter().next().unwrap_or_default();
                respond::encoded(code, &table::partial(&object, beta), accepted.encoding)?
            }
            (Shape::Partials(beta), Some(kind)) if !status => {
                let meta = list_meta.ok_or_else(|| not_of_that_number(kind, false))?;
                respond::encoded(code, &table::partials(&values()?, meta, beta), accepted.encoding)?
            }
            (_, _) => match (accepted.encoding, list_meta) {
                (Encoding::Json, Some(meta)) => {
                    respond::bytes(code, "application/json", list_bytes(&name, &version, &meta, &bytes)?)
                }
                (Encoding::Json, None) => {
                    respond::bytes(code, "application/json", bytes.into_iter().next().unwrap_or_default())
                }
                (encoding, None) => respond::encoded(code, values()?.first().unwrap_or(&Value::Null), encoding)?,
                (encoding, Some(meta)) => {
                    let mut items = values()?;
                    items.iter_mut().for_each(strip_type);
                    let list = json!({
                        "kind": format!("{name}List"), "apiVersion": version, "metadata": meta, "items": items,
                    });
                    respond::encoded(code, &list, encoding)?
                }
            },
        };
        respond::warn(&mut response, &warnings);
        Ok(response)
    }
}

/// The 406 for who wants the metadata of one object and would get a list, or the other way round. Upstream names the Go
/// type, whose package is the first part of the group; what it has by a custom resource is unstructured.
fn not_of_that_number(kind: &Kind, list: bool) -> Status {
    let package = match kind.group.split('.').next().unwrap_or_default() {
        "" | "events" => "core",
        package => package,
    };
    let go_type = match (Schema::builtin().has_protobuf(&kind.api_version(), kind.kind), list) {
        (true, true) => format!("*{package}.{}List", kind.kind),
        (true, false) => format!("*{package}.{}", kind.kind),
        (false, true) => "*unstructured.UnstructuredList".into(),
        (false, false) => "*unstructured.Unstructured".into(),
    };
    Status::not_convertible(match list {
        true => format!("you requested PartialObjectMetadata, but the requested object is a list ({go_type})"),
        false => format!("you requested PartialObjectMetadataList, but the requested object is not a list ({go_type})"),
    })
}

/// A list's JSON around its items' bytes, which are copied once and never decoded. The items do not repeat their type.
fn list_bytes(kind: &str, api_version: &str, meta: &Value, items: &[Bytes]) -> Result<Bytes, Status> {
    let mut out = BytesMut::with_capacity(items.iter().map(|i| i.len() + 1).sum::<usize>() + 256);
    out.put_slice(
        format!("{{\"kind\":\"{kind}List\",\"apiVersion\":\"{api_version}\",\"metadata\":{meta},\"items\":[")
            .as_bytes(),
    );
    let type_meta = object::type_meta(api_version, kind);
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.put_u8(b',');
        }
        match object::untyped(item, &type_meta) {
            Some(untyped) => {
                out.put_slice(untyped);
                out.put_u8(b'}');
            }
            // A sealed object has been opened, and is encoded otherwise.
            None => {
                let mut value = serde_json::from_slice(item).map_err(Status::internal)?;
                strip_type(&mut value);
                out.put_slice(value.to_string().as_bytes());
            }
        }
    }
    out.put_slice(b"]}");
    Ok(out.freeze())
}

fn strip_type(item: &mut Value) {
    if let Some(fields) = item.as_object_mut() {
        fields.remove("apiVersion");
        fields.remove("kind");
    }
}

/// What a method, path and query ask for.
fn api_request(
    method: &Method,
    user: Arc<UserInfo>,
    path: &ResourcePath,
    query: &Query,
    agent: &str,
    media: &str,
) -> Result<ApiRequest, Status> {
    let named = !path.name.is_empty();
    // Upstream's router knows no watch of an object but that by the old prefix.
    let watch = path.watch || !named && query.flag("watch");
    let verb = match (method, named) {
        (&Method::GET | &Method::HEAD, _) if watch && path.subresource.is_empty() => Verb::Watch,
        (&Method::GET | &Method::HEAD, true) => Verb::Get,
        (&Method::GET | &Method::HEAD, false) => Verb::List,
        (&Method::POST, _) => Verb::Create,
        (&Method::PUT, _) => Verb::Update,
        (&Method::PATCH, _) => Verb::Patch,
        (&Method::DELETE, true) => Verb::Delete,
        (&Method::DELETE, false) => Verb::DeleteCollection,
        _ => return Err(Status::method_not_supported(&path.resource, &method.as_str().to_lowercase())),
    };
    let no_target = (matches!(verb, Verb::Update | Verb::Patch) && !named)
        || (verb == Verb::Create && named && path.subresource.is_empty());
    if no_target {
        return Err(Status::method_not_supported(&path.resource, verb.as_str()));
    }
    let mut api = ApiRequest::new(user, verb, &path.group, &path.version, &path.resource);
    api.namespace = path.namespace.clone();
    api.name = path.name.clone();
    api.subresource = (!path.subresource.is_empty()).then(|| path.subresource.clone());
    api.list = query.list_options()?;
    if verb == Verb::Watch && named {
        api.list.field_selector = format!("metadata.name={}", path.name);
        api.name.clear();
    }
    if !matches!(verb, Verb::Get | Verb::List | Verb::Watch) {
        let mut errors = Vec::new();
        if verb == Verb::Patch && media == PatchType::Apply.media_type() {
            if query.get("fieldManager").unwrap_or_default().is_empty() {
                errors.push(FieldError::required("fieldManager", "is required for apply patch"));
            }
        } else if verb == Verb::Patch && query.has("force") {
            errors.push(FieldError::forbidden("force", "may not be specified for non-apply patch"));
        }
        let options = query.write_options(&mut errors);
        refuse_options(verb, &errors)?;
        api.dry_run = options.dry_run;
        api.field_validation = options.field_validation;
        api.force = query.flag("force");
        api.field_manager = options.field_manager;
        if api.field_manager.is_empty() {
            // Upstream takes the client's name from its User-Agent.
            let agent = agent.split(['/', ' ']).next().unwrap_or_default();
            api.field_manager = agent.chars().filter(|c| !c.is_control()).take(128).collect();
        }
    }
    Ok(api)
}

/// A 422 about the options of a write, if there is something wrong with them.
fn refuse_options(verb: Verb, errors: &[FieldError]) -> Result<(), Status> {
    if errors.is_empty() {
        return Ok(());
    }
    let kind = match verb {
        Verb::Create => "CreateOptions",
        Verb::Update => "UpdateOptions",
        Verb::Patch => "PatchOptions",
        _ => "DeleteOptions",
    };
    Err(Status::invalid("meta.k8s.io", kind, "", errors))
}

/// The request that a head and a body are. The head's `path` is the URL's path and query.
pub(crate) fn request_of(
    method: &Method,
    path: &str,
    user: Arc<UserInfo>,
    content_type: &str,
    body: Bytes,
) -> Result<Option<ApiRequest>, Status> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let Target::Resource(path) = super::path::parse(path)? else { return Ok(None) };
    let query = Query::parse(query)?;
    let media = content_type.split(';').next().unwrap_or_default().trim();
    let mut api = api_request(method, user, &path, &query, "", media)?;
    if !matches!(api.verb, Verb::Get | Verb::List | Verb::Watch) {
        decode(&mut api, content_type, body, &query)?;
    }
    Ok(Some(api))
}

async fn read(body: Body) -> Result<Bytes, Status> {
    let whole = tokio::time::timeout(BODY_DEADLINE, Limited::new(body, BODY).collect()).await;
    match whole {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(e)) if e.is::<http_body_util::LengthLimitError>() => Err(Status::too_large(format!("limit is {BODY}"))),
        Ok(Err(e)) => Err(Status::bad_request(format!("the body broke off: {e}"))),
        Err(_) => Err(Status::timeout("the body did not arrive in time")),
    }
}

fn decode(api: &mut ApiRequest, content_type: &str, bytes: Bytes, query: &Query) -> Result<(), Status> {
    match api.verb {
        Verb::Delete | Verb::DeleteCollection => {
            let options = if bytes.is_empty() { Value::Null } else { value(content_type, &bytes)? };
            api.delete = delete_options(&options, query)?;
            let given = options["dryRun"].as_array().into_iter().flatten();
            let given: Vec<&str> = given.map(|v| v.as_str().unwrap_or_default()).collect();
            let mut errors = Vec::new();
            api.dry_run |= dry_run_of(&given, &mut errors);
            refuse_options(api.verb, &errors)?;
        }
        Verb::Patch => {
            let Content::Patch(kind) = negotiate::content(content_type, true)? else {
                return Err(Status::unsupported_media_type(""));
            };
            let patch = match serde_json::from_slice(&bytes) {
                Ok(v) => v,
                Err(_) if kind == PatchType::Apply => yaml(&bytes)?,
                Err(e) => return Err(Status::bad_request(format!("error decoding patch: {e}"))),
            };
            api.body = Payload::Patch(kind, patch);
        }
        _ => {
            if bytes.is_empty() {
                return Err(Status::bad_request("the body of a create or update must not be empty"));
            }
            api.body = match negotiate::content(content_type, false)? {
                Content::Json => Payload::Json(bytes),
                _ => Payload::Object(value(content_type, &bytes)?),
            };
        }
    }
    Ok(())
}

fn value(content_type: &str, bytes: &Bytes) -> Result<Value, Status> {
    match negotiate::content(content_type, false)? {
        Content::Protobuf => Schema::builtin().decode_protobuf(bytes).map_err(|e| Status::bad_request(e.to_string())),
        Content::Yaml => yaml(bytes),
        _ => serde_json::from_slice(bytes)
            .map_err(|e| Status::bad_request(format!("couldn't get version/kind; json parse error: {e}"))),
    }
}

fn yaml(bytes: &Bytes) -> Result<Value, Status> {
    copepod_model::yaml::from_slice(bytes)
        .map_err(|e| Status::bad_request(format!("error converting YAML to JSON: {e}")))
}

fn delete_options(body: &Value, query: &Query) -> Result<DeleteOptions, Status> {
    let from_query = |k: &str| query.get(k).filter(|v| !v.is_empty()).map(str::to_string);
    let grace = match body["gracePeriodSeconds"].as_i64() {
        Some(g) => Some(g),
        None => match from_query("gracePeriodSeconds").map(|v| v.parse::<i64>()) {
            Some(Err(_)) => return Err(Status::bad_request("gracePeriodSeconds: not a number")),
            parsed => parsed.and_then(Result::ok),
        },
    };
    let text = |v: &Value| v.as_str().filter(|s| !s.is_empty()).map(str::to_string);
    let policy = text(&body["propagationPolicy"]).or_else(|| from_query("propagationPolicy"));
    let orphan = body["orphanDependents"]
        .as_bool()
        .or_else(|| query.has("orphanDependents").then(|| query.flag("orphanDependents")));
    let propagation = match (policy.as_deref(), orphan) {
        (Some("Background"), None) => Some(Propagation::Background),
        (Some("Foreground"), None) => Some(Propagation::Foreground),
        (Some("Orphan"), None) => Some(Propagation::Orphan),
        (None, Some(true)) => Some(Propagation::Orphan),
        (None, Some(false)) => Some(Propagation::Background),
        (None, None) => None,
        (Some(_), Some(_)) => {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            let error = FieldError::invalid("propagationPolicy", policy.unwrap_or_default(), why);
            return Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", &[error]));
        }
        (Some(other), None) => {
            let known = ["Foreground", "Background", "Orphan", "nil"];
            let error = FieldError::not_supported("propagationPolicy", other, &known);
            return Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", &[error]));
        }
    };
    let pre = &body["preconditions"];
    Ok(DeleteOptions {
        grace_period_seconds: grace,
        uid: text(&pre["uid"]),
        resource_version: text(&pre["resourceVersion"]),
        propagation,
    })
}
