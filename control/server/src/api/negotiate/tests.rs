use super::*;

const ALL: Endpoint = Endpoint { protobuf: true, tables: true, partials: true };
const CUSTOM: Endpoint = Endpoint { protobuf: false, tables: true, partials: true };

fn shown(header: &str, endpoint: Endpoint) -> String {
    match accept(header, endpoint) {
        Ok(a) => format!("{:?} {:?}", a.encoding, a.shape),
        Err(status) => status.code.to_string(),
    }
}

#[test]
fn the_first_clause_that_can_be_answered_wins() {
    const TABLES: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
    const LIST: &str = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
    for (header, endpoint, want) in [
        ("", ALL, "Json Object"),
        ("*/*", ALL, "Json Object"),
        ("*", ALL, "Json Object"),
        ("application/*", ALL, "Json Object"),
        ("application/yaml", ALL, "Yaml Object"),
        ("application/vnd.kubernetes.protobuf", ALL, "Protobuf Object"),
        ("application/vnd.kubernetes.protobuf,application/json", ALL, "Protobuf Object"),
        ("application/vnd.kubernetes.protobuf, application/json", CUSTOM, "Json Object"),
        ("application/json,application/vnd.kubernetes.protobuf", ALL, "Json Object"),
        ("application/vnd.kubernetes.protobuf", CUSTOM, "406"),
        ("text/html", ALL, "406"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", ALL, "Json Object"),
        (" ", ALL, "406"),
        ("application/json/x, json", ALL, "406"),
        // Qualities; what cannot be read is none.
        ("application/json;q=0.5, application/yaml;q=0.9", ALL, "Yaml Object"),
        ("application/json;q=x, application/yaml;q=0.1", ALL, "Yaml Object"),
        ("application/json;q=0", ALL, "Json Object"),
        ("*/*, application/yaml;q=0.1", ALL, "Yaml Object"),
        ("application/*, application/yaml;q=0.1", ALL, "Yaml Object"),
        // Shapes.
        (TABLES, ALL, "Json Table(false)"),
        (TABLES, Endpoint::PLAIN, "Json Object"),
        ("application/yaml;as=Table;g=meta.k8s.io;v=v1", ALL, "Yaml Table(false)"),
        ("application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1", ALL, "406"),
        ("application/json;as=Table;g=meta.k8s.io;v=v2,application/yaml", ALL, "Yaml Object"),
        ("application/json;as=Table", ALL, "406"),
        ("application/json;v=v1", ALL, "406"),
        (LIST, ALL, "Protobuf Partials(false)"),
        (LIST, CUSTOM, "Protobuf Partials(false)"),
        (LIST, Endpoint::PLAIN, "Json Object"),
        ("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1beta1", ALL, "Json Partial(true)"),
        ("*/*;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", ALL, "Json Partial(false)"),
        ("application/json;as=Pod;g=meta.k8s.io;v=v1", ALL, "406"),
        // What a watch is, and versions of what is around the answer.
        ("application/json;stream=watch", ALL, "Json Object"),
        ("application/yaml;stream=watch, application/json", ALL, "Json Object"),
        ("application/json;stream=other", ALL, "406"),
        ("application/json;sv=v1", ALL, "Json Object"),
        ("application/json;sv=v2, application/yaml", ALL, "Yaml Object"),
        ("application/json;charset=utf-8;pretty=1", ALL, "Json Object"),
    ] {
        assert_eq!(shown(header, endpoint), want, "{header:?} {endpoint:?}");
    }
}

#[test]
fn refusals_name_what_there_is() {
    let why = accept("text/html", ALL).unwrap_err();
    let all = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
    assert_eq!(why.message, format!("only the following media types are accepted: {all}"));
    // The clause that is taken must stream; another one is not looked for.
    let streamed = |header: &str| accept(header, ALL).and_then(Accepted::streamed);
    let why = streamed("application/yaml, application/json").unwrap_err();
    let some = "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";
    assert_eq!((why.code, why.message), (406, format!("only the following media types are accepted: {some}")));
    let protobuf = "application/yaml;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";
    assert_eq!(streamed(protobuf).unwrap().encoding, Encoding::Protobuf);
}

#[test]
fn clauses_are_sorted_as_upstream_sorts_them() {
    let order = |header: &str| {
        let clauses = clauses(header);
        clauses.iter().map(|c| format!("{}/{}", c.kind, c.subtype)).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(order("a/b;q=0.5,c/d,*/*,e/*;q=2"), "e/* c/d */* a/b");
    assert_eq!(order("a/b,c/d,e/f"), "a/b c/d e/f");
    assert_eq!(order("*/*, a/b;q=0.1"), "a/b */*");
    assert_eq!(order("a/, /b, a, a/b/c, *, ,"), "/b */*");
}

#[test]
fn all_of_discovery_is_found_behind_other_clauses() {
    let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let beta = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
    assert_eq!(aggregated(&format!("{v2},{beta},application/json")), Some(false));
    assert_eq!(aggregated(&format!("application/json,{beta}")), Some(true));
    assert_eq!(aggregated("application/json"), None);
    assert_eq!(aggregated(""), None);
}

#[test]
fn content_types() {
    assert_eq!(content("application/json; charset=utf-8", false).unwrap(), Content::Json);
    assert_eq!(content("application/merge-patch+json", true).unwrap(), Content::Patch(PatchType::Merge));
    assert_eq!(content("application/json", true).unwrap_err().code, 415);
    assert_eq!(content("text/plain", false).unwrap_err().code, 415);
}

#[test]
fn a_header_of_many_clauses_has_the_order_of_a_short_one() {
    // Each better than the one before: what sorting by insertion would take the square of their number for.
    let worse: Vec<_> = (0..20_000).map(|i| format!("a/b;q=0.{i:05}")).collect();
    assert_eq!(shown(&format!("*/*;q=0.9,{},application/yaml;q=0.9", worse[..9000].join(",")), ALL), "Yaml Object");
    assert_eq!(
        shown(&format!("application/json;q=0.1,{},application/yaml;q=0.2", worse.join(",")), ALL),
        "Yaml Object"
    );
}
