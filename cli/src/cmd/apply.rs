//! `copepod apply`: makes objects be as manifests say, by the three-way merge that kubectl does. What was applied last is
//! kept in an annotation, the same one, so that both can be used on one object in turn.

mod three_way;

use std::path::PathBuf;

use clap::Args;
use copepod_client::{Client, Reply};
use copepod_model::request::{Body, FieldValidation, PatchType};
use copepod_model::schema::Schema;
use copepod_model::{ApiRequest, Object, Status, Verb};
use serde_json::Value;

use super::Error;
use crate::connect::{Connect, refused};
use crate::discovery::{Discovery, Resource};
use crate::manifest;
use crate::say::say;

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// kubectl's name for this way of writing, so that both own the same fields.
const MANAGER: &str = "kubectl-client-side-apply";

/// Create or change objects to be as manifests say.
#[derive(Debug, Args)]
pub struct Apply {
    /// Manifests: files, folders, or `-` for stdin.
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    file: Vec<PathBuf>,
    #[command(flatten)]
    connect: Connect,
}

impl Apply {
    /// Applies and says what became of each object. An error does not keep the others from being applied.
    pub async fn run(self) -> Result<(), Error> {
        let (client, namespace) = self.connect.client()?;
        let objects = manifest::read(&self.file)?;
        let discovery = Discovery::of(&client).await.map_err(refused)?;
        let mut errors = Vec::new();
        for object in objects {
            match one(&client, &discovery, object, &namespace).await {
                Ok(applied) => say(format!("{} {}\n", applied.name, applied.outcome))?,
                Err(e) => errors.push(e.to_string()),
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors.join("\n").into()) }
    }
}

/// What became of one object.
pub struct Applied {
    /// `deployment.apps/hello`.
    pub name: String,
    /// `created`, `configured` or `unchanged`.
    pub outcome: &'static str,
    /// GroupResource.
    pub resource: String,
    /// Namespace, empty for cluster scope.
    pub namespace: String,
    /// Its name alone.
    pub object_name: String,
}

/// Applies files in order. The first error ends it: what was applied before stays.
pub async fn files(client: &Client, files: &[PathBuf], namespace: &str) -> Result<Vec<Applied>, Error> {
    let objects = manifest::read(files)?;
    let discovery = Discovery::of(client).await.map_err(refused)?;
    let mut out = Vec::new();
    for object in objects {
        out.push(one(client, &discovery, object, namespace).await?);
    }
    Ok(out)
}

async fn one(client: &Client, discovery: &Discovery, mut object: Value, namespace: &str) -> Result<Applied, Error> {
    let text = |k: &str| object[k].as_str().unwrap_or_default();
    let resource = discovery.of_manifest(text("apiVersion"), text("kind"))?;
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_string();
    if name.is_empty() {
        return Err(match object["metadata"]["generateName"].as_str() {
            Some(prefix) => format!("error: from {prefix}: cannot use generate name with apply").into(),
            None => format!("error: a {} has no metadata.name", resource.kind).into(),
        });
    }
    let own = object["metadata"]["namespace"].as_str().unwrap_or(namespace);
    let namespace = if resource.namespaced { own.to_string() } else { String::new() };
    if resource.namespaced {
        object["metadata"]["namespace"] = namespace.as_str().into();
    }
    let label = format!("{}/{name}", resource.label());
    let target = Target { client, resource, namespace: &namespace, name: &name };
    let outcome = target.apply(remembered(object), &label).await.map_err(refused)?;
    let resource = resource.group_resource();
    Ok(Applied { name: label, outcome, resource, namespace, object_name: name })
}

/// The object with itself in the annotation.
fn remembered(mut object: Value) -> Value {
    if let Some(meta) = object["metadata"].as_object_mut() {
        // Generators write it, and it says nothing.
        meta.retain(|k, v| k != "creationTimestamp" || !v.is_null());
    }
    if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
        annotations.remove(LAST_APPLIED);
    }
    let mut last = object.clone();
    if !last["metadata"]["annotations"].is_object() {
        last["metadata"]["annotations"] = Value::Object(Default::default());
    }
    object["metadata"]["annotations"][LAST_APPLIED] = format!("{last}\n").into();
    object
}

struct Target<'a> {
    client: &'a Client,
    resource: &'a Resource,
    namespace: &'a str,
    name: &'a str,
}

impl Target<'_> {
    fn request(&self, verb: Verb, name: &str) -> ApiRequest {
        let mut request = self.client.request(verb, &self.resource.group_resource(), self.namespace, name);
        request.version.clone_from(&self.resource.version);
        request.field_manager = MANAGER.into();
        request.field_validation = FieldValidation::Strict;
        request
    }

    async fn apply(&self, object: Value, label: &str) -> Result<&'static str, Status> {
        let live = match self.client.call(self.request(Verb::Get, self.name)).await.and_then(Reply::object) {
            Ok(live) => live,
            Err(e) if e.code == 404 => {
                let mut request = self.request(Verb::Create, "");
                request.body = Body::Object(object);
                self.client.call(request).await?;
                return Ok("created");
            }
            Err(e) => return Err(e),
        };
        let (kind, patch) = patch(&live, &object, label);
        if patch.as_object().is_none_or(|p| p.is_empty()) {
            return Ok("unchanged");
        }
        let mut request = self.request(Verb::Patch, self.name);
        request.body = Body::Patch(kind, patch);
        let after = self.client.call(request).await.and_then(Reply::object)?;
        Ok(if after.revision == live.revision { "unchanged" } else { "configured" })
    }
}

/// The patch from the live object to the manifest. Kinds without a schema here merge as plain JSON, and so do those that upstream
/// has by definitions.
fn patch(live: &Object, object: &Value, label: &str) -> (PatchType, Value) {
    let last = live.meta.annotations.get(LAST_APPLIED).and_then(|text| serde_json::from_str(text).ok());
    if last.is_none() {
        eprintln!(
            "Warning: resource {label} is missing the {LAST_APPLIED} annotation which is required by apply. It will be \
             patched automatically."
        );
    }
    let text = |k: &str| object[k].as_str().unwrap_or_default();
    let schema = Schema::builtin();
    let ty = schema.lookup(text("apiVersion"), text("kind")).filter(|ty| schema.get(*ty).openapi.is_none());
    let kind = if ty.is_some() { PatchType::Strategic } else { PatchType::Merge };
    (kind, three_way::patch(schema, ty, &last.unwrap_or_default(), &live.value(), object))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_applied_is_remembered_without_itself() {
        let once = remembered(json!({"kind": "ConfigMap", "metadata": {"name": "a", "creationTimestamp": null}}));
        let text = once["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap();
        let last: Value = serde_json::from_str(text).unwrap();
        assert_eq!(last, json!({"kind": "ConfigMap", "metadata": {"name": "a", "annotations": {}}}));
        assert_eq!(remembered(once.clone())["metadata"]["annotations"][LAST_APPLIED], text);
    }
}
