//! docs/THREE_MACHINES.md, command by command: its addresses become loopback's, its folders those of a test, and what it
//! stops is stopped.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use e2e::process::Process;
use e2e::{binary, root, text, until};

/// One code block: the machine that it is for, and its commands.
struct Block {
    machine: String,
    commands: Vec<String>,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut out = Vec::new();
    for code in page.split("```sh\n").skip(1) {
        let code = code.split("```").next().unwrap_or_default();
        let mut lines = code.lines();
        let machine = lines.next().and_then(|l| l.strip_prefix("# on ")).expect("a block says where").to_string();
        out.push(Block { machine, commands: lines.map(Into::into).collect() });
    }
    out
}

/// The machines of the page.
struct Machines<'a> {
    dir: &'a Path,
    running: BTreeMap<String, Process>,
    environment: BTreeMap<String, Vec<(String, String)>>,
}

impl Machines<'_> {
    /// As the command is on this machine. Each address has a loopback address of its own, so that ports stay as they are.
    fn local(&self, machine: &str, command: &str) -> String {
        let data = self.dir.join(machine).display().to_string();
        let examples = root().join("examples").display().to_string();
        command
            .replace("10.0.0.", "127.0.31.")
            .replace("/var/lib/copepod", &data)
            .replace("-f examples", &format!("-f {examples}"))
    }

    fn run(&mut self, machine: &str, command: &str) {
        let local = self.local(machine, command);
        let words: Vec<&str> = local.split_whitespace().collect();
        match words.as_slice() {
            ["copepod", verb @ ("server" | "agent"), ..] => {
                // Images of the example are files of the repository; tokens lie in the folder that all machines share here.
                let mut start = e2e::copepod();
                start.current_dir(root());
                let mut rest = words[1..].iter();
                while let Some(word) = rest.next() {
                    start.arg(word);
                    if *word == "--token-file" {
                        start.arg(self.dir.join(rest.next().expect("a file")));
                    }
                }
                let mut process = Process::run(start, machine);
                process.value(if *verb == "server" { "API" } else { "Node" });
                self.running.insert(machine.into(), process);
            }
            ["export", assignment] => {
                let (name, value) = assignment.split_once('=').expect("NAME=VALUE");
                self.environment.entry(machine.into()).or_default().push((name.into(), value.into()));
            }
            ["pkill", ..] => drop(self.running.remove(machine)),
            _ => drop(self.shell(machine, &local)),
        }
    }

    /// Runs a command that must succeed; its stdout.
    fn shell(&self, machine: &str, command: &str) -> String {
        let bin = binary();
        let path =
            format!("{}:{}", bin.parent().expect("a folder").display(), std::env::var("PATH").unwrap_or_default());
        // Between two leaders a command may have to wait.
        until(command, || {
            let environment = self.environment.get(machine).cloned().unwrap_or_default();
            let mut shell = Command::new("sh");
            shell.args(["-c", command]).current_dir(self.dir).env("PATH", &path).envs(environment);
            let out = shell.output().expect("sh runs");
            eprintln!("  {machine}$ {command}\n{}{}", text(&out.stdout), text(&out.stderr));
            out.status.success().then(|| text(&out.stdout))
        })
    }
}

/// When each node's Lease was renewed last, as the server on one of the machines tells it.
fn renewals(machines: &Machines<'_>, on: &str) -> BTreeMap<String, String> {
    let config = machines.dir.join(on).join("kubeconfig").display().to_string();
    let get = format!("KUBECONFIG={config} copepod get leases -n kube-node-lease -o json");
    let list: serde_json::Value = serde_json::from_str(&machines.shell(on, &get)).expect("JSON");
    let leases = list["items"].as_array().expect("a list");
    let text = |field: &serde_json::Value| field.as_str().expect("text").to_string();
    leases.iter().map(|lease| (text(&lease["metadata"]["name"]), text(&lease["spec"]["renewTime"]))).collect()
}

#[test]
fn the_page_works_as_it_stands() {
    let page = std::fs::read_to_string(root().join("docs/THREE_MACHINES.md")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut machines = Machines { dir: dir.path(), running: BTreeMap::new(), environment: BTreeMap::new() };
    let list = |machines: &Machines<'_>, on: &str| machines.shell(on, "copepod members list");
    for block in blocks(&page) {
        for command in &block.commands {
            if command.starts_with("pkill") {
                // Whoever follows the page waits for this, too: three votes and two nodes.
                until("all three servers vote", || {
                    let shown = list(&machines, "a");
                    (shown.matches("leader").count() == 1 && shown.matches("voter").count() == 2).then_some(())
                });
                until("both nodes are ready", || {
                    (machines.shell("a", "copepod get nodes").matches(" Ready").count() == 2).then_some(())
                });
                for (agent, ip) in [("d", "127.0.31.4"), ("e", "127.0.31.5")] {
                    let curl = format!("curl -s -f -m 10 -H 'Host: hello.localhost' http://{ip}:8080/");
                    assert!(machines.shell(agent, &curl).starts_with("Hello from hello-"));
                }
            }
            machines.run(&block.machine, command);
            if command.starts_with("pkill") {
                // A node stays ready for 40 seconds whatever its agent does: that agents go on is seen by their Leases.
                let before = renewals(&machines, "b");
                until("both agents renew their Leases by other servers", || {
                    let now = renewals(&machines, "b");
                    ["d", "e"].iter().all(|node| now.get(*node) > before.get(*node)).then_some(())
                });
            }
        }
    }
    until("the successors vote, and those that they replace are no servers any more", || {
        let shown = list(&machines, "b");
        let names: Vec<&str> = shown.lines().skip(1).filter_map(|row| row.split_whitespace().nth(1)).collect();
        let voting = shown.matches("leader").count() == 1 && shown.matches("voter").count() == 2;
        (voting && names == ["b", "f", "g"]).then_some(())
    });
    let (status, said) = machines.running.remove("c").expect("it was started").ended();
    assert!(status.success() && said.contains("this server was taken out of the cluster"), "{status}: {said}");
    // The agents have gone on to another server.
    until("both nodes are still heard of", || {
        (machines.shell("b", "copepod get nodes").matches(" Ready").count() == 2).then_some(())
    });
    // A successor has the cluster's objects and its keys: its own kubeconfig does.
    let data = dir.path().join("g").display().to_string();
    let there = machines.shell("g", &format!("KUBECONFIG={data}/kubeconfig copepod get nodes"));
    assert!(there.contains("d ") && there.contains("e "), "{there}");
}
