use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::certificate::samples::{CA, NODE};
use crate::kinds::Strategy;
use crate::{FieldError, UserInfo};

const CSR: &str = "certificatesigningrequests.certificates.k8s.io";
const THEN: &str = "2026-01-01T00:00:00Z";

fn with(run: impl FnOnce(&dyn Strategy, &mut Vec<FieldError>)) -> Vec<String> {
    let (kinds, mut errors) = (Kinds::builtin(), Vec::new());
    run(&*kinds.group_resource(CSR).unwrap().strategy, &mut errors);
    errors.iter().map(ToString::to_string).collect()
}

fn spec(changes: Value) -> Value {
    let mut spec = json!({
        "request": STANDARD.encode(NODE), "signerName": "example.com/a.b", "usages": ["client auth"],
    });
    spec.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    json!({"metadata": {"name": "a"}, "spec": spec, "status": {}})
}

#[test]
fn what_is_asked_for_is_checked_at_first() {
    assert_eq!(with(|s, errors| s.validate_create(&spec(json!({"expirationSeconds": 600})), errors)), [""; 0]);
    let long = format!("{}.example.com/{}", "a".repeat(64), "b");
    for (changes, want) in [
        (
            json!({"request": STANDARD.encode("-X")}),
            "spec.request: Invalid value: []byte{0x2d, 0x58}: PEM block type must be CERTIFICATE REQUEST",
        ),
        (json!({"usages": []}), "spec.usages: Required value"),
        (
            json!({"usages": ["client"]}),
            "spec.usages[0]: Unsupported value: \"client\": supported values: \"any\", \"cert sign\", \"client auth\", ",
        ),
        (json!({"usages": ["any", "any"]}), "spec.usages[1]: Duplicate value: \"any\""),
        (json!({"signerName": ""}), "spec.signerName: Required value"),
        (
            json!({"signerName": "kubernetes.io/legacy-unknown"}),
            "spec.signerName: Invalid value: \"kubernetes.io/legacy-unknown\": the legacy signerName is not allowed via this API version",
        ),
        (
            json!({"signerName": "a.b"}),
            "spec.signerName: Invalid value: \"a.b\": must be a fully qualified domain and path of the form 'example.com/signer-name'",
        ),
        (json!({"signerName": "a.b/c/d"}), "spec.signerName: Invalid value: \"a.b/c/d\": must be a fully"),
        (
            json!({"signerName": "a/b"}),
            "spec.signerName: Invalid value: \"a\": should be a domain with at least two segments separated by dots",
        ),
        (
            json!({"signerName": "A.b/c"}),
            "spec.signerName: Invalid value: \"A.b\": validating label \"A\": a lowercase RFC 1123 label",
        ),
        (
            json!({"signerName": "a.b/C"}),
            "spec.signerName: Invalid value: \"C\": validating label \"C\": a lowercase RFC 1123 subdomain",
        ),
        (json!({"signerName": long}), "spec.signerName: Invalid value: "),
        (
            json!({"expirationSeconds": 599}),
            "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds (10 minutes)",
        ),
    ] {
        let got = with(|s, errors| s.validate_create(&spec(changes.clone()), errors));
        assert!(got.len() == 1 && got[0].starts_with(want), "{changes}: {got:#?}");
    }
}

#[test]
fn the_requester_is_written_down_whatever_was_said() {
    let mut object =
        spec(json!({"username": "admin", "uid": "0", "groups": ["system:masters"], "extra": {"a": ["b"]}}));
    let eve = UserInfo {
        name: "eve".into(),
        groups: vec!["g".into()],
        extra: vec![("k".into(), vec!["v".into()])],
        ..UserInfo::default()
    };
    with(|s, _| s.record_requester(&mut object, &eve));
    let spec = &object["spec"];
    assert_eq!((&spec["username"], spec.get("uid"), &spec["groups"]), (&json!("eve"), None, &json!(["g"])));
    assert_eq!(spec["extra"], json!({"k": ["v"]}));
    with(|s, _| s.record_requester(&mut object, &UserInfo { name: "bob".into(), ..UserInfo::default() }));
    assert_eq!((object["spec"].get("groups"), object["spec"].get("extra")), (None, None));
}

fn said(kind: &str, status: &str) -> Value {
    json!({"type": kind, "status": status, "lastUpdateTime": THEN, "lastTransitionTime": THEN})
}

/// A change of a part from one status to another as the registry makes it: the errors, and the status that results.
fn change(part: &str, old: Value, new: Value) -> (Vec<String>, Value) {
    let now = Time::parse("2026-01-02T00:00:00Z").unwrap();
    let mut old_object = spec(json!({}));
    old_object["status"] = old;
    let mut object = spec(json!({"usages": ["any"]}));
    object["status"] = new;
    let errors = with(|s, errors| {
        match part {
            "" => s.prepare_update(&mut object, &old_object),
            "status" => {
                object["spec"] = old_object["spec"].clone();
                s.prepare_status(&mut object, &old_object);
            }
            part => s.prepare_subresource(part, &mut object, &old_object),
        }
        s.stamp(&mut object, &old_object, now);
        match part {
            "" => s.validate_update(&object, &old_object, errors),
            "status" => s.validate_status(&object, &old_object, errors),
            part => s.validate_subresource(part, &object, &old_object, errors),
        }
    });
    assert_eq!(object["spec"], old_object["spec"], "what is asked for never changes");
    (errors, object["status"].clone())
}

#[test]
fn approvers_write_conditions_and_signers_the_rest() {
    let (approved, cert) = (said("Approved", "True"), STANDARD.encode(CA));
    let yes = json!({"conditions": [{"type": "Approved", "status": "True"}], "certificate": cert});
    let (errors, status) = change("approval", json!({}), yes.clone());
    assert_eq!(errors, [""; 0]);
    let now = "2026-01-02T00:00:00Z";
    let stamped = json!({"type": "Approved", "status": "True", "lastUpdateTime": now, "lastTransitionTime": now});
    assert_eq!(status, json!({"conditions": [stamped]}), "times are filled in, and the certificate is not theirs");
    assert_eq!(change("", json!({"conditions": [approved]}), json!({})).1, json!({"conditions": [approved]}));

    let issued = json!({"conditions": [said("Approved", "True")], "certificate": cert});
    let (errors, status) = change(
        "status",
        json!({"conditions": [approved]}),
        json!({
            "conditions": [{"type": "Approved", "status": "True", "reason": "mine"}, {"type": "Ready", "status": "False"}],
            "certificate": cert,
        }),
    );
    assert_eq!((errors, &status["conditions"][0]), (vec![], &approved), "the approvers' condition is theirs");
    assert_eq!((&status["certificate"], &status["conditions"][1]["lastUpdateTime"]), (&json!(cert), &json!(now)));
    let (errors, status) = change("status", issued.clone(), json!({"conditions": [approved], "certificate": cert}));
    assert_eq!((errors, status), (vec![], issued));
    // The status has turned, so its time is new; what has not turned keeps it.
    let ready = |status: &str| json!({"conditions": [{"type": "Ready", "status": status}]});
    let old = json!({"conditions": [said("Ready", "True")]});
    assert_eq!(change("status", old.clone(), ready("True")).1["conditions"][0]["lastTransitionTime"], THEN);
    assert_eq!(change("status", old, ready("False")).1["conditions"][0]["lastTransitionTime"], now);
}

#[test]
fn what_changes_of_the_status_are_refused() {
    let none = || json!({});
    let has = |conditions: &[Value]| json!({ "conditions": conditions });
    let (yes, no, failed) = (said("Approved", "True"), said("Denied", "True"), said("Failed", "True"));
    let of = |certificate: &str| json!({"certificate": STANDARD.encode(certificate)});
    let odd = |label: &str| CA.replace("CERTIFICATE", label);
    let headed = CA.replacen("-----\n", "-----\na: b\n\n", 1);
    let cut = "-----BEGIN CERTIFICATE-----\nMIHq\n-----END CERTIFICATE-----\n";
    for (part, old, new, want) in [
        (
            "approval",
            has(std::slice::from_ref(&yes)),
            none(),
            "status.conditions: Forbidden: updates may not remove a condition of type \"Approved\"",
        ),
        (
            "approval",
            has(std::slice::from_ref(&no)),
            has(std::slice::from_ref(&yes)),
            "status.conditions: Forbidden: updates may not remove a condition of type \"Denied\"",
        ),
        (
            "status",
            has(std::slice::from_ref(&failed)),
            none(),
            "status.conditions: Forbidden: updates may not remove a condition of type \"Failed\"",
        ),
        (
            "status",
            none(),
            has(std::slice::from_ref(&yes)),
            "status.conditions: Forbidden: updates may not add a condition of type \"Approved\"",
        ),
        (
            "approval",
            none(),
            has(&[yes.clone(), no.clone()]),
            "status.conditions: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive",
        ),
        (
            "approval",
            none(),
            has(&[yes.clone(), yes.clone()]),
            "status.conditions[1].type: Duplicate value: \"Approved\"",
        ),
        (
            "approval",
            none(),
            has(&[said("Approved", "False")]),
            "status.conditions[0].status: Unsupported value: \"False\": supported values: \"True\"",
        ),
        (
            "approval",
            none(),
            has(&[said("A", "Maybe")]),
            "status.conditions[0].status: Unsupported value: \"Maybe\": supported values: \"False\", \"True\", \"Unknown\"",
        ),
        ("approval", none(), has(&[said("A", "")]), "status.conditions[0].status: Required value"),
        ("approval", none(), has(&[said("", "True")]), "status.conditions[0].type: Required value"),
        (
            "status",
            none(),
            of("x"),
            "status.certificate: Invalid value: \"<certificate data>\": must contain at least one CERTIFICATE PEM block",
        ),
        (
            "status",
            none(),
            of(&odd("KEY")),
            "status.certificate: Invalid value: \"<certificate data>\": only CERTIFICATE PEM blocks are allowed, found \"KEY\"",
        ),
        (
            "status",
            none(),
            of(&headed),
            "status.certificate: Invalid value: \"<certificate data>\": no PEM block headers are permitted",
        ),
        (
            "status",
            none(),
            of(cut),
            "status.certificate: Invalid value: \"<certificate data>\": x509: malformed certificate",
        ),
        (
            "status",
            of(CA),
            of(&[CA, CA].concat()),
            "status.certificate: Forbidden: updates may not modify existing certificate content",
        ),
    ] {
        let (errors, _) = change(part, old.clone(), new.clone());
        assert_eq!(errors, [want], "{part} {old} {new}");
    }
    // What an earlier release has stored is no obstacle.
    assert_eq!(change("approval", has(&[yes.clone(), no.clone()]), has(&[yes, no])).0, [""; 0]);
    let doubled = has(&[failed.clone(), failed]);
    assert_eq!(change("status", doubled.clone(), doubled).0, [""; 0]);
}

#[test]
fn rows() {
    for (changes, status, want) in [
        (json!({}), json!({}), ["<none>", "Pending"]),
        (json!({"expirationSeconds": 86_400}), json!({"conditions": [said("Approved", "True")]}), ["24h", "Approved"]),
        (json!({}), json!({"conditions": [said("Denied", "True"), said("Approved", "True")]}), ["<none>", "Denied"]),
        (
            json!({}),
            json!({"conditions": [said("Approved", "True"), said("Failed", "True")]}),
            ["<none>", "Approved,Failed"],
        ),
        (
            json!({}),
            json!({"conditions": [said("Approved", "True")], "certificate": "QQ=="}),
            ["<none>", "Approved,Issued"],
        ),
    ] {
        let mut object = spec(changes);
        object["metadata"]["creationTimestamp"] = THEN.into();
        object["spec"]["username"] = "eve".into();
        object["status"] = status;
        assert_eq!(row(CSR, object), ["a", "60m", "example.com/a.b", "eve", want[0], want[1]]);
    }
}
