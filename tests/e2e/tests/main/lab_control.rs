//! Three servers and three agents on three machines of which something is taken away, while clients of each machine write
//! and read: what was acknowledged is there, by every server; all servers have the same; pods answer throughout.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use e2e::lab::{CLIENT, Client, Fault, LabCluster, Seen, now, seconds};
use e2e::manifest::{self, Serves};
use e2e::{has, needs, text, until};
use serde_json::{Value, json};

use crate::faults::Small;

const MACHINES: [&str; 3] = ["n1", "n2", "n3"];

/// On each machine a pod that answers at that machine's node port.
fn manifest() -> String {
    let web = |name: &str| {
        let app = format!("web-{name}");
        let pod = manifest::pod(&app, &app, Some(name), Serves::Http);
        pod + &manifest::service_at(&app, Serves::Http, node_port(name))
    };
    MACHINES.map(web).concat()
}

fn node_port(machine: &str) -> u16 {
    30080 + u16::try_from(place(machine)).expect("few machines")
}

fn place(machine: &str) -> usize {
    MACHINES.iter().position(|m| *m == machine).expect("a machine")
}

fn others(machine: &str) -> Vec<&'static str> {
    MACHINES.into_iter().filter(|m| *m != machine).collect()
}

/// The cluster with a writer and a prober on each machine: the writer at that machine's server, the prober at its pod.
struct Group {
    /// Of the servers, if they have some of their own, in the machines' order: unmounted before the folder goes.
    disks: Vec<Small>,
    cluster: LabCluster,
    writers: Vec<Client>,
    probers: Vec<Client>,
    /// Names of what kubectl was told that it has created.
    by_kubectl: RefCell<Vec<String>>,
}

impl Group {
    fn start() -> Option<Group> {
        Group::start_in(tempfile::tempdir().expect("a folder"), Vec::new())
    }

    fn start_in(dir: tempfile::TempDir, disks: Vec<Small>) -> Option<Group> {
        if !needs("python3", has("python3")) || !needs("kubectl", has("kubectl")) {
            return None;
        }
        Group::of(LabCluster::start_in(dir, &MACHINES, &MACHINES)?, disks)
    }

    fn of(cluster: LabCluster, disks: Vec<Small>) -> Option<Group> {
        cluster.apply(&manifest());
        for name in MACHINES {
            let url = format!("http://{}:{}/", cluster.lab.ip(name), node_port(name));
            until("the pod answers", || (cluster.lab.curl(name, &url, &[]).0 == 200).then_some(()));
        }
        let lab = &cluster.lab;
        let writer = |name: &&str| {
            let mut urls = vec![cluster.url(name)];
            urls.extend(others(name).iter().map(|other| cluster.url(other)));
            Client::write(lab, name, &cluster.kubeconfig(name), &format!("of-{name}"), &urls)
        };
        let prober = |name: &&str| {
            let url = format!("http://{}:{}/", lab.ip(name), node_port(name));
            Client::probe(lab, name, &url, "web")
        };
        let (writers, probers) = (MACHINES.iter().map(writer).collect(), MACHINES.iter().map(prober).collect());
        let group = Group { disks, cluster, writers, probers, by_kubectl: RefCell::default() };
        group.go_on("all write", &MACHINES);
        Some(group)
    }

    /// The one leader that all servers know.
    fn leader(&self) -> &'static str {
        let leader = until("all servers know one leader", || {
            let all: BTreeSet<_> = MACHINES.iter().map(|name| self.cluster.leader(name)).collect();
            (all.len() == 1).then(|| all.into_iter().next().flatten()).flatten()
        });
        MACHINES[place(&leader)]
    }

    fn acknowledged(&self, machine: &str) -> usize {
        self.writers[place(machine)].seen().acknowledged()
    }

    /// Waits until each of some machines' writers has been acknowledged five times more.
    fn go_on(&self, what: &str, machines: &[&str]) {
        let before: Vec<usize> = machines.iter().map(|m| self.acknowledged(m)).collect();
        until(what, || machines.iter().zip(&before).all(|(m, b)| self.acknowledged(m) >= b + 5).then_some(()));
    }

    /// Waits until some of the machines have a leader (another one than `not`) and their writers are acknowledged again;
    /// prints how long that has taken since something happened.
    fn recovers(&self, what: &str, since: f64, survivors: &[&str], not: Option<&str>) {
        let leader = until("there is a leader", || self.cluster.leader(survivors[0]).filter(|l| Some(&**l) != not));
        let led = now() - since;
        self.go_on(what, survivors);
        self.kubectl_creates(survivors);
        self.tells(what, since, survivors, &format!("{leader} leads after {}", seconds(Some(led))));
    }

    /// What kubectl says on a machine, to that machine's server.
    fn kubectl(&self, machine: &str, args: &[&str]) -> String {
        let kubeconfig = self.cluster.kubeconfig(machine);
        let out = self.cluster.lab.run(machine, "kubectl", &[&["--kubeconfig", &kubeconfig], args].concat());
        assert!(out.status.success(), "kubectl {args:?} on {machine}: {}", text(&out.stderr));
        text(&out.stdout)
    }

    /// Somebody at each of these machines creates a ConfigMap by kubectl, and reads it at another one.
    fn kubectl_creates(&self, machines: &[&str]) {
        for (i, machine) in machines.iter().enumerate() {
            let name = format!("by-kubectl-{}", self.by_kubectl.borrow().len());
            self.kubectl(machine, &["create", "configmap", &name]);
            let other = machines[(i + 1) % machines.len()];
            until("it is there", || {
                self.kubectl(other, &["get", "configmaps", "-o", "name"]).contains(&name).then_some(())
            });
            self.by_kubectl.borrow_mut().push(name);
        }
    }

    /// The same where so little gets through that nobody can be waited for: until five writes are acknowledged, to whomever,
    /// whether another one leads meanwhile or not.
    fn limps(&self, what: &str, since: f64, old: &str) {
        let all = || MACHINES.iter().map(|m| self.acknowledged(m)).sum::<usize>();
        let (before, mut led) = (all(), None);
        until("some writes are acknowledged", || {
            if led.is_none()
                && let Some(leader) = self.cluster.leader("n1").filter(|l| l != old)
            {
                led = Some(format!("{leader} leads after {}", seconds(Some(now() - since))));
            }
            (all() >= before + 5).then_some(())
        });
        self.tells(what, since, &MACHINES, &led.unwrap_or_else(|| format!("{old} leads as before")));
    }

    /// Prints who leads, and how long some of the machines' writers had to wait since something happened.
    fn tells(&self, what: &str, since: f64, survivors: &[&str], leads: &str) {
        let write = survivors.iter().filter_map(|m| self.writers[place(m)].seen().next_write(since));
        let waited = survivors.iter().map(|m| self.writers[place(m)].seen().longest_wait(since)).fold(0.0, f64::max);
        println!(
            "{what}: {leads}, next acknowledged write after {}, longest wait for one {waited:.2} s",
            seconds(write.min_by(f64::total_cmp)),
        );
    }

    /// Waits until a machine's writer has been told of several failures since, while the others go on, and looks just before
    /// all is healed that it was told of nothing else.
    fn writes_nothing_until_healed(&self, machine: &str, since: f64) {
        let seen = || self.writers[place(machine)].seen();
        let failures = || seen().writes.values().filter(|w| w.at > since && !w.acknowledged()).count();
        until("the minority's client hears of it, and again", || (failures() >= 3).then_some(()));
        self.go_on("the majority goes on", &others(machine));
        let wrong: Vec<_> = seen().writes.into_iter().filter(|(_, w)| w.at > since && w.acknowledged()).collect();
        assert!(wrong.is_empty(), "acknowledged by a minority: {wrong:?}");
        self.cluster.lab.heal();
    }

    /// Ends the clients, compares what the servers have with what was acknowledged, and with each other.
    fn ends_well(self) {
        self.go_on("all go on in the end", &MACHINES);
        for machine in MACHINES {
            let there = self.kubectl(machine, &["get", "configmaps", "-o", "name"]);
            let there: BTreeSet<&str> = there.lines().filter_map(|l| l.strip_prefix("configmap/")).collect();
            let lost: Vec<_> =
                self.by_kubectl.borrow().iter().filter(|n| !there.contains(n.as_str())).cloned().collect();
            assert!(lost.is_empty(), "{machine} does not have what kubectl has created: {lost:?}");
        }
        let Group { cluster, writers, probers, disks, .. } = self;
        let seen: Vec<Seen> = writers.into_iter().map(Client::stop).collect();
        let lists = MACHINES.map(|name| cluster.lab.list(CLIENT, &cluster.kubeconfig(name), &cluster.url(name)));
        let (mut known, mut unknown) = (0, 0);
        for (writer, name) in seen.iter().zip(MACHINES) {
            assert!(writer.missed.is_empty(), "not there when it was read: {:?}", writer.missed);
            let lost: Vec<_> =
                writer.writes.iter().filter(|(n, w)| w.acknowledged() && !lists[0].contains_key(*n)).collect();
            assert!(lost.is_empty(), "acknowledged to {name} and gone: {lost:?}");
            let made: Vec<_> = writer.writes.iter().filter(|(n, w)| w.refused() && lists[0].contains_key(*n)).collect();
            assert!(made.is_empty(), "refused to {name} and there: {made:?}");
            known += writer.acknowledged();
            unknown += writer.writes.values().filter(|w| !w.acknowledged() && !w.refused()).count();
            let mut told = BTreeMap::<String, usize>::new();
            for write in writer.writes.values().filter(|w| !w.acknowledged()) {
                let message = write.said.rsplit(r#""message":""#).next().and_then(|m| m.split('"').next());
                *told.entry(format!("{} {}", write.code, message.unwrap_or_default())).or_default() += 1;
            }
            println!("  the client of {name} was told beside its acknowledgements: {told:?}");
        }
        for (list, name) in lists.iter().zip(MACHINES).skip(1) {
            assert!(list == &lists[0], "{name} has something else than n1");
        }
        addresses_are_whole(&lists[0]);
        let mut requests = 0;
        for (prober, name) in probers.into_iter().zip(MACHINES) {
            let seen = prober.stop();
            assert!(seen.failures().is_empty(), "the pod of {name} did not answer: {:?}", seen.failures());
            requests += seen.samples.len();
        }
        println!(
            "{known} writes acknowledged and there, {unknown} of which nobody knew, {requests} requests to pods answered"
        );
        drop(disks);
    }
}

/// Each Service with an address of the cluster has it in exactly one IPAddress, and nobody else has one: they are made
/// together, or neither is.
fn addresses_are_whole(list: &BTreeMap<String, Value>) {
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    let mut found: Vec<(&str, String)> = Vec::new();
    for (key, item) in list {
        if let Some(service) = key.strip_prefix("services/") {
            let ip = item["spec"]["clusterIP"].as_str().filter(|ip| !["", "None"].contains(ip));
            wanted.extend(ip.map(|ip| (ip, service)));
        } else if let Some(ip) = key.strip_prefix("ipaddresses//") {
            let of = &item["spec"]["parentRef"];
            assert_eq!(of["resource"], "services", "{item}");
            let name = |field: &str| of[field].as_str().unwrap_or_default();
            found.push((ip, format!("{}/{}", name("namespace"), name("name"))));
        }
    }
    wanted.sort_unstable();
    found.sort_unstable();
    assert!(wanted.is_sorted_by(|a, b| a.0 < b.0), "an address was given twice: {wanted:?}");
    let found: Vec<(&str, &str)> = found.iter().map(|(ip, of)| (*ip, &**of)).collect();
    assert_eq!(found, wanted, "a Service and its address are there together or not at all");
}

#[test]
fn a_service_without_its_address_and_an_address_without_its_service_are_found() {
    let service = |ip: &str| json!({"spec": {"clusterIP": ip}});
    let address = |name: &str| json!({"spec": {"parentRef": {"resource": "services", "namespace": "d", "name": name}}});
    let mut list = BTreeMap::from([
        ("services/d/a".to_string(), service("10.96.0.2")),
        ("services/d/headless".to_string(), service("None")),
        ("ipaddresses//10.96.0.2".to_string(), address("a")),
        ("configmaps/d/c".to_string(), json!({})),
    ]);
    let whole = |list: &BTreeMap<String, Value>| std::panic::catch_unwind(|| addresses_are_whole(list)).is_ok();
    assert!(whole(&list));
    list.insert("ipaddresses//10.96.0.3".into(), address("b"));
    assert!(!whole(&list), "an address of nobody");
    list.insert("services/d/b".into(), service("10.96.0.3"));
    assert!(whole(&list));
    list.insert("services/d/c".into(), service("10.96.0.3"));
    assert!(!whole(&list), "one of two");
    list.insert("services/d/c".into(), service("10.96.0.4"));
    assert!(!whole(&list), "a Service alone");
}

#[test]
fn a_leader_killed_and_one_cut_off_take_nothing_with_them() {
    let Some(mut group) = Group::start() else { return };
    let old = group.leader();
    group.cluster.kill_server(old);
    let since = now();
    group.recovers("kill -9 of the leader", since, &others(old), Some(old));
    group.cluster.start_server(old, &[]);
    group.go_on("the old leader is back", &MACHINES);

    let old = group.leader();
    for other in others(old) {
        group.cluster.lab.faults(other, &[Fault::Deaf(old)]);
    }
    group.cluster.lab.faults(old, &others(old).into_iter().map(Fault::Deaf).collect::<Vec<_>>());
    let since = now();
    group.recovers("the leader alone", since, &others(old), Some(old));
    group.writes_nothing_until_healed(old, since + 0.5);
    group.ends_well();
}

#[test]
fn all_servers_killed_at_once_come_back_with_everything() {
    let Some(mut group) = Group::start() else { return };
    for name in MACHINES {
        group.cluster.kill_server(name);
    }
    let since = now();
    for name in MACHINES {
        group.cluster.start_server(name, &[]);
    }
    group.recovers("kill -9 of all", since, &MACHINES, None);
    group.ends_well();
}

#[test]
fn a_minority_with_clients_in_it_writes_nothing() {
    let Some(group) = Group::start() else { return };
    let leader = group.leader();
    let alone = others(leader)[0];
    group.cluster.lab.link(alone, false);
    let since = now();
    let rest: Vec<&str> = MACHINES.into_iter().filter(|m| *m != alone).collect();
    group.recovers("a follower without a cable", since, &rest, None);
    group.writes_nothing_until_healed(alone, since + 0.5);
    group.ends_well();
}

#[test]
fn directions_cut_one_at_a_time_stop_nobody_for_long() {
    let Some(group) = Group::start() else { return };
    let lab = &group.cluster.lab;
    let old = group.leader();
    // It goes on telling that it leads, and hears nobody.
    lab.faults(old, &others(old).into_iter().map(Fault::Deaf).collect::<Vec<_>>());
    let since = now();
    group.recovers("a leader that hears nobody", since, &others(old), Some(old));
    lab.heal();
    group.go_on("after that", &MACHINES);

    let old = group.leader();
    for other in others(old) {
        lab.faults(other, &[Fault::Deaf(old)]);
    }
    let since = now();
    group.recovers("a leader that nobody hears", since, &others(old), Some(old));
    lab.heal();
    group.go_on("after that", &MACHINES);

    // One way between the leader and one follower; the majority is there.
    let old = group.leader();
    let [one, other] = others(old)[..] else { panic!("three machines") };
    lab.faults(one, &[Fault::Deaf(old)]);
    let since = now();
    group.recovers("a follower that does not hear the leader", since, &[other], None);
    lab.heal();
    group.ends_well();
}

#[test]
fn a_third_of_all_packets_lost_is_slow_and_nothing_else() {
    let Some(group) = Group::start() else { return };
    let old = group.leader();
    for name in MACHINES {
        group.cluster.lab.faults(name, &[Fault::Loss(30)]);
    }
    // Connections stall for seconds and leaders change, so a minute can bring few.
    group.limps("30 % of packets lost", now(), old);
    group.cluster.lab.heal();
    group.ends_well();
}

#[test]
fn a_full_disk_is_one_server_less_until_there_is_room() {
    let dir = tempfile::tempdir().expect("a folder");
    let small = |name: &&str| Small::mount(dir.path().join(format!("server-{name}")), "64m");
    let Some(disks) = MACHINES.iter().map(small).collect::<Option<Vec<_>>>() else { return };
    let Some(group) = Group::start_in(dir, disks) else { return };
    let fills = |what: &str, full: &'static str| {
        let filler = group.disks[place(full)].fill(0);
        let since = now();
        // What fits into what is allocated already may still be written.
        until("its own client hears of it", || {
            let seen = group.writers[place(full)].seen();
            seen.writes.values().any(|w| w.at > since && !w.acknowledged()).then_some(())
        });
        group.recovers(what, since, &others(full), Some(full));
        std::fs::remove_file(filler).expect("it is there");
        group.go_on("there is room again", &MACHINES);
    };
    fills("a full disk of a follower", others(group.leader())[0]);
    fills("a full disk of the leader", group.leader());
    group.ends_well();
}

#[test]
fn servers_restarted_one_by_one_are_hardly_missed() {
    let Some(mut group) = Group::start() else { return };
    for name in MACHINES {
        group.cluster.stop_server(name);
        let since = now();
        group.cluster.start_server(name, &[]);
        group.recovers(&format!("{name} restarted"), since, &MACHINES, None);
    }
    group.ends_well();
}

/// `COPEPOD_PREVIOUS_BINARY` is what an earlier commit has built. Where it is not set nobody has asked for this, also in CI.
#[test]
#[ignore = "needs an earlier binary: COPEPOD_PREVIOUS_BINARY=… cargo nextest run -p e2e --run-ignored all from_the_previous"]
fn servers_and_agents_upgraded_one_by_one_from_the_previous_binary_are_hardly_missed() {
    let Some(previous) = std::env::var_os("COPEPOD_PREVIOUS_BINARY").map(std::path::PathBuf::from) else {
        println!("skipped: needs an earlier binary in COPEPOD_PREVIOUS_BINARY");
        return;
    };
    assert!(previous.is_file(), "COPEPOD_PREVIOUS_BINARY is no file: {}", previous.display());
    let dir = tempfile::tempdir().expect("a folder");
    let Some(cluster) = LabCluster::start_from(previous, dir, &MACHINES, &MACHINES) else { return };
    let Some(mut group) = Group::of(cluster, Vec::new()) else { return };
    group.cluster.binary = e2e::binary();
    for name in MACHINES {
        group.cluster.stop_server(name);
        let since = now();
        group.cluster.start_server(name, &[]);
        group.recovers(&format!("{name}'s server upgraded"), since, &MACHINES, None);
    }
    // An agent that stops takes its pods with it: what answers at its port has to be asked by nobody meanwhile.
    for prober in std::mem::take(&mut group.probers) {
        let failures = prober.stop().failures().len();
        assert_eq!(failures, 0, "requests while the servers were upgraded");
    }
    for name in MACHINES {
        group.cluster.stop_agent(name);
        group.cluster.start_agent(name, &[]);
        let url = format!("http://{}:{}/", group.cluster.lab.ip(name), node_port(name));
        until("the pod answers again", || (group.cluster.lab.curl(name, &url, &[]).0 == 200).then_some(()));
    }
    group.cluster.nodes_are_ready(MACHINES.len());
    group.ends_well();
}
