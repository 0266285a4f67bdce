//! The built-in image (`examples/toolbox`): every node has it, whatever its registries.

use std::sync::LazyLock;

/// The component.
pub(super) const WASM: &[u8] = include_bytes!("../../../../examples/toolbox/toolbox.wasm");

/// Its digest, as of any image.
pub(super) fn digest() -> &'static str {
    static DIGEST: LazyLock<String> = LazyLock::new(|| {
        let hash = ring::digest::digest(&ring::digest::SHA256, WASM);
        hash.as_ref().iter().fold("sha256:".to_string(), |text, b| text + &format!("{b:02x}"))
    });
    &DIGEST
}
