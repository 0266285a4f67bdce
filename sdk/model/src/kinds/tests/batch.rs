//! Job and CronJob.

use super::*;

fn job(change: impl FnOnce(&mut Value)) -> Value {
    let mut object = defaulted("jobs.batch", samples()["jobs.batch"].clone());
    change(&mut object["spec"]);
    object
}

/// The one error of a changed Job begins with the text.
fn only(change: impl FnOnce(&mut Value), want: &str) {
    let got = errors("jobs.batch", job(change));
    assert!(got.len() == 1 && got[0].starts_with(want), "want {want}\ngot  {got:#?}");
}

fn indexed(change: impl FnOnce(&mut Value)) -> impl FnOnce(&mut Value) {
    |spec| {
        spec["completionMode"] = "Indexed".into();
        spec["completions"] = 5.into();
        change(spec);
    }
}

#[test]
fn a_job_gets_upstreams_defaults() {
    let own = |o: &Value| {
        let mut spec = o["spec"].as_object().unwrap().clone();
        spec.retain(|k, _| !matches!(k.as_str(), "template" | "selector"));
        Value::Object(spec)
    };
    let d = defaulted("jobs.batch", json!({"spec":{"template":{"spec":{"restartPolicy":"Never"}}}}));
    assert_eq!(
        own(&d),
        json!({"completions":1,"parallelism":1,"backoffLimit":6,"completionMode":"NonIndexed","suspend":false,
            "manualSelector":false,"podReplacementPolicy":"TerminatingOrFailed"})
    );
    let d = defaulted(
        "jobs.batch",
        json!({"spec":{"parallelism":3,"backoffLimitPerIndex":1,
            "podFailurePolicy":{"rules":[{"action":"Ignore","onPodConditions":[{"type":"DisruptionTarget"}]}]}}}),
    );
    assert_eq!((&d["spec"]["completions"], &d["spec"]["backoffLimit"]), (&Value::Null, &json!(2_147_483_647)));
    assert_eq!(d["spec"]["podReplacementPolicy"], "Failed");
    assert_eq!(d["spec"]["podFailurePolicy"]["rules"][0]["onPodConditions"][0]["status"], "True");
    let d = defaulted("jobs.batch", json!({"spec":{"template":{"metadata":{"labels":{"a":"b"}}}}}));
    assert_eq!(d["metadata"]["labels"], json!({"a":"b"}));
}

#[test]
fn rules_of_jobs() {
    only(|s| s["parallelism"] = (-1).into(), "spec.parallelism: Invalid value: -1: must be greater than or equal to 0");
    only(|s| s["backoffLimit"] = (-1).into(), "spec.backoffLimit: Invalid value: -1");
    only(|s| s["activeDeadlineSeconds"] = (-1).into(), "spec.activeDeadlineSeconds: Invalid value: -1");
    only(|s| s["ttlSecondsAfterFinished"] = (-1).into(), "spec.ttlSecondsAfterFinished: Invalid value: -1");
    only(
        |s| s["completionMode"] = "Odd".into(),
        "spec.completionMode: Unsupported value: \"Odd\": supported values: \"NonIndexed\", \"Indexed\"",
    );
    only(
        |s| s["managedBy"] = "me".into(),
        "spec.managedBy: Invalid value: \"me\": must be a domain-prefixed path (such as \"acme.io/foo\")",
    );
    only(
        |s| s["managedBy"] = "a.b/c d".into(),
        "spec.managedBy: Invalid value: \"c d\": Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')",
    );
    only(
        |s| s["managedBy"] = format!("a.b/{}", "x".repeat(60)).into(),
        "spec.managedBy: Too long: may not be more than 63 bytes",
    );
    let many = job(indexed(|s| {
        s["completions"] = 100_001.into();
        s["parallelism"] = 10_001.into();
        s["backoffLimitPerIndex"] = 1.into();
    }));
    assert_eq!(
        errors("jobs.batch", many),
        [
            "spec.maxFailedIndexes: Required value: must be specified when completions is above 100000",
            "spec.parallelism: Invalid value: 10001: must be less than or equal to 10000 when completions are above 100000 and \
             used with backoff limit per index",
        ]
    );
    only(
        |s| {
            s["completionMode"] = "Indexed".into();
            s["completions"] = Value::Null;
        },
        "spec.completions: Required value: when completion mode is Indexed",
    );
    only(
        indexed(|s| s["parallelism"] = 100_001.into()),
        "spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion mode is Indexed",
    );
    only(
        indexed(|s| s["maxFailedIndexes"] = 1.into()),
        "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
    );
    only(
        indexed(|s| {
            s["backoffLimitPerIndex"] = 1.into();
            s["maxFailedIndexes"] = 9.into();
        }),
        "spec.maxFailedIndexes: Invalid value: 9: must be less than or equal to completions",
    );
    only(
        |s| s["backoffLimitPerIndex"] = 1.into(),
        "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode",
    );
    only(
        |s| s["successPolicy"] = json!({"rules":[{"succeededCount":1}]}),
        "spec.successPolicy: Invalid value: {\"rules\":[{\"succeededCount\":1}]}: requires indexed completion mode",
    );
    only(
        indexed(|s| s["successPolicy"] = json!({"rules":[]})),
        "spec.successPolicy.rules: Required value: at least one rules must be specified when the successPolicy is specified",
    );
    only(
        indexed(|s| s["successPolicy"] = json!({"rules":[{"succeededIndexes":"0-2","succeededCount":4}]})),
        "spec.successPolicy.rules[0].succeededCount: Invalid value: 4: must be less than or equal to 3 (the number of indexes",
    );
    only(
        indexed(|s| s["successPolicy"] = json!({"rules":[{"succeededIndexes":"7"}]})),
        "spec.successPolicy.rules[0].succeededIndexes: Invalid value: \"7\": error parsing succeededIndexes: too large index",
    );
    only(
        |s| s["podReplacementPolicy"] = "Never".into(),
        "spec.podReplacementPolicy: Unsupported value: \"Never\": supported values: \"Failed\", \"TerminatingOrFailed\"",
    );
    only(
        |s| s["template"]["spec"]["restartPolicy"] = "Always".into(),
        "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
    );
    only(
        |s| s["template"]["metadata"]["labels"] = json!({"app":"db"}),
        "spec.template.metadata.labels: Invalid value: {\"app\":\"db\"}: `selector` does not match template `labels`",
    );
    only(|s| s["template"]["spec"]["containers"] = json!([]), "spec.template.spec.containers: Required value");
    let mut long = job(indexed(|_| {}));
    long["metadata"]["name"] = "a".repeat(63).into();
    let got = errors("jobs.batch", long);
    assert!(got.len() == 1 && got[0].contains("will not able to create pod with invalid DNS label: aaa"), "{got:?}");
}

#[test]
fn rules_of_pod_failure_policies() {
    let rule = |rule: Value| {
        move |s: &mut Value| {
            s["podFailurePolicy"] = json!({"rules":[rule]});
            s["podReplacementPolicy"] = "Failed".into();
        }
    };
    let codes =
        |operator: &str, values: Value| json!({"action":"Ignore","onExitCodes":{"operator":operator,"values":values}});
    let at = |rest: &str| format!("spec.podFailurePolicy.rules[0]{rest}");
    only(
        rule(json!({"action":"Ignore"})),
        &at(": Invalid value: specifying one of OnExitCodes and OnPodConditions is required"),
    );
    only(
        rule(json!({"onExitCodes":{"operator":"In","values":[1]}})),
        &at(".action: Required value: valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]"),
    );
    only(
        rule(json!({"action":"FailIndex","onExitCodes":{"operator":"In","values":[1]}})),
        &at(".action: Invalid value: \"FailIndex\": requires the backoffLimitPerIndex to be set"),
    );
    only(
        rule(codes("Is", json!([1]))),
        &at(".onExitCodes.operator: Unsupported value: \"Is\": supported values: \"In\""),
    );
    only(
        rule(codes("In", json!([0]))),
        &at(".onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator"),
    );
    only(rule(codes("In", json!([1, 1]))), &at(".onExitCodes.values[1]: Duplicate value: 1"));
    only(rule(codes("In", json!([2, 1]))), &at(".onExitCodes.values: Invalid value: [2,1]: must be ordered"));
    only(rule(codes("In", json!([]))), &at(".onExitCodes.values: Invalid value: []: at least one value is required"));
    only(
        rule(json!({"action":"Ignore","onExitCodes":{"containerName":"z","operator":"In","values":[1]}})),
        &at(".onExitCodes.containerName: Invalid value: \"z\": must be one of the container or initContainer names"),
    );
    only(
        rule(json!({"action":"Ignore","onPodConditions":[{"type":"x","status":"Maybe"}]})),
        &at(".onPodConditions[0].status: Unsupported value: \"Maybe\""),
    );
    only(
        |s| {
            rule(codes("In", json!([1])))(s);
            s["template"]["spec"]["restartPolicy"] = "OnFailure".into();
        },
        "spec.template.spec.restartPolicy: Invalid value: \"OnFailure\": only \"Never\" is supported when podFailurePolicy",
    );
}

#[test]
fn most_of_a_job_is_immutable() {
    let old = job(|_| {});
    for (field, value) in [
        ("completions", json!(9)),
        ("selector", json!({"matchLabels":{"a":"b"}})),
        ("template", json!({"spec":{}})),
        ("completionMode", json!("Indexed")),
        ("managedBy", json!("a.b/c")),
    ] {
        let got = update_errors("jobs.batch", old.clone(), job(|s| s[field] = value.clone()));
        let got: Vec<&String> = got.iter().filter(|e| e.contains("field is immutable")).collect();
        assert!(got.len() == 1 && got[0].starts_with(&format!("spec.{field}: Invalid value: ")), "{field}: {got:?}");
    }
    assert!(update_errors("jobs.batch", old.clone(), job(|s| s["parallelism"] = 9.into())).is_empty());
    let elastic = job(indexed(|_| {}));
    let both = job(indexed(|s| {
        s["completions"] = 7.into();
        s["parallelism"] = 7.into();
    }));
    assert!(update_errors("jobs.batch", elastic.clone(), both).is_empty());
    assert_eq!(
        update_errors("jobs.batch", elastic, job(indexed(|s| s["completions"] = 7.into()))),
        ["spec.completions: Invalid value: 7: can only be modified in tandem with spec.parallelism"]
    );
}

#[test]
fn a_cron_job_gets_upstreams_defaults() {
    let d = defaulted("cronjobs.batch", json!({"spec":{"schedule":"@daily"}}));
    let mut own = d["spec"].as_object().unwrap().clone();
    own.remove("jobTemplate");
    assert_eq!(
        Value::Object(own),
        json!({"schedule":"@daily","concurrencyPolicy":"Allow","suspend":false,"successfulJobsHistoryLimit":3,
            "failedJobsHistoryLimit":1})
    );
    // The Job's own defaults come when there is a Job.
    assert_eq!(d["spec"]["jobTemplate"]["spec"].as_object().unwrap().keys().collect::<Vec<_>>(), ["template"]);
}

#[test]
fn rules_of_cron_jobs() {
    let c = |change: &dyn Fn(&mut Value)| {
        let mut object = samples()["cronjobs.batch"].clone();
        object["metadata"] = json!({"name":"c"});
        change(&mut object);
        defaulted("cronjobs.batch", object)
    };
    let kinds = Kinds::builtin();
    let strategy = &kinds.group_resource("cronjobs.batch").unwrap().strategy;
    let all = |object: &Value, old: Option<&Value>| {
        let mut errors = Vec::new();
        strategy.validate(object, &mut errors);
        match old {
            Some(old) => strategy.validate_update(object, old, &mut errors),
            None => strategy.validate_create(object, &mut errors),
        }
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    type Change = &'static dyn Fn(&mut Value);
    let cases: [(Change, &str); 11] = [
        (&|o| o["spec"]["schedule"] = "".into(), "spec.schedule: Required value"),
        (
            &|o| o["spec"]["schedule"] = "* * *".into(),
            "spec.schedule: Invalid value: \"* * *\": expected exactly 5 fields, found 3: [* * *]",
        ),
        (
            &|o| o["spec"]["schedule"] = "TZ=UTC 0 * * * *".into(),
            "spec.schedule: Invalid value: \"TZ=UTC 0 * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field",
        ),
        (
            &|o| o["spec"]["timeZone"] = "Mars/Base".into(),
            "spec.timeZone: Invalid value: \"Mars/Base\": unknown time zone Mars/Base",
        ),
        (
            &|o| o["spec"]["concurrencyPolicy"] = "Often".into(),
            "spec.concurrencyPolicy: Unsupported value: \"Often\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
        ),
        (&|o| o["spec"]["startingDeadlineSeconds"] = (-1).into(), "spec.startingDeadlineSeconds: Invalid value: -1"),
        (&|o| o["spec"]["failedJobsHistoryLimit"] = (-1).into(), "spec.failedJobsHistoryLimit: Invalid value: -1"),
        (
            &|o| o["spec"]["jobTemplate"]["spec"]["selector"] = json!({}),
            "spec.jobTemplate.spec.selector: Invalid value: {}: `selector` will be auto-generated",
        ),
        (
            &|o| o["spec"]["jobTemplate"]["spec"]["manualSelector"] = true.into(),
            "spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: \"nil\", \"false\"",
        ),
        (
            &|o| o["spec"]["jobTemplate"]["spec"]["template"]["spec"]["restartPolicy"] = "Always".into(),
            "spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
        ),
        (
            &|o| o["metadata"]["name"] = "a".repeat(53).into(),
            "metadata.name: Invalid value: \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\": must be no more than 52",
        ),
    ];
    for (change, want) in cases {
        let got = all(&c(change), None);
        assert!(got.len() == 1 && got[0].starts_with(want), "want {want}\ngot  {got:#?}");
    }
    // An old object keeps what new ones may not have.
    let old = c(&|o| o["spec"]["schedule"] = "TZ=UTC 0 * * * *".into());
    assert!(all(&old, Some(&old)).is_empty());
    let both = c(&|o| {
        o["spec"]["schedule"] = "TZ=UTC 0 * * * *".into();
        o["spec"]["timeZone"] = "UTC".into();
    });
    assert!(all(&both, Some(&old))[0].contains("cannot use both timeZone field and TZ or CRON_TZ in schedule"));
    assert!(all(&c(&|o| o["spec"]["timeZone"] = "Europe/Vienna".into()), None).is_empty());
}

#[test]
fn rows_of_jobs() {
    let meta = json!({"name":"x","creationTimestamp":"2026-01-01T00:58:00Z"});
    let template = json!({"spec":{"containers":[{"name":"a","image":"i"}]}});
    let spec = |completions: Value, parallelism: i64| {
        json!({"completions":completions,"parallelism":parallelism,"template":template,
            "selector":{"matchLabels":{"controller-uid":"u"}}})
    };
    let started = "2026-01-01T00:59:00Z";
    let is = |kind: &str| json!([{"type":kind,"status":"True"}]);
    for (spec, status, want) in [
        (spec(json!(3), 1), json!({}), ["Running", "0/3", ""]),
        (spec(Value::Null, 1), json!({"startTime":started,"succeeded":1}), ["Running", "1/1", "60s"]),
        (
            spec(Value::Null, 4),
            json!({"startTime":started,"completionTime":"2026-01-01T00:59:05Z","conditions":is("Complete"),"succeeded":4}),
            ["Complete", "4/1 of 4", "5s"],
        ),
        (spec(json!(1), 1), json!({"conditions":is("Failed")}), ["Failed", "0/1", ""]),
        (spec(json!(1), 1), json!({"conditions":is("Suspended")}), ["Suspended", "0/1", ""]),
        (spec(json!(1), 1), json!({"conditions":is("FailureTarget")}), ["FailureTarget", "0/1", ""]),
    ] {
        let got = row("jobs.batch", json!({"metadata":meta,"spec":spec,"status":status}));
        assert_eq!(
            (&got[1..4], &got[4..]),
            (&want.map(String::from)[..], &["2m", "a", "i", "controller-uid=u"].map(String::from)[..])
        );
    }
    let cron = json!({"metadata":meta,"spec":{"schedule":"@daily","suspend":true,"timeZone":"UTC",
        "jobTemplate":{"spec":{"template":template}}},"status":{"active":[{},{}],"lastScheduleTime":started}});
    assert_eq!(row("cronjobs.batch", cron), ["x", "@daily", "UTC", "True", "2", "60s", "2m", "a", "i", "<none>"]);
    let idle = json!({"metadata":meta,"spec":{"schedule":"@daily","suspend":false}});
    assert_eq!(row("cronjobs.batch", idle)[2..6], ["<none>", "False", "0", "<none>"]);
    let kinds = Kinds::builtin();
    let jobs = kinds.group_resource("jobs.batch").unwrap();
    assert_eq!(jobs.strategy.field(&json!({"status":{"succeeded":2}}), "status.successful"), "2");
}
