//! The registry by its protocol, one request at a time.

use http_body_util::BodyExt as _;
use hyper::body::Bytes;
use serde_json::Value;

use super::*;
use crate::store::StoreOptions;

/// Who begins with `reader` may read, `writer` anything.
struct ByName;

impl Authorizer for ByName {
    fn allowed(&self, a: &Attributes<'_>) -> Result<(), Status> {
        let may = match a.user.name.split('-').next() {
            Some("writer") => true,
            Some("reader") => a.verb == "get",
            // Only in the namespace of their name.
            Some("tenant") => a.user.name.strip_prefix("tenant-") == Some(a.namespace),
            _ => false,
        };
        if may { Ok(()) } else { Err(a.forbidden("")) }
    }
}

struct Bench {
    dir: tempfile::TempDir,
    store: Store,
    images: Images,
    user: &'static str,
}

struct Got {
    status: u16,
    headers: http::HeaderMap,
    body: Bytes,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
    fn code(&self) -> (u16, String) {
        (self.status, self.json()["errors"][0]["code"].as_str().unwrap_or_default().to_string())
    }
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(StoreOptions::new(dir.path().join("state"), 1)).unwrap();
        let images = Images::open(dir.path().into(), store.clone(), None).unwrap();
        Bench { dir, store, images, user: "writer" }
    }
    fn restart(&mut self) {
        self.images = Images::open(self.dir.path().into(), self.store.clone(), None).unwrap();
    }
    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Got {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(copepod_client::body(body.into())).unwrap();
        let user = UserInfo { name: self.user.into(), ..UserInfo::default() };
        let (head, body) = self.images.answer(request, &user, &ByName).await.into_parts();
        Got { status: head.status.as_u16(), headers: head.headers, body: body.collect().await.unwrap().to_bytes() }
    }
    async fn get(&self, path: &str) -> Got {
        self.send("GET", path, &[], "").await
    }
    async fn blob(&self, name: &str, bytes: &'static str) -> String {
        let digest = path::Digest::of(bytes.as_bytes()).to_string();
        let got = self.send("POST", &format!("/v2/{name}/blobs/uploads/?digest={digest}"), &[], bytes).await;
        assert_eq!(got.status, 201, "{:?}", got.body);
        digest
    }
    async fn manifest(&self, name: &str, tag: &str, layer: &str, more: Value) -> Got {
        let mut manifest = json!({"schemaVersion": 2, "mediaType": OCI, "config": {"digest": layer, "mediaType": "c/d"}, "layers": [{"digest": layer}]});
        manifest.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.send("PUT", &format!("/v2/{name}/manifests/{tag}"), &[("content-type", OCI)], manifest.to_string()).await
    }
    fn files(&self, folder: &str) -> usize {
        std::fs::read_dir(self.dir.path().join(folder)).unwrap().count()
    }
}

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";

#[tokio::test]
async fn push_and_pull() {
    let mut b = Bench::new();
    let layer = b.blob("team/app", "content").await;
    let pushed = b.manifest("team/app", "1", &layer, json!({})).await;
    assert_eq!(pushed.status, 201, "{:?}", pushed.body);
    b.restart();
    for path in ["/v2/team/app/manifests/1".to_string(), pushed.header("location").into()] {
        let got = b.get(&path).await;
        assert_eq!((got.status, got.header("content-type")), (200, OCI));
        assert_eq!(got.header("docker-content-digest"), pushed.header("docker-content-digest"));
        assert_eq!(path::Digest::of(&got.body).to_string(), got.header("docker-content-digest"));
        let head = b.send("HEAD", &path, &[], "").await;
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(head.header("content-length"), got.body.len().to_string());
    }
    let at = format!("/v2/team/app/blobs/{layer}");
    assert_eq!(b.get(&at).await.body, "content");
    let part = b.send("GET", &at, &[("range", "bytes=3-")], "").await;
    assert_eq!((part.status, &part.body[..], part.header("content-range")), (206, &b"tent"[..], "bytes 3-6/7"));
    assert_eq!(b.send("GET", &at, &[("range", "bytes=7-")], "").await.status, 416);
    let head = b.send("HEAD", &at, &[], "").await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, "7", 0));
    // What one repository has, another has not.
    assert_eq!(b.get(&format!("/v2/other/blobs/{layer}")).await.code(), (404, "BLOB_UNKNOWN".into()));
}

#[tokio::test]
async fn chunks_resume_and_outlive_a_restart() {
    let mut b = Bench::new();
    let begun = b.send("POST", "/v2/app/blobs/uploads/", &[], "").await;
    assert_eq!((begun.status, begun.header("range")), (202, "0-0"));
    let at = begun.header("location").to_string();
    let first = b.send("PATCH", &at, &[("content-range", "0-3")], "cont").await;
    assert_eq!((first.status, first.header("range")), (202, "0-3"));
    b.restart();
    let skipped = b.send("PATCH", &at, &[("content-range", "5-6")], "nt").await;
    assert_eq!((skipped.status, skipped.header("range")), (416, "0-3"));
    let stand = b.get(&at).await;
    assert_eq!((stand.status, stand.header("range")), (204, "0-3"));
    // Another repository does not take it up.
    let stolen = at.replace("/v2/app/", "/v2/other/");
    assert_eq!(b.send("PATCH", &stolen, &[], "x").await.code(), (404, "BLOB_UPLOAD_UNKNOWN".into()));
    assert_eq!(b.send("PATCH", "/v2/app/blobs/uploads/..%2fx", &[], "x").await.status, 404);
    let digest = path::Digest::of(b"content").to_string();
    let end = b.send("PUT", &format!("{at}?digest={digest}"), &[("content-range", "4-6")], "ent").await;
    assert_eq!(end.status, 201, "{:?}", end.body);
    assert_eq!(b.get(end.header("location")).await.body, "content");
    assert_eq!(b.get(&at).await.status, 404);
    assert_eq!(b.files("uploads"), 0);
    // One that is given up leaves nothing.
    let begun = b.send("POST", "/v2/app/blobs/uploads/", &[], "").await;
    assert_eq!(b.send("DELETE", begun.header("location"), &[], "").await.status, 204);
    assert_eq!(b.files("uploads"), 0);
}

#[tokio::test]
async fn what_is_not_what_it_says_is_refused() {
    let b = Bench::new();
    let other = path::Digest::of(b"other").to_string();
    let e = b.send("POST", &format!("/v2/app/blobs/uploads/?digest={other}"), &[], "content").await;
    assert_eq!(e.code(), (400, "DIGEST_INVALID".into()));
    let begun = b.send("POST", "/v2/app/blobs/uploads/", &[], "").await;
    let e = b.send("PUT", &format!("{}?digest={other}", begun.header("location")), &[], "content").await;
    assert_eq!(e.code(), (400, "DIGEST_INVALID".into()));
    assert_eq!((b.files("uploads"), b.files("blobs")), (0, 0));
    assert_eq!(b.manifest("app", "1", &other, json!({})).await.code(), (404, "MANIFEST_BLOB_UNKNOWN".into()));
    let layer = b.blob("app", "content").await;
    assert_eq!(b.manifest("app", &other, &layer, json!({})).await.code(), (400, "DIGEST_INVALID".into()));
    let big = "x".repeat(MAX_MANIFEST + 1);
    assert_eq!(b.send("PUT", "/v2/app/manifests/1", &[], big).await.code(), (413, "MANIFEST_INVALID".into()));
    assert_eq!(b.get("/v2/app/manifests/1").await.code(), (404, "MANIFEST_UNKNOWN".into()));
    assert_eq!(b.send("PUT", "/v2/app/tags/list", &[], "").await.code(), (405, "UNSUPPORTED".into()));
    assert_eq!(b.get("/v2/none/tags/list").await.code(), (404, "NAME_UNKNOWN".into()));
}

#[tokio::test]
async fn tags_pages_deletion_and_referrers() {
    let b = Bench::new();
    let layer = b.blob("app", "content").await;
    for tag in ["c", "a", "b"] {
        b.manifest("app", tag, &layer, json!({})).await;
    }
    let first = b.get("/v2/app/tags/list?n=2").await;
    assert_eq!(first.json(), json!({"name": "app", "tags": ["a", "b"]}));
    assert_eq!(first.header("link"), "</v2/app/tags/list?n=2&last=b>; rel=\"next\"");
    assert_eq!(b.get("/v2/app/tags/list?n=2&last=b").await.json()["tags"], json!(["c"]));
    let digest = b.get("/v2/app/manifests/a").await.header("docker-content-digest").to_string();
    // A signature refers to it.
    let signed =
        b.manifest("app", "sig", &layer, json!({"subject": {"digest": digest}, "artifactType": "x/sig"})).await;
    assert_eq!(signed.header("oci-subject"), digest);
    let referrers = b.get(&format!("/v2/app/referrers/{digest}?artifactType=x/sig")).await;
    assert_eq!(referrers.json()["manifests"][0]["digest"], signed.header("docker-content-digest"));
    assert_eq!(referrers.header("oci-filters-applied"), "artifactType");
    assert_eq!(b.get(&format!("/v2/app/referrers/{layer}")).await.json()["manifests"], json!([]));
    assert_eq!(b.get("/v2/_catalog").await.json()["repositories"], json!(["app"]));

    assert_eq!(b.send("DELETE", "/v2/app/manifests/a", &[], "").await.status, 202);
    assert_eq!(b.get("/v2/app/manifests/b").await.status, 200, "another tag of it stays");
    assert_eq!(b.send("DELETE", &format!("/v2/app/manifests/{digest}"), &[], "").await.status, 202);
    assert_eq!(b.get("/v2/app/tags/list").await.json()["tags"], json!(["sig"]));
    // A blob that another repository has stays for it.
    let mounted = b.send("POST", &format!("/v2/copy/blobs/uploads/?mount={layer}&from=app"), &[], "").await;
    assert_eq!(mounted.status, 201);
    let before = b.files("blobs");
    assert_eq!(b.send("DELETE", &format!("/v2/app/blobs/{layer}"), &[], "").await.status, 202);
    assert_eq!(b.files("blobs"), before);
    assert_eq!(b.get(&format!("/v2/copy/blobs/{layer}")).await.body, "content");
    assert_eq!(b.send("DELETE", &format!("/v2/copy/blobs/{layer}"), &[], "").await.status, 202);
    assert_eq!(b.files("blobs"), before - 1);
    assert_eq!(b.send("DELETE", &format!("/v2/copy/blobs/{layer}"), &[], "").await.code().1, "BLOB_UNKNOWN");
}

#[tokio::test]
async fn who_may_do_what() {
    let mut b = Bench::new();
    let layer = b.blob("x/app", "content").await;
    b.manifest("x/app", "1", &layer, json!({})).await;
    b.user = "system:anonymous";
    let e = b.get("/v2/").await;
    assert_eq!((e.code(), e.header("www-authenticate")), ((401, "UNAUTHORIZED".into()), "Basic realm=\"copepod\""));
    assert_eq!(b.get("/v2/x/app/manifests/1").await.status, 401);
    b.user = "reader";
    assert_eq!(b.get("/v2/").await.status, 200);
    assert_eq!(b.get("/v2/x/app/manifests/1").await.status, 200);
    let e = b.send("POST", "/v2/x/app/blobs/uploads/", &[], "").await;
    assert_eq!(e.code(), (403, "DENIED".into()));
    assert!(e.json()["errors"][0]["message"].as_str().unwrap().contains("cannot update resource \"images\""));
    assert_eq!(b.send("DELETE", "/v2/x/app/manifests/1", &[], "").await.status, 403);
    assert_eq!(b.get("/v2/_catalog").await.status, 403);
    // A tenant pushes to its own namespace, and mounts nothing from where it may not read.
    b.user = "tenant-y";
    assert_eq!(b.send("POST", "/v2/app/blobs/uploads/", &[], "").await.status, 403);
    assert_eq!(b.send("POST", "/v2/x/app/blobs/uploads/", &[], "").await.status, 403);
    let mounted = b.send("POST", &format!("/v2/y/app/blobs/uploads/?mount={layer}&from=x/app"), &[], "").await;
    assert_eq!(mounted.status, 202, "an ordinary upload instead");
}

#[test]
fn a_password_is_a_token() {
    use base64::Engine as _;
    let encode = |text: &str| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text));
    for (given, want) in [
        (encode("anyone:a.b.c"), "Bearer a.b.c"),
        (encode("no password"), "Bearer "),
        ("basic !".into(), "Bearer "),
        ("Bearer t".into(), "Bearer t"),
    ] {
        let mut headers = http::HeaderMap::new();
        headers.insert(header::AUTHORIZATION, given.parse().unwrap());
        take_password_as_token(&mut headers);
        assert_eq!(headers[header::AUTHORIZATION], want, "{given}");
    }
}

#[tokio::test]
async fn what_nobody_has_is_swept_when_it_is_old() {
    let b = Bench::new();
    let age = |path: PathBuf, hours: u64| {
        std::fs::write(&path, "x").unwrap();
        let at = std::time::SystemTime::now() - Duration::from_secs(hours * 3600);
        std::fs::File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
    };
    age(b.dir.path().join("blobs").join("a".repeat(64)), 25);
    age(b.dir.path().join("blobs").join("b".repeat(64)), 1);
    age(b.dir.path().join("uploads/old"), 2);
    age(b.dir.path().join("uploads/new"), 0);
    age(b.dir.path().join("blobs").join("c".repeat(64)), 25);
    let kept = [path::Digest::of_hex(&"c".repeat(64)).unwrap()].into();
    b.images.0.files.sweep(std::time::SystemTime::now(), &kept).unwrap();
    assert_eq!((b.files("blobs"), b.files("uploads")), (2, 1));
}

#[tokio::test]
async fn what_an_earlier_release_kept_in_files_is_there_and_overrules_nothing() {
    let b = Bench::new();
    let layer = b.blob("team/app", "content").await;
    for tag in ["1", "2"] {
        b.manifest("team/app", tag, &layer, json!({})).await;
    }
    let other = b.manifest("other", "1", &b.blob("other", "content").await, json!({"annotations": {"a": "b"}})).await;
    // As it lay there: a tag that nobody has, one that means something else meanwhile, and what is no part of any release.
    let old = b.dir.path().join("repositories");
    let write = |path: &str, value: &str| {
        let path = old.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, value).unwrap();
    };
    let digest = other.header("docker-content-digest").to_string();
    let hex = |digest: &str| digest.trim_start_matches("sha256:").to_string();
    write(&format!("team/app/_blobs/{}", hex(&layer)), "");
    write(&format!("team/app/_manifests/{}", hex(&digest)), OCI);
    write("team/app/_tags/1", &digest);
    write("team/app/_tags/old", &digest);
    write("team/app/_tags/broken", "sha256:..");
    write("team/app/_blobs/broken", "");
    for _ in 0..2 {
        b.images.import().await.unwrap();
        assert!(!old.exists());
        let tags = b.get("/v2/team/app/tags/list").await;
        assert_eq!(tags.json()["tags"], json!(["1", "2", "old"]));
        let got = b.get("/v2/team/app/manifests/old").await;
        assert_eq!((got.header("content-type"), got.header("docker-content-digest")), (OCI, &*digest));
        assert_ne!(b.get("/v2/team/app/manifests/1").await.header("docker-content-digest"), digest);
    }
}
