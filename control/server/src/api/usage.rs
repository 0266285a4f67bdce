//! `metrics.k8s.io`: what nodes and pods use. Nothing of it is stored: each node measures itself and its pods, and is asked
//! when a client asks. What metrics-server does elsewhere is here a part of the API server.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use copepod_client::{Body, body};
use copepod_machine::View as _;
use copepod_model::selector::{FieldSelector, LabelSelector, ParseError};
use copepod_model::{ApiRequest, Object, Status, Time, Verb};
use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Limited};
use serde_json::{Value, json};

use super::negotiate::{Accepted, Shape};
use super::table::{self, Include};
use super::{Api, respond as answers};
use crate::now;

pub(super) use copepod_model::schema::openapi::{METRICS_GROUP as GROUP, METRICS_VERSION as VERSION};
/// How long a node may take; what it has is left out then.
const DEADLINE: Duration = Duration::from_secs(10);
/// Longest answer of a node in bytes.
const ANSWER: usize = 64 << 20;

/// Whether a request is for one of the group's resources.
pub(super) fn serves(request: &ApiRequest) -> bool {
    (request.group.as_str(), request.version.as_str()) == (GROUP, VERSION)
        && request.subresource.is_none()
        && match request.resource.as_str() {
            "nodes" => request.namespace.is_empty(),
            "pods" => request.name.is_empty() || !request.namespace.is_empty(),
            _ => false,
        }
}

/// Nobody can write what is measured, and nobody is told of changes.
pub(super) fn check_verb(request: &ApiRequest) -> Result<(), Status> {
    if serves(request) && !matches!(request.verb, Verb::Get | Verb::List) {
        return Err(Status::method_not_supported(&request.group_resource(), request.verb.as_str()));
    }
    Ok(())
}

/// What a request selects.
struct Wanted {
    name: Option<String>,
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Wanted {
    fn of(request: &ApiRequest) -> Result<Wanted, Status> {
        if request.verb == Verb::Get {
            let name = Some(request.name.clone());
            return Ok(Wanted { name, labels: LabelSelector::default(), fields: FieldSelector::default() });
        }
        copepod_registry::check_list_options(&request.list)?;
        let bad = |e: ParseError| Status::bad_request(e.to_string());
        let labels = LabelSelector::parse(&request.list.label_selector).map_err(bad)?;
        let fields = FieldSelector::parse(&request.list.field_selector).map_err(bad)?;
        let unknown = fields.fields().find(|f| !matches!(*f, "metadata.name" | "metadata.namespace"));
        match unknown {
            Some(field) => Err(Status::bad_request(format!("field label not supported: {field}"))),
            None => Ok(Wanted { name: None, labels, fields }),
        }
    }

    fn matches(&self, object: &Object) -> bool {
        self.name.as_deref().is_none_or(|n| n == object.name())
            && self.labels.matches(&object.meta.labels)
            && self.fields.matches(|field| match field {
                "metadata.name" => object.name().into(),
                "metadata.namespace" => object.namespace().into(),
                _ => String::new(),
            })
    }
}

impl Api {
    /// The object or list that a request is for.
    pub(super) async fn usage(&self, request: &ApiRequest) -> Result<Value, Status> {
        check_verb(request)?;
        let wanted = Wanted::of(request)?;
        let (pods, view) = (request.resource == "pods", self.store.snapshot());
        let (kind, one) = if pods { ("PodMetrics", "podmetrics") } else { ("NodeMetrics", "nodemetrics") };
        let mut path = format!("/apis/{GROUP}/{VERSION}");
        if !request.namespace.is_empty() {
            path.push_str(&format!("/namespaces/{}", request.namespace));
        }
        path.push_str(&format!("/{}", request.resource));
        // Whom it is to be asked of.
        let nodes: Vec<String> = if request.verb == Verb::Get {
            let found = view.get(&request.resource, &request.namespace, &request.name);
            let found = found.ok_or_else(|| Status::not_found(&request.resource, &request.name))?;
            // Names of objects need no encoding.
            path.push_str(&format!("?fieldSelector=metadata.name%3D{}", request.name));
            let node = if pods { found.meta.node_name.as_deref() } else { Some(found.name()) };
            node.map(String::from).into_iter().collect()
        } else if pods {
            view.list("nodes", None).map(|o| o.name().into()).collect()
        } else {
            view.list("nodes", None).filter(|o| wanted.matches(o)).map(|o| o.name().into()).collect()
        };
        let answers = join_all(nodes.iter().map(|node| self.measured_by(node, &path))).await;
        let (at, mut items) = (now(), BTreeMap::new());
        for (node, answer) in nodes.iter().zip(answers) {
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => {
                    tracing::debug!(node, %error, "the node does not tell what it uses");
                    continue;
                }
            };
            for mut item in answer {
                let of = |field: &str| item["metadata"][field].as_str().unwrap_or_default().to_string();
                let (namespace, name) = (of("namespace"), of("name"));
                let Some(object) = view.get(&request.resource, &namespace, &name) else { continue };
                // A node speaks for itself and for its own pods.
                let its_own =
                    if pods { object.meta.node_name.as_deref() == Some(node.as_str()) } else { name == *node };
                if its_own && wanted.matches(&object) {
                    item["metadata"] = metadata(&object, at);
                    items.insert((namespace, name), item);
                }
            }
        }
        let version = format!("{GROUP}/{VERSION}");
        if request.verb == Verb::List {
            let items: Vec<Value> = items.into_values().collect();
            return Ok(json!({
                "kind": format!("{kind}List"), "apiVersion": version, "metadata": {}, "items": items,
            }));
        }
        let Some((_, mut item)) = items.pop_first() else {
            let name = [request.namespace.as_str(), request.name.as_str()].into_iter().filter(|p| !p.is_empty());
            return Err(Status::not_found(&format!("{one}.{GROUP}"), &name.collect::<Vec<_>>().join("/")));
        };
        item["kind"] = kind.into();
        item["apiVersion"] = version.into();
        Ok(item)
    }

    /// The items that a node answers with.
    async fn measured_by(&self, node: &str, path: &str) -> Result<Vec<Value>, Status> {
        let node = self.node(node)?;
        let ask = async {
            let request = Request::get(path).body(body("")).map_err(Status::internal)?;
            let answer = node.request(request).await?;
            let code = answer.status();
            let bytes: Bytes =
                Limited::new(answer.into_body(), ANSWER).collect().await.map_err(Status::internal)?.to_bytes();
            if !code.is_success() {
                return Err(Status::from_json(code.as_u16(), &bytes));
            }
            let mut list: Value = serde_json::from_slice(&bytes).map_err(Status::internal)?;
            match list.get_mut("items").map(Value::take) {
                Some(Value::Array(items)) => Ok(items),
                _ => Err(Status::internal("the node's answer is no list")),
            }
        };
        tokio::time::timeout(DEADLINE, ask).await.unwrap_or_else(|_| Err(Status::timeout("the node does not answer")))
    }
}

/// The measured object's own name and labels; it is made now (metrics-server).
fn metadata(object: &Object, at: Time) -> Value {
    let mut out = json!({"name": object.name(), "creationTimestamp": at.rfc3339()});
    if !object.namespace().is_empty() {
        out["namespace"] = object.namespace().into();
    }
    if !object.meta.labels.is_empty() {
        out["labels"] = object.meta.labels.iter().map(|(k, v)| (k.to_string(), Value::from(&**v))).collect();
    }
    out
}

/// An object or list of the group in the shape that was asked for.
pub(super) fn respond(value: &Value, accepted: Accepted, include: Include) -> Result<Response<Body>, Status> {
    let list = value["items"].as_array();
    let items = || list.map_or_else(|| std::slice::from_ref(value), Vec::as_slice);
    let answer = match accepted.shape {
        Shape::Table(beta) => table::usages(items(), include, beta),
        Shape::Partial(beta) | Shape::Partials(beta) => match list {
            None => table::partial(value, beta),
            Some(items) => table::partials(items, json!({}), beta),
        },
        Shape::Object => return answers::encoded(200, value, accepted.encoding),
    };
    answers::encoded(200, &answer, accepted.encoding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::negotiate::Encoding;

    fn request(verb: Verb, resource: &str, namespace: &str, name: &str) -> ApiRequest {
        let mut request = ApiRequest::new(Default::default(), verb, GROUP, VERSION, resource);
        (request.namespace, request.name) = (namespace.into(), name.into());
        request
    }

    #[test]
    fn what_is_served() {
        for (resource, namespace, name, want) in [
            ("nodes", "", "", true),
            ("nodes", "", "n", true),
            ("nodes", "ns", "", false),
            ("pods", "", "", true),
            ("pods", "ns", "", true),
            ("pods", "ns", "p", true),
            ("pods", "", "p", false),
            ("services", "ns", "", false),
        ] {
            assert_eq!(serves(&request(Verb::Get, resource, namespace, name)), want, "{resource} {namespace}/{name}");
        }
        assert!(check_verb(&request(Verb::List, "pods", "", "")).is_ok());
        for verb in [Verb::Watch, Verb::Create, Verb::Delete, Verb::DeleteCollection] {
            assert_eq!(check_verb(&request(verb, "pods", "ns", "")).unwrap_err().code, 405, "{}", verb.as_str());
        }
        let other = ApiRequest::new(Default::default(), Verb::Create, "", "v1", "pods");
        assert!(check_verb(&other).is_ok());
    }

    #[test]
    fn selectors_are_checked() {
        let with = |labels: &str, fields: &str| {
            let mut request = request(Verb::List, "pods", "", "");
            (request.list.label_selector, request.list.field_selector) = (labels.into(), fields.into());
            Wanted::of(&request).err().map(|e| (e.code, e.message))
        };
        assert_eq!(with("a=b", "metadata.name=p,metadata.namespace!=x"), None);
        let phase = (400, "field label not supported: status.phase".to_string());
        assert_eq!(with("", "status.phase=Running"), Some(phase));
        assert_eq!(with("a in b", "").map(|(code, _)| code), Some(400));
    }

    #[tokio::test]
    async fn shapes() {
        let accepted = |shape, encoding| Accepted { shape, encoding };
        let pod = json!({"metadata": {"name": "p"}, "window": "15s", "containers": [
            {"name": "a", "usage": {"cpu": "250m", "memory": "1Mi"}},
            {"name": "b", "usage": {"cpu": "1500u", "memory": "512Ki"}}]});
        let list = json!({"kind": "PodMetricsList", "items": [pod]});
        let read = async |value: &Value, shape| {
            let answer = respond(value, accepted(shape, Encoding::Json), Include::Metadata).unwrap();
            let bytes = answer.into_body().collect().await.unwrap().to_bytes();
            serde_json::from_slice::<Value>(&bytes).unwrap()
        };
        let table = read(&list, Shape::Table(false)).await;
        assert_eq!(table["rows"][0]["cells"], json!(["p", "251500u", "1536Ki", "15s"]));
        let node = json!({"metadata": {"name": "n"}, "window": "1s", "usage": {"cpu": "1", "memory": "2"}});
        let table = read(&node, Shape::Table(false)).await;
        assert_eq!(table["rows"][0]["cells"], json!(["n", "1", "2", "1s"]));
        let partial = read(&list, Shape::Partials(false)).await;
        assert_eq!(
            (&partial["kind"], &partial["items"][0]["metadata"]["name"]),
            (&json!("PartialObjectMetadataList"), &json!("p"))
        );
        assert_eq!(read(&list, Shape::Object).await, list);
    }
}
