//! Pods and their templates: small changes to one that passes, as upstream's `validation_test.go` has them.

use super::*;

/// A pod that passes, with its `spec` changed (RFC 7386).
fn pod(change: Value) -> Value {
    let mut object =
        json!({"metadata":{"name":"p"},"spec":{"serviceAccountName":"a","containers":[{"name":"a","image":"x"}]}});
    crate::schema::merge_patch::merge_patch(&mut object["spec"], change);
    object
}

/// With its container changed.
fn container(change: Value) -> Value {
    let mut c = json!({"name":"a","image":"x"});
    crate::schema::merge_patch::merge_patch(&mut c, change);
    let volumes = json!([{"name":"v","emptyDir":{}},{"name":"claim","persistentVolumeClaim":{"claimName":"c"}}]);
    pod(json!({"containers":[c],"volumes":volumes}))
}

fn volume(source: Value) -> Value {
    let mut volume = json!({"name":"v"});
    crate::schema::merge_patch::merge_patch(&mut volume, source);
    pod(json!({ "volumes": [volume] }))
}

fn resources(of: Value) -> Value {
    container(json!({ "resources": of }))
}

/// Each object has exactly one error, which begins with the text.
fn each(cases: &[(Value, &str)]) {
    for (object, want) in cases {
        let got = errors("pods", object.clone());
        assert!(got.len() == 1 && got[0].starts_with(want), "{object}\nwant {want}\ngot  {got:#?}");
    }
}

#[test]
fn of_volumes() {
    let mut annotated = volume(json!({"ephemeral":{"volumeClaimTemplate":{"metadata":{"name":"x"},
        "spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}}}}}));
    let at = "spec.volumes[0]";
    let cases = [
        (volume(json!({"nfs":{"server":"s","path":"a"}})), ".nfs.path: Invalid value: \"a\": must be an absolute path"),
        (volume(json!({"rbd":{"image":"i"}})), ".rbd.monitors: Required value"),
        (volume(json!({"glusterfs":{"path":"/"}})), ".glusterfs.endpoints: Required value"),
        (
            volume(json!({"csi":{"driver":"a/b"}})),
            ".csi.driver: Invalid value: \"a/b\": a lowercase RFC 1123 subdomain",
        ),
        (
            volume(json!({"csi":{"driver":"d","nodePublishSecretRef":{}}})),
            ".csi.nodePublishSecretRef.name: Required value",
        ),
        (volume(json!({"image":{}})), ".image.reference: Required value"),
        (
            volume(json!({"image":{"reference":"r","pullPolicy":"Often"}})),
            ".image.pullPolicy: Unsupported value: \"Often\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
        ),
        (
            volume(json!({"hostPath":{"path":"/x","type":"Dir"}})),
            ".hostPath.type: Unsupported value: \"Dir\": supported values: \"\", \"BlockDevice\", \"CharDevice\"",
        ),
        (volume(json!({"ephemeral":{}})), ".ephemeral.volumeClaimTemplate: Required value"),
        (annotated.clone(), ".ephemeral.volumeClaimTemplate.metadata.name: Forbidden: cannot be set"),
        (
            volume(json!({"projected":{"sources":[{"secret":{"name":"s"},"configMap":{"name":"m"}}]}})),
            ".projected.sources[0]: Forbidden: may not specify more than 1 volume type per source",
        ),
    ];
    each(&cases.map(|(object, want)| (object, format!("{at}{want}"))).each_ref().map(|(o, w)| (o.clone(), w.as_str())));
    annotated["spec"]["volumes"][0]["ephemeral"]["volumeClaimTemplate"]["metadata"] = json!({"labels":{"a":"b"}});
    for good in [
        annotated.clone(),
        volume(json!({"projected":{"sources":[{}]}})),
        volume(json!({"projected":{"sources":[{"serviceAccountToken":{"path":"t"}},
            {"secret":{"name":"s","items":[{"key":"k","path":"t"}]}}]}})),
        volume(json!({"image":{"reference":"r"}})),
    ] {
        assert_eq!(errors("pods", good.clone()), Vec::<String>::new(), "{good}");
    }
    // The claim of an ephemeral volume is the volume's alone, and has a name of its own.
    annotated["spec"]["volumes"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name":"w","persistentVolumeClaim":{"claimName":"p-v"}}));
    let why = "must not reference a PVC that gets created for an ephemeral volume";
    let want = format!("spec.volumes[1].persistentVolumeClaim.claimName: Invalid value: \"p-v\": {why}");
    assert_eq!(errors("pods", annotated.clone()), [want]);
    annotated["metadata"]["name"] = "p.".repeat(127).trim_end_matches('.').into();
    let got = errors("pods", annotated);
    assert!(
        got.len() == 1 && got[0].starts_with("spec.volumes[0].name: Invalid value: \"v\": PVC name \"p.p."),
        "{got:?}"
    );
    // A bad volume cannot be mounted either.
    let mut bad = volume(json!({"nfs":{"server":"s","path":"a"}}));
    bad["spec"]["containers"][0]["volumeMounts"] = json!([{"name":"v","mountPath":"/v"}]);
    assert_eq!(errors("pods", bad)[1], "spec.containers[0].volumeMounts[0].name: Not found: \"v\"");
}

#[test]
fn of_devices() {
    let device = |name: &str, at: &str| container(json!({"volumeDevices":[{"name":name,"devicePath":at}]}));
    let two = |second: Value| container(json!({"volumeDevices":[{"name":"claim","devicePath":"/dev/a"},second]}));
    let mount = json!([{"name":"claim","mountPath":"/m"}]);
    each(&[
        (
            device("v", "/dev/x"),
            "spec.containers[0].volumeDevices[0].name: Invalid value: \"v\": can only use volume source type of \
             PersistentVolumeClaim or Ephemeral for block mode",
        ),
        (device("w", "/dev/x"), "spec.containers[0].volumeDevices[0].name: Not found: \"w\""),
        (device("claim", ""), "spec.containers[0].volumeDevices[0].devicePath: Required value"),
        (
            device("claim", "/dev/../x"),
            "spec.containers[0].volumeDevices[0].devicePath: Invalid value: \"/dev/../x\": can not contain backsteps ('..')",
        ),
        (
            two(json!({"name":"claim","devicePath":"/dev/b"})),
            "spec.containers[0].volumeDevices[1].name: Invalid value: \"claim\": must be unique",
        ),
    ]);
    assert_eq!(errors("pods", device("claim", "/dev/x")), Vec::<String>::new());
    let both = container(json!({"volumeDevices":[{"name":"claim","devicePath":"/m"}],"volumeMounts":mount}));
    let at = "spec.containers[0].volume";
    assert_eq!(
        errors("pods", both),
        [
            format!("{at}Mounts[0].name: Invalid value: \"claim\": must not already exist in volumeDevices"),
            format!(
                "{at}Mounts[0].mountPath: Invalid value: \"/m\": must not already exist as a path in volumeDevices"
            ),
            format!("{at}Devices[0].name: Invalid value: \"claim\": must not already exist in volumeMounts"),
            format!(
                "{at}Devices[0].devicePath: Invalid value: \"/m\": must not already exist as a path in volumeMounts"
            ),
        ]
    );
}

#[test]
fn of_containers() {
    let env = |from: Value| container(json!({"env":[{"name":"A","valueFrom":from}]}));
    each(&[
        (
            container(json!({"terminationMessagePolicy":"Log"})),
            "spec.containers[0].terminationMessagePolicy: Unsupported value: \"Log\": supported values: \"File\", \
             \"FallbackToLogsOnError\"",
        ),
        (
            env(json!({"configMapKeyRef":{"key":"k"}})),
            "spec.containers[0].env[0].valueFrom.configMapKeyRef.name: Invalid value: \"\": a lowercase RFC 1123 subdomain",
        ),
        (
            env(json!({"fieldRef":{"fieldPath":"spec.restartPolicy"}})),
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: \"spec.restartPolicy\": supported",
        ),
        (
            env(json!({"fieldRef":{"fieldPath":"metadata.name['a']"}})),
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"metadata.name['a']\": error converting \
             fieldPath: field label does not support subscript: metadata.name['a']",
        ),
        (
            env(json!({"fieldRef":{"apiVersion":"v2","fieldPath":"metadata.name"}})),
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"metadata.name\": error converting \
             fieldPath: unsupported pod version: v2",
        ),
        (
            env(json!({"fieldRef":{"fieldPath":"metadata.labels['a b']"}})),
            "spec.containers[0].env[0].valueFrom.fieldRef: Invalid value: \"a b\": name part must consist of",
        ),
        (
            pod(json!({"initContainers":[{"name":"i","image":"x","ports":[{"containerPort":1,"hostPort":1},
                {"containerPort":2,"hostPort":1}]}]})),
            "spec.initContainers[0].ports[1].hostPort: Duplicate value: \"TCP//1\"",
        ),
        (
            pod(
                json!({"hostNetwork":true,"containers":[{"name":"a","image":"x","ports":[{"containerPort":1,"hostPort":2}]}]}),
            ),
            "spec.containers[0].ports[0].hostPort: Invalid value: 2: must match `containerPort` when `hostNetwork` is true",
        ),
        (
            pod(
                json!({"initContainers":[{"name":"i","image":"x","lifecycle":{"preStop":{"exec":{"command":["x"]}}}}]}),
            ),
            "spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers without restartPolicy=Always",
        ),
    ]);
    assert_eq!(
        errors("pods", env(json!({"fieldRef":{"fieldPath":"metadata.annotations['A.b/c']"}}))),
        Vec::<String>::new()
    );
    // Several containers that run one after the other may have the same port of the host.
    let ports = json!([{"containerPort":1,"hostPort":1}]);
    let inits = json!([{"name":"i","image":"x","ports":ports},{"name":"j","image":"x","ports":ports}]);
    assert_eq!(errors("pods", pod(json!({ "initContainers": inits }))), Vec::<String>::new());
}

#[test]
fn of_amounts() {
    let claims = |own: Value, of_pod: Value| {
        let mut object = resources(json!({ "claims": own }));
        object["spec"]["resourceClaims"] = of_pod;
        object
    };
    let whole = |own: Value| {
        let mut object = resources(json!({"requests":{"cpu":"2"},"limits":{"cpu":"4"}}));
        object["spec"]["resources"] = own;
        object
    };
    let gpu = json!([{"name":"gpu","resourceClaimName":"g"}]);
    each(&[
        (
            resources(json!({"limits":{"hugepages-2Mi":"4Mi"}})),
            "spec.containers[0].resources: Forbidden: HugePages require cpu or memory",
        ),
        (
            resources(json!({"requests":{"memory":"1Gi","example.com/gpu":"1"}})),
            "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
        ),
        (
            claims(json!([{"name":"tpu"}]), gpu.clone()),
            "spec.containers[0].resources.claims[0]: Not found: \"tpu\": must be one of the names in pod.spec.resourceClaims: \
             gpu",
        ),
        (
            claims(json!([{"name":"gpu"}]), Value::Null),
            "spec.containers[0].resources.claims[0]: Not found: \"gpu\": must be one of the names in pod.spec.resourceClaims \
             which is empty",
        ),
        (
            claims(json!([{"name":"gpu","request":"a"},{"name":"gpu","request":"a"}]), gpu.clone()),
            "spec.containers[0].resources.claims[1]: Duplicate value: \"gpu/a\"",
        ),
        (
            claims(json!([{"name":"gpu","request":"a"},{"name":"gpu"}]), gpu.clone()),
            "spec.containers[0].resources.claims[1]: Duplicate value: \"gpu\"",
        ),
        (
            pod(json!({"resourceClaims":[{"name":"a"}]})),
            "spec.resourceClaims[0]: Invalid value: {\"name\":\"a\"}: must specify one of: `resourceClaimName`,",
        ),
        (
            whole(json!({"requests":{"cpu":"1"},"limits":{"cpu":"9"}})),
            "spec.resources.requests[cpu]: Invalid value: \"1\": must be greater than or equal to aggregate container requests \
             of 2",
        ),
        (
            whole(json!({"requests":{"cpu":"2"},"limits":{"cpu":"3"}})),
            "spec.resources.containers[0][cpu].limits: Invalid value: \"4\": must be less than or equal to pod limits of 3",
        ),
        (
            whole(json!({"requests":{"cpu":"2","ephemeral-storage":"1Gi"}})),
            "spec.resources.requests[ephemeral-storage]: Unsupported value: \"ephemeral-storage\": supported values: \"cpu\", \
             \"hugepages-\", \"memory\"",
        ),
        (
            pod(json!({"overhead":{"cpu":"-1"}})),
            "spec.overhead.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
        ),
    ]);
    let uneven = errors("pods", resources(json!({"limits":{"memory":"1Gi","hugepages-2Mi":"3Mi"}})));
    assert!(
        uneven[0].ends_with(
            "[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi"
        )
    );
    for good in [
        resources(json!({"limits":{"memory":"1Gi","hugepages-2Mi":"4Mi"}})),
        claims(json!([{"name":"gpu","request":"a"},{"name":"gpu","request":"b"}]), gpu),
        whole(json!({"requests":{"cpu":"2"},"limits":{"cpu":"4"}})),
    ] {
        assert_eq!(errors("pods", good.clone()), Vec::<String>::new(), "{good}");
    }
}

#[test]
fn of_security() {
    let own = |context: Value| container(json!({ "securityContext": context }));
    let whole = |context: Value| pod(json!({ "securityContext": context }));
    let sysctl = |name: &str| json!({"sysctls":[{"name":name,"value":"1"}]});
    each(&[
        (
            own(json!({"procMount":"Unmasked"})),
            "spec.containers[0].securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use",
        ),
        (
            own(json!({"seccompProfile":{"type":"Localhost","localhostProfile":"/a"}})),
            "spec.containers[0].securityContext.seccompProfile.localhostProfile: Invalid value: \"/a\": must be a relative path",
        ),
        (
            own(json!({"seccompProfile":{}})),
            "spec.containers[0].securityContext.seccompProfile.type: Required value: type is required when seccompProfile is set",
        ),
        (
            own(json!({"appArmorProfile":{"type":"Localhost","localhostProfile":" a"}})),
            "spec.containers[0].securityContext.appArmorProfile.localhostProfile: Invalid value: \" a\": must not be padded",
        ),
        (
            own(json!({"appArmorProfile":{"type":"Unconfined","localhostProfile":"a"}})),
            "spec.containers[0].securityContext.appArmorProfile.localhostProfile: Invalid value: \"a\": can only be set when \
             AppArmor type is Localhost",
        ),
        (
            whole(json!({"seLinuxChangePolicy":"Never"})),
            "spec.securityContext.seLinuxChangePolicy: Unsupported value: \"Never\": supported values: \"MountOption\", \
             \"Recursive\"",
        ),
        (
            whole(sysctl("A")),
            "spec.securityContext.sysctls[0].name: Invalid value: \"A\": must have at most 253 characters and match regex ^(",
        ),
        (
            pod(json!({"hostNetwork":true,"securityContext":sysctl("net.ipv4.tcp_syncookies")})),
            "spec.securityContext.sysctls[0].name: Invalid value: \"net.ipv4.tcp_syncookies\": may not be specified when \
             'hostNetwork' is true",
        ),
        (
            pod(json!({"hostPID":true,"shareProcessNamespace":true})),
            "spec.securityContext.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be",
        ),
        (
            pod(json!({"hostUsers":false,"hostNetwork":true})),
            "spec.hostNetwork: Forbidden: when `pod.Spec.HostUsers` is false",
        ),
        (
            pod(json!({"os":{"name":"linux"},"securityContext":{"windowsOptions":{"hostProcess":false}}})),
            "spec.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod",
        ),
        (
            pod(json!({"os":{"name":"plan9"}})),
            "spec.os: Unsupported value: \"plan9\": supported values: \"linux\", \"windows\"",
        ),
    ]);
    let mut free = own(json!({"procMount":"Unmasked"}));
    free["spec"]["hostUsers"] = false.into();
    for good in [free, whole(sysctl("net/ipv4/conf/eno2.100/rp_filter")), whole(sysctl("kernel.shm_rmid_forced"))] {
        assert_eq!(errors("pods", good.clone()), Vec::<String>::new(), "{good}");
    }
}

#[test]
fn of_scheduling() {
    const HARD: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const SOFT: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    let node = |term: Value| pod(json!({"affinity":{"nodeAffinity":{HARD:{"nodeSelectorTerms":[term]}}}}));
    let soft = |term: Value| pod(json!({"affinity":{"nodeAffinity":{SOFT:[{"weight":1,"preference":term}]}}}));
    let peer = |term: Value| {
        let mut whole = json!({"topologyKey":"zone","labelSelector":{"matchLabels":{"a":"b"}}});
        crate::schema::merge_patch::merge_patch(&mut whole, term);
        pod(json!({"affinity":{"podAffinity":{HARD:[whole]}}}))
    };
    let spread = |change: Value| {
        let mut whole = json!({"maxSkew":1,"topologyKey":"zone","whenUnsatisfiable":"DoNotSchedule",
            "labelSelector":{"matchLabels":{"a":"b"}}});
        crate::schema::merge_patch::merge_patch(&mut whole, change);
        pod(json!({ "topologySpreadConstraints": [whole] }))
    };
    let label = json!({"matchExpressions":[{"key":"a","operator":"In","values":["-"]}]});
    let field = |operator: &str, values: Value| json!({"matchFields":[{"key":"metadata.name","operator":operator,"values":values}]});
    let mut twice = spread(json!({}));
    let first = twice["spec"]["topologySpreadConstraints"][0].clone();
    twice["spec"]["topologySpreadConstraints"].as_array_mut().unwrap().push(first);
    let terms = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]";
    let peers = "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0]";
    let constraint = "spec.topologySpreadConstraints[0]";
    let cases = [
        (node(label.clone()), terms, ".matchExpressions[0].values[0]: Invalid value: \"-\": a valid label must be"),
        (
            node(field("In", json!(["a", "b"]))),
            terms,
            ".matchFields[0].values: Required value: must be only one value when `operator` is 'In' or 'NotIn' for node field",
        ),
        (
            node(field("Exists", Value::Null)),
            terms,
            ".matchFields[0].operator: Invalid value: \"Exists\": not a valid selector operator",
        ),
        (
            node(field("In", json!(["N"]))),
            terms,
            ".matchFields[0].values[0]: Invalid value: \"N\": a lowercase RFC 1123 subdomain must",
        ),
        (
            peer(json!({"labelSelector":null,"matchLabelKeys":["k"]})),
            peers,
            ".matchLabelKeys: Forbidden: must not be specified when labelSelector is not set",
        ),
        (
            peer(json!({"mismatchLabelKeys":["/k"]})),
            peers,
            ".mismatchLabelKeys[0]: Invalid value: \"/k\": prefix part must be non-empty",
        ),
        (
            peer(json!({"matchLabelKeys":["k"],"mismatchLabelKeys":["k"]})),
            peers,
            ".matchLabelKeys[0]: Invalid value: \"k\": exists in both matchLabelKeys and mismatchLabelKeys",
        ),
        (spread(json!({"minDomains":0})), constraint, ".minDomains: Invalid value: 0: must be greater than zero"),
        (
            spread(json!({"minDomains":2,"whenUnsatisfiable":"ScheduleAnyway"})),
            constraint,
            ".minDomains: Invalid value: 2: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway",
        ),
        (
            spread(json!({"nodeTaintsPolicy":"Avoid"})),
            constraint,
            ".nodeTaintsPolicy: Unsupported value: \"Avoid\": supported values: \"Honor\", \"Ignore\"",
        ),
        (
            spread(json!({"matchLabelKeys":["a"]})),
            constraint,
            ".matchLabelKeys[0]: Invalid value: \"a\": exists in both matchLabelKeys and labelSelector",
        ),
        (twice, constraint, ".{topologyKey, whenUnsatisfiable}: Duplicate value: \"{zone, DoNotSchedule}\""),
        (spread(json!({"topologyKey":""})), constraint, ".topologyKey: Required value: can not be empty"),
        (
            pod(json!({"schedulingGates":[{"name":"a/b"},{"name":"a/b"}]})),
            "spec.schedulingGates[1]",
            ": Duplicate value: \"a/b\"",
        ),
    ];
    for (object, at, want) in cases {
        each(&[(object, format!("{at}{want}").as_str())]);
    }
    for good in [
        soft(label),
        node(field("NotIn", json!(["n.a"]))),
        spread(json!({"topologyKey":"no label's name /"})),
        spread(json!({"matchLabelKeys":["k"],"minDomains":2,"nodeAffinityPolicy":"Ignore"})),
        peer(json!({"matchLabelKeys":["k"],"mismatchLabelKeys":["l"]})),
    ] {
        assert_eq!(errors("pods", good.clone()), Vec::<String>::new(), "{good}");
    }
}

#[test]
fn of_the_rest() {
    let annotated = |name: &str, value: &str| {
        let mut object = pod(json!({}));
        object["metadata"]["annotations"] = json!({name:value});
        object
    };
    let cost = |value: &str| annotated("controller.kubernetes.io/pod-deletion-cost", value);
    let long: Vec<String> = (0..10)
        .map(|_| format!("{}.{}.{}.{}", "a".repeat(60), "b".repeat(60), "c".repeat(60), "d".repeat(60)))
        .collect();
    let mut tokens = volume(json!({"projected":{"sources":[{"serviceAccountToken":{"path":"t"}}]}}));
    tokens["spec"].as_object_mut().unwrap().remove("serviceAccountName");
    each(&[
        (
            cost("+10"),
            "metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: \"+10\": must be a 32bit integer",
        ),
        (
            cost("2147483648"),
            "metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: \"2147483648\"",
        ),
        (
            annotated("kubernetes.io/config.mirror", "x"),
            "metadata.annotations[kubernetes.io/config.mirror]: Invalid value: \"x\": must set spec.nodeName if mirror pod",
        ),
        (
            pod(json!({"dnsPolicy":"None"})),
            "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
        ),
        (
            pod(json!({"dnsPolicy":"None","dnsConfig":{}})),
            "spec.dnsConfig.nameservers: Required value: must provide at least one DNS nameserver when `dnsPolicy` is None",
        ),
        (pod(json!({"dnsConfig":{"searches":long}})), "spec.dnsConfig.searches: Invalid value: [\"aaa"),
        (
            pod(json!({"hostAliases":[{"ip":"1.2.3.4","hostnames":["a","-"]}]})),
            "spec.hostAliases[0].hostnames[1]: Invalid value: \"-\": a lowercase RFC 1123 subdomain",
        ),
        (
            pod(json!({"preemptionPolicy":"Later"})),
            "spec.preemptionPolicy: Unsupported value: \"Later\": supported values: \"PreemptLowerPriority\", \"Never\"",
        ),
        (
            tokens,
            "spec.volumes[0].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName \
             is not set",
        ),
    ]);
    for good in [cost("-10"), cost("0"), pod(json!({"imagePullSecrets":[{"name":""},{}]}))] {
        assert_eq!(errors("pods", good.clone()), Vec::<String>::new(), "{good}");
    }
    let kinds = Kinds::builtin();
    let mut held = Vec::new();
    let gated = pod(json!({"nodeName":"n","schedulingGates":[{"name":"a/b"}]}));
    kinds.group_resource("pods").unwrap().strategy.validate_create(&gated, &mut held);
    let want = "spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared";
    assert_eq!(held.iter().map(ToString::to_string).collect::<Vec<_>>(), [want]);
}

/// Who uses a template completes it.
#[test]
fn templates_may_say_less() {
    let of = |change: Value| json!({"template":{"spec":pod(change)["spec"]}});
    for good in [
        of(json!({"containers":[{"name":"a","image":" x "}]})),
        of(json!({"volumes":[{"name":"v","image":{}}]})),
        of(
            json!({"serviceAccountName":null,"volumes":[{"name":"v","projected":{"sources":[{"serviceAccountToken":{"path":"t"}}]}}]}),
        ),
        of(json!({"hostNetwork":true,"containers":[{"name":"a","image":"x","ports":[{"containerPort":1}]}]})),
    ] {
        assert_eq!(errors("podtemplates", good.clone()), Vec::<String>::new(), "{good}");
    }
    let mut bad = of(json!({}));
    bad["template"]["metadata"] = json!({"annotations":{"a b":"","controller.kubernetes.io/pod-deletion-cost":"x"}});
    assert_eq!(
        errors("podtemplates", bad)[1],
        "template.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: \"x\": must be a 32bit integer"
    );
}

#[test]
fn what_a_gated_pod_may_still_be_told() {
    const HARD: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let terms = |terms: Value| json!({"nodeAffinity":{HARD:{"nodeSelectorTerms":terms}}});
    let one = json!({"key":"a","operator":"Exists"});
    let two = json!({"key":"b","operator":"Exists"});
    let old = |gates: Value| {
        let affinity = terms(json!([{"matchExpressions":[one]}]));
        pod(json!({"schedulingGates":gates,"nodeSelector":{"a":"b"},"affinity":affinity}))
    };
    let (gated, free) = (old(json!([{"name":"a/b"}])), old(json!([])));
    let only = "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,";
    let at = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    let count = format!("{at}: Invalid value: [{{");
    let grow = format!("{at}[0]: Invalid value: {{");
    for (old, change, want) in [
        (&gated, json!({"schedulingGates":[]}), None),
        (&gated, json!({"nodeSelector":{"a":"b","c":"d"}}), None),
        (&gated, json!({"affinity":terms(json!([{"matchExpressions":[one,two]}]))}), None),
        (
            &gated,
            json!({"schedulingGates":[{"name":"a/c"}]}),
            Some(
                "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'a/c'",
            ),
        ),
        (
            &gated,
            json!({"nodeSelector":{"a":"c"}}),
            Some(
                "spec.nodeSelector: Invalid value: {\"a\":\"c\"}: only additions to spec.nodeSelector are allowed (no",
            ),
        ),
        (&gated, json!({"affinity":terms(json!([{"matchExpressions":[two,one]}]))}), Some(grow.as_str())),
        (&gated, json!({"affinity":terms(json!([{"matchExpressions":[one]},{}]))}), Some(count.as_str())),
        (&gated, json!({"affinity":{"podAffinity":{}}}), Some(only)),
        (&free, json!({"nodeSelector":{"a":"b","c":"d"}}), Some(only)),
        (
            &free,
            json!({"schedulingGates":[{"name":"a/c"}]}),
            Some("spec.schedulingGates[0].name: Forbidden: only deletion is allowed"),
        ),
    ] {
        let mut new = old.clone();
        crate::schema::merge_patch::merge_patch(&mut new["spec"], change.clone());
        let got = update_errors("pods", old.clone(), new);
        match want {
            None => assert_eq!(got, Vec::<String>::new(), "{change}"),
            Some(want) => assert!(got.len() == 1 && got[0].starts_with(want), "{change}\nwant {want}\ngot  {got:#?}"),
        }
    }
}

#[test]
fn a_mirror_stays_what_it_is() {
    let mirror = |hash: Option<&str>| {
        let mut object = pod(json!({"nodeName":"n"}));
        if let Some(hash) = hash {
            object["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror":hash});
        }
        object
    };
    let at = "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not";
    for (old, new, want) in [
        (None, Some("x"), format!("{at} add mirror pod annotation")),
        (Some("x"), Some("y"), format!("{at} remove or update mirror pod annotation")),
        (Some("x"), None, format!("{at} remove or update mirror pod annotation")),
    ] {
        assert_eq!(update_errors("pods", mirror(old), mirror(new)), [want]);
    }
    assert!(update_errors("pods", mirror(Some("x")), mirror(Some("x"))).is_empty());
}
