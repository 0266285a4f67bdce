//! Several servers in one process, over TLS on loopback.

use std::path::Path;

use bytes::Bytes;
use copepod_consensus::rules::Hold;
use copepod_model::request::ListOptions;
use http_body_util::BodyExt as _;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::members::{Joined, Member};

const DEADLINE: Duration = Duration::from_secs(60);

/// What a joining server is given besides its id.
const SECRETS: [&str; 4] = ["ca.crt", "ca.key", "sa.key", "seal.secret"];

struct Node {
    dir: TempDir,
    name: String,
    peer: SocketAddr,
    api: SocketAddr,
    /// What is not as usual about its store.
    store: fn(&mut StoreOptions),
}

impl Node {
    fn new(name: &str) -> Node {
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Node { dir: tempfile::tempdir().unwrap(), name: name.into(), peer: free(), api: free(), store: |_| {} }
    }

    fn pki(&self) -> std::path::PathBuf {
        self.dir.path().join("server/pki")
    }

    async fn start(&self, joined: Option<Joined>) -> Server {
        self.try_start(joined).await.unwrap()
    }

    async fn try_start(&self, joined: Option<Joined>) -> Result<Server, StartError> {
        let peer = PeerConfig {
            name: self.name.clone(),
            listen: self.peer,
            advertise: self.peer.to_string(),
            api: self.api.to_string(),
            joined,
        };
        let config = ServerConfig {
            data_dir: self.dir.path().into(),
            api: self.api,
            advertise: None,
            peer: Some(peer),
            quota_bytes: 0,
            balancer_pool: Default::default(),
            connections: 1024,
        };
        Server::start_on(config, self.store).await
    }

    /// Joins the group that `by` is in.
    async fn join(&self, by: &Server, secrets: &Path) -> Server {
        self.join_as(by, secrets, false).await
    }

    async fn join_as(&self, by: &Server, secrets: &Path, learner: bool) -> Server {
        let (peer, api) = (self.peer.to_string(), self.api.to_string());
        let joined = by.members().add(&self.name, &peer, &api, learner).await.unwrap();
        std::fs::create_dir_all(self.pki()).unwrap();
        for secret in SECRETS {
            std::fs::copy(secrets.join(secret), self.pki().join(secret)).unwrap();
        }
        self.start(Some(joined)).await
    }
}

async fn until<T>(what: &str, f: impl AsyncFn() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = f().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, found).await.unwrap_or_else(|_| panic!("{what}"))
}

async fn members(server: &Server, what: &str, f: impl Fn(&[Member]) -> bool) -> Vec<Member> {
    until(what, async || server.members().list().await.ok().filter(|m| f(m))).await
}

async fn create(server: &Server, name: &str) {
    let client = server.admin_client("test");
    until("a leader takes it", async || {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
        match client.create("configmaps", "default", object).await {
            Ok(_) => Some(()),
            Err(e) if e.reason == "AlreadyExists" => Some(()),
            Err(e) => {
                assert!(matches!(e.code, 503 | 504), "{e}");
                None
            }
        }
    })
    .await;
}

async fn names(server: &Server) -> Vec<String> {
    let list = server.admin_client("test").list("configmaps", "default", ListOptions::default()).await.unwrap();
    list.items.iter().map(|o| o.name().to_string()).filter(|n| !n.starts_with("kube-")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_are_one_cluster_and_survive_the_loss_of_one() {
    let nodes = ["a", "b", "c"].map(Node::new);
    let secrets = nodes[0].pki();
    let first = nodes[0].start(None).await;
    create(&first, "one").await;
    let second = nodes[1].join(&first, &secrets).await;
    let third = nodes[2].join(&second, &secrets).await;
    let all = members(&third, "all vote", |m| m.len() == 3 && m.iter().all(|m| m.voter && m.reachable)).await;
    assert_eq!(all.iter().map(|m| (m.id, m.name.as_str())).collect::<Vec<_>>(), [(1, "a"), (2, "b"), (3, "c")]);
    let taken = third.members().add("b", "127.0.0.1:1", "127.0.0.1:2", false).await.unwrap_err();
    assert_eq!(taken.code, 409, "{taken}");

    create(&third, "two").await;
    for server in [&first, &second, &third] {
        assert_eq!(names(server).await, ["one", "two"], "what one has acknowledged all have");
    }
    // A watch goes on at another server where it was at the first one.
    let at = first.api().store().read_index().await.unwrap().revision();
    first.stop().await;
    create(&second, "three").await;
    let options = ListOptions { resource_version: Some(at.to_string()), ..ListOptions::default() };
    let mut watch = third.admin_client("test").watch("configmaps", "default", options).await.unwrap();
    use futures_util::StreamExt as _;
    match tokio::time::timeout(DEADLINE, watch.next()).await.unwrap() {
        Some(copepod_client::WatchEvent::Added(o)) => assert_eq!(o.name(), "three"),
        other => panic!("{other:?}"),
    }
    members(&second, "the lost one is seen", |m| m.iter().any(|m| m.name == "a" && !m.reachable)).await;

    let first = nodes[0].start(None).await;
    until("it catches up", async || (names(&first).await.len() == 3).then_some(())).await;
    members(&first, "all are back", |m| m.iter().all(|m| m.voter && m.reachable)).await;
    let gone = third.api().store().member();
    second.members().remove(gone).await.unwrap();
    tokio::time::timeout(DEADLINE, third.removed()).await.expect("it is told");
    third.stop().await;
    members(&first, "two are left", |m| m.len() == 2).await;
    create(&first, "four").await;
    let refused = first.members().remove(9).await.unwrap_err();
    assert_eq!(refused.code, 404);
    second.stop().await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_writes_what_others_cannot_read_is_taken_nothing_from() {
    use copepod_state::codec::{READS, WRITES};
    let nodes = ["a", "b"].map(Node::new);
    let first = nodes[0].start(None).await;
    let second = nodes[1].join(&first, &nodes[0].pki()).await;
    members(&first, "both vote", |m| m.len() == 2 && m.iter().all(|m| m.voter)).await;
    let network = second.members().network.clone().unwrap();
    for (version, code) in [(WRITES, 200), (READS + 1, 426)] {
        assert_eq!(network.asks_as(version, 1, "/messages").await, code, "{version}");
    }
    assert_eq!(network.asks_as(READS + 1, 1, "/propose").await, 426);
    second.stop().await;
    first.stop().await;
}

/// A request to the registry by way of a server.
async fn registry(server: &Server, method: &str, path: &str, body: impl Into<Bytes>) -> (u16, Bytes) {
    let request = http::Request::builder().method(method).uri(path).body(body.into()).unwrap();
    let answer = server.admin_client("test").raw(request).await.unwrap();
    (answer.status().as_u16(), answer.into_body().collect().await.unwrap().to_bytes())
}

/// Another key for Secrets, by way of a server: its id, and how many were sealed with it.
async fn rotate(server: &Server) -> (u64, u64) {
    until("the key is rotated", async || {
        let (code, body) = registry(server, "POST", "/copepod.dev/v1/secrets/rotate-key", "").await;
        assert!(matches!(code, 200 | 429 | 503 | 504), "{code} {body:?}");
        let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
        (code == 200).then(|| (answer["key"].as_u64().unwrap(), answer["resealed"].as_u64().unwrap()))
    })
    .await
}

/// Waits until a server gives the value of the Secret `s`; how it has stored that.
async fn sealed(server: &Server) -> String {
    until("the Secret can be read", async || {
        let secret = server.admin_client("test").get("secrets", "default", "s").await.ok()?;
        assert_eq!(secret.value()["data"]["word"], "b3Blbg==");
        let stored = server.api().store().snapshot();
        stored.find("secrets", "default", "s")?.value()["data"]["word"].as_str().map(String::from)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_for_secrets_is_at_every_server() {
    let nodes = ["a", "b", "c"].map(Node::new);
    let keys = nodes[0].pki();
    let first = nodes[0].start(None).await;
    create(&first, "one").await;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"word": "b3Blbg=="}});
    first.admin_client("test").create("secrets", "default", secret).await.unwrap();
    let second = nodes[1].join(&first, &keys).await;
    members(&first, "both vote", |m| m.len() == 2 && m.iter().all(|m| m.voter)).await;
    assert!(sealed(&second).await.starts_with("sealed:v1:"));

    // Asked of one that follows.
    let (key, resealed) = rotate(&second).await;
    assert!(key >= 2 && resealed >= 1, "{key} {resealed}");
    for server in [&first, &second] {
        let stored = sealed(server).await;
        assert!(stored.starts_with(&format!("sealed:v2:{key}:")), "{stored}");
    }
    // One that joins has the first key from those that are there, and the others with the state.
    let third = nodes[2].join(&first, &keys).await;
    assert!(sealed(&third).await.starts_with(&format!("sealed:v2:{key}:")));
    let (newer, _) = rotate(&third).await;
    assert!(newer > key, "{newer} after {key}");
    let newest = format!("sealed:v2:{newer}:");
    assert!(sealed(&first).await.starts_with(&newest));
    third.stop().await;
    let third = nodes[2].start(None).await;
    assert!(sealed(&third).await.starts_with(&newest));
    third.stop().await;
    second.stop().await;
    first.stop().await;
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// Pushes a blob to one server and a manifest of it to another: the SHA-256 of both.
async fn push(blob_to: &Server, manifest_to: &Server, tag: &str, content: &'static str) -> [String; 2] {
    let blob = sha256(content.as_bytes());
    let pushed = registry(blob_to, "POST", &format!("/v2/app/blobs/uploads/?digest=sha256:{blob}"), content).await;
    assert_eq!(pushed.0, 201, "{pushed:?}");
    let layer = json!({"digest": format!("sha256:{blob}"), "size": content.len()});
    let manifest = json!({"schemaVersion": 2, "config": layer, "layers": [layer]}).to_string();
    let hash = sha256(manifest.as_bytes());
    let pushed = registry(manifest_to, "PUT", &format!("/v2/app/manifests/{tag}"), manifest).await;
    assert_eq!(pushed.0, 201, "{pushed:?}");
    [blob, hash]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_was_pushed_to_one_server_is_at_all_of_them() {
    let nodes = ["a", "b"].map(Node::new);
    let first = nodes[0].start(None).await;
    let second = nodes[1].join(&first, &nodes[0].pki()).await;
    members(&first, "both vote", |m| m.len() == 2 && m.iter().all(|m| m.voter)).await;
    let at = |node: usize, hex: &str| nodes[node].dir.path().join("server/images/blobs").join(hex);
    let tagged = async |server: &Server, tag: &str| {
        let (code, manifest) = registry(server, "GET", &format!("/v2/app/manifests/{tag}"), "").await;
        (code == 200).then(|| sha256(&manifest))
    };
    let blob =
        async |server: &Server, hex: &str| registry(server, "GET", &format!("/v2/app/blobs/sha256:{hex}"), "").await;

    // At once, though nothing of it was asked for at the other.
    let [one, manifest] = push(&first, &first, "1", "one").await;
    assert_eq!(tagged(&second, "1").await.as_ref(), Some(&manifest));
    assert_eq!(blob(&second, &one).await, (200, "one".into()));
    let tags = registry(&second, "GET", "/v2/app/tags/list", "").await.1;
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&tags).unwrap(), json!({"name": "app", "tags": ["1"]}));
    // A client whose requests go to one and to the other; a tag that is set anew.
    let [two, newer] = push(&first, &second, "1", "two").await;
    assert_eq!(tagged(&first, "1").await.as_ref(), Some(&newer));
    // What is deleted at one is gone at both.
    push(&second, &second, "2", "three").await;
    assert_eq!(registry(&first, "DELETE", "/v2/app/manifests/2", "").await.0, 202);
    assert_eq!(tagged(&second, "2").await, None);
    assert_eq!(registry(&second, "DELETE", &format!("/v2/app/manifests/sha256:{newer}"), "").await.0, 202);
    assert_eq!((tagged(&first, "1").await, tagged(&first, &format!("sha256:{newer}")).await), (None, None));
    assert_eq!(registry(&first, "DELETE", &format!("/v2/app/blobs/sha256:{two}"), "").await.0, 202);
    assert_eq!(blob(&second, &two).await.0, 404);

    // Each gets all of it without being asked, so that the loss of one costs nothing.
    let [four, kept] = push(&first, &first, "4", "four").await;
    for hex in [&one, &four, &kept] {
        until("the content comes", async || at(1, hex).exists().then_some(())).await;
    }
    // Whoever has something else under a digest is not believed.
    std::fs::remove_file(at(1, &four)).unwrap();
    std::fs::write(at(0, &four), "evil").unwrap();
    assert_eq!(blob(&second, &four).await.0, 404);
    assert!(!at(1, &four).exists(), "nothing of it is kept");
    std::fs::write(at(0, &four), "four").unwrap();
    assert_eq!(blob(&second, &four).await, (200, "four".into()));
    // Without a majority nothing is pushed, and what is there can be pulled.
    first.stop().await;
    assert_eq!(blob(&second, &four).await, (200, "four".into()));
    second.stop().await;
}

#[tokio::test]
async fn a_state_is_not_started_without_the_keys_that_it_was_made_with() {
    let node = Node::new("a");
    let server = node.start(None).await;
    let client = server.admin_client("test");
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": "dg=="}});
    until("a leader takes it", async || client.create("secrets", "default", secret.clone()).await.ok()).await;
    server.stop().await;
    let refused = async |file: &str| {
        let before = files(node.dir.path());
        let message = node.try_start(None).await.err().expect("it does not start").to_string();
        assert!(
            message.contains(&format!("server/pki/{file}")) && message.contains("copepod snapshot restore"),
            "{message}"
        );
        assert_eq!(files(node.dir.path()), before, "{file}: nothing is changed");
    };
    for file in SECRETS {
        let path = node.pki().join(file);
        let kept = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        refused(file).await;
        std::fs::write(&path, "garbled").unwrap();
        refused(file).await;
        std::fs::write(&path, kept).unwrap();
    }
    let aside = node.dir.path().join("pki");
    std::fs::rename(node.pki(), &aside).unwrap();
    refused("ca.key").await;
    std::fs::rename(&aside, node.pki()).unwrap();
    // What the CA has issued can be issued again.
    for file in ["admin.key", "apiserver.crt", "peer.key"] {
        std::fs::write(node.pki().join(file), "garbled").unwrap();
    }
    let server = node.start(None).await;
    let found = server.admin_client("test").get("secrets", "default", "s").await.unwrap().value();
    assert_eq!(found["data"]["k"], "dg==");
    server.stop().await;
}

/// Every file below a folder with its bytes, but for the store's lock, in which whoever looks writes its process.
fn files(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
        if entry.is_dir() {
            out.extend(files(&entry));
        } else if !entry.ends_with("state/lock") {
            out.push((entry.clone(), std::fs::read(&entry).unwrap()));
        }
    }
    out.sort();
    out
}

#[tokio::test]
async fn a_watch_in_which_nothing_happens_is_told_how_far_it_is() {
    use copepod_client::WatchEvent;
    use futures_util::StreamExt as _;
    let node = Node::new("a");
    let server = node.start(None).await;
    create(&server, "one").await;
    let client = server.admin_client("test");
    let now = async || client.list("configmaps", "default", ListOptions::default()).await.unwrap().revision;
    let options = ListOptions {
        resource_version: Some(now().await.to_string()),
        field_selector: "metadata.name=nobody".into(),
        allow_watch_bookmarks: true,
        ..ListOptions::default()
    };
    let mut watch = client.watch("configmaps", "default", options).await.unwrap();
    create(&server, "two").await;
    let later = now().await;
    // From here on minutes pass as soon as nothing else is to be done.
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    loop {
        match watch.next().await {
            Some(WatchEvent::Bookmark(revision, false)) if revision >= later => break,
            Some(WatchEvent::Bookmark(_, false)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(began.elapsed() >= Duration::from_secs(50), "not more often than once a minute");
    tokio::time::resume();
    drop(watch);
    server.stop().await;
}

#[tokio::test]
async fn a_first_start_that_was_cut_off_makes_its_keys() {
    let dir = tempfile::tempdir().unwrap();
    let (state, pki) = (dir.path().join("state"), dir.path().join("pki"));
    keys_of(&state, &pki).unwrap();
    // The store was made, and the server ended before it had its keys and its first objects.
    Store::open(StoreOptions::new(state.clone(), FIRST)).unwrap().close().await.unwrap();
    assert!(offline::is_store(&state));
    Pki::open(&pki, now()).unwrap();
    keys_of(&state, &pki).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_died_while_it_joined_is_taken_out_and_joins_under_its_name() {
    let nodes = ["a", "b"].map(Node::new);
    let secrets = nodes[0].pki();
    let first = nodes[0].start(None).await;
    let (peer, api) = (nodes[1].peer.to_string(), nodes[1].api.to_string());
    let add = async || first.members().add("b", &peer, &api, false).await;
    let lost = add().await.unwrap();
    assert_eq!(lost.members.iter().map(|m| (m.id, m.voter)).collect::<Vec<_>>(), [(1, true), (2, false)]);
    assert_eq!(add().await.unwrap_err().code, 409);
    // It has no vote: nobody waits for it.
    create(&first, "one").await;
    first.members().remove(lost.id).await.unwrap();
    assert_eq!(first.members().list().await.unwrap().len(), 1);

    let joined = add().await.unwrap();
    assert_eq!(joined.id, 3, "no id comes twice");
    std::fs::create_dir_all(nodes[1].pki()).unwrap();
    for secret in SECRETS {
        std::fs::copy(secrets.join(secret), nodes[1].pki().join(secret)).unwrap();
    }
    let second = nodes[1].start(Some(joined.clone())).await;
    members(&first, "both vote", |m| m.len() == 2 && m.iter().all(|m| m.voter && m.reachable)).await;
    second.stop().await;
    // One that was killed before it had noted that it started once is told the same again.
    let second = nodes[1].start(Some(joined)).await;
    create(&second, "two").await;
    assert_eq!(names(&second).await, ["one", "two"]);
    second.stop().await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_takes_the_place_of_a_server_in_one_step() {
    let nodes = ["a", "b", "c", "d"].map(Node::new);
    let secrets = nodes[0].pki();
    let first = nodes[0].start(None).await;
    let second = nodes[1].join(&first, &secrets).await;
    let third = nodes[2].join(&first, &secrets).await;
    let voting = |names: &'static [&str]| {
        move |all: &[Member]| all.iter().filter(|m| m.voter && m.reachable).map(|m| &*m.name).eq(names.iter().copied())
    };
    members(&first, "all vote", voting(&["a", "b", "c"])).await;
    let fourth = nodes[3].join_as(&second, &secrets, true).await;
    create(&fourth, "one").await;
    members(&first, "it is there, and has no vote", |m| m.iter().any(|m| m.name == "d" && !m.voter && m.reachable))
        .await;
    let ids: Vec<u64> = first.members().list().await.unwrap().iter().map(|m| m.id).collect();
    for (id, old, code) in [(ids[3], 9, 404), (9, ids[2], 404), (ids[1], ids[2], 409), (ids[3], ids[3], 409)] {
        assert_eq!(first.members().promote(id, Some(old)).await.unwrap_err().code, code, "{id} for {old}");
    }
    third.stop().await;
    second.members().promote(ids[3], Some(ids[2])).await.unwrap();
    members(&first, "d votes, c is gone", voting(&["a", "b", "d"])).await;
    create(&second, "two").await;
    // The leader itself, by a new server with the name of the one that is gone.
    let fifth = Node::new("c").join_as(&first, &secrets, true).await;
    members(&first, "it is there", |m| m.iter().any(|m| m.name == "c" && !m.voter && m.reachable)).await;
    let all = first.members().list().await.unwrap();
    let (leader, new) = (all.iter().find(|m| m.leader).unwrap(), all.iter().find(|m| m.name == "c").unwrap());
    let servers = [&first, &second, &fourth];
    let led = servers.into_iter().find(|s| s.api().store().member() == leader.id).unwrap();
    fourth.members().promote(new.id, Some(leader.id)).await.unwrap();
    tokio::time::timeout(DEADLINE, led.removed()).await.expect("it is told");
    let rest = members(&fifth, "three vote", |m| m.iter().filter(|m| m.voter).count() == 3).await;
    assert!(rest.len() == 3 && rest.iter().all(|m| m.id != leader.id && !m.learner), "{rest:?}");
    create(&fifth, "three").await;
    for server in [first, second, fourth, fifth] {
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_share_a_quota_take_turns() {
    const CLIENTS: u64 = 128;
    let node = Node::new("a");
    let server = node.start(None).await;
    let client = server.admin_client("test");
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"},
        "spec": {"hard": {"count/secrets": "1000"}}});
    until("a leader takes it", async || client.create("resourcequotas", "default", quota.clone()).await.ok()).await;
    let used = async || client.get("resourcequotas", "default", "q").await.unwrap().value()["status"]["used"].clone();
    until("it is counted", async || (used().await["count/secrets"] == "0").then_some(())).await;
    let proposals = || server.api().store().stats().proposals;
    let before = proposals();
    let racers = (0..CLIENTS).map(|i| {
        let client = server.admin_client("test");
        tokio::spawn(async move {
            let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("s{i}")}});
            client.create("secrets", "default", secret).await.unwrap();
        })
    });
    for racer in racers.collect::<Vec<_>>() {
        racer.await.unwrap();
    }
    let proposed = proposals() - before;
    assert_eq!(used().await["count/secrets"], CLIENTS.to_string());
    // Each loses one race at most to those that came with it, and one in its turn to the last of them. The cluster writes a little.
    let most = 3 * CLIENTS + 64;
    assert!(proposed <= most, "{proposed} proposals of {CLIENTS} clients");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_race_for_a_quota_never_get_more_than_it_has() {
    const CLIENTS: usize = 64;
    const LIMIT: usize = 20;
    let node = Node::new("a");
    let server = node.start(None).await;
    let client = server.admin_client("test");
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"},
        "spec": {"hard": {"count/secrets": LIMIT.to_string()}}});
    until("a leader takes it", async || client.create("resourcequotas", "default", quota.clone()).await.ok()).await;
    let used = async || client.get("resourcequotas", "default", "q").await.unwrap().value()["status"]["used"].clone();
    until("it is counted", async || (used().await["count/secrets"] == "0").then_some(())).await;
    let racers = (0..CLIENTS).map(|i| {
        let client = server.admin_client("test");
        tokio::spawn(async move {
            let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("s{i}")}});
            client.create("secrets", "default", secret).await
        })
    });
    let mut created = 0;
    for racer in racers.collect::<Vec<_>>() {
        match racer.await.unwrap() {
            Ok(_) => created += 1,
            Err(e) => {
                let why =
                    "exceeded quota: q, requested: count/secrets=1, used: count/secrets=20, limited: count/secrets=20";
                assert!(e.code == 403 && e.message.ends_with(why), "{e}");
            }
        }
    }
    let there = client.list("secrets", "default", ListOptions::default()).await.unwrap().items.len();
    assert_eq!((created, there), (LIMIT, LIMIT));
    assert_eq!(used().await["count/secrets"], LIMIT.to_string());
    // What is deleted can be had again.
    let gone = client.list("secrets", "default", ListOptions::default()).await.unwrap().items[0].name().to_string();
    client.delete("secrets", "default", &gone, Default::default()).await.unwrap();
    let again = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "again"}});
    until("the place is free", async || client.create("secrets", "default", again.clone()).await.ok()).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_stopped_hands_over_before_it_goes() {
    let nodes = ["a", "b", "c"].map(Node::new);
    let secrets = nodes[0].pki();
    let first = nodes[0].start(None).await;
    let second = nodes[1].join(&first, &secrets).await;
    let third = nodes[2].join(&first, &secrets).await;
    members(&first, "all vote", |m| m.len() == 3 && m.iter().all(|m| m.voter && m.reachable)).await;
    let mut servers = vec![first, second, third];
    let led = until("one leads", async || servers.iter().position(|s| s.api().store().is_leader())).await;
    let leader = servers.remove(led);
    let (old, term) = (leader.api().store().member(), leader.api().store().term());
    leader.stop().await;
    let leads =
        async || servers.iter().map(|s| s.api().store()).find(|s| s.is_leader()).map(|s| (s.member(), s.term()));
    let (next, later) = until("another leads", leads).await;
    assert_ne!(next, old);
    assert_eq!(later, term + 1, "one election, which nobody had to wait for");
    for server in &servers {
        create(server, &format!("by-{}", server.api().store().member())).await;
    }
    // The controllers and the scheduler go on at the next one, with what is in the log.
    let client = servers[0].admin_client("test");
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "after"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}},
    });
    client.create("deployments.apps", "default", deployment).await.unwrap();
    until("its pods are there, and the scheduler has looked at them", async || {
        let list = client.list("pods", "default", ListOptions::default()).await.ok()?;
        let seen = |o: &Arc<copepod_model::Object>| o.value().to_string().contains("Unschedulable");
        (list.items.len() == 2 && list.items.iter().all(seen)).then_some(())
    })
    .await;
    for server in servers {
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_votes_once_it_is_promoted() {
    let nodes = ["a", "b"].map(Node::new);
    let first = nodes[0].start(None).await;
    let second = nodes[1].join_as(&first, &nodes[0].pki(), true).await;
    create(&second, "one").await;
    let learns = |m: &[Member]| m.iter().any(|m| m.name == "b" && m.learner && !m.voter && m.reachable);
    let id = members(&first, "it is there, and has no vote", learns).await[1].id;
    assert_eq!(second.members().promote(id + 1, None).await.unwrap_err().code, 404);
    // The second time there is nothing to do.
    for _ in 0..2 {
        second.members().promote(id, None).await.unwrap();
        let all = members(&second, "both vote", |m| m.len() == 2 && m.iter().all(|m| m.voter && m.reachable)).await;
        assert_eq!((all[1].id, all[1].learner), (id, false), "nor is it to stay one");
    }
    create(&second, "two").await;
    assert_eq!(names(&first).await, ["one", "two"]);
    second.stop().await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_for_another_term_changes_nothing() {
    let node = Node::new("a");
    let server = node.start(None).await;
    create(&server, "one").await;
    let term = server.api().store().term();
    let fenced = |term: u64| {
        let transport = Arc::new(InProcess::fenced(server.api().clone(), term));
        Client::new(transport, UserInfo::system("kubernetes-admin"), "test")
    };
    let object = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    for other in [term - 1, term + 1] {
        let client = fenced(other);
        let Err(e) = client.create("configmaps", "default", object("two")).await else { panic!("it is created") };
        assert_eq!((e.code, e.message.as_str()), (503, "the leader changed"));
        let Err(e) = client.delete("configmaps", "default", "one", Default::default()).await else {
            panic!("it is deleted")
        };
        assert_eq!((e.code, e.message.as_str()), (503, "the leader changed"));
        assert_eq!(names(&server).await, ["one"]);
    }
    assert!(fenced(term).create("configmaps", "default", object("two")).await.is_ok());
    assert_eq!(names(&server).await, ["one", "two"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_too_far_behind_gets_the_whole_state() {
    let mut nodes = ["a", "b", "c"].map(Node::new);
    for node in &mut nodes {
        // Nothing beyond the checkpoint before, so that a few writes leave a server too far behind.
        node.store = |options| {
            options.hold = |_| Hold { bytes: 0, silence: Duration::from_secs(1) };
        };
    }
    let secrets = nodes[0].pki();
    let first = nodes[0].start(None).await;
    let second = nodes[1].join(&first, &secrets).await;
    let third = nodes[2].join(&first, &secrets).await;
    members(&first, "all vote", |m| m.len() == 3 && m.iter().all(|m| m.voter && m.reachable)).await;
    third.stop().await;
    let mut written = vec!["begin".to_string()];
    create(&first, "begin").await;
    let left = first.api().store().read_index().await.unwrap().revision();
    // Two checkpoints, so that the log is cut beyond what the server has.
    for round in 0..2 {
        for i in 0..5 {
            written.push(format!("n{round}-{i}"));
            create(&first, &format!("n{round}-{i}")).await;
        }
        for server in [&first, &second] {
            server.api().store().checkpoint().await;
        }
    }
    let last = first.api().store().read_index().await.unwrap().revision();
    let third = nodes[2].start(None).await;
    let store = third.api().store().clone();
    until("it has all", async || (store.snapshot().revision() >= last).then_some(())).await;
    let as_state = async || (store.oldest_watch() > left).then_some(());
    until("it comes as a state: what happened meanwhile is not known there", as_state).await;
    assert_eq!(names(&third).await, written);
    members(&third, "all are back", |m| m.len() == 3 && m.iter().all(|m| m.voter && m.reachable)).await;
    create(&third, "x-after").await;
    for server in [third, second, first] {
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_snapshots_are_sent_at_once_and_no_more() {
    let node = Node::new("a");
    let server = node.start(None).await;
    create(&server, "one").await;
    let client = server.admin_client("test");
    // More than what waits for a client that reads nothing.
    let text = "x".repeat(900_000);
    for i in 0..20 {
        let metadata = json!({"name": format!("large-{i}")});
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"text": text}});
        client.create("configmaps", "default", object).await.unwrap();
    }
    let get = async || {
        let request = http::Request::get("/copepod.dev/v1/snapshot").body(Bytes::new()).unwrap();
        client.raw(request).await.unwrap()
    };
    let (whole, dropped) = (get().await, get().await);
    assert_eq!((whole.status(), dropped.status()), (http::StatusCode::OK, http::StatusCode::OK));
    let third = get().await;
    assert_eq!(third.status(), http::StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(third.headers()["retry-after"], "10");
    // Who has all of it makes room, and who goes away.
    let bytes = whole.into_body().collect().await.unwrap().to_bytes();
    assert!(bytes.starts_with(b"copepod snapshot") && bytes.len() > 20 * 900_000, "{}", bytes.len());
    let next = until("there is room", async || Some(get().await).filter(|a| a.status().is_success())).await;
    drop(dropped);
    let last = until("there is room", async || Some(get().await).filter(|a| a.status().is_success())).await;
    drop((next, last));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn patches_of_the_same_object_are_all_made() {
    use copepod_model::request::PatchType;
    const CLIENTS: usize = 32;
    let node = Node::new("a");
    let server = node.start(None).await;
    create(&server, "m").await;
    let racers = (0..CLIENTS).map(|i| {
        let client = server.admin_client("test");
        tokio::spawn(async move {
            let patch = json!({"data": {format!("k{i}"): i.to_string()}});
            client.patch("configmaps", "default", "m", "", PatchType::Merge, patch).await.unwrap();
        })
    });
    for racer in racers.collect::<Vec<_>>() {
        racer.await.unwrap();
    }
    let found = server.admin_client("test").get("configmaps", "default", "m").await.unwrap().value();
    for i in 0..CLIENTS {
        assert_eq!(found["data"][format!("k{i}")], i.to_string(), "{found}");
    }
    assert_eq!(found["data"].as_object().unwrap().len(), CLIENTS);
    server.stop().await;
}

/// A client that has shaken hands with a server, and speaks HTTP/1.1.
async fn connect(node: &Node) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    let ca = std::fs::read_to_string(node.pki().join("ca.crt")).unwrap();
    let mut tls = copepod_client::tls::anonymous(&ca).unwrap();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = tokio::net::TcpStream::connect(node.api).await.unwrap();
    let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, stream).await.unwrap()
}

/// What a client that sends this is answered until the server closes the connection.
async fn answer(node: &Node, sent: &[u8], virtual_time: bool) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut client = connect(node).await;
    client.write_all(sent).await.unwrap();
    client.flush().await.unwrap();
    if virtual_time {
        tokio::time::pause();
    }
    let mut answer = Vec::new();
    // A server that gives up does not say goodbye, which is an error to TLS.
    let _ = tokio::time::timeout(DEADLINE, client.read_to_end(&mut answer)).await.expect("the connection is closed");
    if virtual_time {
        tokio::time::resume();
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn who_does_not_finish_a_head_is_not_waited_for() {
    let node = Node::new("a");
    let server = node.start(None).await;
    let whole = "GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for half in ["", "GET /ver", "GET /version HTTP/1.1\r\nHost: localhost\r\nX-Half: ha"] {
        assert_eq!(answer(&node, half.as_bytes(), true).await, "", "{half}");
        // Nor is one that has asked something before.
        let found = answer(&node, format!("{whole}{half}").as_bytes(), true).await;
        assert!(found.starts_with("HTTP/1.1 200 OK\r\n") && found.contains("gitVersion"), "{half}: {found}");
        assert_eq!(found.matches("HTTP/1.1 ").count(), 1, "{half}: {found}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_head_has_its_limit() {
    let node = Node::new("a");
    let server = node.start(None).await;
    let begin = "GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Long: ";
    let long = |total: usize| format!("{begin}{}", "x".repeat(total - begin.len()));
    let found = answer(&node, format!("{}\r\n\r\n", long(60 << 10)).as_bytes(), false).await;
    assert!(found.starts_with("HTTP/1.1 200 OK\r\n"), "{found}");
    // No more of it is read than that.
    let found = answer(&node, long(64 << 10).as_bytes(), false).await;
    assert!(found.starts_with("HTTP/1.1 431 "), "{found}");
    server.stop().await;
}

#[tokio::test]
async fn who_does_not_shake_hands_is_not_waited_for() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let node = Node::new("a");
    let server = node.start(None).await;
    // Nothing at all, and a record whose rest never comes.
    for sent in [&b""[..], &b"\x16\x03\x01\x02\x00\x01"[..]] {
        let mut client = tokio::net::TcpStream::connect(node.api).await.unwrap();
        client.write_all(sent).await.unwrap();
        // From here on seconds pass as soon as nothing else is to be done.
        tokio::time::pause();
        let began = tokio::time::Instant::now();
        let mut said = Vec::new();
        // What it has not read yet makes the end of the connection an error.
        let _ = tokio::time::timeout(DEADLINE, client.read_to_end(&mut said)).await.expect("the connection is closed");
        let took = began.elapsed();
        tokio::time::resume();
        assert!(said.is_empty(), "{said:?}");
        assert!(took >= Duration::from_secs(5), "a slow one has its time: {took:?}");
    }
    let whole = b"GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let found = answer(&node, whole, false).await;
    assert!(found.starts_with("HTTP/1.1 200 OK\r\n"), "{found}");
    server.stop().await;
}

/// What a reader is answered.
async fn read(server: &Server, path: &str) -> (u16, serde_json::Value) {
    let (code, body) = registry(server, "GET", path, "").await;
    (code, serde_json::from_slice(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body:?}")))
}

/// The revision of a list, and the names in it that a test has made.
fn listed(list: &serde_json::Value) -> (u64, Vec<&str>) {
    let revision = list["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    let names = list["items"].as_array().unwrap().iter().map(|o| o["metadata"]["name"].as_str().unwrap());
    (revision, names.filter(|n| !n.starts_with("kube-")).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_get_the_revision_that_they_ask_for() {
    const MAPS: &str = "/api/v1/namespaces/default/configmaps";
    let node = Node::new("a");
    let server = node.start(None).await;
    create(&server, "a").await;
    let (_, list) = read(&server, MAPS).await;
    let (first, names) = listed(&list);
    assert_eq!(names, ["a"]);
    create(&server, "b").await;
    // A list that goes on is kept as it is for its next pages.
    let (code, list) = read(&server, &format!("{MAPS}?limit=1")).await;
    let (paged, _) = listed(&list);
    assert!(code == 200 && paged > first && list["metadata"]["continue"].is_string(), "{list}");
    create(&server, "c").await;
    let (_, list) = read(&server, MAPS).await;
    let (present, names) = listed(&list);
    assert!(present > paged, "{present} after {paged}");
    assert_eq!(names, ["a", "b", "c"]);

    // Whatever is at least as new will do, and the newest is.
    let at = |revision: u64| format!("resourceVersion={revision}");
    for query in [
        "resourceVersion=".to_string(),
        "resourceVersion=0".into(),
        "resourceVersion=0&resourceVersionMatch=NotOlderThan".into(),
        at(first),
        at(paged),
        at(present),
        format!("{}&resourceVersionMatch=NotOlderThan", at(first)),
        format!("{}&resourceVersionMatch=NotOlderThan", at(paged)),
        format!("{}&resourceVersionMatch=NotOlderThan", at(present)),
    ] {
        let (code, list) = read(&server, &format!("{MAPS}?{query}")).await;
        assert_eq!(code, 200, "{query}: {list}");
        let (revision, names) = listed(&list);
        assert!(revision >= present && names == ["a", "b", "c"], "{query}: {list}");
    }
    // One object: also one that there was not yet at the revision that is asked for.
    for query in [String::new(), "resourceVersion=0".into(), at(first), at(present)] {
        let (code, object) = read(&server, &format!("{MAPS}/c?{query}")).await;
        assert_eq!((code, object["metadata"]["name"].as_str()), (200, Some("c")), "{query}: {object}");
    }

    // Exactly that revision: of the past where it was kept, and the present unless the cluster writes meanwhile.
    let exactly = |revision: u64| format!("{MAPS}?resourceVersion={revision}&resourceVersionMatch=Exact");
    let (code, list) = read(&server, &exactly(paged)).await;
    assert_eq!(code, 200, "{list}");
    assert_eq!(listed(&list), (paged, vec!["a", "b"]));
    until("the present is there", async || {
        let (_, list) = read(&server, MAPS).await;
        let (now, _) = listed(&list);
        let (code, list) = read(&server, &exactly(now)).await;
        assert!(matches!(code, 200 | 410), "{list}");
        (code == 200).then(|| assert_eq!(listed(&list), (now, vec!["a", "b", "c"])))
    })
    .await;
    let (code, status) = read(&server, &exactly(first)).await;
    assert_eq!((code, status["reason"].as_str()), (410, Some("Expired")), "{status}");

    // What cannot be meant.
    for query in [
        "resourceVersionMatch=Exact",
        "resourceVersionMatch=NotOlderThan",
        "resourceVersion=0&resourceVersionMatch=Exact",
        "resourceVersion=1&resourceVersionMatch=Other",
    ] {
        let (code, status) = read(&server, &format!("{MAPS}?{query}")).await;
        assert_eq!((code, status["reason"].as_str()), (422, Some("Invalid")), "{query}: {status}");
    }
    assert_eq!(read(&server, &format!("{MAPS}?resourceVersion=x")).await.0, 400);

    // The future: a server that is alone knows at once that there is none, and the client is to come again.
    let future = present + 1_000_000;
    for path in [
        format!("{MAPS}?{}", at(future)),
        format!("{MAPS}?{}&resourceVersionMatch=NotOlderThan", at(future)),
        format!("{MAPS}/c?{}", at(future)),
    ] {
        let (code, status) = read(&server, &path).await;
        assert_eq!((code, status["reason"].as_str()), (504, Some("Timeout")), "{path}: {status}");
        let details = &status["details"];
        let cause = details["causes"][0]["reason"].as_str();
        assert_eq!(
            (cause, details["retryAfterSeconds"].as_u64()),
            (Some("ResourceVersionTooLarge"), Some(1)),
            "{path}"
        );
    }
    server.stop().await;
}
