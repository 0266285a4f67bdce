//! `copepod get`: the server's own tables, or the objects.

mod table;

use bytes::{Bytes, BytesMut};
use clap::{Args, ValueEnum};
use copepod_client::{Client, escape};
use copepod_model::Status;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use self::table::Table;
use super::Error;
use crate::connect::{Connect, refused};
use crate::discovery::{self, Discovery, Resource};
use crate::say::say;

/// Show objects.
#[derive(Debug, Args)]
pub struct Get {
    /// Kinds, comma-separated (`pods,svc`, `all`), and names; or KIND/NAME…
    #[arg(required = true, value_name = "KIND [NAME…]")]
    what: Vec<String>,
    /// Of all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Label selector.
    #[arg(short = 'l', long, value_name = "SELECTOR", default_value = "")]
    selector: String,
    /// Field selector.
    #[arg(long, value_name = "SELECTOR", default_value = "")]
    field_selector: String,
    /// Form of the output.
    #[arg(short, long, value_enum)]
    output: Option<Output>,
    /// Go on with what changes.
    #[arg(short, long)]
    watch: bool,
    /// Without the line of headings.
    #[arg(long)]
    no_headers: bool,
    /// Treat what does not exist as nothing to show.
    #[arg(long)]
    ignore_not_found: bool,
    #[command(flatten)]
    connect: Connect,
}

/// Forms of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// A table with more columns.
    Wide,
    /// KIND/NAME, one a line.
    Name,
}

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const JSON: &str = "application/json";

impl Get {
    /// Fetches and prints.
    pub async fn run(self) -> Result<(), Error> {
        let (client, namespace) = self.connect.client()?;
        let discovery = Discovery::of(&client).await.map_err(refused)?;
        let targets = discovery.targets(&self.what)?;
        let namespace = if self.all_namespaces { "" } else { namespace.as_str() };
        if self.watch {
            let [(resource, name)] = targets.as_slice() else {
                return Err("error: you may only specify a single resource type".into());
            };
            return self.follow(&client, resource, namespace, name).await;
        }
        let mut errors = Vec::new();
        let mut answers: Vec<(&Resource, Value)> = Vec::new();
        for (resource, name) in &targets {
            match fetch(&client, &self.path(resource, namespace, name), self.accept()).await {
                Ok(value) => answers.push((resource, value)),
                Err(e) if e.code == 404 && self.ignore_not_found && !name.is_empty() => {}
                Err(e) => errors.push(refused(e).to_string()),
            }
        }
        let named = targets.iter().any(|(_, name)| !name.is_empty());
        if self.tables() {
            let shown = self.print_tables(answers, &targets)?;
            if !shown && errors.is_empty() && !named {
                let scoped = targets.iter().any(|(r, _)| r.namespaced) && !self.all_namespaces;
                let place = if scoped { format!(" in {namespace} namespace.") } else { String::new() };
                eprintln!("No resources found{place}");
            }
        } else {
            let objects = answers.into_iter().flat_map(|(r, v)| items(r, v)).collect();
            self.print_objects(objects, named)?;
        }
        if errors.is_empty() { Ok(()) } else { Err(errors.join("\n").into()) }
    }

    fn tables(&self) -> bool {
        matches!(self.output, None | Some(Output::Wide))
    }

    fn accept(&self) -> &'static str {
        if self.tables() { TABLE } else { JSON }
    }

    fn path(&self, resource: &Resource, namespace: &str, name: &str) -> String {
        let mut path = resource.path(namespace, name);
        let mut sign = '?';
        for (key, value) in [("labelSelector", &self.selector), ("fieldSelector", &self.field_selector)] {
            if name.is_empty() && !value.is_empty() {
                path.push_str(&format!("{sign}{key}={}", escape(value)));
                sign = '&';
            }
        }
        path
    }

    fn table(&self, resource: &Resource, prefix: bool) -> Table {
        let prefix = prefix.then(|| resource.label());
        let namespaces = self.all_namespaces && resource.namespaced;
        Table::new(self.output == Some(Output::Wide), namespaces, prefix, !self.no_headers)
    }

    /// One table for each kind; whether there was a row.
    fn print_tables(&self, answers: Vec<(&Resource, Value)>, targets: &[(&Resource, String)]) -> Result<bool, Error> {
        let several = targets.iter().any(|(r, _)| *r != targets[0].0);
        let mut shown = false;
        let mut rest = answers.into_iter().peekable();
        while let Some((resource, value)) = rest.next() {
            let mut tables = vec![value];
            while let Some((_, more)) = rest.next_if(|(r, _)| *r == resource) {
                tables.push(more);
            }
            let text = self.table(resource, several).lines(&tables);
            if !text.is_empty() {
                say(format!("{}{text}", if shown { "\n" } else { "" }))?;
                shown = true;
            }
        }
        Ok(shown)
    }

    fn print_objects(&self, objects: Vec<Value>, named: bool) -> Result<(), Error> {
        match self.output {
            Some(Output::Name) => say(objects.iter().map(|o| name_of(o) + "\n").collect::<String>()),
            Some(Output::Yaml) => say(yaml_serde::to_string(&whole(objects, named))?),
            _ => say(serde_json::to_string_pretty(&whole(objects, named))? + "\n"),
        }
    }

    /// Prints what is there, then each change as it comes, until interrupted. A watch that the server ends is taken up
    /// again from where it was.
    async fn follow(&self, client: &Client, resource: &Resource, namespace: &str, name: &str) -> Result<(), Error> {
        let first = fetch(client, &self.path(resource, namespace, name), self.accept()).await.map_err(refused)?;
        // A single object says its own revision; its table's is the same.
        let mut revision = first["metadata"]["resourceVersion"].as_str().unwrap_or("0").to_string();
        let mut table = self.table(resource, false);
        self.show(&mut table, resource, first)?;
        let mut path = self.path(resource, namespace, "");
        let mut add = |key: &str, value: &str| {
            let sign = if path.contains('?') { '&' } else { '?' };
            path.push_str(&format!("{sign}{key}={}", escape(value)));
        };
        if !name.is_empty() {
            add("fieldSelector", &format!("metadata.name={name}"));
        }
        add("watch", "true");
        loop {
            let from = format!("{path}&resourceVersion={revision}");
            let request = http::Request::get(from).header("accept", self.accept()).body(Bytes::new())?;
            let answer = client.raw(request).await.map_err(refused)?;
            let code = answer.status();
            let mut body = answer.into_body();
            if !code.is_success() {
                let bytes = body.collect().await?.to_bytes();
                return Err(refused(Status::from_json(code.as_u16(), &bytes)));
            }
            let mut buffer = BytesMut::new();
            while let Some(frame) = body.frame().await {
                let Ok(frame) = frame else { break };
                buffer.extend_from_slice(frame.data_ref().map_or(&[][..], |d| d));
                while let Some(end) = buffer.iter().position(|b| *b == b'\n') {
                    let event: Value = serde_json::from_slice(&buffer.split_to(end + 1))?;
                    let object = &event["object"];
                    match event["type"].as_str() {
                        Some("ERROR") => {
                            let code = object["code"].as_u64().unwrap_or(500) as u16;
                            return Err(refused(Status::from_json(code, object.to_string().as_bytes())));
                        }
                        Some("BOOKMARK") => {}
                        _ => self.show(&mut table, resource, object.clone())?,
                    }
                    let row = &object["rows"][0]["object"]["metadata"]["resourceVersion"];
                    if let Some(seen) = object["metadata"]["resourceVersion"].as_str().or(row.as_str()) {
                        revision = seen.to_string();
                    }
                }
            }
        }
    }

    fn show(&self, table: &mut Table, resource: &Resource, value: Value) -> Result<(), Error> {
        if self.tables() {
            return say(table.lines(&[value]));
        }
        items(resource, value).into_iter().try_for_each(|object| self.print_objects(vec![object], true))
    }
}

/// GETs a path as JSON.
pub async fn fetch(client: &Client, path: &str, accept: &str) -> Result<Value, Status> {
    let request = http::Request::get(path).header("accept", accept).body(Bytes::new()).map_err(Status::internal)?;
    discovery::json(client, request).await
}

/// The objects of an answer: of a list its items, with the kind that the list says for all of them.
pub fn items(resource: &Resource, value: Value) -> Vec<Value> {
    let Some(items) = value["items"].as_array() else { return vec![value] };
    items
        .iter()
        .map(|item| {
            let mut item = item.clone();
            item["kind"] = resource.kind.as_str().into();
            item["apiVersion"] = resource.api_version().into();
            item
        })
        .collect()
}

fn whole(mut objects: Vec<Value>, named: bool) -> Value {
    if named && objects.len() == 1 {
        return objects.remove(0);
    }
    json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": objects})
}

/// `pod/p`, `deployment.apps/d`.
pub fn name_of(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
    let group = object["apiVersion"].as_str().and_then(|v| v.split_once('/')).map(|(g, _)| format!(".{g}"));
    format!("{kind}{}/{}", group.unwrap_or_default(), object["metadata"]["name"].as_str().unwrap_or_default())
}
