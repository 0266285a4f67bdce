//! Ingresses, their classes and EndpointSlices, beside what `rules.rs` has of them.

use super::storage::each;
use super::*;

const INGRESSES: &str = "ingresses.networking.k8s.io";
const CLASSES: &str = "ingressclasses.networking.k8s.io";
const SLICES: &str = "endpointslices.discovery.k8s.io";

#[test]
fn of_backends_and_paths() {
    let path = |p: Value| json!({"spec":{"rules":[{"http":{"paths":[p]}}]}});
    let to = |backend: Value| json!({"spec":{"defaultBackend":backend}});
    let service = json!({"service":{"name":"web","port":{"number":80}}});
    let tls = |secret: &str| json!({"spec":{"defaultBackend":service,"tls":[{"secretName":secret}]}});
    each(
        INGRESSES,
        &[
            // Nothing more is said of a path without a type.
            (
                path(json!({"path":"a"})),
                "spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified",
            ),
            (
                path(json!({"pathType":"Exact","backend":service})),
                "spec.rules[0].http.paths[0].path: Invalid value: \"\": must be an absolute path",
            ),
            (
                path(json!({"path":"/a/..","pathType":"Exact","backend":service})),
                "spec.rules[0].http.paths[0].path: Invalid value: \"/a/..\": cannot end with '/..'",
            ),
            (
                to(json!({"service":{"name":"web","port":{"number":80,"name":"http"}}})),
                "spec.defaultBackend: Invalid value: \"\": cannot set both port name & port number",
            ),
            (
                to(json!({"service":{"name":"1web","port":{"number":80}}})),
                "spec.defaultBackend.service.name: Invalid value: \"1web\": a DNS-1035 label must consist of",
            ),
            (
                to(json!({"service":{"name":"web","port":{"number":65536}}})),
                "spec.defaultBackend.service.port.number: Invalid value: 65536: must be between 1 and 65535, inclusive",
            ),
            (
                to(json!({"resource":{"apiGroup":"A","kind":"K","name":"n"}})),
                "spec.defaultBackend.resource.apiGroup: Invalid value: \"A\": a lowercase RFC 1123 subdomain",
            ),
            (
                to(json!({"resource":{"kind":"K","name":"a/b"}})),
                "spec.defaultBackend.resource.name: Invalid value: \"a/b\": may not contain '/'",
            ),
            (tls("A"), "spec.tls[0].secretName: Invalid value: \"A\": a lowercase RFC 1123 subdomain"),
        ],
    );
    for good in [
        tls(""),
        tls("web-tls"),
        to(json!({"resource":{"apiGroup":"a.b","kind":"K","name":"n"}})),
        path(json!({"pathType":"ImplementationSpecific","backend":service})),
    ] {
        assert_eq!(errors(INGRESSES, good.clone()), Vec::<String>::new(), "{good}");
    }
}

#[test]
fn of_an_ingress_class_by_annotation() {
    let kinds = Kinds::builtin();
    let strategy = &kinds.group_resource(INGRESSES).unwrap().strategy;
    let errors = |class: Value| {
        let object =
            json!({"metadata":{"annotations":{"kubernetes.io/ingress.class":"a"}},"spec":{"ingressClassName":class}});
        let mut errors = Vec::new();
        strategy.validate_create(&object, &mut errors);
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(errors(Value::Null).is_empty() && errors(json!("a")).is_empty());
    let why = "must match `ingressClassName` when both are specified";
    assert_eq!(errors(json!("b")), [format!("annotations.kubernetes.io/ingress.class: Invalid value: \"a\": {why}")]);
    let mut wrong = Vec::new();
    let status = json!({"status":{"loadBalancer":{"ingress":[{"ip":"x"},{"hostname":"a.b"}]}}});
    strategy.validate_status(&status, &Value::Null, &mut wrong);
    assert_eq!((wrong.len(), wrong[0].field.as_str()), (1, "status.loadBalancer.ingress[0].ip"));
}

#[test]
fn of_the_parameters_of_classes() {
    let with = |change: Value| {
        let mut parameters = json!({"kind":"K","name":"n"});
        crate::schema::merge_patch::merge_patch(&mut parameters, change);
        json!({"spec":{"controller":"a.b/c","parameters":parameters}})
    };
    let at = "spec.parameters";
    let cases = [
        (with(json!({"kind":null})), ".kind: Required value"),
        (with(json!({"name":"a%b"})), ".name: Invalid value: \"a%b\": may not contain '%'"),
        (
            with(json!({"scope":"World"})),
            ".scope: Unsupported value: \"World\": supported values: \"Cluster\", \"Namespace\"",
        ),
        (with(json!({"scope":"Namespace"})), ".namespace: Required value: `parameters.scope` is set to 'Namespace'"),
        (
            with(json!({"scope":"Namespace","namespace":"a.b"})),
            ".namespace: Invalid value: \"a.b\": must not contain dots",
        ),
        (with(json!({"namespace":"a"})), ".namespace: Forbidden: `parameters.scope` is set to 'Cluster'"),
    ];
    for (object, want) in cases {
        each(CLASSES, &[(object, format!("{at}{want}").as_str())]);
    }
    for good in [with(json!({"apiGroup":"a.b"})), with(json!({"scope":"Namespace","namespace":"a"}))] {
        assert_eq!(errors(CLASSES, good.clone()), Vec::<String>::new(), "{good}");
    }
}

#[test]
fn of_endpoint_slices() {
    let named = |name: &str| json!({"addressType":"FQDN","endpoints":[{"addresses":[name]}]});
    let port = json!({"addressType":"IPv4","ports":[{"port":80,"appProtocol":"a b"}]});
    each(
        SLICES,
        &[
            (
                named("a"),
                "endpoints[0].addresses[0]: Invalid value: \"a\": should be a domain with at least two segments",
            ),
            (named("A.b"), "endpoints[0].addresses[0]: Invalid value: \"A.b\": a lowercase RFC 1123 subdomain must"),
            (named(""), "endpoints[0].addresses[0]: Required value"),
            (port, "ports[0].appProtocol: Invalid value: \"a b\": name part must consist of"),
        ],
    );
    assert_eq!(errors(SLICES, named("a.b.")), Vec::<String>::new());
}
