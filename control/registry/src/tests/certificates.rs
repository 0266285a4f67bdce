use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use copepod_model::request::{Body, PatchType};
use copepod_model::{UserInfo, Verb};
use serde_json::{Value, json};
use std::sync::Arc;

use crate::testing::{Cluster, Seen, error, request, user};

const CSR: &str = "certificatesigningrequests.certificates.k8s.io";
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
/// `O=system:masters, CN=eve`.
const MASTERS: &str = "\
-----BEGIN CERTIFICATE REQUEST-----
MIHiMIGJAgEAMCcxFzAVBgNVBAoMDnN5c3RlbTptYXN0ZXJzMQwwCgYDVQQDDANl
dmUwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARd7Zy3KZwhnxieKIEEwmWu36MZ
vYReXxuNJMVNlG2dJPs8YqM4Mb9a0/iJs8dhnYx1DvLCM9hKMJHz7VhGulQdoAAw
CgYIKoZIzj0EAwIDSAAwRQIhAKSYpv5UyCWMVPN/3N5DeOjRecBomiUTqFFhlT2f
+5qgAiA+9kqXxnw8zkXwh0GJD6p7ctERtlR77wn1F4K/zz4HEg==
-----END CERTIFICATE REQUEST-----
";

/// `O=system:copepod:servers, CN=system:copepod:server:9`.
const SERVERS: &str = "\
-----BEGIN CERTIFICATE REQUEST-----
MIH+MIGlAgEAMEMxHzAdBgNVBAoMFnN5c3RlbTpjb3BlcG9kOnNlcnZlcnMxIDAe
BgNVBAMMF3N5c3RlbTpjb3BlcG9kOnNlcnZlcjo5MFkwEwYHKoZIzj0CAQYIKoZI
zj0DAQcDQgAEXe2ctymcIZ8YniiBBMJlrt+jGb2EXl8bjSTFTZRtnST7PGKjODG/
WtP4ibPHYZ2MdQ7ywjPYSjCR8+1YRrpUHaAAMAoGCCqGSM49BAMCA0gAMEUCIBND
R19Uxm2Ywrwxtfjy/5hEr+nOOWVBV7b0d/mTqzKbAiEA9VWKJA4+4KSmZG9mlY50
HFWh84iPO4RdXDLY9aYqXkE=
-----END CERTIFICATE REQUEST-----
";

fn csr(name: &str, signer: &str, pem: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "request": STANDARD.encode(pem), "signerName": signer, "usages": ["digital signature", "client auth"],
        "username": "admin", "groups": ["system:masters"],
    }, "status": {"conditions": [{"type": "Approved", "status": "True"}], "certificate": "QQ=="}})
}

fn create(c: &mut Cluster, who: &Arc<UserInfo>, object: Value) -> Seen {
    let mut req = request(Verb::Create, CSR);
    (req.user, req.body) = (who.clone(), Body::Object(object));
    c.send(&req)
}

fn write(c: &mut Cluster, who: &Arc<UserInfo>, what: &str, status: Value) -> Seen {
    let mut req = request(Verb::Patch, &format!("{CSR} {what}"));
    (req.user, req.body) = (who.clone(), Body::Patch(PatchType::Merge, json!({ "status": status })));
    c.send(&req)
}

fn approved() -> Value {
    json!({"conditions": [{"type": "Approved", "status": "True", "reason": "r"}]})
}

#[test]
fn a_request_is_its_creators_and_begins_with_nothing_said() {
    let mut c = Cluster::new();
    let eve = user("eve", &["team"]);
    let (code, v) = create(&mut c, &eve, csr("a", "example.com/x", NODE)).unwrap();
    assert_eq!((code, &v["spec"]["username"], &v["spec"]["groups"]), (201, &json!("eve"), &json!(["team"])));
    assert_eq!(v["status"], json!({}));
    // Nobody changes what was asked for, or the status by a write of the whole.
    let mut other = v.clone();
    other["spec"]["usages"] = json!(["any"]);
    other["status"] = approved();
    other["metadata"]["labels"] = json!({"a": "b"});
    let (_, v) = c.update(&format!("{CSR} a"), other).unwrap();
    assert_eq!((&v["spec"]["usages"][1], &v["status"]), (&json!("client auth"), &json!({})));
    assert_eq!(v["metadata"]["labels"]["a"], "b");
    let (code, v) = c.patch(PatchType::Merge, &format!("{CSR} a approval"), json!({ "status": approved() })).unwrap();
    let condition = &v["status"]["conditions"][0];
    assert_eq!(
        (code, &condition["reason"], &condition["lastUpdateTime"]),
        (200, &json!("r"), &json!("2027-01-15T08:00:00Z"))
    );
    let managers = v["metadata"]["managedFields"].as_array().unwrap();
    assert!(managers.iter().any(|m| m["subresource"] == "approval"), "{managers:?}");
    let refused = error(write(&mut c, &user("x", &["system:masters"]), "a approval", json!({"conditions": null})));
    assert!(refused.contains("updates may not remove a condition of type \"Approved\""), "{refused}");
    let refused = error(create(&mut c, &eve, csr("b", "example.com/x", "x")));
    assert!(
        refused.starts_with("422 CertificateSigningRequest.certificates.k8s.io \"b\" is invalid: spec.request: "),
        "{refused}"
    );
}

#[test]
fn who_approves_and_signs_may_do_so_for_the_signer() {
    let mut c = Cluster::new();
    let rule = |verb: &str, names: Value| json!({"verbs": [verb], "apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "resourceNames": names});
    let roles = "clusterroles.rbac.authorization.k8s.io";
    c.create(roles, json!({"metadata": {"name": "one"}, "rules": [rule("approve", json!(["example.com/x"]))]}))
        .unwrap();
    c.create(roles, json!({"metadata": {"name": "all"}, "rules": [rule("sign", json!(["example.com/*"]))]})).unwrap();
    for (role, who) in
        [("one", "ann"), ("all", "sam"), ("system:certificates.k8s.io:kube-apiserver-client-approver", "kim")]
    {
        let binding = json!({"metadata": {"name": who}, "roleRef": {"kind": "ClusterRole", "name": role}, "subjects": [{"kind": "User", "name": who}]});
        c.create("clusterrolebindings.rbac.authorization.k8s.io", binding).unwrap();
    }
    for (name, signer) in [("x", "example.com/x"), ("y", "example.com/y"), ("z", "kubernetes.io/kube-apiserver-client")]
    {
        create(&mut c, &user("eve", &[]), csr(name, signer, NODE)).unwrap();
    }
    let refused = |seen: Seen, name: &str, verb: &str, signer: &str| {
        let want = format!(
            "403 {CSR} \"{name}\" is forbidden: user not permitted to {verb} requests with signerName \"{signer}\""
        );
        assert_eq!(error(seen), want);
    };
    let (ann, sam, kim) = (user("ann", &[]), user("sam", &[]), user("kim", &[]));
    refused(write(&mut c, &ann, "y approval", approved()), "y", "approve", "example.com/y");
    refused(write(&mut c, &sam, "x approval", approved()), "x", "approve", "example.com/x");
    write(&mut c, &ann, "x approval", approved()).unwrap();
    let failed = json!({"conditions": [{"type": "Failed", "status": "True"}]});
    refused(write(&mut c, &ann, "y status", failed.clone()), "y", "sign", "example.com/y");
    refused(write(&mut c, &sam, "z status", failed.clone()), "z", "sign", "kubernetes.io/kube-apiserver-client");
    write(&mut c, &sam, "y status", failed).unwrap();
    write(&mut c, &kim, "z approval", approved()).unwrap();
    // What says nothing about the certificate needs no leave.
    assert!(!error(write(&mut c, &ann, "y status", json!({}))).starts_with("403"));
}

#[test]
fn nobody_asks_for_everything_and_no_node_for_another_name() {
    let mut c = Cluster::new();
    let eve = user("eve", &[]);
    let api = "kubernetes.io/kube-apiserver-client";
    for (group, pem) in [("system:masters", MASTERS), ("system:copepod:servers", SERVERS)] {
        let want = format!("403 {CSR} \"a\" is forbidden: use of {api} signer with {group} group is not allowed");
        assert_eq!(error(create(&mut c, &eve, csr("a", api, pem))), want);
    }
    create(&mut c, &eve, csr("a", "example.com/x", MASTERS)).unwrap();
    for (i, (node, signer, want)) in [
        ("n", "kubernetes.io/kube-apiserver-client-kubelet", None),
        ("m", "kubernetes.io/kube-apiserver-client-kubelet", Some("can only create a node CSR with CN=system:node:m")),
        ("m", "kubernetes.io/kubelet-serving", Some("can only create a node CSR with CN=system:node:m")),
        ("m", "example.com/x", None),
    ]
    .into_iter()
    .enumerate()
    {
        let agent = user(&format!("system:node:{node}"), &["system:nodes"]);
        let seen = error(create(&mut c, &agent, csr(&format!("n{i}"), signer, NODE)));
        match want {
            Some(want) => assert!(seen.starts_with("403") && seen.ends_with(want), "{seen}"),
            None => assert!(seen.starts_with("201"), "{seen}"),
        }
    }
}

#[test]
fn the_default_roles_say_who_may_have_kubelets_certificates() {
    let mut c = Cluster::new();
    let bind = |role: &str, group: &str| json!({"metadata": {"name": role}, "roleRef": {"kind": "ClusterRole", "name": role}, "subjects": [{"kind": "Group", "name": group}]});
    for (role, group) in [
        ("system:node-bootstrapper", "boot"),
        ("system:certificates.k8s.io:certificatesigningrequests:nodeclient", "boot"),
        ("system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", "system:nodes"),
    ] {
        c.create("clusterrolebindings.rbac.authorization.k8s.io", bind(role, group)).unwrap();
    }
    let may = |who: &str, group: &str, subresource: Option<&str>| {
        let mut req = request(Verb::Create, CSR);
        (req.user, req.subresource) = (user(who, &[group]), subresource.map(Into::into));
        crate::allows(&c.tables, &req)
    };
    assert!(
        may("b", "boot", None) && may("b", "boot", Some("nodeclient")) && !may("b", "boot", Some("selfnodeclient"))
    );
    assert!(may("system:node:n", "system:nodes", Some("selfnodeclient")));
    assert!(!may("system:node:n", "system:nodes", Some("nodeclient")) && !may("eve", "team", None));
    let controller = UserInfo::service_account("kube-system", "certificate-controller");
    let mut req = request(Verb::Update, &format!("{CSR} a approval"));
    req.user = Arc::new(controller);
    assert!(crate::allows(&c.tables, &req));
}
