//! kill -9 of the whole cluster while clients write, and a disk that is full or cannot be written.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use e2e::process::Process;
use e2e::{Cluster, has, needs, text, until};

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

/// A small file system of its own.
pub(crate) struct Small(PathBuf);

impl Small {
    pub(crate) fn mount(at: PathBuf, size: &str) -> Option<Small> {
        std::fs::create_dir_all(&at).unwrap();
        let args = ["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"];
        let done = Command::new("mount").args(args).arg(&at).output().is_ok_and(|o| o.status.success());
        needs("a root who may mount", done).then_some(Small(at))
    }

    /// Takes all that is left but for some bytes.
    pub(crate) fn fill(&self, but: u64) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = File::create(&path).unwrap();
        let mut size = 0;
        let piece = vec![0; 4096];
        while file.write_all(&piece).is_ok() {
            size += piece.len() as u64;
        }
        file.set_len(size - but).unwrap();
        path
    }

    /// Lets it be written (`rw`) or not (`ro`), once nobody has a file of it open for writing.
    fn remount(&self, how: &str) {
        until("it is mounted again", || {
            let args = ["-o", &format!("remount,{how}")];
            Command::new("mount").args(args).arg(&self.0).output().is_ok_and(|o| o.status.success()).then_some(())
        });
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Whoever is killed just now may still have it open.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_ends_the_promises_until_there_is_room() {
    if !needs("kubectl", has("kubectl")) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let Some(small) = Small::mount(dir.path().join("server/state"), "32m") else { return };
    let cluster = Cluster::up(dir.path(), &[]);
    let big = dir.path().join("big");
    std::fs::write(&big, "x".repeat(200 << 10)).unwrap();
    let create = |n: usize| {
        let file = format!("--from-file=v={}", big.display());
        cluster.kubectl(&["create", "configmap", &format!("n{n}"), &file])
    };
    assert!(create(0).status.success());
    let filler = small.fill(1 << 20);
    let refused = (1..200).find_map(|n| {
        let out = create(n);
        (!out.status.success()).then(|| (n, text(&out.stderr)))
    });
    let (refused, why) = refused.expect("32 MiB are not endless");
    assert!(why.contains("unknown") || why.contains("store failed"), "{why}");
    let reports = cluster.fails(&["get", "--raw", "/readyz?verbose"]);
    assert!(reports.contains("[-]"), "{reports}");
    until("the check says why", || {
        // What is small may fit after all, and the store go on until the next that does not.
        drop(create(299));
        let out = cluster.kubectl(&["get", "--raw", "/readyz/store"]);
        (!out.status.success() && text(&out.stderr).contains("No space left on device")).then_some(())
    });
    cluster.says("the store failed; it acknowledges nothing any more");
    // While it lasts nothing is acknowledged.
    assert!(!create(300).status.success());

    std::fs::remove_file(filler).unwrap();
    until("the server goes on", || cluster.kubectl(&["get", "--raw", "/readyz"]).status.success().then_some(()));
    let there = cluster.ok(&["get", "configmaps", "-o", "name"]);
    for n in 0..refused {
        assert!(there.contains(&format!("configmap/n{n}\n")), "n{n} was acknowledged: {there}");
    }
    assert!(!there.contains("configmap/n300\n"), "refused, and there");
    assert!(create(301).status.success());
}

#[test]
fn a_file_system_that_is_read_only_is_named_and_nothing_is_lost() {
    if !needs("kubectl", has("kubectl")) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let Some(small) = Small::mount(dir.path().join("server/state"), "64m") else { return };
    let cluster = Cluster::up(dir.path(), &[]);
    for n in 0..5 {
        cluster.ok(&["create", "configmap", &format!("n{n}"), "--from-literal=a=b"]);
    }
    // While a server has files open the kernel leaves them to it.
    cluster.kill();
    small.remount("ro");
    let data = dir.path().display().to_string();
    let mut args = vec!["up", "--data-dir", &data];
    for port in ["--api-port", "--ingress-port", "--ingress-tls-port", "--dns-port", "--kubelet-port"] {
        args.extend([port, "0"]);
    }
    let (status, said) = Process::start(&args).ended();
    assert!(!status.success(), "{said}");
    assert!(said.contains("the file system is read-only: nothing is damaged or lost"), "{said}");

    small.remount("rw");
    let cluster = Cluster::up(dir.path(), &[]);
    let there = cluster.ok(&["get", "configmaps", "-o", "name"]);
    for n in 0..5 {
        assert!(there.contains(&format!("configmap/n{n}\n")), "n{n} was acknowledged: {there}");
    }
    cluster.ok(&["create", "configmap", "n5", "--from-literal=a=b"]);
}
