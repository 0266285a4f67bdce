//! What a new cluster starts with: its namespaces, and Kubernetes' default roles and bindings.

use copepod_model::Key;
use copepod_model::certificate::signer;
use copepod_model::kinds::certificates::certificate_signing_request as csr;
use serde_json::{Value, json};

use super::rules::Rule;
use super::{BINDINGS, CLUSTER_BINDINGS, CLUSTER_ROLES, GROUP, ROLES, components, node};

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];

/// Rules on resources of one group: verbs, group, resources.
type Grant = (&'static [&'static str], &'static str, &'static [&'static str]);

/// What `view` may read: everything in a namespace but Secrets and RBAC.
const VIEW: &[Grant] = &[
    (
        READ,
        "",
        &[
            "bindings",
            "configmaps",
            "endpoints",
            "events",
            "limitranges",
            "namespaces",
            "namespaces/status",
            "persistentvolumeclaims",
            "persistentvolumeclaims/status",
            "pods",
            "pods/log",
            "pods/status",
            "replicationcontrollers",
            "replicationcontrollers/scale",
            "replicationcontrollers/status",
            "resourcequotas",
            "resourcequotas/status",
            "serviceaccounts",
            "services",
            "services/status",
        ],
    ),
    (READ, "discovery.k8s.io", &["endpointslices"]),
    (
        READ,
        "apps",
        &[
            "controllerrevisions",
            "daemonsets",
            "daemonsets/status",
            "deployments",
            "deployments/scale",
            "deployments/status",
            "replicasets",
            "replicasets/scale",
            "replicasets/status",
            "statefulsets",
            "statefulsets/scale",
            "statefulsets/status",
        ],
    ),
    (READ, "autoscaling", &["horizontalpodautoscalers", "horizontalpodautoscalers/status"]),
    (READ, "batch", &["cronjobs", "cronjobs/status", "jobs", "jobs/status"]),
    (READ, "policy", &["poddisruptionbudgets", "poddisruptionbudgets/status"]),
    (READ, "networking.k8s.io", &["ingresses", "ingresses/status", "networkpolicies"]),
    // The cluster's own image registry.
    (&["get", "list"], "copepod.dev", &["images"]),
];

/// What `edit` may do besides.
const EDIT: &[Grant] = &[
    (READ, "", &["pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "secrets", "services/proxy"]),
    (&["impersonate"], "", &["serviceaccounts"]),
    (WRITE, "", &["pods", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy"]),
    (&["create"], "", &["pods/eviction", "serviceaccounts/token"]),
    (
        WRITE,
        "",
        &[
            "configmaps",
            "events",
            "persistentvolumeclaims",
            "replicationcontrollers",
            "replicationcontrollers/scale",
            "secrets",
            "serviceaccounts",
            "services",
            "services/proxy",
        ],
    ),
    (
        WRITE,
        "apps",
        &[
            "daemonsets",
            "deployments",
            "deployments/rollback",
            "deployments/scale",
            "replicasets",
            "replicasets/scale",
            "statefulsets",
            "statefulsets/scale",
        ],
    ),
    (WRITE, "autoscaling", &["horizontalpodautoscalers"]),
    (WRITE, "batch", &["cronjobs", "jobs"]),
    (WRITE, "policy", &["poddisruptionbudgets"]),
    (WRITE, "networking.k8s.io", &["ingresses", "networkpolicies"]),
    (&["update", "delete"], "copepod.dev", &["images"]),
    (
        &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        "coordination.k8s.io",
        &["leases"],
    ),
];

/// What `admin` may do besides.
const ADMIN: &[Grant] = &[
    (&["create"], "authorization.k8s.io", &["localsubjectaccessreviews"]),
    (
        &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        GROUP,
        &["rolebindings", "roles"],
    ),
];

/// Full access to the nodes' own API.
const KUBELET_API: &[Grant] = &[
    (READ, "", &["nodes"]),
    (&["proxy"], "", &["nodes"]),
    (
        &["*"],
        "",
        &["nodes/configz", "nodes/healthz", "nodes/log", "nodes/metrics", "nodes/pods", "nodes/proxy", "nodes/stats"],
    ),
];
/// As whom the API server asks nodes.
pub const KUBELET_CLIENT: &str = "kube-apiserver-kubelet-client";

/// What a scheduler does about volumes, and what a provisioner does.
const VOLUME_SCHEDULER: &[Grant] = &[
    (&["get", "list", "patch", "update", "watch"], "", &["persistentvolumes"]),
    (READ, "storage.k8s.io", &["storageclasses"]),
    (&["get", "list", "patch", "update", "watch"], "", &["persistentvolumeclaims"]),
];
const PROVISIONER: &[Grant] = &[
    (&["create", "delete", "get", "list", "watch"], "", &["persistentvolumes"]),
    (&["get", "list", "update", "watch"], "", &["persistentvolumeclaims"]),
    (READ, "storage.k8s.io", &["storageclasses"]),
    (&["watch"], "", &["events"]),
    (&["create", "patch", "update"], "", &["events"]),
];

/// For whose requests the controller `csr-approving` says yes: of who may ask for any node's certificate, and of nodes that ask for
/// their own.
const NODE_CLIENT: &[Grant] = &[(&["create"], csr::GROUP, &["certificatesigningrequests/nodeclient"])];
const SELF_NODE_CLIENT: &[Grant] = &[(&["create"], csr::GROUP, &["certificatesigningrequests/selfnodeclient"])];
/// Roles for approvers of one signer's requests each.
const APPROVERS: [(&str, &str); 4] = [
    ("legacy-unknown-approver", signer::LEGACY),
    ("kubelet-serving-approver", signer::KUBELET_SERVING),
    ("kube-apiserver-client-approver", signer::API_CLIENT),
    ("kube-apiserver-client-kubelet-approver", signer::KUBELET_CLIENT),
];

/// The paths that tell what the server is.
const DISCOVERY: &[&str] = &[
    "/api",
    "/api/*",
    "/apis",
    "/apis/*",
    "/healthz",
    "/livez",
    "/openapi",
    "/openapi/*",
    "/readyz",
    "/version",
    "/version/",
];
const PUBLIC: &[&str] = &["/healthz", "/livez", "/readyz", "/version", "/version/"];

/// The objects to create at first start, parents first. They lack what every create adds (uid, timestamps): the server
/// creates them through [`crate::Registry::decide`] like anything else, and leaves alone what exists.
pub fn bootstrap_objects() -> Vec<(Key, Value)> {
    let mut out: Vec<(Key, Value)> = ["default", "kube-system", "kube-public", "kube-node-lease"]
        .into_iter()
        .map(|name| {
            let object = json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": { "name": name, "labels": { "kubernetes.io/metadata.name": name } },
                "spec": { "finalizers": ["kubernetes"] }, "status": { "phase": "Active" },
            });
            (Key::new("namespaces", "", name), object)
        })
        .collect();
    let paths = |verbs: &[&str], urls: &[&str]| vec![json!({ "verbs": verbs, "nonResourceURLs": urls })];
    let everything = vec![Rule::everything().to_json(), Rule::every_path().to_json()];
    let basic = [
        grants(&[(&["create"], "authorization.k8s.io", &["selfsubjectaccessreviews", "selfsubjectrulesreviews"])]),
        grants(&[(&["create"], "authentication.k8s.io", &["selfsubjectreviews"])]),
    ]
    .concat();
    let reviews: &[Grant] = &[
        (&["create"], "authentication.k8s.io", &["tokenreviews"]),
        (&["create"], "authorization.k8s.io", &["subjectaccessreviews"]),
    ];
    let monitoring =
        ["/healthz", "/healthz/*", "/livez", "/livez/*", "/metrics", "/metrics/slis", "/readyz", "/readyz/*"];
    out.extend([
        role("cluster-admin", everything),
        role("system:discovery", paths(&["get"], DISCOVERY)),
        role("system:public-info-viewer", paths(&["get"], PUBLIC)),
        role("system:monitoring", paths(&["get"], &monitoring)),
        role("system:basic-user", basic),
        role("system:auth-delegator", grants(reviews)),
        role("system:kubelet-api-admin", grants(KUBELET_API)),
        role("system:persistent-volume-provisioner", grants(PROVISIONER)),
        role("system:volume-scheduler", grants(VOLUME_SCHEDULER)),
        role(
            "system:service-account-issuer-discovery",
            paths(
                &["get"],
                &[
                    "/.well-known/openid-configuration",
                    "/.well-known/openid-configuration/",
                    "/openid/v1/jwks",
                    "/openid/v1/jwks/",
                ],
            ),
        ),
        role("system:certificates.k8s.io:certificatesigningrequests:nodeclient", grants(NODE_CLIENT)),
        role("system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", grants(SELF_NODE_CLIENT)),
        role("system:node", node::RULES.iter().map(Rule::to_json).collect()),
        part("view", VIEW),
        part("edit", EDIT),
        part("admin", ADMIN),
        metrics_reader(),
        aggregate("view", &["edit"], grants(VIEW)),
        aggregate("edit", &["admin"], [grants(EDIT), grants(VIEW)].concat()),
        aggregate("admin", &[], [grants(ADMIN), grants(EDIT), grants(VIEW)].concat()),
        binding("cluster-admin", "cluster-admin", &["system:masters"]),
        binding("system:discovery", "system:discovery", &["system:authenticated"]),
        binding("system:basic-user", "system:basic-user", &["system:authenticated"]),
        binding(
            "system:public-info-viewer",
            "system:public-info-viewer",
            &["system:authenticated", "system:unauthenticated"],
        ),
        binding("system:monitoring", "system:monitoring", &["system:monitoring"]),
        binding(
            "system:service-account-issuer-discovery",
            "system:service-account-issuer-discovery",
            &["system:serviceaccounts"],
        ),
        kubelet_client(),
        // For people to see: agents have their rights from the node authorizer.
        binding("system:node", "system:node", &[]),
    ]);
    out.extend(APPROVERS.map(|(name, signer)| {
        role(&format!("system:certificates.k8s.io:{name}"), vec![of_signers("approve", &[signer])])
    }));
    out.extend(of_components());
    out.extend(crate::system_objects::all());
    out
}

/// The roles of Kubernetes' components, each with its binding.
fn of_components() -> Vec<(Key, Value)> {
    let mut out = Vec::new();
    let bound = |name: &str, subjects: &[components::Subject]| {
        let (key, mut object) = binding(name, name, &[]);
        object["subjects"] = components::subjects(subjects);
        (key, object)
    };
    for (name, subjects, lines) in components::COMPONENTS {
        out.push(role(name, components::rules(lines)));
        if !subjects.is_empty() {
            out.push(bound(name, subjects));
        }
    }
    let (name, subjects) = components::VOLUME_SCHEDULER;
    out.push(bound(name, subjects));
    for (account, lines) in components::CONTROLLERS {
        let name = format!("system:controller:{account}");
        out.push(role(&name, components::rules(lines)));
        out.push(bound(&name, &[components::Subject::Account(account)]));
    }
    for (namespace, name, lines, binding_name, subjects) in components::LOCAL {
        let within = |resource: &str, kind: &str, name: &str, mut object: Value| {
            object["kind"] = kind.into();
            object["metadata"]["namespace"] = (*namespace).into();
            (Key::new(resource, *namespace, name), object)
        };
        let (_, object) = role(name, components::rules(lines));
        out.push(within(ROLES, "Role", name, object));
        let binding_name = if binding_name.is_empty() { name } else { binding_name };
        let (_, mut object) = binding(binding_name, name, &[]);
        object["roleRef"]["kind"] = "Role".into();
        object["subjects"] = components::subjects(subjects);
        out.push(within(BINDINGS, "RoleBinding", binding_name, object));
    }
    out
}

fn grants(all: &[Grant]) -> Vec<Value> {
    all.iter()
        .map(|(verbs, group, resources)| json!({ "verbs": verbs, "apiGroups": [group], "resources": resources }))
        .collect()
}

fn metadata(name: &str) -> Value {
    json!({
        "name": name,
        "labels": { "kubernetes.io/bootstrapping": "rbac-defaults" },
        "annotations": { "rbac.authorization.kubernetes.io/autoupdate": "true" },
    })
}

fn role(name: &str, rules: Vec<Value>) -> (Key, Value) {
    let object = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": metadata(name), "rules": rules,
    });
    (Key::new(CLUSTER_ROLES, "", name), object)
}

/// A verb on some signers' requests.
fn of_signers(verb: &str, signers: &[&str]) -> Value {
    json!({ "verbs": [verb], "apiGroups": [csr::GROUP], "resources": ["signers"], "resourceNames": signers })
}

fn label(of: &str) -> String {
    format!("{GROUP}/aggregate-to-{of}")
}

/// `system:aggregate-to-…`: what one of the roles for people adds to those below it.
fn part(of: &str, rules: &[Grant]) -> (Key, Value) {
    let (key, mut object) = role(&format!("system:aggregate-to-{of}"), grants(rules));
    object["metadata"]["labels"][label(of)] = "true".into();
    (key, object)
}

/// What metrics-server brings along: who may view may see what is used.
fn metrics_reader() -> (Key, Value) {
    let (key, mut object) =
        role("system:aggregated-metrics-reader", grants(&[(READ, "metrics.k8s.io", &["nodes", "pods"])]));
    for of in ["view", "edit", "admin"] {
        object["metadata"]["labels"][label(of)] = "true".into();
    }
    (key, object)
}

/// A role for people, which takes in all roles with its label and is itself taken in by others.
fn aggregate(name: &str, part_of: &[&str], rules: Vec<Value>) -> (Key, Value) {
    let (key, mut object) = role(name, rules);
    for of in part_of {
        object["metadata"]["labels"][label(of)] = "true".into();
    }
    object["aggregationRule"] = json!({ "clusterRoleSelectors": [{ "matchLabels": { label(name): "true" } }] });
    (key, object)
}

/// The API server's own right to ask nodes.
fn kubelet_client() -> (Key, Value) {
    let (key, mut object) = binding("system:kubelet-api-admin", "system:kubelet-api-admin", &[]);
    object["subjects"] = json!([{ "apiGroup": GROUP, "kind": "User", "name": KUBELET_CLIENT }]);
    (key, object)
}

fn binding(name: &str, role: &str, groups: &[&str]) -> (Key, Value) {
    let mut object = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": metadata(name),
        "roleRef": { "apiGroup": GROUP, "kind": "ClusterRole", "name": role },
    });
    if !groups.is_empty() {
        let subject = |g: &&str| json!({ "apiGroup": GROUP, "kind": "Group", "name": g });
        object["subjects"] = groups.iter().map(subject).collect();
    }
    (Key::new(CLUSTER_BINDINGS, "", name), object)
}
