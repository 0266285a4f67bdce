//! What breaks on the way, and how many ask at once.

use super::*;

#[tokio::test]
async fn a_broken_download_goes_on_where_it_broke() {
    for ranges in [true, false] {
        let b = Bench::new(Config::default()).await;
        let wasm = module(&"x".repeat(1000));
        b.publish("app", "1", &wasm);
        b.registry.cut(Some(600), ranges);
        let result = b.pull("app:1", Policy::Always).await;
        if ranges {
            assert_eq!(result.unwrap().digest, digest(&wasm));
            assert_eq!(b.registry.blob_requests(), 2);
        } else {
            // It breaks at the same place each time.
            let e = result.unwrap_err();
            assert!(e.reason == "RegistryUnavailable" && e.message.contains("broke off after 600 bytes"), "{e:?}");
            assert_eq!(files(b.dir.path()), Vec::<String>::new());
            b.registry.cut(None, false);
            assert_eq!(b.pull("app:1", Policy::Always).await.unwrap().digest, digest(&wasm));
        }
    }
}

#[tokio::test]
async fn a_short_blob_is_not_taken_for_the_whole() {
    let b = Bench::new(Config::default()).await;
    let wasm = module("whole");
    b.registry.manifest("app", "1", &artifact(&wasm));
    b.registry.put(&format!("/v2/app/blobs/{}", digest(&wasm)), &wasm[..9]);
    let e = b.pull("app:1", Policy::Always).await.unwrap_err();
    assert!(e.message.contains("ended early") || e.message.contains("mismatch"), "{e:?}");
    assert_eq!(files(b.dir.path()), Vec::<String>::new());
}

#[tokio::test]
async fn one_download_per_digest_whatever_the_names() {
    let b = Bench::new(Config { parallel: 2, ..Config::default() }).await;
    for name in ["a", "b", "c"] {
        b.publish(name, "1", &module("shared"));
    }
    let gate = b.registry.hold();
    let pulls: Vec<_> = ["a:1", "b:1", "c:1"]
        .map(|name| {
            let (store, image) = (b.store.clone(), b.image(name));
            tokio::spawn(async move { pull(&store, &image, Policy::IfNotPresent).await })
        })
        .into();
    b.registry.arrived().await;
    gate.add_permits(1000);
    for p in pulls {
        assert_eq!(p.await.unwrap().unwrap().digest, digest(&module("shared")));
    }
    assert_eq!(b.registry.blob_requests(), 1);
}

#[tokio::test]
async fn no_more_pulls_at_once_than_allowed() {
    let b = Bench::new(Config { parallel: 1, ..Config::default() }).await;
    b.publish("a", "1", &module("a"));
    b.publish("b", "1", &module("b"));
    let gate = b.registry.hold();
    let spawn = |name: &str| {
        let (store, image) = (b.store.clone(), b.image(name));
        tokio::spawn(async move { pull(&store, &image, Policy::IfNotPresent).await })
    };
    let first = spawn("a:1");
    b.registry.arrived().await;
    let second = spawn("b:1");
    gate.add_permits(1); // the first one's manifest
    b.registry.arrived().await;
    assert_eq!((b.registry.count("/a/"), b.registry.count("/b/")), (2, 0), "the second one waits its turn");
    gate.add_permits(1000);
    first.await.unwrap().unwrap();
    let pulled = second.await.unwrap().unwrap();
    assert!(pulled.waited >= pulled.took);
}

#[tokio::test]
async fn as_many_pulls_at_once_as_allowed() {
    let b = Bench::new(Config { parallel: 2, ..Config::default() }).await;
    b.publish("a", "1", &module("a"));
    b.publish("b", "1", &module("b"));
    let gate = b.registry.hold();
    let pulls = ["a:1", "b:1"].map(|name| {
        let (store, image) = (b.store.clone(), b.image(name));
        tokio::spawn(async move { pull(&store, &image, Policy::IfNotPresent).await })
    });
    // Nobody has had an answer when both manifests are asked for.
    let both = async {
        while b.registry.count("/a/manifests/") == 0 || b.registry.count("/b/manifests/") == 0 {
            b.registry.arrived().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), both).await.expect("one waits for the other");
    gate.add_permits(1000);
    for (pulled, wasm) in pulls.into_iter().zip([module("a"), module("b")]) {
        assert_eq!(pulled.await.unwrap().unwrap().digest, digest(&wasm));
    }
}

#[tokio::test]
async fn only_what_is_asked_of_others_is_announced() {
    let b = Bench::new(Config::default()).await;
    b.publish("app", "1", &module("one"));
    let wanted = |policy| Request { image: b.image("app:1"), policy, credentials: Vec::new() };
    for (policy, announced) in [(Policy::IfNotPresent, true), (Policy::IfNotPresent, false), (Policy::Always, true)] {
        let mut said = false;
        b.store.pull(&wanted(policy), NOW, || said = true, &Meter::default()).await.unwrap();
        assert_eq!(said, announced, "{policy:?}");
    }
    let heads = b.registry.count("HEAD");
    assert_eq!((heads, b.registry.count("GET /v2/app/manifests")), (1, 1), "an unchanged tag costs a HEAD");
}

#[tokio::test]
async fn removal_spares_what_was_used_since() {
    let b = Bench::new(Config::default()).await;
    b.publish("app", "1", &module("one"));
    let pulled = b.pull("app:1", Policy::Always).await.unwrap();
    let seen = b.store.images().unwrap().remove(0);
    assert_eq!(seen.last_used, NOW);
    b.store.mark_used([pulled.digest.as_str()], NOW + Duration::from_secs(1));
    assert_eq!(b.store.remove(&pulled.digest, seen.last_used).unwrap(), 0);
    assert!(b.store.contains(&pulled.digest));
    let again = Store::open(b.dir.path(), Config::default()).unwrap().images().unwrap().remove(0);
    assert_eq!(again.last_used, NOW + Duration::from_secs(1), "the disk remembers");
    assert_eq!(b.store.remove(&pulled.digest, again.last_used).unwrap(), pulled.size);
    assert!(b.store.images().unwrap().is_empty());
    assert!(!std::fs::read_to_string(b.dir.path().join("index.json")).unwrap().contains("app"));
    let e = b.pull("app:1", Policy::Never).await.unwrap_err();
    assert_eq!(e.reason, "ErrImageNeverPull");
}
