//! Which resources a server has, by any name a person may give them.

use bytes::Bytes;
use copepod_client::Client;
use copepod_model::Status;
use http_body_util::BodyExt as _;
use serde_json::Value;

/// Aggregated discovery's media type, with plain JSON as what older servers send.
const ACCEPT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

/// A resource as discovery describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// API group, empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural name.
    pub plural: String,
    /// Kind.
    pub kind: String,
    /// Whether it lives in a namespace.
    pub namespaced: bool,
    names: Vec<String>,
    categories: Vec<String>,
    listable: bool,
}

impl Resource {
    /// `deployments.apps`.
    pub fn group_resource(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }
    /// `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }
    /// `deployment.apps`, `pod`: how messages and names call it.
    pub fn label(&self) -> String {
        let kind = self.kind.to_lowercase();
        if self.group.is_empty() { kind } else { format!("{kind}.{}", self.group) }
    }
    /// The path of the collection, or of one object.
    pub fn path(&self, namespace: &str, name: &str) -> String {
        let mut out = if self.group.is_empty() { "/api/".to_string() } else { format!("/apis/{}/", self.group) };
        out.push_str(&self.version);
        if self.namespaced && !namespace.is_empty() {
            out.push_str(&format!("/namespaces/{namespace}"));
        }
        out.push_str(&format!("/{}", self.plural));
        if !name.is_empty() {
            out.push_str(&format!("/{name}"));
        }
        out
    }
}

/// All resources of a server.
pub struct Discovery(Vec<Resource>);

impl Discovery {
    /// Asks the server.
    pub async fn of(client: &Client) -> Result<Discovery, Status> {
        let mut all = Vec::new();
        for path in ["/api", "/apis"] {
            let request =
                http::Request::get(path).header("accept", ACCEPT).body(Bytes::new()).map_err(Status::internal)?;
            let document = json(client, request).await?;
            for group in document["items"].as_array().into_iter().flatten() {
                for version in group["versions"].as_array().into_iter().flatten() {
                    for r in version["resources"].as_array().into_iter().flatten() {
                        all.push(resource(&group["metadata"]["name"], &version["version"], r));
                    }
                }
            }
        }
        Ok(Discovery(all))
    }

    /// By plural, singular, short name or kind, optionally with `.group`; in upstream's words when there is none.
    pub fn find(&self, name: &str) -> Result<&Resource, String> {
        let lower = name.to_lowercase();
        let (plain, group) = lower.split_once('.').map_or((lower.as_str(), None), |(p, g)| (p, Some(g)));
        let found = self.0.iter().find(|r| r.names.iter().any(|n| n == plain) && group.is_none_or(|g| r.group == g));
        found.ok_or_else(|| format!("error: the server doesn't have a resource type \"{name}\""))
    }

    /// By what a manifest says.
    pub fn of_manifest(&self, api_version: &str, kind: &str) -> Result<&Resource, String> {
        self.0
            .iter()
            .find(|r| r.kind == kind && r.api_version() == api_version)
            .ok_or_else(|| format!("error: no matches for kind \"{kind}\" in version \"{api_version}\""))
    }

    /// What a command line's words mean: `KIND[,KIND…] [NAME…]` or `KIND/NAME…`, as resources with a name each; the name is
    /// empty where all objects of the kind are meant.
    pub fn targets(&self, words: &[String]) -> Result<Vec<(&Resource, String)>, String> {
        let mut out = Vec::new();
        if words.iter().any(|w| w.contains('/')) {
            for word in words {
                let Some((kind, name)) = word.split_once('/').filter(|(k, n)| !k.is_empty() && !n.is_empty()) else {
                    return Err(format!(
                        "error: there is no need to specify a resource type as a separate argument when \
                        passing arguments in resource/name form (e.g. 'get resource/name' instead of 'get resource \
                        resource/name'): {word:?}"
                    ));
                };
                out.push((self.find(kind)?, name.to_string()));
            }
            return Ok(out);
        }
        let (kinds, names) = words.split_first().ok_or("error: you must specify the type of resource")?;
        for resource in self.expand(kinds)? {
            if names.is_empty() {
                out.push((resource, String::new()));
            }
            out.extend(names.iter().map(|n| (resource, n.clone())));
        }
        Ok(out)
    }

    /// The resources that a comma-separated list of names and categories means.
    pub fn expand(&self, list: &str) -> Result<Vec<&Resource>, String> {
        let mut out = Vec::new();
        for name in list.split(',').filter(|n| !n.is_empty()) {
            let mut category: Vec<&Resource> =
                self.0.iter().filter(|r| r.listable && r.categories.iter().any(|c| c == name)).collect();
            // Of a kind in several versions the first is the one that the server prefers.
            category.dedup_by(|b, a| (&a.group, &a.plural) == (&b.group, &b.plural));
            if category.is_empty() {
                out.push(self.find(name)?);
            } else {
                out.extend(category);
            }
        }
        Ok(out)
    }
}

fn resource(group: &Value, version: &Value, r: &Value) -> Resource {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
    let list = |v: &Value| v.as_array().into_iter().flatten().map(text).collect::<Vec<_>>();
    let (plural, kind) = (text(&r["resource"]), text(&r["responseKind"]["kind"]));
    let mut names = vec![plural.clone(), text(&r["singularResource"]), kind.to_lowercase()];
    names.extend(list(&r["shortNames"]));
    Resource {
        group: text(group),
        version: text(version),
        plural,
        kind,
        namespaced: r["scope"] == "Namespaced",
        names,
        categories: list(&r["categories"]),
        listable: list(&r["verbs"]).iter().any(|v| v == "list"),
    }
}

/// Sends a request and decodes the JSON that comes back; an error answer is its `Status`.
pub async fn json(client: &Client, request: http::Request<Bytes>) -> Result<Value, Status> {
    let answer = client.raw(request).await?;
    let code = answer.status();
    let body = answer.into_body().collect().await.map_err(Status::internal)?.to_bytes();
    if !code.is_success() {
        return Err(Status::from_json(code.as_u16(), &body));
    }
    serde_json::from_slice(&body).map_err(Status::internal)
}
