//! What a manifest says about an image, and where its WebAssembly is. Decides only; fetches nothing.

use serde::Deserialize;

const WASM_LAYERS: [&str; 5] = [
    "application/wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
    "application/vnd.module.wasm.content.layer.v1+wasm",
    "application/vnd.wasm.content.layer.v1+data",
];

/// What is asked for in `Accept`.
pub(crate) const MANIFEST_TYPES: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// A pointer to a blob.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: String,
    #[serde(default)]
    pub size: u64,
    #[serde(default)]
    pub platform: Option<Platform>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(crate) struct Platform {
    #[serde(default)]
    pub os: String,
    #[serde(default)]
    pub architecture: String,
}

impl Platform {
    /// Whether what is for this platform runs here.
    pub(crate) fn is_wasm(&self) -> bool {
        self.architecture.starts_with("wasm") || self.os.starts_with("wasi")
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

/// What to do next about a manifest.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Next {
    /// It is an index; read this manifest instead.
    Follow(String),
    /// This layer is the module.
    Wasm(Descriptor),
    /// It is an image; its config says for what platform, and these layers (tar, perhaps compressed) hold the module.
    Image {
        config: Descriptor,
        layers: Vec<Descriptor>,
        /// Marked as WebAssembly although its config may say otherwise.
        marked: bool,
    },
}

/// Reads a manifest. The error is for people.
pub(crate) fn read(bytes: &[u8]) -> Result<Next, String> {
    let doc: Document = serde_json::from_slice(bytes).map_err(|e| format!("the manifest cannot be read: {e}"))?;
    if !doc.manifests.is_empty() {
        let wasm = doc.manifests.iter().find(|m| m.platform.as_ref().is_some_and(Platform::is_wasm));
        // An index of one artifact need not name a platform.
        let only = || (doc.manifests.len() == 1 && doc.manifests[0].platform.is_none()).then(|| &doc.manifests[0]);
        return match wasm.or_else(only) {
            Some(m) => Ok(Next::Follow(m.digest.clone())),
            None => {
                let all: Vec<Platform> = doc.manifests.into_iter().filter_map(|m| m.platform).collect();
                Err(wrong_platform(&all))
            }
        };
    }
    let mut wasm: Vec<&Descriptor> =
        doc.layers.iter().filter(|l| WASM_LAYERS.contains(&l.media_type.as_str())).collect();
    if wasm.len() > 1 {
        // Data layers are a module only where nothing else is.
        wasm.retain(|l| !l.media_type.ends_with("+data"));
    }
    match wasm.as_slice() {
        [one] => return Ok(Next::Wasm((*one).clone())),
        [] => {}
        many => return Err(format!("the image has {} WebAssembly layers; exactly one can run", many.len())),
    }
    let Some(config) = doc.config.filter(|c| is_image_config(&c.media_type)) else {
        let types: Vec<&str> = doc.layers.iter().map(|l| l.media_type.as_str()).collect();
        return Err(format!("the artifact has no WebAssembly layer, only {types:?}"));
    };
    let marked = doc.annotations.get("module.wasm.image/variant").is_some_and(|v| v.starts_with("compat"));
    Ok(Next::Image { config, layers: doc.layers, marked })
}

fn is_image_config(media_type: &str) -> bool {
    matches!(media_type, "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json")
}

/// The error for an image that is for other machines.
pub(crate) fn wrong_platform(platforms: &[Platform]) -> String {
    let mut names: Vec<String> = platforms
        .iter()
        .filter(|p| p.os != "unknown" && !p.os.is_empty())
        .map(|p| format!("{}/{}", p.os, p.architecture))
        .collect();
    names.dedup();
    let names = if names.is_empty() { "an unknown platform".into() } else { names.join(", ") };
    format!(
        "image is for {names}; this node runs WebAssembly: wasi/wasm, or an artifact with an application/wasm layer"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn layer(media_type: &str) -> Value {
        json!({"mediaType":media_type,"digest":"sha256:1","size":9})
    }
    fn read_json(v: Value) -> Result<Next, String> {
        read(v.to_string().as_bytes())
    }

    #[test]
    fn artifacts_of_all_kinds() {
        for (config, layers, want) in [
            ("application/vnd.wasm.config.v0+json", vec!["application/wasm"], Some("application/wasm")),
            ("application/vnd.wasm.config.v1+json", vec![WASM_LAYERS[1]], Some(WASM_LAYERS[1])),
            ("application/vnd.oci.empty.v1+json", vec![WASM_LAYERS[2], "text/plain"], Some(WASM_LAYERS[2])),
            ("application/vnd.fermyon.spin.application.v1+config", vec![WASM_LAYERS[4]], Some(WASM_LAYERS[4])),
            ("x", vec![WASM_LAYERS[4], WASM_LAYERS[0], WASM_LAYERS[4]], Some(WASM_LAYERS[0])),
            ("x", vec![WASM_LAYERS[0], WASM_LAYERS[1]], None),
            ("x", vec!["text/plain"], None),
            ("x", vec![], None),
        ] {
            let layers: Vec<Value> = layers.into_iter().map(layer).collect();
            let got = read_json(json!({"schemaVersion":2,"config":layer(config),"layers":layers}));
            let got = got.ok().and_then(|n| if let Next::Wasm(d) = n { Some(d.media_type) } else { None });
            assert_eq!(got.as_deref(), want, "{layers:?}");
        }
    }

    #[test]
    fn images_and_indexes() {
        let image = json!({"config":layer("application/vnd.oci.image.config.v1+json"),
            "layers":[layer("application/vnd.oci.image.layer.v1.tar+gzip")],
            "annotations":{"module.wasm.image/variant":"compat-smart"}});
        assert!(matches!(read_json(image), Ok(Next::Image { marked: true, .. })));
        let index = |platforms: &[(&str, &str)]| {
            let one = |(i, (os, architecture)): (usize, &(&str, &str))| json!({"digest":format!("sha256:{i}"),"platform":{"os":os,"architecture":architecture}});
            json!({"manifests":platforms.iter().enumerate().map(one).collect::<Vec<_>>()})
        };
        assert_eq!(read_json(index(&[("linux", "amd64"), ("wasip1", "wasm")])), Ok(Next::Follow("sha256:1".into())));
        let linux = read_json(index(&[("linux", "amd64"), ("linux", "arm64"), ("unknown", "unknown")]));
        assert!(
            linux.is_err_and(|e| e.starts_with("image is for linux/amd64, linux/arm64; this node runs WebAssembly"))
        );
        assert_eq!(read_json(json!({"manifests":[{"digest":"sha256:0"}]})), Ok(Next::Follow("sha256:0".into())));
        assert!(read(b"[").is_err_and(|e| e.starts_with("the manifest cannot be read")));
    }
}
