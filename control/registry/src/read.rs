//! Reading: one object, and pages of a collection.

use std::cell::OnceCell;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use copepod_machine::View;
use copepod_model::kinds::{Kind, Version};
use copepod_model::request::ListOptions;
use copepod_model::selector::{FieldSelector, LabelSelector};
use copepod_model::{ApiRequest, FieldError, Object, Status};
use serde::{Deserialize, Serialize};

use crate::Registry;
use crate::call::resolve;

/// A page of a collection.
#[derive(Debug)]
pub struct Page {
    /// The objects, as stored.
    pub items: Vec<Arc<Object>>,
    /// The revision that the page, and those after it, show.
    pub revision: u64,
    /// The token of the next page, empty on the last.
    pub continue_token: String,
    /// How many objects come after this page, when that is known without matching selectors.
    pub remaining: Option<u64>,
}

/// Kubernetes' continue token, base64 of this JSON.
#[derive(Serialize, Deserialize)]
struct Token {
    v: String,
    rv: i64,
    start: String,
    /// How many objects come behind the place, where that is known: so that it is counted once for all pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left: Option<u64>,
}

const TOKEN: &str = "meta.k8s.io/v1";

fn parse_token(text: &str) -> Result<(u64, String, Option<u64>), Status> {
    let bad = |why: &dyn std::fmt::Display| Status::bad_request(format!("continue key is not valid: {why}"));
    // Clients may send back either alphabet, padded or not.
    let clean: String = text.trim_end_matches('=').replace('+', "-").replace('/', "_");
    let bytes = URL_SAFE_NO_PAD.decode(clean).map_err(|e| bad(&e))?;
    let token: Token = serde_json::from_slice(&bytes).map_err(|e| bad(&e))?;
    if token.v != TOKEN {
        return Err(bad(&format_args!("server does not recognize this encoded version {:?}", token.v)));
    }
    let revision = u64::try_from(token.rv).map_err(|_| bad(&"incorrect encoded start resourceVersion"))?;
    let start = token.start.strip_suffix('\0').ok_or_else(|| bad(&"incorrect encoded start key"))?;
    Ok((revision, start.to_string(), token.left))
}

/// The revision whose snapshot a continue token goes on with.
pub fn continue_revision(token: &str) -> Result<u64, Status> {
    parse_token(token).map(|(revision, ..)| revision)
}

pub(crate) fn get(registry: &Registry, view: &dyn View, req: &ApiRequest) -> Result<Arc<Object>, Status> {
    let (kind, _) = resolve(registry, req)?;
    let found = view.get(&kind.group_resource(), &req.namespace, &req.name);
    found.ok_or_else(|| Status::not_found(&req.group_resource(), &req.name))
}

pub(crate) fn list(registry: &Registry, view: &dyn View, req: &ApiRequest) -> Result<Page, Status> {
    let (kind, _) = resolve(registry, req)?;
    let options = &req.list;
    check_options(options, false)?;
    let selectors = Selectors::of(&kind, req)?;
    let resource = kind.group_resource();
    let namespace = (!req.namespace.is_empty()).then_some(&*req.namespace);
    let page = |items, continue_token, remaining| Page { items, revision: view.revision(), continue_token, remaining };
    if let Some(name) = selectors.name()
        && (namespace.is_some() || !kind.namespaced)
    {
        let one = view.get(&resource, &req.namespace, name).filter(|o| selectors.matches(o));
        return Ok(page(one.into_iter().collect(), String::new(), None));
    }
    // A namespaced collection of all namespaces goes on after "namespace/name", others after "name".
    let (start, left) = match &*options.continue_token {
        "" => (None, None),
        token => {
            let (_, start, left) = parse_token(token)?;
            (Some(start), left)
        }
    };
    let after = start.as_deref().map(|start| match namespace {
        None if kind.namespaced => start.split_once('/').unwrap_or((start, "")),
        Some(namespace) => (namespace, start),
        None => ("", start),
    });
    let mut rest: Box<dyn Iterator<Item = Arc<Object>> + '_> = match (selectors.node(), after) {
        // Each page begins at the first one of the node: they are few of all.
        (Some(node), after) => {
            let of_node = view.on_node(&resource, node, namespace);
            Box::new(of_node.skip_while(move |o| after.is_some_and(|after| (o.namespace(), o.name()) <= after)))
        }
        (None, Some(after)) => view.list_after(&resource, namespace, after),
        (None, None) => view.list(&resource, namespace),
    };
    if options.limit == 0 {
        let items = if selectors.is_empty() { rest.collect() } else { rest.filter(|o| selectors.matches(o)).collect() };
        return Ok(page(items, String::new(), None));
    }
    let mut items: Vec<Arc<Object>> = Vec::new();
    while let Some(object) = rest.next() {
        if !selectors.matches(&object) {
            continue;
        }
        if items.len() == options.limit {
            let behind = |all: u64| all.saturating_sub(items.len() as u64).max(1);
            let remaining = selectors.is_empty().then(|| match left {
                Some(left) => behind(left),
                None if after.is_none() => behind(view.count(&resource, namespace) as u64),
                None => 1 + rest.count() as u64,
            });
            let token = items.last().map(|last| token(&kind, namespace, last, view.revision(), remaining));
            return Ok(page(items, token.unwrap_or_default(), remaining));
        }
        items.push(object);
    }
    Ok(page(items, String::new(), None))
}

fn token(kind: &Kind, namespace: Option<&str>, last: &Object, revision: u64, left: Option<u64>) -> String {
    let start = match namespace {
        None if kind.namespaced => format!("{}/{}\0", last.namespace(), last.name()),
        _ => format!("{}\0", last.name()),
    };
    let token = Token { v: TOKEN.into(), rv: i64::try_from(revision).unwrap_or(i64::MAX), start, left };
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
}

/// Whether the options of a list go together; the error is a 422 or 400.
pub fn check_list_options(options: &ListOptions) -> Result<(), Status> {
    check_options(options, false)
}

/// Upstream's rules on which options go together.
pub(crate) fn check_options(options: &ListOptions, watch: bool) -> Result<(), Status> {
    let given = options.resource_version_match.as_deref().filter(|m| !m.is_empty());
    let version = options.resource_version.as_deref().unwrap_or_default();
    let mut errors = Vec::new();
    let mut forbid = |field: &str, why: &str| errors.push(FieldError::forbidden(field, why));
    if watch {
        let initial = options.send_initial_events.is_some();
        if given.is_some() && !initial {
            let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            forbid("resourceVersionMatch", why);
        } else if initial && given != Some("NotOlderThan") {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            forbid("resourceVersionMatch", why);
        }
    } else {
        if options.send_initial_events.is_some() {
            forbid("sendInitialEvents", "sendInitialEvents is forbidden for list");
        }
        match given {
            Some(_) if version.is_empty() => {
                forbid("resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided");
            }
            Some(_) if !options.continue_token.is_empty() => {
                forbid("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided");
            }
            Some("Exact") if version == "0" => {
                forbid("resourceVersionMatch", "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
            }
            Some("Exact" | "NotOlderThan") | None => {}
            Some(other) => {
                errors.push(FieldError::not_supported("resourceVersionMatch", other, &["Exact", "NotOlderThan", ""]))
            }
        }
    }
    if !errors.is_empty() {
        return Err(Status::invalid("meta.k8s.io", "ListOptions", "", &errors));
    }
    if !options.continue_token.is_empty() && !matches!(version, "" | "0") {
        return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
    }
    Ok(())
}

/// What of a collection a request means.
pub(crate) struct Selectors {
    kind: Arc<Kind>,
    /// The version whose names of fields the client uses, if it is not the stored one.
    version: Option<&'static Version>,
    name: Option<String>,
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Selectors {
    pub(crate) fn of(kind: &Arc<Kind>, req: &ApiRequest) -> Result<Selectors, Status> {
        let bad = |e: copepod_model::selector::ParseError| Status::bad_request(e.to_string());
        let labels = LabelSelector::parse(&req.list.label_selector).map_err(bad)?;
        let fields = FieldSelector::parse(&req.list.field_selector).map_err(bad)?;
        let version = kind.other_version(&req.group, &req.version);
        for field in fields.fields() {
            let known = matches!(field, "metadata.name" | "metadata.namespace");
            if !known && kind.selectable(version, field).is_none() {
                return Err(Status::bad_request(if kind.strategy.selectable_fields().is_empty() {
                    format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
                } else {
                    format!("field label not supported: {field}")
                }));
            }
        }
        let name =
            Some(&*req.name).filter(|n| !n.is_empty()).or_else(|| fields.exact("metadata.name")).map(String::from);
        Ok(Selectors { kind: kind.clone(), version, name, labels, fields })
    }

    /// The one name that can match, if there is one.
    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The node that all that match are on, if they must be on one.
    pub(crate) fn node(&self) -> Option<&str> {
        self.fields.exact("spec.nodeName").filter(|node| !node.is_empty())
    }

    /// Whether everything matches.
    pub(crate) fn is_empty(&self) -> bool {
        self.name.is_none() && self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether an object matches. Its body is decoded only for fields that its metadata does not have.
    pub(crate) fn matches(&self, object: &Object) -> bool {
        let body = OnceCell::new();
        self.name.as_deref().is_none_or(|n| n == object.name())
            && self.labels.matches(&object.meta.labels)
            && self.fields.matches(|field| match field {
                "metadata.name" => object.name().to_string(),
                "metadata.namespace" => object.namespace().to_string(),
                "spec.nodeName" => object.meta.node_name.as_deref().unwrap_or_default().to_string(),
                _ => {
                    let stored = self.kind.selectable(self.version, field).unwrap_or(field);
                    self.kind.strategy.field(body.get_or_init(|| object.value()), stored)
                }
            })
    }
}
