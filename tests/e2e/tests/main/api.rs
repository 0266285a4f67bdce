//! The API as a sceptic uses it: raw requests whose answers have to be those of kube-apiserver.

use std::process::Command;

use e2e::{Cluster, has, needs, text};
use serde_json::Value;

/// A cluster and what curl needs to speak to it as its administrator.
pub(super) struct Raw {
    pub(super) dir: tempfile::TempDir,
    pub(super) cluster: Cluster,
}

impl Raw {
    pub(super) fn up() -> Option<Raw> {
        if !needs("kubectl and curl", has("kubectl") && has("curl")) {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let cluster = Cluster::up(dir.path(), &[]);
        for (path, file) in [
            ("clusters[0].cluster.certificate-authority-data", "ca.pem"),
            ("users[0].user.client-certificate-data", "client.pem"),
            ("users[0].user.client-key-data", "client.key"),
        ] {
            let data = cluster.ok(&["config", "view", "--raw", "-o", &format!("jsonpath={{.{path}}}")]);
            std::fs::write(dir.path().join(file), decode(&data)).unwrap();
        }
        Some(Raw { dir, cluster })
    }

    /// (code, body) of a request, as the administrator or as nobody.
    pub(super) fn ask(&self, admin: bool, method: &str, path: &str, more: &[&str]) -> (u16, String) {
        let file = |name: &str| self.dir.path().join(name).to_string_lossy().into_owned();
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-m", "20", "-A", "e2e", "-w", "\n%{http_code}", "-X", method, "--cacert", &file("ca.pem")]);
        if admin {
            curl.args(["--cert", &file("client.pem"), "--key", &file("client.key")]);
        }
        let out = curl.args(more).arg(format!("{}{path}", self.cluster.api)).output().expect("curl runs");
        let all = text(&out.stdout);
        let (body, code) = all.rsplit_once('\n').unwrap_or(("", "0"));
        assert_ne!(code, "000", "{method} {path}: {}", text(&out.stderr));
        (code.parse().unwrap_or(0), body.into())
    }

    /// The answer as JSON; it must have the code.
    pub(super) fn json(&self, code: u16, method: &str, path: &str, more: &[&str]) -> Value {
        let (found, body) = self.ask(true, method, path, more);
        assert_eq!(found, code, "{method} {path} {more:?}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|e| panic!("{method} {path}: {e}: {body}"))
    }
}

/// Base64, as `base64 -d` has it.
fn decode(data: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut out, mut bits, mut n) = (Vec::new(), 0u32, 0);
    for value in data.bytes().filter_map(|b| ALPHABET.iter().position(|a| *a == b)) {
        bits = bits << 6 | value as u32;
        n += 6;
        if n >= 8 {
            n -= 8;
            out.push((bits >> n) as u8);
        }
    }
    out
}

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JSON: [&str; 2] = ["-H", "Content-Type: application/json"];

#[test]
fn wrong_requests_get_the_answers_of_kubernetes() {
    let Some(c) = Raw::up() else { return };
    for (code, method, path, body, message) in [
        (404, "GET", "/api/v1/nonsense", "", "the server could not find the requested resource"),
        (404, "GET", "/api/v1/namespaces/default/pods/x/nonsense", "", "the server could not find"),
        (405, "PUT", CONFIG_MAPS, "{}", "the server does not allow this method on the requested resource"),
        (405, "DELETE", "/api/v1/configmaps", "", "the server does not allow this method"),
        (400, "POST", CONFIG_MAPS, "{", "cannot be handled as a ConfigMap"),
        (422, "POST", &format!("{CONFIG_MAPS}?dryRun=x"), "{}", "CreateOptions.meta.k8s.io \"\" is invalid: dryRun:"),
        (422, "POST", &format!("{CONFIG_MAPS}?fieldValidation=x"), "{}", "fieldValidation: Unsupported value: \"x\""),
        (
            422,
            "DELETE",
            &format!("{CONFIG_MAPS}/x"),
            r#"{"dryRun":["x"]}"#,
            "DeleteOptions.meta.k8s.io \"\" is invalid",
        ),
        (422, "DELETE", &format!("{CONFIG_MAPS}/x?propagationPolicy=x"), "", "propagationPolicy: Unsupported value"),
        (422, "GET", &format!("{CONFIG_MAPS}?resourceVersionMatch=Exact"), "", "forbidden unless resourceVersion"),
        (422, "GET", &format!("{CONFIG_MAPS}?resourceVersion=0&resourceVersionMatch=Exact"), "", "is forbidden for"),
        (422, "GET", &format!("{CONFIG_MAPS}?watch=true&sendInitialEvents=true"), "", "to NotOlderThan"),
        (410, "GET", &format!("{CONFIG_MAPS}?resourceVersion=1&resourceVersionMatch=Exact"), "", "too old"),
        (504, "GET", &format!("{CONFIG_MAPS}?resourceVersion=99999999"), "", "Timeout: Too large resource version"),
    ] {
        let body = ["-d", body];
        let more: Vec<&str> = JSON.into_iter().chain(body).filter(|_| !body[1].is_empty()).collect();
        let status = c.json(code, method, path, &more);
        let found = status["message"].as_str().unwrap_or_default();
        assert!(found.contains(message), "{method} {path}: {status}");
    }
    for path in ["/nonsense", "/apis/nonsense", "/apis/apps/v2", "/apis/apps/v2/deployments"] {
        assert_eq!(c.ask(true, "GET", path, &[]), (404, "404 page not found\n".into()), "{path}");
    }
    let too_new = c.json(504, "GET", &format!("{CONFIG_MAPS}?resourceVersion=99999999"), &[]);
    assert_eq!(too_new["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
    let accept = |media: &str| c.ask(true, "GET", CONFIG_MAPS, &["-H", &format!("Accept: {media}")]).0;
    assert_eq!((accept("text/html"), accept("text/html, */*;q=0.1"), accept("application/yaml")), (406, 200, 200));
    let watch = format!("{CONFIG_MAPS}?watch=true&timeoutSeconds=1");
    assert_eq!(c.ask(true, "GET", &watch, &["-H", "Accept: application/yaml"]).0, 406);
    // The refusal arrives although the client is still sending.
    let big = c.dir.path().join("big");
    std::fs::write(&big, vec![b'x'; 5 << 20]).unwrap();
    let status = c.json(413, "POST", CONFIG_MAPS, &[JSON[0], JSON[1], "--data-binary", &format!("@{}", big.display())]);
    assert_eq!(status["reason"], "RequestEntityTooLarge");
}

#[test]
fn writes_are_as_strict_as_upstream() {
    let Some(c) = Raw::up() else { return };
    c.json(201, "POST", CONFIG_MAPS, &[JSON[0], JSON[1], "-d", r#"{"metadata":{"name":"a"}}"#]);
    let a = &format!("{CONFIG_MAPS}/a");
    let apply = |query: &str, code, value: &str| {
        let object =
            format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"a"}},"data":{{"k":"{value}"}}}}"#);
        c.json(
            code,
            "PATCH",
            &format!("{a}{query}"),
            &["-H", "Content-Type: application/apply-patch+yaml", "-d", &object],
        )
    };
    assert!(apply("", 422, "1")["message"].as_str().unwrap().contains("fieldManager: Required value"));
    apply("?fieldManager=one", 200, "1");
    let conflict = apply("?fieldManager=two", 409, "2");
    assert_eq!(conflict["details"]["causes"][0]["message"], "conflict with \"one\"");
    apply("?fieldManager=two&force=true", 200, "2");
    let merge = ["-H", "Content-Type: application/merge-patch+json", "-d", "{}"];
    assert!(
        c.json(422, "PATCH", &format!("{a}?force=true"), &merge)["message"].to_string().contains("non-apply patch")
    );
    let nameless = c.json(400, "PUT", a, &[JSON[0], JSON[1], "-d", "{}"]);
    assert!(nameless["message"].as_str().unwrap().contains("name must be provided"), "{nameless}");
    // What was refused or only tried has changed nothing.
    c.json(422, "DELETE", a, &[JSON[0], JSON[1], "-d", r#"{"dryRun":["x"]}"#]);
    c.json(200, "DELETE", &format!("{a}?dryRun=All"), &[]);
    assert_eq!(c.json(200, "GET", a, &[])["data"]["k"], "2");
}

#[test]
fn lists_and_watches_have_the_form_of_upstream() {
    let Some(c) = Raw::up() else { return };
    let body = r#"{"metadata":{"name":"a"},"data":{"k":"v"}}"#;
    let made = c.json(201, "POST", CONFIG_MAPS, &[JSON[0], JSON[1], "-d", body]);
    assert_eq!(made["kind"], "ConfigMap");
    // The items of a list do not repeat what the list says for all of them; opened Secrets neither.
    let secret = r#"{"metadata":{"name":"s"},"stringData":{"k":"v"}}"#;
    c.json(201, "POST", "/api/v1/namespaces/default/secrets", &[JSON[0], JSON[1], "-d", secret]);
    for path in [CONFIG_MAPS, "/api/v1/namespaces/default/secrets"] {
        let list = c.json(200, "GET", path, &[]);
        let items = list["items"].as_array().unwrap();
        assert!(list["kind"].as_str().unwrap().ends_with("List") && !items.is_empty(), "{list}");
        for item in items {
            assert!(item["kind"].is_null() && item["apiVersion"].is_null() && item["metadata"]["uid"].is_string());
            assert_eq!(item["data"].as_object().map(|d| d.len()), Some(1), "{item}");
        }
    }
    let (code, _) = c.ask(true, "HEAD", CONFIG_MAPS, &["--head"]);
    assert_eq!(code, 405, "HEAD is served for no resource");
    // After a restart the window begins anew: what is before it is gone, and a client has to list again.
    let old = made["metadata"]["resourceVersion"].as_str().unwrap().to_string();
    c.json(200, "DELETE", &format!("{CONFIG_MAPS}/a"), &[]);
    let Raw { dir, cluster } = c;
    cluster.interrupt();
    let cluster = Cluster::up(dir.path(), &[]);
    let c = Raw { dir, cluster };
    let watch = c.json(200, "GET", &format!("{CONFIG_MAPS}?watch=true&timeoutSeconds=5&resourceVersion={old}"), &[]);
    assert_eq!((&watch["type"], &watch["object"]["code"]), (&"ERROR".into(), &410.into()), "{watch}");
    assert_eq!(watch["object"]["reason"], "Expired");
    let message = watch["object"]["message"].as_str().unwrap();
    assert!(message.starts_with(&format!("too old resource version: {old} (")), "{message}");
    // The same in protobuf: a length of four bytes before each event.
    let frames = c.dir.path().join("frames");
    let accept = "Accept: application/vnd.kubernetes.protobuf;stream=watch";
    let path = format!("{CONFIG_MAPS}?watch=true&timeoutSeconds=1&fieldSelector=metadata.name%3Dkube-root-ca.crt");
    let (code, _) = c.ask(true, "GET", &path, &["-H", accept, "-o", &frames.to_string_lossy()]);
    let bytes = std::fs::read(&frames).unwrap();
    let length = u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize;
    assert_eq!((code, bytes.len()), (200, 4 + length), "one event");
    // WatchEvent: field 1 is the type, field 2 a RawExtension whose field 1 is the object in its envelope.
    assert_eq!(&bytes[4..12], b"\x0a\x05ADDED\x12");
    assert!(bytes.windows(4).any(|w| w == b"k8s\0"), "the object has its envelope");
}

#[test]
fn collections_are_deleted() {
    let Some(c) = Raw::up() else { return };
    for (name, set) in [("a", "x"), ("b", "x"), ("c", "y")] {
        let body = format!(r#"{{"metadata":{{"name":"{name}","labels":{{"set":"{set}"}}}}}}"#);
        c.json(201, "POST", CONFIG_MAPS, &[JSON[0], JSON[1], "-d", &body]);
    }
    let names = |list: Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap().iter();
        items.map(|o| o["metadata"]["name"].as_str().unwrap().to_string()).collect()
    };
    let left = || names(c.json(200, "GET", &format!("{CONFIG_MAPS}?labelSelector=set"), &[]));
    let some = format!("{CONFIG_MAPS}?labelSelector=set%3Dx");
    // It has a verb of its own.
    c.cluster.ok(&["create", "role", "r", "--verb=delete,list", "--resource=configmaps"]);
    c.cluster.ok(&["create", "rolebinding", "r", "--role=r", "--user=bob"]);
    let (code, body) = c.ask(true, "DELETE", &some, &["-H", "Impersonate-User: bob"]);
    assert!(code == 403 && body.contains("cannot deletecollection resource"), "{code} {body}");
    c.json(200, "DELETE", &format!("{some}&dryRun=All"), &[]);
    assert_eq!(left(), ["a", "b", "c"], "it was only tried");
    let gone = c.json(200, "DELETE", &some, &[]);
    assert_eq!((gone["kind"].as_str(), names(gone.clone())), (Some("ConfigMapList"), vec!["a".into(), "b".into()]));
    assert_eq!(left(), ["c"]);
    c.json(405, "DELETE", "/api/v1/namespaces", &[]);
}

#[test]
fn what_there_is_is_told_in_one_answer() {
    let Some(c) = Raw::up() else { return };
    let accept = "Accept: application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let all = c.json(200, "GET", "/apis", &["-H", accept]);
    assert_eq!((&all["kind"], &all["apiVersion"]), (&"APIGroupDiscoveryList".into(), &"apidiscovery.k8s.io/v2".into()));
    let find = |list: &Value, key: &str, name: &str| {
        let found = list.as_array().unwrap().iter().find(|o| o.pointer(key).is_some_and(|v| v == name));
        found.unwrap_or_else(|| panic!("{name}: {list}")).clone()
    };
    let apps = find(&all["items"], "/metadata/name", "apps");
    let deployments = find(&apps["versions"][0]["resources"], "/resource", "deployments");
    assert_eq!(deployments["responseKind"]["kind"], "Deployment");
    assert_eq!((&deployments["scope"], &deployments["shortNames"][0]), (&"Namespaced".into(), &"deploy".into()));
    let scale = find(&deployments["subresources"], "/subresource", "scale");
    assert_eq!(scale["responseKind"]["group"], "autoscaling");
    let core = c.json(200, "GET", "/api", &["-H", accept]);
    let pods = find(&core["items"][0]["versions"][0]["resources"], "/resource", "pods");
    assert!(pods["verbs"].as_array().unwrap().contains(&"deletecollection".into()), "{pods}");
    // Who has it already is not sent it again; who knows only the older form gets that.
    let (_, told) = c.ask(true, "GET", "/apis", &["-H", accept, "-D", "-", "-o", "/dev/null"]);
    let tag = told.lines().find_map(|l| l.to_ascii_lowercase().starts_with("etag:").then(|| l[5..].trim().to_string()));
    let known = format!("If-None-Match: {}", tag.unwrap_or_else(|| panic!("{told}")));
    assert_eq!(c.ask(true, "GET", "/apis", &["-H", accept, "-H", &known]), (304, String::new()));
    assert_eq!(c.json(200, "GET", "/apis", &[])["kind"], "APIGroupList");
}

#[test]
fn strangers_see_what_they_may() {
    let Some(c) = Raw::up() else { return };
    for (path, code) in
        [("/healthz", 200), ("/livez", 200), ("/readyz", 200), ("/version", 200), ("/api", 403), ("/api/v1/pods", 403)]
    {
        assert_eq!(c.ask(false, "GET", path, &[]).0, code, "{path}");
    }
    assert_eq!(c.ask(false, "GET", "/version", &["-H", "Authorization: Bearer x"]).0, 401);
    assert_eq!(c.ask(true, "GET", "/livez/ping", &[]), (200, "ok".into()));
    assert_eq!(c.ask(true, "GET", "/livez/nonsense", &[]).0, 404);
    let (_, verbose) = c.ask(true, "GET", "/readyz?verbose&exclude=log&exclude=x", &[]);
    assert!(verbose.contains("[+]log excluded: ok\n") && verbose.contains("no matches for \"x\""), "{verbose}");
}

#[test]
fn who_may_act_as_somebody_else() {
    let Some(c) = Raw::up() else { return };
    let k = &c.cluster;
    assert!(k.fails(&["get", "pods", "--as=bob"]).contains("User \"bob\" cannot list resource \"pods\""));
    k.ok(&["get", "pods", "--as=bob", "--as-group=system:masters"]);
    k.ok(&["create", "namespace", "x"]);
    k.ok(&["create", "serviceaccount", "robot", "-n", "x"]);
    k.ok(&["create", "rolebinding", "rb", "--clusterrole=view", "--serviceaccount=x:robot", "-n", "x"]);
    let robot = "--as=system:serviceaccount:x:robot";
    k.ok(&["get", "pods", "-n", "x", robot]);
    // A namespace lies in itself: a role in it may be about it.
    k.ok(&["get", "namespace", "x", robot]);
    assert!(k.fails(&["get", "namespace", "default", robot]).contains("forbidden"));
    // A role about one name allows the list and watch of that name alone.
    k.ok(&["create", "configmap", "one", "-n", "x"]);
    k.ok(&["create", "role", "one", "--verb=list,watch", "--resource=configmaps", "--resource-name=one", "-n", "x"]);
    k.ok(&["create", "rolebinding", "one", "--role=one", "--user=carol", "-n", "x"]);
    k.ok(&["get", "configmaps", "--field-selector=metadata.name=one", "-n", "x", "--as=carol"]);
    assert!(k.fails(&["get", "configmaps", "-n", "x", "--as=carol"]).contains("forbidden"));
    // Who is not allowed to impersonate does not, whatever they could do then.
    if k.kubectl_is(28) {
        let token = k.ok(&["create", "token", "robot", "-n", "x"]);
        let (auth, other) = (format!("Authorization: Bearer {}", token.trim()), "Impersonate-User: kubernetes-admin");
        let (code, body) = c.ask(false, "GET", "/api/v1/namespaces/x/pods", &["-H", &auth, "-H", other]);
        assert!(code == 403 && body.contains("cannot impersonate resource \\\"users\\\""), "{code} {body}");
        let review = format!(r#"{{"spec":{{"token":"{}"}}}}"#, token.trim());
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        let found = c.json(201, "POST", path, &[JSON[0], JSON[1], "-d", &review]);
        assert_eq!(found["status"]["user"]["username"], "system:serviceaccount:x:robot");
        let found = c.json(201, "POST", path, &[JSON[0], JSON[1], "-d", r#"{"spec":{"token":"x"}}"#]);
        assert!(found["status"]["authenticated"].is_null(), "{found}");
    }
}

#[test]
fn subresources_print_and_namespaces_are_whole() {
    let Some(c) = Raw::up() else { return };
    let k = &c.cluster;
    k.ok(&["create", "deployment", "web", "--image=file://examples/hello/hello.wasm", "--replicas=0"]);
    if k.kubectl_is(27) {
        assert!(k.ok(&["get", "deployment", "web", "--subresource=scale"]).contains("DESIRED"));
        assert!(k.ok(&["get", "deployment", "web", "--subresource=status"]).contains("UP-TO-DATE"));
        assert!(k.ok(&["explain", "deployment.spec", "--output=plaintext-openapiv2"]).contains("replicas"));
    }
    assert_eq!(k.ok(&["get", "namespace", "default", "-o", "jsonpath={.status.phase}"]), "Active");
    assert_eq!(
        k.ok(&["get", "namespace", "-l", "kubernetes.io/metadata.name=default", "-o", "name"]).trim(),
        "namespace/default"
    );
    let eviction = r#"{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"nope"}}"#;
    c.json(404, "POST", "/api/v1/namespaces/default/pods/nope/eviction", &[JSON[0], JSON[1], "-d", eviction]);
}
