use serde_json::json;

use super::*;

#[test]
fn meaningful_empties_stay() {
    let schema = Schema::builtin();
    let mut pod = json!({"apiVersion":"v1","kind":"Pod","metadata":{"labels":{},"annotations":null},
        "spec":{"nodeName":"","volumes":[{"name":"v","emptyDir":{}}],"containers":[{"name":"","args":[],"securityContext":{}}]},
        "status":{"startTime":null,"containerStatuses":[{"name":"c","restartCount":0,"ready":false,"started":false}]}});
    schema.normalise(ty("v1", "Pod"), &mut pod);
    assert_eq!(
        pod,
        json!({"apiVersion":"v1","kind":"Pod","metadata":{},
            "spec":{"volumes":[{"name":"v","emptyDir":{}}],"containers":[{"name":"","securityContext":{}}]},
            "status":{"containerStatuses":[{"name":"c","restartCount":0,"ready":false,"started":false}]}})
    );
    let given = json!({"spec":{"podSelector":{},"ingress":[{}],"policyTypes":["Ingress"]}});
    let mut policy = given.clone();
    schema.normalise(ty("networking.k8s.io/v1", "NetworkPolicy"), &mut policy);
    assert_eq!(policy, given);
}

#[test]
fn what_upstream_always_shows() {
    let schema = Schema::builtin();
    let mut deployment = json!({"metadata":{"name":"a"},"spec":{"template":{"spec":{"containers":[{"name":"c","env":[
        {"name":"X","valueFrom":{"resourceFieldRef":{"resource":"limits.cpu"}}}]}]}}}});
    schema.complete(ty("apps/v1", "Deployment"), &mut deployment);
    assert_eq!(
        deployment,
        json!({"metadata":{"name":"a"},"status":{},"spec":{"strategy":{},"template":{"metadata":{},"spec":{"containers":[
            {"name":"c","resources":{},"env":[{"name":"X","valueFrom":{"resourceFieldRef":
                {"resource":"limits.cpu","divisor":"0"}}}]}]}}}})
    );
    let mut service = json!({});
    schema.complete(ty("v1", "Service"), &mut service);
    assert_eq!(service, json!({"metadata":{},"spec":{},"status":{"loadBalancer":{}}}));
}
