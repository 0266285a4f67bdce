//! PodDisruptionBudget.

use super::*;

const PDB: &str = "poddisruptionbudgets.policy";

#[test]
fn rules_and_rows() {
    for (spec, want) in [
        (
            json!({"minAvailable":1,"maxUnavailable":"1%"}),
            "spec: Invalid value: {\"maxUnavailable\":\"1%\",\"minAvailable\":1}: minAvailable and maxUnavailable cannot be both",
        ),
        (json!({"minAvailable":-1}), "spec.minAvailable: Invalid value: -1: must be greater than or equal to 0"),
        (json!({"minAvailable":"some"}), "spec.minAvailable: Invalid value: \"some\": a valid percent string must be"),
        (
            json!({"maxUnavailable":"101%"}),
            "spec.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
        ),
        (
            json!({"selector":{"matchLabels":{"-":"x"}}}),
            "spec.selector.matchLabels: Invalid value: \"-\": name part must consist",
        ),
        (
            json!({"unhealthyPodEvictionPolicy":"Never"}),
            "spec.unhealthyPodEvictionPolicy: Unsupported value: \"Never\": supported values: \"AlwaysAllow\", \
             \"IfHealthyBudget\"",
        ),
    ] {
        let got = errors(PDB, json!({ "spec": spec }));
        assert!(got.len() == 1 && got[0].starts_with(want), "want {want}\ngot  {got:#?}");
    }
    assert!(errors(PDB, json!({"spec":{"selector":{}}})).is_empty());
    let kinds = Kinds::builtin();
    let strategy = &kinds.group_resource(PDB).unwrap().strategy;
    assert!(strategy.validate_name("Upper_Case").is_ok() && strategy.validate_name("a/b").is_err());
    let mut errors = Vec::new();
    let status = json!({"status":{"disruptionsAllowed":-1,"conditions":[{"type":"x","status":"True"}]}});
    strategy.validate_status(&status, &json!({}), &mut errors);
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "status.conditions[0].lastTransitionTime: Required value: must be set",
            "status.conditions[0].reason: Required value: must be set",
            "status.disruptionsAllowed: Invalid value: -1: must be greater than or equal to 0",
        ]
    );
    let meta = json!({"name":"x","creationTimestamp":"2026-01-01T00:58:00Z"});
    let object = |spec: Value| json!({"metadata":meta,"spec":spec,"status":{"disruptionsAllowed":2}});
    assert_eq!(row(PDB, object(json!({"minAvailable":"50%"}))), ["x", "50%", "N/A", "2", "2m"]);
    assert_eq!(row(PDB, object(json!({"maxUnavailable":1}))), ["x", "N/A", "1", "2", "2m"]);
}
