//! Backups and what they are good for, a server that goes on alone, and a cluster that is full.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use e2e::{Cluster, text, until};

fn copepod(args: &[&str]) -> Output {
    e2e::copepod().args(args).output().expect("copepod runs")
}

fn ok(out: &Output) -> String {
    assert!(out.status.success(), "{}{}", text(&out.stdout), text(&out.stderr));
    text(&out.stdout)
}

fn fails(out: &Output) -> String {
    assert!(!out.status.success(), "it succeeded: {}", text(&out.stdout));
    text(&out.stderr)
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn revision(cluster: &Cluster, kind: &str, name: &str) -> String {
    cluster.ok(&["get", kind, name, "-o", "jsonpath={.metadata.resourceVersion}"])
}

/// What a watch from a revision says first.
fn watch(cluster: &Cluster, from: &str) -> String {
    let url = "/api/v1/namespaces/default/configmaps?watch=1&timeoutSeconds=5&resourceVersion=";
    cluster.ok(&["get", "--raw", &format!("{url}{from}")])
}

#[test]
fn a_snapshot_becomes_a_cluster_again() {
    let Some((_dir, cluster)) = Cluster::for_kubectl(&[]) else { return };
    let place = tempfile::tempdir().expect("a folder");
    let file = |name: &str| place.path().join(name);
    let (snap, keys, phrase) = (file("state.snap"), file("state.snap.keys"), file("phrase"));
    std::fs::write(&phrase, "not quite so secret\n").expect("a passphrase");
    cluster.ok(&["create", "configmap", "kept", "--from-literal=a=1"]);
    cluster.ok(&["create", "secret", "generic", "sealed", "--from-literal=word=open"]);
    let with_keys = ["--with-keys", "--passphrase-file", path(&phrase), "--data-dir", path(&cluster.dir)];
    let saved = cluster.copepod(&[&["snapshot", "save", path(&snap)][..], &with_keys].concat());
    assert!(ok(&saved).contains(" objects, revision "), "{}", text(&saved.stdout));
    assert!(!file("state.snap.part").exists());
    assert!(ok(&copepod(&["snapshot", "verify", path(&snap)])).contains("whole"));
    // No role but the administrator's has it.
    let denied = cluster.fails(&["--as=bob", "get", "--raw", "/copepod.dev/v1/snapshot"]);
    assert!(denied.contains("forbidden"), "{denied}");

    cluster.ok(&["create", "configmap", "lost", "--from-literal=a=1"]);
    let last = revision(&cluster, "configmap", "lost");
    let running = fails(&copepod(&["snapshot", "verify", path(&cluster.dir)]));
    assert!(running.contains("another copepod is using"), "{running}");
    let old = cluster.kill();

    let mut bytes = std::fs::read(&snap).expect("the snapshot");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file("damaged.snap"), &bytes).expect("a damaged snapshot");
    let new = file("new");
    let restore = |from: &Path, more: &[&str]| {
        copepod(&[&["snapshot", "restore", path(from), "--data-dir", path(&new)][..], more].concat())
    };
    let with_keys = ["--keys", path(&keys), "--passphrase-file", path(&phrase)];
    let error = fails(&restore(&file("damaged.snap"), &[]));
    assert!(error.contains("chunk 1 is damaged"), "{error}");
    assert!(!new.exists(), "a bad snapshot changes nothing");
    // The folder of a server of a group, without its state.
    std::fs::create_dir_all(new.join("server")).expect("a folder");
    std::fs::write(new.join("server/member"), "3\n").expect("its ID");
    ok(&restore(&snap, &with_keys));
    assert!(!new.join("server/member").exists(), "it is the first server of another cluster now");
    let error = fails(&restore(&snap, &with_keys));
    assert!(error.contains("is not empty"), "{error}");
    assert!(ok(&copepod(&["snapshot", "verify", path(&new)])).contains("whole"));
    let ca = |dir: &Path| std::fs::read_to_string(dir.join("server/pki/ca.crt")).expect("a CA");
    assert_eq!(ca(&new), ca(&old));

    let again = Cluster::up(&new, &[]);
    assert_eq!(again.ok(&["get", "configmap", "kept", "-o", "jsonpath={.data.a}"]), "1");
    assert_eq!(again.ok(&["get", "secret", "sealed", "-o", "jsonpath={.data.word}"]), "b3Blbg==");
    assert!(again.fails(&["get", "configmap", "lost"]).contains("NotFound"));
    // Whoever watched the old cluster is told to begin anew, even where it was ahead of the snapshot.
    let told = watch(&again, &last);
    assert!(told.contains("\"ERROR\"") && told.contains("\"code\":410"), "{told}");
    again.ok(&["create", "configmap", "new", "--from-literal=a=1"]);
    let (now, last): (u64, u64) =
        (revision(&again, "configmap", "new").parse().expect("a number"), last.parse().expect("a number"));
    assert!(now > last, "{now} after {last}");
}

#[test]
fn a_snapshot_while_clients_write_has_all_that_was_acknowledged_before() {
    let Some((_dir, cluster)) = Cluster::for_kubectl(&[]) else { return };
    let place = tempfile::tempdir().expect("a folder");
    let file = |name: &str| place.path().join(name);
    let (snap, keys, phrase, new) = (file("state.snap"), file("state.snap.keys"), file("phrase"), file("new"));
    std::fs::write(&phrase, "not quite so secret\n").expect("a passphrase");
    let config = cluster.dir.join("kubeconfig");
    let (over, acknowledged) = (AtomicBool::new(false), Mutex::new(Vec::<String>::new()));
    let told = || acknowledged.lock().expect("not poisoned").clone();
    let before = std::thread::scope(|scope| {
        for writer in 0..2 {
            let (over, acknowledged, config) = (&over, &acknowledged, &config);
            scope.spawn(move || {
                for n in 0.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let name = format!("w{writer}-{n}");
                    let mut create = Command::new("kubectl");
                    create.arg("--kubeconfig").arg(config).args(["create", "configmap", &name, "--from-literal=a=b"]);
                    if create.output().is_ok_and(|o| o.status.success()) {
                        acknowledged.lock().expect("not poisoned").push(name);
                    }
                }
            });
        }
        // Whatever fails here, the writers must come to an end.
        let saved = catch_unwind(AssertUnwindSafe(|| {
            until("twenty writes were acknowledged", || (told().len() >= 20).then_some(()));
            let before = told();
            let with_keys = ["--with-keys", "--passphrase-file", path(&phrase), "--data-dir", path(&cluster.dir)];
            ok(&cluster.copepod(&[&["snapshot", "save", path(&snap)][..], &with_keys].concat()));
            until("they went on", || (told().len() >= before.len() + 5).then_some(()));
            before
        }));
        over.store(true, Ordering::Relaxed);
        saved.unwrap_or_else(|why| resume_unwind(why))
    });
    cluster.kill();
    let with_keys = ["--keys", path(&keys), "--passphrase-file", path(&phrase)];
    ok(&copepod(&[&["snapshot", "restore", path(&snap), "--data-dir", path(&new)][..], &with_keys].concat()));
    let there = Cluster::up(&new, &[]).ok(&["get", "configmaps", "-o", "name"]);
    let is_there = |name: &String| there.contains(&format!("configmap/{name}\n"));
    let lost: Vec<&String> = before.iter().filter(|name| !is_there(name)).collect();
    assert!(lost.is_empty(), "acknowledged before the snapshot and not in it: {lost:?}");
    // It is of one moment: of each client everything up to one of its writes.
    let all = told();
    for writer in ["w0-", "w1-"] {
        let found: Vec<bool> = all.iter().filter(|name| name.starts_with(writer)).map(is_there).collect();
        assert!(found.is_sorted_by(|earlier, later| *earlier || !*later), "{writer}: {found:?} of {all:?}");
    }
}

#[test]
fn a_new_key_seals_all_secrets_and_comes_back_with_a_snapshot() {
    let Some((dir, cluster)) = Cluster::for_kubectl(&[]) else { return };
    let place = tempfile::tempdir().expect("a folder");
    let file = |name: &str| place.path().join(name);
    let (snap, keys, phrase, new) = (file("state.snap"), file("state.snap.keys"), file("phrase"), file("new"));
    std::fs::write(&phrase, "not quite so secret\n").expect("a passphrase");
    let create = |cluster: &Cluster, name: &str| {
        cluster.ok(&["create", "secret", "generic", name, "--from-literal=word=open"]);
    };
    let readable = |cluster: &Cluster, names: &[&str]| {
        for name in names {
            assert_eq!(cluster.ok(&["get", "secret", name, "-o", "jsonpath={.data.word}"]), "b3Blbg==", "{name}");
        }
    };
    let rotate = |cluster: &Cluster, key: u64| {
        let told = ok(&cluster.copepod(&["secrets", "rotate-key"]));
        assert!(told.starts_with(&format!("key {key} seals Secrets from now on; ")), "{told}");
        assert!(!told.contains("; 0 were"), "{told}");
    };
    create(&cluster, "old");
    let before = revision(&cluster, "secret", "old");
    let denied = cluster.fails(&["--as=bob", "get", "--raw", "/copepod.dev/v1/secrets/rotate-key"]);
    assert!(denied.contains("forbidden"), "{denied}");
    rotate(&cluster, 2);
    assert_ne!(revision(&cluster, "secret", "old"), before, "it is stored anew");
    create(&cluster, "new");
    cluster.ok(&["label", "secret", "old", "a=b"]);
    readable(&cluster, &["old", "new"]);
    assert!(cluster.interrupt().success());

    let cluster = Cluster::up(dir.path(), &[]);
    readable(&cluster, &["old", "new"]);
    rotate(&cluster, 3);
    // Without a checkpoint: from the log.
    cluster.kill();
    let cluster = Cluster::up(dir.path(), &[]);
    readable(&cluster, &["old", "new"]);

    let with_keys = ["--with-keys", "--passphrase-file", path(&phrase), "--data-dir", path(&cluster.dir)];
    ok(&cluster.copepod(&[&["snapshot", "save", path(&snap)][..], &with_keys].concat()));
    cluster.kill();
    let with_keys = ["--keys", path(&keys), "--passphrase-file", path(&phrase)];
    let restore = ["snapshot", "restore", path(&snap), "--data-dir", path(&new)];
    ok(&copepod(&[&restore[..], &with_keys].concat()));
    let again = Cluster::up(&new, &[]);
    readable(&again, &["old", "new"]);
    rotate(&again, 4);
    readable(&again, &["old", "new"]);
}

#[test]
fn a_server_that_is_left_goes_on_alone() {
    let Some((dir, cluster)) = Cluster::for_kubectl(&[]) else { return };
    cluster.ok(&["create", "configmap", "kept", "--from-literal=a=1"]);
    let last = revision(&cluster, "configmap", "kept");
    let recover = |more: &[&str]| copepod(&[&["recover", "--data-dir", path(dir.path())][..], more].concat());
    assert!(fails(&recover(&["--yes"])).contains("another copepod is using"));
    cluster.kill();
    let warned = fails(&recover(&[]));
    assert!(warned.contains("WARNING") && warned.contains("nothing was changed"), "{warned}");
    ok(&recover(&["--yes"]));
    let again = Cluster::up(dir.path(), &[]);
    assert_eq!(again.ok(&["get", "configmap", "kept", "-o", "jsonpath={.data.a}"]), "1");
    assert!(watch(&again, &last).contains("\"code\":410"));
}

#[test]
fn a_full_cluster_says_so_and_gets_out_of_it_by_deletions() {
    let Some((dir, cluster)) = Cluster::for_kubectl(&[]) else { return };
    let place = tempfile::tempdir().expect("a folder");
    let large = place.path().join("large");
    std::fs::write(&large, "x".repeat(500_000)).expect("a large file");
    for name in ["one", "two", "three"] {
        cluster.ok(&["create", "configmap", name, &format!("--from-file=large={}", path(&large))]);
    }
    cluster.ok(&["create", "configmap", "small", "--from-literal=a=1"]);
    let metric = |cluster: &Cluster, name: &str| -> u64 {
        let all = cluster.ok(&["get", "--raw", "/metrics"]);
        let line = all.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|v| v.parse().ok()).unwrap_or_else(|| panic!("{name} is not in {all}"))
    };
    let used = metric(&cluster, "copepod_store_object_bytes");
    assert!(used > 1_500_000, "{used}");
    assert_eq!(metric(&cluster, "copepod_store_space_alarm"), 0);
    assert!(metric(&cluster, "copepod_store_commit_duration_seconds_count") > 0);
    assert!(metric(&cluster, "apiserver_storage_size_bytes") > 0);
    assert!(cluster.interrupt().success());

    // Events and the like may have gone meanwhile.
    let quota = (used - used / 50).to_string();
    let full = Cluster::up(dir.path(), &["--quota-bytes", &quota]);
    let error = full.fails(&["create", "configmap", "four", "--from-literal=a=1"]);
    assert!(error.contains("etcdserver: mvcc: database space exceeded"), "{error}");
    assert_eq!(metric(&full, "copepod_store_space_alarm"), 1);
    let ready = full.fails(&["get", "--raw", "/readyz"]);
    assert!(ready.contains("[-]space failed"), "{ready}");
    assert_eq!(full.ok(&["get", "--raw", "/livez"]), "ok");
    // What is there may change, as statuses and heartbeats do.
    full.ok(&["label", "configmap", "small", "a=b"]);
    full.ok(&["delete", "configmap", "one"]);
    until("there is space again", || full.kubectl(&["get", "--raw", "/readyz"]).status.success().then_some(()));
    full.ok(&["create", "configmap", "four", "--from-literal=a=1"]);
    assert_eq!(metric(&full, "copepod_store_space_alarm"), 0);
}
