//! Pulls from a small registry in this process, and from Debian's docker-registry where it is installed.

mod access;
mod breaks;
mod registry;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::*;
use registry::TestRegistry;

const NOW: Time = Time::from_secs(1_800_000_000);

fn digest(bytes: &[u8]) -> String {
    blobs::hex(Sha256::new_with_prefix(bytes))
}

/// Something that begins like a module.
fn module(text: &str) -> Vec<u8> {
    [b"\0asm\x01\0\0\0", text.as_bytes()].concat()
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType":media_type,"digest":digest(bytes),"size":bytes.len()})
}

fn manifest(config: (&str, &[u8]), layers: &[(&str, &[u8])]) -> Vec<u8> {
    let layers: Vec<Value> = layers.iter().map(|(t, b)| descriptor(t, b)).collect();
    json!({"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
        "config":descriptor(config.0, config.1),"layers":layers})
    .to_string()
    .into_bytes()
}

fn artifact(wasm: &[u8]) -> Vec<u8> {
    manifest(("application/vnd.wasm.config.v0+json", b"{}"), &[("application/wasm", wasm)])
}

fn tarball(files: &[(&str, &[u8])], gzip: bool) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        tar.append_data(&mut header, name, *bytes).unwrap();
    }
    let tar = tar.into_inner().unwrap();
    if !gzip {
        return tar;
    }
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gz, &tar).unwrap();
    gz.finish().unwrap()
}

/// Every file of the store but the index.
fn files(dir: &Path) -> Vec<String> {
    let mut out = Vec::new();
    for sub in ["blobs/sha256", "tmp"] {
        out.extend(std::fs::read_dir(dir.join(sub)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()));
    }
    out
}

async fn pull(store: &Store, image: &str, policy: Policy) -> Result<Pulled, PullError> {
    store.pull(&Request { image: image.into(), policy, credentials: Vec::new() }, NOW, || {}, &Meter::default()).await
}

struct Bench {
    registry: TestRegistry,
    dir: tempfile::TempDir,
    store: Store,
}

impl Bench {
    async fn new(config: Config) -> Bench {
        let (registry, dir) = (TestRegistry::start().await, tempfile::tempdir().unwrap());
        let store = Store::open(dir.path(), config).unwrap();
        Bench { registry, dir, store }
    }
    fn image(&self, rest: &str) -> String {
        format!("{}/{rest}", self.registry.host)
    }
    async fn pull(&self, rest: &str, policy: Policy) -> Result<Pulled, PullError> {
        pull(&self.store, &self.image(rest), policy).await
    }
    async fn pull_as(&self, rest: &str, policy: Policy, who: &[(&str, &str)]) -> Result<Pulled, PullError> {
        let credentials =
            who.iter().map(|(u, p)| Credential { username: (*u).into(), password: (*p).into() }).collect();
        self.store.pull(&Request { image: self.image(rest), policy, credentials }, NOW, || {}, &Meter::default()).await
    }
    fn publish(&self, name: &str, tag: &str, wasm: &[u8]) -> String {
        self.registry.blob(name, wasm);
        self.registry.manifest(name, tag, &artifact(wasm))
    }
}

#[tokio::test]
async fn by_tag_and_by_digest() {
    let b = Bench::new(Config::default()).await;
    let wasm = module("one");
    let manifest = b.publish("me/app", "1", &wasm);
    let first = b.pull("me/app:1", Policy::IfNotPresent).await.unwrap();
    assert_eq!((first.digest.as_str(), first.size, first.present), (digest(&wasm).as_str(), wasm.len() as u64, false));
    assert_eq!(b.store.read(&first.digest).await.unwrap(), wasm);
    assert_eq!(std::fs::read(b.store.path(&first.digest).unwrap()).unwrap(), wasm);

    let asked = b.registry.requests();
    let again = b.pull("me/app:1", Policy::IfNotPresent).await.unwrap();
    assert_eq!((again.present, again.took), (true, Duration::ZERO));
    assert_eq!(b.registry.requests(), asked, "what is known is not asked for");

    let by_digest = b.pull(&format!("me/app@{manifest}"), Policy::Always).await.unwrap();
    assert_eq!((by_digest.digest, by_digest.present), (first.digest, true));
    assert_eq!(b.registry.blob_requests(), 1, "content that is here is not fetched again");
}

#[tokio::test]
async fn always_sees_a_tag_move() {
    let b = Bench::new(Config::default()).await;
    b.publish("app", "latest", &module("old"));
    let old = b.pull("app", Policy::Always).await.unwrap();
    assert!(b.pull("app", Policy::Always).await.unwrap().present);
    b.publish("app", "latest", &module("new"));
    assert_eq!(b.pull("app", Policy::IfNotPresent).await.unwrap().digest, old.digest);
    let new = b.pull("app", Policy::Always).await.unwrap();
    assert_eq!((new.digest, new.present), (digest(&module("new")), false));
    // An unreachable registry fails Always, and does not disturb the others.
    b.registry.fail.store(true, Ordering::SeqCst);
    assert_eq!(b.pull("app", Policy::Always).await.unwrap_err().reason, "RegistryUnavailable");
    assert!(b.pull("app", Policy::Never).await.unwrap().present);
}

#[tokio::test]
async fn a_wrong_digest_is_an_error_and_leaves_nothing() {
    let b = Bench::new(Config::default()).await;
    let wasm = module("honest");
    b.registry.manifest("app", "1", &artifact(&wasm));
    b.registry.put(&format!("/v2/app/blobs/{}", digest(&wasm)), &module("forged"));
    let e = b.pull("app:1", Policy::IfNotPresent).await.unwrap_err();
    assert!(e.reason == "ErrImagePull" && e.message.contains("igest"), "{e:?}");
    assert_eq!(files(b.dir.path()), Vec::<String>::new());
    assert!(b.store.images().unwrap().is_empty());
    // The same for the manifest itself.
    let other = digest(b"other");
    b.registry.put(&format!("/v2/app/manifests/{other}"), &artifact(&wasm));
    let e = b.pull(&format!("app@{other}"), Policy::IfNotPresent).await.unwrap_err();
    assert!(e.reason == "ErrImagePull" && e.message.contains("igest"), "{e:?}");
}

#[tokio::test]
async fn errors_in_the_registrys_words() {
    let b = Bench::new(Config::default()).await;
    let e = b.pull("none:1", Policy::Always).await.unwrap_err();
    assert_eq!(e.reason, "ErrImagePull");
    assert_eq!(
        e.message,
        format!("failed to pull image \"{}\": manifest unknown (MANIFEST_UNKNOWN)", b.image("none:1"))
    );
    let e = b.pull("none:1", Policy::Never).await.unwrap_err();
    assert_eq!(e.reason, "ErrImageNeverPull");
    assert_eq!(
        e.message,
        format!("Container image \"{}\" is not present with pull policy of Never", b.image("none:1"))
    );
    let e = pull(&b.store, "UPPER CASE", Policy::Always).await.unwrap_err();
    assert!(e.reason == "InvalidImageName" && e.message.contains("couldn't parse image name \"UPPER CASE\""), "{e:?}");
    // A port where nobody listens.
    let gone = TestRegistry::start().await.stop();
    let e = pull(&b.store, &format!("{gone}/app"), Policy::Always).await.unwrap_err();
    assert!(e.reason == "RegistryUnavailable" && e.message.contains("refused"), "{e:?}");
}

#[tokio::test]
async fn what_does_not_run_here_says_so() {
    let b = Bench::new(Config { max_layer: 1000, ..Config::default() }).await;
    let oci = "application/vnd.oci.image.config.v1+json";
    let linux = json!({"os":"linux","architecture":"amd64"}).to_string();
    b.registry.blob("linux", linux.as_bytes());
    b.registry.manifest(
        "linux",
        "1",
        &manifest((oci, linux.as_bytes()), &[("application/vnd.oci.image.layer.v1.tar", b"x")]),
    );
    let e = b.pull("linux:1", Policy::Always).await.unwrap_err();
    assert!(e.message.contains("image is for linux/amd64; this node runs WebAssembly"), "{e:?}");

    let text = b"hello, I am no module".to_vec();
    b.publish("text", "1", &text);
    let e = b.pull("text:1", Policy::Always).await.unwrap_err();
    assert!(e.message.contains("not a WebAssembly module or component"), "{e:?}");

    let big = module(&"x".repeat(2000));
    b.publish("big", "1", &big);
    let e = b.pull("big:1", Policy::Always).await.unwrap_err();
    assert!(e.message.contains("larger than the limit of 1000 bytes"), "{e:?}");
    // A manifest that lies about the size is found out while downloading.
    let mut lie: Value = serde_json::from_slice(&artifact(&big)).unwrap();
    lie["layers"][0]["size"] = 5.into();
    b.registry.manifest("big", "2", lie.to_string().as_bytes());
    let e = b.pull("big:2", Policy::Always).await.unwrap_err();
    assert!(e.message.contains("larger than the limit of 1000 bytes"), "{e:?}");
    assert_eq!(files(b.dir.path()), Vec::<String>::new());
}

#[tokio::test]
async fn a_module_inside_an_image() {
    let b = Bench::new(Config::default()).await;
    let (wasm, oci) = (module("in a tar"), "application/vnd.oci.image.config.v1+json");
    let config = json!({"os":"wasip1","architecture":"wasm","rootfs":{}}).to_string();
    b.registry.blob("img", config.as_bytes());
    for (tag, gzip, extra) in
        [("plain", false, vec![]), ("gz", true, vec![]), ("two", true, vec![("b.wasm", b"\0asm".as_slice())])]
    {
        let mut all: Vec<(&str, &[u8])> = vec![("etc/readme", b"hi"), ("app.wasm", &wasm)];
        all.extend(extra);
        let layer = tarball(&all, gzip);
        b.registry.blob("img", &layer);
        b.registry.manifest(
            "img",
            tag,
            &manifest((oci, config.as_bytes()), &[("application/vnd.oci.image.layer.v1.tar", &layer)]),
        );
    }
    for tag in ["plain", "gz"] {
        assert_eq!(b.pull(&format!("img:{tag}"), Policy::Always).await.unwrap().digest, digest(&wasm), "{tag}");
    }
    let e = b.pull("img:two", Policy::Always).await.unwrap_err();
    assert!(e.message.contains("the image holds more than one .wasm file"), "{e:?}");
    // By way of an index that has Linux images too.
    let inner = b.registry.manifest("img", "x", &artifact(&wasm));
    let index = json!({"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[
        {"mediaType":"m","digest":digest(b"l"),"size":1,"platform":{"os":"linux","architecture":"arm64"}},
        {"mediaType":"m","digest":inner,"size":1,"platform":{"os":"wasi","architecture":"wasm"}}]});
    b.registry.manifest("img", "multi", index.to_string().as_bytes());
    assert_eq!(b.pull("img:multi", Policy::Always).await.unwrap().digest, digest(&wasm));
}

#[tokio::test]
async fn a_restart_keeps_what_is_complete() {
    let b = Bench::new(Config::default()).await;
    let wasm = module("kept");
    b.publish("app", "1", &wasm);
    b.pull("app:1", Policy::Always).await.unwrap();
    std::fs::write(b.dir.path().join("tmp/7"), b"half a download").unwrap();
    b.registry.fail.store(true, Ordering::SeqCst);

    let store = Store::open(b.dir.path(), Config::default()).unwrap();
    let pulled = pull(&store, &b.image("app:1"), Policy::IfNotPresent).await.unwrap();
    assert_eq!((pulled.digest.clone(), pulled.present), (digest(&wasm), true));
    let images = store.images().unwrap();
    assert_eq!((images.len(), &images[0].digest, images[0].size), (1, &digest(&wasm), wasm.len() as u64));
    assert_eq!(images[0].names[1], b.image("app:1"));
    assert!(images[0].names[0].starts_with(&b.image("app@sha256:")), "{images:?}");
    assert_eq!(files(b.dir.path()).len(), 1);

    // A damaged file is found when it is read, and then fetched anew.
    std::fs::write(store.path(&pulled.digest).unwrap(), b"damaged").unwrap();
    assert_eq!(store.read(&pulled.digest).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert_eq!(pull(&store, &b.image("app:1"), Policy::Never).await.unwrap_err().reason, "ErrImageNeverPull");
    b.registry.fail.store(false, Ordering::SeqCst);
    assert!(!pull(&store, &b.image("app:1"), Policy::IfNotPresent).await.unwrap().present);
    assert_eq!(store.read(&pulled.digest).await.unwrap(), wasm);

    // So is a damaged index: the content is still here.
    std::fs::write(b.dir.path().join("index.json"), b"{").unwrap();
    let store = Store::open(b.dir.path(), Config::default()).unwrap();
    assert!(pull(&store, &b.image("app:1"), Policy::IfNotPresent).await.unwrap().present);
}

#[tokio::test]
async fn many_who_want_one_image_share_one_pull() {
    let b = Bench::new(Config::default()).await;
    b.publish("app", "1", &module("shared"));
    let gate = b.registry.hold();
    let pulls: Vec<_> = (0..8)
        .map(|_| {
            let (store, image) = (b.store.clone(), b.image("app:1"));
            tokio::spawn(async move { pull(&store, &image, Policy::IfNotPresent).await })
        })
        .collect();
    b.registry.arrived().await;
    gate.add_permits(1000);
    let mut seen = Vec::new();
    for p in pulls {
        seen.push(p.await.unwrap().unwrap().digest);
    }
    assert!(seen.iter().all(|d| *d == digest(&module("shared"))));
    assert_eq!(b.registry.blob_requests(), 1);
}

#[tokio::test]
async fn a_pull_has_a_deadline() {
    let b = Bench::new(Config { deadline: Duration::from_millis(50), ..Config::default() }).await;
    b.publish("app", "1", &module("slow"));
    let _gate = b.registry.hold();
    let e = b.pull("app:1", Policy::Always).await.unwrap_err();
    assert!(e.reason == "RegistryUnavailable" && e.message.contains("the pull took longer"), "{e:?}");
}

#[tokio::test]
async fn files_where_they_are_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("app.wasm");
    std::fs::write(&file, module("a")).unwrap();
    let image = format!("file://{}", file.display());
    let strict = Store::open(dir.path().join("s"), Config::default()).unwrap();
    let e = pull(&strict, &image, Policy::IfNotPresent).await.unwrap_err();
    assert!(e.reason == "InvalidImageName" && e.message.contains("file://"), "{e:?}");

    let store =
        Store::open(dir.path().join("f"), Config { allow_file: true, max_layer: 100, ..Config::default() }).unwrap();
    let first = pull(&store, &image, Policy::IfNotPresent).await.unwrap();
    assert_eq!((first.digest.clone(), first.present), (digest(&module("a")), false));
    assert!(pull(&store, &image, Policy::IfNotPresent).await.unwrap().present);
    // As long as it has not changed nothing is copied: there is nowhere to copy it to.
    std::fs::remove_dir(dir.path().join("f/tmp")).unwrap();
    for policy in [Policy::IfNotPresent, Policy::Always] {
        let again = pull(&store, &image, policy).await.unwrap();
        assert_eq!((again.digest, again.size, again.present), (first.digest.clone(), first.size, true));
    }
    std::fs::create_dir(dir.path().join("f/tmp")).unwrap();
    // Another content of the same length.
    std::fs::write(&file, module("b")).unwrap();
    let second = pull(&store, &image, Policy::IfNotPresent).await.unwrap();
    assert_eq!((second.digest, second.present), (digest(&module("b")), false));
    assert!(store.contains(&first.digest), "what runs from the old content still finds it");

    for (content, why) in
        [(b"#!/bin/sh".to_vec(), "not a WebAssembly module"), (module(&"x".repeat(200)), "larger than the limit")]
    {
        std::fs::write(&file, content).unwrap();
        let e = pull(&store, &image, Policy::Always).await.unwrap_err();
        assert!(e.reason == "ErrImagePull" && e.message.contains(why), "{e:?}");
    }
    std::fs::remove_file(&file).unwrap();
    let known = pull(&store, &image, Policy::IfNotPresent).await.unwrap();
    assert_eq!(
        (known.digest, known.present),
        (digest(&module("b")), true),
        "what the index knows runs without its file"
    );
    let e = pull(&store, &image, Policy::Always).await.unwrap_err();
    assert!(e.message.contains("No such file"), "{e:?}");
}

#[test]
fn only_digests_become_paths() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Config::default()).unwrap();
    for bad in ["", "sha256:", "sha256:../../etc/passwd", "sha512:00", &format!("sha256:{}", "G".repeat(64))] {
        assert!(store.path(bad).is_err(), "{bad}");
    }
    assert!(store.path(&digest(b"x")).is_ok());
}

/// A real registry: what one pushes to it by the protocol, we pull.
#[tokio::test]
async fn debians_registry() {
    let Some(registry) = registry::Debian::start().await else {
        assert!(std::env::var_os("CI").is_none(), "CI must have docker-registry");
        println!("skipped: needs docker-registry");
        return;
    };
    let wasm = module("pushed");
    let digest = registry.push("team/app", "v1", &wasm).await;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Config::default()).unwrap();
    let pulled = pull(&store, &format!("{}/team/app:v1", registry.host), Policy::Always).await.unwrap();
    assert_eq!(pulled.digest, super::tests::digest(&wasm));
    assert_eq!(store.read(&pulled.digest).await.unwrap(), wasm);
    let by_digest = pull(&store, &format!("{}/team/app@{digest}", registry.host), Policy::Always).await.unwrap();
    assert!(by_digest.present);
    let e = pull(&store, &format!("{}/team/app:v2", registry.host), Policy::Always).await.unwrap_err();
    assert!(e.message.contains("manifest unknown"), "{e:?}");
}

#[tokio::test]
async fn a_pull_shows_how_far_it_is() {
    let b = Bench::new(Config::default()).await;
    let (wasm, name) = (module("a long one"), b.image("app"));
    let total = wasm.len() as u64;
    b.publish("app", "latest", &wasm);
    let (gate, meter) = (b.registry.hold(), Meter::default());
    b.registry.cut(Some(10), true);
    let (store, shown) = (b.store.clone(), meter.clone());
    let pulled = tokio::spawn(async move {
        let request = Request { image: name, policy: Policy::IfNotPresent, credentials: Vec::new() };
        store.pull(&request, NOW, || {}, &shown).await
    });
    b.registry.arrived().await;
    assert_eq!(meter.read(), None, "nothing is known of it");
    gate.add_permits(1);
    b.registry.arrived().await;
    assert_eq!(meter.read(), Some((0, total)));
    gate.add_permits(1);
    b.registry.arrived().await;
    assert_eq!(meter.read(), Some((10, total)), "the first part is here");
    // What cannot be continued begins anew.
    b.registry.cut(Some(5), false);
    gate.add_permits(1);
    b.registry.arrived().await;
    assert_eq!(meter.read(), Some((5, total)));
    b.registry.cut(None, true);
    gate.add_permits(1);
    pulled.await.unwrap().unwrap();
    assert_eq!(meter.read(), Some((total, total)));
}
