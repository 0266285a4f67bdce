//! Credentials: whose they are, what they open, and what they do not.

use super::registry::Door;
use super::*;

#[tokio::test]
async fn basic_and_bearer_with_the_right_password() {
    for door in [Door::Basic("me", "secret"), Door::Bearer("me", "secret")] {
        let b = Bench::new(Config::default()).await;
        b.publish("team/app", "1", &module("private"));
        b.registry.lock(door.clone());
        let e = b.pull("team/app:1", Policy::Always).await.unwrap_err();
        assert!(e.reason == "ErrImagePull" && e.message.contains("authentication required (UNAUTHORIZED)"), "{e:?}");
        let e = b.pull_as("team/app:1", Policy::Always, &[("me", "wrong")]).await.unwrap_err();
        assert!(e.reason == "ErrImagePull" && e.message.contains("UNAUTHORIZED"), "{e:?}");
        // Of several, the one that opens is found.
        let pulled = b.pull_as("team/app:1", Policy::Always, &[("me", "wrong"), ("me", "secret")]).await.unwrap();
        assert_eq!(pulled.digest, digest(&module("private")));
        let tokens = b.registry.count("/token");
        b.pull_as("team/app:1", Policy::Always, &[("me", "secret")]).await.unwrap();
        assert_eq!(b.registry.count("/token"), tokens, "a token is used as long as it lives");
        // It is no use to others.
        assert!(b.pull("team/app:1", Policy::Always).await.is_err());
    }
}

#[tokio::test]
async fn what_one_pod_may_pull_is_not_anothers() {
    let b = Bench::new(Config::default()).await;
    b.publish("app", "1", &module("private"));
    b.registry.lock(Door::Basic("me", "secret"));
    b.pull_as("app:1", Policy::IfNotPresent, &[("me", "secret")]).await.unwrap();
    let asked = b.registry.requests();
    assert!(b.pull_as("app:1", Policy::IfNotPresent, &[("me", "secret")]).await.unwrap().took.is_zero());
    assert_eq!(b.registry.requests(), asked, "the same credential needs nobody's leave");
    let e = b.pull("app:1", Policy::IfNotPresent).await.unwrap_err();
    assert!(e.message.contains("UNAUTHORIZED"), "{e:?}");
    let e = b.pull("app:1", Policy::Never).await.unwrap_err();
    assert!(e.reason == "ErrImageNeverPull" && e.message.contains("credentials"), "{e:?}");
    // That is remembered over a restart, without the password.
    let store = Store::open(b.dir.path(), Config::default()).unwrap();
    assert!(pull(&store, &b.image("app:1"), Policy::Never).await.is_err());
    assert!(!std::fs::read_to_string(b.dir.path().join("index.json")).unwrap().contains("secret"));
    // A credential that was not needed restricts nobody.
    let b = Bench::new(Config::default()).await;
    b.publish("open", "1", &module("public"));
    b.pull_as("open:1", Policy::IfNotPresent, &[("me", "secret")]).await.unwrap();
    assert!(b.pull("open:1", Policy::IfNotPresent).await.unwrap().took.is_zero());
}

#[tokio::test]
async fn mirrors_are_asked_first_and_do_not_get_the_pods_password() {
    let mirror = TestRegistry::start().await;
    let b = Bench::new(Config::default()).await;
    let text = format!("mirrors: {{'{}': {{endpoint: ['http://{}']}}}}", b.registry.host, mirror.host);
    let config = Config { registries: Registries::parse(&text).unwrap(), ..Config::default() };
    let store = Store::open(b.dir.path().join("other"), config).unwrap();
    b.publish("app", "1", &module("one"));
    // The mirror has nothing: the registry itself is asked.
    assert_eq!(pull(&store, &b.image("app:1"), Policy::Always).await.unwrap().digest, digest(&module("one")));
    let asked = b.registry.requests();
    mirror.blob("app", &module("two"));
    mirror.manifest("app", "2", &artifact(&module("two")));
    assert_eq!(pull(&store, &b.image("app:2"), Policy::Always).await.unwrap().digest, digest(&module("two")));
    assert_eq!(b.registry.requests(), asked, "the mirror had it");
    mirror.lock(Door::Basic("me", "secret"));
    let credentials = vec![Credential { username: "me".into(), password: "secret".into() }];
    let wanted = Request { image: b.image("app:1"), policy: Policy::Always, credentials };
    store.pull(&wanted, NOW, || {}, &Meter::default()).await.unwrap();
    assert!(b.registry.requests() > asked, "the mirror was not told the password");
    // A mirror that is down is passed over.
    let gone = TestRegistry::start().await.stop();
    let text = format!("mirrors: {{'*': {{endpoint: ['http://{gone}']}}}}");
    let config = Config { registries: Registries::parse(&text).unwrap(), ..Config::default() };
    let store = Store::open(b.dir.path().join("third"), config).unwrap();
    assert!(pull(&store, &b.image("app:1"), Policy::Always).await.is_ok());
}

#[tokio::test]
async fn the_nodes_own_credential() {
    let b = Bench::new(Config::default()).await;
    b.publish("app", "1", &module("one"));
    b.registry.lock(Door::Bearer("node", "secret"));
    let text = format!("configs: {{'{}': {{auth: {{username: node, password: secret}}}}}}", b.registry.host);
    let config = Config { registries: Registries::parse(&text).unwrap(), ..Config::default() };
    let store = Store::open(b.dir.path().join("other"), config).unwrap();
    pull(&store, &b.image("app:1"), Policy::IfNotPresent).await.unwrap();
    assert!(pull(&store, &b.image("app:1"), Policy::Never).await.is_ok(), "any pod of the node may use it");
}
