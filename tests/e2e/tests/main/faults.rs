//! kill -9 of the whole cluster while clients write.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use e2e::{Cluster, has, needs, until};

#[test]
fn no_acknowledged_write_is_lost_by_kill_9() {
    if !needs("kubectl", has("kubectl")) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::up(dir.path(), &[]);
    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let config = dir.path().join("kubeconfig");
    let writers: Vec<_> = (0..2)
        .map(|w| {
            let (stop, acknowledged, config) = (stop.clone(), acknowledged.clone(), config.clone());
            std::thread::spawn(move || {
                for i in 0.. {
                    let name = format!("w{w}-{i}");
                    let done = std::process::Command::new("kubectl")
                        .arg("--kubeconfig")
                        .arg(&config)
                        .args(["create", "configmap", &name, "--from-literal=a=b"])
                        .output()
                        .is_ok_and(|o| o.status.success());
                    if done {
                        acknowledged.lock().unwrap().push(name);
                    }
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                }
            })
        })
        .collect();
    until("twenty writes were acknowledged", || (acknowledged.lock().unwrap().len() >= 20).then_some(()));
    cluster.kill();
    stop.store(true, Ordering::SeqCst);
    writers.into_iter().for_each(|w| w.join().unwrap());
    let cluster = Cluster::up(dir.path(), &[]);
    let there = cluster.ok(&["get", "configmaps", "-o", "name"]);
    let lost: Vec<_> =
        acknowledged.lock().unwrap().iter().filter(|n| !there.contains(&format!("configmap/{n}\n"))).cloned().collect();
    assert!(lost.is_empty(), "acknowledged and gone: {lost:?}");
}
