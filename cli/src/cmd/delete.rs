//! `copepod delete`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use copepod_client::{Client, Reply, WatchEvent, escape};
use copepod_model::request::{DeleteOptions, Propagation};
use copepod_model::{ApiRequest, Status, Verb};
use futures_util::StreamExt as _;
use serde_json::Value;

use super::Error;
use super::get::fetch;
use crate::connect::{Connect, refused};
use crate::discovery::{Discovery, Resource};
use crate::manifest;
use crate::say::say;

/// Delete objects, by manifest or by kind and name.
#[derive(Debug, Args)]
pub struct Delete {
    /// KIND NAME…, or KIND/NAME…
    #[arg(required_unless_present = "file")]
    what: Vec<String>,
    /// Manifests: files, folders, or `-` for stdin.
    #[arg(short, long = "filename", value_name = "FILE", conflicts_with = "what")]
    file: Vec<PathBuf>,
    /// Those that the label selector selects.
    #[arg(short = 'l', long, value_name = "SELECTOR", default_value = "")]
    selector: String,
    /// All of the kind in the namespace.
    #[arg(long)]
    all: bool,
    /// Seconds that pods have to end; their own value by default.
    #[arg(long, value_name = "SECONDS")]
    grace_period: Option<i64>,
    /// Do not wait for the node to say that a pod has ended.
    #[arg(long)]
    force: bool,
    /// What happens to dependents.
    #[arg(long, value_enum, default_value = "background")]
    cascade: Cascade,
    /// Treat what does not exist as deleted.
    #[arg(long)]
    ignore_not_found: bool,
    /// Do not wait until the objects are gone.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    connect: Connect,
}

/// What happens to dependents.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Cascade {
    /// They are deleted afterwards.
    Background,
    /// They are deleted first.
    Foreground,
    /// They stay.
    Orphan,
}

struct Target {
    resource: Resource,
    namespace: String,
    name: String,
}

impl Delete {
    /// Deletes, and waits until everything is gone. An error does not keep the others from being deleted.
    pub async fn run(self) -> Result<(), Error> {
        let (client, namespace) = self.connect.client()?;
        let discovery = Discovery::of(&client).await.map_err(refused)?;
        let targets = self.targets(&client, &discovery, &namespace).await?;
        if targets.is_empty() {
            say("No resources found\n")?;
        }
        let (mut errors, mut going) = (Vec::new(), Vec::new());
        for t in targets {
            match client.call(t.request(&client, Verb::Delete, self.options())).await {
                Ok(reply) => {
                    let place =
                        if t.namespace.is_empty() { String::new() } else { format!(" from {} namespace", t.namespace) };
                    let how = if self.force { "force deleted" } else { "deleted" };
                    say(format!("{} \"{}\" {how}{place}\n", t.resource.label(), t.name))?;
                    if let Reply::Object(o) = reply {
                        going.push((t, o.meta.uid.clone()));
                    }
                }
                Err(e) if e.code == 404 && self.ignore_not_found => {}
                Err(e) => errors.push(refused(e).to_string()),
            }
        }
        if !self.no_wait {
            for (t, uid) in going {
                if let Err(e) = t.gone(&client, &uid).await {
                    errors.push(refused(e).to_string());
                }
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors.join("\n").into()) }
    }

    fn options(&self) -> DeleteOptions {
        let propagation = Some(match self.cascade {
            Cascade::Background => Propagation::Background,
            Cascade::Foreground => Propagation::Foreground,
            Cascade::Orphan => Propagation::Orphan,
        });
        let grace = self.grace_period.filter(|g| *g >= 0).or(self.force.then_some(0));
        DeleteOptions { grace_period_seconds: grace, propagation, ..DeleteOptions::default() }
    }

    async fn targets(&self, client: &Client, discovery: &Discovery, namespace: &str) -> Result<Vec<Target>, Error> {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
        let place = |r: &Resource, own: &str| if r.namespaced { own.to_string() } else { String::new() };
        if !self.file.is_empty() {
            let of = |object: Value| -> Result<Target, Error> {
                let resource = discovery.of_manifest(&text(&object["apiVersion"]), &text(&object["kind"]))?.clone();
                let own = object["metadata"]["namespace"].as_str().unwrap_or(namespace);
                Ok(Target { namespace: place(&resource, own), name: text(&object["metadata"]["name"]), resource })
            };
            return manifest::read(&self.file)?.into_iter().map(of).collect();
        }
        let mut out = Vec::new();
        for (resource, name) in discovery.targets(&self.what)? {
            let target = |name| Target { resource: resource.clone(), namespace: place(resource, namespace), name };
            if !name.is_empty() {
                out.push(target(name));
                continue;
            }
            if !self.all && self.selector.is_empty() {
                return Err("error: resource(s) were provided, but no name was specified".into());
            }
            let path = format!("{}?labelSelector={}", resource.path(namespace, ""), escape(&self.selector));
            let list = fetch(client, &path, "application/json").await.map_err(refused)?;
            out.extend(list["items"].as_array().into_iter().flatten().map(|o| target(text(&o["metadata"]["name"]))));
        }
        Ok(out)
    }
}

impl Target {
    fn request(&self, client: &Client, verb: Verb, delete: DeleteOptions) -> ApiRequest {
        let mut request = client.request(verb, &self.resource.group_resource(), &self.namespace, &self.name);
        request.version.clone_from(&self.resource.version);
        request.delete = delete;
        request
    }

    /// Waits until the object with this UID is gone.
    async fn gone(&self, client: &Client, uid: &str) -> Result<(), Status> {
        loop {
            let get = self.request(client, Verb::Get, DeleteOptions::default());
            let object = match client.call(get).await.and_then(Reply::object) {
                Err(e) if e.code == 404 => return Ok(()),
                found => found?,
            };
            if *object.meta.uid != *uid {
                return Ok(());
            }
            let mut watch = self.request(client, Verb::Watch, DeleteOptions::default());
            watch.list.field_selector = format!("metadata.name={}", self.name);
            watch.list.resource_version = Some(object.revision.to_string());
            watch.name = String::new();
            let mut events = client.follow(watch).await?;
            // Whatever else ends the watch, the object is asked for again.
            while let Some(event) = events.next().await {
                if matches!(event, WatchEvent::Deleted(_) | WatchEvent::Error(_)) {
                    break;
                }
            }
        }
    }
}
