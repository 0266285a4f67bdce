//! Dual stack: pods, Services, DNS and the node's doors over IPv6 as over IPv4.

use std::net::TcpListener;
use std::process::Command;

use e2e::manifest::{self, Serves};
use e2e::{Cluster, has, needs, text, until};

/// Takes all requests to the Service `web`.
const INGRESS: &str = "---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec: {defaultBackend: {service: {name: web, port: {number: 80}}}}
";

fn words(c: &Cluster, object: &str, path: &str) -> Vec<String> {
    let got = c.ok(&["get", object, "-o", &format!("jsonpath={{{path}}}")]);
    got.split_whitespace().map(String::from).collect()
}

fn dig(server: &str, port: &str, args: &[&str]) -> String {
    let mut dig = Command::new("dig");
    dig.args([&format!("@{server}"), "-p", port, "+tries=1", "+time=5", "+short"]).args(args);
    text(&dig.output().expect("dig runs").stdout).trim().to_string()
}

#[test]
fn pods_and_services_have_an_address_of_either_family() {
    let Some((_dir, c)) = Cluster::for_kubectl(&[]) else { return };
    let service = manifest::service("echo", Serves::Lines, &["ipFamilyPolicy: RequireDualStack"]);
    c.apply(&(manifest::pod("echo", "echo", None, Serves::Lines) + &service));
    c.ok(&["wait", "pod/echo", "--for=condition=Ready", "--timeout=60s"]);
    let ips = words(&c, "pod/echo", ".status.podIPs[*].ip");
    assert!(ips.len() == 2 && ips[0].starts_with("10.244.") && ips[1].starts_with("fd00:10:244:"), "{ips:?}");
    let cidrs = words(&c, "nodes", ".items[0].spec.podCIDRs[*]");
    assert_eq!((cidrs.len(), cidrs[0].ends_with(".0/24"), cidrs[1].ends_with("/120")), (2, true, true), "{cidrs:?}");
    assert_eq!(words(&c, "service/kubernetes", ".spec.ipFamilies[*]"), ["IPv4"]);
    let vips = words(&c, "service/echo", ".spec.clusterIPs[*]");
    assert!(vips.len() == 2 && vips[0].starts_with("10.96.") && vips[1].starts_with("fd00:10:96::"), "{vips:?}");
    until("there is a slice for each family", || {
        let slices = ["get", "endpointslices", "-l", "kubernetes.io/service-name=echo", "-o"];
        let path = "jsonpath={range .items[*]}{.addressType} {.endpoints[*].addresses[0]}{'\\n'}{end}";
        let all = c.ok(&[&slices[..], &[path]].concat());
        let mut lines: Vec<&str> = all.lines().collect();
        lines.sort_unstable();
        (lines == [format!("IPv4 {}", ips[0]), format!("IPv6 {}", ips[1])]).then_some(())
    });
    until("it listens", || c.ok(&["logs", "echo"]).contains("listening").then_some(()));

    // The guest listens at 0.0.0.0: by IPv6 nobody is there, and nobody harms it by it.
    c.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: client}}\nspec:\n  restartPolicy: Never\n  containers:\n  - {{name: c, image: 'file://examples/tcp-echo/tcp-echo.wasm', args: [connect, '[{}]:70']}}\n",
        vips[1]
    ));
    until("the client has ended", || {
        (c.ok(&["get", "pod", "client", "-o", "jsonpath={.status.phase}"]) == "Failed").then_some(())
    });
    let said = c.ok(&["logs", "client"]);
    assert!(said.contains("ConnectionRefused"), "{said}");

    if needs("dig", has("dig")) {
        let (ip, port) = c.dns.rsplit_once(':').unwrap();
        let name = "echo.default.svc.cluster.local";
        assert_eq!(dig(ip, port, &[name, "AAAA"]), vips[1]);
        assert_eq!(dig(ip, port, &[name, "A"]), vips[0]);
        assert_eq!(dig(ip, port, &["-x", &vips[1]]), format!("{name}."));
        assert!(dig(ip, port, &[&format!("_lines._tcp.{name}"), "SRV"]).contains(&format!("70 {name}.")));
        // The second address goes with the policy, and its name with it.
        c.ok(&["patch", "service", "echo", "--type=merge", "-p", r#"{"spec":{"ipFamilyPolicy":"SingleStack"}}"#]);
        until("there is one address", || dig(ip, port, &[name, "AAAA"]).is_empty().then_some(()));
    }
    c.ok(&["patch", "service", "echo", "--type=merge", "-p", r#"{"spec":{"ipFamilyPolicy":"SingleStack"}}"#]);
    assert_eq!(words(&c, "service/echo", ".spec.clusterIPs[*]"), vips[..1]);
    let wrong = r#"{"spec":{"ipFamilies":["IPv6"]}}"#;
    let refused = c.fails(&["patch", "service", "echo", "--type=merge", "-p", wrong]);
    assert!(refused.contains("expected an IPv6 value as indicated by `ipFamilies[0]`"), "{refused}");
}

#[test]
fn the_nodes_doors_are_open_on_ipv6_as_well() {
    if !needs("IPv6 on loopback", TcpListener::bind("[::1]:0").is_ok()) {
        return;
    }
    let Some((_dir, c)) = Cluster::for_kubectl(&["--also-bind", "::1"]) else { return };
    let both = ["type: NodePort", "ipFamilyPolicy: RequireDualStack", "ipFamilies: [IPv6]"];
    let service = manifest::service("web", Serves::Http, &both);
    c.apply(&(manifest::deployment("web", Serves::Http) + &service + INGRESS));
    c.ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    let hosts = c.ok(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].status.hostIPs[*].ip}"]);
    assert_eq!(hosts, "127.0.0.1 ::1");
    assert_eq!(words(&c, "service/web", ".spec.ipFamilies[*]"), ["IPv6", "IPv4"]);
    let node_port = words(&c, "service/web", ".spec.ports[0].nodePort").remove(0);
    let ingress = c.ingress.rsplit_once(':').unwrap().1;
    for at in ["[::1]", "127.0.0.1"] {
        for port in [ingress, &node_port] {
            until(&format!("{at}:{port} answers"), || {
                let out = Command::new("curl").args(["-s", "-m", "10", &format!("http://{at}:{port}/")]).output();
                text(&out.expect("curl runs").stdout).contains("Hello from web-").then_some(())
            });
        }
    }
    // A guest goes to the Service's own address.
    let vip = words(&c, "service/web", ".spec.clusterIP").remove(0);
    let url = format!("http://127.0.0.1:{ingress}/fetch?url=http://[{vip}]/");
    let out = Command::new("curl").args(["-s", "-g", "-m", "10", &url]).output().expect("curl runs");
    assert!(vip.starts_with("fd00:") && text(&out.stdout).contains("Hello from web-"), "{vip}: {}", text(&out.stdout));
    if needs("dig", has("dig")) {
        let port = c.dns.rsplit_once(':').unwrap().1;
        assert_eq!(dig("::1", port, &["web.default.svc.cluster.local", "AAAA"]), vip);
    }
}
