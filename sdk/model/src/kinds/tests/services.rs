//! Services: small changes to one that passes, as upstream's `validation_test.go` has them.

use super::*;

/// A Service that passes, with its `spec` changed.
fn service(change: Value) -> Value {
    let mut object = defaulted("services", json!({"metadata":{"name":"a"},"spec":{"ports":[{"name":"p","port":80}]}}));
    crate::schema::merge_patch::merge_patch(&mut object, change);
    object
}

fn spec(change: Value) -> Value {
    service(json!({ "spec": change }))
}

fn annotated(name: &str, value: &str, change: Value) -> Value {
    service(json!({"metadata":{"annotations":{name:value}},"spec":change}))
}

/// With two ports.
fn ports(first: Value, second: Value) -> Value {
    let mut all = vec![json!({"name":"p","port":80}), json!({"name":"q","port":81})];
    for (port, change) in all.iter_mut().zip([first, second]) {
        port.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    }
    json!({ "ports": all })
}

const RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const BALANCED: &str = "Forbidden: may only be used when `type` is 'LoadBalancer'";

#[test]
fn what_is_refused() {
    let mode = "service.kubernetes.io/topology-mode";
    let mut both = annotated(mode, "Auto", json!({}));
    both["metadata"]["annotations"]["service.kubernetes.io/topology-aware-hints"] = "Disabled".into();
    let none = json!({});
    for (object, want) in [
        (
            both,
            "metadata.annotations[service.kubernetes.io/topology-mode]: Invalid value: \"Auto\": must match \
             annotations[service.kubernetes.io/topology-aware-hints] when both are specified",
        ),
        (spec(ports(json!({"name":""}), none.clone())), "spec.ports[0].name: Required value"),
        (spec(ports(none.clone(), json!({"name":"p"}))), "spec.ports[1].name: Duplicate value: \"p\""),
        (
            spec(ports(json!({"name":"p_1"}), none.clone())),
            "spec.ports[0].name: Invalid value: \"p_1\": a lowercase RFC 1123 label must",
        ),
        (
            spec(ports(json!({"protocol":"ICMP"}), none.clone())),
            "spec.ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ),
        (
            spec(ports(json!({"appProtocol":"a b"}), none.clone())),
            "spec.ports[0].appProtocol: Invalid value: \"a b\": name part must consist of",
        ),
        (
            spec(ports(json!({"targetPort":65536}), none.clone())),
            "spec.ports[0].targetPort: Invalid value: 65536: must be between 1 and 65535, inclusive",
        ),
        (
            service(
                json!({"spec":{"type":"NodePort","ports":ports(json!({"nodePort":30001}), json!({"nodePort":30001}))["ports"]}}),
            ),
            "spec.ports[1].nodePort: Duplicate value: 30001",
        ),
        (
            spec(json!({"sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":86401}}})),
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 86401: must be greater than 0 and less than \
             86400",
        ),
        (
            spec(json!({"sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":0}}})),
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 0: must be greater than 0",
        ),
        (
            spec(json!({"clusterIPs":["10.0.0.1"]})),
            "spec.clusterIPs: Invalid value: [\"10.0.0.1\"]: must be empty when `clusterIP` is not specified",
        ),
        (spec(json!({"clusterIP":"10.0.0.1"})), "spec.clusterIPs: Required value"),
        (
            spec(json!({"clusterIP":"None","clusterIPs":["None","::1"]})),
            "spec.clusterIPs: Invalid value: [\"None\",\"::1\"]: 'None' must be the first and only value",
        ),
        (
            spec(json!({"clusterIP":"::1","clusterIPs":["::1","None"]})),
            "spec.clusterIPs[1]: Invalid value: \"None\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
        (
            spec(json!({"clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1","10.0.0.2"]})),
            "spec.clusterIPs: Invalid value: [\"10.0.0.1\",\"10.0.0.2\"]: may specify no more than one IP for each IP family",
        ),
        (
            spec(json!({"clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1","::1","10.0.0.2"]})),
            "spec.clusterIPs: Invalid value: [\"10.0.0.1\",\"::1\",\"10.0.0.2\"]: may only hold up to 2 values",
        ),
        (
            spec(json!({"clusterIP":"::1","clusterIPs":["::1"],"ipFamilies":["IPv4"]})),
            "spec.clusterIPs[0]: Invalid value: \"::1\": expected an IPv4 value as indicated by `ipFamilies[0]`",
        ),
        (spec(json!({"ipFamilies":["IPv4","IPv4"]})), "spec.ipFamilies[1]: Duplicate value: \"IPv4\""),
        (
            spec(json!({"ipFamilies":["IPv5"]})),
            "spec.ipFamilies[0]: Unsupported value: \"IPv5\": supported values: \"IPv4\", \"IPv6\"",
        ),
        (
            spec(json!({"ipFamilyPolicy":"Both"})),
            "spec.ipFamilyPolicy: Unsupported value: \"Both\": supported values: \"PreferDualStack\", \"RequireDualStack\", \
             \"SingleStack\"",
        ),
        (
            spec(json!({"externalIPs":["192.0.2.1","127.0.0.1"]})),
            "spec.externalIPs[1]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ),
        (
            spec(json!({"externalIPs":["myhost.mydomain"]})),
            "spec.externalIPs[0]: Invalid value: \"myhost.mydomain\": must be a valid IP address",
        ),
        (
            spec(json!({"externalTrafficPolicy":"Local"})),
            "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
        ),
        (
            spec(json!({"type":"NodePort","externalTrafficPolicy":"Near"})),
            "spec.externalTrafficPolicy: Unsupported value: \"Near\": supported values: \"Cluster\", \"Local\"",
        ),
        (
            spec(json!({"healthCheckNodePort":30000})),
            "spec.healthCheckNodePort: Invalid value: 30000: may only be set when `type` is 'LoadBalancer' and \
             `externalTrafficPolicy` is 'Local'",
        ),
        (
            spec(json!({"type":"LoadBalancer","externalTrafficPolicy":"Local"})),
            "spec.healthCheckNodePort: Required value",
        ),
        (
            spec(json!({"type":"LoadBalancer","externalTrafficPolicy":"Local","healthCheckNodePort":65536})),
            "spec.healthCheckNodePort: Invalid value: 65536: must be between 1 and 65535, inclusive",
        ),
        (
            spec(json!({"internalTrafficPolicy":"Near"})),
            "spec.internalTrafficPolicy: Unsupported value: \"Near\": supported values: \"Cluster\", \"Local\"",
        ),
        (
            spec(json!({"type":"LoadBalancer","loadBalancerSourceRanges":["10.0.0.0/8","foo"]})),
            "spec.LoadBalancerSourceRanges[1]: Invalid value: \"foo\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or",
        ),
        (
            spec(json!({"loadBalancerSourceRanges":["10.0.0.0/8"]})),
            "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
        ),
        (
            annotated(RANGES, "1.2.3.4/8, 5.6.7.8", json!({"type":"LoadBalancer"})),
            "metadata.annotations[service.beta.kubernetes.io/load-balancer-source-ranges]: Invalid value: \"5.6.7.8\": must be",
        ),
        (annotated(RANGES, "", json!({})), format!("metadata.annotations[{RANGES}]: {BALANCED}").as_str()),
        (spec(json!({"loadBalancerClass":"a.b/c"})), format!("spec.loadBalancerClass: {BALANCED}").as_str()),
        (
            spec(json!({"allocateLoadBalancerNodePorts":true})),
            format!("spec.allocateLoadBalancerNodePorts: {BALANCED}").as_str(),
        ),
        (
            spec(json!({"type":"LoadBalancer","loadBalancerClass":"-"})),
            "spec.loadBalancerClass: Invalid value: \"-\": name part must consist of",
        ),
        (
            spec(json!({"type":"ExternalName","externalName":"a.b","ipFamilies":["IPv4"]})),
            "spec.ipFamilies: Forbidden: may not be set for ExternalName services",
        ),
        (
            spec(json!({"type":"ExternalName","externalName":"a.b","ipFamilyPolicy":"SingleStack"})),
            "spec.ipFamilyPolicy: Forbidden: may not be set for ExternalName services",
        ),
        (
            spec(json!({"type":"ExternalName","externalName":"a.b","clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1"]})),
            "spec.clusterIPs: Forbidden: may not be set for ExternalName services",
        ),
        (
            spec(json!({"type":"ExternalName","externalName":"-a.b"})),
            "spec.externalName: Invalid value: \"-a.b\": a lowercase RFC 1123 subdomain must",
        ),
    ] {
        let got = errors("services", object.clone());
        assert!(got.len() == 1 && got[0].starts_with(want), "{object}\nwant {want}\ngot  {got:#?}");
    }
}

#[test]
fn what_passes() {
    for object in [
        spec(json!({})),
        annotated("service.kubernetes.io/topology-mode", "Auto", json!({})),
        spec(ports(json!({"port":53,"protocol":"TCP"}), json!({"port":53,"protocol":"UDP"}))),
        spec(ports(json!({"appProtocol":"kubernetes.io/h2c","targetPort":"http"}), json!({"nodePort":0}))),
        spec(json!({"sessionAffinity":"ClientIP"})),
        spec(json!({"clusterIP":"None","clusterIPs":["None"],"ports":null})),
        spec(json!({"clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1","::1"],"ipFamilies":["IPv4","IPv6"],
            "ipFamilyPolicy":"RequireDualStack"})),
        spec(json!({"clusterIP":"None","clusterIPs":["None"],"ipFamilies":["IPv6","IPv4"]})),
        spec(json!({"externalIPs":["192.0.2.1"]})),
        spec(json!({"externalIPs":["192.0.2.1"],"externalTrafficPolicy":"Local"})),
        spec(json!({"type":"LoadBalancer","externalTrafficPolicy":"Local","healthCheckNodePort":31234})),
        spec(json!({"type":"LoadBalancer","loadBalancerSourceRanges":["1.2.3.4/8 "," 5.6.0.0/16"]})),
        spec(json!({"type":"LoadBalancer","loadBalancerClass":"test.com/test","allocateLoadBalancerNodePorts":false})),
        annotated(RANGES, "1.2.3.4/8,  5.6.7.8/16", json!({"type":"LoadBalancer"})),
        spec(json!({"type":"ExternalName","externalName":"foo.bar.example.com.","internalTrafficPolicy":null})),
        // Historically nobody looks.
        spec(json!({"type":"ExternalName","externalName":"a.b","internalTrafficPolicy":"Local"})),
    ] {
        assert_eq!(errors("services", object.clone()), Vec::<String>::new(), "{object}");
    }
    let exposed = defaulted("services", json!({"spec":{"externalIPs":["192.0.2.1"]}}));
    assert_eq!(exposed["spec"]["externalTrafficPolicy"], "Cluster");
}

#[test]
fn a_change_of_type_takes_along_what_belongs_to_it() {
    let balanced = json!({"type":"LoadBalancer","externalTrafficPolicy":"Local","healthCheckNodePort":31234,
        "loadBalancerClass":"a.b/c","clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1"],"ports":[{"port":80,"nodePort":30080}]});
    let old = defaulted("services", json!({ "spec": balanced }));
    let kinds = Kinds::builtin();
    let strategy = &kinds.group_resource("services").unwrap().strategy;
    for (kind, kept) in [("NodePort", &["externalTrafficPolicy"][..]), ("ClusterIP", &[]), ("ExternalName", &[])] {
        let mut new = old.clone();
        new["spec"]["type"] = kind.into();
        new["spec"]["externalName"] = "a.b".into();
        strategy.prepare_update(&mut new, &old);
        for field in
            ["externalTrafficPolicy", "healthCheckNodePort", "loadBalancerClass", "allocateLoadBalancerNodePorts"]
        {
            assert_eq!(new["spec"].get(field).is_some(), kept.contains(&field), "{kind} {field}");
        }
        assert_eq!(new["spec"]["ports"][0].get("nodePort").is_some(), kind == "NodePort", "{kind}");
        let mut errors = Vec::new();
        strategy.validate(&new, &mut errors);
        strategy.validate_update(&new, &old, &mut errors);
        assert!(errors.is_empty(), "{kind}: {errors:?}");
    }
    // What was changed at the same time is told.
    let mut new = old.clone();
    new["spec"]["type"] = "ClusterIP".into();
    new["spec"]["loadBalancerClass"] = "a.b/d".into();
    strategy.prepare_update(&mut new, &old);
    let mut errors = Vec::new();
    strategy.validate(&new, &mut errors);
    assert_eq!(
        errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [format!("spec.loadBalancerClass: {BALANCED}")]
    );
}

#[test]
fn what_may_not_change() {
    let local = json!({"type":"LoadBalancer","externalTrafficPolicy":"Local","healthCheckNodePort":31234,
        "ports":[{"port":80}]});
    let double = json!({"clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1","::1"],"ipFamilyPolicy":"PreferDualStack",
        "ports":[{"port":80}]});
    let mut families = double.clone();
    families["ipFamilies"] = json!(["IPv4", "IPv6"]);
    let headless = json!({"clusterIP":"None","clusterIPs":["None"],"ipFamilies":["IPv4"],"ports":[{"port":80}]});
    for (old, field, value, want) in [
        (&local, "healthCheckNodePort", json!(31235), vec!["spec.healthCheckNodePort: Forbidden: field is immutable"]),
        (
            &local,
            "loadBalancerClass",
            json!("a.b/c"),
            vec!["spec.loadBalancerClass: Invalid value: \"a.b/c\": may not change once set"],
        ),
        (
            &double,
            "clusterIPs",
            json!(["10.0.0.1", "::2"]),
            vec!["spec.clusterIPs[1]: Invalid value: [\"10.0.0.1\",\"::2\"]: may not change once set"],
        ),
        (
            &double,
            "clusterIPs",
            json!(["10.0.0.1"]),
            vec![
                "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be set to 'SingleStack' when releasing the \
                 secondary clusterIP",
            ],
        ),
        (&double, "type", json!("NodePort"), vec![]),
        (
            &families,
            "ipFamilies",
            json!(["IPv6"]),
            vec![
                "spec.ipFamilies[0]: Invalid value: [\"IPv6\"]: may not change once set",
                "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be set to 'SingleStack' when releasing the \
                 secondary ipFamily",
            ],
        ),
        (&headless, "ipFamilies", json!(["IPv6"]), vec![]),
    ] {
        let mut new = old.clone();
        new[field] = value;
        let got = update_errors("services", json!({ "spec": old }), json!({ "spec": new }));
        assert_eq!(got, want, "{field}");
    }
}

#[test]
fn where_a_balancer_is_reached() {
    let kinds = Kinds::builtin();
    let strategy = &kinds.group_resource("services").unwrap().strategy;
    let errors = |kind: &str, point: Value| {
        let mut new = json!({"spec":{"type":kind},"status":{"loadBalancer":{"ingress":[point]}}});
        strategy.default(&mut new);
        let mut errors = Vec::new();
        strategy.validate_status(&new, &Value::Null, &mut errors);
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    assert_eq!(errors("LoadBalancer", json!({"ip":"192.0.2.1"})), "");
    assert_eq!(errors("LoadBalancer", json!({"hostname":"a.b"})), "");
    let at = "status.loadBalancer.ingress";
    for (kind, point, want) in [
        ("ClusterIP", json!({"ip":"192.0.2.1"}), ": Forbidden: may only be used when `spec.type` is 'LoadBalancer'"),
        ("LoadBalancer", json!({"ip":"x"}), "[0].ip: Invalid value: \"x\": must be a valid IP address"),
        (
            "LoadBalancer",
            json!({"ip":"192.0.2.1","ipMode":"Some"}),
            "[0].ipMode: Unsupported value: \"Some\": supported",
        ),
        (
            "LoadBalancer",
            json!({"hostname":"a.b","ipMode":"VIP"}),
            "[0].ipMode: Forbidden: may not be specified when `ip` is not set",
        ),
        (
            "LoadBalancer",
            json!({"hostname":"192.0.2.1"}),
            "[0].hostname: Invalid value: \"192.0.2.1\": must be a DNS name, not an IP address",
        ),
    ] {
        let got = errors(kind, point.clone());
        assert!(got.starts_with(&format!("{at}{want}")), "{point}\nwant {at}{want}\ngot  {got}");
    }
}
