//! The kinds by which a server is extended, and those of the Services' addresses.

use super::storage::{change, each, with};
use super::*;
use crate::kinds::apiregistration::api_service;

const MUTATING: &str = "mutatingwebhookconfigurations.admissionregistration.k8s.io";
const VALIDATING: &str = "validatingwebhookconfigurations.admissionregistration.k8s.io";
const POLICIES: &str = "validatingadmissionpolicies.admissionregistration.k8s.io";
const POLICY_BINDINGS: &str = "validatingadmissionpolicybindings.admissionregistration.k8s.io";
const SERVICES: &str = "apiservices.apiregistration.k8s.io";
const RANGES: &str = "servicecidrs.networking.k8s.io";
const ADDRESSES: &str = "ipaddresses.networking.k8s.io";
const ATTRIBUTES: &str = "volumeattributesclasses.storage.k8s.io";

/// The sample of a kind with one value changed has the one error.
fn broken(resource: &str, cases: &[(&str, Value, &str)]) {
    for (pointer, value, want) in cases {
        each(resource, &[(with(resource, pointer, value.clone()), *want)]);
    }
}

#[test]
fn webhooks_have_upstreams_defaults_and_rules() {
    let v = defaulted(MUTATING, samples()[MUTATING].clone());
    let hook = &v["webhooks"][0];
    for (field, want) in [
        ("failurePolicy", json!("Fail")),
        ("matchPolicy", json!("Equivalent")),
        ("namespaceSelector", json!({})),
        ("objectSelector", json!({})),
        ("timeoutSeconds", json!(10)),
        ("reinvocationPolicy", json!("Never")),
    ] {
        assert_eq!(hook[field], want, "{field}");
    }
    assert_eq!((&hook["rules"][0]["scope"], &hook["clientConfig"]["service"]["port"]), (&json!("*"), &json!(443)));
    assert_eq!(defaulted(VALIDATING, samples()[VALIDATING].clone())["webhooks"][0].get("reinvocationPolicy"), None);
    let at = "webhooks[0]";
    let cases = [
        ("name", json!(null), ".name: Required value"),
        ("name", json!("a.b"), ".name: Invalid value: \"a.b\": should be a domain with at least three segments"),
        (
            "failurePolicy",
            json!("x"),
            ".failurePolicy: Unsupported value: \"x\": supported values: \"Fail\", \"Ignore\"",
        ),
        (
            "matchPolicy",
            json!("x"),
            ".matchPolicy: Unsupported value: \"x\": supported values: \"Equivalent\", \"Exact\"",
        ),
        ("sideEffects", json!(null), ".sideEffects: Required value: must specify one of None, NoneOnDryRun"),
        ("sideEffects", json!("Some"), ".sideEffects: Unsupported value: \"Some\": supported values: \"None\", "),
        ("timeoutSeconds", json!(31), ".timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30"),
        ("clientConfig", json!({}), ".clientConfig: Required value: exactly one of url or service is required"),
        (
            "clientConfig",
            json!({"url": "http://a/b"}),
            ".clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: ",
        ),
        (
            "clientConfig",
            json!({"url": "https://u@a/b"}),
            ".clientConfig.url: Invalid value: \"u\": user information is not permitted in the URL",
        ),
        (
            "clientConfig",
            json!({"url": "https:///b"}),
            ".clientConfig.url: Invalid value: \"\": host must be specified; desired format: https://host[/path]",
        ),
        ("clientConfig", json!({"service": {"name": "s"}}), ".clientConfig.service.namespace: Required value"),
        (
            "clientConfig",
            json!({"service": {"name": "s", "namespace": "n", "path": "/a//b"}}),
            ".clientConfig.service.path: Invalid value: \"/a//b\": segment[1] may not be empty",
        ),
        (
            "clientConfig",
            json!({"service": {"name": "s", "namespace": "n", "port": 70000}}),
            ".clientConfig.service.port: Invalid value: 70000: port is not valid: must be between 1 and 65535",
        ),
        (
            "admissionReviewVersions",
            json!([]),
            ".admissionReviewVersions: Required value: must specify one of v1, v1beta1",
        ),
        (
            "admissionReviewVersions",
            json!(["v2"]),
            ".admissionReviewVersions: Invalid value: [\"v2\"]: must include at least one of v1, v1beta1",
        ),
        (
            "admissionReviewVersions",
            json!(["v1", "v1"]),
            ".admissionReviewVersions[1]: Invalid value: \"v1\": duplicate version",
        ),
        ("matchConditions", json!([{"name": "a"}]), ".matchConditions[0].expression: Required value"),
        (
            "matchConditions",
            json!([{"name": "a", "expression": "true"}, {"name": "a", "expression": "true"}]),
            ".matchConditions[1].name: Duplicate value: \"a\"",
        ),
    ];
    for resource in [MUTATING, VALIDATING] {
        for (field, value, want) in &cases {
            let (pointer, want) = (format!("/webhooks/0/{field}"), format!("{at}{want}"));
            broken(resource, &[(pointer.as_str(), value.clone(), want.as_str())]);
        }
    }
    let policy = "webhooks[0].reinvocationPolicy: Unsupported value: \"x\": supported values: \"IfNeeded\", \"Never\"";
    broken(MUTATING, &[("/webhooks/0/reinvocationPolicy", json!("x"), policy)]);
    let mut twice = samples()[VALIDATING].clone();
    let hook = twice["webhooks"][0].clone();
    twice["webhooks"] = json!([hook, hook]);
    each(VALIDATING, &[(twice, "webhooks[1].name: Duplicate value: \"a.b.c\"")]);
}

#[test]
fn rules_name_operations_and_resources_without_overlap() {
    let rule = |field: &str, value: Value, want: &str| {
        let (pointer, want) = (format!("/webhooks/0/rules/0/{field}"), format!("webhooks[0].rules[0].{want}"));
        broken(VALIDATING, &[(pointer.as_str(), value, want.as_str())]);
    };
    rule("operations", json!([]), "operations: Required value");
    rule("operations", json!(["PATCH"]), "operations[0]: Unsupported value: \"PATCH\": supported values: \"*\", ");
    let also = "if '*' is present, must not specify other";
    rule(
        "operations",
        json!(["*", "CREATE"]),
        &format!("operations: Invalid value: [\"*\",\"CREATE\"]: {also} operations"),
    );
    rule("apiGroups", json!(["*", "a"]), &format!("apiGroups: Invalid value: [\"*\",\"a\"]: {also} API groups"));
    rule("apiVersions", json!([""]), "apiVersions[0]: Required value");
    rule("scope", json!("x"), "scope: Unsupported value: \"x\": supported values: \"*\", \"Cluster\", \"Namespaced\"");
    rule("resources", json!([]), "resources: Required value");
    rule("resources", json!([""]), "resources[0]: Required value");
    rule(
        "resources",
        json!(["a/*", "a/b"]),
        "resources[1]: Invalid value: \"a/b\": if 'a/*' is present, must not specify a/b",
    );
    rule(
        "resources",
        json!(["*/b", "a/b"]),
        "resources[1]: Invalid value: \"a/b\": if '*/b' is present, must not specify a/b",
    );
    rule("resources", json!(["*/*", "a"]), "resources: Invalid value: [\"*/*\",\"a\"]: if '*/*' is present, must not");
    rule(
        "resources",
        json!(["*", "a"]),
        "resources: Invalid value: [\"*\",\"a\"]: if '*' is present, must not specify ",
    );
    assert!(errors(VALIDATING, with(VALIDATING, "/webhooks/0/rules/0/resources", json!(["*", "*/scale"]))).is_empty());
}

#[test]
fn policies_and_bindings_are_checked_as_far_as_they_are_no_expressions() {
    let v = defaulted(POLICIES, samples()[POLICIES].clone());
    let matches = json!({"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}});
    for (field, want) in matches.as_object().unwrap() {
        assert_eq!(&v["spec"]["matchConstraints"][field], want);
    }
    assert_eq!(v["spec"]["failurePolicy"], "Fail");
    broken(
        POLICIES,
        &[
            ("/spec/matchConstraints", json!(null), "spec.matchConstraints: Required value"),
            ("/spec/matchConstraints/resourceRules", json!([]), "spec.matchConstraints.resourceRules: Required value"),
            ("/spec/paramKind", json!({"kind": "A"}), "spec.paramKind.apiVersion: Required value"),
            (
                "/spec/paramKind",
                json!({"kind": "A", "apiVersion": "a/b/c"}),
                "spec.paramKind.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
            ),
            (
                "/spec/paramKind",
                json!({"kind": "A_", "apiVersion": "v1"}),
                "spec.paramKind.kind: Invalid value: \"A_\": may have mixed case, but should otherwise match: ",
            ),
            (
                "/spec/variables",
                json!([{"name": "in", "expression": "1"}]),
                "spec.variables[0].name: Invalid value: \"in\": name is not a valid CEL identifier",
            ),
            (
                "/spec/variables",
                json!([{"name": "a"}]),
                "spec.variables[0].expression: Required value: expression is not",
            ),
            (
                "/spec/validations/0/expression",
                json!(" "),
                "spec.validations[0].expression: Required value: expression is",
            ),
            (
                "/spec/validations/0/message",
                json!("a\nb"),
                "spec.validations[0].message: Invalid value: \"a\\nb\": message must not contain line breaks",
            ),
            (
                "/spec/validations/0/reason",
                json!("x"),
                "spec.validations[0].reason: Unsupported value: \"x\": supported values: \"Forbidden\", \"Invalid\", ",
            ),
            (
                "/spec/auditAnnotations",
                json!([{"key": "a", "valueExpression": " "}]),
                "spec.auditAnnotations[0].valueExpression: Required value: valueExpression is not specified",
            ),
        ],
    );
    let neither = with(POLICIES, "/spec/validations", json!([]));
    let why = "Required value: validations or auditAnnotations must contain at least one item";
    assert_eq!(
        errors(POLICIES, neither),
        [format!("spec.validations: {why}"), format!("spec.auditAnnotations: {why}")]
    );
    broken(
        POLICY_BINDINGS,
        &[
            ("/spec/policyName", json!(null), "spec.policyName: Required value"),
            (
                "/spec/validationActions",
                json!([]),
                "spec.validationActions: Required value: at least one validation action",
            ),
            ("/spec/validationActions", json!(["x"]), "spec.validationActions[0]: Unsupported value: \"x\""),
            (
                "/spec/validationActions",
                json!(["Audit", "Audit"]),
                "spec.validationActions[1]: Duplicate value: \"Audit\"",
            ),
            (
                "/spec/validationActions",
                json!(["Deny", "Warn"]),
                "spec.validationActions: Invalid value: [\"Deny\",\"Warn\"]",
            ),
            (
                "/spec/paramRef/name",
                json!(null),
                "spec.paramRef: Required value: one of name or selector must be specified",
            ),
            (
                "/spec/paramRef/parameterNotFoundAction",
                json!(null),
                "spec.paramRef.parameterNotFoundAction: Required value",
            ),
        ],
    );
    let both = with(POLICY_BINDINGS, "/spec/paramRef/selector", json!({}));
    let why = "Forbidden: name and selector are mutually exclusive";
    assert_eq!(
        errors(POLICY_BINDINGS, both),
        [format!("spec.paramRef.name: {why}"), format!("spec.paramRef.selector: {why}")]
    );
    assert_eq!(
        row(POLICIES, with(POLICIES, "/spec/paramKind", json!({"apiVersion": "v1", "kind": "A"})))[1..3],
        ["1", "v1/A"]
    );
    assert_eq!(row(POLICY_BINDINGS, samples()[POLICY_BINDINGS].clone())[1..3], ["p", "a"]);
}

#[test]
fn api_services_are_named_after_what_they_serve() {
    broken(
        SERVICES,
        &[
            (
                "/metadata/name",
                json!("x"),
                "metadata.name: Invalid value: \"x\": must be `spec.version+\".\"+spec.group`: \"v1.a.b\"",
            ),
            (
                "/spec/groupPriorityMinimum",
                json!(20001),
                "spec.groupPriorityMinimum: Invalid value: 20001: must be positive and less than 20000",
            ),
            (
                "/spec/versionPriority",
                json!(0),
                "spec.versionPriority: Invalid value: 0: must be positive and less than 1000",
            ),
            ("/spec/service/name", json!(null), "spec.service.name: Required value"),
            (
                "/spec/service/port",
                json!(0),
                "spec.service.port: Invalid value: 0: port is not valid: must be between 1 and",
            ),
        ],
    );
    let mut local = with(SERVICES, "/spec/service", json!(null));
    local["spec"]["caBundle"] = "YWJjZA==".into();
    each(SERVICES, &[(local, "spec.caBundle: Invalid value: \"4 bytes\": local APIServices may not have a caBundle")]);
    let mut both = samples()[SERVICES].clone();
    both["spec"]["caBundle"] = "YQ==".into();
    both["spec"]["insecureSkipTLSVerify"] = true.into();
    let want = "spec.insecureSkipTLSVerify: Invalid value: true: may not be true if caBundle is present";
    each(SERVICES, &[(both, want)]);
    let mut core = json!({"metadata": {"name": "v2."}, "spec": {"version": "v2", "groupPriorityMinimum": 1, "versionPriority": 1}});
    let want = "spec.group: Required value: only v1 may have an empty group and it better be legacy kube";
    each(SERVICES, &[(core.clone(), want)]);
    let kinds = Kinds::builtin();
    let strategy = &kinds.group_resource(SERVICES).unwrap().strategy;
    core["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
    strategy.prepare_create(&mut core);
    let condition = &core["status"]["conditions"][0];
    assert_eq!(
        (&condition["reason"], &condition["lastTransitionTime"]),
        (&json!("Local"), &json!("2026-01-01T00:00:00Z"))
    );
    assert_eq!(row(SERVICES, core)[1..3], ["Local", "True"]);
    assert_eq!(row(SERVICES, samples()[SERVICES].clone())[1..3], ["n/s", "Unknown"]);
}

#[test]
fn what_is_served_is_registered_and_is_valid() {
    let made: BTreeMap<String, Value> = api_service::system().into_iter().collect();
    for kind in Kinds::builtin().every_version().filter(|k| k.group != "apiregistration.k8s.io") {
        let name = format!("{}.{}", kind.version, kind.group);
        assert!(made.contains_key(&name), "{name}");
    }
    for (name, object) in made {
        assert_eq!(object["metadata"]["name"], name.as_str());
        assert_eq!(errors(SERVICES, object), Vec::<String>::new(), "{name}");
    }
    for (name, object) in crate::kinds::flowcontrol::flow_schema::system() {
        assert_eq!(errors("flowschemas.flowcontrol.apiserver.k8s.io", object), Vec::<String>::new(), "{name}");
    }
    for (name, object) in crate::kinds::flowcontrol::priority_level_configuration::system() {
        let resource = "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io";
        assert_eq!(errors(resource, object), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn ranges_and_addresses_have_one_form_and_stay() {
    let families = "may specify no more than one IP for each IP family";
    for (ranges, want) in [
        (json!([]), "spec.cidrs: Required value: at least one CIDR required".to_string()),
        (json!(["10.1.0.0/16", "10.2.0.0/16"]), families.into()),
        (json!(["10.1.0.0/16", "fd00::/64", "fd01::/64"]), "may only hold up to 2 values".into()),
        (
            json!(["10.1.0.1/16"]),
            "spec.cidrs[0]: Invalid value: \"10.1.0.1/16\": must not have bits set beyond the".into(),
        ),
        (json!(["10.1.0.0"]), "spec.cidrs[0]: Invalid value: \"10.1.0.0\": must be a valid CIDR value".into()),
        (
            json!(["FD00::/64"]),
            "spec.cidrs[0]: Invalid value: \"FD00::/64\": must be in canonical form (\"fd00::/64\")".into(),
        ),
        (json!(["::ffff:10.1.0.0/112"]), "must not have an IPv4-mapped IPv6 address".into()),
    ] {
        let got = errors(RANGES, with(RANGES, "/spec/cidrs", ranges.clone()));
        assert!(got.len() == 1 && got[0].contains(&want), "{ranges}\nwant {want}\ngot  {got:#?}");
    }
    for good in [json!(["10.1.0.0/16", "fd00::/64"]), json!(["0.0.0.0/0"]), json!(["fd00::1/128"])] {
        assert_eq!(errors(RANGES, with(RANGES, "/spec/cidrs", good)), Vec::<String>::new());
    }
    change(
        RANGES,
        "/spec/cidrs",
        json!(["10.2.0.0/16"]),
        Some("spec.cidrs: Invalid value: [\"10.2.0.0/16\"]: field is immutable"),
    );
    broken(
        ADDRESSES,
        &[
            ("/spec/parentRef", json!(null), "spec.parentRef: Required value"),
            ("/spec/parentRef/resource", json!(null), "spec.parentRef.resource: Required value"),
            ("/spec/parentRef/name", json!("a/b"), "spec.parentRef.name: Invalid value: \"a/b\": may not contain '/'"),
            (
                "/spec/parentRef/group",
                json!("A"),
                "spec.parentRef.group: Invalid value: \"A\": a lowercase RFC 1123 subdomain",
            ),
        ],
    );
    change(ADDRESSES, "/spec/parentRef/name", json!("c"), Some("spec.parentRef: Invalid value: "));
    let kinds = Kinds::builtin();
    let strategy = &kinds.group_resource(ADDRESSES).unwrap().strategy;
    for (name, good) in
        [("10.96.0.1", true), ("fd00::1", true), ("a", false), ("FD00::1", false), ("::ffff:1.2.3.4", false)]
    {
        assert_eq!(strategy.validate_name(name).is_ok(), good, "{name}");
    }
    assert_eq!(row(ADDRESSES, samples()[ADDRESSES].clone())[1], "services/a/b");
    assert_eq!(row(RANGES, samples()[RANGES].clone())[1], "10.1.0.0/16");
}

#[test]
fn volume_attributes_classes_do_not_change() {
    broken(
        ATTRIBUTES,
        &[
            ("/driverName", json!(null), "driverName: Required value"),
            ("/parameters", json!({}), "parameters: Required value: must contain at least one key/value pair"),
            ("/parameters", json!({"": "x"}), "parameters: Invalid value: \"\": field can not be empty."),
        ],
    );
    change(ATTRIBUTES, "/driverName", json!("b"), Some("driverName: Forbidden: updates to driverName are forbidden."));
    change(
        ATTRIBUTES,
        "/parameters",
        json!({"a": "b"}),
        Some("parameters: Forbidden: updates to parameters are forbidden."),
    );
}
