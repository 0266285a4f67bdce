//! Certificates for people and kubelets, by CertificateSigningRequests.

use std::path::Path;
use std::process::Command;

use e2e::{Cluster, has, needs, text, until};

fn openssl(dir: &Path, args: &[&str]) -> String {
    let out = Command::new("openssl").args(args).current_dir(dir).output().expect("openssl runs");
    assert!(out.status.success(), "openssl {args:?}: {}", text(&out.stderr));
    text(&out.stdout)
}

/// A key and a request in `dir`, and the object that asks with it.
fn ask(dir: &Path, name: &str, subject: &str, signer: &str, rest: &str) -> String {
    let (key, csr) = (format!("{name}.key"), format!("{name}.csr"));
    openssl(dir, &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", &key]);
    openssl(dir, &["req", "-new", "-key", &key, "-subj", subject, "-out", &csr]);
    object(name, &openssl(dir, &["base64", "-A", "-in", &csr]), signer, rest)
}

fn object(name: &str, request: &str, signer: &str, rest: &str) -> String {
    format!(
        "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {{name: \"{name}\"}}\nspec:\n  \
         request: {request}\n  signerName: {signer}\n  {rest}\n"
    )
}

const API_CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const CLIENT: &str = "usages: [digital signature, client auth]";

#[test]
fn a_user_asks_an_administrator_approves_and_the_certificate_is_the_users() {
    if !needs("openssl", has("openssl")) {
        return;
    }
    let Some((dir, c)) = Cluster::for_kubectl(&[]) else { return };
    let dir = dir.path();
    let row = |name: &str| {
        let row = c.ok(&["get", "csr", name, "--no-headers"]);
        row.split_whitespace().map(String::from).collect::<Vec<_>>()
    };
    let condition = |name: &str, want: &str| {
        until(&format!("{name} is {want}"), || row(name).last().is_some_and(|l| l == want).then_some(()));
    };
    c.apply(&ask(dir, "eve", "/O=team/O=rack/CN=eve", API_CLIENT, &format!("expirationSeconds: 3600\n  {CLIENT}")));
    let shown = row("eve");
    assert_eq!([&shown[0], &shown[2], &shown[4], &shown[5]], ["eve", API_CLIENT, "60m", "Pending"], "{shown:?}");
    let by = c.ok(&["get", "csr", "eve", "-o", "jsonpath={.spec.username} {.spec.groups}"]);
    assert!(by.contains(&shown[3]) && by.contains("system:masters"), "{by}");
    c.ok(&["certificate", "approve", "eve"]);
    condition("eve", "Approved,Issued");
    let why = c.ok(&["get", "csr", "eve", "-o", "jsonpath={.status.conditions[0].reason}"]);
    assert_eq!(why, "KubectlApprove");

    std::fs::write(dir.join("eve.b64"), c.ok(&["get", "csr", "eve", "-o", "jsonpath={.status.certificate}"])).unwrap();
    openssl(dir, &["base64", "-d", "-A", "-in", "eve.b64", "-out", "eve.crt"]);
    let ca = c.ok(&["get", "configmap", "kube-root-ca.crt", "-o", "jsonpath={.data.ca\\.crt}"]);
    std::fs::write(dir.join("ca.crt"), ca).unwrap();
    openssl(dir, &["verify", "-CAfile", "ca.crt", "eve.crt"]);
    openssl(dir, &["x509", "-in", "eve.crt", "-noout", "-checkend", "3000"]);
    let longer = ["x509", "-in", "eve.crt", "-noout", "-checkend", "3700"];
    let longer = Command::new("openssl").args(longer).current_dir(dir).status().expect("openssl runs");
    assert!(!longer.success(), "it lives for an hour");

    let (cert, key) = (dir.join("eve.crt"), dir.join("eve.key"));
    let (cert, key) = (cert.display().to_string(), key.display().to_string());
    let as_eve = [
        &["--kubeconfig", "/dev/null", "-s", &c.api, "--insecure-skip-tls-verify"][..],
        &["--client-certificate", &cert, "--client-key", &key],
    ]
    .concat();
    let ok = |args: &[&str]| c.ok(&[&as_eve[..], args].concat());
    let refused = c.fails(&[&as_eve[..], &["get", "pods"]].concat());
    assert!(refused.contains("User \"eve\" cannot list resource \"pods\""), "{refused}");
    // The second group counts as the first does.
    c.ok(&["create", "clusterrolebinding", "rack", "--clusterrole=view", "--group=rack"]);
    ok(&["get", "pods"]);
    if c.kubectl_is(28) {
        let whoami = ok(&["auth", "whoami"]);
        assert!(whoami.contains("eve") && whoami.contains("team") && whoami.contains("rack"), "{whoami}");
    }

    // Who may ask for any node's certificate has it without anybody's approval.
    c.ok(&["create", "clusterrolebinding", "boot", "--clusterrole=system:node-bootstrapper", "--group=team"]);
    let role = "--clusterrole=system:certificates.k8s.io:certificatesigningrequests:nodeclient";
    c.ok(&["create", "clusterrolebinding", "auto", role, "--group=team"]);
    let kubelet = ask(
        dir,
        "kubelet",
        "/O=system:nodes/CN=system:node:far",
        "kubernetes.io/kube-apiserver-client-kubelet",
        CLIENT,
    );
    std::fs::write(dir.join("kubelet.yaml"), kubelet).unwrap();
    ok(&["create", "-f", &dir.join("kubelet.yaml").display().to_string()]);
    condition("kubelet", "Approved,Issued");
    assert_eq!(row("kubelet")[3], "eve");
}

#[test]
fn what_is_denied_or_wrong_gets_no_certificate() {
    if !needs("openssl", has("openssl")) {
        return;
    }
    let Some((dir, c)) = Cluster::for_kubectl(&[]) else { return };
    let dir = dir.path();
    let status = |name: &str| c.ok(&["get", "csr", name, "-o", "jsonpath={.status}"]);
    c.apply(&ask(dir, "no", "/CN=no", API_CLIENT, CLIENT));
    c.ok(&["certificate", "deny", "no"]);
    let denied = c.ok(&["get", "csr", "no"]);
    assert!(denied.contains("Denied"), "{denied}");
    let refused = c.fails(&["certificate", "approve", "no"]);
    assert!(refused.contains("is already Denied"), "{refused}");
    // A signer that does not take it says why.
    c.apply(&ask(dir, "odd", "/CN=odd", API_CLIENT, "usages: [server auth]"));
    c.ok(&["certificate", "approve", "odd"]);
    until("the signer has failed", || c.ok(&["get", "csr", "odd"]).contains("Approved,Failed").then_some(()));
    assert!(status("odd").contains("invalid usage for client certificate: server auth"), "{}", status("odd"));
    // Nobody else's signer is any of the cluster's business; its requests are found by its name.
    c.apply(&ask(dir, "theirs", "/CN=theirs", "example.com/theirs", CLIENT));
    c.ok(&["certificate", "approve", "theirs"]);
    let found = c.ok(&["get", "csr", "--field-selector", "spec.signerName=example.com/theirs", "-o", "name"]);
    assert_eq!(found.trim(), "certificatesigningrequest.certificates.k8s.io/theirs");
    for name in ["no", "theirs"] {
        assert_eq!(c.ok(&["get", "csr", name, "-o", "jsonpath={.status.certificate}"]), "", "{name}");
    }

    let good = openssl(dir, &["base64", "-A", "-in", "no.csr"]);
    let masters = ask(dir, "masters", "/O=system:masters/CN=eve", API_CLIENT, CLIENT);
    for (wrong, want) in [
        (object("a", "aGVsbG8=", API_CLIENT, CLIENT), "PEM block type must be CERTIFICATE REQUEST"),
        (object("a", &good, API_CLIENT, "usages: [client]"), "spec.usages[0]: Unsupported value: \"client\""),
        (object("a", &good, "kubernetes.io/legacy-unknown", CLIENT), "the legacy signerName is not allowed"),
        (object("a", &good, "theirs", CLIENT), "must be a fully qualified domain and path of the form"),
        (
            object("a", &good, API_CLIENT, &format!("expirationSeconds: 5\n  {CLIENT}")),
            "spec.expirationSeconds: Invalid value: 5: may not specify a duration less than 600 seconds (10 minutes)",
        ),
        (masters, "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"),
    ] {
        let file = dir.join("wrong.yaml");
        std::fs::write(&file, wrong).unwrap();
        let said = c.fails(&["create", "-f", &file.display().to_string()]);
        assert!(said.contains(want), "{said}");
    }
}
