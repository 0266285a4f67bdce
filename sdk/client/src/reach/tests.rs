use super::*;
use crate::tls::{Clients, Credential, Rotating, anonymous};
use http_body_util::BodyExt as _;
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

/// A server that ends, connections and all, when what it answers is dropped.
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
                _ = end.changed() => return,
                accepted = listener.accept() => accepted.unwrap().0,
            };
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let (broken, mut breaks) = tokio::sync::mpsc::channel::<()>(1);
                let answer = service_fn(move |_| {
                    let broken = broken.clone();
                    async move {
                        let (code, text) = match manner {
                            Manner::Answers(name) => (200, name),
                            Manner::Refuses | Manner::Silent | Manner::Frozen => (503, ""),
                            Manner::Breaks => {
                                let _ = broken.send(()).await;
                                std::future::pending().await
                            }
                        };
                        let response = Response::builder().status(code).body(Full::new(Bytes::from(text)));
                        Ok::<_, std::convert::Infallible>(response.unwrap())
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
                tokio::select! {
                    biased;
                    _ = end.changed() => {}
                    _ = breaks.recv() => {}
                    _ = builder.serve_connection(TokioIo::new(stream), answer) => {}
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
