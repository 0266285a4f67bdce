//! `copepod` verbs that stay, each in a process of its own: servers and agents.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use crate::{DEADLINE, root, text, until};

/// A port of loopback that was free a moment ago, for what cannot be asked for any free one.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address").port()
}

/// A process, killed when dropped.
pub struct Process {
    child: Child,
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Process {
    /// Starts `copepod ARGS…` in the repository's root.
    pub fn start(args: &[&str]) -> Process {
        let mut command = crate::copepod();
        command.args(args).current_dir(root());
        Process::run(command, args.first().copied().unwrap_or_default())
    }

    /// Starts a prepared command; `name` is shown before what it says.
    pub fn run(mut command: Command, name: &str) -> Process {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("copepod starts");
        let (send, lines) = mpsc::channel();
        let streams = [
            Box::new(child.stdout.take().expect("stdout")) as Box<dyn std::io::Read + Send>,
            Box::new(child.stderr.take().expect("stderr")),
        ];
        for stream in streams {
            let (send, name) = (send.clone(), name.to_string());
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    eprintln!("  {name}: {line}");
                    let _ = send.send(line);
                }
            });
        }
        Process { child, lines, seen: Vec::new() }
    }

    /// What the process says behind `name` at the beginning of a line, once it does.
    pub fn value(&mut self, name: &str) -> String {
        let end = Instant::now() + DEADLINE;
        let find = |line: &String| line.strip_prefix(name).map(|rest| rest.trim().to_string());
        loop {
            if let Some(found) = self.seen.iter().find_map(find) {
                return found;
            }
            let line = self.lines.recv_timeout(end.saturating_duration_since(Instant::now()));
            let Ok(line) = line else { panic!("it did not say {name:?} but:\n{}", self.seen.join("\n")) };
            self.seen.push(line);
        }
    }

    /// Waits for the process to end by itself: how, and everything that it said.
    pub fn ended(mut self) -> (ExitStatus, String) {
        let status = until("the process ends", || self.child.try_wait().expect("wait"));
        // Both streams are closed now, so this comes to an end.
        self.seen.extend(self.lines.iter());
        (status, self.seen.join("\n"))
    }

    /// The process' id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    /// Sends SIGINT and answers how the process ended.
    pub fn interrupt(mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill").success());
        self.child.wait().expect("wait")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A `copepod server` on loopback.
pub struct ServerProcess {
    /// The process.
    pub process: Process,
    /// Its data folder.
    pub dir: PathBuf,
    /// `https://127.0.0.1:PORT`.
    pub url: String,
    /// What it is started with again.
    args: Vec<String>,
}

impl ServerProcess {
    /// Starts one in `dir` and waits until its API answers.
    pub fn start(dir: &Path) -> ServerProcess {
        ServerProcess::start_as(dir, "a", &[])
    }

    /// The same by another name and with flags that only its first start needs.
    pub fn start_as(dir: &Path, name: &str, first: &[&str]) -> ServerProcess {
        let (api, peer) = (free_port().to_string(), free_port().to_string());
        let data = dir.display().to_string();
        let args = ["server", "--data-dir", &data, "--api-port", &api, "--peer-port", &peer, "--name", name];
        let mut process = Process::start(&[&args, first].concat());
        let url = process.value("API");
        ServerProcess { process, dir: dir.into(), url, args: args.map(Into::into).to_vec() }
    }

    /// Starts it again after it was killed, and waits until its API answers.
    pub fn again(&mut self) {
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        self.process = Process::start(&args);
        self.process.value("API");
    }

    /// `copepod` as a client of this server.
    pub fn copepod(&self, args: &[&str]) -> Output {
        let config = self.dir.join("kubeconfig");
        let out = crate::copepod().args(args).env("KUBECONFIG", config).current_dir(root()).output();
        out.expect("copepod runs")
    }

    /// The same, which must succeed; its stdout.
    pub fn ok(&self, args: &[&str]) -> String {
        let out = self.copepod(args);
        assert!(out.status.success(), "copepod {args:?}: {}{}", text(&out.stdout), text(&out.stderr));
        text(&out.stdout)
    }
}

/// Starts a `copepod agent` on loopback with data in `dir`.
pub fn agent(dir: &Path, more: &[&str]) -> Process {
    let data = dir.display().to_string();
    let mut args = vec!["agent", "--data-dir", &data];
    for port in ["--ingress-port", "--ingress-tls-port", "--dns-port", "--kubelet-port", "--data-port"] {
        args.extend([port, "0"]);
    }
    args.extend(more);
    Process::start(&args)
}
