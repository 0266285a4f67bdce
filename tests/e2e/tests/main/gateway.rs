//! Gateway API: Gateways and routes by `kubectl apply`, requests by curl.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use e2e::manifest::{self, Serves};
use e2e::process::{Process, free_port};
use e2e::{Cluster, DEADLINE, has, needs, text, until};

use crate::network::host_address;

fn app(name: &str) -> String {
    manifest::deployment(name, Serves::Http) + &manifest::service(name, Serves::Http, &[])
}

/// Files with a certificate for a name, signed by itself, and its key.
fn certificate(dir: &Path, name: &str) -> (String, String) {
    let [cert, key] = ["crt", "key"].map(|end| dir.join(format!("{name}.{end}")).to_string_lossy().into_owned());
    let out = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", &format!("/CN={name}"), "-addext", &format!("subjectAltName=DNS:{name}")])
        .args(["-keyout", &key, "-out", &cert])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", text(&out.stderr));
    (cert, key)
}

const ROUTES: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: split}
spec:
  parentRefs: [{name: front, sectionName: http}, {name: front, sectionName: own}]
  hostnames: [shop.test]
  rules:
  - matches: [{path: {type: PathPrefix, value: /shop}}]
    filters:
    - type: ResponseHeaderModifier
      responseHeaderModifier: {set: [{name: X-Served-By, value: gateway}]}
    - type: URLRewrite
      urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}
    backendRefs: [{name: one, port: 80, weight: 3}, {name: two, port: 80, weight: 1}]
  - matches: [{headers: [{name: x-canary, value: 'yes'}]}]
    backendRefs: [{name: two, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: moved}
spec:
  parentRefs: [{name: front, sectionName: http}]
  hostnames: [old.test]
  rules:
  - filters:
    - type: RequestRedirect
      requestRedirect: {hostname: shop.test, statusCode: 301, path: {type: ReplaceFullPath, replaceFullPath: /shop}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: secure}
spec:
  parentRefs: [{name: front, sectionName: https}]
  rules: [{backendRefs: [{name: one, port: 80}]}]
";

const CROSS_ORIGIN: &str = "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: api}
spec:
  parentRefs: [{name: front}]
  hostnames: [api.test]
  rules:
  - filters:
    - type: CORS
      cors: {allowOrigins: ['https://*.shop.test'], allowMethods: [PUT], allowHeaders: [x-a, x-b], exposeHeaders: [x-c],
        allowCredentials: true}
    backendRefs: [{name: one, port: 80}]
";

#[test]
fn pages_of_other_origins_may_ask_what_a_route_allows() {
    if !needs("curl", has("curl")) {
        return;
    }
    let Some((_dir, c)) = Cluster::for_kubectl(&[]) else { return };
    let gateway = manifest::gateway("front", &["{name: http, port: 80, protocol: HTTP}"]);
    c.apply(&format!("{}{gateway}{CROSS_ORIGIN}", app("one")));
    c.ok(&["rollout", "status", "deployment/one", "--timeout=60s"]);
    let accepted = "jsonpath={.status.parents[0].conditions[?(@.type==\"Accepted\")].status}";
    until("the route is accepted", || (c.ok(&["get", "httproute/api", "-o", accepted]) == "True").then_some(()));
    until("the route answers", || (c.get("api.test", "/").0 == 200).then_some(()));
    let ask = |args: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["-sS", "-m", "10", "-D", "-", "-o", "/dev/null", "-H", "Host: api.test"]).args(args);
        text(&command.arg(&c.ingress).output().unwrap().stdout).to_lowercase()
    };
    let preflight = |origin: &str| {
        let (origin, method) = (format!("Origin: {origin}"), "Access-Control-Request-Method: PUT");
        ask(&["-X", "OPTIONS", "-H", &origin, "-H", method, "-H", "Access-Control-Request-Headers: x-a"])
    };
    let said = preflight("https://www.shop.test");
    for line in [
        "http/1.1 204 no content",
        "access-control-allow-origin: https://www.shop.test",
        "access-control-allow-credentials: true",
        "access-control-allow-methods: put",
        "access-control-allow-headers: x-a, x-b",
        "access-control-expose-headers: x-c",
        "access-control-max-age: 5",
        "vary: origin",
    ] {
        assert!(said.lines().any(|l| l == line), "{line}: {said}");
    }
    assert!(!preflight("https://shop.test.evil").contains("access-control"));
    let said = ask(&["-H", "Origin: https://www.shop.test"]);
    assert!(said.starts_with("http/1.1 200") && said.contains("access-control-allow-origin: https://www.shop.test"));
    assert!(!ask(&["-H", "Origin: https://other.test"]).contains("access-control"));
    assert!(!ask(&[]).contains("access-control"));
    let both = r#"{"spec":{"rules":[{"filters":[{"type":"CORS","cors":{"allowOrigins":["*","http://a"]}}]}]}}"#;
    let refused = c.fails(&["patch", "httproute", "api", "--type=merge", "-p", both]);
    assert!(refused.contains("AllowOrigins cannot contain '*' alongside other origins"), "{refused}");
}

#[test]
fn a_gateway_routes_splits_redirects_and_shows_its_certificate() {
    let there = ["curl", "openssl"].map(has).into_iter().all(|there| there);
    if !needs("curl and openssl", there) {
        return;
    }
    let Some((dir, c)) = Cluster::for_kubectl(&[]) else { return };
    c.apply(&format!("{}{}", app("one"), app("two")));
    for name in ["one", "two"] {
        c.ok(&["rollout", "status", &format!("deployment/{name}"), "--timeout=60s"]);
    }
    let (cert, key) = certificate(dir.path(), "shop.test");

    let own = free_port();
    let gateway = manifest::gateway(
        "front",
        &[
            "{name: http, port: 80, protocol: HTTP}",
            &format!("{{name: own, port: {own}, protocol: HTTP}}"),
            "{name: https, port: 443, protocol: HTTPS, hostname: shop.test, tls: {certificateRefs: [{name: shop}]}}",
        ],
    );
    c.apply(&gateway);
    let condition = |object: &str, path: &str, ty: &str| {
        c.ok(&["get", object, "-o", &format!("jsonpath={{{path}[?(@.type==\"{ty}\")].status}}")])
    };
    let holds = |object: &str, path: &str, ty: &str| {
        until(&format!("{object} {ty}"), || (condition(object, path, ty) == "True").then_some(()));
    };
    holds("gatewayclass/copepod", ".status.conditions", "Accepted");
    holds("gateway/front", ".status.conditions", "Programmed");
    assert_eq!(condition("gateway/front", ".status.listeners[2].conditions", "ResolvedRefs"), "False", "no Secret yet");
    c.ok(&["create", "secret", "tls", "shop", "--cert", &cert, "--key", &key]);
    holds("gateway/front", ".status.listeners[2].conditions", "Programmed");

    c.apply(ROUTES);
    for route in ["split", "moved", "secure"] {
        let object = format!("httproute/{route}");
        holds(&object, ".status.parents[0].conditions", "Accepted");
        holds(&object, ".status.parents[0].conditions", "ResolvedRefs");
    }
    let attached = "jsonpath={.status.listeners[*].attachedRoutes}";
    until("the routes are counted", || (c.ok(&["get", "gateway", "front", "-o", attached]) == "2 1 1").then_some(()));
    let table = c.ok(&["get", "gateways,httproutes"]);
    let rows: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "CLASS", "ADDRESS", "PROGRAMMED", "AGE"]);
    assert!(rows[1].contains(&"copepod") && rows[1].contains(&"True"), "{table}");
    assert!(rows.iter().any(|r| r.contains(&"[\"shop.test\"]")), "{table}");

    until("the route answers", || (c.get("shop.test", "/shop").0 == 200).then_some(()));
    let from = |name: &str| {
        (0..40).filter(|_| c.get("shop.test", "/shop").1.starts_with(&format!("Hello from {name}-"))).count()
    };
    let one = from("one");
    assert!((24..=36).contains(&one), "three of four: {one} of 40");
    assert_eq!(c.get("shop.test", "/elsewhere").0, 404);

    let curl =
        |args: &[&str]| text(&Command::new("curl").args(["-sS", "-m", "10"]).args(args).output().unwrap().stdout);
    let at = |path: &str| format!("{}{path}", c.ingress);
    let headers = curl(&["-D", "-", "-o", "/dev/null", "-H", "Host: shop.test", &at("/shop")]).to_lowercase();
    assert!(headers.contains("x-served-by: gateway"), "{headers}");
    let canary = curl(&["-H", "Host: shop.test", "-H", "X-Canary: yes", &at("/")]);
    assert!(canary.starts_with("Hello from two-"), "{canary}");
    let port = c.ingress.rsplit_once(':').unwrap().1;
    let moved = curl(&["-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", "-H", "Host: old.test", &at("/x")]);
    assert_eq!(moved, format!("301 http://shop.test:{port}/shop"));
    let there = curl(&["-H", "Host: shop.test", &format!("http://127.0.0.1:{own}/shop")]);
    assert!(there.starts_with("Hello from "), "the listener's own port: {there}");

    let tls = c.ingress_tls.rsplit_once(':').unwrap().1;
    let (resolve, url) = (format!("shop.test:{tls}:127.0.0.1"), format!("https://shop.test:{tls}/"));
    until("the listener's certificate is shown", || {
        curl(&["--cacert", &cert, "--resolve", &resolve, &url]).starts_with("Hello from one-").then_some(())
    });

    // What the definitions refuse is refused, and nothing changes.
    let port = r#"{"spec":{"rules":[{"backendRefs":[{"name":"one","port":0}]}]}}"#;
    let refused = c.fails(&["patch", "httproute", "split", "--type=merge", "-p", port]);
    assert!(
        refused.contains("spec.rules[0].backendRefs[0].port in body should be greater than or equal to 1"),
        "{refused}"
    );
    assert_eq!(c.get("shop.test", "/shop").0, 200);
    c.ok(&["delete", "gateway", "front"]);
    until("nothing answers", || (c.get("shop.test", "/shop").0 == 404).then_some(()));
    let closed = || Command::new("curl").args(["-s", "-m", "5", &format!("http://127.0.0.1:{own}/")]).status().unwrap();
    until("the listener's port is closed", || (!closed().success()).then_some(()));
}

#[test]
fn streams_go_by_their_names_and_by_their_ports() {
    let there = ["curl", "openssl"].map(has).into_iter().all(|there| there);
    if !needs("curl and openssl", there) {
        return;
    }
    let Some(address) = host_address() else { return };
    let Some((dir, c)) = Cluster::for_kubectl(&["-f", "examples/tcp-echo/tcp-echo.yaml"]) else { return };
    let [(pass, pass_key), (ends, ends_key)] = ["pass.test", "ends.test"].map(|name| certificate(dir.path(), name));
    // A server that speaks TLS itself.
    let (port, own) = (free_port(), free_port());
    let mut server = Command::new("openssl");
    server.args(["s_server", "-www", "-accept", &format!("{address}:{port}"), "-cert", &pass, "-key", &pass_key]);
    let _server = Process::run(server, "s_server");
    c.ok(&["create", "secret", "tls", "ends", "--cert", &ends, "--key", &ends_key]);
    let gateway = manifest::gateway(
        "front",
        &[
            "{name: pass, port: 443, protocol: TLS, tls: {mode: Passthrough}}",
            "{name: ends, port: 443, protocol: TLS, hostname: ends.test, tls: {mode: Terminate, certificateRefs: [{name: ends}]}}",
            &format!("{{name: echo, port: {own}, protocol: TCP}}"),
        ],
    );
    let routes = [
        manifest::stream_route("pass", ("front", "pass"), &["pass.test"], ("outside", 443)),
        manifest::stream_route("ends", ("front", "ends"), &["*.test"], ("tcp-echo", 7000)),
        manifest::stream_route("echo", ("front", "echo"), &[], ("tcp-echo", 7000)),
    ]
    .concat();
    c.apply(&format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: outside}}
spec: {{ports: [{{name: tls, port: 443}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: outside, labels: {{kubernetes.io/service-name: outside}}}}
addressType: IPv4
ports: [{{name: tls, port: {port}, protocol: TCP}}]
endpoints: [{{addresses: ['{address}']}}]
{gateway}{routes}"
    ));
    c.ok(&["rollout", "status", "deployment/tcp-echo", "--timeout=60s"]);
    for route in ["tlsroute/pass", "tlsroute/ends", "tcproute/echo"] {
        for ty in ["Accepted", "ResolvedRefs"] {
            let path = format!("jsonpath={{.status.parents[0].conditions[?(@.type==\"{ty}\")].status}}");
            until(&format!("{route} {ty}"), || (c.ok(&["get", route, "-o", &path]) == "True").then_some(()));
        }
    }
    let attached = "jsonpath={.status.listeners[*].attachedRoutes}";
    until("the routes are counted", || (c.ok(&["get", "gateway", "front", "-o", attached]) == "1 1 1").then_some(()));
    let table = c.ok(&["get", "tlsroutes"]);
    assert_eq!(table.lines().next().unwrap().split_whitespace().collect::<Vec<_>>(), ["NAME", "AGE"]);

    let tls = c.ingress_tls.rsplit_once(':').unwrap().1;
    let (resolve, url) = (format!("pass.test:{tls}:127.0.0.1"), format!("https://pass.test:{tls}/"));
    until("the server shows its own certificate", || {
        let out =
            Command::new("curl").args(["-sS", "-m", "10", "--cacert", &pass, "--resolve", &resolve, &url]).output();
        text(&out.unwrap().stdout).contains("Ciphers supported in s_server").then_some(())
    });
    let client = |name: &str| {
        let mut client = Command::new("openssl");
        client.args(["s_client", "-quiet", "-verify_return_error", "-CAfile", &ends, "-servername", name]);
        client.args(["-connect", &format!("127.0.0.1:{tls}")]);
        client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        client
    };
    let refused = client("nobody.test").output().unwrap();
    let why = text(&refused.stderr);
    assert!(!refused.status.success() && why.contains("unrecognized name"), "{why}");

    let mut said = client("ends.test").spawn().unwrap();
    said.stdin.as_mut().unwrap().write_all(b"over tls\n").unwrap();
    let mut line = String::new();
    BufReader::new(said.stdout.take().unwrap()).read_line(&mut line).unwrap();
    said.kill().unwrap();
    said.wait().unwrap();
    assert_eq!(line, "over tls\n", "TLS ends at the node");

    let echo = || {
        let mut stream = TcpStream::connect(("127.0.0.1", own))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.write_all(b"over tcp\n")?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).map(|_| line)
    };
    until("the listener's own port answers", || (echo().ok()? == "over tcp\n").then_some(()));

    let nameless = r#"{"spec":{"hostnames":[]}}"#;
    let refused = c.fails(&["patch", "tlsroute", "pass", "--type=merge", "-p", nameless]);
    assert!(refused.contains("spec.hostnames in body should have at least 1 items"), "{refused}");
    c.ok(&["delete", "gateway", "front"]);
    until("the listener's port is closed", || TcpStream::connect(("127.0.0.1", own)).is_err().then_some(()));
}
