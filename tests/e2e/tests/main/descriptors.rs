//! A cluster that may have few descriptors, or little address space.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use e2e::{Cluster, binary, copepod, has, needs, root, until};

/// The binary, bound by what `ulimit` is told.
fn bound(ulimit: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit {ulimit} && exec \"$0\" \"$@\"")]).arg(binary());
    command.envs(copepod().get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

/// What the hello app answers at the ingress, head and body.
fn ask(ingress: &str) -> Option<String> {
    let mut tcp = TcpStream::connect(ingress).ok()?;
    tcp.write_all(b"GET / HTTP/1.1\r\nHost: hello.localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// A pool of a hundred memories takes more than 400 GiB.
#[test]
fn where_no_pool_of_instances_fits_pods_run_without_one() {
    if !needs("kubectl", has("kubectl")) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let c = Cluster::start_in(bound("-v 16777216"), &root(), dir.path(), &["-f", "examples/hello/hello.yaml"]);
    let at = c.ingress.strip_prefix("http://").unwrap();
    until("the app answers", || ask(at).filter(|answer| answer.starts_with("HTTP/1.1 200")));
    let answers: Vec<_> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..64).map(|_| scope.spawn(|| ask(at))).collect();
        asking.into_iter().map(|asking| asking.join().unwrap().unwrap_or_default()).collect()
    });
    assert!(answers.iter().all(|answer| answer.starts_with("HTTP/1.1 200")), "{answers:?}");
}

#[test]
fn more_clients_than_descriptors_leave_some_for_the_api() {
    if !needs("kubectl", has("kubectl")) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let c = Cluster::start_in(bound("-n 1024"), &root(), dir.path(), &["-f", "examples/hello/hello.yaml"]);
    let at = c.ingress.strip_prefix("http://").unwrap().to_string();
    // This process may be bound itself.
    let clients: Vec<_> = (0..1100).map_while(|_| TcpStream::connect(&at).ok()).collect();
    assert!(clients.len() > 600, "{} clients", clients.len());
    c.ok(&["get", "nodes"]);
    c.ok(&["create", "configmap", "a", "--from-literal=b=c"]);
    drop(clients);
    until("the ingress answers", || ask(&at).filter(|answer| answer.starts_with("HTTP/1.1 200")));
}
