//! Joining over HTTPS, against a server in this process.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use copepod_client::join::{self, AgentAnswer, AgentRequest, JoinError, KeyRequest, ServerAnswer, ServerRequest};
use copepod_client::tls::{Credential, Rotating, public_key_hash};
use copepod_client::{Client, Https};
use copepod_model::join_token::{JoinToken, NAMESPACE, Usage};
use copepod_model::{Status, Time, UserInfo};
use copepod_server::members::Joined;
use copepod_server::{Server, ServerConfig, now, random};
use http::{Method, Request};
use http_body_util::BodyExt as _;

struct Cluster {
    server: Server,
    url: String,
    ca: String,
    _dir: tempfile::TempDir,
}

impl Cluster {
    async fn start() -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        let api = ([127, 0, 0, 1], 0).into();
        let config = ServerConfig {
            data_dir: dir.path().into(),
            api,
            advertise: None,
            peer: None,
            quota_bytes: 0,
            balancer_pool: Default::default(),
            connections: 1024,
        };
        let server = Server::start(config).await.unwrap();
        let url = format!("https://{}", server.address());
        let ca = std::fs::read_to_string(dir.path().join("server/pki/ca.crt")).unwrap();
        Cluster { server, url, ca, _dir: dir }
    }

    async fn token(&self, usage: Usage, end: Option<Time>) -> JoinToken {
        let token = JoinToken::draw(random, &public_key_hash(&self.ca).unwrap());
        let client = self.server.admin_client("test");
        client.create("secrets", NAMESPACE, token.to_secret(usage, end, "")).await.unwrap();
        token
    }

    async fn join(&self, token: &JoinToken, agent: &Agent) -> Result<AgentAnswer, JoinError> {
        join::join(&self.url, &self.ca, token, join::JOIN_AGENT, &agent.request()).await
    }

    fn client(&self, own: &Credential) -> Client {
        let tls = Rotating::new(own).unwrap().client_config(&self.ca).unwrap();
        Client::new(Arc::new(Https::over(tls, vec![self.url.clone()])), UserInfo::default(), "kubelet")
    }
}

struct Agent {
    name: &'static str,
    client: KeyRequest,
    serving: KeyRequest,
}

impl Agent {
    fn new(name: &'static str) -> Agent {
        Agent { name, client: KeyRequest::new(None).unwrap(), serving: KeyRequest::new(None).unwrap() }
    }

    fn request(&self) -> AgentRequest {
        AgentRequest {
            name: self.name.into(),
            addresses: vec!["127.0.0.1".into()],
            client_request: self.client.request.clone(),
            serving_request: self.serving.request.clone(),
        }
    }
}

async fn ask(client: &Client, method: Method, path: &str, body: &impl serde::Serialize) -> Result<Bytes, Status> {
    let body = serde_json::to_vec(body).unwrap().into();
    let answer = client.raw(Request::builder().method(method).uri(path).body(body).unwrap()).await?;
    let code = answer.status();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    if code.is_success() { Ok(bytes) } else { Err(Status::from_json(code.as_u16(), &bytes)) }
}

fn code(answer: Result<impl Sized, JoinError>) -> (u16, String) {
    match answer.map(drop) {
        Ok(()) => (200, String::new()),
        Err(JoinError::Refused(_, e)) => (e.code, e.message),
        Err(e @ JoinError::Token { .. }) => (401, e.to_string()),
        Err(e) => (0, e.to_string()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_becomes_the_node_that_it_says_and_no_other() {
    let cluster = Cluster::start().await;
    let token = cluster.token(Usage::Agent, None).await;
    assert_eq!(join::fetch_ca(&cluster.url, &token).await.unwrap().trim(), cluster.ca.trim());
    let agent = Agent::new("n");
    let answer = cluster.join(&token, &agent).await.unwrap();
    assert_eq!((answer.pod_cidr.as_str(), &answer.servers), ("10.244.240.0/20", &vec![cluster.url.clone()]));
    // The answer was lost: it is the same agent that comes again, and another one that does not.
    assert_eq!(cluster.join(&token, &agent).await.unwrap().pod_cidr, answer.pod_cidr);
    let (refused, why) = code(cluster.join(&token, &Agent::new("n")).await);
    assert!(refused == 409 && why.contains("another agent has this name"), "{why}");
    assert_eq!(cluster.join(&token, &Agent::new("m")).await.unwrap().pod_cidr, "10.244.224.0/20");

    let again = KeyRequest::new(Some(&agent.client.key)).unwrap();
    let own = agent.client.with(&answer.client_certificate).unwrap();
    agent.serving.with(&answer.serving_certificate).unwrap();
    let node = cluster.client(&own);
    assert_eq!(node.get("nodes", "", "n").await.unwrap().name(), "n");
    assert_eq!(node.get("secrets", NAMESPACE, &token.secret_name()).await.unwrap_err().code, 403);
    let servers = ask(&node, Method::GET, join::SERVERS, &()).await.unwrap();
    assert_eq!(serde_json::from_slice::<join::ServerList>(&servers).unwrap().servers, answer.servers);
    assert_eq!(ask(&node, Method::GET, join::MEMBERS, &()).await.unwrap_err().code, 403);

    // With its certificate it needs no token, for itself.
    let addresses = vec!["127.0.0.1".to_string()];
    let renewal = AgentRequest {
        name: "n".into(),
        addresses,
        client_request: again.request.clone(),
        serving_request: String::new(),
    };
    // One with another key is another agent, whatever its certificate says: the Node may have been deleted meanwhile.
    let stranger = AgentRequest { client_request: KeyRequest::new(None).unwrap().request, ..renewal.clone() };
    assert_eq!(ask(&node, Method::POST, join::RENEW_AGENT, &stranger).await.unwrap_err().code, 409);
    let silent = AgentRequest { client_request: String::new(), ..renewal.clone() };
    assert_eq!(ask(&node, Method::POST, join::RENEW_AGENT, &silent).await.unwrap_err().code, 422);
    let renewed = ask(&node, Method::POST, join::RENEW_AGENT, &renewal).await.unwrap();
    let renewed: AgentAnswer = serde_json::from_slice(&renewed).unwrap();
    assert_eq!((renewed.pod_cidr, renewed.serving_certificate), (answer.pod_cidr, String::new()));
    let node = cluster.client(&again.with(&renewed.client_certificate).unwrap());
    assert!(node.get("nodes", "", "n").await.is_ok());
    let other = AgentRequest { name: "m".into(), ..renewal };
    assert_eq!(ask(&node, Method::POST, join::RENEW_AGENT, &other).await.unwrap_err().code, 403);
    let (refused, _) =
        code(join::join::<AgentAnswer>(&cluster.url, &cluster.ca, &token, join::RENEW_AGENT, &other).await);
    assert_eq!(refused, 401, "a token renews nobody");
    cluster.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_join_changes_nothing() {
    let cluster = Cluster::start().await;
    let token = cluster.token(Usage::Agent, None).await;
    let wrong = JoinToken { ca_hash: "0".repeat(64), ..token.clone() };
    assert!(matches!(join::fetch_ca(&cluster.url, &wrong).await, Err(JoinError::WrongCa { .. })));
    let agent = Agent::new("n");
    for (token, why) in [
        (JoinToken { id: "aaaaaa".into(), ..token.clone() }, "not known"),
        (JoinToken { secret: "0123456789abcdef".into(), ..token.clone() }, "not known"),
        (cluster.token(Usage::Agent, Some(now())).await, "expired"),
        (cluster.token(Usage::Server, None).await, "for joining as: server"),
    ] {
        let (refused, said) = code(cluster.join(&token, &agent).await);
        // The expired one may be cleaned away already.
        assert!(refused == 401 && (said.contains(why) || why == "expired"), "{said}");
    }
    let long = AgentRequest { name: "n".repeat(70_000), ..agent.request() };
    let answer = join::join::<AgentAnswer>(&cluster.url, &cluster.ca, &token, join::JOIN_AGENT, &long).await;
    assert_eq!(code(answer).0, 413);
    let reserved = AgentRequest { name: "localhost".into(), ..agent.request() };
    let answer = join::join::<AgentAnswer>(&cluster.url, &cluster.ca, &token, join::JOIN_AGENT, &reserved).await;
    assert_eq!(code(answer).0, 422);
    let keyless = AgentRequest { client_request: "nonsense".into(), ..agent.request() };
    let answer = join::join::<AgentAnswer>(&cluster.url, &cluster.ca, &token, join::JOIN_AGENT, &keyless).await;
    assert_eq!(code(answer).0, 400);
    // A cluster that was not started to have several servers has no place for another.
    let servers = cluster.token(Usage::Both, Some(now() + Duration::from_secs(600))).await;
    let request = ServerRequest {
        name: "b".into(),
        peer: "127.0.0.1:1".into(),
        api: "127.0.0.1:2".into(),
        ..ServerRequest::default()
    };
    let answer: Result<ServerAnswer<Joined>, _> =
        join::join(&cluster.url, &cluster.ca, &servers, join::JOIN_SERVER, &request).await;
    assert_eq!(code(answer).0, 409);
    let nodes = cluster.server.admin_client("test").list("nodes", "", Default::default()).await.unwrap();
    assert!(nodes.items.is_empty());
    cluster.server.stop().await;
}
