use super::*;
use crate::tls::{Clients, Credential, Rotating, anonymous};
use crate::{Client, Https};
use copepod_model::UserInfo;
use copepod_model::request::ListOptions;
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, Either, StreamBody};
use hyper::body::Frame;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use rcgen::{CertificateParams, KeyPair};
use tokio::net::TcpListener;
use tokio::sync::watch;

#[test]
fn the_one_in_use_is_kept_while_it_is_known() {
    let of = |urls: &[&str], current| Servers { urls: urls.iter().map(ToString::to_string).collect(), current };
    let mut servers = of(&["a", "b", "c"], 0);
    servers.settle("b");
    assert_eq!(servers.in_turn(), ["b", "c", "a"]);
    servers.leave("a");
    assert_eq!(servers, of(&["a", "b", "c"], 1), "it was not in use");
    servers.leave("b");
    assert_eq!(servers.in_turn(), ["c", "a", "b"]);
    servers.replace(vec!["d".into(), "c".into()]);
    assert_eq!(servers, of(&["d", "c"], 1));
    servers.replace(vec!["a".into(), "d".into()]);
    assert_eq!(servers, of(&["a", "d"], 0));
    servers.replace(vec![]);
    assert_eq!(servers, of(&["a", "d"], 0));
}

#[test]
fn what_may_be_asked_elsewhere_after_an_answer() {
    let busy = StatusCode::SERVICE_UNAVAILABLE;
    for (method, path, code, want) in [
        (Method::GET, "/api/v1/pods", busy, true),
        (Method::POST, "/api/v1/namespaces/a/pods", busy, true),
        (Method::GET, "/api/v1/nodes/n/proxy/pods", busy, true),
        (Method::POST, "/api/v1/namespaces/a/services/s/proxy/buy", busy, false),
        (Method::GET, "/api/v1/pods", StatusCode::INTERNAL_SERVER_ERROR, false),
        (Method::GET, "/api/v1/pods", StatusCode::OK, false),
    ] {
        assert_eq!(Nature::of(&method, path).again_after(code), want, "{method} {path} {code}");
    }
}

/// What a watch is answered with.
type Endless = futures_util::stream::Pending<Result<Frame<Bytes>, std::convert::Infallible>>;

/// How a server of the tests treats requests.
#[derive(Clone, Copy)]
enum Manner {
    /// With its name and 200.
    Answers(&'static str),
    /// With 503.
    Refuses,
    /// Takes the request and breaks the connection.
    Breaks,
    /// Takes the connection, and that is all.
    Silent,
    /// Greets, and that is all, as one whose machine is gone.
    Frozen,
}

/// A server that ends, connections and all, when what it answers is dropped. Once that is sent to, it says nothing more and
/// closes nothing, as one whose machine is gone. A watch is answered without an end.
async fn server(credential: &Credential, manner: Manner) -> (String, watch::Sender<()>) {
    let tls = Rotating::new(credential).unwrap().server_config(Clients::Unasked).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(tls);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let (alive, dead) = watch::channel(());
    tokio::spawn(async move {
        loop {
            let mut end = dead.clone();
            let tcp = tokio::select! {
                biased;
                ended = end.changed() => {
                    if ended.is_ok() {
                        let _ = end.changed().await;
                    }
                    return;
                }
                accepted = listener.accept() => accepted.unwrap().0,
            };
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let (broken, mut breaks) = tokio::sync::mpsc::channel::<()>(1);
                let answer = service_fn(move |request: Request<Incoming>| {
                    let broken = broken.clone();
                    async move {
                        if request.uri().query().is_some_and(|q| q.contains("watch")) {
                            let endless = StreamBody::new(futures_util::stream::pending());
                            return Ok(Response::new(Either::Right(endless)));
                        }
                        let (code, text) = match manner {
                            Manner::Answers(name) => (200, name),
                            Manner::Refuses | Manner::Silent | Manner::Frozen => (503, ""),
                            Manner::Breaks => {
                                let _ = broken.send(()).await;
                                std::future::pending().await
                            }
                        };
                        let response =
                            Response::builder().status(code).body(Either::Left(Full::new(Bytes::from(text))));
                        Ok::<Response<Either<Full<Bytes>, StreamBody<Endless>>>, std::convert::Infallible>(
                            response.unwrap(),
                        )
                    }
                });
                let builder = auto::Builder::new(TokioExecutor::new());
                if matches!(manner, Manner::Silent) {
                    let _ = end.changed().await;
                    return drop(tcp);
                }
                let Ok(stream) = acceptor.accept(tcp).await else { return };
                if matches!(manner, Manner::Frozen) {
                    let _ = end.changed().await;
                    return drop(stream);
                }
                let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), answer));
                let gone = tokio::select! {
                    biased;
                    ended = end.changed() => ended.is_ok(),
                    _ = breaks.recv() => false,
                    _ = &mut serving => false,
                };
                if gone {
                    let _ = end.changed().await;
                }
            });
        }
    });
    (url, alive)
}

fn credential() -> Credential {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
    Credential { cert: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

fn request(method: Method) -> Request<Bytes> {
    Request::builder().method(method).uri("/x").body(Bytes::new()).unwrap()
}

async fn who(reach: &Reach, method: Method) -> Result<String, Status> {
    let answer = reach.call(request(method)).await?;
    Ok(String::from_utf8_lossy(&answer.into_body().collect().await.unwrap().to_bytes()).into_owned())
}

#[tokio::test]
async fn a_server_that_is_lost_is_replaced_at_once_and_not_returned_to() {
    let own = credential();
    let (a, a_lives) = server(&own, Manner::Answers("a")).await;
    let (b, _b_lives) = server(&own, Manner::Answers("b")).await;
    let reach = Reach::new(anonymous(&own.cert).unwrap(), vec![a.clone(), b.clone()]);
    assert_eq!(who(&reach, Method::GET).await.unwrap(), "a");
    drop(a_lives);
    assert_eq!(who(&reach, Method::GET).await.unwrap(), "b");
    assert_eq!(who(&reach, Method::POST).await.unwrap(), "b");
    reach.set_servers(vec![a, b]);
    assert_eq!(who(&reach, Method::POST).await.unwrap(), "b");
}

#[tokio::test]
async fn a_server_that_has_no_leader_sends_on_to_one_that_has() {
    let own = credential();
    let (a, _a) = server(&own, Manner::Refuses).await;
    let (b, _b) = server(&own, Manner::Answers("b")).await;
    let reach = Reach::new(anonymous(&own.cert).unwrap(), vec![a.clone(), b]);
    assert_eq!(who(&reach, Method::POST).await.unwrap(), "b");
    let alone = Reach::new(anonymous(&own.cert).unwrap(), vec![a]);
    assert_eq!(alone.call(request(Method::POST)).await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn what_may_have_happened_is_not_done_twice() {
    let own = credential();
    let (a, _a) = server(&own, Manner::Breaks).await;
    let (b, _b) = server(&own, Manner::Answers("b")).await;
    let both = || Reach::new(anonymous(&own.cert).unwrap(), vec![a.clone(), b.clone()]);
    let reach = both();
    let unknown = who(&reach, Method::POST).await.unwrap_err();
    assert_eq!(unknown.code, 504);
    assert!(unknown.message.contains("the outcome of the request is unknown"), "{unknown}");
    assert_eq!(who(&reach, Method::POST).await.unwrap(), "b", "the next request goes elsewhere");
    assert_eq!(who(&both(), Method::GET).await.unwrap(), "b", "reading twice harms nobody");
}

#[tokio::test]
async fn a_server_that_says_nothing_more_is_left_for_the_next() {
    let own = credential();
    let (b, _b) = server(&own, Manner::Answers("b")).await;
    for manner in [Manner::Silent, Manner::Frozen] {
        let (a, _a) = server(&own, manner).await;
        let reach = Reach::new(anonymous(&own.cert).unwrap(), vec![a, b.clone()]);
        let answered = tokio::time::timeout(Duration::from_secs(60), who(&reach, Method::GET)).await;
        assert_eq!(answered.expect("it does not wait for ever").unwrap(), "b");
    }
}

/// What comes of `task` in one second, and not a moment more, by the clock of all timers. (A clock that goes on by itself
/// would do so while bytes are under way.)
async fn within_a_second<T>(task: impl Future<Output = T>) -> T {
    tokio::time::pause();
    // While something blocks, the clock stands still; and what does not come ends the test.
    let (_over, wait) = std::sync::mpsc::channel::<()>();
    let patience = tokio::task::spawn_blocking(move || wait.recv_timeout(Duration::from_secs(20)));
    let mut task = std::pin::pin!(task);
    for _ in 0..100 {
        for _ in 0..20 {
            tokio::select! {
                biased;
                done = &mut task => return done,
                () = tokio::task::yield_now() => {}
            }
        }
        tokio::time::advance(Duration::from_millis(10)).await;
    }
    tokio::select! {
        done = task => done,
        _ = patience => panic!("nothing comes of a second"),
    }
}

/// A client of two servers, with open connections to both, that uses `a`; and the servers' ends.
async fn two() -> (Client, watch::Sender<()>, watch::Sender<()>) {
    let own = credential();
    let (a, a_lives) = server(&own, Manner::Answers("a")).await;
    let (b, b_lives) = server(&own, Manner::Answers("b")).await;
    let https = Arc::new(Https::over(anonymous(&own.cert).unwrap(), vec![b.clone(), a.clone()]));
    let client = Client::new(https.clone(), UserInfo::default(), "test");
    assert_eq!(asks(&client, Method::GET).await.unwrap(), "b");
    https.set_servers(vec![a.clone(), "https://127.0.0.1:1".into()]);
    assert_eq!(asks(&client, Method::GET).await.unwrap(), "a");
    https.set_servers(vec![a, b]);
    (client, a_lives, b_lives)
}

async fn asks(client: &Client, method: Method) -> Result<String, Status> {
    let answer = client.raw(request(method)).await?;
    Ok(String::from_utf8_lossy(&answer.into_body().collect().await.unwrap().to_bytes()).into_owned())
}

#[tokio::test]
async fn a_server_that_falls_silent_is_left_within_a_second() {
    let (client, a, _b) = two().await;
    a.send(()).unwrap();
    assert_eq!(within_a_second(asks(&client, Method::GET)).await.unwrap(), "b");
}

#[tokio::test]
async fn what_may_have_happened_is_told_within_a_second_and_the_next_goes_elsewhere() {
    let (client, a, _b) = two().await;
    a.send(()).unwrap();
    let asked = async {
        assert_eq!(asks(&client, Method::POST).await.unwrap_err().code, 504);
        asks(&client, Method::POST).await
    };
    assert_eq!(within_a_second(asked).await.unwrap(), "b");
}

#[tokio::test]
async fn a_watch_of_a_server_that_falls_silent_ends_and_another_one_is_asked_within_a_second() {
    let (client, a, _b) = two().await;
    let mut watch = client.watch("pods", "", ListOptions::default()).await.unwrap();
    a.send(()).unwrap();
    let followed = async {
        assert!(watch.next().await.is_none());
        // A list comes first then, on another connection than the watch's.
        asks(&client, Method::GET).await
    };
    assert_eq!(within_a_second(followed).await.unwrap(), "b");
}

#[tokio::test]
async fn nobody_there_is_said_by_name() {
    let own = credential();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let reach = Reach::new(anonymous(&own.cert).unwrap(), vec![format!("https://{closed}")]);
    let failed = who(&reach, Method::GET).await.unwrap_err();
    assert_eq!(failed.code, 503);
    assert!(failed.message.contains(&closed.to_string()), "{failed}");
}

#[tokio::test]
async fn watches_share_connections_up_to_their_limit() {
    let own = credential();
    let reach = Reach::new(anonymous(&own.cert).unwrap(), vec!["https://127.0.0.1:1".into()]);
    let mut places: Vec<_> = (0..=WATCHES).map(|_| reach.place().1).collect();
    assert_eq!(reach.pools().lanes.len(), 2);
    places.truncate(WATCHES);
    drop(places.split_off(1));
    places.push(reach.place().1);
    assert_eq!(reach.pools().lanes.iter().map(|l| l.taken.load(Ordering::Relaxed)).collect::<Vec<_>>(), [2, 0]);
}
