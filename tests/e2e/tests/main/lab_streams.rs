//! Streams and conversations of datagrams between nodes, by node ports and by the addresses of Services, while a node is lost or
//! the path between two of them is cut. What a short cut holds up goes on without a byte lost or told again; what is given up
//! ends with an error on both sides; what is opened meanwhile goes to whoever is left.

use std::net::SocketAddr;

use e2e::lab::{CLIENT, Client, LabCluster, Talk, now};
use e2e::manifest::{self, Serves};
use e2e::{has, needs, until};

const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// Seconds without a word that nobody takes for an end: a node waits five for the answer to its question, and TCP, whose pauses
/// double, has sent again what was lost long before.
const SHORT: f64 = 2.0;

/// Pods of n2 that are asked over the tunnel by n1, some of them with another one of n3 behind the same Service. Of those that
/// speak TCP each serves one connection at a time, so whatever is held has a pod of its own.
fn manifest() -> String {
    let node_port = ["type: NodePort"];
    [
        manifest::pod("held", "held", Some("n2"), Serves::Lines),
        manifest::service("held", Serves::Lines, &node_port),
        manifest::pod("asked", "asked", Some("n2"), Serves::Lines),
        manifest::service("asked", Serves::Lines, &node_port),
        manifest::pod("alone", "alone", Some("n2"), Serves::Datagrams),
        manifest::service("alone", Serves::Datagrams, &node_port),
        manifest::pod("lines-n2", "lines", Some("n2"), Serves::Lines),
        manifest::pod("lines-n3", "lines", Some("n3"), Serves::Lines),
        manifest::service("lines", Serves::Lines, &[]),
        manifest::pod("either-n2", "either", Some("n2"), Serves::Datagrams),
        manifest::pod("either-n3", "either", Some("n3"), Serves::Datagrams),
        manifest::service("either", Serves::Datagrams, &node_port),
        manifest::pod("relay", "relay", Some("n1"), Serves::Lines),
        manifest::service("relay", Serves::Lines, &node_port),
    ]
    .concat()
}

struct Streams {
    cluster: LabCluster,
}

/// What is held at the same time.
struct Held {
    /// The client's stream by n1's node port to the pod `held` of n2.
    lines: Client,
    /// The client's question to the pod `relay` of n1, which has opened a stream of its own to the address of the Service `asked`
    /// and waits there.
    asks: Client,
    /// Who keeps the pod `asked` busy, on n2 itself.
    keeper: Client,
    /// The client's datagrams by n1's node port to the pod `alone` of n2.
    alone: Client,
    /// The same to one of the pods of n2 and n3.
    either: Client,
}

impl Streams {
    fn start() -> Option<Streams> {
        if !needs("python3", has("python3")) {
            return None;
        }
        let cluster = LabCluster::start(&["s1", "s2", "s3"], &NODES)?;
        cluster.apply(&manifest());
        let streams = Streams { cluster };
        streams.all_run();
        Some(streams)
    }

    fn all_run(&self) {
        until("all pods run", || (self.cluster.ok(&["get", "pods"]).matches(" 1/1 ").count() == 8).then_some(()));
        for pod in ["alone", "either-n2", "either-n3"] {
            // A datagram that comes too early is lost.
            until("it listens", || self.cluster.ok(&["logs", pod]).contains("listening").then_some(()));
        }
        for (node, service) in [("n1", "held"), ("n2", "asked"), ("n1", "relay")] {
            until(&format!("{service} answers at {node}"), || self.echo(node, service));
        }
        until("a pod reaches the Service", || self.relayed());
    }

    /// A Service's node port at a node.
    fn at(&self, node: &str, service: &str) -> String {
        let port = self.cluster.get("service", service)["spec"]["ports"][0]["nodePort"].as_u64().expect("a node port");
        format!("{}:{port}", self.cluster.lab.ip(node))
    }

    fn echo(&self, node: &str, service: &str) -> Option<()> {
        let said = self.cluster.lab.echo(CLIENT, "lines", &self.at(node, service), "hi");
        said.filter(|said| said == "hi").map(drop)
    }

    /// Whether a new stream of the pod `relay` to the address of the Service `lines` is answered.
    fn relayed(&self) -> Option<()> {
        let said = self.cluster.lab.echo(CLIENT, "lines", &self.at("n1", "relay"), "connect lines:70")?;
        said.contains(" says: hello from ").then_some(())
    }

    fn hold(&self) -> Held {
        let lab = &self.cluster.lab;
        let keeper = Client::talk(lab, CLIENT, &self.at("n2", "asked"), 0.2);
        until("the pod is busy", || (keeper.talked().heard > 0).then_some(()));
        let asks = Client::ask(lab, CLIENT, &self.at("n1", "relay"), "connect asked:70");
        let lines = Client::talk(lab, CLIENT, &self.at("n1", "held"), 0.05);
        let alone = Client::converse(lab, CLIENT, &self.at("n1", "alone"), 0.1);
        let either = Client::converse(lab, CLIENT, &self.at("n1", "either"), 0.1);
        let held = Held { lines, asks, keeper, alone, either };
        held.go_on("all have begun");
        held
    }

    /// Waits until a new stream is answered, and then for a row of them without one that is not.
    fn new_ones_are_answered(&self, what: &str, since: f64) {
        until(&format!("{what}: a new stream goes to the pod that is left"), || self.relayed());
        println!("{what}: a new stream is answered after {:.2} s", now() - since);
        let answered = (0..10).filter(|_| self.relayed().is_some()).count();
        assert_eq!(answered, 10, "{what}: it is known now who is not there");
    }

    /// Waits until a pod says that a connection of its has ended with an error.
    fn pod_hears_of_it(&self, pod: &str) {
        until(&format!("{pod} hears that its connection is over"), || {
            self.cluster.ok(&["logs", pod]).lines().any(tells_an_error).then_some(())
        });
    }
}

/// Whether a line of the echo's log is about a connection that has failed: `PEER: ERROR`. Of others it says when they came and how
/// much it has sent.
fn tells_an_error(line: &str) -> bool {
    line.split_once(": ").is_some_and(|(peer, _)| peer.parse::<SocketAddr>().is_ok())
}

#[test]
fn a_line_about_an_error_is_told_from_others() {
    assert!(tells_an_error("10.0.0.7:4711: Connection reset by peer (os error 15)"));
    for line in ["10.0.0.7:4711 connected", "10.0.0.7:4711 sent 3 lines", "listening on 0.0.0.0:7000"] {
        assert!(!tells_an_error(line), "{line}");
    }
}

impl Held {
    /// Waits until twenty more lines and datagrams have come back; nothing may have ended meanwhile.
    fn go_on(&self, what: &str) {
        for (way, client) in [("lines", &self.lines), ("datagrams", &self.alone), ("datagrams for two", &self.either)] {
            let wanted = client.talked().heard + 20;
            until(&format!("{what}: {way} go on"), || {
                let talk = client.talked();
                assert_eq!(talk.ended, None, "{what}: {way}");
                (talk.heard >= wanted).then_some(())
            });
        }
        assert_eq!(self.asks.talked().answer, None, "{what}: the pod's stream waits for its answer");
    }

    /// Waits until both streams are over and says when: each with an error, that of the client and that of the pod.
    fn end(&self, what: &str, since: f64) {
        let ended = until(&format!("{what}: the client's stream ends"), || self.lines.talked().ended);
        let answer = until(&format!("{what}: the pod's stream ends"), || self.asks.talked().answer);
        println!(
            "{what}: the client's stream ended after {:.2} s ({}), the pod's after {:.2} s ({})",
            ended.0 - since,
            ended.1,
            answer.0 - since,
            answer.1
        );
        assert!(ended.1.starts_with("ConnectionReset"), "{what}: broken off, not closed: {}", ended.1);
        assert!(answer.1.starts_with("error: "), "{what}: no answer: {}", answer.1);
        self.is_right(what);
    }

    /// Nothing has come that was not sent, out of order or again.
    fn is_right(&self, what: &str) {
        for client in [&self.lines, &self.alone, &self.either, &self.keeper] {
            assert_eq!(client.talked().wrong, Vec::<String>::new(), "{what}");
        }
    }

    /// Hangs up: what has not ended has lost nothing.
    fn hang_up(self) {
        self.is_right("in the end");
        let whole = |talk: &Talk| {
            assert_eq!((talk.heard, &talk.wrong), (talk.sent, &Vec::new()), "a stream has lost or repeated something");
            assert_eq!(talk.ended.as_ref().map(|(_, how)| &**how), Some("closed"));
        };
        let lines = self.lines.hang_up();
        whole(&lines);
        whole(&self.keeper.hang_up());
        let answer = until("the pod is answered in the end", || self.asks.talked().answer);
        assert!(answer.1.contains(" says: hello from "), "{}", answer.1);
        println!("{} lines there and back", lines.heard);
        for talk in [self.alone.hang_up(), self.either.hang_up()] {
            assert_eq!(talk.wrong, Vec::<String>::new());
            println!("{} of {} datagrams there and back", talk.heard, talk.sent);
        }
    }
}

#[test]
fn a_third_node_lost_and_a_short_cut_take_nothing_from_streams() {
    let Some(streams) = Streams::start() else { return };
    let (lab, held) = (&streams.cluster.lab, streams.hold());
    lab.link("n3", false);
    let since = now();
    let lines = || held.lines.talked();
    let wanted = lines().heard + 20;
    until("the third node is lost: lines go on", || (lines().heard >= wanted).then_some(()));
    streams.cluster.nodes_are_ready(NODES.len() - 1);
    println!("the third node is not ready after {:.1} s", now() - since);
    // The datagrams that may go to either node have found the one that is left.
    held.go_on("the third node is lost");
    lab.heal();
    streams.cluster.nodes_are_ready(NODES.len());

    lab.cut("n1", "n2");
    until("nothing has come for a while", || (now() - lines().last >= SHORT).then_some(()));
    for node in ["n1", "n2"] {
        lab.faults(node, &[]);
    }
    let (since, before) = (now(), lines());
    held.go_on("a short cut");
    let (first, after) = (before.last, lines());
    println!(
        "a cut of {:.2} s: {} lines more {:.2} s after it",
        since - first,
        after.heard - before.heard,
        now() - since
    );
    held.hang_up();
}

#[test]
fn a_path_that_stays_cut_ends_its_streams_on_both_sides() {
    let Some(streams) = Streams::start() else { return };
    let (lab, held) = (&streams.cluster.lab, streams.hold());
    lab.cut("n1", "n2");
    let since = now();
    held.end("a path cut", since);
    streams.pod_hears_of_it("held");
    // Its own client has lost nothing, and behind it comes the one whose path was cut.
    let keeper = held.keeper.hang_up();
    assert_eq!((keeper.heard, keeper.wrong), (keeper.sent, Vec::new()));
    streams.pod_hears_of_it("asked");
    streams.new_ones_are_answered("a path cut", since);
    let wanted = held.either.talked().heard + 20;
    until("datagrams go to the pod that is left", || (held.either.talked().heard >= wanted).then_some(()));
    // All are ready as ever: it is the path that is gone.
    streams.cluster.nodes_are_ready(NODES.len());

    lab.heal();
    let since = now();
    let wanted = held.alone.talked().heard + 20;
    until("datagrams go on where there is one pod", || (held.alone.talked().heard >= wanted).then_some(()));
    println!("the path is there again: datagrams go on after {:.2} s", now() - since);
    until("the pod is reached again", || streams.echo("n1", "held"));
    streams.hold().hang_up();
}

#[test]
fn streams_to_a_node_that_dies_end() {
    let Some(mut streams) = Streams::start() else { return };
    let held = streams.hold();
    streams.cluster.kill_agent("n2");
    let since = now();
    held.end("kill -9 of the node", since);
    streams.new_ones_are_answered("kill -9 of the node", since);
    drop(held);
    streams.cluster.start_agent("n2", &[]);
    streams.all_run();

    let held = streams.hold();
    streams.cluster.lab.link("n2", false);
    let since = now();
    held.end("the node without a cable", since);
    streams.new_ones_are_answered("the node without a cable", since);
    drop(held);
    streams.cluster.lab.heal();
    streams.cluster.nodes_are_ready(NODES.len());
    streams.all_run();
    streams.hold().hang_up();
}
