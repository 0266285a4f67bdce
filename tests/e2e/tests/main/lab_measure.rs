//! What a request to a pod of another node costs, beside a plain TCP connection between the same two machines and beside TLS
//! by haproxy between them, in one run. Nothing is asserted of the numbers; they are those of the binary under test, which
//! is built without its own optimisations.

use std::process::Command;

use e2e::lab::LabCluster;
use e2e::manifest::{self, Serves};
use e2e::process::Process;
use e2e::{has, needs, text, until};

const HAPROXY: &str = "
defaults
  mode http
  timeout client 10s
  timeout server 10s
  timeout connect 5s
";

/// Seconds of a processor that a process has used (proc(5): ticks of 10 ms).
fn cpu(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    let after = stat.rsplit_once(')').expect("a name in parentheses").1;
    let ticks: u64 = after.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0
}

/// h2load on n1 over HTTP/1.1: requests per second, and the line about their times. All must succeed.
fn load(cluster: &LabCluster, url: &str, requests: &str, connections: &str) -> (f64, String) {
    let out = cluster.lab.run("n1", "h2load", &["--h1", "-n", requests, "-c", connections, url]);
    let out = text(&out.stdout);
    assert!(out.contains(&format!(" {requests} succeeded")), "{out}");
    let rate = out.lines().find_map(|l| l.strip_prefix("finished in ")?.split_whitespace().nth(1)?.parse().ok());
    let times = out.lines().find_map(|l| l.strip_prefix("time for request:")).unwrap_or_default();
    let times: Vec<&str> = times.split_whitespace().collect();
    (rate.unwrap_or_else(|| panic!("{out}")), format!("mean {}, worst {}", times[2], times[1]))
}

fn measure(cluster: &LabCluster, what: &str, url: &str, processes: &[u32]) {
    until(&format!("{what} answers"), || (cluster.lab.curl("n1", url, &[]).0 == 200).then_some(()));
    load(cluster, url, "1000", "8");
    let used = || processes.iter().map(|p| cpu(*p)).sum::<f64>();
    let before = used();
    let (rate, times) = load(cluster, url, "20000", "8");
    let each = (used() - before) / 20_000.0 * 1e6;
    let (connections, _) = load(cluster, url, "400", "400");
    println!(
        "{what}: {rate:.0} requests/s over 8 connections ({times}), {each:.0} µs of CPU each; {connections:.0} new connections/s"
    );
}

#[test]
#[ignore = "a measurement: COPEPOD_LAB=all ./dev test"]
fn requests_between_nodes_beside_plain_tcp_and_haproxy() {
    let tools = ["curl", "h2load", "haproxy", "openssl"];
    if !needs("curl, h2load, haproxy and openssl", tools.iter().all(|tool| has(tool))) {
        return;
    }
    let Some(cluster) = LabCluster::start(&["s"], &["n1", "n2"]) else { return };
    let pod = manifest::pod("web", "web", Some("n2"), Serves::Http);
    cluster.apply(&(pod + &manifest::service_at("web", Serves::Http, 30080)));
    let (n1, n2) = (cluster.lab.ip("n1"), cluster.lab.ip("n2"));
    let file = |name: &str| cluster.dir.path().join(name).display().to_string();
    let (key, certificate) = (file("pair.pem.key"), file("pair.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=n2", "-keyout", &key, "-out", &certificate])
        .output();
    assert!(made.expect("openssl runs").status.success());
    let answer = "http-request return status 200 content-type text/plain string \"Hello from haproxy\"";
    let far = format!(
        "{HAPROXY}frontend plain\n  bind {n2}:9000\n  {answer}\nfrontend tls\n  bind {n2}:9443 ssl crt {certificate}\n  {answer}\n"
    );
    let near = format!(
        "{HAPROXY}frontend in\n  bind {n1}:9000\n  default_backend out\nbackend out\n  http-reuse always\n  server n2 {n2}:9443 ssl verify none\n"
    );
    let haproxy = |machine: &str, config: &str| {
        std::fs::write(file(machine), config).expect("a file");
        let mut command = cluster.lab.command(machine, "haproxy");
        command.args(["-db", "-f", &file(machine)]);
        Process::run(command, &format!("haproxy {machine}"))
    };
    let (far, near) = (haproxy("n2", &far), haproxy("n1", &near));
    measure(&cluster, "plain TCP to haproxy", &format!("http://{n2}:9000/"), &[far.id()]);
    measure(&cluster, "haproxy, TLS to haproxy", &format!("http://{n1}:9000/"), &[far.id(), near.id()]);
    let agents = [cluster.agent("n1"), cluster.agent("n2")];
    measure(&cluster, "a node port of n1 to a pod of n2", &format!("http://{n1}:30080/"), &agents);
}
