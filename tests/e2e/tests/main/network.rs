//! Services, DNS and the ingress of one node.

use std::net::{TcpListener, UdpSocket};
use std::process::Command;
use std::time::Duration;

use e2e::{Cluster, has, needs, text, until};

const TWO: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: c, image: 'file://examples/hello/hello.wasm', ports: [{containerPort: 8080, name: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: each}
spec: {clusterIP: None, selector: {app: web}, ports: [{name: http, port: 8080, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: outside}
spec: {type: ExternalName, externalName: example.test}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  defaultBackend: {service: {name: web, port: {name: http}}}
  rules:
  - host: web.localhost
    http:
      paths:
      - {path: /exact, pathType: Exact, backend: {service: {name: web, port: {number: 80}}}}
      - {path: /prefix, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}
  - host: '*.wild.localhost'
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
";

fn cluster() -> Option<(tempfile::TempDir, Cluster)> {
    let (dir, cluster) = Cluster::for_kubectl(&[])?;
    cluster.apply(TWO);
    cluster.ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    until("the ingress answers", || (cluster.get("web.localhost", "/exact").0 == 200).then_some(()));
    Some((dir, cluster))
}

#[test]
fn the_ingress_routes_by_host_and_path_and_spreads() {
    let Some((_dir, c)) = cluster() else { return };
    assert_eq!(c.get("web.localhost", "/prefix/more").0, 200);
    assert_eq!(c.get("a.wild.localhost", "/").0, 200);
    assert_eq!(c.get("nobody.localhost", "/").0, 200, "the default backend");
    let pods: std::collections::BTreeSet<String> =
        (0..60).map(|_| c.get("a.wild.localhost", "/").1.lines().next().unwrap_or("").to_string()).collect();
    assert_eq!(pods.len(), 3, "{pods:?}");
    c.ok(&["scale", "deployment/web", "--replicas=0"]);
    until("no endpoint is left", || (c.get("web.localhost", "/exact").0 == 503).then_some(()));
}

#[test]
fn pods_reach_services_by_name_and_tcp_guests_talk() {
    let Some((_dir, c)) = cluster() else { return };
    let fetched = c.get("a.wild.localhost", "/fetch?url=http://web.default.svc.cluster.local/");
    assert!(fetched.1.contains("200 Hello from web-"), "{fetched:?}");
    let short = c.get("a.wild.localhost", "/fetch?url=http://web/");
    assert!(short.1.contains("200 Hello from web-"), "by the search list: {short:?}");
    let none = c.get("a.wild.localhost", "/fetch?url=http://nothing.default/");
    assert_eq!(none.0, 502, "{none:?}");
    // The API is a Service too, and its certificate is trusted.
    for name in ["kubernetes.default.svc.cluster.local", "kubernetes.default"] {
        let api = c.get("a.wild.localhost", &format!("/fetch?url=https://{name}/version"));
        assert!(api.1.contains("200") && api.1.contains("gitVersion"), "{name}: {api:?}");
    }
}

#[test]
fn endpoints_list_pods_and_speak_for_services_without_a_selector() {
    let Some((_dir, c)) = cluster() else { return };
    let field = |object: &str, path: &str| c.ok(&["get", object, "-o", &format!("jsonpath={{{path}}}")]);
    let ips = c.ok(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].status.podIP}"]);
    let ips: Vec<&str> = ips.split_whitespace().collect();
    until("the pods are listed", || {
        let table = c.ok(&["get", "endpoints", "web"]);
        let header: Vec<&str> = table.lines().next()?.split_whitespace().collect();
        assert_eq!(header, ["NAME", "ENDPOINTS", "AGE"]);
        ips.iter().all(|ip| table.contains(&format!("{ip}:8080"))).then_some(())
    });
    assert!(text(&c.kubectl(&["get", "ep"]).stderr).contains("v1 Endpoints is deprecated in v1.33+"));
    let labels = r#"{"endpoints.kubernetes.io/managed-by":"endpoint-controller","service.kubernetes.io/headless":""}"#;
    until("the headless Service has its own", || {
        let got = c.kubectl(&["get", "ep/each", "-o", "jsonpath={.metadata.labels}"]);
        (text(&got.stdout) == labels).then_some(())
    });
    let port = c.api.rsplit_once(':').unwrap().1;
    assert_eq!(field("ep/kubernetes", ".subsets[0].ports[0].port"), port);

    // By hand, to a pod's address.
    let by_hand = |ip: &str, port: u16| {
        format!(
            "apiVersion: v1\nkind: Endpoints\nmetadata: {{name: manual}}\nsubsets: [{{addresses: [{{ip: {ip}}}], ports: [{{name: http, port: {port}}}]}}]\n"
        )
    };
    c.apply(&format!(
        "{}---
apiVersion: v1
kind: Service
metadata: {{name: manual}}
spec: {{ports: [{{name: http, port: 80}}]}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: manual}}
spec:
  rules:
  - host: manual.localhost
    http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: manual, port: {{number: 80}}}}}}}}]}}
",
        by_hand(ips[0], 8080)
    ));
    let through = |what: &str, want: &str| {
        until(what, || {
            let (code, body) = c.get("manual.localhost", "/");
            (code == 200 && body.contains(want)).then_some(())
        });
    };
    through("the ingress finds the pod", "Hello from web-");
    let named = c.get("a.wild.localhost", "/fetch?url=http://manual/");
    assert!(named.1.contains("200 Hello from web-"), "{named:?}");
    let mirrored = || {
        let label = "endpointslice.kubernetes.io/managed-by=endpointslicemirroring-controller.k8s.io";
        c.ok(&["get", "endpointslices", "-l", label, "-o", "jsonpath={.items[*].endpoints[*].addresses[0]}"])
    };
    assert_eq!(mirrored(), ips[0]);
    // And to a server outside the cluster.
    if let Some(ip) = host_address() {
        let server = std::net::TcpListener::bind((ip, 0)).unwrap();
        let port = server.local_addr().unwrap().port();
        std::thread::spawn(move || server.incoming().flatten().for_each(answer_outside));
        c.apply(&by_hand(&ip.to_string(), port));
        through("the ingress finds the server outside", "from outside");
    }
    let refused = c.fails(&[
        "patch",
        "endpoints",
        "manual",
        "--type=merge",
        "-p",
        r#"{"subsets":[{"addresses":[{"ip":"127.0.0.1"}]}]}"#,
    ]);
    assert!(
        refused.contains("subsets[0].addresses[0].ip: Invalid value: \"127.0.0.1\": may not be in the loopback"),
        "{refused}"
    );
    c.ok(&["delete", "endpoints", "manual"]);
    until("no endpoint is left", || (c.get("manual.localhost", "/").0 == 503).then_some(()));
    assert_eq!(mirrored(), "");
    // A slice by hand does as well.
    c.apply(&format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: own, labels: {{kubernetes.io/service-name: manual}}}}\naddressType: IPv4\nendpoints: [{{addresses: [{}]}}]\nports: [{{name: http, port: 8080}}]\n",
        ips[1]
    ));
    through("the ingress finds the pod of the slice", "Hello from web-");
    c.ok(&["delete", "service", "each"]);
    until("Endpoints go with their Service", || (!c.kubectl(&["get", "ep", "each"]).status.success()).then_some(()));
}

/// An address of this machine that is not loopback: the one it would leave by. Nothing is sent.
pub(crate) fn host_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    let found = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr()).ok().map(|a| a.ip());
    let found = found.filter(|ip| !ip.is_loopback() && !ip.is_unspecified());
    needs("an address that is not loopback", found.is_some());
    found
}

/// Answers one HTTP request.
fn answer_outside(mut stream: std::net::TcpStream) {
    use std::io::{Read as _, Write as _};
    let (mut seen, mut part) = (Vec::new(), [0; 1024]);
    let _ = stream.set_read_timeout(Some(std::time::Duration::from_secs(10)));
    while !seen.windows(4).any(|w| w == b"\r\n\r\n") {
        match stream.read(&mut part) {
            Ok(n) if n > 0 => seen.extend_from_slice(&part[..n]),
            _ => return,
        }
    }
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\nconnection: close\r\n\r\nfrom outside");
}

#[test]
fn dns_answers_dig() {
    if !needs("dig", has("dig")) {
        return;
    }
    let Some((_dir, c)) = cluster() else { return };
    let (ip, port) = c.dns.rsplit_once(':').unwrap();
    let dig = |args: &[&str]| {
        let out = Command::new("dig")
            .args([&format!("@{ip}"), "-p", port, "+tries=1", "+time=5"])
            .args(args)
            .output()
            .unwrap();
        text(&out.stdout)
    };
    let vip = c.ok(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"]);
    assert_eq!(dig(&["+short", "web.default.svc.cluster.local"]).trim(), vip);
    assert_eq!(dig(&["+short", "+tcp", "WEB.default.svc.cluster.LOCAL"]).trim(), vip);
    assert_eq!(dig(&["+short", "each.default.svc.cluster.local"]).lines().count(), 3);
    let srv = dig(&["+short", "_http._tcp.web.default.svc.cluster.local", "SRV"]);
    assert!(srv.contains("80 web.default.svc.cluster.local."), "{srv}");
    let every = dig(&["+short", "each.default.svc.cluster.local", "SRV"]);
    assert_eq!(every.lines().filter(|l| l.contains(" 8080 10-244-")).count(), 3, "{every}");
    assert_eq!(dig(&["+short", "-x", &vip]).trim(), "web.default.svc.cluster.local.");
    let no_data = dig(&["web.default.svc.cluster.local", "AAAA"]);
    assert!(no_data.contains("NOERROR") && no_data.contains("ANSWER: 0"), "{no_data}");
    assert!(dig(&["nothing.default.svc.cluster.local"]).contains("NXDOMAIN"));
    assert!(dig(&["outside.default.svc.cluster.local", "CNAME"]).contains("example.test."));
    assert_eq!(dig(&["+short", "dns-version.cluster.local", "TXT"]).trim(), "\"1.1.0\"");
    let denied = dig(&["nothing.default.svc.cluster.local", "AAAA"]);
    assert!(denied.contains("SOA") && denied.contains("hostmaster.cluster.local."), "{denied}");
    assert!(dig(&["default.svc.cluster.local"]).contains("NOERROR"), "what lies between exists");
    let extended = dig(&["+dnssec", "+bufsize=4096", "web.default.svc.cluster.local"]);
    assert!(extended.contains("EDNS: version: 0, flags: do; udp: 1232"), "{extended}");
    assert!(dig(&["+edns=1", "+noednsneg", "web.default.svc.cluster.local"]).contains("BADVERS"));
    assert!(dig(&["cluster.local", "AXFR"]).contains("Transfer failed"));
    // An address of a pod of the headless Service by its name, and back.
    let host = dig(&["+short", "each.default.svc.cluster.local", "SRV"]);
    let host = host.lines().next().and_then(|l| l.split_whitespace().last()).expect("a target").to_string();
    let address = dig(&["+short", &host]);
    assert_eq!(dig(&["+short", "-x", address.trim()]).trim(), host);
    // Two questions on one connection.
    let both = dig(&["+tcp", "+keepopen", "+short", "web.default.svc.cluster.local", "each.default.svc.cluster.local"]);
    assert_eq!(both.lines().count(), 4, "{both}");
}

/// A name server on loopback that says this to every question for an address.
fn name_server(says: std::net::Ipv4Addr) -> std::net::SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut message = [0; 1500];
        while let Ok((n, from)) = socket.recv_from(&mut message) {
            let Some(name) = message[12..n].iter().position(|b| *b == 0) else { continue };
            let question = 12 + name + 5;
            let mut answer = message[..question].to_vec();
            let is_a = message[question - 4..question - 2] == [0, 1];
            answer[2..4].copy_from_slice(&[0x81, 0x80]);
            answer[6..12].copy_from_slice(&[0, u8::from(is_a), 0, 0, 0, 0]);
            if is_a {
                answer.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                answer.extend(says.octets());
            }
            let _ = socket.send_to(&answer, from);
        }
    });
    at
}

#[test]
fn stub_domains_and_named_servers_are_asked() {
    if !needs("dig", has("dig")) {
        return;
    }
    let (stub, dead) = (name_server([192, 0, 2, 53].into()), UdpSocket::bind("127.0.0.1:0").unwrap());
    let domain = format!("--dns-stub-domain=corp.test={},{stub}", dead.local_addr().unwrap());
    let Some((_dir, c)) = Cluster::for_kubectl(&[&domain, "--dns-upstream", &dead.local_addr().unwrap().to_string()])
    else {
        return;
    };
    let (ip, port) = c.dns.rsplit_once(':').unwrap();
    let dig = |name: &str| {
        let out =
            Command::new("dig").args([&format!("@{ip}"), "-p", port, "+tries=1", "+time=8", name]).output().unwrap();
        text(&out.stdout)
    };
    let found = dig("db.corp.test");
    assert!(found.contains("192.0.2.53") && found.contains("NOERROR"), "the second server answers: {found}");
    assert!(dig("db.other.test").contains("SERVFAIL"), "others go elsewhere, where nobody answers");
    assert!(dig("kubernetes.default.svc.cluster.local").contains("10.96.0.1"));
}

#[test]
fn pods_resolve_names_as_their_policy_says() {
    let Some(std::net::IpAddr::V4(outside)) = host_address() else { return };
    let server = TcpListener::bind((outside, 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    std::thread::spawn(move || server.incoming().flatten().for_each(answer_outside));
    let domain = format!("--dns-stub-domain=corp.test={}", name_server(outside));
    let Some((_dir, c)) = Cluster::for_kubectl(&[&domain]) else { return };
    c.apply(TWO);
    c.ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    until("a pod reaches a name of the stub domain", || {
        let fetched = c.get("a.wild.localhost", &format!("/fetch?url=http://db.corp.test:{port}/"));
        fetched.1.contains("from outside").then_some(())
    });
    let pod = |name: &str, more: &str, args: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  restartPolicy: Never\n  {more}\n  containers:\n  - {{name: c, image: 'file://examples/tcp-echo/tcp-echo.wasm', args: {args}}}\n---\n"
        )
    };
    c.apply(&format!(
        "{}apiVersion: v1\nkind: Service\nmetadata: {{name: u}}\nspec: {{selector: {{app: udp}}, ports: [{{name: u, port: 71, targetPort: 7000, protocol: UDP}}]}}\n",
        pod("udp", "dnsPolicy: ClusterFirst", "[serve-udp]")
    ));
    c.ok(&["wait", "pod/udp", "--for=condition=Ready", "--timeout=60s"]);
    until("it listens", || c.ok(&["logs", "udp"]).contains("listening").then_some(()));
    // The same question of pods that ask somebody else than the cluster.
    for (name, more, phase) in [
        ("first", "dnsPolicy: ClusterFirst", "Succeeded"),
        ("hosts", "dnsPolicy: Default", "Failed"),
        ("alone", "dnsPolicy: None\n  dnsConfig: {nameservers: [192.0.2.1]}", "Failed"),
    ] {
        c.apply(&pod(name, more, "[udp, 'u.default.svc.cluster.local:71']"));
        until(&format!("{name} has {phase}"), || {
            (c.ok(&["get", "pod", name, "-o", "jsonpath={.status.phase}"]) == phase).then_some(())
        });
    }
}

#[test]
fn guests_reach_each_other_over_tcp_and_udp() {
    if !needs("kubectl", has("kubectl")) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let c = Cluster::up(dir.path(), &["-f", "examples/tcp-echo/tcp-echo.yaml"]);
    let pod = |name: &str, policy: &str, args: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  restartPolicy: {policy}\n  containers:\n  - {{name: c, image: 'file://examples/tcp-echo/tcp-echo.wasm', args: {args}}}\n---\n"
        )
    };
    c.apply(&format!(
        "{}apiVersion: v1\nkind: Service\nmetadata: {{name: u}}\nspec: {{selector: {{app: udp}}, ports: [{{name: u, port: 71, targetPort: 7000, protocol: UDP}}]}}\n",
        pod("udp", "Always", "[serve-udp]")
    ));
    c.ok(&["wait", "pod/udp", "--for=condition=Ready", "--timeout=60s"]);
    until("it listens", || c.ok(&["logs", "udp"]).contains("listening").then_some(()));
    let field = |object: &str, path: &str| c.ok(&["get", object, "-o", &format!("jsonpath={{{path}}}")]);
    let vip = field("service/tcp-echo", ".spec.clusterIP");
    let server =
        c.ok(&["get", "pods", "-l", "app.kubernetes.io/name=tcp-echo", "-o", "jsonpath={.items[0].status.podIP}"]);
    let asks = [
        ("by-vip", "connect", format!("{vip}:7000")),
        ("by-name", "connect", "tcp-echo:7000".to_string()),
        ("by-full-name", "connect", "tcp-echo.default.svc.cluster.local:7000".into()),
        ("by-address", "connect", format!("{server}:7000")),
        ("udp-by-name", "udp", "u:71".into()),
    ];
    for (name, verb, target) in &asks {
        c.apply(&pod(name, "OnFailure", &format!("[{verb}, '{target}']")));
    }
    for (name, _, _) in &asks {
        until(&format!("{name} has its answer"), || {
            (field(&format!("pod/{name}"), ".status.phase") == "Succeeded").then_some(())
        });
        let (ip, log) = (field(&format!("pod/{name}"), ".status.podIP"), c.ok(&["logs", name]));
        assert!(log.contains(" says: hello from ") && log.contains(&ip) | name.starts_with("udp"), "{name}: {log}");
    }
    // Nobody listens, and no such name: an error in the guest's own words and its exit code.
    c.apply(&pod("refused", "Never", &format!("[connect, '{server}:7009']")));
    c.apply(&pod("unknown", "Never", "[connect, 'nobody:7000']"));
    for name in ["refused", "unknown"] {
        until(&format!("{name} failed"), || (field(&format!("pod/{name}"), ".status.phase") == "Failed").then_some(()));
        assert!(c.ok(&["logs", name]).contains("Error"), "{}", c.ok(&["logs", name]));
    }
}

#[test]
fn node_ports_and_certificates_from_secrets() {
    if !needs("openssl", has("openssl")) {
        return;
    }
    let Some((dir, c)) = cluster() else { return };
    let file = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let certificate = |name: &str, verb: &str| {
        let (cert, key) = (file(&format!("{name}.crt")), file(&format!("{name}.key")));
        let out = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=shop.test", "-addext", "subjectAltName=DNS:shop.test,DNS:*.shop.test"])
            .args(["-keyout", &key, "-out", &cert])
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", text(&out.stderr));
        if verb == "replace" {
            c.ok(&["delete", "secret", "shop"]);
        }
        c.ok(&["create", "secret", "tls", "shop", "--cert", &cert, "--key", &key]);
        cert
    };
    // Whether a client that trusts one certificate alone is answered, by HTTP/2 over TLS.
    let port = c.ingress_tls.rsplit_once(':').unwrap().1.to_string();
    let trusted = |cert: &str, host: &str| {
        let out = Command::new("curl")
            .args(["-sS", "-m", "10", "--cacert", cert, "--resolve", &format!("{host}:{port}:127.0.0.1")])
            .args(["-w", "%{http_code} %{http_version}", "-o", "/dev/null", &format!("https://{host}:{port}/")])
            .output()
            .unwrap();
        text(&out.stdout) == "200 2"
    };
    let one = certificate("one", "create");
    c.apply(
        "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop}
spec:
  tls: [{hosts: [shop.test, '*.shop.test'], secretName: shop}]
  defaultBackend: {service: {name: web, port: {number: 80}}}
",
    );
    until("the Secret's certificate is shown", || trusted(&one, "shop.test").then_some(()));
    assert!(trusted(&one, "a.shop.test"), "the wildcard");
    assert!(!trusted(&one, "other.test"), "others see the default certificate");
    let two = certificate("two", "replace");
    until("the new certificate is shown", || trusted(&two, "shop.test").then_some(()));
    assert!(!trusted(&one, "shop.test"));
    // A node may read the Secrets of Ingresses, by name, and no others.
    c.ok(&["create", "secret", "generic", "own", "--from-literal=a=b"]);
    let node = ["--as=system:node:copepod", "--as-group=system:nodes"];
    c.ok(&["get", "secret", "shop", node[0], node[1]]);
    assert!(c.fails(&["get", "secret", "own", node[0], node[1]]).contains("no relationship found"));
    assert!(c.fails(&["get", "secrets", node[0], node[1]]).contains("one secrets at a time"));
    // Nor may it have tokens that are bound to no pod of its own.
    let request = r#"{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{}}"#;
    std::fs::write(file("request"), request).unwrap();
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let refused = c.fails(&["create", "--raw", path, "-f", &file("request"), node[0], node[1]]);
    assert!(refused.contains("node requested token not bound to a pod"), "{refused}");
    assert!(c.ok(&["create", "--raw", path, "-f", &file("request")]).contains("\"token\""), "others may");

    c.apply(
        "
apiVersion: v1
kind: Service
metadata: {name: port}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: http}]}
",
    );
    let number = c.ok(&["get", "service", "port", "-o", "jsonpath={.spec.ports[0].nodePort}"]);
    let get = || {
        let out =
            Command::new("curl").args(["-s", "-m", "10", &format!("http://127.0.0.1:{number}/")]).output().unwrap();
        text(&out.stdout)
    };
    until("the node port answers", || get().starts_with("Hello from web-").then_some(()));
    c.ok(&["delete", "service", "port"]);
    until("the node port is closed", || get().is_empty().then_some(()));
}

#[test]
fn an_ingress_leads_to_external_names() {
    let Some((_dir, c)) = cluster() else { return };
    let ip = host_address();
    let server = ip.map(|ip| TcpListener::bind((ip, 0)).unwrap());
    let port = server.as_ref().map_or(81, |s| s.local_addr().unwrap().port());
    let backend = |name: &str, external: &str, port: u16| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: ExternalName, externalName: {external}, ports: [{{port: {port}}}]}}\n---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}}}\nspec: {{rules: [{{host: {name}.localhost, http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: {name}, port: {{number: {port}}}}}}}}}]}}}}]}}\n---\n"
        )
    };
    let outside = ip.map_or_else(String::new, |ip| backend("far", &ip.to_string(), port));
    c.apply(&format!(
        "{}{}{outside}",
        backend("near", "web.default.svc.cluster.local", 80),
        backend("lost", "nobody.invalid", 80)
    ));
    until("a name of the cluster leads into it", || {
        let (code, body) = c.get("near.localhost", "/");
        (code == 200 && body.starts_with("Hello from web-")).then_some(())
    });
    until("a name that nobody has is a bad gateway", || (c.get("lost.localhost", "/").0 == 502).then_some(()));
    if let Some(server) = server {
        std::thread::spawn(move || server.incoming().flatten().for_each(answer_outside));
        until("an address outside answers", || {
            (c.get("far.localhost", "/") == (200, "from outside".into())).then_some(())
        });
    }
}

#[test]
fn load_balancers_answer_at_the_nodes_address() {
    let Some((_dir, c)) = cluster() else { return };
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, taken) = (free_port(), held.local_addr().unwrap().port());
    let service = |name: &str, port: u16, more: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: LoadBalancer, selector: {{app: web}}, ports: [{{port: {port}, targetPort: http}}]{more}}}\n---\n"
        )
    };
    c.apply(&format!(
        "{}{}{}",
        service("lb", port, ", allocateLoadBalancerNodePorts: false"),
        service("taken", taken, ""),
        service("theirs", port, ", loadBalancerClass: example.com/lb")
    ));
    let field = |object: &str, path: &str| c.ok(&["get", object, "-o", &format!("jsonpath={{{path}}}")]);
    until("it has the node's address", || {
        let said = field("service/lb", ".status.loadBalancer.ingress");
        (said == r#"[{"ip":"127.0.0.1","ipMode":"VIP"}]"#).then_some(())
    });
    assert_eq!(field("service/lb", ".spec.ports[0].nodePort"), "");
    assert_eq!(field("service/theirs", ".status.loadBalancer.ingress"), "", "of a class it is somebody else's");
    until("the Ingress has it as well", || {
        (field("ingress/web", ".status.loadBalancer.ingress[0].ip") == "127.0.0.1").then_some(())
    });
    let get = |port: u16| {
        let out = Command::new("curl").args(["-s", "-m", "10", &format!("http://127.0.0.1:{port}/")]).output().unwrap();
        text(&out.stdout)
    };
    until("its port answers", || get(port).starts_with("Hello from web-").then_some(()));
    let why = format!(
        "Warning SyncLoadBalancerFailed taken Error syncing load balancer: failed to ensure load balancer: listen tcp \
         127.0.0.1:{taken}: bind: address already in use"
    );
    until("a port that is taken is an Event", || {
        let events = "jsonpath={range .items[*]}{.type} {.reason} {.involvedObject.name} {.message}{\"\\n\"}{end}";
        c.ok(&["get", "events", "-o", events]).contains(&why).then_some(())
    });
    drop(held);
    until("the port is had", || get(taken).starts_with("Hello from web-").then_some(()));

    c.ok(&["patch", "service", "lb", "-p", r#"{"spec":{"loadBalancerSourceRanges":["10.0.0.0/8"]}}"#]);
    until("it is for others only", || get(port).is_empty().then_some(()));
    c.ok(&["patch", "service", "taken", "-p", r#"{"spec":{"type":"ClusterIP"}}"#]);
    until("it is balanced no more", || {
        (field("service/taken", ".status.loadBalancer.ingress").is_empty() && get(taken).is_empty()).then_some(())
    });
}

#[test]
fn load_balancers_share_the_addresses_of_a_pool() {
    let Some((_dir, c)) = Cluster::for_kubectl(&["--load-balancer-pool", "127.0.71.1-127.0.71.2"]) else { return };
    c.apply(TWO);
    c.ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    let port = free_port();
    let service = |name: &str, more: &str| {
        c.apply(&format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: LoadBalancer, selector: {{app: web}}, ports: [{{port: {port}, targetPort: http}}]{more}}}\n"
        ));
    };
    let has = |name: &str| {
        let path = "jsonpath={.status.loadBalancer.ingress[*].ip}";
        c.ok(&["get", "service", name, "-o", path])
    };
    let get = |ip: &str| {
        let out = Command::new("curl").args(["-s", "-m", "10", &format!("http://{ip}:{port}/")]).output().unwrap();
        text(&out.stdout)
    };
    service("asks", ", loadBalancerIP: 127.0.71.1");
    until("it has what it asks for", || (has("asks") == "127.0.71.1").then_some(()));
    service("one", "");
    until("the next one has the other address", || (has("one") == "127.0.71.2").then_some(()));
    for ip in ["127.0.71.1", "127.0.71.2"] {
        until("both answer at the same port", || get(ip).starts_with("Hello from web-").then_some(()));
    }
    service("two", "");
    let why = "Warning AllocationFailed two no address of the pool of load balancers' addresses is free";
    until("that there is none left is an Event", || {
        let events = "jsonpath={range .items[*]}{.type} {.reason} {.involvedObject.name} {.message}{\"\\n\"}{end}";
        c.ok(&["get", "events", "-o", events]).contains(why).then_some(())
    });
    assert_eq!(has("two"), "");
    c.ok(&["delete", "service", "asks"]);
    until("what was given back is given anew", || (has("two") == "127.0.71.1").then_some(()));
    until("and answers for it", || get("127.0.71.1").starts_with("Hello from web-").then_some(()));
}

/// Services that differ in whom they lead to: `NAME` of `SPEC`.
const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: NAME}
spec: {SPEC}
---
";

/// A pod that never becomes ready, and an endpoint that is said to be on another node.
const ENDPOINTS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: unready, labels: {app: unready}}
spec:
  containers:
  - name: c
    image: file://examples/hello/hello.wasm
    ports: [{containerPort: 8080, name: http}]
    readinessProbe: {tcpSocket: {port: 9}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: away, labels: {kubernetes.io/service-name: away}}
addressType: IPv4
ports: [{name: '', port: 8080}]
endpoints: [{addresses: [ADDRESS], nodeName: elsewhere, conditions: {ready: true}}]
---
";

#[test]
fn services_choose_among_endpoints_as_they_are_told() {
    let Some((_dir, c)) = cluster() else { return };
    let service = |name: &str, spec: &str| SERVICE.replace("NAME", name).replace("SPEC", spec);
    let web = "selector: {app: web}, ports: [{port: 80, targetPort: http}]";
    let unready = web.replace("web", "unready");
    let balanced = web.replace("port: 80", &format!("port: {}", free_port()));
    let ip = c.ok(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].status.podIP}"]);
    let services = [
        service("kept", &format!("type: NodePort, sessionAffinity: ClientIP, {web}")),
        service("away", "type: NodePort, ports: [{port: 80}]"),
        service("balanced", &format!("type: LoadBalancer, externalTrafficPolicy: Local, {balanced}")),
        service("early", &format!("publishNotReadyAddresses: true, {unready}")),
        service("late", &unready),
    ];
    c.apply(&(services.concat() + &ENDPOINTS.replace("ADDRESS", &ip)));
    let field = |service: &str, path: &str| c.ok(&["get", "service", service, "-o", &format!("jsonpath={{{path}}}")]);
    let curl = |url: &str, more: &[&str]| {
        text(&Command::new("curl").args(["-s", "-m", "10"]).args(more).arg(url).output().unwrap().stdout)
    };
    let node_port = |service: &str| format!("http://127.0.0.1:{}/", field(service, ".spec.ports[0].nodePort"));
    let inside = |service: &str| c.get("a.wild.localhost", &format!("/fetch?url=http://{service}/"));

    // A client stays where it was first.
    let kept = node_port("kept");
    let first = until("the node port answers", || Some(curl(&kept, &[])).filter(|a| a.starts_with("Hello from web-")));
    assert!((0..20).all(|_| curl(&kept, &[]) == first), "{first}");

    // From outside only this node's endpoints; from inside all.
    let away = node_port("away");
    let policy = |policy: &str| {
        c.ok(&["patch", "service", "away", "-p", &format!(r#"{{"spec":{{"externalTrafficPolicy":"{policy}"}}}}"#)])
    };
    let answers = || curl(&away, &[]).starts_with("Hello from web-");
    until("any node's will do", || answers().then_some(()));
    policy("Local");
    until("there is none on this node", || (!answers()).then_some(()));
    assert!(inside("away").1.contains("200 Hello from web-"));
    policy("Cluster");
    until("any node's will do again", || answers().then_some(()));
    let checked = format!("http://127.0.0.1:{}/", field("balanced", ".spec.healthCheckNodePort"));
    let weight = || {
        let told = curl(&checked, &["-o", "/dev/null", "-w", "%{http_code} %header{x-load-balancing-endpoint-weight}"]);
        told.trim().to_string()
    };
    until("the health check counts this node's", || (weight() == "200 3").then_some(()));

    // What is not ready is reached where a Service says so.
    until("the unready pod answers", || inside("early").1.contains("200 Hello from unready").then_some(()));
    assert_eq!(inside("late").0, 502);

    // An address that the node has.
    if let Some(ip) = host_address() {
        let port = free_port();
        let spec = format!("selector: {{app: web}}, externalIPs: [{ip}], ports: [{{port: {port}, targetPort: http}}]");
        c.apply(&service("external", &spec));
        let at = format!("http://{ip}:{port}/");
        until("its port answers", || curl(&at, &[]).starts_with("Hello from web-").then_some(()));
        c.ok(&["delete", "service", "external"]);
        until("its port is closed", || curl(&at, &[]).is_empty().then_some(()));
    }
    c.ok(&["scale", "deployment/web", "--replicas=0"]);
    until("the health check fails without any", || (weight() == "503 0").then_some(()));
}

/// A port of the loopback address that is free, or was a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn host_ports_and_udp_from_outside() {
    let Some((_dir, c)) = Cluster::for_kubectl(&[]) else { return };
    let (web, udp) = (free_port(), free_port());
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = held.local_addr().unwrap().port();
    let pod = |name: &str, image: &str, more: &str, port: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  containers:\n  - {{name: c, image: 'file://examples/{image}/{image}.wasm', {more}ports: [{{{port}}}]}}\n---\n"
        )
    };
    let host = |port: u16, more: &str| format!("containerPort: 8080, hostPort: {port}{more}");
    c.apply(&format!(
        "{}{}{}apiVersion: v1\nkind: Service\nmetadata: {{name: u}}\nspec: {{type: NodePort, selector: {{app: udp}}, ports: [{{port: 7, targetPort: 7000, protocol: UDP}}]}}\n",
        pod("web", "hello", "", &host(web, ", hostIP: 127.0.0.1")),
        pod("taken", "hello", "", &host(taken, "")),
        pod("udp", "tcp-echo", "args: [serve-udp], ", &format!("containerPort: 7000, hostPort: {udp}, protocol: UDP")),
    ));
    let get = |port: u16| {
        let out = Command::new("curl").args(["-s", "-m", "10", &format!("http://127.0.0.1:{port}/")]).output().unwrap();
        text(&out.stdout)
    };
    until("the host port answers", || get(web).starts_with("Hello from web").then_some(()));

    // A client that has lost a datagram sends it again.
    let echo = |port: u16| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        socket.connect(("127.0.0.1", port)).unwrap();
        let mut buffer = [0; 100];
        let answered = socket.send(b"over udp").and_then(|_| socket.recv(&mut buffer));
        answered.is_ok_and(|n| &buffer[..n] == b"over udp")
    };
    until("the host port answers over UDP", || echo(udp).then_some(()));
    let number = c.ok(&["get", "service", "u", "-o", "jsonpath={.spec.ports[0].nodePort}"]);
    let number = number.parse().expect("a node port");
    until("the node port answers over UDP", || echo(number).then_some(()));

    // A node does not take a pod whose port another pod has, whoever bound it.
    let bound = pod("late", "hello", "", &host(web, "")).replace("spec:\n", "spec:\n  nodeName: copepod\n");
    c.apply(bound.trim_end_matches("---\n"));
    let late = |path: &str| c.ok(&["get", "pod", "late", "-o", &format!("jsonpath={{.status.{path}}}")]);
    until("the pod has failed", || (late("reason") == "NodePorts").then_some(()));
    let why =
        "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
    assert_eq!(late("message"), why);

    // A port that someone else has is told, and had as soon as it is free. The pod runs all the same.
    let why = format!("cannot open hostport {taken}: listen tcp 127.0.0.1:{taken}: bind: address already in use");
    until("the failure is an Event", || {
        let events = "jsonpath={range .items[*]}{.type} {.reason} {.involvedObject.name} {.message}{\"\\n\"}{end}";
        let events = c.ok(&["get", "events", "-o", events]);
        events.contains(&format!("Warning FailedCreatePodSandBox taken {why}")).then_some(())
    });
    c.ok(&["wait", "pod/taken", "--for=condition=Ready", "--timeout=60s"]);
    drop(held);
    until("the port is had", || get(taken).starts_with("Hello from taken").then_some(()));
    c.ok(&["delete", "pod", "web", "--grace-period=1"]);
    until("the host port is closed", || get(web).is_empty().then_some(()));
}
