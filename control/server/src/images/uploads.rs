//! Blobs on their way in: in one request, in chunks, or from another repository. An upload under way is a file, so it
//! outlives a restart.

use std::sync::PoisonError;

use copepod_client::Body;
use copepod_state::{Outcome, Require, Txn};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::BodyExt as _;
use sha2::Digest as _;
use tokio::io::AsyncWriteExt as _;

use super::error::OciError;
use super::index::{Kind, link};
use super::path::{Digest, check_name};
use super::{Call, Images, MAX_BLOB, MAX_UPLOADS, SILENCE, empty};

impl Images {
    /// `POST`: a blob that another repository has, a whole blob, or a session.
    pub(super) async fn begin_upload(
        &self,
        call: &Call<'_>,
        request: &mut Request<Body>,
        name: String,
    ) -> Result<Response<Body>, OciError> {
        call.may("update", &name)?;
        if let (Some(digest), Some(from)) = (call.query.get("mount"), call.query.get("from")) {
            let (digest, from) = (Digest::parse(digest)?, check_name(from)?);
            // Who may not read it there does not learn whether it is there.
            if call.may_read(&from).is_ok() {
                let there = self.index().await.link(&from, Kind::Blob, &digest).is_some() && self.have(&digest).await?;
                let require = vec![Require::Exists(Kind::Blob.key(&from, &digest))];
                let ops = vec![link(&name, Kind::Blob, &digest, "")];
                let mount = Txn { require, ops, ..Txn::default() };
                if there && matches!(self.propose(mount).await?, Outcome::Applied(_)) {
                    return Ok(created(&name, &digest));
                }
            }
        }
        let under_way = self.disk(|files| files.give_up(std::time::SystemTime::now()).and_then(|()| files.uploads()));
        if under_way.await? >= MAX_UPLOADS {
            return Err(OciError::new(429, "TOOMANYREQUESTS", "too many uploads are under way"));
        }
        let id = session(&name);
        let path = self.0.files.upload(&id);
        tokio::fs::File::options().write(true).create_new(true).open(&path).await?;
        match call.query.get("digest") {
            Some(digest) => {
                let digest = Digest::parse(digest)?;
                let result = match self.append(&id, request).await {
                    Ok(_) => self.commit(&name, &id, &digest).await,
                    Err(e) => Err(e),
                };
                if result.is_err() {
                    let _ = tokio::fs::remove_file(&path).await;
                }
                result
            }
            None => Ok(accepted(&name, &id, 0, 202)),
        }
    }

    /// A session: more of it, its end, or where it stands.
    pub(super) async fn upload(
        &self,
        call: &Call<'_>,
        request: &mut Request<Body>,
        name: String,
        id: String,
    ) -> Result<Response<Body>, OciError> {
        call.may("update", &name)?;
        let unknown = || OciError::new(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry");
        // The id says which repository it is of, so that nobody takes up another's.
        if !id.strip_prefix(&owner(&name)).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit())) {
            return Err(unknown());
        }
        let path = self.0.files.upload(&id);
        let _busy = Busy::take(self, &id)?;
        let size = tokio::fs::metadata(&path).await.map_err(|_| unknown())?.len();
        match *request.method() {
            Method::GET | Method::HEAD => Ok(accepted(&name, &id, size, 204)),
            Method::DELETE => {
                tokio::fs::remove_file(&path).await?;
                Ok(empty(204, &[]))
            }
            Method::PATCH => {
                if let Some(start) = start(request.headers())
                    && start != size
                {
                    let mut answer = accepted(&name, &id, size, 416);
                    answer.headers_mut().remove("docker-upload-uuid");
                    return Ok(answer);
                }
                let size = self.append(&id, request).await?;
                Ok(accepted(&name, &id, size, 202))
            }
            Method::PUT => {
                let digest = call.query.get("digest").unwrap_or_default();
                let digest = Digest::parse(digest)?;
                if start(request.headers()).is_some_and(|start| start != size) {
                    return Ok(accepted(&name, &id, size, 416));
                }
                self.append(&id, request).await?;
                self.commit(&name, &id, &digest).await
            }
            _ => Err(OciError::new(405, "UNSUPPORTED", "the operation is unsupported")),
        }
    }

    /// Adds a request's body to a session: its size then.
    async fn append(&self, id: &str, request: &mut Request<Body>) -> Result<u64, OciError> {
        let path = self.0.files.upload(id);
        let mut file = tokio::fs::File::options().append(true).open(&path).await?;
        let mut size = file.metadata().await?.len();
        let body = request.body_mut();
        loop {
            let frame = tokio::time::timeout(SILENCE, body.frame()).await;
            let frame = frame.map_err(|_| OciError::new(408, "BLOB_UPLOAD_INVALID", "the client has fallen silent"))?;
            let Some(frame) = frame else { break };
            let frame =
                frame.map_err(|e| OciError::new(400, "BLOB_UPLOAD_INVALID", format!("the upload broke off: {e}")))?;
            let Some(data) = frame.data_ref() else { continue };
            size += data.len() as u64;
            if size > MAX_BLOB {
                let why = format!("the blob is larger than the limit of {MAX_BLOB} bytes");
                return Err(OciError::new(413, "SIZE_INVALID", why));
            }
            file.write_all(data).await?;
        }
        file.flush().await?;
        Ok(size)
    }

    /// A complete upload becomes a blob of its repository if it is what it is said to be.
    async fn commit(&self, name: &str, id: &str, digest: &Digest) -> Result<Response<Body>, OciError> {
        let file = self.0.files.upload(id);
        let path = file.clone();
        let got = self.disk(move |_| {
            let mut hash = sha2::Sha256::new();
            std::io::copy(&mut std::fs::File::open(&path)?, &mut hash)?;
            Ok(Digest::from_hash(hash))
        });
        let got = got.await?;
        if got != *digest {
            tokio::fs::remove_file(&file).await?;
            let why = format!("provided digest {digest} did not match uploaded content, which is {got}");
            return Err(OciError::new(400, "DIGEST_INVALID", why));
        }
        self.keep(file, digest, Txn { ops: vec![link(name, Kind::Blob, digest, "")], ..Txn::default() }).await?;
        Ok(created(name, digest))
    }
}

/// A session that one request works on.
struct Busy<'a>(&'a Images, String);

impl<'a> Busy<'a> {
    fn take(images: &'a Images, id: &str) -> Result<Busy<'a>, OciError> {
        let mut busy = images.0.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if !busy.insert(id.into()) {
            return Err(OciError::new(409, "BLOB_UPLOAD_INVALID", "another request is adding to this upload"));
        }
        Ok(Busy(images, id.into()))
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.0.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

/// What the ids of a repository's sessions begin with.
fn owner(name: &str) -> String {
    format!("{}-", &Digest::of(name.as_bytes()).hex()[..16])
}

fn session(name: &str) -> String {
    format!("{}{}", owner(name), crate::random_name())
}

/// Where a chunk begins, by its `Content-Range: FROM-TO`.
fn start(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get("content-range")?.to_str().ok()?;
    text.trim_start_matches("bytes ").split('-').next()?.parse().ok()
}

fn created(name: &str, digest: &Digest) -> Response<Body> {
    empty(201, &[("location", format!("/v2/{name}/blobs/{digest}")), ("docker-content-digest", digest.to_string())])
}

fn accepted(name: &str, id: &str, size: u64, status: u16) -> Response<Body> {
    empty(
        status,
        &[
            ("location", format!("/v2/{name}/blobs/uploads/{id}")),
            ("range", format!("0-{}", size.saturating_sub(1))),
            ("docker-upload-uuid", id.into()),
        ],
    )
}
