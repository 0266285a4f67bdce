//! `copepod push`: a file becomes an image of the cluster's own registry.

use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;
use copepod_client::Client;
use copepod_images::normalise;
use copepod_server::images::HOST;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Limited};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::Error;
use crate::connect::Connect;
use crate::say::say;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// How much is sent at once; a larger file goes in pieces.
const CHUNK: usize = 8 << 20;

/// Push a WebAssembly file to the cluster's own image registry.
///
/// Pods use it as `image: registry.cluster.local/NAME:TAG`. A NAME with a slash lies in the namespace before the first
/// slash, whose `edit` role may push it.
#[derive(Debug, Args)]
pub struct Push {
    #[command(flatten)]
    connect: Connect,
    /// The file: a component or a preview 1 module.
    file: PathBuf,
    /// NAME or NAME:TAG; the tag is `latest` if there is none.
    name: String,
}

impl Push {
    /// Pushes and says by which name the image is known.
    pub async fn run(self) -> Result<(), Error> {
        let (name, tag) = parse(&self.name)?;
        let wasm = std::fs::read(&self.file).map_err(|e| format!("{}: {e}", self.file.display()))?;
        let os = match wasm.get(..8) {
            Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => "wasip1",
            Some([0, b'a', b's', b'm', _, _, 1, 0]) => "wasip2",
            _ => return Err(format!("{}: not a WebAssembly module or component", self.file.display()).into()),
        };
        let (client, _) = self.connect.client()?;
        let wasm = Bytes::from(wasm);
        // Without a date, so that the same file is the same image.
        let config = json!({"architecture": "wasm", "os": os, "layerDigests": [digest(&wasm)]}).to_string();
        let config = blob(&client, &name, "application/vnd.wasm.config.v0+json", config.into()).await?;
        let layer = blob(&client, &name, "application/wasm", wasm).await?;
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        let manifest = Bytes::from(manifest.to_string());
        let of = digest(&manifest);
        send(&client, Method::PUT, &format!("/v2/{name}/manifests/{tag}"), &[("content-type", MANIFEST)], manifest)
            .await?;
        say(format!("{HOST}/{name}:{tag}@{of}\n"))
    }
}

/// Repository and tag.
fn parse(given: &str) -> Result<(String, String), Error> {
    let bare = given.strip_prefix(HOST).and_then(|r| r.strip_prefix('/')).unwrap_or(given);
    if bare.contains('@') {
        return Err(format!("{given:?}: a digest comes of the content; name a tag").into());
    }
    // As the node will read it.
    let known = normalise(&format!("{HOST}/{bare}")).ok_or_else(|| format!("invalid image name {given:?}"))?;
    let rest = known.strip_prefix(HOST).and_then(|r| r.strip_prefix('/')).unwrap_or(&known);
    let (name, tag) = rest.rsplit_once(':').ok_or_else(|| format!("invalid image name {given:?}"))?;
    Ok((name.into(), tag.into()))
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

/// Uploads a blob unless it is there: its descriptor.
async fn blob(client: &Client, name: &str, media_type: &str, bytes: Bytes) -> Result<Value, Error> {
    let digest = digest(&bytes);
    let descriptor = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
    let there = request(client, Method::HEAD, &format!("/v2/{name}/blobs/{digest}"), &[], Bytes::new()).await?;
    if there.status().is_success() {
        return Ok(descriptor);
    }
    let mut at = send(client, Method::POST, &format!("/v2/{name}/blobs/uploads/"), &[], Bytes::new()).await?;
    let mut sent = 0;
    while bytes.len() - sent > CHUNK {
        let range = format!("{sent}-{}", sent + CHUNK - 1);
        at = send(client, Method::PATCH, &at, &[("content-range", &range)], bytes.slice(sent..sent + CHUNK)).await?;
        sent += CHUNK;
    }
    send(client, Method::PUT, &format!("{at}?digest={digest}"), &[], bytes.slice(sent..)).await?;
    Ok(descriptor)
}

/// Sends what must succeed: the answer's `Location`.
async fn send(
    client: &Client,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Result<String, Error> {
    let answer = request(client, method, path, headers, body).await?;
    let status = answer.status();
    let location = answer.headers().get(header::LOCATION).and_then(|v| v.to_str().ok()).unwrap_or_default().to_string();
    if status.is_success() {
        return Ok(location);
    }
    let body = Limited::new(answer.into_body(), 64 << 10).collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    let value: Value = serde_json::from_slice(&body).unwrap_or_default();
    let one = &value["errors"][0];
    let why = match (one["message"].as_str(), one["code"].as_str()) {
        (Some(message), Some(code)) => format!("{message} ({code})"),
        _ => format!("{path}: {status}"),
    };
    Err(format!("Error from the registry: {why}").into())
}

async fn request(
    client: &Client,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Result<http::Response<copepod_client::Body>, Error> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    client.raw(request.body(body)?).await.map_err(crate::connect::refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (given, want) in [
            ("hello", Some(("hello", "latest"))),
            ("team/hello:1", Some(("team/hello", "1"))),
            ("registry.cluster.local/hello:v2", Some(("hello", "v2"))),
            ("Hello", None),
            ("", None),
            ("a:b:c", None),
            ("hello@sha256:00", None),
        ] {
            let got = parse(given).ok();
            assert_eq!(got.as_ref().map(|(n, t)| (n.as_str(), t.as_str())), want, "{given}");
        }
    }
}
