//! The GET of a probe or a hook, with the kubelet's headers and its way with redirects.

use std::time::Duration;

use bytes::Bytes;
use copepod_client::{Body, body};
use copepod_node_network::{HttpError, HttpOptions, Network, Source};
use http::response::Parts;
use http::{Request, Response, Uri, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::{address, authority, tls};

/// How many redirects are followed, as by Go's client.
const REDIRECTS: usize = 10;
/// How much of an answer's body is read. One that breaks off before, or does not end in time, has failed.
const LONGEST_BODY: usize = 10 << 10;

/// What is asked for.
pub(super) struct Get<'a> {
    pub host: &'a str,
    pub port: u16,
    pub path: &'a str,
    pub headers: &'a [(String, String)],
    pub https: bool,
    pub agent: &'static str,
}

impl Get<'_> {
    pub fn url(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}{}", authority(self.host, self.port), self.path)
    }

    /// The status of the answer. Redirects are followed on the same host; one that leads elsewhere is itself the answer.
    pub async fn status(&self, network: &Network, timeout: Duration) -> Result<u16, HttpError> {
        let mut url: Uri = self.url().parse().map_err(|_| HttpError::InvalidRequest("the probe's URL"))?;
        for _ in 0..REDIRECTS {
            let head = self.once(network, &url, timeout).await?;
            let status = head.status;
            let location = head.headers.get(header::LOCATION).and_then(|v| v.to_str().ok());
            match location.filter(|_| matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)) {
                Some(to) => match next(&url, to) {
                    Some(next) => url = next,
                    None => return Ok(status.as_u16()),
                },
                None => return Ok(status.as_u16()),
            }
        }
        Err(HttpError::Service("stopped after 10 redirects".into()))
    }

    async fn once(&self, network: &Network, url: &Uri, timeout: Duration) -> Result<Parts, HttpError> {
        let https = url.scheme_str() == Some("https");
        let host = url.host().unwrap_or(self.host).trim_matches(['[', ']']).to_string();
        let port = url.port_u16().unwrap_or(if https { 443 } else { 80 });
        let to = address(network, &host, port).await.map_err(|e| HttpError::Dns(host.clone(), e))?;
        let mut request = Request::get(url.clone());
        let declared = |name: &str| self.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        for (name, usual) in [("user-agent", self.agent), ("accept", "*/*")] {
            if !declared(name) {
                request = request.header(name, usual);
            }
        }
        // As by Go's client: the first `Host` that is not empty, or the URL's.
        let is_host = |name: &str| name.eq_ignore_ascii_case("host");
        let own = self.headers.iter().find(|(name, value)| is_host(name) && !value.is_empty());
        let of_url = || url.authority().map_or("", |a| a.as_str());
        request = request.header(header::HOST, own.map_or_else(of_url, |(_, value)| value.as_str()));
        for (name, value) in self.headers.iter().filter(|(name, _)| !is_host(name)) {
            // An empty one takes the usual header away.
            let usual = name.eq_ignore_ascii_case("user-agent") || name.eq_ignore_ascii_case("accept");
            if !(usual && value.is_empty()) {
                request = request.header(name, value);
            }
        }
        let request = request.body(body("")).map_err(|_| HttpError::InvalidRequest("the probe's URL or headers"))?;
        if https {
            return over_tls(network, to, &host, request).await;
        }
        let options = HttpOptions { connect_timeout: timeout, first_byte_timeout: timeout, ..HttpOptions::default() };
        whole(network.request(Source::Node, to, request, options).await?).await
    }
}

async fn over_tls(
    network: &Network,
    to: std::net::SocketAddr,
    host: &str,
    mut request: Request<Body>,
) -> Result<Parts, HttpError> {
    let conn = network.connect(Source::Node, to).await.map_err(HttpError::Connect)?;
    let stream = tls::connect(conn.stream, host).await.map_err(HttpError::Tls)?;
    let failed = |e: hyper::Error| HttpError::Protocol(e.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    request.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    let path = request.uri().path_and_query().map_or("/", |p| p.as_str()).parse();
    *request.uri_mut() = path.map_err(|_| HttpError::InvalidRequest("the probe's URL"))?;
    let mut exchange = std::pin::pin!(async { whole(sender.send_request(request).await.map_err(failed)?).await });
    tokio::select! {
        head = &mut exchange => head,
        // It may have ended after all that was wanted had come.
        _ = connection => exchange.await,
    }
}

/// The head of an answer whose body has come, as far as it is read.
async fn whole<B>(response: Response<B>) -> Result<Parts, HttpError>
where
    B: hyper::body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = response.into_parts();
    match Limited::new(body, LONGEST_BODY).collect().await {
        Err(e) if !e.is::<LengthLimitError>() => Err(HttpError::Protocol(e.to_string())),
        _ => Ok(head),
    }
}

/// Where a redirect leads; `None` to another host or to nowhere.
fn next(from: &Uri, location: &str) -> Option<Uri> {
    let absolute = match location.parse::<Uri>().ok()? {
        to if to.scheme().is_some() => to,
        to if to.host().is_some() => return None,
        to => {
            let path = to.path_and_query().map_or("/", |p| p.as_str());
            let path = match path.strip_prefix('/') {
                Some(_) => path.to_string(),
                None => {
                    let at = from.path().rfind('/').map_or(0, |i| i + 1);
                    format!("{}{path}", &from.path()[..at])
                }
            };
            let parts = Uri::builder().scheme(from.scheme()?.clone()).authority(from.authority()?.clone());
            parts.path_and_query(path).build().ok()?
        }
    };
    (absolute.host() == from.host() && matches!(absolute.scheme_str(), Some("http" | "https"))).then_some(absolute)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_on_the_host() {
        let from: Uri = "http://10.0.0.1:80/a/b".parse().unwrap();
        let to = |location: &str| next(&from, location).map(|u| u.to_string());
        assert_eq!(to("/x?y"), Some("http://10.0.0.1:80/x?y".into()));
        assert_eq!(to("https://10.0.0.1:8443/x"), Some("https://10.0.0.1:8443/x".into()));
        assert_eq!(to("http://elsewhere/x"), None);
        assert_eq!(to("ftp://10.0.0.1/x"), None);
    }
}
