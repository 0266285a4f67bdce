//! Nodes that are lost, restarted and cut off from each other while a client uses a Service that has a pod on each: what
//! the client sees of it.

use e2e::lab::{CLIENT, Client, LabCluster, Sample, now};
use e2e::manifest::{self, Serves};
use e2e::{has, needs, until};

const NODES: [&str; 3] = ["n1", "n2", "n3"];

fn manifest() -> String {
    let web = |node: &str| manifest::pod(&format!("web-{node}"), "web", Some(node), Serves::Http);
    NODES.map(web).concat()
        + &manifest::pod("front", "front", Some("n1"), Serves::Http)
        + &manifest::service_at("web", Serves::Http, 30080)
        + &manifest::service_at("front", Serves::Http, 30081)
        + "---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec: {defaultBackend: {service: {name: web, port: {number: 80}}}}
"
}

/// Three servers, three agents with a pod each, and clients of n1: by its ingress, its node port, and a pod of it that calls the
/// Service by name.
struct Used {
    cluster: LabCluster,
    probers: Vec<(&'static str, Client)>,
}

impl Used {
    fn start() -> Option<Used> {
        if !needs("curl and python3", has("curl") && has("python3")) {
            return None;
        }
        let cluster = LabCluster::start(&["s1", "s2", "s3"], &NODES)?;
        cluster.apply(&manifest());
        let n1 = cluster.lab.ip("n1");
        let ways = [
            ("by the ingress", format!("http://{n1}:8080/")),
            ("by the node port", format!("http://{n1}:30080/")),
            ("by a pod", format!("http://{n1}:30081/fetch?url=http://web/")),
        ];
        for (way, url) in &ways {
            until(way, || (cluster.lab.curl(CLIENT, url, &[]).0 == 200).then_some(()));
        }
        let probers = ways.iter().map(|(way, url)| (*way, Client::probe(&cluster.lab, CLIENT, url, "web"))).collect();
        let used = Used { cluster, probers };
        for node in NODES {
            used.answered_by(node, 0.0);
        }
        Some(used)
    }

    /// Waits until every client has been answered by the pod of a node since.
    fn answered_by(&self, node: &str, since: f64) {
        let pod = format!("Hello from web-{node}");
        for (way, prober) in &self.probers {
            until(&format!("the pod of {node} answers {way}"), || {
                prober.seen().samples.iter().any(|s| s.at > since && s.said.ends_with(&pod)).then_some(())
            });
        }
    }

    /// Waits until every client has had so many answers in a row, and prints what they have seen since something happened:
    /// per client the failures.
    fn recovers(&self, what: &str, since: f64, row: usize) -> Vec<Vec<Sample>> {
        let seen = |prober: &Client| -> Vec<Sample> {
            prober.seen().samples.into_iter().filter(|s| s.at + s.took > since).collect()
        };
        let mut failures = Vec::new();
        for (way, prober) in &self.probers {
            until(&format!("{what}: {way} all is well"), || {
                let samples = seen(prober);
                (samples.len() >= row && samples[samples.len() - row..].iter().all(Sample::good)).then_some(())
            });
            let failed: Vec<Sample> = seen(prober).into_iter().filter(|s| !s.good()).collect();
            let slowest = seen(prober).iter().map(|s| s.took).fold(0.0, f64::max);
            let over = prober.seen().recovered(since);
            println!(
                "{what}, {way}: {} of {} requests failed, the slowest took {slowest:.2} s, all well after {over:.2} s",
                failed.len(),
                seen(prober).len(),
            );
            for sample in &failed {
                println!("  after {:.2} s: {} {}", sample.at - since, sample.code, sample.said);
            }
            failures.push(failed);
        }
        failures
    }
}

#[test]
fn agents_killed_and_restarted_cost_no_more_than_what_they_were_doing() {
    let Some(mut used) = Used::start() else { return };
    let since = now();
    used.cluster.kill_agent("n2");
    let failures = used.recovers("kill -9 of an agent", since, 20);
    assert!(failures.iter().all(|failed| failed.len() <= 1), "more than what was under way: {failures:?}");
    let since = now();
    used.cluster.start_agent("n2", &[]);
    used.answered_by("n2", since);
    for node in ["n2", "n3"] {
        used.cluster.stop_agent(node);
        let up = now();
        used.cluster.start_agent(node, &[]);
        used.answered_by(node, up);
    }
    let failures = used.recovers("agents restarted one by one", since, 20);
    assert!(failures.iter().all(Vec::is_empty), "lost by agents that had time to stop: {failures:?}");
}

#[test]
fn two_nodes_cut_off_from_each_other_go_on_with_the_rest() {
    let Some(used) = Used::start() else { return };
    // Both are ready all the time, and so is the pod that the one cannot reach.
    used.cluster.lab.cut("n1", "n2");
    let since = now();
    // A row that lasts longer than it takes to give a silent connection up, so that nobody is still to find out.
    used.recovers("two nodes cut off from each other", since, 110);
    // Now that it is known, it costs nobody a request.
    let known = now();
    let failures = used.recovers("the same from then on", known, 60);
    assert!(failures.iter().all(Vec::is_empty), "{failures:?}");
    used.cluster.nodes_are_ready(NODES.len());
    used.cluster.lab.heal();
    let since = now();
    used.answered_by("n2", since);
    let failures = used.recovers("together again", since, 20);
    assert!(failures.iter().all(Vec::is_empty), "{failures:?}");
}

#[test]
fn a_node_without_a_cable_is_passed_over_and_found_again() {
    let Some(used) = Used::start() else { return };
    used.cluster.lab.link("n2", false);
    let since = now();
    used.recovers("a cable out", since, 30);
    used.cluster.nodes_are_ready(NODES.len() - 1);
    println!("the node is not ready after {:.1} s", now() - since);
    used.recovers("a cable out, until the node was given up", since, 30);
    used.cluster.lab.heal();
    let since = now();
    used.cluster.nodes_are_ready(NODES.len());
    used.answered_by("n2", since);
    let failures = used.recovers("the cable in again", since, 20);
    assert!(failures.iter().all(Vec::is_empty), "{failures:?}");
}
