//! Which of several servers a request goes to: the one that answered last, and where that one is lost the next, at once.
//!
//! What is repeated has not happened: the connection was refused or the server answered 503. Where a connection breaks
//! before the answer, only what changes nothing is sent again; of everything else the outcome is unknown, and said so.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use copepod_model::Status;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::{HttpConnector, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};

/// How long a connection to one of several servers may take.
const CONNECT: Duration = Duration::from_millis(500);
/// How long if all of them are slow, or there is only one.
const CONNECT_SLOWLY: Duration = Duration::from_secs(10);
/// How often a connection on which something is awaited is tried, and how long its answer may take. Where there is another
/// server, one that is gone without a word is noticed, and the other one asked, within a second; where there is none, haste
/// helps nobody.
const PING: (Duration, Duration) = (Duration::from_millis(300), Duration::from_millis(600));
const PING_THE_ONLY_ONE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));
/// The most watches of one connection: servers take no more than 250 requests at once on each.
const WATCHES: usize = 200;

type Https = Pool<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// The servers of a cluster, and the connections to them.
pub(crate) struct Reach {
    connector: HttpsConnector<HttpConnector>,
    pools: Mutex<Pools>,
    servers: Arc<Mutex<Servers>>,
}

struct Pools {
    ping: (Duration, Duration),
    /// For everything that has an end.
    calls: Https,
    /// For watches, each with how many it has. They must never keep calls waiting.
    lanes: Vec<Lane>,
}

struct Lane {
    pool: Https,
    taken: Arc<AtomicUsize>,
}

/// A watch's place on a connection, until it is dropped.
pub(crate) struct Place {
    taken: Arc<AtomicUsize>,
    servers: Arc<Mutex<Servers>>,
    /// Who answered, once somebody has.
    url: String,
}

impl Place {
    /// The connection broke: what is asked next goes to another server, without a try at this one.
    pub(crate) fn broke(&self) {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner).leave(&self.url);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The list, and which of it is in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Servers {
    urls: Vec<String>,
    current: usize,
}

impl Servers {
    /// In the order in which they are tried.
    fn in_turn(&self) -> Vec<String> {
        let mut urls = self.urls.clone();
        urls.rotate_left(self.current.min(self.urls.len()));
        urls
    }

    /// `url` is the one to use, if it is still known.
    fn settle(&mut self, url: &str) {
        if let Some(at) = self.urls.iter().position(|u| u == url) {
            self.current = at;
        }
    }

    /// `url` is not to be used: the one behind it is.
    fn leave(&mut self, url: &str) {
        if self.urls.get(self.current).is_some_and(|u| u == url) {
            self.current = (self.current + 1) % self.urls.len();
        }
    }

    /// A new list; the one in use stays in use if it is in it.
    fn replace(&mut self, urls: Vec<String>) {
        let Some(first) = urls.first() else { return };
        let current = self.urls.get(self.current).filter(|u| urls.contains(u)).unwrap_or(first).clone();
        *self = Servers { urls, current: 0 };
        self.settle(&current);
    }
}

/// Why there is no answer.
enum Failure {
    /// Nothing was sent.
    Unsent { why: String, slow: bool },
    /// Something was.
    Broken(String),
}

/// What a request is, as far as sending it again goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Nature {
    /// It changes nothing.
    safe: bool,
    /// Somebody behind the API answers, whose 503 says nothing about what was done.
    proxied: bool,
}

impl Nature {
    fn of(method: &Method, path: &str) -> Nature {
        let proxied = path.split('/').any(|segment| segment == "proxy");
        Nature { safe: matches!(*method, Method::GET | Method::HEAD), proxied }
    }

    /// Whether another server may be asked after an answer with `code`.
    fn again_after(self, code: StatusCode) -> bool {
        code == StatusCode::SERVICE_UNAVAILABLE && (self.safe || !self.proxied)
    }
}

impl Reach {
    pub(crate) fn new(tls: rustls::ClientConfig, urls: Vec<String>) -> Reach {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_SLOWLY));
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .enable_all_versions()
            .wrap_connector(tcp);
        let urls: Vec<String> = urls.into_iter().map(|u| u.trim_end_matches('/').to_string()).collect();
        let pools = Mutex::new(Pools::new(&connector, &urls));
        Reach { connector, pools, servers: Arc::new(Mutex::new(Servers { urls, current: 0 })) }
    }

    pub(crate) fn servers(&self) -> Vec<String> {
        self.lock().urls.clone()
    }

    pub(crate) fn set_servers(&self, urls: Vec<String>) {
        let urls: Vec<String> = urls.into_iter().map(|u| u.trim_end_matches('/').to_string()).collect();
        if urls.is_empty() {
            return;
        }
        let mut pools = self.pools();
        // What is open on the connections of the old ones goes on there.
        if pools.ping != ping(&urls) {
            *pools = Pools::new(&self.connector, &urls);
        }
        drop(pools);
        self.lock().replace(urls);
    }

    /// The answer to a request that has an end.
    pub(crate) async fn call(&self, request: Request<Bytes>) -> Result<Response<Incoming>, Status> {
        let pool = self.pools().calls.clone();
        Ok(self.send(&pool, request).await?.0)
    }

    /// The answer to a watch, and its place.
    pub(crate) async fn stream(&self, request: Request<Bytes>) -> Result<(Response<Incoming>, Place), Status> {
        let (pool, mut place) = self.place();
        let (answer, url) = self.send(&pool, request).await?;
        place.url = url;
        Ok((answer, place))
    }

    fn place(&self) -> (Https, Place) {
        let mut pools = self.pools();
        // Places are only given here, under the lock.
        let at = pools.lanes.iter().position(|l| l.taken.load(Ordering::Relaxed) < WATCHES).unwrap_or_else(|| {
            let pool = pool(&self.connector, pools.ping);
            pools.lanes.push(Lane { pool, taken: Arc::default() });
            pools.lanes.len() - 1
        });
        let lane = &pools.lanes[at];
        lane.taken.fetch_add(1, Ordering::Relaxed);
        let place = Place { taken: lane.taken.clone(), servers: self.servers.clone(), url: String::new() };
        (lane.pool.clone(), place)
    }

    /// The answer, and whose it is.
    async fn send(&self, pool: &Https, request: Request<Bytes>) -> Result<(Response<Incoming>, String), Status> {
        let urls = self.lock().in_turn();
        let path = request.uri().path_and_query().map_or("/", |p| p.as_str()).to_string();
        let nature = Nature::of(request.method(), request.uri().path());
        let mut last = Err(Status::unavailable("no server of the cluster is known"));
        for patience in if urls.len() > 1 { &[CONNECT, CONNECT_SLOWLY][..] } else { &[CONNECT_SLOWLY][..] } {
            let mut hurried = false;
            for url in &urls {
                let uri: Uri =
                    format!("{url}{path}").parse().map_err(|e| Status::bad_request(format!("{url}{path}: {e}")))?;
                let mut one = request.clone().map(Full::new);
                *one.uri_mut() = uri;
                match once(pool, one, *patience).await {
                    Ok(answer) if nature.again_after(answer.status()) => last = Ok((answer, url.clone())),
                    Ok(answer) => {
                        self.lock().settle(url);
                        return Ok((answer, url.clone()));
                    }
                    Err(Failure::Unsent { why, slow }) => {
                        hurried |= slow;
                        last = Err(Status::unavailable(format!("cannot reach {url}: {why}")));
                    }
                    Err(Failure::Broken(why)) if nature.safe => {
                        last = Err(Status::unavailable(format!("cannot reach {url}: {why}")));
                    }
                    Err(Failure::Broken(why)) => {
                        self.lock().leave(url);
                        return Err(Status::timeout(format!(
                            "the connection to {url} broke before its answer, the outcome of the request is unknown: {why}"
                        )));
                    }
                }
            }
            // Nobody was given the time that a busy machine needs.
            if !(hurried && last.is_err()) {
                break;
            }
        }
        last
    }

    fn pools(&self) -> std::sync::MutexGuard<'_, Pools> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Servers> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pools {
    fn new(connector: &HttpsConnector<HttpConnector>, urls: &[String]) -> Pools {
        let ping = ping(urls);
        Pools { ping, calls: pool(connector, ping), lanes: Vec::new() }
    }
}

fn ping(urls: &[String]) -> (Duration, Duration) {
    if urls.len() > 1 { PING } else { PING_THE_ONLY_ONE }
}

fn pool(connector: &HttpsConnector<HttpConnector>, (interval, timeout): (Duration, Duration)) -> Https {
    Pool::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .http2_keep_alive_interval(interval)
        .http2_keep_alive_timeout(timeout)
        .build(connector.clone())
}

/// One try at one server.
async fn once(
    pool: &Https,
    mut request: Request<Full<Bytes>>,
    patience: Duration,
) -> Result<Response<Incoming>, Failure> {
    let captured = capture_connection(&mut request);
    let mut sending = std::pin::pin!(pool.request(request));
    let answer = match tokio::time::timeout(patience, &mut sending).await {
        Ok(answer) => answer,
        Err(_) => {
            let under_way = captured.connection_metadata().is_some();
            if !under_way {
                return Err(Failure::Unsent { why: format!("no connection within {patience:?}"), slow: true });
            }
            // How long the answer takes is the server's affair.
            sending.await
        }
    };
    answer.map_err(|e| {
        use std::error::Error as _;
        let unsent = e.is_connect()
            || e.source().and_then(|s| s.downcast_ref::<hyper::Error>()).is_some_and(hyper::Error::is_canceled);
        let why = e.source().map(ToString::to_string).unwrap_or_else(|| e.to_string());
        if unsent { Failure::Unsent { why, slow: false } } else { Failure::Broken(why) }
    })
}

#[cfg(test)]
mod tests;
