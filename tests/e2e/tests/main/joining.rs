//! Servers and agents in processes of their own: tokens, joining, coming back.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use e2e::process::{Process, ServerProcess, agent};
use e2e::{has, needs, text, until};
use k8s_openapi::api::core::v1::Secret;

/// An answer at an agent's ingress.
fn hello(ingress: &str) -> Option<String> {
    let out = Command::new("curl").args(["-s", "-f", "-m", "10", "-H", "Host: hello.localhost", ingress]).output();
    let out = out.expect("curl runs");
    out.status.success().then(|| text(&out.stdout))
}

fn ingress(agent: &mut Process) -> String {
    agent.value("Ingress")
}

/// An agent that must not get in; what it says.
fn refused(dir: &Path, url: &str, token: &str, name: &str) -> String {
    let (status, said) = agent(dir, &["--join", url, "--token", token, "--node-name", name]).ended();
    assert!(!status.success(), "{said}");
    assert!(!dir.join("node/identity/state.json").exists(), "it keeps nothing of a cluster that it is not in");
    said
}

/// In hex, by another program than the one that is tested.
fn sha256(of: &str) -> String {
    let mut sum =
        Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sha256sum runs");
    sum.stdin.take().unwrap().write_all(of.as_bytes()).unwrap();
    let out = sum.wait_with_output().unwrap();
    text(&out.stdout)[..64].to_string()
}

#[test]
fn a_token_is_shown_once_and_lets_nobody_in_when_it_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let server = ServerProcess::start(&dir.path().join("a"));
    let token = server.ok(&["token", "create", "--description", "for the rack"]).trim().to_string();
    let [id, secret, hash] = token.split('.').collect::<Vec<_>>()[..] else { panic!("{token}") };
    assert_eq!((id.len(), secret.len(), hash.len()), (6, 16, 64));
    let list = server.ok(&["token", "list"]);
    assert!(list.contains(id) && list.contains("agent") && list.contains("for the rack"), "{list}");
    assert!(!list.contains(secret), "{list}");
    let stored = server.ok(&["get", "secret", "-n", "kube-system", &format!("join-token-{id}"), "-o", "json"]);
    assert!(!stored.contains(secret), "{stored}");
    let stored: Secret = serde_json::from_str(&stored).unwrap();
    assert_eq!(stored.type_.as_deref(), Some("copepod.dev/join-token"));
    // Its values as they are behind the base64 in which they are shown.
    let open: Vec<(String, String)> = stored.data.unwrap().into_iter().map(|(name, v)| (name, text(&v.0))).collect();
    assert!(open.iter().all(|(_, value)| !value.contains(secret)), "{open:?}");
    let hashed = sha256(secret);
    let meant =
        [("description", "for the rack"), ("token-hash", hashed.as_str()), ("token-id", id), ("usage", "agent")];
    assert_eq!(open, meant.map(|(name, value)| (name.to_string(), value.to_string())));

    assert!(server.ok(&["token", "delete", id]).contains("deleted"));
    let again = server.copepod(&["token", "delete", id]);
    assert!(!again.status.success() && text(&again.stderr).contains("not found"));
    let said = refused(&dir.path().join("d"), &server.url, &token, "d");
    assert!(said.contains("does not take the join token") && said.contains("not known"), "{said}");

    // One that ends by itself goes by itself.
    let short = server.ok(&["token", "create", "--ttl", "1s"]).trim().to_string();
    let short_id = &short[..6];
    until("the token is cleaned away", || (!server.ok(&["token", "list"]).contains(short_id)).then_some(()));
    let said = refused(&dir.path().join("d"), &server.url, &short, "d");
    assert!(said.contains("does not take the join token"), "{said}");
    assert!(server.process.interrupt().success());
}

#[test]
fn a_token_of_another_cluster_or_for_something_else_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let server = ServerProcess::start(&dir.path().join("a"));
    let token = server.ok(&["token", "create"]).trim().to_string();
    let (bearer, hash) = token.rsplit_once('.').unwrap();
    let data = dir.path().join("d");
    let other = if hash.starts_with('0') { '1' } else { '0' };
    let said = refused(&data, &server.url, &format!("{bearer}.{other}{}", &hash[1..]), "d");
    assert!(said.contains("is not the one that the token is for") && said.contains(hash), "{said}");
    let said = refused(&data, &server.url, &format!("aaaaaa.0123456789abcdef.{hash}"), "d");
    assert!(said.contains("not known"), "{said}");
    let said = refused(&data, &server.url, "nonsense", "d");
    assert!(said.contains("ID.SECRET.HASH"), "{said}");
    let for_servers = server.ok(&["token", "create", "--usage", "server"]).trim().to_string();
    let said = refused(&data, &server.url, &for_servers, "d");
    assert!(said.contains("is for joining as: server"), "{said}");
    let said = refused(&data, &format!("https://127.0.0.1:{}", e2e::process::free_port()), &token, "d");
    assert!(said.contains("cannot reach"), "{said}");
    let said = refused(&data, &server.url, &token, "kubernetes.default.svc");
    assert!(said.contains("the API server is known by this name"), "{said}");
}

#[test]
fn an_agent_joins_runs_a_pod_and_comes_back_without_a_token() {
    let dir = tempfile::tempdir().unwrap();
    let server = ServerProcess::start(&dir.path().join("a"));
    let file = dir.path().join("token");
    std::fs::write(&file, server.ok(&["token", "create"])).unwrap();
    let (d, file) = (dir.path().join("d"), file.display().to_string());
    let flags = ["--join", &server.url, "--token-file", &file, "--node-name", "d"];
    let mut first = agent(&d, &flags);
    assert_eq!(first.value("Node"), "d");
    until("the node is ready", || {
        let nodes = server.ok(&["get", "nodes"]);
        nodes.lines().any(|l| l.starts_with("d ") && l.contains(" Ready")).then_some(())
    });
    assert!(server.ok(&["get", "node", "d", "-o", "yaml"]).contains("10.244.240.0/20"));
    server.ok(&["apply", "-f", "examples/hello/hello.yaml"]);
    let at = ingress(&mut first);
    let said = until("the pod answers at the agent's ingress", || hello(&at));
    assert!(said.starts_with("Hello from hello-"), "{said}");
    let pods = server.ok(&["get", "pods", "-o", "wide"]);
    assert!(pods.contains("10.244.240."), "{pods}");
    if needs("dig", has("dig")) {
        let at = first.value("DNS");
        let (ip, port) = at.rsplit_once(':').unwrap();
        let mut dig = Command::new("dig");
        dig.args([&format!("@{ip}"), "-p", port, "+short", "hello.default.svc.cluster.local"]);
        let said = text(&dig.output().unwrap().stdout);
        assert!(said.starts_with("10.96."), "it knows the cluster's names: {said}");
    }

    // The name is taken, by whoever has its key.
    let other = dir.path().join("other");
    let token = server.ok(&["token", "create"]).trim().to_string();
    let said = refused(&other, &server.url, &token, "d");
    assert!(said.contains("another agent has this name"), "{said}");

    assert!(first.interrupt().success());
    let identity = |file: &str| std::fs::read_to_string(d.join("node/identity").join(file)).unwrap();
    let (own, serving) = (identity("client.pem"), identity("serving.pem"));
    // At another address, so that the certificate of its API is of no more use.
    let mut second = agent(&d, &["--bind", "127.0.0.2"]);
    assert_eq!(second.value("Node"), "d");
    assert!(identity("state.json").contains("127.0.0.2"));
    assert_eq!((identity("client.pem") == own, identity("serving.pem") == serving), (true, false));
    let at = ingress(&mut second);
    until("the pod answers again", || hello(&at));
    let wrong = agent(&d, &["--node-name", "e"]).ended();
    assert!(!wrong.0.success() && wrong.1.contains("this folder belongs to the node \"d\""), "{}", wrong.1);
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(d.join("node/identity/client.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn two_agents_have_different_parts_of_the_pod_network() {
    let dir = tempfile::tempdir().unwrap();
    let server = ServerProcess::start(&dir.path().join("a"));
    let token = server.ok(&["token", "create"]).trim().to_string();
    let mut agents: Vec<Process> = ["d", "e"]
        .iter()
        .map(|name| agent(&dir.path().join(name), &["--join", &server.url, "--token", &token, "--node-name", name]))
        .collect();
    for agent in &mut agents {
        agent.value("Node");
    }
    let cidr = |name: &str| {
        let yaml = server.ok(&["get", "node", name, "-o", "yaml"]);
        let line = yaml.lines().find_map(|l| l.trim().strip_prefix("podCIDR:")).map(|l| l.trim().to_string());
        line.unwrap_or_else(|| panic!("{yaml}"))
    };
    assert_ne!(cidr("d"), cidr("e"));
}

/// On `d` an app, as a Service and behind the ingress, and servers of lines and datagrams; on `e` an app that fetches.
const APART: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  nodeName: d
  containers:
  - {name: c, image: 'file://examples/hello/hello.wasm', ports: [{containerPort: 8080, name: http}]}
---
apiVersion: v1
kind: Pod
metadata: {name: lines, labels: {app: lines}}
spec:
  nodeName: d
  containers:
  - {name: c, image: 'file://examples/tcp-echo/tcp-echo.wasm'}
---
apiVersion: v1
kind: Pod
metadata: {name: datagrams, labels: {app: datagrams}}
spec:
  nodeName: d
  containers:
  - {name: c, image: 'file://examples/tcp-echo/tcp-echo.wasm', args: [serve-udp]}
---
apiVersion: v1
kind: Pod
metadata: {name: front, labels: {app: front}}
spec:
  nodeName: e
  containers:
  - {name: c, image: 'file://examples/hello/hello.wasm', ports: [{containerPort: 8080, name: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: front}
spec: {selector: {app: front}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: lines}
spec: {selector: {app: lines}, ports: [{port: 7000}]}
---
apiVersion: v1
kind: Service
metadata: {name: datagrams}
spec: {selector: {app: datagrams}, ports: [{port: 71, targetPort: 7000, protocol: UDP}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: both}
spec:
  rules:
  - host: web.localhost
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
  - host: front.localhost
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: front, port: {number: 80}}}}]}
";

/// A pod of `e` that asks one of `d`'s servers by its Service once.
fn ask(name: &str, verb: &str, target: &str) -> String {
    let image = "file://examples/tcp-echo/tcp-echo.wasm";
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  nodeName: e\n  restartPolicy: OnFailure\n  containers:\n  - {{name: c, image: '{image}', args: [{verb}, '{target}']}}\n"
    )
}

#[test]
fn pods_of_different_nodes_reach_each_other_and_every_ingress_reaches_all() {
    let dir = tempfile::tempdir().unwrap();
    let server = ServerProcess::start(&dir.path().join("a"));
    let token = server.ok(&["token", "create"]).trim().to_string();
    let folder = |name: &str| dir.path().join(name);
    let start = |name: &str| agent(&folder(name), &["--join", &server.url, "--token", &token, "--node-name", name]);
    let (mut d, mut e) = (start("d"), start("e"));
    let (at_d, at_e) = (ingress(&mut d), ingress(&mut e));
    let apply = |name: &str, text: &str| {
        let file = dir.path().join(name);
        std::fs::write(&file, text).unwrap();
        server.ok(&["apply", "-f", &file.display().to_string()]);
    };
    apply("apart.yaml", APART);
    let get = |ingress: &str, host: &str, path: &str| {
        let (host, url) = (format!("Host: {host}.localhost"), format!("{ingress}{path}"));
        let out = Command::new("curl").args(["-s", "-f", "-m", "10", "-H", &host, &url]).output().expect("curl runs");
        out.status.success().then(|| text(&out.stdout))
    };
    let says = |what: &str, ingress: &str, host: &str, path: &str, want: &str| {
        until(what, || get(ingress, host, path).filter(|said| said.contains(want)).map(drop));
    };
    says("the app answers at its own node", &at_d, "web", "/", "Hello from ");
    says("the app answers at the other node", &at_e, "web", "/", "Hello from ");
    let fetch = "/fetch?url=http://web/";
    says("a guest of the other node calls its Service", &at_e, "front", fetch, "200 Hello from ");
    says("and there and back again", &at_d, "front", fetch, "200 Hello from ");
    // A datagram that comes too early is lost.
    let log = |pod: &str| text(&server.copepod(&["logs", pod]).stdout);
    until("the server of datagrams listens", || log("datagrams").contains("listening").then_some(()));
    for (name, verb, target) in [("ask-tcp", "connect", "lines:7000"), ("ask-udp", "udp", "datagrams:71")] {
        apply("ask.yaml", &ask(name, verb, target));
        until(&format!("{name}, of the other node, has its answer"), || {
            log(name).contains(" says: hello from ").then_some(())
        });
    }
    // A node that was away is found again, wherever it listens now.
    assert!(d.interrupt().success());
    let mut d = start("d");
    let at_d = ingress(&mut d);
    says("the app is back at its own node", &at_d, "web", "/", "Hello from ");
    says("and at the other one", &at_e, "web", "/", "Hello from ");
    says("as its Service is", &at_e, "front", fetch, "200 Hello from ");
}

/// On `d` a server of datagrams, and an app on each of both nodes that wants its callers near.
const NEAR: &str = "
apiVersion: v1
kind: Pod
metadata: {name: datagrams, labels: {app: datagrams}}
spec:
  nodeName: d
  containers:
  - {name: c, image: 'file://examples/tcp-echo/tcp-echo.wasm', args: [serve-udp]}
---
apiVersion: v1
kind: Service
metadata: {name: datagrams}
spec: {type: NodePort, selector: {app: datagrams}, ports: [{port: 71, targetPort: 7000, protocol: UDP, nodePort: 30971}]}
---
apiVersion: v1
kind: Pod
metadata: {name: on-d, labels: {app: near}}
spec:
  nodeName: d
  containers:
  - {name: c, image: 'file://examples/hello/hello.wasm', ports: [{containerPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: on-e, labels: {app: near}}
spec:
  nodeName: e
  containers:
  - {name: c, image: 'file://examples/hello/hello.wasm', ports: [{containerPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: near}
spec:
  type: NodePort
  trafficDistribution: PreferSameNode
  selector: {app: near}
  ports: [{port: 80, targetPort: 8080, nodePort: 30972}]
";

#[test]
fn node_ports_lead_to_the_other_nodes_pods_or_to_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let server = ServerProcess::start(&dir.path().join("a"));
    let token = server.ok(&["token", "create"]).trim().to_string();
    // Each at an address of its own: both listen at the same node ports.
    let start = |name: &str, bind: &str| {
        let flags = ["--join", &server.url, "--token", &token, "--node-name", name, "--bind", bind];
        let mut node = agent(&dir.path().join(name), &flags);
        node.value("Node");
        node
    };
    let (_d, _e) = (start("d", "127.0.0.2"), start("e", "127.0.0.3"));
    let file = dir.path().join("near.yaml");
    std::fs::write(&file, NEAR).unwrap();
    server.ok(&["apply", "-f", &file.display().to_string()]);

    // A client that has lost a datagram sends it again.
    let echo = |ip: &str| {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
        socket.connect((ip, 30_971)).unwrap();
        let mut buffer = [0; 100];
        let answered = socket.send(b"over udp").and_then(|_| socket.recv(&mut buffer));
        answered.is_ok_and(|n| &buffer[..n] == b"over udp")
    };
    until("the pod's own node answers over UDP", || echo("127.0.0.2").then_some(()));
    until("the other node answers over UDP", || echo("127.0.0.3").then_some(()));

    let get = |ip: &str| {
        let url = format!("http://{ip}:30972/");
        text(&Command::new("curl").args(["-s", "-f", "-m", "10", &url]).output().expect("curl runs").stdout)
    };
    for (ip, own) in [("127.0.0.2", "Hello from on-d"), ("127.0.0.3", "Hello from on-e")] {
        // Hints come when both are ready; from then on nobody leaves the node.
        until("the node's own pod answers, ten times in a row", || {
            (0..10).all(|_| get(ip).starts_with(own)).then_some(())
        });
    }
    server.ok(&["delete", "pod", "on-e"]);
    until("where there is none of its own the other one answers", || {
        get("127.0.0.3").starts_with("Hello from on-d").then_some(())
    });
}

#[test]
fn flags_come_from_the_command_line_before_the_environment_before_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("server.yaml");
    let (port, peer) = (e2e::process::free_port(), e2e::process::free_port());
    let data = dir.path().join("data").display().to_string();
    std::fs::write(&file, format!("data-dir: {data}\napi-port: 1\npeer-port: {peer}\nname: from-the-file\n")).unwrap();
    let mut command = e2e::copepod();
    command.args(["server", "--config"]).arg(&file).args(["--bind", "127.0.0.1"]);
    command.env("COPEPOD_API_PORT", port.to_string()).env("COPEPOD_BIND", "192.0.2.1");
    let mut server = Process::run(command, "server");
    assert_eq!(server.value("API"), format!("https://127.0.0.1:{port}"));
    assert_eq!(server.value("Config"), format!("{data}/kubeconfig"));
    std::fs::write(&file, "api-prot: 1").unwrap();
    let mut command = e2e::copepod();
    let out = command.args(["server", "--config"]).arg(&file).output().unwrap();
    assert!(!out.status.success() && text(&out.stderr).contains("no flag --api-prot"), "{}", text(&out.stderr));
}

/// The leader's place among servers that are named by letters, once `count` of them vote and are there.
fn leader(asked: &ServerProcess, count: usize) -> Option<usize> {
    let out = asked.copepod(&["members", "list"]);
    let list = text(&out.stdout);
    let rows: Vec<Vec<&str>> = list.lines().skip(1).map(|l| l.split_whitespace().collect()).collect();
    let votes = rows.iter().filter(|r| matches!(r[2], "leader" | "voter") && r[3] == "yes").count();
    let leads = rows.iter().find(|r| r[2] == "leader").filter(|_| votes == count)?;
    ["a", "b", "c"].iter().position(|name| *name == leads[1])
}

/// The servers `a`, `b` and `c`, all of which vote.
fn three(dir: &Path) -> Vec<ServerProcess> {
    let first = ServerProcess::start(&dir.join("a"));
    let token = first.ok(&["token", "create", "--usage", "server"]).trim().to_string();
    let url = first.url.clone();
    let mut servers = vec![first];
    for name in ["b", "c"] {
        let server = ServerProcess::start_as(&dir.join(name), name, &["--join", &url, "--token", &token]);
        servers.push(server);
        until("it votes", || leader(&servers[0], servers.len()));
    }
    servers
}

#[test]
fn leaders_killed_while_clients_write_take_nothing_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut servers = three(dir.path());
    let (over, acknowledged) = (AtomicBool::new(false), Mutex::new(Vec::<String>::new()));
    let configs: Vec<_> = servers.iter().map(|s| s.dir.join("kubeconfig")).collect();
    std::thread::scope(|scope| {
        for (writer, config) in configs.iter().enumerate() {
            let (over, acknowledged) = (&over, &acknowledged);
            scope.spawn(move || {
                for n in 0.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let name = format!("w{writer}-{n}");
                    let mut child = e2e::copepod()
                        .args(["apply", "-f", "-"])
                        .env("KUBECONFIG", config)
                        .stdin(Stdio::piped())
                        .stdout(Stdio::null())
                        .stderr(Stdio::null())
                        .spawn()
                        .unwrap();
                    let object = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n");
                    let _ = child.stdin.take().unwrap().write_all(object.as_bytes());
                    if child.wait().unwrap().success() {
                        acknowledged.lock().unwrap().push(name);
                    }
                }
            });
        }
        let more = |what: &str| {
            let enough = acknowledged.lock().unwrap().len() + 20;
            until(what, || (acknowledged.lock().unwrap().len() >= enough).then_some(()));
        };
        // Whatever fails here, the writers must come to an end.
        let rounds = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..3 {
                more("clients write");
                let led = until("there is a leader", || leader(&servers[round], 3));
                servers[led].process.kill();
                more("two of three go on");
                servers[led].again();
                until("all are back", || leader(&servers[led], 3));
            }
        }));
        over.store(true, Ordering::Relaxed);
        rounds.unwrap_or_else(|why| std::panic::resume_unwind(why));
    });
    let acknowledged = acknowledged.into_inner().unwrap();
    for server in &servers {
        let there = server.ok(&["get", "configmaps"]);
        let names: std::collections::BTreeSet<&str> =
            there.lines().filter_map(|l| l.split_whitespace().next()).collect();
        let lost: Vec<&String> = acknowledged.iter().filter(|name| !names.contains(name.as_str())).collect();
        assert!(lost.is_empty(), "{} does not have {lost:?} of {}", server.url, acknowledged.len());
    }
}

#[test]
fn one_that_is_left_of_three_has_everything_and_gets_new_companions() {
    let dir = tempfile::tempdir().unwrap();
    let mut servers = three(dir.path());
    let token = servers[0].ok(&["token", "create"]).trim().to_string();
    let flags = ["--join", &servers[0].url, "--token", &token, "--node-name", "d"];
    let mut node = agent(&dir.path().join("d"), &flags);
    assert_eq!(node.value("Node"), "d");
    let file = dir.path().join("file.yaml");
    let apply = |server: &ServerProcess, text: &str| {
        std::fs::write(&file, text).unwrap();
        server.ok(&["apply", "-f", &file.display().to_string()]);
    };
    let pod = |name: &str| {
        let image = "file://examples/hello/hello.wasm";
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  nodeName: d\n  containers:\n  - {{name: c, image: '{image}'}}\n"
        )
    };
    let runs = |server: &ServerProcess, name: &str| {
        until("the node runs the pod", || {
            let pods = text(&server.copepod(&["get", "pods"]).stdout);
            pods.lines().any(|l| l.starts_with(&format!("{name} ")) && l.contains(" 1/1 ")).then_some(())
        });
    };
    apply(&servers[0], &pod("early"));
    runs(&servers[0], "early");
    let config_map = |n: usize| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: kept-{n}}}\n");
    apply(&servers[0], &(0..20).map(config_map).collect::<Vec<_>>().join("---\n"));
    let has_all = |server: &ServerProcess| {
        let there = server.ok(&["get", "configmaps"]);
        let lost: Vec<usize> = (0..20).filter(|n| !there.contains(&format!("kept-{n} "))).collect();
        assert!(lost.is_empty(), "{} does not have {lost:?}", server.url);
    };

    let led = until("there is a leader", || leader(&servers[0], 3));
    let mut left = servers.swap_remove((led + 1) % 3);
    // What a server has shown it has.
    has_all(&left);
    for mut lost in servers {
        lost.process.kill();
        std::fs::remove_dir_all(&lost.dir).unwrap();
    }
    left.process.kill();
    let recover = |more: &[&str]| {
        let mut command = e2e::copepod();
        command.args(["recover", "--data-dir"]).arg(&left.dir).args(more);
        command.output().expect("copepod runs")
    };
    let warned = recover(&[]);
    assert!(
        !warned.status.success() && text(&warned.stderr).contains("nothing was changed"),
        "{}",
        text(&warned.stderr)
    );
    let done = recover(&["--yes"]);
    assert!(done.status.success() && text(&done.stdout).contains(" is alone; "), "{}", text(&done.stderr));

    left.again();
    until("it leads", || left.copepod(&["get", "configmaps"]).status.success().then_some(()));
    has_all(&left);
    let token = left.ok(&["token", "create", "--usage", "server"]).trim().to_string();
    let new = ServerProcess::start_as(&dir.path().join("new"), "new", &["--join", &left.url, "--token", &token]);
    until("the new one votes", || {
        let list = text(&left.copepod(&["members", "list"]).stdout);
        (list.matches(" leader ").count() == 1 && list.matches(" voter ").count() == 1).then_some(())
    });
    has_all(&new);
    // The agent has found the one that it knows, and hears what is new.
    apply(&new, &pod("late"));
    runs(&left, "late");
    runs(&new, "early");
}
