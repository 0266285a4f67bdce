//! Bootstrap tokens over HTTPS, against a server in this process: who bears one is a user of the API.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use copepod_client::{Client, Https, tls};
use copepod_model::bootstrap_token::{NAMESPACE, SECRET_TYPE, secret_name};
use copepod_model::{Status, UserInfo};
use copepod_server::{Server, ServerConfig, now};
use http::{Method, Request, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

const SECRET: &str = "0123456789abcdef";
const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
/// `O=system:nodes, CN=system:node:n`.
const NODE: &str = "\
-----BEGIN CERTIFICATE REQUEST-----
MIHqMIGRAgEAMC8xFTATBgNVBAoMDHN5c3RlbTpub2RlczEWMBQGA1UEAwwNc3lz
dGVtOm5vZGU6bjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABF3tnLcpnCGfGJ4o
gQTCZa7foxm9hF5fG40kxU2UbZ0k+zxiozgxv1rT+Imzx2GdjHUO8sIz2EowkfPt
WEa6VB2gADAKBggqhkjOPQQDAgNIADBFAiEAttZD3luJ/fz+zPrxG1+bD2RL76TU
ZEqA4HdQaYxTVoQCIBg+iCZjd4Yfv/VeSGH7YPsQJjmSzWtuKWaO1DJE5LZH
-----END CERTIFICATE REQUEST-----
";

fn csr(name: &str) -> Value {
    json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
        "spec": {
            "request": STANDARD.encode(NODE), "signerName": "example.com/x",
            "usages": ["digital signature", "client auth"],
        },
    })
}

/// Keeps the token of `id` with [`SECRET`], and what is said of it besides.
async fn keep(admin: &Client, id: &str, more: &[(&str, &str)]) {
    let mut secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": SECRET_TYPE,
        "metadata": {"name": secret_name(id), "namespace": NAMESPACE},
    });
    let plain = [("token-id", id), ("token-secret", SECRET), ("usage-bootstrap-authentication", "true")];
    for (name, value) in plain.iter().chain(more) {
        secret["data"][*name] = STANDARD.encode(value).into();
    }
    admin.create("secrets", NAMESPACE, secret).await.unwrap();
}

/// Posts an object as the bearer of a token, or without one.
async fn post(client: &Client, token: &str, uri: &str, object: &Value) -> Result<Value, Status> {
    let mut request = Request::builder().method(Method::POST).uri(uri).header(header::CONTENT_TYPE, "application/json");
    if !token.is_empty() {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let answer = client.raw(request.body(Bytes::from(object.to_string())).unwrap()).await?;
    let code = answer.status();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    if code.is_success() {
        Ok(serde_json::from_slice(&bytes).unwrap())
    } else {
        Err(Status::from_json(code.as_u16(), &bytes))
    }
}

/// What a review says of a token.
async fn review(admin: &Client, token: &str, audiences: Value) -> Value {
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": token, "audiences": audiences},
    });
    post(admin, "", "/apis/authentication.k8s.io/v1/tokenreviews", &review).await.unwrap()["status"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_bears_one_asks_for_a_certificate_in_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let config = ServerConfig {
        data_dir: dir.path().into(),
        api: ([127, 0, 0, 1], 0).into(),
        advertise: None,
        peer: None,
        quota_bytes: 0,
        balancer_pool: Default::default(),
        connections: 1024,
    };
    let server = Server::start(config).await.unwrap();
    let admin = server.admin_client("test");
    let ca = std::fs::read_to_string(dir.path().join("server/pki/ca.crt")).unwrap();
    let transport = Https::over(tls::anonymous(&ca).unwrap(), vec![format!("https://{}", server.address())]);
    let client = Client::new(Arc::new(transport), UserInfo::default(), "test");
    let (soon, over) = ((now() + Duration::from_secs(600)).rfc3339(), now().rfc3339());
    let rack = ("auth-extra-groups", "system:bootstrappers:rack");
    keep(&admin, "aaaaaa", &[rack, ("expiration", soon.as_str())]).await;
    keep(&admin, "bbbbbb", &[("expiration", over.as_str())]).await;
    keep(&admin, "cccccc", &[("usage-bootstrap-authentication", "false")]).await;
    keep(&admin, "dddddd", &[("auth-extra-groups", "system:masters")]).await;

    // It is somebody, who may do nothing until it is said.
    let good = format!("aaaaaa.{SECRET}");
    let refused = post(&client, &good, REQUESTS, &csr("a")).await.unwrap_err();
    assert!(refused.code == 403 && refused.message.contains("User \"system:bootstrap:aaaaaa\""), "{refused}");
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "boot"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:node-bootstrapper",
        },
        "subjects": [
            {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:bootstrappers:rack"},
        ],
    });
    admin.create("clusterrolebindings.rbac.authorization.k8s.io", "", binding).await.unwrap();
    post(&client, &good, REQUESTS, &csr("a")).await.unwrap();
    let stored = admin.get("certificatesigningrequests.certificates.k8s.io", "", "a").await.unwrap().value();
    assert_eq!(stored["spec"]["username"], "system:bootstrap:aaaaaa");
    let groups = json!(["system:bootstrappers", "system:bootstrappers:rack", "system:authenticated"]);
    assert_eq!(stored["spec"]["groups"], groups);

    for token in [
        "aaaaaa.0123456789abcdee".to_string(),
        format!("eeeeee.{SECRET}"),
        format!("bbbbbb.{SECRET}"),
        format!("cccccc.{SECRET}"),
        format!("dddddd.{SECRET}"),
        format!("{good}.{}", "0".repeat(64)),
    ] {
        assert_eq!(post(&client, &token, REQUESTS, &csr("b")).await.unwrap_err().code, 401, "{token}");
    }

    // A review finds the same, for those audiences that are the cluster's.
    let status = review(&admin, &good, json!([])).await;
    assert_eq!(status["user"]["username"], "system:bootstrap:aaaaaa");
    assert_eq!(status["audiences"], json!(["https://kubernetes.default.svc.cluster.local"]));
    for (token, audiences) in [(good.as_str(), json!(["vault"])), ("aaaaaa.0123456789abcdee", json!([]))] {
        assert_eq!(review(&admin, token, audiences).await["error"], "invalid bearer token", "{token}");
    }

    // What has ended goes by itself, and nothing else does.
    let gone = async {
        loop {
            match admin.get("secrets", NAMESPACE, &secret_name("bbbbbb")).await {
                Ok(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(e) => return assert_eq!(e.code, 404, "{e}"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone).await.expect("the token that has ended goes");
    for id in ["aaaaaa", "cccccc", "dddddd"] {
        admin.get("secrets", NAMESPACE, &secret_name(id)).await.unwrap();
    }
    server.stop().await;
}
