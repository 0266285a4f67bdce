//! Who comes in at the peers' port, and whom a server takes for another one.

use std::net::SocketAddr;

use copepod_client::tls::{Clients, Rotating, anonymous};
use copepod_model::certificate::SERVERS;
use http::StatusCode;
use hyper::client::conn::http2;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::*;
use crate::now;
use crate::peers::link::{Failure, Link};
use crate::peers::{PeerTls, dns_name, user};
use crate::pki::{Credential, Pki};

const DEADLINE: Duration = Duration::from_secs(60);

fn network(pki: &Pki, id: u64) -> Network {
    let own = Rotating::new(&pki.peer(id, now()).unwrap()).unwrap();
    Network::new(id, PeerTls::new(own, pki.ca_pem()).unwrap(), &[])
}

/// The answer of server 1 to whoever shows what `tls` has; none where it does not even listen to a request.
async fn ask(at: SocketAddr, mut tls: ClientConfig) -> Option<StatusCode> {
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let asked = async {
        let stream = TcpStream::connect(at).await.unwrap();
        let stream = TlsConnector::from(Arc::new(tls)).connect(tls::server_name(1).unwrap(), stream).await.ok()?;
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        let request = Request::get(format!("https://{}/snapshot", dns_name(1))).body(body("")).unwrap();
        sender.send_request(request).await.ok().map(|answer| answer.status())
    };
    tokio::time::timeout(DEADLINE, asked).await.expect("an answer or none")
}

#[tokio::test]
async fn only_servers_come_in() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let pki = Pki::open(ours.path(), now()).unwrap();
    let stranger = Pki::open(theirs.path(), now()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (stop, stopping) = watch::channel(false);
    let serving = tokio::spawn(serve(listener, network(&pki, 1), stopping));

    let showing = |credential: &Credential| Rotating::new(credential).unwrap().client_config(pki.ca_pem()).unwrap();
    // There is no store yet, which is said to servers alone.
    assert_eq!(ask(at, showing(&pki.peer(2, now()).unwrap())).await, Some(StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(ask(at, anonymous(pki.ca_pem()).unwrap()).await, None, "no certificate");
    assert_eq!(ask(at, showing(&stranger.peer(2, now()).unwrap())).await, None, "another cluster's server");
    let (second, nobody) = (user(2), user(0));
    let others: [(&str, &str, &[&str]); 6] = [
        ("node", "system:node:n1", &["system:nodes"]),
        ("administrator", "kubernetes-admin", &["system:masters"]),
        ("a-servers-name", &second, &[]),
        ("node-in-the-servers-group", "system:node:n1", &[SERVERS]),
        ("server-without-an-id", "system:copepod:server:", &[SERVERS]),
        ("nobodys-id", &nobody, &[SERVERS]),
    ];
    for (who, name, groups) in others {
        let credential = pki.client(who, name, groups, now()).unwrap();
        assert_eq!(ask(at, showing(&credential)).await, None, "{who}");
    }
    let _ = stop.send(true);
    serving.await.unwrap();
}

#[tokio::test]
async fn who_has_only_the_name_of_a_server_is_not_taken_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open(dir.path(), now()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let named = pki.serving("agent", &[dns_name(2)], &[], now()).unwrap();
    let tls = Rotating::new(&named).unwrap().server_config(Clients::Required(pki.ca_pem())).unwrap();
    let acceptor = TlsAcceptor::from(tls);
    let accepted = tokio::spawn(async move { acceptor.accept(listener.accept().await.unwrap().0).await.is_ok() });
    let link = Link::new(2, at.to_string(), network(&pki, 1));
    let asked = link.send(Request::get("/snapshot").body(body("")).unwrap());
    match tokio::time::timeout(DEADLINE, asked).await.unwrap() {
        Err(Failure::Unsent(why)) => assert!(why.ends_with("the certificate is not that server's"), "{why}"),
        other => panic!("{:?}", other.map(|answer| answer.status())),
    }
    assert!(accepted.await.unwrap(), "TLS itself found nothing wrong");
}
