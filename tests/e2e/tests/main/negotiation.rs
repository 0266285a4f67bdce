//! What is answered in which form, as curl sees it.

use crate::api::Raw;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const PARTIAL: &str = "as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const PARTIALS: &str = "as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

#[test]
fn answers_have_the_form_that_is_accepted_first() {
    let Some(c) = Raw::up() else { return };
    c.cluster.ok(&["create", "configmap", "m", "--from-literal=a=b"]);
    let one = format!("{MAPS}/m");
    for (path, accept, code, media, has) in [
        (&*one, "", 200, "application/json", "\"kind\":\"ConfigMap\""),
        (&one, "*/*", 200, "application/json", "\"kind\":\"ConfigMap\""),
        (&one, "application/yaml", 200, "application/yaml", "kind: ConfigMap"),
        (&one, "application/json;q=0.1, application/yaml", 200, "application/yaml", "kind: ConfigMap"),
        (&one, &format!("{PROTOBUF},application/json"), 200, PROTOBUF, "ConfigMap"),
        (MAPS, &format!("{PROTOBUF},application/json"), 200, PROTOBUF, "ConfigMapList"),
        // Metadata alone.
        (&one, &format!("{PROTOBUF};{PARTIAL}"), 200, PROTOBUF, "PartialObjectMetadata"),
        (
            MAPS,
            &format!("{PROTOBUF};{PARTIALS},application/json;{PARTIALS}"),
            200,
            PROTOBUF,
            "PartialObjectMetadataList",
        ),
        (
            MAPS,
            &format!("application/json;{PARTIALS}"),
            200,
            "application/json",
            "\"kind\":\"PartialObjectMetadataList\"",
        ),
        (
            MAPS,
            &format!("application/json;{PARTIAL}"),
            406,
            "application/json",
            "the requested object is a list (*core.ConfigMapList)",
        ),
        (&one, &format!("application/json;{PARTIALS}"), 406, "application/json", "is not a list (*core.ConfigMap)"),
        // Tables.
        (MAPS, "application/yaml;as=Table;g=meta.k8s.io;v=v1", 200, "application/yaml", "kind: Table"),
        (
            &one,
            "application/json;as=Table;g=meta.k8s.io;v=v1,application/json",
            200,
            "application/json",
            "\"kind\":\"Table\"",
        ),
        // Errors, too; who accepts nothing gets JSON.
        (&one, "text/html", 406, "application/json", "only the following media types are accepted: application/json, "),
        ("/api/v1/namespaces/default/configmaps/none", "application/yaml", 404, "application/yaml", "reason: NotFound"),
        ("/api/v1/namespaces/default/configmaps/none", PROTOBUF, 404, PROTOBUF, "NotFound"),
        // Watches.
        (&format!("{MAPS}?watch=True&timeoutSeconds=1"), PROTOBUF, 200, &format!("{PROTOBUF};stream=watch"), "ADDED"),
        (&format!("{MAPS}?watch&timeoutSeconds=1"), "", 200, "application/json", "{\"type\":\"ADDED\""),
        (&format!("{MAPS}?watch=False"), "", 200, "application/json", "\"kind\":\"ConfigMapList\""),
        (
            &format!("{MAPS}?watch=1"),
            "application/yaml,application/json",
            406,
            "application/yaml",
            "application/json;stream=watch",
        ),
        // Discovery.
        ("/api/v1", PROTOBUF, 200, PROTOBUF, "APIResourceList"),
        ("/apis", "application/yaml", 200, "application/yaml", "kind: APIGroupList"),
    ] {
        let header = format!("Accept: {accept}");
        // Without a value curl leaves the header out.
        let more = ["-w", "\n%{content_type}\n%{http_code}", "-H", if accept.is_empty() { "Accept:" } else { &header }];
        let (found, body) = c.ask(true, "GET", path, &more);
        let (body, kind) = body.rsplit_once('\n').unwrap_or_default();
        assert_eq!((found, kind), (code, media), "{path} {accept}: {body}");
        assert!(body.contains(has), "{path} {accept}: {body}");
    }
}
