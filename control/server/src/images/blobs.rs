//! Blobs on their way out.

use bytes::Bytes;
use copepod_client::Body;
use http::{HeaderMap, Method, Request, Response, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::error::OciError;
use super::index::Kind;
use super::path::Digest;
use super::{Call, Images, empty};

/// How much is read at once.
const CHUNK: usize = 64 << 10;

impl Images {
    pub(super) async fn blob(
        &self,
        call: &Call<'_>,
        request: &mut Request<Body>,
        name: String,
        digest: Digest,
    ) -> Result<Response<Body>, OciError> {
        match *request.method() {
            Method::GET | Method::HEAD => {}
            Method::DELETE => {
                call.may("delete", &name)?;
                let gone = self.unlink(&name, Kind::Blob, &digest).await?;
                return if gone { Ok(empty(202, &[])) } else { Err(OciError::no_blob(&digest)) };
            }
            _ => return Err(OciError::new(405, "UNSUPPORTED", "the operation is unsupported")),
        }
        call.may_read(&name)?;
        let index = self.index().await;
        // A manifest is content, too: some clients fetch it as such.
        let linked = Kind::ALL.iter().any(|kind| index.link(&name, *kind, &digest).is_some());
        if !linked || !self.have(&digest).await? {
            return Err(OciError::no_blob(&digest));
        }
        let mut file = tokio::fs::File::open(self.0.files.blob(&digest)).await?;
        let size = file.metadata().await?.len();
        let (status, from, to) = match range(request.headers(), size) {
            Ok(None) => (200, 0, size),
            Ok(Some((from, to))) => (206, from, to),
            Err(()) => {
                let whole = ("content-range", format!("bytes */{size}"));
                return Ok(empty(416, &[whole]));
            }
        };
        let mut response = empty(
            status,
            &[
                ("content-type", "application/octet-stream".into()),
                ("docker-content-digest", digest.to_string()),
                ("content-length", (to - from).to_string()),
                ("accept-ranges", "bytes".into()),
                ("etag", format!("\"{digest}\"")),
                ("cache-control", "private, max-age=31536000".into()),
            ],
        );
        if status == 206
            && let Ok(value) = format!("bytes {from}-{}/{size}", to - 1).parse()
        {
            response.headers_mut().insert(header::CONTENT_RANGE, value);
        }
        if request.method() == Method::GET {
            file.seek(std::io::SeekFrom::Start(from)).await?;
            *response.body_mut() = stream(file, to - from);
        }
        Ok(response)
    }
}

/// A file's next `left` bytes.
pub(super) fn stream(file: tokio::fs::File, left: u64) -> Body {
    let chunks = futures_util::stream::unfold((file, left), |(mut file, left)| async move {
        if left == 0 {
            return None;
        }
        let mut buffer = vec![0; usize::try_from(left).unwrap_or(CHUNK).min(CHUNK)];
        match file.read(&mut buffer).await {
            Ok(0) => Some((Err(std::io::ErrorKind::UnexpectedEof.into()), (file, 0))),
            Ok(n) => {
                buffer.truncate(n);
                Some((Ok(Frame::data(Bytes::from(buffer))), (file, left - n as u64)))
            }
            Err(e) => Some((Err(e), (file, 0))),
        }
    });
    StreamBody::new(Box::pin(chunks)).boxed()
}

/// The one range that is asked for, as [from, to); several are answered with everything (RFC 9110 §14.2).
fn range(headers: &HeaderMap, size: u64) -> Result<Option<(u64, u64)>, ()> {
    let Some(text) = headers.get(header::RANGE).and_then(|v| v.to_str().ok()) else { return Ok(None) };
    let Some(set) = text.strip_prefix("bytes=").filter(|s| !s.contains(',')) else { return Ok(None) };
    let Some((from, to)) = set.split_once('-') else { return Ok(None) };
    let (from, to) = match (from.trim().parse::<u64>(), to.trim().parse::<u64>()) {
        (Ok(from), Ok(to)) if from <= to => (from, to.saturating_add(1).min(size)),
        (Ok(from), Err(_)) if to.trim().is_empty() => (from, size),
        (Err(_), Ok(last)) if from.trim().is_empty() => (size.saturating_sub(last), size),
        _ => return Ok(None),
    };
    if from >= size || from >= to { Err(()) } else { Ok(Some((from, to))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (text, want) in [
            ("bytes=0-3", Ok(Some((0, 4)))),
            ("bytes=5-", Ok(Some((5, 10)))),
            ("bytes=-4", Ok(Some((6, 10)))),
            ("bytes=-40", Ok(Some((0, 10)))),
            ("bytes=8-99", Ok(Some((8, 10)))),
            ("bytes=10-", Err(())),
            ("bytes=-0", Err(())),
            ("bytes=4-2", Ok(None)),
            ("bytes=0-1,3-4", Ok(None)),
            ("lines=0-1", Ok(None)),
            ("bytes=x-", Ok(None)),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, text.parse().unwrap());
            assert_eq!(range(&headers, 10), want, "{text}");
        }
        assert_eq!(range(&HeaderMap::new(), 10), Ok(None));
    }
}
