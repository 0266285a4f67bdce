//! Asking a registry by the OCI distribution protocol: manifests and blobs, from whichever endpoint answers, as whoever
//! may have them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_RANGE, RANGE, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, StatusCode};
use oci_client::Reference;
use sha2::{Digest, Sha256};

use crate::auth::{Challenge, Known, TokenAnswer, basic};
use crate::blobs::{Blobs, Draft, Sink, hex, wasm};
use crate::error::words;
use crate::flight::Flights;
use crate::manifest::{self, Descriptor, MANIFEST_TYPES, Next, Platform};
use crate::registries::{Credential, Endpoint, Registries};
use crate::transport::{Answer, Clients, Fault, Origin, header, send_to};
use crate::{Config, Meter, PullError, blocking};

/// The greatest size of an image's config, of a manifest, and of a token server's answer, in bytes.
const MAX_CONFIG: u64 = 4 << 20;
const MAX_MANIFEST: usize = 4 << 20;
const MAX_TOKEN: usize = 1 << 20;
/// How often a broken download is taken up again where it broke.
const RESUMES: u32 = 4;
/// How long it waits before, times how often it broke.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a Basic header is used before the registry is asked anew what it wants.
const BASIC_LIFE: Duration = Duration::from_secs(3600);

pub(crate) struct Registry {
    clients: Clients,
    known: Known,
    registries: Registries,
    cluster: Option<(String, Arc<dyn Origin>)>,
    max_layer: u64,
    /// Downloads under way, by digest: of the layer, or of the manifest of an image with several.
    downloads: Flights<String, Result<(String, u64), PullError>>,
}

/// Where an image is fetched from, and as whom.
#[derive(Clone)]
pub(crate) struct Place {
    /// `None` is the cluster's own registry.
    endpoint: Option<Endpoint>,
    credential: Option<Credential>,
    repository: String,
}

/// What a reference stands for at the moment.
#[derive(Clone)]
pub(crate) struct Found {
    /// Digest of the manifest that the registry gave first, be it an index.
    pub digest: String,
    /// `None`: the manifest is the one that is known already.
    next: Option<Next>,
    place: Place,
    /// Whether the registry wanted to know who asks.
    authorized: bool,
}

impl Found {
    /// The module's digest, where the manifest tells.
    pub(crate) fn wasm_digest(&self) -> Option<&str> {
        if let Some(Next::Wasm(d)) = &self.next { Some(&d.digest) } else { None }
    }

    /// The pod's credential without which the registry would not have given it; `None` if anyone on this node may have it.
    pub(crate) fn needed(&self, given: &[Credential]) -> Option<&Credential> {
        self.place.credential.as_ref().filter(|c| self.authorized && given.contains(c))
    }
}

impl Registry {
    pub(crate) fn new(config: &Config) -> Registry {
        Registry {
            clients: Clients::new(config),
            known: Known::default(),
            registries: config.registries.clone(),
            cluster: config.cluster.as_ref().map(|c| (c.host.clone(), c.origin.clone())),
            max_layer: config.max_layer,
            downloads: Flights::default(),
        }
    }

    /// Where to ask, in order, as whom.
    fn places(&self, reference: &Reference, credentials: &[Credential]) -> Vec<Place> {
        let repository = reference.repository().to_string();
        if self.cluster.as_ref().is_some_and(|(host, _)| host == reference.registry()) {
            return vec![Place { endpoint: None, credential: None, repository }];
        }
        let mut out = Vec::new();
        for endpoint in self.registries.endpoints(reference.registry()) {
            let place =
                |credential| Place { endpoint: Some(endpoint.clone()), credential, repository: repository.clone() };
            // A pod's credentials are for the registry that it names, not for whoever mirrors it.
            if endpoint.own && !credentials.is_empty() {
                out.extend(credentials.iter().cloned().map(|c| place(Some(c))));
            } else {
                out.push(place(self.registries.credential(&endpoint.host)));
            }
        }
        out
    }

    /// Reads the manifest of a reference, through an index if it is one. If it is still `known`, nothing is read.
    pub(crate) async fn resolve(
        &self,
        image: &str,
        reference: &Reference,
        credentials: &[Credential],
        known: Option<&str>,
    ) -> Result<Found, PullError> {
        let mut last = None;
        let mut down: Option<String> = None;
        for place in self.places(reference, credentials) {
            let host = place.endpoint.as_ref().map(|e| e.host.clone());
            if down.is_some() && down == host {
                continue;
            }
            match self.resolve_at(image, reference, &place, known).await {
                Ok(found) => return Ok(found),
                // What the manifest says will not be different elsewhere.
                Err(Attempt::Final(error)) => return Err(error),
                Err(Attempt::Fault(fault)) => {
                    tracing::debug!(image, ?host, ?fault, "an endpoint does not give the image");
                    if matches!(fault, Fault::Unavailable(_)) {
                        down = host;
                    }
                    last = Some(fault);
                }
            }
        }
        Err(last.map_or_else(|| PullError::pull(image, "no endpoint".into()), |f| f.into_error(image)))
    }

    async fn resolve_at(
        &self,
        image: &str,
        reference: &Reference,
        place: &Place,
        known: Option<&str>,
    ) -> Result<Found, Attempt> {
        let name = reference.digest().or(reference.tag()).unwrap_or("latest");
        if let Some(known) = known
            && let Some(authorized) = self.unchanged(place, name, known).await?
        {
            return Ok(Found { digest: known.into(), next: None, place: place.clone(), authorized });
        }
        let unreadable = |why| Attempt::Final(PullError::pull(image, why));
        let (digest, bytes, authorized) = self.manifest(place, name).await?;
        let mut next = manifest::read(&bytes).map_err(unreadable)?;
        if let Next::Follow(inner) = &next {
            let (_, bytes, _) = self.manifest(place, inner).await?;
            next = manifest::read(&bytes).map_err(unreadable)?;
            if matches!(next, Next::Follow(_)) {
                return Err(unreadable("the index leads to another index".into()));
            }
        }
        Ok(Found { digest, next: Some(next), place: place.clone(), authorized })
    }

    /// Whether a name still stands for a manifest, and then whether one must be somebody to know. Costs the registry a HEAD,
    /// which most do not count as a pull.
    async fn unchanged(&self, place: &Place, name: &str, known: &str) -> Result<Option<bool>, Fault> {
        let path = format!("/v2/{}/manifests/{name}", place.repository);
        match self.ask(place, Method::HEAD, &path, header(ACCEPT, &MANIFEST_TYPES.join(", "))).await {
            Ok(answer) => {
                let same = answer.header("docker-content-digest") == Some(known);
                Ok(same.then_some(answer.authorized))
            }
            Err(fault @ Fault::Unavailable(_)) => Err(fault),
            // An answer to HEAD has no words: let GET ask again.
            Err(_) => Ok(None),
        }
    }

    async fn manifest(&self, place: &Place, name: &str) -> Result<(String, bytes::Bytes, bool), Fault> {
        let path = format!("/v2/{}/manifests/{name}", place.repository);
        let answer = self.ask(place, Method::GET, &path, header(ACCEPT, &MANIFEST_TYPES.join(", "))).await?;
        let authorized = answer.authorized;
        let said = answer.header("docker-content-digest").map(String::from);
        let bytes = answer.whole(MAX_MANIFEST).await?;
        let digest = hex(Sha256::new_with_prefix(&bytes));
        let wanted =
            if name.contains(':') { Some(name.to_string()) } else { said.filter(|d| d.starts_with("sha256:")) };
        match wanted {
            Some(wanted) if wanted != digest => {
                Err(Fault::Refused(format!("digest mismatch: manifest {wanted} arrived as {digest}")))
            }
            _ => Ok((digest, bytes, authorized)),
        }
    }

    /// Downloads the module into the store, unless the same is under way: its digest and size.
    pub(crate) async fn fetch(
        self: &Arc<Self>,
        image: &str,
        found: &Found,
        blobs: &Arc<Blobs>,
        meter: &Meter,
    ) -> Result<(String, u64), PullError> {
        let key = found.wasm_digest().unwrap_or(&found.digest).to_string();
        let (this, name, found, blobs) = (self.clone(), image.to_string(), found.clone(), blobs.clone());
        let meter = meter.clone();
        let work = async move { this.download(&name, &found, &blobs, &meter).await };
        let lost = || Err(PullError::pull(image, "the download was aborted".into()));
        self.downloads.run(key, work).await.unwrap_or_else(lost)
    }

    async fn download(
        &self,
        image: &str,
        found: &Found,
        blobs: &Arc<Blobs>,
        meter: &Meter,
    ) -> Result<(String, u64), PullError> {
        let store = |e: std::io::Error| PullError::store(image, &e);
        let place = &found.place;
        let (config, layers, marked) = match &found.next {
            None | Some(Next::Follow(_)) => return Err(PullError::pull(image, "the image has no manifest".into())),
            Some(Next::Wasm(layer)) => {
                if let Some(size) = blobs.size(&layer.digest) {
                    return Ok((layer.digest.clone(), size));
                }
                blobs.path(&layer.digest).map_err(|e| PullError::pull(image, e.to_string()))?;
                meter.expect(layer.size);
                let (draft, sink) = self.blob(image, place, layer, self.max_layer, blobs, meter).await?;
                wasm(sink.head()).map_err(|e| PullError::pull(image, format!("layer {}: {e}", layer.digest)))?;
                let (kept, digest) = (blobs.clone(), layer.digest.clone());
                blocking(move || kept.keep(draft, &digest)).await.map_err(store)?;
                return Ok((layer.digest.clone(), sink.size()));
            }
            Some(Next::Image { config, layers, marked }) => (config, layers, *marked),
        };
        meter.expect(layers.iter().fold(config.size, |sum, layer| sum.saturating_add(layer.size)));
        let (draft, _) = self.blob(image, place, config, MAX_CONFIG, blobs, meter).await?;
        let bytes = std::fs::read(draft.path()).map_err(store)?;
        let platform: Platform = serde_json::from_slice(&bytes)
            .map_err(|e| PullError::pull(image, format!("the image's config cannot be read: {e}")))?;
        if !marked && !platform.is_wasm() {
            return Err(PullError::pull(image, manifest::wrong_platform(&[platform])));
        }
        let mut drafts = Vec::new();
        for layer in layers {
            drafts.push(self.blob(image, place, layer, self.max_layer, blobs, meter).await?.0);
        }
        let paths: Vec<_> = drafts.iter().map(|d| d.path().to_path_buf()).collect();
        let (limit, store) = (self.max_layer, blobs.clone());
        blocking(move || crate::unpack::only_module(&paths, limit, &store))
            .await
            .map_err(|e| PullError::pull(image, e.to_string()))
    }

    /// Downloads a blob into a draft, verifying size and digest. What breaks off is taken up again where it broke.
    async fn blob(
        &self,
        image: &str,
        place: &Place,
        blob: &Descriptor,
        limit: u64,
        blobs: &Arc<Blobs>,
        meter: &Meter,
    ) -> Result<(Draft, Sink), PullError> {
        if blob.size > limit {
            let why = format!("layer {} has {} bytes, larger than the limit of {limit} bytes", blob.digest, blob.size);
            return Err(PullError::pull(image, why));
        }
        let store = |e: std::io::Error| PullError::store(image, &e);
        let path = format!("/v2/{}/blobs/{}", place.repository, blob.digest);
        let (mut draft, mut sink) = new_draft(blobs, limit).map_err(store)?;
        let mut broken = 0;
        loop {
            let from = sink.size();
            let range = if from > 0 { header(RANGE, &format!("bytes={from}-")) } else { HeaderMap::new() };
            let mut answer = match self.ask(place, Method::GET, &path, range).await {
                Ok(answer) => answer,
                Err(Fault::Unavailable(_)) if broken < RESUMES => {
                    broken += 1;
                    tokio::time::sleep(PAUSE * broken).await;
                    continue;
                }
                Err(fault) => return Err(fault.into_error(image)),
            };
            if from > 0 {
                let start = answer.headers.get(CONTENT_RANGE).and_then(|v| v.to_str().ok()).unwrap_or_default();
                if answer.status != StatusCode::PARTIAL_CONTENT || !start.starts_with(&format!("bytes {from}-")) {
                    // It cannot continue: all over again.
                    meter.take_back(from);
                    (draft, sink) = new_draft(blobs, limit).map_err(store)?;
                }
            }
            let mut why = format!("layer {}: the download ended early", blob.digest);
            let whole = loop {
                match answer.chunks.next().await {
                    None => break blob.size == 0 || sink.size() >= blob.size,
                    Some(Ok(chunk)) => {
                        sink.write(&chunk)
                            .await
                            .map_err(|e| PullError::pull(image, format!("layer {}: {e}", blob.digest)))?;
                        meter.add(chunk.len());
                    }
                    Some(Err(e)) => {
                        why = format!("layer {}: the download broke off after {} bytes: {e}", blob.digest, sink.size());
                        break false;
                    }
                }
            };
            if whole {
                break;
            }
            broken += 1;
            if broken > RESUMES {
                return Err(PullError::unavailable(image, &why));
            }
            tracing::debug!(image, why, "taking a download up again");
            tokio::time::sleep(PAUSE * broken).await;
        }
        let got = sink.finish().await.map_err(store)?;
        if got != blob.digest {
            return Err(PullError::pull(image, format!("digest mismatch: layer {} arrived as {got}", blob.digest)));
        }
        Ok((draft, sink))
    }

    /// Sends a request, and answers what the registry wants to know about us.
    async fn ask(&self, place: &Place, method: Method, path: &str, headers: HeaderMap) -> Result<Answer, Fault> {
        let Some(endpoint) = &place.endpoint else {
            let Some((_, origin)) = &self.cluster else {
                return Err(Fault::Local("there is no cluster registry".into()));
            };
            return check(send_to(origin, method, path, headers).await?).await;
        };
        let url = format!("{}{path}", endpoint.base);
        let scope = (endpoint.host.clone(), place.repository.clone(), place.credential.clone());
        let mut tried = false;
        loop {
            let mut all = headers.clone();
            let known = self.known.get(&scope, Instant::now());
            all.extend(known.as_deref().map(|known| header(AUTHORIZATION, known)).unwrap_or_default());
            let mut answer = self.clients.send(&self.registries, &endpoint.host, method.clone(), &url, all).await?;
            if answer.status == StatusCode::UNAUTHORIZED && !tried {
                tried = true;
                self.known.forget(&scope);
                let asked: Vec<&str> =
                    answer.headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|v| v.to_str().ok()).collect();
                if let Some(challenge) = Challenge::parse(&asked.join(", "))
                    && let Some((authorization, life)) = self.meet(challenge, endpoint, place).await?
                {
                    let now = Instant::now();
                    self.known.set(scope.clone(), authorization, now + life, now);
                    continue;
                }
            }
            answer.authorized = known.is_some();
            return check(answer).await;
        }
    }

    /// The `Authorization` that a challenge asks for, and how long it is good for.
    async fn meet(
        &self,
        challenge: Challenge,
        endpoint: &Endpoint,
        place: &Place,
    ) -> Result<Option<(String, Duration)>, Fault> {
        let (realm, service) = match challenge {
            Challenge::Basic => return Ok(place.credential.as_ref().map(|c| (basic(c), BASIC_LIFE))),
            Challenge::Bearer { realm, service } => (realm, service),
        };
        let scope = format!("repository:{}:pull", place.repository);
        let mut query = vec![("scope", scope.as_str())];
        query.extend(service.as_deref().map(|s| ("service", s)));
        let url = reqwest::Url::parse_with_params(&realm, &query)
            .map_err(|e| Fault::Refused(format!("the registry's token server {realm:?}: {e}")))?;
        // Passwords that were meant for an encrypted registry do not travel in the open.
        let plain_registry = endpoint.base.starts_with("http://");
        if url.scheme() != "https" && !plain_registry {
            return Err(Fault::Refused(format!("the registry's token server {realm:?} is not https")));
        }
        let host = match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (host, _) => host.unwrap_or_default().to_string(),
        };
        let headers = place.credential.as_ref().map(|c| header(AUTHORIZATION, &basic(c))).unwrap_or_default();
        let answer = self.clients.send(&self.registries, &host, Method::GET, url.as_str(), headers).await?;
        let bytes = check(answer).await?.whole(MAX_TOKEN).await?;
        let token: TokenAnswer = serde_json::from_slice(&bytes)
            .map_err(|e| Fault::Refused(format!("the token of {realm:?} cannot be read: {e}")))?;
        let token = token.header().ok_or_else(|| Fault::Refused(format!("{realm:?} gave no token")))?;
        Ok(Some(token))
    }
}

/// Why an endpoint did not give a manifest that can be used.
enum Attempt {
    Fault(Fault),
    Final(PullError),
}

impl From<Fault> for Attempt {
    fn from(fault: Fault) -> Attempt {
        Attempt::Fault(fault)
    }
}

fn new_draft(blobs: &Blobs, limit: u64) -> std::io::Result<(Draft, Sink)> {
    let mut draft = blobs.draft()?;
    let sink = Sink::new(draft.take_file()?, limit);
    Ok((draft, sink))
}

/// An answer that is a success, or what the registry says about it.
async fn check(answer: Answer) -> Result<Answer, Fault> {
    let status = answer.status;
    if status.is_success() {
        return Ok(answer);
    }
    let body = answer.whole(64 << 10).await.unwrap_or_default();
    let text = words(status, &body);
    Err(match status.as_u16() {
        401 | 403 => Fault::Denied(text),
        408 | 500..=599 => Fault::Unavailable(text),
        _ => Fault::Refused(text),
    })
}
