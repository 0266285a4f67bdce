//! `copepod logs`.

use bytes::Bytes;
use clap::Args;
use copepod_client::{Client, escape};
use copepod_model::Status;
use copepod_model::selector::LabelSelector;
use http_body_util::BodyExt as _;
use serde_json::Value;

use super::Error;
use super::get::fetch;
use crate::connect::{Connect, refused};
use crate::discovery::Discovery;
use crate::say::say;

/// Print what a container wrote.
#[derive(Debug, Args)]
pub struct Logs {
    /// Pod, or KIND/NAME of something that has pods.
    pod: String,
    /// Container; by default the first, or the one that the pod's annotation names.
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Go on with what is written from now on.
    #[arg(short, long)]
    follow: bool,
    /// Of the container's previous run.
    #[arg(short, long)]
    previous: bool,
    /// Only the last lines.
    #[arg(long, value_name = "LINES")]
    tail: Option<u64>,
    /// Only what is younger than this many seconds.
    #[arg(long, value_name = "SECONDS")]
    since: Option<u64>,
    /// With the time of each line.
    #[arg(long)]
    timestamps: bool,
    #[command(flatten)]
    connect: Connect,
}

const DEFAULT: &str = "kubectl.kubernetes.io/default-container";

impl Logs {
    /// Streams the log to stdout.
    pub async fn run(self) -> Result<(), Error> {
        let (client, namespace) = self.connect.client()?;
        let pod = self.pod(&client, &namespace).await?;
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let container = self.container.clone().unwrap_or_else(|| default_container(&pod));
        let mut path = format!(
            "/api/v1/namespaces/{}/pods/{}/log?container={}",
            escape(&namespace),
            escape(name),
            escape(&container)
        );
        for (key, wanted) in [("follow", self.follow), ("previous", self.previous), ("timestamps", self.timestamps)] {
            if wanted {
                path.push_str(&format!("&{key}=true"));
            }
        }
        for (key, number) in [("tailLines", self.tail), ("sinceSeconds", self.since)] {
            if let Some(n) = number {
                path.push_str(&format!("&{key}={n}"));
            }
        }
        let answer = client.raw(http::Request::get(path).body(Bytes::new())?).await.map_err(refused)?;
        let code = answer.status();
        let mut body = answer.into_body();
        if !code.is_success() {
            let bytes = body.collect().await?.to_bytes();
            return Err(refused(Status::from_json(code.as_u16(), &bytes)));
        }
        while let Some(frame) = body.frame().await {
            if let Some(data) = frame?.data_ref() {
                say(data)?;
            }
        }
        Ok(())
    }

    /// The pod that is meant: itself, or the first that the named object selects.
    async fn pod(&self, client: &Client, namespace: &str) -> Result<Value, Error> {
        let (kind, name) = self.pod.split_once('/').unwrap_or(("pods", &self.pod));
        let discovery = Discovery::of(client).await.map_err(refused)?;
        let resource = discovery.find(kind)?;
        let object = fetch(client, &resource.path(namespace, name), "application/json").await.map_err(refused)?;
        if resource.plural == "pods" {
            return Ok(object);
        }
        let selector = &object["spec"]["selector"];
        // A Service's selector is a plain map.
        let pairs = || selector.as_object().into_iter().flatten().filter_map(|(k, v)| Some((k.as_str(), v.as_str()?)));
        let selector = match selector["matchLabels"].is_object() || selector["matchExpressions"].is_array() {
            true => LabelSelector::from_json(selector)?,
            false => LabelSelector::from_pairs(pairs()),
        };
        if selector.is_empty() {
            return Err(format!("error: cannot get the logs from {}: it selects no pods", self.pod).into());
        }
        let path = format!("/api/v1/namespaces/{namespace}/pods?labelSelector={}", escape(&selector.to_string()));
        let list = fetch(client, &path, "application/json").await.map_err(refused)?;
        let pods = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let pod = pods.first().ok_or_else(|| format!("error: no pods of {} found", self.pod))?;
        if pods.len() > 1 {
            eprintln!("Found {} pods, using pod/{}", pods.len(), pod["metadata"]["name"].as_str().unwrap_or_default());
        }
        Ok(pod.clone())
    }
}

/// The container that is meant when none is named.
fn default_container(pod: &Value) -> String {
    let containers = pod["spec"]["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names: Vec<&str> = containers.iter().filter_map(|c| c["name"].as_str()).collect();
    if let Some(named) = pod["metadata"]["annotations"][DEFAULT].as_str().filter(|n| names.contains(n)) {
        return named.to_string();
    }
    let first = names.first().copied().unwrap_or_default();
    if names.len() > 1 {
        eprintln!("Defaulted container \"{first}\" out of: {}", names.join(", "));
    }
    first.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_annotated_container_or_the_first() {
        let mut pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
        assert_eq!(default_container(&pod), "a");
        pod["metadata"]["annotations"][DEFAULT] = "b".into();
        assert_eq!(default_container(&pod), "b");
        pod["metadata"]["annotations"][DEFAULT] = "gone".into();
        assert_eq!(default_container(&pod), "a");
    }
}
