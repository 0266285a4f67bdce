use super::*;

/// Each object has exactly one error, which begins with the text.
fn each(resource: &str, cases: &[(Value, &str)]) {
    for (object, want) in cases {
        let got = errors(resource, object.clone());
        assert!(got.len() == 1 && got[0].starts_with(want), "{object}\nwant {want}\ngot  {got:#?}");
    }
}

#[test]
fn of_pods() {
    let c = |extra: Value| {
        let mut c = json!({"name":"a","image":"x"});
        c.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({"spec":{"containers":[c],"volumes":[{"name":"v","emptyDir":{}}]}})
    };
    let s = |extra: Value| {
        let mut s = json!({"containers":[{"name":"a","image":"x"}]});
        s.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({ "spec": s })
    };
    each(
        "pods",
        &[
            (json!({"spec":{}}), "spec.containers: Required value"),
            (c(json!({"name":""})), "spec.containers[0].name: Required value"),
            (
                c(json!({"lifecycle":{"preStop":{"sleep":{"seconds":31}}}})),
                "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than \
                 terminationGracePeriodSeconds (30)",
            ),
            (
                c(json!({"restartPolicyRules":[{"action":"Restart","exitCodes":{"operator":"In","values":[1]}}]})),
                "spec.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used",
            ),
            (
                c(
                    json!({"restartPolicy":"Never","restartPolicyRules":[{"action":"Explode","exitCodes":{"operator":"In"}}]}),
                ),
                "spec.containers[0].restartPolicyRules[0].action: Unsupported value: \"Explode\"",
            ),
            (
                json!({"metadata":{"annotations":{"copepod.dev/a.readiness.periodMilliseconds":"0"}},
                    "spec":{"containers":[{"name":"a","image":"x"}]}}),
                "metadata.annotations[copepod.dev/a.readiness.periodMilliseconds]: Invalid value: \"0\": must be a number",
            ),
            (c(json!({"name":"A"})), "spec.containers[0].name: Invalid value: \"A\": a lowercase RFC 1123 label"),
            (c(json!({"image":""})), "spec.containers[0].image: Required value"),
            (
                c(json!({"image":" x"})),
                "spec.containers[0].image: Invalid value: \" x\": must not have leading or trailing",
            ),
            (
                c(json!({"imagePullPolicy":"Often"})),
                "spec.containers[0].imagePullPolicy: Unsupported value: \"Often\": supported values: \"Always\", \
                 \"IfNotPresent\", \"Never\"",
            ),
            (
                s(json!({"ephemeralContainers":[{"name":"a","image":"x"}]})),
                "spec.ephemeralContainers[0].name: Duplicate value: \"a\"",
            ),
            (
                s(json!({"ephemeralContainers":[{"name":"d","image":"x","targetContainerName":"z"}]})),
                "spec.ephemeralContainers[0].targetContainerName: Not found: \"z\"",
            ),
            (
                s(json!({"ephemeralContainers":[{"name":"d","image":"x","ports":[{"containerPort":80}]}]})),
                "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
            ),
            (
                s(json!({"ephemeralContainers":[{"name":"d","image":"x","resources":{"limits":{"cpu":"1"}}}]})),
                "spec.ephemeralContainers[0].resources: Forbidden: cannot be set for an Ephemeral Container",
            ),
            (
                s(json!({"ephemeralContainers":[{"name":"d","image":"x","livenessProbe":{"exec":{"command":["x"]}}}]})),
                "spec.ephemeralContainers[0].livenessProbe: Forbidden: cannot be set for an Ephemeral Container",
            ),
            (
                s(
                    json!({"ephemeralContainers":[{"name":"d","image":"x","lifecycle":{"preStop":{"sleep":{"seconds":1}}}}]}),
                ),
                "spec.ephemeralContainers[0].lifecycle: Forbidden: cannot be set for an Ephemeral Container",
            ),
            (
                s(json!({"volumes":[{"name":"v","emptyDir":{}}],"ephemeralContainers":[{"name":"d","image":"x",
                    "volumeMounts":[{"name":"v","mountPath":"/v","subPath":"s"}]}]})),
                "spec.ephemeralContainers[0].volumeMounts[0].subPath: Forbidden: cannot be set for an Ephemeral Container",
            ),
            (c(json!({"ports":[{}]})), "spec.containers[0].ports[0].containerPort: Required value"),
            (
                c(json!({"ports":[{"containerPort":70000}]})),
                "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            ),
            (
                c(json!({"ports":[{"containerPort":1,"name":"p"},{"containerPort":2,"name":"p"}]})),
                "spec.containers[0].ports[1].name: Duplicate value: \"p\"",
            ),
            (
                c(json!({"ports":[{"containerPort":1,"hostPort":9},{"containerPort":2,"hostPort":9}]})),
                "spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//9\"",
            ),
            (
                c(json!({"ports":[{"containerPort":1,"protocol":"ICMP"}]})),
                "spec.containers[0].ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            ),
            (c(json!({"env":[{"value":"x"}]})), "spec.containers[0].env[0].name: Required value"),
            (c(json!({"env":[{"name":"a=b"}]})), "spec.containers[0].env[0].name: Invalid value: \"a=b\": a valid env"),
            (
                c(json!({"env":[{"name":"a","value":"x","valueFrom":{"secretKeyRef":{"name":"n","key":"k"}}}]})),
                "spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
            ),
            (
                c(json!({"env":[{"name":"a","valueFrom":{"fieldRef":{"fieldPath":"spec.x"}}}]})),
                "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.x\": error converting fieldPath: \
                 field label not supported: spec.x",
            ),
            (
                c(json!({"env":[{"name":"a","valueFrom":{"configMapKeyRef":{"name":"n"}}}]})),
                "spec.containers[0].env[0].valueFrom.configMapKeyRef.key: Required value",
            ),
            (
                c(json!({"envFrom":[{}]})),
                "spec.containers[0].envFrom[0]: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`",
            ),
            (
                c(json!({"volumeMounts":[{"name":"w","mountPath":"/x"}]})),
                "spec.containers[0].volumeMounts[0].name: Not found: \"w\"",
            ),
            (
                c(json!({"volumeMounts":[{"name":"v","mountPath":"/x"},{"name":"v","mountPath":"/x"}]})),
                "spec.containers[0].volumeMounts[1].mountPath: Invalid value: \"/x\": must be unique",
            ),
            (
                c(json!({"volumeMounts":[{"name":"v","mountPath":"/x","subPath":"../y"}]})),
                "spec.containers[0].volumeMounts[0].subPath: Invalid value: \"../y\": must not contain '..'",
            ),
            (
                c(json!({"volumeMounts":[{"name":"v","mountPath":"/x","subPath":"/y"}]})),
                "spec.containers[0].volumeMounts[0].subPath: Invalid value: \"/y\": must be a relative path",
            ),
            (
                c(json!({"volumeMounts":[{"name":"v","mountPath":"/x","mountPropagation":"Bidirectional"}]})),
                "spec.containers[0].volumeMounts[0].mountPropagation: Forbidden: Bidirectional mount propagation is",
            ),
            (
                c(json!({"volumeMounts":[{"name":"v","mountPath":"/x","recursiveReadOnly":"Enabled"}]})),
                "spec.containers[0].volumeMounts[0].recursiveReadOnly: Forbidden: may only be specified when readOnly is true",
            ),
            (
                c(json!({"livenessProbe":{}})),
                "spec.containers[0].livenessProbe: Required value: must specify a handler type",
            ),
            (
                c(json!({"livenessProbe":{"tcpSocket":{"port":80},"successThreshold":2}})),
                "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
            ),
            (
                c(json!({"readinessProbe":{"httpGet":{"port":80},"exec":{"command":["x"]}}})),
                "spec.containers[0].readinessProbe.httpGet: Forbidden: may not specify more than 1 handler type",
            ),
            (
                c(json!({"readinessProbe":{"httpGet":{"port":"Web!"}}})),
                "spec.containers[0].readinessProbe.httpGet.port: Invalid value: \"Web!\": must contain only",
            ),
            (
                c(json!({"startupProbe":{"tcpSocket":{"port":1},"periodSeconds":-1}})),
                "spec.containers[0].startupProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                c(json!({"resources":{"limits":{"cpu":"1"},"requests":{"cpu":"2"}}})),
                "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
            ),
            (
                c(json!({"securityContext":{"runAsUser":-1}})),
                "spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 4294967295, inclusive",
            ),
            (
                s(json!({"initContainers":[{"name":"a","image":"x"}]})),
                "spec.initContainers[0].name: Duplicate value: \"a\"",
            ),
            (
                s(json!({"initContainers":[{"name":"i","image":"x","livenessProbe":{"tcpSocket":{"port":1}}}]})),
                "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without",
            ),
            (
                s(json!({"restartPolicy":"Sometimes"})),
                "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
            ),
            (s(json!({"dnsPolicy":"X"})), "spec.dnsPolicy: Unsupported value: \"X\""),
            (s(json!({"hostname":"a.b"})), "spec.hostname: Invalid value: \"a.b\": must not contain dots"),
            (s(json!({"subdomain":"A"})), "spec.subdomain: Invalid value: \"A\": a lowercase RFC 1123 label"),
            (s(json!({"nodeSelector":{"a":"b c"}})), "spec.nodeSelector: Invalid value: \"b c\": a valid label must"),
            (
                s(json!({"activeDeadlineSeconds":0})),
                "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647",
            ),
            (s(json!({"serviceAccountName":"A"})), "spec.serviceAccountName: Invalid value: \"A\""),
            (s(json!({"volumes":[{"name":"v"},{"name":"v"}]})), "spec.volumes[1].name: Duplicate value: \"v\""),
            (
                s(json!({"volumes":[{"name":"v","emptyDir":{},"secret":{"secretName":"s"}}]})),
                "spec.volumes[0].secret: Forbidden: may not specify more than 1 volume type",
            ),
            (
                s(json!({"volumes":[{"name":"v","emptyDir":{"sizeLimit":"-1"}}]})),
                "spec.volumes[0].emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity",
            ),
            (
                s(
                    json!({"volumes":[{"name":"v","secret":{"secretName":"s","items":[{"key":"k","path":"a/../../x"}]}}]}),
                ),
                "spec.volumes[0].secret.items[0].path: Invalid value: \"a/../../x\": must not contain '..'",
            ),
            (
                s(json!({"volumes":[{"name":"v","configMap":{"name":"m","items":[{"key":"k","path":"..data"}]}}]})),
                "spec.volumes[0].configMap.items[0].path: Invalid value: \"..data\": must not start with '..'",
            ),
            (
                s(json!({"serviceAccountName":"a",
                    "volumes":[{"name":"v","projected":{"sources":[{"serviceAccountToken":{"path":"/t"}}]}}]})),
                "spec.volumes[0].projected.sources[0].serviceAccountToken.path: Invalid value: \"/t\": must be a relative path",
            ),
            (
                s(
                    json!({"volumes":[{"name":"v","projected":{"sources":[{"configMap":{"name":"m","items":[{"key":"k","path":"t"}]}},
                    {"secret":{"name":"s","items":[{"key":"k","path":"t"}]}}]}}]}),
                ),
                "spec.volumes[0].projected: Invalid value: \"s\": conflicting duplicate paths",
            ),
            (
                s(json!({"volumes":[{"name":"v","downwardAPI":{"items":[
                    {"path":"x","resourceFieldRef":{"resource":"limits.cpu"}}]}}]})),
                "spec.volumes[0].downwardAPI.items[0].resourceFieldRef.containerName: Required value",
            ),
            (
                s(json!({"volumes":[{"name":"v","downwardAPI":{"items":[
                    {"path":"x","resourceFieldRef":{"containerName":"c","resource":"limits.cpu","divisor":"2"}}]}}]})),
                "spec.volumes[0].downwardAPI.items[0].resourceFieldRef.divisor: Invalid value: \"limits.cpu\": only divisor's values 1m and 1 are supported with the cpu resource",
            ),
            (s(json!({"volumes":[{"name":"v","configMap":{}}]})), "spec.volumes[0].configMap.name: Required value"),
            (
                s(json!({"volumes":[{"name":"v","configMap":{"name":"c","defaultMode":512}}]})),
                "spec.volumes[0].configMap.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal)",
            ),
            (
                s(json!({"tolerations":[{"value":"x"}]})),
                "spec.tolerations[0].operator: Invalid value: \"\": operator must be Exists when `key` is empty",
            ),
            (
                s(json!({"tolerations":[{"key":"a","operator":"Exists","value":"x"}]})),
                "spec.tolerations[0].operator: Invalid value: \"x\": value must be empty when `operator` is 'Exists'",
            ),
            (
                s(json!({"tolerations":[{"key":"a","tolerationSeconds":3,"effect":"NoSchedule"}]})),
                "spec.tolerations[0].effect: Invalid value: \"NoSchedule\": effect must be 'NoExecute' when",
            ),
            (
                s(json!({"hostAliases":[{"ip":"x"}]})),
                "spec.hostAliases[0].ip: Invalid value: \"x\": must be a valid IP address",
            ),
            (
                s(json!({"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{}}}})),
                "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: \
                 must have at least one node selector term",
            ),
            (
                s(
                    json!({"topologySpreadConstraints":[{"maxSkew":0,"topologyKey":"k","whenUnsatisfiable":"DoNotSchedule"}]}),
                ),
                "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
            ),
        ],
    );
}

#[test]
fn of_resources() {
    let with = |r: Value| errors("pods", json!({"spec":{"containers":[{"name":"a","image":"x","resources":r}]}}));
    let at = |kind: &str, rest: &str| format!("spec.containers[0].resources.{kind}{rest}");
    assert_eq!(
        with(json!({"limits":{"memory":"-1"}})),
        [
            at("limits", "[memory]: Invalid value: \"-1\": must be greater than or equal to 0"),
            at("requests", "[memory]: Invalid value: \"-1\": must be greater than or equal to 0")
        ]
    );
    assert_eq!(
        with(json!({"requests":{"copepods":"1"}})),
        [
            at(
                "requests",
                "[copepods]: Invalid value: \"copepods\": must be a standard resource type or fully qualified"
            ),
            at("requests", "[copepods]: Invalid value: \"copepods\": must be a standard resource for containers")
        ]
    );
    assert!(with(json!({"limits":{"example.com/gpu":"1"}})).is_empty());
    assert_eq!(with(json!({"limits":{"example.com/gpu":"500m"}})).len(), 2);
    assert_eq!(
        with(json!({"limits":{"example.com/gpu":"2"},"requests":{"example.com/gpu":"1"}})),
        [at("requests", ": Invalid value: \"1\": must be equal to example.com/gpu limit of 2")]
    );
}

#[test]
fn of_services() {
    let s = |extra: Value| {
        let mut s = json!({"ports":[{"port":80}]});
        s.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({ "spec": s })
    };
    each(
        "services",
        &[
            (json!({"spec":{}}), "spec.ports: Required value"),
            (s(json!({"ports":[{"port":0,"targetPort":1}]})), "spec.ports[0].port: Invalid value: 0: must be between"),
            (s(json!({"ports":[{"port":1,"name":"a"},{"port":2}]})), "spec.ports[1].name: Required value"),
            (
                s(json!({"ports":[{"port":1,"name":"a"},{"port":1,"name":"b"}]})),
                "spec.ports[1]: Duplicate value: {\"port\":1,\"protocol\":\"TCP\"}",
            ),
            (
                s(json!({"ports":[{"port":1,"nodePort":30000}]})),
                "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
            ),
            (
                s(json!({"type":"Weird"})),
                "spec.type: Unsupported value: \"Weird\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \
                 \"NodePort\"",
            ),
            (s(json!({"type":"ExternalName"})), "spec.externalName: Required value"),
            (
                s(json!({"type":"NodePort","clusterIP":"None","clusterIPs":["None"]})),
                "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services",
            ),
            (
                s(json!({"clusterIP":"x","clusterIPs":["x"]})),
                "spec.clusterIPs[0]: Invalid value: \"x\": must be a valid IP",
            ),
            (
                s(json!({"clusterIP":"10.96.0.9","clusterIPs":["10.96.0.8"]})),
                "spec.clusterIPs: Invalid value: [\"10.96.0.8\"]: first",
            ),
            (s(json!({"selector":{"a b":"c"}})), "spec.selector: Invalid value: \"a b\""),
            (s(json!({"sessionAffinity":"X"})), "spec.sessionAffinity: Unsupported value: \"X\""),
            (
                s(json!({"trafficDistribution":"Near"})),
                "spec.trafficDistribution: Unsupported value: \"Near\": supported values: \"PreferClose\", \
                 \"PreferSameNode\", \"PreferSameZone\"",
            ),
        ],
    );
    let headless = json!({"spec":{"clusterIP":"None","clusterIPs":["None"]}});
    assert!(errors("services", headless).is_empty(), "headless without ports");
}

#[test]
fn of_workloads() {
    let d = |extra: Value| {
        let mut d = samples()["deployments.apps"].clone();
        d["spec"].as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        d
    };
    each(
        "deployments.apps",
        &[
            (d(json!({"replicas":-1})), "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
            (d(json!({"selector":{}})), "spec.selector: Invalid value: {}: empty selector is invalid for deployment"),
            (
                d(json!({"selector":{"matchLabels":{"app":"x"}}})),
                "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
            ),
            (
                d(json!({"strategy":{"type":"Recreate","rollingUpdate":{}}})),
                "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
            ),
            (
                d(json!({"strategy":{"rollingUpdate":{"maxSurge":0,"maxUnavailable":"0%"}}})),
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0",
            ),
            (
                d(json!({"strategy":{"rollingUpdate":{"maxSurge":"x"}}})),
                "spec.strategy.rollingUpdate.maxSurge: Invalid value: \"x\": a valid percent string",
            ),
            (
                d(json!({"strategy":{"type":"X"}})),
                "spec.strategy: Unsupported value: {\"type\":\"X\"}: supported values: \"Recreate\", \"RollingUpdate\"",
            ),
            (
                d(json!({"minReadySeconds":600})),
                "spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds",
            ),
            (
                d(json!({"template":{"metadata":{"labels":{"app":"web"}},
                    "spec":{"restartPolicy":"Never","containers":[{"name":"a","image":"x"}]}}})),
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
            ),
            (
                d(json!({"template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"a"}]}}})),
                "spec.template.spec.containers[0].image: Required value",
            ),
        ],
    );
}

#[test]
fn of_ingresses() {
    let path = |p: Value| json!({"spec":{"rules":[{"http":{"paths":[p]}}]}});
    let to = json!({"service":{"name":"web","port":{"number":80}}});
    each(
        "ingresses.networking.k8s.io",
        &[
            (json!({"spec":{}}), "spec: Invalid value: []: either `defaultBackend` or `rules` must be specified"),
            (
                json!({"spec":{"rules":[{"host":"1.2.3.4"}]}}),
                "spec.rules[0].host: Invalid value: \"1.2.3.4\": must be a DNS name",
            ),
            (json!({"spec":{"rules":[{"host":"*.*.a"}]}}), "spec.rules[0].host: Invalid value: \"*.*.a\": a wildcard"),
            (json!({"spec":{"rules":[{"http":{}}]}}), "spec.rules[0].http.paths: Required value"),
            (
                path(json!({"path":"/","backend":to})),
                "spec.rules[0].http.paths[0].pathType: Required value: pathType must be",
            ),
            (
                path(json!({"path":"a","pathType":"Exact","backend":to})),
                "spec.rules[0].http.paths[0].path: Invalid value: \"a\": must be an absolute path",
            ),
            (
                path(json!({"path":"/a//b","pathType":"Prefix","backend":to})),
                "spec.rules[0].http.paths[0].path: Invalid value: \"/a//b\": must not contain '//'",
            ),
            (
                path(json!({"path":"/","pathType":"Regex","backend":to})),
                "spec.rules[0].http.paths[0].pathType: Unsupported value: \"Regex\"",
            ),
            (
                path(json!({"path":"/","pathType":"Prefix"})),
                "spec.rules[0].http.paths[0].backend: Invalid value: \"\": resource or service backend is required",
            ),
            (
                path(json!({"path":"/","pathType":"Prefix","backend":{"service":{"name":"web"}}})),
                "spec.rules[0].http.paths[0].backend: Required value: port name or number is required",
            ),
            (
                json!({"spec":{"defaultBackend":to,"tls":[{"hosts":["A"]}]}}),
                "spec.tls[0].hosts[0]: Invalid value: \"A\": a lowercase",
            ),
        ],
    );
    each(
        "ingressclasses.networking.k8s.io",
        &[
            (json!({"spec":{}}), "spec.controller: Required value"),
            (
                json!({"spec":{"controller":"x"}}),
                "spec.controller: Invalid value: \"x\": must be a domain-prefixed path",
            ),
        ],
    );
}

#[test]
fn of_network_policies() {
    let port = |p: Value| json!({"spec":{"podSelector":{},"ingress":[{"ports":[p]}]}});
    let peer = |p: Value| json!({"spec":{"podSelector":{},"egress":[{},{"to":[p]}]}});
    let block = |cidr: &str, except: &str| peer(json!({"ipBlock":{"cidr":cidr,"except":[except]}}));
    let strict = "must be a strict subset of `cidr`";
    for bad in ["11.0.0.0/9", "10.0.0.0/8", "0.0.0.0/0", "::/96"] {
        let got = errors("networkpolicies.networking.k8s.io", block("10.0.0.0/8", bad));
        assert_eq!(got, [format!("spec.egress[1].to[0].ipBlock.except[0]: Invalid value: \"{bad}\": {strict}")]);
    }
    for good in [
        block("10.1.2.3/8", "10.255.0.1/9"),
        block("::/0", "2001:db8::/32"),
        port(json!({})),
        port(json!({"port":1,"endPort":1})),
    ] {
        assert_eq!(errors("networkpolicies.networking.k8s.io", good), Vec::<String>::new());
    }
    each(
        "networkpolicies.networking.k8s.io",
        &[
            (
                json!({"spec":{"podSelector":{"matchLabels":{"a b":"c"}}}}),
                "spec.podSelector.matchLabels: Invalid value: \"a b\": name part must",
            ),
            (
                json!({"spec":{"podSelector":{},"policyTypes":["Ingress","Egress","Ingress"]}}),
                "spec.policyTypes: Invalid value: [\"Ingress\",\"Egress\",\"Ingress\"]: may not specify more than two policyTypes",
            ),
            (
                json!({"spec":{"podSelector":{},"policyTypes":["Ingress","egress"]}}),
                "spec.policyTypes[1]: Unsupported value: \"egress\": supported values: \"Ingress\", \"Egress\"",
            ),
            (
                port(json!({"protocol":"ICMP"})),
                "spec.ingress[0].ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"TCP\", \"UDP\", \"SCTP\"",
            ),
            (
                port(json!({"port":70000})),
                "spec.ingress[0].ports[0].port: Invalid value: 70000: must be between 1 and 65535",
            ),
            (port(json!({"port":"A"})), "spec.ingress[0].ports[0].port: Invalid value: \"A\": must contain only"),
            (
                port(json!({"port":9,"endPort":8})),
                "spec.ingress[0].ports[0].endPort: Invalid value: 9: must be greater than or equal to `port`",
            ),
            (
                port(json!({"port":9,"endPort":70000})),
                "spec.ingress[0].ports[0].endPort: Invalid value: 70000: must be between 1 and 65535",
            ),
            (
                port(json!({"port":"web","endPort":8})),
                "spec.ingress[0].ports[0].endPort: Invalid value: 8: may not be specified when `port` is non-numeric",
            ),
            (
                port(json!({"endPort":8})),
                "spec.ingress[0].ports[0].endPort: Invalid value: 8: may not be specified when `port` is not specified",
            ),
            (peer(json!({})), "spec.egress[1].to[0]: Required value: must specify a peer"),
            (
                peer(json!({"podSelector":{},"ipBlock":{"cidr":"10.0.0.0/8"}})),
                "spec.egress[1].to[0]: Forbidden: may not specify both ipBlock and another peer",
            ),
            (
                peer(json!({"namespaceSelector":{"matchExpressions":[{"key":"a","operator":"In"}]}})),
                "spec.egress[1].to[0].namespaceSelector.matchExpressions[0].values: Required value: must be specified when",
            ),
            (peer(json!({"ipBlock":{}})), "spec.egress[1].to[0].ipBlock.cidr: Required value"),
            (
                peer(json!({"ipBlock":{"cidr":"10.0.0.0"}})),
                "spec.egress[1].to[0].ipBlock.cidr: Invalid value: \"10.0.0.0\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            ),
            (
                block("10.0.0.0/8", "10.0.0.0/33"),
                "spec.egress[1].to[0].ipBlock.except[0]: Invalid value: \"10.0.0.0/33\": must be a valid CIDR value",
            ),
        ],
    );
}

#[test]
fn of_rbac() {
    let rule = |r: Value| json!({ "rules": [r] });
    each(
        "roles.rbac.authorization.k8s.io",
        &[
            (
                rule(json!({"apiGroups":[""],"resources":["pods"]})),
                "rules[0].verbs: Required value: verbs must contain at least",
            ),
            (
                rule(json!({"verbs":["get"],"resources":["pods"]})),
                "rules[0].apiGroups: Required value: resource rules must",
            ),
            (
                rule(json!({"verbs":["get"],"apiGroups":[""]})),
                "rules[0].resources: Required value: resource rules must",
            ),
            (
                rule(json!({"verbs":["get"],"nonResourceURLs":["/x"]})),
                "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs",
            ),
        ],
    );
    assert!(
        errors("clusterroles.rbac.authorization.k8s.io", rule(json!({"verbs":["get"],"nonResourceURLs":["/x"]})))
            .is_empty()
    );
    let mut both = rule(json!({"verbs":["get"],"nonResourceURLs":["/x"],"resources":["pods"]}));
    let mixed = "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: rules cannot apply to both regular resources and non-resource URLs";
    assert_eq!(errors("clusterroles.rbac.authorization.k8s.io", both.clone()), [mixed]);
    both["rules"][0]["resources"] = json!([]);
    both["rules"][0]["resourceNames"] = json!(["a"]);
    assert_eq!(
        errors("roles.rbac.authorization.k8s.io", both),
        [
            "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs",
            mixed,
        ]
    );
    let binding = |role: &str, subject: Value| json!({"roleRef":{"kind":role,"name":"r"},"subjects":[subject]});
    let user = json!({"kind":"User","name":"u"});
    each(
        "clusterrolebindings.rbac.authorization.k8s.io",
        &[
            (
                binding("Role", user.clone()),
                "roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\"",
            ),
            (binding("ClusterRole", json!({"kind":"Dog","name":"d"})), "subjects[0].kind: Unsupported value: \"Dog\""),
            (
                binding("ClusterRole", json!({"kind":"ServiceAccount","name":"d"})),
                "subjects[0].namespace: Required value",
            ),
        ],
    );
    for (kind, word) in [("User", "user"), ("Group", "group")] {
        assert_eq!(
            errors("rolebindings.rbac.authorization.k8s.io", binding("Role", json!({"kind":kind}))),
            [
                "subjects[0].name: Required value".to_string(),
                format!("subjects[0].name: Invalid value: \"\": {word} name cannot be empty"),
            ]
        );
    }
    assert!(errors("rolebindings.rbac.authorization.k8s.io", binding("Role", user)).is_empty());
}

#[test]
fn of_the_rest() {
    each(
        "configmaps",
        &[
            (json!({"data":{"a b":""}}), "data[a b]: Invalid value: \"a b\": a valid config key"),
            (
                json!({"data":{"a":""},"binaryData":{"a":""}}),
                "data[a]: Invalid value: \"a\": duplicate of key present in binaryData",
            ),
            (json!({"data":{"a":"x".repeat(1_100_000)}}), ": Too long: may not be more than 1048576 bytes"),
        ],
    );
    each(
        "secrets",
        &[
            (json!({"data":{"..":""}}), "data[..]: Invalid value: \"..\": must not be '..'"),
            (json!({"type":"kubernetes.io/tls","data":{"tls.crt":"eA=="}}), "data[tls.key]: Required value"),
            (json!({"type":"kubernetes.io/ssh-auth"}), "data[ssh-privatekey]: Required value"),
            (
                json!({"type":"kubernetes.io/dockerconfigjson","stringData":{".dockerconfigjson":"{"}}),
                "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": ",
            ),
            (
                json!({"type":"kubernetes.io/service-account-token"}),
                "metadata.annotations[kubernetes.io/service-account.name]: Required value",
            ),
        ],
    );
    each(
        "events",
        &[(
            json!({"metadata":{"namespace":"a"},"involvedObject":{"namespace":"b"}}),
            "involvedObject.namespace: Invalid value: \"b\": does not match event.namespace",
        )],
    );
    each(
        "nodes",
        &[
            (json!({"spec":{"taints":[{"key":"a"}]}}), "spec.taints[0].effect: Required value"),
            (
                json!({"spec":{"taints":[{"key":"a","effect":"NoSchedule"},{"key":"a","effect":"NoSchedule"}]}}),
                "spec.taints[1]: Duplicate value: {\"effect\":\"NoSchedule\",\"key\":\"a\"}: taints must be unique by key and",
            ),
        ],
    );
    each(
        "leases.coordination.k8s.io",
        &[
            (
                json!({"spec":{"leaseDurationSeconds":0}}),
                "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
            ),
            (
                json!({"spec":{"leaseTransitions":-1}}),
                "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                json!({"spec":{"strategy":"Best"}}),
                "spec.strategy.strategy: Unsupported value: \"Best\": supported values: \"OldestEmulationVersion\"",
            ),
            (
                json!({"spec":{"strategy":"a.b/c/d"}}),
                "spec.strategy.strategy: Invalid value: \"a.b/c/d\": a qualified name must",
            ),
            (
                json!({"spec":{"preferredHolder":"a"}}),
                "spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined",
            ),
        ],
    );
    let kinds = Kinds::builtin();
    let leases = &kinds.group_resource("leases.coordination.k8s.io").unwrap().strategy;
    let chosen = json!({"spec":{"holderIdentity":"a","strategy":"a.b/c","preferredHolder":"b"}});
    assert_eq!(errors("leases.coordination.k8s.io", chosen.clone()), Vec::<String>::new());
    // Nobody elects by them, so they are not taken anew.
    let mut lease = chosen.clone();
    leases.prepare_create(&mut lease);
    assert_eq!(lease, json!({"spec":{"holderIdentity":"a"}}));
    let mut lease = chosen.clone();
    leases.prepare_update(&mut lease, &chosen);
    assert_eq!(lease, chosen);
    let slice = |kind: &str, address: &str| json!({"addressType":kind,"endpoints":[{"addresses":[address]}]});
    let hinted = |hints: Value| json!({"addressType":"IPv4","endpoints":[{"addresses":["10.244.0.5"],"hints":hints}]});
    each(
        "endpointslices.discovery.k8s.io",
        &[
            (json!({}), "addressType: Required value"),
            (
                slice("IPv4", "127.0.0.1"),
                "endpoints[0].addresses[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range",
            ),
            (slice("IPv4", "::1"), "endpoints[0].addresses[0]: Invalid value: \"::1\": must be an IPv4 address"),
            (slice("X", "a"), "addressType: Unsupported value: \"X\": supported values: \"FQDN\", \"IPv4\", \"IPv6\""),
            (json!({"addressType":"IPv4","ports":[{"port":1},{"port":2}]}), "ports[1].name: Duplicate value: \"\""),
            (
                hinted(json!({"forZones":[{"name":"a"},{"name":"a"}]})),
                "endpoints[0].hints.forZones[1].name: Duplicate value: \"a\"",
            ),
            (hinted(json!({"forZones":[{"name":"-"}]})), "endpoints[0].hints.forZones[0].name: Invalid value: \"-\""),
            (
                hinted(json!({"forNodes":vec![json!({"name":"n"}); 9]})),
                "endpoints[0].hints.forNodes: Too many: 9: must have at most 8 items",
            ),
        ],
    );
    let at = |ip: &str, port: Value| json!({"subsets":[{"addresses":[{"ip":ip}],"ports":[port]}]});
    let ok = json!({"port":80});
    let address = |a: Value| json!({"subsets":[{"notReadyAddresses":[a]}]});
    each(
        "endpoints",
        &[
            (json!({"subsets":[{}]}), "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"),
            (at("", ok.clone()), "subsets[0].addresses[0].ip: Invalid value: \"\": must be a valid IP address"),
            (
                at("0.0.0.0", ok.clone()),
                "subsets[0].addresses[0].ip: Invalid value: \"0.0.0.0\": may not be unspecified (0.0.0.0)",
            ),
            (
                at("127.0.0.9", ok.clone()),
                "subsets[0].addresses[0].ip: Invalid value: \"127.0.0.9\": may not be in the loopback range (127.0.0.0/8, \
                 ::1/128)",
            ),
            (
                at("fe80::1", ok.clone()),
                "subsets[0].addresses[0].ip: Invalid value: \"fe80::1\": may not be in the link-local r",
            ),
            (
                at("224.0.0.7", ok),
                "subsets[0].addresses[0].ip: Invalid value: \"224.0.0.7\": may not be in the link-local multicast range",
            ),
            (
                address(json!({"ip":"10.0.0.1","hostname":"a.b"})),
                "subsets[0].notReadyAddresses[0].hostname: Invalid value: \"a.b\": must not contain dots",
            ),
            (
                address(json!({"ip":"10.0.0.1","nodeName":"A"})),
                "subsets[0].notReadyAddresses[0].nodeName: Invalid value: \"A\": a lowercase RFC 1123 subdomain",
            ),
            (at("10.0.0.1", json!({})), "subsets[0].ports[0].port: Invalid value: 0: must be between 1 and 65535"),
            (
                at("10.0.0.1", json!({"port":1,"name":"A"})),
                "subsets[0].ports[0].name: Invalid value: \"A\": a lowercase RFC 1123 label",
            ),
            (
                at("10.0.0.1", json!({"port":1,"protocol":"ICMP"})),
                "subsets[0].ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            ),
            (
                at("10.0.0.1", json!({"port":1,"appProtocol":"a b"})),
                "subsets[0].ports[0].appProtocol: Invalid value: \"a b\": name part must consist",
            ),
            (
                json!({"subsets":[{"addresses":[{"ip":"10.0.0.1"}],"ports":[{"port":1,"name":"a"},{"port":2}]}]}),
                "subsets[0].ports[1].name: Required value",
            ),
        ],
    );
}

#[test]
fn of_names() {
    let kinds = Kinds::builtin();
    for (resource, name, ok) in [
        ("services", "1a", false),
        ("services", "web", true),
        ("namespaces", "a.b", false),
        ("pods", "a.b", true),
        ("clusterroles.rbac.authorization.k8s.io", "system:node", true),
        ("clusterroles.rbac.authorization.k8s.io", "a/b", false),
    ] {
        assert_eq!(
            kinds.group_resource(resource).unwrap().strategy.validate_name(name).is_ok(),
            ok,
            "{resource} {name}"
        );
    }
}
