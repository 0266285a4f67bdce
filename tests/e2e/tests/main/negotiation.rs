//! What is answered in which form, as curl sees it.

use e2e::text;
use serde_json::{Value, json};

use crate::api::Raw;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const PARTIAL: &str = "as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const PARTIALS: &str = "as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
const TABLE: &str = "application/json;as=Table;g=meta.k8s.io;v=v1";

#[test]
fn answers_have_the_form_that_is_accepted_first() {
    let Some(c) = Raw::up() else { return };
    c.cluster.ok(&["create", "configmap", "m", "--from-literal=a=b"]);
    let one = format!("{MAPS}/m");
    let watch = format!("{MAPS}?watch=1&timeoutSeconds=1");
    for (path, accept, code, media, has) in [
        (&*one, "", 200, "application/json", "\"kind\":\"ConfigMap\""),
        (&one, "*/*", 200, "application/json", "\"kind\":\"ConfigMap\""),
        (&one, "application/yaml", 200, "application/yaml", "kind: ConfigMap"),
        (&one, "application/json;q=0.1, application/yaml", 200, "application/yaml", "kind: ConfigMap"),
        (&one, &format!("{PROTOBUF},application/json"), 200, PROTOBUF, "ConfigMap"),
        (MAPS, &format!("{PROTOBUF},application/json"), 200, PROTOBUF, "ConfigMapList"),
        // Metadata alone.
        (&one, &format!("{PROTOBUF};{PARTIAL}"), 200, PROTOBUF, "PartialObjectMetadata"),
        (
            MAPS,
            &format!("{PROTOBUF};{PARTIALS},application/json;{PARTIALS}"),
            200,
            PROTOBUF,
            "PartialObjectMetadataList",
        ),
        (
            MAPS,
            &format!("application/json;{PARTIALS}"),
            200,
            "application/json",
            "\"kind\":\"PartialObjectMetadataList\"",
        ),
        (
            MAPS,
            &format!("application/json;{PARTIAL}"),
            406,
            "application/json",
            "the requested object is a list (*core.ConfigMapList)",
        ),
        (&one, &format!("application/json;{PARTIALS}"), 406, "application/json", "is not a list (*core.ConfigMap)"),
        // Tables.
        (MAPS, "application/yaml;as=Table;g=meta.k8s.io;v=v1", 200, "application/yaml", "kind: Table"),
        (
            &one,
            "application/json;as=Table;g=meta.k8s.io;v=v1,application/json",
            200,
            "application/json",
            "\"kind\":\"Table\"",
        ),
        // Errors, too; who accepts nothing gets JSON.
        (&one, "text/html", 406, "application/json", "only the following media types are accepted: application/json, "),
        ("/api/v1/namespaces/default/configmaps/none", "application/yaml", 404, "application/yaml", "reason: NotFound"),
        ("/api/v1/namespaces/default/configmaps/none", PROTOBUF, 404, PROTOBUF, "NotFound"),
        // Watches.
        (&format!("{MAPS}?watch=True&timeoutSeconds=1"), PROTOBUF, 200, &format!("{PROTOBUF};stream=watch"), "ADDED"),
        (&format!("{MAPS}?watch&timeoutSeconds=1"), "", 200, "application/json", "{\"type\":\"ADDED\""),
        (&format!("{MAPS}?watch=False"), "", 200, "application/json", "\"kind\":\"ConfigMapList\""),
        (&watch, &format!("application/json;{PARTIAL}"), 200, "application/json", "\"kind\":\"PartialObjectMetadata\""),
        (&watch, &format!("{PROTOBUF};{PARTIAL}"), 200, &format!("{PROTOBUF};stream=watch"), "PartialObjectMetadata"),
        (&watch, TABLE, 200, "application/json", "\"kind\":\"Table\""),
        (
            &format!("{MAPS}?watch=1"),
            "application/yaml,application/json",
            406,
            "application/yaml",
            "application/json;stream=watch",
        ),
        // Discovery.
        ("/api/v1", PROTOBUF, 200, PROTOBUF, "APIResourceList"),
        ("/apis", "application/yaml", 200, "application/yaml", "kind: APIGroupList"),
    ] {
        let header = format!("Accept: {accept}");
        // Without a value curl leaves the header out.
        let more = ["-w", "\n%{content_type}\n%{http_code}", "-H", if accept.is_empty() { "Accept:" } else { &header }];
        let (found, body) = c.ask(true, "GET", path, &more);
        let (body, kind) = body.rsplit_once('\n').unwrap_or_default();
        assert_eq!((found, kind), (code, media), "{path} {accept}: {body}");
        assert!(body.contains(has), "{path} {accept}: {body}");
    }
}

#[test]
fn rows_of_tables_have_of_their_objects_what_is_asked_for() {
    let Some(c) = Raw::up() else { return };
    c.cluster.ok(&["create", "configmap", "m", "--from-literal=a=b"]);
    c.cluster.ok(&["create", "configmap", "n", "--from-literal=a=b"]);
    let accept = format!("Accept: {TABLE}");
    for (include, kind, data) in [
        ("", "PartialObjectMetadata", false),
        ("&includeObject=Metadata", "PartialObjectMetadata", false),
        ("&includeObject=Object", "ConfigMap", true),
        ("&includeObject=None", "", false),
    ] {
        let check = |table: &Value, columns: bool| {
            assert_eq!(table["kind"], "Table", "{include}: {table}");
            let defined = table["columnDefinitions"].as_array().is_some_and(|c| !c.is_empty());
            assert_eq!(defined, columns, "{include}: {table}");
            let rows = table["rows"].as_array().unwrap();
            assert!(!rows.is_empty(), "{include}: {table}");
            for row in rows {
                assert!(row["cells"].as_array().is_some_and(|c| !c.is_empty()), "{include}: {row}");
                let object = &row["object"];
                assert_eq!(object["kind"].as_str().unwrap_or_default(), kind, "{include}: {row}");
                assert_eq!(object.get("data").is_some(), data, "{include}: {row}");
            }
        };
        check(&c.json(200, "GET", &format!("{MAPS}?limit=500{include}"), &["-H", &accept]), true);
        check(&c.json(200, "GET", &format!("{MAPS}/m?pretty=false{include}"), &["-H", &accept]), true);
        // A watch tells the columns once.
        let path = format!("{MAPS}?watch=1&timeoutSeconds=1{include}");
        let (code, lines) = c.ask(true, "GET", &path, &["-H", &accept]);
        assert_eq!(code, 200, "{lines}");
        let events: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert!(events.len() >= 2, "{lines}");
        for (i, event) in events.iter().enumerate() {
            assert_eq!(event["type"], "ADDED", "{lines}");
            check(&event["object"], i == 0);
        }
    }
    let accept = format!("Accept: application/json;{PARTIAL}");
    let path = format!("{MAPS}?watch=1&timeoutSeconds=1");
    let (_, lines) = c.ask(true, "GET", &path, &["-H", &accept]);
    for line in lines.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let object = &event["object"];
        assert_eq!((&event["type"], &object["kind"]), (&json!("ADDED"), &json!("PartialObjectMetadata")), "{line}");
        assert!(object["metadata"]["name"].is_string() && object.get("data").is_none(), "{line}");
    }
}

#[test]
fn large_answers_are_compressed_for_who_asks() {
    let Some(c) = Raw::up() else { return };
    let file = c.dir.path().join("large");
    std::fs::write(&file, "0123456789abcdef".repeat(16 << 10)).unwrap();
    c.cluster.ok(&["create", "configmap", "large", &format!("--from-file={}", file.display())]);
    c.cluster.ok(&["create", "configmap", "small", "--from-literal=a=b"]);
    let [large, small] = ["large", "small"].map(|name| format!("{MAPS}/{name}"));
    for (path, flag, accept, want) in [
        (&*large, "--compressed", "application/json", true),
        (&large, "--compressed", "application/yaml", true),
        (MAPS, "--compressed", "application/json", true),
        (&large, "-s", "application/json", false),
        (&small, "--compressed", "application/json", false),
        (&format!("{MAPS}?watch=1&timeoutSeconds=1"), "--compressed", "application/json", false),
    ] {
        let (code, answer) = c.ask(true, "GET", path, &[flag, "-i", "-H", &format!("Accept: {accept}")]);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        let head = head.to_lowercase();
        assert_eq!(code, 200, "{path} {flag}: {head}");
        assert_eq!(head.contains("content-encoding: gzip"), want, "{path} {flag}: {head}");
        assert_eq!(head.contains("vary: accept-encoding"), want, "{path} {flag}: {head}");
        assert_eq!(body.contains("0123456789abcdef"), path != small, "{path} {flag}: curl has read it");
    }
}

/// A field of a protobuf message that has a length, of less than 128 bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).unwrap();
    assert!(length < 128, "{bytes:?}");
    let head: &[u8] = &[(number << 3) | 2, length];
    [head, bytes].concat()
}

#[test]
fn protobuf_is_taken_at_the_first_attempt() {
    let Some(c) = Raw::up() else { return };
    let kind = [field(1, b"v1"), field(2, b"ConfigMap")].concat();
    let map = [field(1, &field(1, b"m")), field(2, &[field(1, b"a"), field(2, b"b")].concat())].concat();
    let body = [b"k8s\0".to_vec(), field(1, &kind), field(2, &map)].concat();
    let file = c.dir.path().join("body");
    std::fs::write(&file, body).unwrap();
    let data = format!("@{}", file.display());
    let (content, accept) = (format!("Content-Type: {PROTOBUF}"), format!("Accept: {PROTOBUF}"));
    let post = |path: &str| c.ask(true, "POST", path, &["-H", &content, "-H", &accept, "--data-binary", &data]);
    let (code, answer) = post(MAPS);
    assert!(code == 201 && answer.starts_with("k8s\0") && answer.contains("ConfigMap"), "{code} {answer:?}");
    let found = c.json(200, "GET", &format!("{MAPS}/m"), &[]);
    assert_eq!((&found["metadata"]["name"], &found["data"]), (&json!("m"), &json!({"a": "b"})), "{found}");
    let (code, answer) = post(MAPS);
    assert!(code == 409 && answer.starts_with("k8s\0") && answer.contains("AlreadyExists"), "{code} {answer:?}");

    // Who is refused protobuf comes again with JSON: kubectl has no need to.
    // It does since 1.32.
    if !c.cluster.kubectl_is(32) {
        return;
    }
    for what in [&["namespace", "x"][..], &["deployment", "d", "--image=i"]] {
        let out = c.cluster.kubectl(&[&["-v=8", "create"], what].concat());
        let log = text(&out.stderr);
        assert!(out.status.success(), "{log}");
        let posts = |line: &str| line.contains("POST http") || line.contains("verb=\"POST\"");
        assert_eq!(log.lines().filter(|l| posts(l)).count(), 1, "{log}");
        // The headers of a request come after its line.
        let sent = log.lines().skip_while(|l| !posts(l)).find(|l| l.contains("Content-Type:")).unwrap_or_default();
        assert!(sent.trim_end().ends_with(&content), "{what:?}: {log}");
    }
}
