//! Small objects of kinds whose fields are of all sorts.

/// Objects as their creators write them.
pub(crate) const OBJECTS: &[&str] = &[
    r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"pod","labels":{"a":"b"},"annotations":{"x/y":"z"}},"spec":{"restartPolicy":"Always","terminationGracePeriodSeconds":0,"tolerations":[{"key":"k","operator":"Exists","effect":"NoExecute","tolerationSeconds":0}],"initContainers":[{"name":"i","image":"i"}],"containers":[{"name":"c","image":"i:1","args":["a"],"ports":[{"containerPort":80,"name":"http"}],"env":[{"name":"E","value":""},{"name":"F","valueFrom":{"configMapKeyRef":{"name":"m","key":"k","optional":true}}}],"resources":{"limits":{"cpu":"500m","memory":"1.5Gi"}},"livenessProbe":{"httpGet":{"path":"/","port":"http"},"periodSeconds":5},"volumeMounts":[{"name":"v","mountPath":"/v"}]}],"volumes":[{"name":"v","emptyDir":{"sizeLimit":"1Mi"}},{"name":"p","projected":{"sources":[{"downwardAPI":{"items":[{"path":"p","fieldRef":{"fieldPath":"metadata.name"}}]}}]}}]}}"#,
    r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"deployment"},"spec":{"replicas":0,"strategy":{"rollingUpdate":{"maxSurge":"25%","maxUnavailable":1}},"selector":{"matchLabels":{"a":"b"},"matchExpressions":[{"key":"c","operator":"NotIn","values":["d"]}]},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}],"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"n","operator":"Gt","values":["1"]}]}]}}}}}}}"#,
    r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"service"},"spec":{"type":"NodePort","selector":{"a":"b"},"ports":[{"port":80,"targetPort":"http","protocol":"TCP","name":"http"},{"port":53,"protocol":"UDP","name":"dns"}],"sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":10}}}}"#,
    r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"config"},"data":{"a":"1","b":"on"},"binaryData":{"c":"3q2+7w=="},"immutable":false}"#,
    r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"secret"},"type":"Opaque","data":{"a":"YQ=="},"stringData":{"b":"c"}}"#,
    r#"{"apiVersion":"batch/v1","kind":"CronJob","metadata":{"name":"cron"},"spec":{"schedule":"*/5 1-3 * jan mon-fri","timeZone":"Etc/UTC","concurrencyPolicy":"Forbid","jobTemplate":{"spec":{"completions":2,"parallelism":1,"completionMode":"Indexed","backoffLimitPerIndex":1,"podFailurePolicy":{"rules":[{"action":"FailIndex","onExitCodes":{"operator":"In","values":[1]}}]},"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"c","image":"i"}]}}}}}}"#,
    r#"{"apiVersion":"networking.k8s.io/v1","kind":"Ingress","metadata":{"name":"ingress"},"spec":{"tls":[{"hosts":["a.test"],"secretName":"s"}],"rules":[{"host":"*.a.test","http":{"paths":[{"path":"/a","pathType":"Prefix","backend":{"service":{"name":"s","port":{"number":80}}}}]}}]}}"#,
    r#"{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"policy"},"spec":{"podSelector":{},"policyTypes":["Ingress","Egress"],"ingress":[{"from":[{"ipBlock":{"cidr":"10.0.0.0/8","except":["10.1.0.0/16"]}},{"namespaceSelector":{}}],"ports":[{"protocol":"TCP","port":80,"endPort":90}]}]}}"#,
    r#"{"apiVersion":"autoscaling/v2","kind":"HorizontalPodAutoscaler","metadata":{"name":"hpa"},"spec":{"scaleTargetRef":{"apiVersion":"apps/v1","kind":"Deployment","name":"d"},"minReplicas":1,"maxReplicas":3,"metrics":[{"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":50}}}]}}"#,
    r#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"role"},"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["get"]},{"nonResourceURLs":["/x/*"],"verbs":["*"]}]}"#,
    r#"{"apiVersion":"v1","kind":"PersistentVolume","metadata":{"name":"pv"},"spec":{"capacity":{"storage":"1Gi"},"accessModes":["ReadWriteOnce"],"hostPath":{"path":"/x"},"claimRef":{"namespace":"default","name":"c"}}}"#,
    r#"{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"slice","labels":{"kubernetes.io/service-name":"s"}},"addressType":"IPv4","endpoints":[{"addresses":["10.1.2.3"],"conditions":{"ready":true},"zone":"z"}],"ports":[{"port":80,"protocol":"TCP"}]}"#,
    r#"{"apiVersion":"v1","kind":"Event","metadata":{"name":"event","namespace":"default"},"involvedObject":{"kind":"Pod","namespace":"default","name":"p"},"reason":"R","message":"m","type":"Normal","count":1,"firstTimestamp":"2026-01-02T03:04:05Z","eventTime":"2026-01-02T03:04:05.000006Z","action":"A","reportingComponent":"a/b","reportingInstance":"i"}"#,
    r#"{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"lease"},"spec":{"holderIdentity":"h","leaseDurationSeconds":40,"renewTime":"2026-01-02T03:04:05.000006Z"}}"#,
    r#"{"apiVersion":"apps/v1","kind":"StatefulSet","metadata":{"name":"stateful"},"spec":{"serviceName":"s","replicas":1,"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}},"volumeClaimTemplates":[{"metadata":{"name":"d"},"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}}}],"updateStrategy":{"rollingUpdate":{"partition":1}}}}"#,
    r#"{"apiVersion":"apps/v1","kind":"ControllerRevision","metadata":{"name":"revision"},"revision":1,"data":{"spec":{"x":[1,-2.5,{"y":null}]}}}"#,
];

/// Objects of kinds that are read and not created.
pub(crate) const OTHERS: &[&str] = &[
    r#"{"apiVersion":"metrics.k8s.io/v1beta1","kind":"PodMetrics","metadata":{"name":"p"},"timestamp":"2026-01-02T03:04:05Z","window":"1m0.5s","containers":[{"name":"c","usage":{"cpu":"1500u","memory":"1Mi"}}]}"#,
    r#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"as.x.test"},"spec":{"group":"x.test","names":{"kind":"A","plural":"as"},"scope":"Namespaced","versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","maximum":1.5,"default":{"a":[1]},"items":[{"type":"string"}],"additionalProperties":false,"properties":{"spec":{"allOf":[{"not":{"type":"string"}}]}}}}}]}}"#,
    r#"{"apiVersion":"v1","kind":"DeleteOptions","gracePeriodSeconds":0,"preconditions":{"uid":"u"},"propagationPolicy":"Orphan","dryRun":["All"]}"#,
    r#"{"apiVersion":"v1","kind":"PodList","metadata":{"resourceVersion":"7"},"items":[{"metadata":{"name":"a"},"spec":{"containers":null},"status":{"startTime":"2026-01-02T03:04:05Z"}}]}"#,
];

/// The apiVersion and kind of a sample, as the first part of an input has them.
pub(crate) fn kind_of(text: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_string();
    format!("{} {}", text("apiVersion"), text("kind"))
}

/// A name for a sample's file.
pub(crate) fn name_of(text: &str) -> String {
    kind_of(text).rsplit(' ').next().unwrap_or_default().to_lowercase()
}
