//! Kubeconfigs.

use std::io;
use std::path::{Path, PathBuf};

use copepod_client::Kubeconfig;

use crate::{Outcome, Room, Seed, Target};

pub(super) const TARGET: Target = Target {
    name: "kubeconfig",
    run,
    seeds,
    words: &[
        "clusters:\n",
        "users:\n",
        "contexts:\n",
        "current-context: a\n",
        "- name: a\n",
        "  cluster:\n",
        "    server: https://a:6443\n",
        "    certificate-authority: ca.pem\n",
        "    token: t\n",
        "    namespace: n\n",
        "&a ",
        "*a",
        "<<: *a\n",
        "\"\"",
        "null",
        "1",
        "~",
        ": #",
        "copepod.dev/servers",
    ],
    room: Room { base: 8 << 20, each: 8192 },
};

const PATH: &str = "/home/a/.kube/config";

fn run(input: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(input);
    let read = |path: PathBuf| {
        assert!(path.starts_with("/home/a/.kube") || path.is_absolute(), "{}", path.display());
        if path.as_os_str().len().is_multiple_of(2) { Ok(b"pem".to_vec()) } else { Err(io::ErrorKind::NotFound.into()) }
    };
    let config = match Kubeconfig::parse(&text, Path::new(PATH), read) {
        Ok(config) => config,
        Err(e) => return Outcome::refused(e),
    };
    let servers = config.servers();
    assert!(!servers.is_empty());
    // What is written of it is read as it was; a namespace is written even if none is named, and tokens are not.
    let written = config.to_yaml("name");
    let again = Kubeconfig::parse(&written, Path::new(PATH), read).unwrap_or_else(|e| panic!("{written}: {e}"));
    let namespace = if config.namespace.is_empty() { "default".into() } else { config.namespace.clone() };
    assert_eq!(again, Kubeconfig { namespace, token: String::new(), ..config }, "{written}");
    Outcome::taken(written.len()).and(servers.len().min(4))
}

fn seeds() -> Vec<Seed> {
    let config = |others: &[&str]| Kubeconfig {
        server: "https://127.0.0.1:6443".into(),
        others: others.iter().map(|o| (*o).to_string()).collect(),
        ca_pem: b"ca".to_vec(),
        cert_pem: b"cert".to_vec(),
        key_pem: b"key".to_vec(),
        ..Kubeconfig::default()
    };
    let files = "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters:\n- name: c\n  cluster: {server: 'https://a:6443', \
                 certificate-authority: ca.pem}\ncontexts:\n- name: a\n  context: {cluster: c, user: u, namespace: n}\nusers:\n- name: u\n  \
                 user: {token: t, client-certificate: c.pem, client-key: k.pem}\n";
    vec![
        ("one".into(), config(&[]).to_yaml("copepod").into()),
        ("several".into(), config(&["https://[::1]:6444"]).to_yaml("copepod").into()),
        ("files".into(), files.into()),
    ]
}
