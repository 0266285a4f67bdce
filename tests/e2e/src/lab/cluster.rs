//! A cluster on the lab's machines: servers and agents with the ports and flags that everyone uses.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use super::{Addresses, Lab};
use crate::process::Process;
use crate::{binary, root, text, until};

/// The machine that is no part of the cluster.
pub const CLIENT: &str = "client";

/// Servers and agents, each named like its machine, and the machine [`CLIENT`].
pub struct LabCluster {
    servers: BTreeMap<String, Process>,
    agents: BTreeMap<String, Process>,
    /// What is started from now on.
    pub binary: PathBuf,
    /// Everything's data.
    pub dir: tempfile::TempDir,
    /// The machines.
    pub lab: Lab,
    first: String,
}

impl LabCluster {
    /// Servers on some machines and agents on some; `None` where there can be no lab. All servers vote and all nodes are
    /// ready.
    pub fn start(servers: &[&str], agents: &[&str]) -> Option<LabCluster> {
        LabCluster::start_in(tempfile::tempdir().expect("a folder"), servers, agents)
    }

    /// The same in a folder that is prepared.
    pub fn start_in(dir: tempfile::TempDir, servers: &[&str], agents: &[&str]) -> Option<LabCluster> {
        LabCluster::start_from(binary(), dir, servers, agents)
    }

    /// The same on machines that have addresses of IPv6 and no others.
    pub fn start_over_ipv6(servers: &[&str], agents: &[&str]) -> Option<LabCluster> {
        LabCluster::start_with(Addresses::V6, binary(), tempfile::tempdir().expect("a folder"), servers, agents)
    }

    /// The same from another binary than the one under test.
    pub fn start_from(
        binary: PathBuf,
        dir: tempfile::TempDir,
        servers: &[&str],
        agents: &[&str],
    ) -> Option<LabCluster> {
        LabCluster::start_with(Addresses::V4, binary, dir, servers, agents)
    }

    fn start_with(
        addresses: Addresses,
        binary: PathBuf,
        dir: tempfile::TempDir,
        servers: &[&str],
        agents: &[&str],
    ) -> Option<LabCluster> {
        let mut machines = servers.to_vec();
        machines.extend(agents.iter().filter(|a| !servers.contains(a)));
        machines.push(CLIENT);
        let lab = Lab::new(&machines, addresses)?;
        let first = servers[0].to_string();
        let mut cluster = LabCluster { servers: BTreeMap::new(), agents: BTreeMap::new(), binary, dir, lab, first };
        cluster.start_server(servers[0], &[]);
        let join = cluster.url(servers[0]);
        let token = cluster.ok(&["token", "create", "--usage", "server"]).trim().to_string();
        for (place, name) in servers.iter().enumerate().skip(1) {
            cluster.start_server(name, &["--join", &join, "--token", &token]);
            until("the server votes", || (cluster.voters() > place).then_some(()));
        }
        let token = cluster.ok(&["token", "create"]).trim().to_string();
        for name in agents {
            cluster.start_agent(name, &["--join", &join, "--token", &token]);
        }
        cluster.nodes_are_ready(agents.len());
        Some(cluster)
    }

    fn data(&self, of: &str, name: &str) -> String {
        self.dir.path().join(format!("{of}-{name}")).display().to_string()
    }

    /// A server's data folder.
    pub fn server_dir(&self, name: &str) -> PathBuf {
        self.data("server", name).into()
    }

    /// Starts a server, for the first time (with flags to join by) or again, and waits until its API listens.
    pub fn start_server(&mut self, name: &str, more: &[&str]) {
        let mut command = self.lab.command(name, &self.binary);
        command.args(["server", "--name", name, "--bind", &self.lab.ip(name).to_string()]);
        command.args(["--data-dir", &self.data("server", name)]).args(more).current_dir(root());
        let mut process = Process::run(command, &format!("server {name}"));
        process.value("API");
        self.servers.insert(name.into(), process);
    }

    /// Starts an agent, for the first time (with flags to join by) or again, and waits until its node is ready.
    pub fn start_agent(&mut self, name: &str, more: &[&str]) {
        let mut command = self.lab.command(name, &self.binary);
        command.args(["agent", "--node-name", name, "--bind", &self.lab.ip(name).to_string()]);
        // The machine's disk may be fuller than the kubelet would have it.
        command.args(["--eviction-hard", "nodefs.available<64Mi,imagefs.available<64Mi"]);
        command.args(["--data-dir", &self.data("agent", name)]).args(more).current_dir(root());
        let mut process = Process::run(command, &format!("agent {name}"));
        process.value("Node");
        self.agents.insert(name.into(), process);
    }

    /// kill -9 of a server, if it runs.
    pub fn kill_server(&mut self, name: &str) {
        drop(self.servers.remove(name));
    }

    /// kill -9 of an agent, if it runs.
    pub fn kill_agent(&mut self, name: &str) {
        drop(self.agents.remove(name));
    }

    /// Asks a server to stop and waits until it has.
    pub fn stop_server(&mut self, name: &str) {
        let server = self.servers.remove(name).expect("it runs");
        assert!(server.interrupt().success(), "{name} ends well");
    }

    /// Asks an agent to stop and waits until it has.
    pub fn stop_agent(&mut self, name: &str) {
        let agent = self.agents.remove(name).expect("it runs");
        assert!(agent.interrupt().success(), "{name} ends well");
    }

    /// The process id of an agent that runs.
    pub fn agent(&self, name: &str) -> u32 {
        self.agents[name].id()
    }

    /// What runs: its kind and machine, process id and data folder.
    pub fn processes(&self) -> Vec<(String, u32, PathBuf)> {
        let servers = self.servers.iter().map(|(name, process)| ("server", name, process));
        let agents = self.agents.iter().map(|(name, process)| ("agent", name, process));
        let found = |(of, name, process): (&str, &String, &Process)| {
            (format!("{of} {name}"), process.id(), PathBuf::from(self.data(of, name)))
        };
        servers.chain(agents).map(found).collect()
    }

    /// The URL of a server.
    pub fn url(&self, server: &str) -> String {
        format!("https://{}:6443", self.lab.host(server))
    }

    /// The administrator's kubeconfig as a server has written it.
    pub fn kubeconfig(&self, server: &str) -> String {
        format!("{}/kubeconfig", self.data("server", server))
    }

    /// `copepod` on a machine, with the kubeconfig of a server.
    pub fn copepod(&self, machine: &str, server: &str, args: &[&str]) -> Output {
        let mut command = self.lab.command(machine, &self.binary);
        command.args(args).env("KUBECONFIG", self.kubeconfig(server)).current_dir(root()).stdin(Stdio::null());
        command.output().expect("ip runs")
    }

    /// The same on the client's machine with the first server's, which must succeed; its stdout.
    pub fn ok(&self, args: &[&str]) -> String {
        let out = self.copepod(CLIENT, &self.first, args);
        assert!(out.status.success(), "copepod {args:?}: {}{}", text(&out.stdout), text(&out.stderr));
        text(&out.stdout)
    }

    /// Applies a manifest.
    pub fn apply(&self, manifest: &str) {
        let file = self.dir.path().join("manifest.yaml");
        std::fs::write(&file, manifest).expect("a file");
        self.ok(&["apply", "-f", &file.display().to_string()]);
    }

    /// An object as JSON.
    pub fn get(&self, resource: &str, name: &str) -> serde_json::Value {
        serde_json::from_str(&self.ok(&["get", resource, name, "-o", "json"])).expect("JSON")
    }

    /// Rows of `copepod members list` as a server tells them; none if it does not.
    fn members(&self, server: &str) -> Vec<Vec<String>> {
        let out = self.copepod(server, server, &["members", "list"]);
        text(&out.stdout).lines().skip(1).map(|l| l.split_whitespace().map(Into::into).collect()).collect()
    }

    /// How many servers vote and are there.
    pub fn voters(&self) -> usize {
        self.members(&self.first).iter().filter(|r| matches!(&*r[2], "leader" | "voter") && r[3] == "yes").count()
    }

    /// The leader that a server knows.
    pub fn leader(&self, server: &str) -> Option<String> {
        self.members(server).iter().find(|r| r[2] == "leader").map(|r| r[1].clone())
    }

    /// Waits until so many nodes are ready.
    pub fn nodes_are_ready(&self, count: usize) {
        until("the nodes are ready", || (self.ok(&["get", "nodes"]).matches(" Ready").count() == count).then_some(()));
    }
}
