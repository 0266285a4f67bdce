//! `copepod describe`: an object for people to read, and the events about it. Kinds that are described often have a file
//! of their own; all others are shown as an outline.

mod node;
mod outline;
mod page;
mod pod;
mod service;
mod workload;

use clap::Args;
use copepod_client::{Client, escape};
use copepod_model::{Time, kinds};
use serde_json::Value;

use self::page::Page;
use super::Error;
use super::get::{fetch, items};
use crate::connect::{Connect, refused};
use crate::discovery::{Discovery, Resource};
use crate::say::say;

/// Show everything about an object, with its events.
#[derive(Debug, Args)]
pub struct Describe {
    /// Kinds, comma-separated, and names; or KIND/NAME…
    #[arg(required = true, value_name = "KIND [NAME…]")]
    what: Vec<String>,
    /// Of all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Label selector.
    #[arg(short = 'l', long, value_name = "SELECTOR", default_value = "")]
    selector: String,
    /// Without the events.
    #[arg(long)]
    no_events: bool,
    #[command(flatten)]
    connect: Connect,
}

impl Describe {
    /// Fetches and prints.
    pub async fn run(self) -> Result<(), Error> {
        let (client, namespace) = self.connect.client()?;
        let discovery = Discovery::of(&client).await.map_err(refused)?;
        let namespace = if self.all_namespaces { "" } else { namespace.as_str() };
        let (mut shown, mut errors) = (false, Vec::new());
        for (resource, name) in discovery.targets(&self.what)? {
            let mut path = resource.path(namespace, &name);
            if name.is_empty() && !self.selector.is_empty() {
                path.push_str(&format!("?labelSelector={}", escape(&self.selector)));
            }
            match fetch(&client, &path, "application/json").await {
                Ok(value) => {
                    for object in items(resource, value) {
                        let page = self.page(&client, resource, &object).await?;
                        say(format!("{}{page}", if shown { "\n\n" } else { "" }))?;
                        shown = true;
                    }
                }
                Err(e) => errors.push(refused(e).to_string()),
            }
        }
        if !errors.is_empty() {
            return Err(errors.join("\n").into());
        }
        if !shown {
            let place = if self.all_namespaces { String::new() } else { format!(" in {namespace} namespace.") };
            eprintln!("No resources found{place}");
        }
        Ok(())
    }

    async fn page(&self, client: &Client, resource: &Resource, object: &Value) -> Result<String, Error> {
        let get = async |path: String| fetch(client, &path, "application/json").await.map_err(refused);
        let meta = &object["metadata"];
        let text = |k: &str| meta[k].as_str().unwrap_or_default();
        let mut page = Page::default();
        match resource.group_resource().as_str() {
            "pods" => pod::describe(&mut page, object),
            "deployments.apps" | "replicasets.apps" => workload::describe(&mut page, object),
            "services" => {
                let selector = escape(&format!("kubernetes.io/service-name={}", text("name")));
                let namespace = text("namespace");
                let path =
                    format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?labelSelector={selector}");
                // Who may see the Service may not see its slices.
                let slices = get(path).await.unwrap_or_default();
                service::describe(&mut page, object, &slices);
            }
            "nodes" => {
                let on_it = escape(&format!("spec.nodeName={}", text("name")));
                let pods = get(format!("/api/v1/pods?fieldSelector={on_it}")).await.unwrap_or_default();
                node::describe(&mut page, object, &pods);
            }
            _ => outline::describe(&mut page, object),
        }
        if !self.no_events && object["kind"] != "Event" {
            let place = if resource.namespaced { text("namespace") } else { "default" };
            let about = escape(&format!("involvedObject.uid={}", text("uid")));
            // Events of nodes have the node's name as UID.
            let about =
                if object["kind"] == "Node" { escape(&format!("involvedObject.name={}", text("name"))) } else { about };
            let events = get(format!("/api/v1/namespaces/{place}/events?fieldSelector={about}")).await;
            page.events(&events.unwrap_or_default(), now());
        }
        Ok(page.to_string())
    }
}

fn now() -> Time {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Time(since.as_nanos() as u64)
}

/// The age of a timestamp.
fn age(timestamp: &Value, now: Time) -> String {
    kinds::since(timestamp, now).as_str().unwrap_or_default().to_string()
}
