//! No request is lost: rolling updates, scale-downs and restarts by probe under load, counted.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use e2e::{Cluster, has, needs, text, until};

/// `web` is rolled out and scaled; `front` calls it by its virtual address.
const MANIFEST: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME}
spec:
  replicas: 2
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec:
      containers:
      - name: c
        image: file://examples/hello/hello.wasm
        ports: [{containerPort: 8080, name: http}]
---
apiVersion: v1
kind: Service
metadata: {name: NAME}
spec: {selector: {app: NAME}, ports: [{name: http, port: 80, targetPort: http}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: NAME}
spec:
  rules:
  - host: NAME.localhost
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: NAME, port: {name: http}}}}]}
---
";

/// Two replicas that are restarted every one or two seconds: nobody listens where their probe connects.
const FAILING_PROBE: &str = r#"{"spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "c",
    "livenessProbe": {"tcpSocket": {"port": 9}, "periodSeconds": 1, "failureThreshold": 2}}]}}}}"#;

/// How one kind of load has fared.
#[derive(Debug, Default)]
struct Count {
    good: AtomicU64,
    lost: AtomicU64,
}

/// Ends the loads, whatever fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Loads with h2load until told to stop, over HTTP/1.1 or HTTP/2.
fn h2load(ingress: &str, host: &str, http1: bool, count: &Count, stop: &AtomicBool) {
    // For HTTP/1 h2load makes a `Host` header of it.
    let header = format!(":authority: {host}");
    while !stop.load(Ordering::Relaxed) {
        let mut command = Command::new("h2load");
        command.args(["-n", "400", "-c", "4", "-m", if http1 { "1" } else { "4" }, "-H", &header]);
        if http1 {
            command.arg("--h1");
        }
        let out = text(&command.arg(format!("{ingress}/")).output().expect("h2load runs").stdout);
        let number = |before: &str| {
            let words: Vec<&str> = out.split([' ', ',', '\n']).filter(|w| !w.is_empty()).collect();
            let at = words.iter().position(|w| *w == before).unwrap_or_else(|| panic!("{before}: {out}"));
            words[at - 1].parse::<u64>().unwrap_or_else(|e| panic!("{before}: {e}: {out}"))
        };
        let good = number("2xx");
        count.good.fetch_add(good, Ordering::Relaxed);
        if good != 400 || number("succeeded") != 400 {
            println!("{host}, HTTP/1: {http1}: {out}");
            count.lost.fetch_add(400 - good.min(number("succeeded")), Ordering::Relaxed);
        }
    }
}

/// Lets the front's guest call `host` by its virtual address over a kept connection until told to stop.
fn by_vip(ingress: &str, host: &str, count: &Count, stop: &AtomicBool) {
    let at = ingress.strip_prefix("http://").expect("the ingress's address");
    let mut stream = BufReader::new(TcpStream::connect(at).expect("the ingress accepts"));
    while !stop.load(Ordering::Relaxed) {
        let request = format!("GET /fetch?url=http://{host}/ HTTP/1.1\r\nHost: front.localhost\r\n\r\n");
        stream.get_mut().write_all(request.as_bytes()).expect("the connection stays open");
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            assert!(stream.read_line(&mut line).expect("an answer") > 0, "the connection stays open");
            if line == "\r\n" {
                break;
            }
            if let Some(n) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = n.trim().parse().expect("a length");
            }
            head.push_str(&line);
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).expect("a whole answer");
        let body = text(&body);
        if head.starts_with("HTTP/1.1 200 ") && body.starts_with("200 Hello from ") {
            count.good.fetch_add(1, Ordering::Relaxed);
        } else {
            println!("{host} by its virtual address: {head}{body}");
            count.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn rollouts_scale_downs_and_restarts_lose_no_request() {
    if !needs("kubectl and h2load", has("kubectl") && has("h2load")) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let c = Cluster::up(dir.path(), &[]);
    for name in ["web", "front"] {
        c.apply(&MANIFEST.replace("NAME", name));
        c.ok(&["rollout", "status", &format!("deployment/{name}"), "--timeout=60s"]);
        until(&format!("{name} answers"), || (c.get(&format!("{name}.localhost"), "/").0 == 200).then_some(()));
    }
    let stop = &AtomicBool::new(false);
    let counts: &[(&str, Count)] = &[
        ("web by the ingress, HTTP/1.1", Count::default()),
        ("web by the ingress, HTTP/2", Count::default()),
        ("web by its virtual address", Count::default()),
    ];
    let ingress = c.ingress.as_str();
    std::thread::scope(|scope| {
        let _stop = Stop(stop);
        scope.spawn(move || h2load(ingress, "web.localhost", true, &counts[0].1, stop));
        scope.spawn(move || h2load(ingress, "web.localhost", false, &counts[1].1, stop));
        scope.spawn(move || by_vip(ingress, "web", &counts[2].1, stop));
        let good = || counts.iter().map(|(_, n)| n.good.load(Ordering::Relaxed)).collect::<Vec<_>>();
        let more = |what: &str| {
            let before = good();
            until(what, || good().iter().zip(&before).all(|(n, b)| n > b).then_some(()));
        };
        let web = || c.ok(&["get", "pods", "-l", "app=web", "-o", "name"]).lines().count();
        let set = |value: &str| {
            c.ok(&["set", "env", "deployment/web", value]);
            c.ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
        };
        more("every load goes");
        set("V=1");
        more("after a rolling update");
        c.ok(&["scale", "deployment/web", "--replicas=6"]);
        c.ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
        c.ok(&["scale", "deployment/web", "--replicas=1"]);
        until("five are gone", || (web() == 1).then_some(()));
        more("after a scale-down");
        set("V=2");
        more("after a rolling update of a single replica");
        // Restarts by probe, of all pods at about the same time, and more than it takes a crash loop to wait for seconds.
        c.ok(&["patch", "deployment/web", "-p", FAILING_PROBE]);
        c.ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
        let counts = "jsonpath={.items[*].status.containerStatuses[0].restartCount}";
        let restarts = || c.ok(&["get", "pods", "-l", "app=web", "-o", counts]);
        let restarted = || restarts().split(' ').map(|n| n.parse::<u32>().unwrap_or(0)).min();
        until("pods restart again and again", || (restarted() >= Some(10)).then_some(()));
        more("after restarts by probe");
    });
    println!("{counts:?}");
    for (what, count) in counts {
        assert_eq!(count.lost.load(Ordering::Relaxed), 0, "lost requests to {what}: {counts:?}");
    }
}

/// Two servers of lines behind a node port. Each serves one connection at a time, so that others wait to be accepted.
const LINES: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: lines}
spec:
  replicas: 2
  selector: {matchLabels: {app: lines}}
  template:
    metadata: {labels: {app: lines}}
    spec:
      containers:
      - name: c
        image: file://examples/tcp-echo/tcp-echo.wasm
        ports: [{containerPort: 7000}]
        readinessProbe: {tcpSocket: {port: 7000}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: lines}
spec: {type: NodePort, selector: {app: lines}, ports: [{port: 7000}]}
";

/// A connection, a line there, and the same one back.
fn line(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(b"hello\n")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line)
}

#[test]
fn rollouts_and_scale_downs_of_tcp_guests_lose_no_connection() {
    let Some((_dir, c)) = Cluster::for_kubectl(&[]) else { return };
    c.apply(LINES);
    c.ok(&["rollout", "status", "deployment/lines", "--timeout=60s"]);
    let port = c.ok(&["get", "service", "lines", "-o", "jsonpath={.spec.ports[0].nodePort}"]);
    let port: u16 = port.parse().expect("a node port");
    until("a line comes back", || line(port).is_ok_and(|l| l == "hello\n").then_some(()));
    let (stop, count) = (&AtomicBool::new(false), &Count::default());
    std::thread::scope(|scope| {
        let _stop = Stop(stop);
        for _ in 0..4 {
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    match line(port) {
                        Ok(line) if line == "hello\n" => count.good.fetch_add(1, Ordering::Relaxed),
                        other => {
                            println!("{other:?}");
                            count.lost.fetch_add(1, Ordering::Relaxed)
                        }
                    };
                    // The host has only so many ports for clients.
                    std::thread::park_timeout(Duration::from_millis(1));
                }
            });
        }
        let more = |what: &str| {
            let before = count.good.load(Ordering::Relaxed);
            until(what, || (count.good.load(Ordering::Relaxed) > before + 20).then_some(()));
        };
        more("every load goes");
        for value in ["V=1", "V=2"] {
            c.ok(&["set", "env", "deployment/lines", value]);
            c.ok(&["rollout", "status", "deployment/lines", "--timeout=60s"]);
            more("after a rolling update");
        }
        c.ok(&["scale", "deployment/lines", "--replicas=1"]);
        let pods = || c.ok(&["get", "pods", "-l", "app=lines", "-o", "name"]).lines().count();
        until("the others are gone", || (pods() == 1).then_some(()));
        more("after a scale-down");
    });
    assert_eq!(count.lost.load(Ordering::Relaxed), 0, "lost connections: {count:?}");
}
