use super::*;
use crate::effect::{Mount, VolumeFile};
use crate::node::NodeFacts;
use crate::refs::{Lookup, Refs, ServiceRecord};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

/// ConfigMaps and Secrets by name; all others are missing, and `later` is not known yet.
#[derive(Default)]
struct Objects(BTreeMap<String, BTreeMap<String, Vec<u8>>>);

impl Objects {
    fn look(&self, name: &str) -> Lookup {
        match self.0.get(name) {
            Some(values) => Lookup::Found(values.clone().into()),
            None if name == "later" => Lookup::Unknown,
            None => Lookup::Missing,
        }
    }
    fn put(&mut self, name: &str, key: &str, value: &str) {
        self.0.entry(name.into()).or_default().insert(key.into(), value.into());
    }
}

impl Refs for Objects {
    fn config_map(&self, _: &str, name: &str, _: Time) -> Lookup {
        self.look(name)
    }
    fn secret(&self, _: &str, name: &str, _: Time) -> Lookup {
        self.look(name)
    }
    fn services(&self, _: &str) -> Vec<ServiceRecord> {
        Vec::new()
    }
}

struct Bench {
    pod: Pod,
    observed: Observed,
    objects: Objects,
    now: Time,
    out: PodPlan,
}

impl Bench {
    /// A pod whose one container mounts its one volume `v`.
    fn new(volume: Value) -> Bench {
        Bench::mounting(volume, json!({"name": "v", "mountPath": "/v"}))
    }

    fn mounting(volume: Value, mount: Value) -> Bench {
        let mut v = volume;
        v["name"] = "v".into();
        let container = json!({"name": "c", "volumeMounts": [mount], "env": [{"name": "A", "value": "a"}],
            "resources": {"limits": {"memory": "64Mi"}}});
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"b": "2", "a": "1"}, "annotations": {"x": "say \"hi\"\n"}},
            "spec": {"containers": [container], "volumes": [v]},
        }))
        .unwrap();
        let now = Time::from_secs(1000);
        let observed = Observed::adopt(&pod, "10.0.0.1".parse().unwrap(), now);
        let mut objects = Objects::default();
        objects.put("m", "k", "v1");
        objects.put("m", "l", "w");
        Bench { pod, observed, objects, now, out: PodPlan::default() }
    }

    fn plan(&mut self) -> bool {
        self.out = PodPlan::default();
        self.observed.events.clear();
        let node = NodeFacts::example();
        let ip = self.observed.ip;
        let source = Source { pod: &self.pod, ip, node: &node, refs: &self.objects, now: self.now };
        plan(&source, &mut self.observed, &mut self.out)
    }

    /// The files that the plan asks to be shown: `path=content mode`.
    fn files(&mut self) -> String {
        self.plan();
        let [Effect::MountVolume { content, .. }] = self.out.effects.as_slice() else {
            panic!("{:?} {:?}", self.out.effects, self.observed.events)
        };
        let (VolumeContent::ConfigMap(f)
        | VolumeContent::Secret(f)
        | VolumeContent::DownwardApi(f)
        | VolumeContent::Projected(f)) = content
        else {
            panic!("{content:?}")
        };
        let line = |(p, f): (&String, &VolumeFile)| format!("{p}={} {:o}", String::from_utf8_lossy(&f.data), f.mode);
        f.iter().map(line).collect::<Vec<_>>().join("; ")
    }

    fn mounted(&mut self, result: Result<&str, &str>) {
        let result = result.map(PathBuf::from).map_err(String::from);
        mounted(&mut self.observed, "v", &result, self.now);
    }

    /// The one event of the plan.
    fn event(&mut self) -> String {
        self.plan();
        let said = |e: &crate::PodEvent| format!("{}: {}", e.reason, e.message);
        self.observed.events.iter().map(said).collect::<Vec<_>>().join("\n")
    }

    fn resolve(&self) -> Result<Vec<Mount>, String> {
        let node = NodeFacts::example();
        let source = Source { pod: &self.pod, ip: self.observed.ip, node: &node, refs: &self.objects, now: self.now };
        let env = [("A".to_string(), "a".to_string())];
        resolve(&source, &self.pod.spec.as_ref().unwrap().containers[0], &env, &self.observed.volumes)
    }
}

#[test]
fn keys_become_files() {
    for (volume, files) in [
        (json!({"configMap": {"name": "m"}}), "k=v1 644; l=w 644"),
        (json!({"secret": {"secretName": "m", "defaultMode": 0o400}}), "k=v1 400; l=w 400"),
        (json!({"configMap": {"name": "m", "items": [{"key": "k", "path": "a/b", "mode": 0o600}]}}), "a/b=v1 600"),
        (
            json!({"configMap": {"name": "m", "optional": true, "items": [{"key": "x", "path": "x"}, {"key": "k", "path": "y"}]}}),
            "y=v1 644",
        ),
        (json!({"configMap": {"name": "none", "optional": true}}), ""),
        (json!({"secret": {"secretName": "none", "optional": true}}), ""),
    ] {
        assert_eq!(Bench::new(volume.clone()).files(), files, "{volume}");
    }
}

#[test]
fn the_pods_own_fields_become_files() {
    let items = json!([
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {"path": "annotations", "fieldRef": {"fieldPath": "metadata.annotations"}, "mode": 0o400},
        {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}},
        {"path": "memory", "resourceFieldRef": {"containerName": "c", "resource": "limits.memory", "divisor": "1Mi"}},
    ]);
    let mut b = Bench::new(json!({"downwardAPI": {"items": items}}));
    assert_eq!(
        b.files(),
        "annotations=x=\"say \\\"hi\\\"\\n\" 400; labels=a=\"1\"\nb=\"2\" 644; memory=64 644; name=p 644"
    );
    b.pod.metadata.labels.as_mut().unwrap().insert("a".into(), "3".into());
    assert!(b.files().contains("labels=a=\"3\"\n"), "labels are followed");
    let items = json!([{"path": "x", "resourceFieldRef": {"containerName": "z", "resource": "limits.cpu"}}]);
    let event = Bench::new(json!({"downwardAPI": {"items": items}})).event();
    assert_eq!(event, "FailedMount: MountVolume.SetUp failed for volume \"v\" : container z not found");
}

#[test]
fn what_is_missing_is_told_and_tried_again_ever_more_seldom() {
    for (volume, why) in [
        (json!({"configMap": {"name": "none"}}), "configmap \"none\" not found"),
        (json!({"secret": {"secretName": "none"}}), "secret \"none\" not found"),
        (
            json!({"configMap": {"name": "m", "items": [{"key": "x", "path": "x"}]}}),
            "configmap references non-existent config key: x",
        ),
        (
            json!({"secret": {"secretName": "m", "items": [{"key": "x", "path": "x"}]}}),
            "references non-existent secret key: x",
        ),
        (
            json!({"projected": {"sources": [{"configMap": {"name": "none"}}, {"secret": {"name": "no"}}]}}),
            "[configmap \"none\" not found, secret \"no\" not found]",
        ),
        (
            json!({"projected": {"sources": [{"clusterTrustBundle": {"path": "p"}}]}}),
            "projected sources of type clusterTrustBundle are not supported on this node",
        ),
    ] {
        let mut b = Bench::new(volume);
        assert_eq!(b.event(), format!("FailedMount: MountVolume.SetUp failed for volume \"v\" : {why}"));
        assert!(b.out.effects.is_empty());
        assert_eq!(b.out.wake_at, Some(b.now + Duration::from_millis(500)));
        assert_eq!(b.event(), "", "said once a try");
        b.now = b.now + Duration::from_millis(500);
        assert_ne!(b.event(), "");
        assert_eq!(b.out.wake_at, Some(b.now + Duration::from_secs(1)));
    }
    let mut b = Bench::new(json!({"configMap": {"name": "none"}}));
    b.plan();
    assert_eq!(b.out.follow.len(), 1, "its coming is not missed");
    b.objects.put("none", "k", "v");
    assert_eq!(b.files(), "k=v 644");
}

#[test]
fn unsupported_types_are_refused_by_name() {
    let event = Bench::new(json!({"persistentVolumeClaim": {"claimName": "x"}})).event();
    assert!(event.starts_with("FailedMount: Unable to attach or mount volumes: unmounted volumes=[v]"), "{event}");
    assert!(event.ends_with("volumes of type persistentVolumeClaim are not supported on this node"), "{event}");
    let mut unused = Bench::mounting(
        json!({"persistentVolumeClaim": {"claimName": "x"}}),
        json!({"name": "other", "mountPath": "/x"}),
    );
    unused.pod.spec.as_mut().unwrap().containers[0].volume_mounts = None;
    assert!(unused.plan(), "a volume that nobody mounts harms nobody");
}

#[test]
fn a_mounted_volume_follows_and_is_not_lost() {
    let mut b = Bench::new(json!({"configMap": {"name": "m"}}));
    assert!(!b.plan());
    assert_eq!(b.out.effects.len(), 1);
    assert!(!b.plan() && b.out.effects.is_empty(), "asked once");
    b.mounted(Ok("/host/v"));
    assert!(b.plan() && b.out.effects.is_empty());
    b.objects.put("m", "k", "v2");
    assert_eq!(b.files(), "k=v2 644; l=w 644");
    b.mounted(Ok("/host/v"));
    b.objects.0.clear();
    assert!(b.plan() && b.out.effects.is_empty(), "what is mounted stays when its source goes");
    assert_eq!(b.out.wake_at, None);
}

#[test]
fn a_set_up_that_fails_is_tried_again() {
    let mut b = Bench::new(json!({"hostPath": {"path": "/x", "type": "Directory"}}));
    b.plan();
    b.mounted(Err("hostPath type check failed: /x is not a directory"));
    assert_eq!(
        b.observed.events[0].message,
        "MountVolume.SetUp failed for volume \"v\" : hostPath type check failed: /x is not a directory"
    );
    assert!(!b.plan() && b.out.effects.is_empty());
    assert_eq!(b.out.wake_at, Some(b.now + Duration::from_millis(500)));
    b.now = b.now + Duration::from_millis(500);
    assert!(!b.plan());
    assert_eq!(b.out.effects.len(), 1);
    b.mounted(Ok("/x"));
    assert!(b.plan());
}

#[test]
fn tokens_are_asked_for_and_rotated_in_time() {
    let token = json!({"path": "token", "audience": "vault", "expirationSeconds": 600});
    let mut b = Bench::new(json!({"projected": {"sources": [{"serviceAccountToken": token}]}}));
    let key = TokenKey { audience: "vault".into(), seconds: 600 };
    assert!(!b.plan());
    assert_eq!((b.out.tokens.as_slice(), b.out.effects.len()), ([key.clone()].as_slice(), 0));
    b.plan();
    assert!(b.out.tokens.is_empty(), "asked once");
    b.observed.token(&key, Err("no".into()), b.now);
    assert_eq!(b.event(), "FailedMount: MountVolume.SetUp failed for volume \"v\" : failed to fetch token: no");
    b.now = b.now + Duration::from_millis(500);
    b.plan();
    assert_eq!(b.out.tokens.len(), 1);
    let issue = |b: &mut Bench, text: &str| {
        let token = Token { text: text.into(), issued: b.now, expires: b.now + Duration::from_secs(600) };
        b.observed.token(&key, Ok(token), b.now);
    };
    issue(&mut b, "one");
    assert_eq!(b.files(), "token=one 644");
    assert_eq!(b.out.wake_at, Some(b.now + Duration::from_secs(480)), "at 80 % of its life");
    b.mounted(Ok("/v"));
    b.now = b.now + Duration::from_secs(480);
    assert!(b.plan());
    assert_eq!((b.out.tokens.len(), b.out.effects.len()), (1, 0), "the old one is shown until the new one is there");
    issue(&mut b, "two");
    assert_eq!(b.files(), "token=two 644");
    assert!(!format!("{:?}{:?}", b.observed, b.out).contains("two"), "nothing secret is printed");
}

#[test]
fn mounts_are_resolved() {
    let resolved = |volume: Value, mount: Value| {
        let mut b = Bench::mounting(volume, mount);
        b.plan();
        b.mounted(Ok("/host/v"));
        b.resolve().map(|m| format!("{} {} {:?} {}", m[0].path, m[0].host.display(), m[0].sub_path, m[0].read_only))
    };
    let empty = || json!({"emptyDir": {}});
    for (volume, mount, want) in [
        (empty(), json!({"name": "v", "mountPath": "/a//b/./c/"}), "/a/b/c /host/v \"\" false"),
        (empty(), json!({"name": "v", "mountPath": "rel", "readOnly": true}), "/rel /host/v \"\" true"),
        (empty(), json!({"name": "v", "mountPath": "/", "subPath": "x/y"}), "/ /host/v \"x/y\" false"),
        (empty(), json!({"name": "v", "mountPath": "/a", "subPathExpr": "x-$(A)"}), "/a /host/v \"x-a\" false"),
        (json!({"configMap": {"name": "m"}}), json!({"name": "v", "mountPath": "/a"}), "/a /host/v \"\" true"),
    ] {
        assert_eq!(resolved(volume, mount).unwrap(), want);
    }
    for (expr, why) in [
        ("$(NOPE)", "missing value for \"NOPE\""),
        ("/$(A)", "error SubPath `/a` must not be an absolute path"),
        ("../$(A)", "unable to provision SubPath `../a`: must not contain '..'"),
    ] {
        let mount = json!({"name": "v", "mountPath": "/a", "subPathExpr": expr});
        assert_eq!(resolved(empty(), mount).unwrap_err(), why);
    }
}

#[test]
fn an_empty_dir_has_a_limit() {
    let b = Bench::new(json!({"emptyDir": {"sizeLimit": "1Mi", "medium": "Memory"}}));
    let spec = b.pod.spec.as_ref();
    assert_eq!(usage(spec, "v", 1 << 20), None);
    let text = usage(spec, "v", (1 << 20) + 1).unwrap();
    assert_eq!(text, "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". ");
    assert_eq!(usage(spec, "w", u64::MAX), None);
    assert_eq!(usage(Bench::new(json!({"emptyDir": {}})).pod.spec.as_ref(), "v", u64::MAX), None);
}
