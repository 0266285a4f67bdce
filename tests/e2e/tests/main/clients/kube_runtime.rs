//! kube-runtime, of which most operators in Rust are made, and the streams of the kube crate.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use e2e::DEADLINE;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, AttachParams, DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::finalizer::{Error, Event, finalizer};
use kube::runtime::reflector::{self, Store, reflector};
use kube::runtime::wait::{Condition, await_condition, conditions};
use kube::runtime::watcher::{self, watcher};
use kube::{Client, Resource as _, ResourceExt as _};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use super::kube_client;

const FINALIZER: &str = "e2e.copepod.dev/cleanup";

fn map(name: &str, labels: Value, data: Value) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}, "data": data})).unwrap()
}

/// Waits until an object is as it should be, or gone if it should be.
async fn becomes(what: &str, maps: &Api<ConfigMap>, name: &str, condition: impl Condition<ConfigMap>) {
    let found = tokio::time::timeout(DEADLINE, await_condition(maps.clone(), name, condition)).await;
    found.unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}")).unwrap();
}

/// Reads events until the store is as it should be.
async fn until<S>(what: &str, events: &mut S, store: &Store<ConfigMap>, holds: impl Fn(&[Arc<ConfigMap>]) -> bool)
where
    S: Stream<Item = Result<watcher::Event<ConfigMap>, watcher::Error>> + Unpin,
{
    let reading = async {
        while !holds(&store.state()) {
            events.try_next().await.unwrap().expect("a watcher goes on for ever");
        }
    };
    tokio::time::timeout(DEADLINE, reading).await.unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}"));
}

/// A store that follows ConfigMaps by a watcher of this kind.
async fn reflects(client: &Client, config: watcher::Config) {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let labels = json!({"reflected": "yes"});
    maps.create(&PostParams::default(), &map("first", labels.clone(), json!({"a": "1"}))).await.unwrap();
    let (store, writer) = reflector::store();
    let mut events = pin!(reflector(writer, watcher(maps.clone(), config.labels("reflected=yes"))));
    let names = |all: &[Arc<ConfigMap>]| {
        let mut names: Vec<String> = all.iter().map(|m| m.name_any()).collect();
        names.sort();
        names
    };
    until("what is there is listed", &mut events, &store, |all| names(all) == ["first"]).await;
    maps.create(&PostParams::default(), &map("second", labels, json!({}))).await.unwrap();
    until("what comes is added", &mut events, &store, |all| names(all) == ["first", "second"]).await;
    let patch = json!({"data": {"a": "2"}});
    maps.patch("first", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    let has_two = |m: &Arc<ConfigMap>| m.data.as_ref().is_some_and(|d| d.get("a").is_some_and(|a| a == "2"));
    until("what changes is changed", &mut events, &store, |all| all.iter().any(has_two)).await;
    let unlabelled = json!({"metadata": {"labels": null}});
    maps.patch("second", &PatchParams::default(), &Patch::Merge(&unlabelled)).await.unwrap();
    until("what is no longer selected goes", &mut events, &store, |all| names(all) == ["first"]).await;
    maps.delete("first", &DeleteParams::default()).await.unwrap();
    until("what is deleted goes", &mut events, &store, <[_]>::is_empty).await;
    maps.delete("second", &DeleteParams::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn reflectors_follow_by_lists_and_by_streams() {
    let (_dir, _cluster, client) = kube_client().await;
    reflects(&client, watcher::Config::default()).await;
    reflects(&client, watcher::Config::default().page_size(1)).await;
    reflects(&client, watcher::Config::default().streaming_lists()).await;
}

/// Gives each parent a child with its data, and says so when a parent goes.
async fn reconcile(parent: Arc<ConfigMap>, client: Arc<Client>) -> Result<Action, Error<kube::Error>> {
    let maps: &Api<ConfigMap> = &Api::default_namespaced((*client).clone());
    let apply = &PatchParams::apply("e2e").force();
    finalizer(maps, FINALIZER, parent, |event| async move {
        let (name, labels, owners, data) = match event {
            Event::Apply(parent) => {
                let owner = parent.controller_owner_ref(&());
                (format!("{}-child", parent.name_any()), json!({"role": "child"}), json!([owner]), json!(parent.data))
            }
            Event::Cleanup(parent) => (format!("{}-gone", parent.name_any()), json!({}), json!([]), json!({})),
        };
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "labels": labels, "ownerReferences": owners}, "data": data,
        });
        maps.patch(&name, apply, &Patch::Apply(&object)).await?;
        Ok::<_, kube::Error>(Action::await_change())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_keeps_up() {
    let (_dir, _cluster, client) = kube_client().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let of = |role: &str| watcher::Config::default().labels(&format!("role={role}"));
    let retry = |_: Arc<ConfigMap>, error: &Error<kube::Error>, _: Arc<Client>| {
        eprintln!("  controller: {error}");
        Action::requeue(Duration::from_millis(100))
    };
    let controller = Controller::new(maps.clone(), of("parent")).owns(maps.clone(), of("child").streaming_lists());
    let running = tokio::spawn(controller.run(reconcile, retry, Arc::new(client)).for_each(|done| async {
        if let Err(error) = done {
            eprintln!("  controller: {error}");
        }
    }));
    let has = |value: &'static str| {
        move |m: Option<&ConfigMap>| m.and_then(|m| m.data.as_ref()?.get("a")).is_some_and(|a| a == value)
    };
    maps.create(&PostParams::default(), &map("p", json!({"role": "parent"}), json!({"a": "1"}))).await.unwrap();
    becomes("the child is made", &maps, "p-child", has("1")).await;
    let child = maps.get("p-child").await.unwrap();
    assert_eq!(child.owner_references()[0].name, "p");
    assert!(maps.get("p").await.unwrap().finalizers().iter().any(|f| f == FINALIZER));
    let patch = json!({"data": {"a": "2"}});
    maps.patch("p", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    becomes("the child follows", &maps, "p-child", has("2")).await;
    // Somebody else's hand on what it owns is noticed.
    let other = json!({"data": {"a": "3"}});
    maps.patch("p-child", &PatchParams::default(), &Patch::Merge(&other)).await.unwrap();
    becomes("the child is put right", &maps, "p-child", has("2")).await;
    maps.delete("p-child", &DeleteParams::default()).await.unwrap();
    let uid = child.uid();
    let anew = move |m: Option<&ConfigMap>| m.is_some_and(|m| m.uid() != uid);
    becomes("the child is made again", &maps, "p-child", anew).await;
    maps.delete("p", &DeleteParams::default()).await.unwrap();
    becomes("the clean-up is done", &maps, "p-gone", |m: Option<&ConfigMap>| m.is_some()).await;
    becomes("the parent is gone", &maps, "p", |m: Option<&ConfigMap>| m.is_none()).await;
    becomes("the child is collected", &maps, "p-child", |m: Option<&ConfigMap>| m.is_none()).await;
    running.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_are_patched_and_commands_run() {
    let (_dir, _cluster, client) = kube_client().await;
    let pods: Api<Pod> = Api::default_namespaced(client);
    let pod = |name: &str, more: Value| -> Pod {
        let mut spec = json!({"containers": [
            {"name": "c", "image": "file://examples/preview1/preview1.wasm", "args": ["loop"]}]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap()
    };
    // Nobody else writes the status of a pod that nobody schedules.
    pods.create(&PostParams::default(), &pod("waits", json!({"schedulerName": "nobody"}))).await.unwrap();
    let patch = json!({"status": {"message": "from outside"}, "metadata": {"labels": {"not": "taken"}}});
    let patched = pods.patch_status("waits", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    assert_eq!(patched.status.as_ref().and_then(|s| s.message.as_deref()), Some("from outside"));
    assert!(patched.labels().is_empty());

    pods.create(&PostParams::default(), &pod("p", json!({}))).await.unwrap();
    let runs = await_condition(pods.clone(), "p", conditions::is_pod_running());
    tokio::time::timeout(DEADLINE, runs).await.expect("the pod runs").unwrap();
    for (command, out, code) in
        [(&["echo", "two words"][..], "two words\n", None), (&["preview1", "exit", "42"], "", Some("42"))]
    {
        let mut process = pods.exec("p", command.to_vec(), &AttachParams::default()).await.unwrap();
        let ended = process.take_status().unwrap();
        let mut said = String::new();
        process.stdout().unwrap().read_to_string(&mut said).await.unwrap();
        let status = tokio::time::timeout(DEADLINE, ended).await.expect("it ends").expect("a status");
        assert_eq!(status.status.as_deref(), Some(if code.is_none() { "Success" } else { "Failure" }), "{status:?}");
        let causes = status.details.and_then(|d| d.causes).unwrap_or_default();
        assert_eq!(causes.first().and_then(|c| c.message.as_deref()), code);
        if code.is_none() {
            assert_eq!(said, out);
        }
    }
}
