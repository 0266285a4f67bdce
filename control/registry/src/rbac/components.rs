//! The default roles of Kubernetes' own components, for those that are run beside this cluster's and for what is bound to them by
//! name: upstream's of 1.35 with its default feature gates (`plugin/pkg/auth/authorizer/rbac/bootstrappolicy`). Those for signing
//! certificates are not among them.

use serde_json::{Value, json};

/// Verbs, groups (`core` is the one without a name), resources, and the names to which it is confined; words with spaces between.
type Line = (&'static str, &'static str, &'static str, &'static str);

const READ: &str = "get list watch";
const FOLLOW: &str = "list watch";
const EVENTS: Line = ("create patch update", "core events.k8s.io", "events", "");

/// Of components that run as a user or service account of their own: the role, the subjects that have it, its lines.
type Component = (&'static str, &'static [Subject], &'static [Line]);

/// Whom a role is bound to.
pub(super) enum Subject {
    User(&'static str),
    /// A service account of `kube-system`.
    Account(&'static str),
}

const MANAGER: Subject = Subject::User("system:kube-controller-manager");
const SCHEDULER: Subject = Subject::User("system:kube-scheduler");

/// Cluster roles. `system:volume-scheduler` is elsewhere, as other things have it, too.
pub(super) const COMPONENTS: &[Component] = &[
    (
        "system:heapster",
        &[],
        &[(READ, "core", "events namespaces nodes pods", ""), (READ, "extensions", "deployments", "")],
    ),
    ("system:kube-aggregator", &[], &[(READ, "core", "endpoints services", "")]),
    (
        "system:kube-controller-manager",
        &[MANAGER],
        &[
            EVENTS,
            ("create", "coordination.k8s.io", "leases", ""),
            ("get update", "coordination.k8s.io", "leases", "kube-controller-manager"),
            ("create", "core", "secrets serviceaccounts", ""),
            ("delete", "core", "secrets", ""),
            ("get", "core", "configmaps namespaces secrets serviceaccounts", ""),
            ("update", "core", "secrets serviceaccounts", ""),
            ("create", "authentication.k8s.io", "tokenreviews", ""),
            ("create", "authorization.k8s.io", "subjectaccessreviews", ""),
            (FOLLOW, "*", "*", ""),
            ("create", "core", "serviceaccounts/token", ""),
        ],
    ),
    ("system:kube-dns", &[Subject::Account("kube-dns")], &[(FOLLOW, "core", "endpoints services", "")]),
    (
        "system:kube-scheduler",
        &[SCHEDULER],
        &[
            EVENTS,
            ("create", "coordination.k8s.io", "leases", ""),
            ("get update", "coordination.k8s.io", "leases", "kube-scheduler"),
            (READ, "core", "nodes", ""),
            ("delete get list watch", "core", "pods", ""),
            ("create", "core", "bindings pods/binding", ""),
            ("patch update", "core", "pods/status", ""),
            (READ, "core", "replicationcontrollers services", ""),
            (READ, "apps extensions", "replicasets", ""),
            (READ, "apps", "statefulsets", ""),
            (READ, "policy", "poddisruptionbudgets", ""),
            (READ, "core", "persistentvolumeclaims persistentvolumes", ""),
            ("create", "authentication.k8s.io", "tokenreviews", ""),
            ("create", "authorization.k8s.io", "subjectaccessreviews", ""),
            (READ, "storage.k8s.io", "csinodes", ""),
            (READ, "storage.k8s.io", "volumeattachments", ""),
            (READ, "core", "namespaces", ""),
            (READ, "storage.k8s.io", "csidrivers", ""),
            (READ, "storage.k8s.io", "csistoragecapacities", ""),
            (READ, "resource.k8s.io", "deviceclasses", ""),
            ("get list patch update watch", "resource.k8s.io", "resourceclaims", ""),
            ("get list patch update watch", "resource.k8s.io", "resourceclaims/status", ""),
            ("get list patch update watch", "core", "pods/finalizers", ""),
            (READ, "resource.k8s.io", "resourceslices", ""),
        ],
    ),
    (
        "system:node-bootstrapper",
        &[],
        &[("create get list watch", "certificates.k8s.io", "certificatesigningrequests", "")],
    ),
    (
        "system:node-problem-detector",
        &[],
        &[("get", "core", "nodes", ""), ("patch", "core", "nodes/status", ""), EVENTS],
    ),
    (
        "system:node-proxier",
        &[Subject::User("system:kube-proxy")],
        &[
            (FOLLOW, "core", "endpoints services", ""),
            (READ, "core", "nodes", ""),
            EVENTS,
            (FOLLOW, "networking.k8s.io", "servicecidrs", ""),
            (FOLLOW, "discovery.k8s.io", "endpointslices", ""),
        ],
    ),
];

/// `system:volume-scheduler` has who schedules.
pub(super) const VOLUME_SCHEDULER: (&str, &[Subject]) = ("system:volume-scheduler", &[SCHEDULER]);

/// Cluster roles `system:controller:NAME`, each bound to the service account NAME of `kube-system`.
pub(super) const CONTROLLERS: &[(&str, &[Line])] = &[
    (
        "attachdetach-controller",
        &[
            (FOLLOW, "core", "persistentvolumeclaims persistentvolumes", ""),
            (READ, "core", "nodes", ""),
            ("patch update", "core", "nodes/status", ""),
            (FOLLOW, "core", "pods", ""),
            EVENTS,
            ("create delete get list watch", "storage.k8s.io", "volumeattachments", ""),
            (READ, "storage.k8s.io", "csidrivers", ""),
            (READ, "storage.k8s.io", "csinodes", ""),
        ],
    ),
    (
        "certificate-controller",
        &[
            ("delete get list watch", "certificates.k8s.io", "certificatesigningrequests", ""),
            (
                "update",
                "certificates.k8s.io",
                "certificatesigningrequests/approval certificatesigningrequests/status",
                "",
            ),
            ("approve", "certificates.k8s.io", "signers", "kubernetes.io/kube-apiserver-client-kubelet"),
            (
                "sign",
                "certificates.k8s.io",
                "signers",
                "kubernetes.io/kube-apiserver-client kubernetes.io/kube-apiserver-client-kubelet \
                 kubernetes.io/kubelet-serving kubernetes.io/legacy-unknown",
            ),
            ("create", "authorization.k8s.io", "subjectaccessreviews", ""),
            EVENTS,
        ],
    ),
    (
        "clusterrole-aggregation-controller",
        &[("escalate get list patch update watch", "rbac.authorization.k8s.io", "clusterroles", "")],
    ),
    (
        "cronjob-controller",
        &[
            ("get list update watch", "batch", "cronjobs", ""),
            ("create delete get list patch update watch", "batch", "jobs", ""),
            ("update", "batch", "cronjobs/status", ""),
            ("update", "batch", "cronjobs/finalizers", ""),
            ("delete list watch", "core", "pods", ""),
            EVENTS,
        ],
    ),
    (
        "daemon-set-controller",
        &[
            (READ, "apps extensions", "daemonsets", ""),
            ("update", "apps extensions", "daemonsets/status", ""),
            ("update", "apps extensions", "daemonsets/finalizers", ""),
            (FOLLOW, "core", "nodes", ""),
            ("create delete list patch watch", "core", "pods", ""),
            ("create", "core", "pods/binding", ""),
            ("create delete get list patch update watch", "apps", "controllerrevisions", ""),
            EVENTS,
        ],
    ),
    (
        "deployment-controller",
        &[
            ("get list update watch", "apps extensions", "deployments", ""),
            ("update", "apps extensions", "deployments/status", ""),
            ("update", "apps extensions", "deployments/finalizers", ""),
            ("create delete get list patch update watch", "apps extensions", "replicasets", ""),
            ("get list update watch", "core", "pods", ""),
            EVENTS,
        ],
    ),
    (
        "disruption-controller",
        &[
            (READ, "apps extensions", "deployments", ""),
            (READ, "apps extensions", "replicasets", ""),
            (READ, "core", "replicationcontrollers", ""),
            (READ, "policy", "poddisruptionbudgets", ""),
            (READ, "apps", "statefulsets", ""),
            ("update", "policy", "poddisruptionbudgets/status", ""),
            ("patch update", "core", "pods/status", ""),
            ("get", "*", "*/scale", ""),
            EVENTS,
        ],
    ),
    (
        "endpoint-controller",
        &[
            (READ, "core", "pods services", ""),
            ("create delete get list update watch", "core", "endpoints", ""),
            ("create", "core", "endpoints/restricted", ""),
            EVENTS,
        ],
    ),
    (
        "endpointslice-controller",
        &[
            (READ, "core", "nodes pods services", ""),
            ("update", "core", "services/finalizers", ""),
            ("create delete get list update watch", "discovery.k8s.io", "endpointslices", ""),
            EVENTS,
        ],
    ),
    (
        "endpointslicemirroring-controller",
        &[
            (READ, "core", "endpoints services", ""),
            ("update", "core", "services/finalizers", ""),
            ("update", "core", "endpoints/finalizers", ""),
            ("create delete get list update watch", "discovery.k8s.io", "endpointslices", ""),
            EVENTS,
        ],
    ),
    (
        "ephemeral-volume-controller",
        &[
            (READ, "core", "pods", ""),
            ("update", "core", "pods/finalizers", ""),
            ("create get list watch", "core", "persistentvolumeclaims", ""),
            EVENTS,
        ],
    ),
    (
        "expand-controller",
        &[
            ("get list patch update watch", "core", "persistentvolumes", ""),
            ("patch update", "core", "persistentvolumeclaims/status", ""),
            (READ, "core", "persistentvolumeclaims", ""),
            EVENTS,
            ("get", "core", "services", ""),
        ],
    ),
    ("generic-garbage-collector", &[("delete get list patch update watch", "*", "*", ""), EVENTS]),
    (
        "horizontal-pod-autoscaler",
        &[
            (READ, "autoscaling", "horizontalpodautoscalers", ""),
            ("update", "autoscaling", "horizontalpodautoscalers/status", ""),
            ("get update", "*", "*/scale", ""),
            (FOLLOW, "core", "pods", ""),
            (FOLLOW, "metrics.k8s.io", "pods", ""),
            (READ, "custom.metrics.k8s.io", "*", ""),
            (READ, "external.metrics.k8s.io", "*", ""),
            EVENTS,
        ],
    ),
    (
        "job-controller",
        &[
            ("get list patch update watch", "batch", "jobs", ""),
            ("update", "batch", "jobs/status", ""),
            ("update", "batch", "jobs/finalizers", ""),
            ("create delete list patch watch", "core", "pods", ""),
            EVENTS,
        ],
    ),
    (
        "legacy-service-account-token-cleaner",
        &[
            ("get", "core", "configmaps", "kube-apiserver-legacy-service-account-token-tracking"),
            ("delete patch", "core", "secrets", ""),
        ],
    ),
    (
        "namespace-controller",
        &[
            ("delete get list watch", "core", "namespaces", ""),
            ("update", "core", "namespaces/finalize namespaces/status", ""),
            ("delete deletecollection get list watch", "*", "*", ""),
        ],
    ),
    (
        "node-controller",
        &[
            ("delete get list patch update watch", "core", "nodes", ""),
            ("patch update", "core", "nodes/status", ""),
            ("patch update", "core", "pods/status", ""),
            ("delete get list watch", "core", "pods", ""),
            EVENTS,
        ],
    ),
    (
        "persistent-volume-binder",
        &[
            ("create delete get list update watch", "core", "persistentvolumes", ""),
            ("update", "core", "persistentvolumes/status", ""),
            ("get list update watch", "core", "persistentvolumeclaims", ""),
            ("update", "core", "persistentvolumeclaims/status", ""),
            ("create delete get list watch", "core", "pods", ""),
            (READ, "storage.k8s.io", "storageclasses", ""),
            (FOLLOW, "core", "nodes", ""),
            EVENTS,
            ("watch", "core", "events", ""),
            ("get", "core", "services", ""),
        ],
    ),
    (
        "pod-garbage-collector",
        &[("delete list watch", "core", "pods", ""), (READ, "core", "nodes", ""), ("patch", "core", "pods/status", "")],
    ),
    ("pv-protection-controller", &[("get list update watch", "core", "persistentvolumes", ""), EVENTS]),
    (
        "pvc-protection-controller",
        &[("get list update watch", "core", "persistentvolumeclaims", ""), (READ, "core", "pods", ""), EVENTS],
    ),
    (
        "replicaset-controller",
        &[
            ("get list update watch", "apps extensions", "replicasets", ""),
            ("update", "apps extensions", "replicasets/status", ""),
            ("update", "apps extensions", "replicasets/finalizers", ""),
            ("create delete list patch watch", "core", "pods", ""),
            EVENTS,
        ],
    ),
    (
        "replication-controller",
        &[
            ("get list update watch", "core", "replicationcontrollers", ""),
            ("update", "core", "replicationcontrollers/status", ""),
            ("update", "core", "replicationcontrollers/finalizers", ""),
            ("create delete list patch watch", "core", "pods", ""),
            EVENTS,
        ],
    ),
    (
        "resource-claim-controller",
        &[
            (READ, "core", "pods", ""),
            ("update", "core", "pods/finalizers", ""),
            ("create delete get list watch", "resource.k8s.io", "resourceclaims", ""),
            ("patch update", "resource.k8s.io", "resourceclaims resourceclaims/status", ""),
            ("patch update", "core", "pods/status", ""),
            EVENTS,
        ],
    ),
    ("resourcequota-controller", &[(FOLLOW, "*", "*", ""), ("update", "core", "resourcequotas/status", ""), EVENTS]),
    ("root-ca-cert-publisher", &[("create update", "core", "configmaps", ""), EVENTS]),
    ("route-controller", &[(FOLLOW, "core", "nodes", ""), ("patch", "core", "nodes/status", ""), EVENTS]),
    (
        "selinux-warning-controller",
        &[
            EVENTS,
            (READ, "core", "persistentvolumes", ""),
            (READ, "core", "persistentvolumeclaims", ""),
            (READ, "core", "pods", ""),
            (READ, "storage.k8s.io", "csidrivers", ""),
        ],
    ),
    ("service-account-controller", &[("create", "core", "serviceaccounts", ""), EVENTS]),
    (
        "service-cidrs-controller",
        &[
            ("get list patch update watch", "networking.k8s.io", "servicecidrs", ""),
            ("patch update", "networking.k8s.io", "servicecidrs/finalizers", ""),
            ("patch update", "networking.k8s.io", "servicecidrs/status", ""),
            (READ, "networking.k8s.io", "ipaddresses", ""),
            EVENTS,
        ],
    ),
    (
        "service-controller",
        &[
            (READ, "core", "services", ""),
            ("patch update", "core", "services/status", ""),
            (FOLLOW, "core", "nodes", ""),
            EVENTS,
        ],
    ),
    (
        "statefulset-controller",
        &[
            (FOLLOW, "core", "pods", ""),
            (READ, "apps", "statefulsets", ""),
            ("update", "apps", "statefulsets/status", ""),
            ("update", "apps", "statefulsets/finalizers", ""),
            ("create delete get patch update", "core", "pods", ""),
            ("create delete get list patch update watch", "apps", "controllerrevisions", ""),
            ("create get list watch", "core", "persistentvolumeclaims", ""),
            ("delete update", "core", "persistentvolumeclaims", ""),
            ("update", "core", "pods/finalizers", ""),
            EVENTS,
        ],
    ),
    ("ttl-after-finished-controller", &[("delete get list watch", "batch", "jobs", ""), EVENTS]),
    ("ttl-controller", &[("list patch update watch", "core", "nodes", ""), EVENTS]),
    (
        "validatingadmissionpolicy-status-controller",
        &[
            (READ, "admissionregistration.k8s.io", "validatingadmissionpolicies", ""),
            ("get patch update", "admissionregistration.k8s.io", "validatingadmissionpolicies/status", ""),
            EVENTS,
        ],
    ),
    (
        "volumeattributesclass-protection-controller",
        &[
            (READ, "core", "persistentvolumeclaims", ""),
            (READ, "core", "persistentvolumes", ""),
            ("get list update watch", "storage.k8s.io", "volumeattributesclasses", ""),
            EVENTS,
        ],
    ),
];

/// Roles in namespaces: the namespace, the role, its lines, the binding's name where it is another, and whom it is bound to.
type Local = (&'static str, &'static str, &'static [Line], &'static str, &'static [Subject]);

/// Roles of `kube-system` and `kube-public`.
pub(super) const LOCAL: &[Local] = &[
    (
        "kube-system",
        "extension-apiserver-authentication-reader",
        &[(READ, "core", "configmaps", "extension-apiserver-authentication")],
        "system::extension-apiserver-authentication-reader",
        &[MANAGER, SCHEDULER],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-controller-manager",
        &[("watch", "core", "configmaps", ""), ("get update", "core", "configmaps", "kube-controller-manager")],
        "",
        &[MANAGER, Subject::Account("kube-controller-manager")],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-scheduler",
        &[("watch", "core", "configmaps", ""), ("get update", "core", "configmaps", "kube-scheduler")],
        "",
        &[SCHEDULER, Subject::Account("kube-scheduler")],
    ),
    (
        "kube-system",
        "system:controller:bootstrap-signer",
        &[(READ, "core", "secrets", "")],
        "",
        &[Subject::Account("bootstrap-signer")],
    ),
    (
        "kube-system",
        "system:controller:cloud-provider",
        &[("create get list watch", "core", "configmaps", "")],
        "",
        &[Subject::Account("cloud-provider")],
    ),
    (
        "kube-system",
        "system:controller:token-cleaner",
        &[("delete get list watch", "core", "secrets", ""), EVENTS],
        "",
        &[Subject::Account("token-cleaner")],
    ),
    (
        "kube-public",
        "system:controller:bootstrap-signer",
        &[(READ, "core", "configmaps", ""), ("update", "core", "configmaps", "cluster-info"), EVENTS],
        "",
        &[Subject::Account("bootstrap-signer")],
    ),
];

/// The rules that lines say.
pub(super) fn rules(lines: &[Line]) -> Vec<Value> {
    let words = |text: &str| text.split_whitespace().map(String::from).collect::<Vec<_>>();
    let rule = |(verbs, groups, resources, names): &Line| {
        let groups: Vec<&str> = groups.split(' ').map(|g| if g == "core" { "" } else { g }).collect();
        let mut rule = json!({"verbs": words(verbs), "apiGroups": groups, "resources": words(resources)});
        if !names.is_empty() {
            rule["resourceNames"] = words(names).into();
        }
        rule
    };
    lines.iter().map(rule).collect()
}

/// The subjects as a binding has them.
pub(super) fn subjects(all: &[Subject]) -> Value {
    let one = |subject: &Subject| match subject {
        Subject::User(name) => json!({"apiGroup": super::GROUP, "kind": "User", "name": name}),
        Subject::Account(name) => json!({"kind": "ServiceAccount", "name": name, "namespace": "kube-system"}),
    };
    all.iter().map(one).collect()
}
