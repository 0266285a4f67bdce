//! Backups and what they are good for, a server that goes on alone, and a cluster that is full.

use std::path::Path;
use std::process::Output;

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
