//! A cluster that may have few descriptors.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use e2e::{Cluster, binary, copepod, has, needs, root, until};

#[test]
fn more_clients_than_descriptors_leave_some_for_the_api() {
    if !needs("kubectl", has("kubectl")) {
        return;
    }
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 1024 && exec \"$0\" \"$@\""]).arg(binary());
    command.envs(copepod().get_envs().filter_map(|(name, value)| Some((name, value?))));
    let dir = tempfile::tempdir().unwrap();
    let c = Cluster::start_in(command, &root(), dir.path(), &["-f", "examples/hello/hello.yaml"]);
    let at = c.ingress.strip_prefix("http://").unwrap().to_string();
    // This process may be bound itself.
    let clients: Vec<_> = (0..1100).map_while(|_| TcpStream::connect(&at).ok()).collect();
    assert!(clients.len() > 600, "{} clients", clients.len());
    c.ok(&["get", "nodes"]);
    c.ok(&["create", "configmap", "a", "--from-literal=b=c"]);
    drop(clients);
    until("the ingress answers", || {
        let mut tcp = TcpStream::connect(&at).ok()?;
        tcp.write_all(b"GET / HTTP/1.1\r\nHost: hello.localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).ok()?;
        answer.starts_with("HTTP/1.1 200").then_some(())
    });
}
