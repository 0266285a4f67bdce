//! Requests of the API as HTTP has them: method and URL, the content type, the body. What becomes of them is decided, too.

use bytes::Bytes;
use copepod_model::request::Body;
use copepod_model::{Status, Verb};
use copepod_server::api::negotiate::{self, Endpoint};
use copepod_server::api::path::{self, Query};
use copepod_server::fuzzing::request;
use http::Method;

use crate::cluster::Cluster;
use crate::support::{joined, parts};
use crate::{Outcome, Room, Seed, Target, samples};

pub(super) const TARGET: Target = Target {
    name: "http_request",
    run,
    seeds,
    words: &[
        "GET ",
        "POST ",
        "PUT ",
        "PATCH ",
        "DELETE ",
        "/api/v1/",
        "/apis/apps/v1/",
        "namespaces/default/",
        "pods/pod",
        "/status",
        "/scale",
        "/eviction",
        "/binding",
        "/proxy/",
        "watch/",
        "?",
        "&",
        "labelSelector=a%3Db",
        "fieldSelector=",
        "limit=1",
        "continue=",
        "resourceVersion=0",
        "dryRun=All",
        "fieldManager=m",
        "force=true",
        "fieldValidation=Strict",
        "gracePeriodSeconds=0",
        "propagationPolicy=Orphan",
        "%2F",
        "%zz",
        "\n===\n",
        "application/json",
        "application/yaml",
        "application/apply-patch+yaml",
        "application/merge-patch+json",
        "application/vnd.kubernetes.protobuf",
        ";as=Table;g=meta.k8s.io;v=v1",
        "{\"metadata\":{\"name\":\"a\"}}",
        "{}",
        "[]",
    ],
    room: Room { base: 8 << 20, each: 8192 },
};

fn run(input: &[u8]) -> Outcome {
    let [head, media, body] = parts(input);
    let (head, media) = (String::from_utf8_lossy(head), String::from_utf8_lossy(media));
    let (method, url) = head.split_once(' ').unwrap_or(("GET", &head));
    let everything = Endpoint { protobuf: true, tables: true, partials: true };
    let _ = negotiate::accept(&media, everything);
    if let Ok(query) = Query::parse(url.split_once('?').map_or("", |(_, q)| q)) {
        let _ = query.list_options();
    }
    let _ = path::parse(url);
    let Ok(method) = Method::from_bytes(method.as_bytes()) else { return Outcome::refused("no method") };
    let asked = match request(&method, url, &media, Bytes::copy_from_slice(body)) {
        Ok(Some(asked)) => asked,
        Ok(None) => return Outcome::refused("no resource"),
        Err(status) => return refused(&status),
    };
    let what =
        (asked.verb.as_str(), asked.resource.clone(), asked.subresource.clone(), std::mem::discriminant(&asked.body));
    if matches!(asked.verb, Verb::Get | Verb::List | Verb::Watch | Verb::DeleteCollection) {
        assert!(matches!(asked.body, Body::None));
        return Outcome::taken(0).and(what);
    }
    match Cluster::new().send(&asked) {
        Ok(answer) => Outcome::taken(answer.to_string().len()).and(what),
        Err(status) => refused(&status).and(what),
    }
}

fn refused(status: &Status) -> Outcome {
    assert!((400..500).contains(&status.code), "a request makes it fail with {}: {}", status.code, status.message);
    Outcome::refused(&status.message).and(status.code)
}

fn seeds() -> Vec<Seed> {
    let pod = samples::OBJECTS[0].replacen("\"name\":\"pod\"", "\"name\":\"new\"", 1);
    let all = [
        (
            "create",
            "POST /api/v1/namespaces/default/pods?fieldManager=m&fieldValidation=Strict",
            "application/json",
            pod.as_str(),
        ),
        (
            "yaml",
            "POST /api/v1/namespaces/default/configmaps?dryRun=All",
            "application/yaml",
            "metadata: {name: n}\ndata: {a: b}\n",
        ),
        (
            "patch",
            "PATCH /apis/apps/v1/namespaces/default/deployments/deployment",
            "application/merge-patch+json",
            r#"{"spec":{"replicas":1}}"#,
        ),
        (
            "apply",
            "PATCH /api/v1/namespaces/default/configmaps/config?fieldManager=m&force=true",
            "application/apply-patch+yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config}\ndata: {z: y}\n",
        ),
        (
            "scale",
            "PATCH /apis/apps/v1/namespaces/default/deployments/deployment/scale",
            "application/merge-patch+json",
            r#"{"spec":{"replicas":5}}"#,
        ),
        (
            "status",
            "PATCH /api/v1/namespaces/default/pods/pod/status",
            "application/strategic-merge-patch+json",
            r#"{"status":{"conditions":[{"type":"A","status":"True"}]}}"#,
        ),
        (
            "bind",
            "POST /api/v1/namespaces/default/pods/pod/binding",
            "application/json",
            r#"{"target":{"kind":"Node","name":"n"}}"#,
        ),
        (
            "evict",
            "POST /api/v1/namespaces/default/pods/pod/eviction",
            "application/json",
            r#"{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"pod"}}"#,
        ),
        (
            "delete",
            "DELETE /api/v1/namespaces/default/pods/pod?gracePeriodSeconds=0",
            "application/json",
            r#"{"propagationPolicy":"Background"}"#,
        ),
        ("list", "GET /api/v1/pods?labelSelector=a%3Db&fieldSelector=spec.nodeName%3Dn&limit=5&continue=x", "", ""),
        (
            "watch",
            "GET /apis/apps/v1/watch/namespaces/default/deployments/a?resourceVersion=0",
            "application/json;as=Table;g=meta.k8s.io;v=v1",
            "",
        ),
        (
            "json-patch",
            "PATCH /api/v1/namespaces/default/services/service",
            "application/json-patch+json",
            r#"[{"op":"remove","path":"/spec/selector"}]"#,
        ),
        (
            "resize",
            "PATCH /api/v1/namespaces/default/pods/pod/resize",
            "application/merge-patch+json",
            r#"{"spec":{"containers":[]}}"#,
        ),
    ];
    all.iter().map(|(name, head, media, body)| ((*name).to_string(), joined(&[head, media, body]))).collect()
}
