//! NetworkPolicies, made with kubectl and felt by guests.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};

use e2e::{Cluster, DEADLINE, until};

/// `answers` echoes lines, `silent` takes connections and waits for more than it gets.
const SERVERS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: answers, labels: {app: answers}}
spec:
  containers:
  - {name: c, image: 'file://examples/tcp-echo/tcp-echo.wasm', ports: [{name: echo, containerPort: 7000}]}
---
apiVersion: v1
kind: Pod
metadata: {name: silent, labels: {app: silent}}
spec:
  containers:
  - {name: c, image: 'file://examples/tcp-echo/tcp-echo.wasm', args: [serve-websocket], ports: [{containerPort: 7000}]}
---
apiVersion: v1
kind: Service
metadata: {name: answers}
spec: {selector: {app: answers}, ports: [{port: 70, targetPort: echo}]}
";

const DENY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny}
spec: {podSelector: {}, policyTypes: [Ingress, Egress]}
";

/// As it would be written for any cluster.
const ALLOW: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: friends}
spec:
  podSelector: {matchLabels: {role: friend}}
  policyTypes: [Egress]
  egress:
  - to:
    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}
      podSelector: {matchLabels: {k8s-app: kube-dns}}
    ports: [{port: 53, protocol: UDP}, {port: 53}]
  - to: [{podSelector: {}}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: servers}
spec:
  podSelector: {matchExpressions: [{key: app, operator: In, values: [answers, silent]}]}
  ingress:
  - from: [{podSelector: {matchLabels: {app: asks}}}]
    ports: [{port: 7000}]
";

/// Gives a line to the pod that has this port of the host; the first line of its answer, empty if there is none.
fn say(port: u16, line: &str) -> String {
    let talk = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.write_all(format!("{line}\n").as_bytes())?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).map(|_| answer)
    };
    let answer = talk().unwrap_or_default();
    answer.trim_end().to_string()
}

#[test]
fn policies_refuse_let_through_and_cut_what_is_open() {
    let Some((_dir, c)) = Cluster::for_kubectl(&[]) else { return };
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    c.apply(&format!(
        "{SERVERS}---
apiVersion: v1
kind: Pod
metadata: {{name: asks, labels: {{app: asks, role: friend}}}}
spec:
  containers:
  - {{name: c, image: 'file://examples/tcp-echo/tcp-echo.wasm', ports: [{{containerPort: 7000, hostPort: {port}}}]}}
"
    ));
    c.ok(&["wait", "pod/asks", "pod/answers", "pod/silent", "--for=condition=Ready", "--timeout=60s"]);
    let address = |pod: &str| c.ok(&["get", "pod", pod, "-o", "jsonpath={.status.podIP}"]);
    let (by_name, by_address) = ("connect answers:70", format!("connect {}:7000", address("answers")));
    until("nothing is isolated", || say(port, by_name).contains("says: hello from").then_some(()));

    // The host reaches the pod all the same; names are not found, and addresses refuse.
    c.apply(DENY);
    until("addresses refuse", || say(port, &by_address).contains("Connection refused").then_some(()));
    let looked_up = say(port, by_name);
    assert!(looked_up.starts_with("error: ") && !looked_up.contains("refused"), "{looked_up}");

    c.apply(ALLOW);
    until("the server is found by its name", || say(port, by_name).contains("says: hello from").then_some(()));
    let table = c.ok(&["get", "netpol", "friends"]);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        (rows[0].as_slice(), &rows[1][..2]),
        (&["NAME", "POD-SELECTOR", "AGE"][..], &["friends", "role=friend"][..])
    );
    let described = c.ok(&["describe", "networkpolicy", "servers"]);
    assert!(described.contains("Allowing ingress traffic:") && described.contains("To Port: 7000/TCP"), "{described}");

    // A connection that the other side has taken ends with the label that allowed it.
    let line = format!("connect {}:7000", address("silent"));
    let open = std::thread::spawn(move || say(port, &line));
    let connected = format!("{}:", address("asks"));
    until("the connection is taken", || c.ok(&["logs", "silent"]).contains(&connected).then_some(()));
    assert!(!open.is_finished(), "nobody has answered");
    c.ok(&["label", "pod", "asks", "role-"]);
    until("it is cut", || open.is_finished().then_some(()));
    let ended = open.join().unwrap();
    assert!(!ended.contains("hello"), "{ended}");
    until("nor is there another one", || say(port, &by_address).contains("Connection refused").then_some(()));

    c.ok(&["delete", "netpol", "--all"]);
    until("nothing is isolated any more", || say(port, by_name).contains("says: hello from").then_some(()));
    let wrong = c.dir.join("wrong.yaml");
    let from_nobody = DENY.replace("policyTypes: [Ingress, Egress]", "ingress: [{from: [{}]}]");
    std::fs::write(&wrong, from_nobody).unwrap();
    let refused = c.fails(&["create", "-f", &wrong.to_string_lossy()]);
    assert!(refused.contains("spec.ingress[0].from[0]: Required value: must specify a peer"), "{refused}");
}
