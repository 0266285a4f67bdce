//! Each kind against a table: defaults, what passes, what fails where, and what is shown.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::Kinds;
use crate::Time;

mod autoscaling;
mod basics;
mod batch;
mod budgets;
mod certificates;
mod columns;
mod defaults;
mod drivers;
mod events;
mod networking;
mod pods;
mod registration;
mod rules;
mod services;
mod storage;
mod updates;
mod workloads;

/// The object with its kind's defaults; checks that applying them again changes nothing.
fn defaulted(resource: &str, mut object: Value) -> Value {
    let kinds = Kinds::builtin();
    let strategy = &kinds.group_resource(resource).unwrap_or_else(|| panic!("{resource}")).strategy;
    strategy.default(&mut object);
    let once = object.clone();
    strategy.default(&mut object);
    assert_eq!(object, once, "the defaults of {resource} are not idempotent");
    once
}

/// The errors of a new object, after defaulting.
fn errors(resource: &str, object: Value) -> Vec<String> {
    let object = defaulted(resource, object);
    let mut errors = Vec::new();
    Kinds::builtin().group_resource(resource).unwrap().strategy.validate(&object, &mut errors);
    errors.iter().map(ToString::to_string).collect()
}

/// The errors that only a change has, after defaulting and after restoring what may not be changed.
fn update_errors(resource: &str, old: Value, new: Value) -> Vec<String> {
    let (old, mut new) = (defaulted(resource, old), defaulted(resource, new));
    let kinds = Kinds::builtin();
    let strategy = &kinds.group_resource(resource).unwrap().strategy;
    strategy.prepare_update(&mut new, &old);
    let mut errors = Vec::new();
    strategy.validate_update(&new, &old, &mut errors);
    errors.iter().map(ToString::to_string).collect()
}

/// The cells of a row as text, at a fixed time.
fn row(resource: &str, object: Value) -> Vec<String> {
    let kinds = Kinds::builtin();
    let strategy = &kinds.group_resource(resource).unwrap().strategy;
    let cells = strategy.cells(&object, Time::parse("2026-01-01T01:00:00Z").unwrap());
    assert_eq!(cells.len(), strategy.columns().len(), "{resource}");
    cells.iter().map(|c| c.as_str().map_or_else(|| c.to_string(), Into::into)).collect()
}

/// A minimal object of each kind that has no errors.
fn samples() -> BTreeMap<&'static str, Value> {
    let template = json!({"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"a","image":"web:1"}]}});
    let replicated = json!({"spec":{"selector":{"matchLabels":{"app":"web"}},"template":template}});
    let mut once = template.clone();
    once["spec"]["restartPolicy"] = "Never".into();
    let rules = json!({"rules":[{"verbs":["get"],"apiGroups":[""],"resources":["pods"]}]});
    let rule = json!({"operations":["CREATE"],"apiGroups":[""],"apiVersions":["v1"],"resources":["pods"]});
    let webhooks = json!({"webhooks":[{"name":"a.b.c","clientConfig":{"service":{"namespace":"n","name":"s"}},
        "rules":[rule],"sideEffects":"None","admissionReviewVersions":["v1"]}]});
    let binding = json!({"roleRef":{"kind":"ClusterRole","name":"view"},"subjects":[{"kind":"User","name":"eve"}]});
    BTreeMap::from([
        ("bindings", json!({"target":{"name":"n"}})),
        ("componentstatuses", super::core::component_status::status("scheduler", Ok(()))),
        ("configmaps", json!({"data":{"a":"b"}})),
        ("endpoints", json!({"subsets":[{"addresses":[{"ip":"10.244.0.5"}],"ports":[{"port":80}]}]})),
        ("events", json!({"metadata":{"namespace":"d"},"involvedObject":{"namespace":"d"}})),
        ("limitranges", json!({"spec":{"limits":[{"type":"Container","max":{"cpu":"1"}}]}})),
        ("namespaces", json!({"metadata":{"name":"a"}})),
        ("nodes", json!({"metadata":{"name":"a"}})),
        (
            "persistentvolumes",
            json!({"spec":{"accessModes":["ReadWriteOnce"],"capacity":{"storage":"1Gi"},"hostPath":{"path":"/data"}}}),
        ),
        (
            "persistentvolumeclaims",
            json!({"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}}}),
        ),
        ("pods", json!({"spec":{"containers":[{"name":"a","image":"web:1"}]}})),
        ("podtemplates", json!({ "template": template })),
        ("resourcequotas", json!({"spec":{"hard":{"pods":"2"}}})),
        ("secrets", json!({"stringData":{"a":"b"}})),
        ("services", json!({"spec":{"ports":[{"port":80}]}})),
        ("serviceaccounts", json!({})),
        ("controllerrevisions.apps", json!({"data":{},"revision":1})),
        ("cronjobs.batch", json!({"spec":{"schedule":"@daily","jobTemplate":{"spec":{"template":once}}}})),
        ("daemonsets.apps", replicated.clone()),
        ("deployments.apps", replicated.clone()),
        (
            "horizontalpodautoscalers.autoscaling",
            json!({"spec":{"maxReplicas":3,"scaleTargetRef":{"kind":"Deployment","name":"web"}}}),
        ),
        (
            "jobs.batch",
            json!({"spec":{"manualSelector":true,"selector":{"matchLabels":{"app":"web"}},"template":once}}),
        ),
        (
            "certificatesigningrequests.certificates.k8s.io",
            json!({"spec":{"request":"","signerName":"a.b/c","usages":["any"]}}),
        ),
        ("poddisruptionbudgets.policy", json!({"spec":{"minAvailable":1}})),
        ("replicasets.apps", replicated.clone()),
        ("replicationcontrollers", json!({"spec":{"template":template}})),
        ("statefulsets.apps", replicated),
        ("leases.coordination.k8s.io", json!({"spec":{"leaseDurationSeconds":40}})),
        (
            "endpointslices.discovery.k8s.io",
            json!({"addressType":"IPv4","endpoints":[{"addresses":["10.244.0.5"]}],"ports":[{"port":80}]}),
        ),
        (
            "ingresses.networking.k8s.io",
            json!({"spec":{"rules":[{"host":"a.b","http":{"paths":[{"path":"/","pathType":"Prefix",
                "backend":{"service":{"name":"web","port":{"number":80}}}}]}}]}}),
        ),
        (
            "flowschemas.flowcontrol.apiserver.k8s.io",
            json!({"spec":{"priorityLevelConfiguration":{"name":"a"},"rules":[{"subjects":[{"kind":"User","user":{"name":"eve"}}],
                "nonResourceRules":[{"verbs":["get"],"nonResourceURLs":["/healthz"]}]}]}}),
        ),
        (
            "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io",
            json!({"spec":{"type":"Limited","limited":{"limitResponse":{"type":"Queue","queuing":{}}}}}),
        ),
        ("runtimeclasses.node.k8s.io", json!({"handler":"wasm"})),
        ("priorityclasses.scheduling.k8s.io", json!({"value":10})),
        (
            "ipaddresses.networking.k8s.io",
            json!({"spec":{"parentRef":{"resource":"services","namespace":"a","name":"b"}}}),
        ),
        ("servicecidrs.networking.k8s.io", json!({"spec":{"cidrs":["10.1.0.0/16"]}})),
        ("volumeattributesclasses.storage.k8s.io", json!({"driverName":"example.com/a","parameters":{"iops":"100"}})),
        (
            "apiservices.apiregistration.k8s.io",
            json!({"metadata":{"name":"v1.a.b"},"spec":{"group":"a.b","version":"v1","groupPriorityMinimum":10,
                "versionPriority":10,"service":{"namespace":"n","name":"s"}}}),
        ),
        ("mutatingwebhookconfigurations.admissionregistration.k8s.io", webhooks.clone()),
        ("validatingwebhookconfigurations.admissionregistration.k8s.io", webhooks),
        (
            "validatingadmissionpolicies.admissionregistration.k8s.io",
            json!({"metadata":{"name":"p"},"spec":{"matchConstraints":{"resourceRules":[rule]},
                "validations":[{"expression":"true"}]}}),
        ),
        (
            "validatingadmissionpolicybindings.admissionregistration.k8s.io",
            json!({"spec":{"policyName":"p","validationActions":["Deny"],"matchResources":{},
                "paramRef":{"name":"a","parameterNotFoundAction":"Deny"}}}),
        ),
        ("csidrivers.storage.k8s.io", json!({"metadata":{"name":"a"},"spec":{}})),
        ("csinodes.storage.k8s.io", json!({"spec":{"drivers":[{"name":"a","nodeID":"n"}]}})),
        ("csistoragecapacities.storage.k8s.io", json!({"storageClassName":"a","capacity":"1Gi"})),
        ("storageclasses.storage.k8s.io", json!({"provisioner":"example.com/a"})),
        (
            "volumeattachments.storage.k8s.io",
            json!({"spec":{"attacher":"a","nodeName":"n","source":{"persistentVolumeName":"v"}}}),
        ),
        ("ingressclasses.networking.k8s.io", json!({"spec":{"controller":"copepod.dev/ingress"}})),
        (
            "networkpolicies.networking.k8s.io",
            json!({"spec":{"podSelector":{},"policyTypes":["Ingress"],"ingress":[{"from":[{"podSelector":{}}]}]}}),
        ),
        (
            "gatewayclasses.gateway.networking.k8s.io",
            json!({"spec":{"controllerName":"copepod.dev/gateway-controller"}}),
        ),
        (
            "gateways.gateway.networking.k8s.io",
            json!({"spec":{"gatewayClassName":"copepod","listeners":[{"name":"http","port":80,"protocol":"HTTP"}]}}),
        ),
        ("grpcroutes.gateway.networking.k8s.io", json!({"spec":{"parentRefs":[{"name":"web"}]}})),
        ("httproutes.gateway.networking.k8s.io", json!({"spec":{"parentRefs":[{"name":"web"}]}})),
        (
            "referencegrants.gateway.networking.k8s.io",
            json!({"spec":{"from":[{"group":"gateway.networking.k8s.io","kind":"HTTPRoute","namespace":"a"}],
                "to":[{"group":"","kind":"Service"}]}}),
        ),
        (
            "tcproutes.gateway.networking.k8s.io",
            json!({"spec":{"parentRefs":[{"name":"web"}],"rules":[{"backendRefs":[{"name":"b","port":80}]}]}}),
        ),
        (
            "tlsroutes.gateway.networking.k8s.io",
            json!({"spec":{"parentRefs":[{"name":"web"}],"hostnames":["a.test"],"rules":[{"backendRefs":[{"name":"b","port":80}]}]}}),
        ),
        ("clusterroles.rbac.authorization.k8s.io", rules.clone()),
        ("roles.rbac.authorization.k8s.io", rules),
        ("clusterrolebindings.rbac.authorization.k8s.io", binding.clone()),
        ("rolebindings.rbac.authorization.k8s.io", binding),
    ])
}

#[test]
fn every_kind_has_a_sample_that_passes_and_a_row() {
    let samples = samples();
    for kind in Kinds::builtin().iter() {
        let resource = kind.group_resource();
        let object = samples.get(resource.as_str()).unwrap_or_else(|| panic!("no sample of {resource}"));
        assert_eq!(errors(&resource, object.clone()), Vec::<String>::new(), "{resource}");
        assert_eq!(update_errors(&resource, object.clone(), object.clone()), Vec::<String>::new(), "{resource}");
        row(&resource, object.clone());
        // What is not even an object must not do harm.
        let mut odd = json!({"spec":"x","status":3,"metadata":[],"subjects":{},"data":[],"ports":"p","rules":[1]});
        kind.strategy.default(&mut odd);
        kind.strategy.validate(&odd, &mut Vec::new());
        kind.strategy.validate_update(&odd, &odd, &mut Vec::new());
        kind.strategy.prepare_update(&mut odd, &object.clone());
        kind.strategy.prepare_create(&mut odd);
        row(&resource, odd);
    }
}

#[test]
fn names_are_unique() {
    let (mut plurals, mut names, mut kinds) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for kind in Kinds::builtin().iter() {
        assert!(plurals.insert(kind.group_resource()), "{}", kind.plural);
        assert!(kinds.insert((kind.group, kind.kind)), "{}", kind.kind);
        // Endpoints are called the same in singular and plural.
        let own: BTreeSet<&str> = [kind.plural, kind.singular].iter().chain(kind.short_names).copied().collect();
        for name in own {
            assert!(names.insert(name), "{name} names two kinds");
        }
        assert_eq!(kind.singular, kind.kind.to_lowercase());
    }
    assert_eq!(plurals.len(), 60);
}
