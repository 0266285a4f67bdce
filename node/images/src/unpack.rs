//! The module inside an ordinary image's layers.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;

use flate2::bufread::MultiGzDecoder;

use crate::blobs::Blobs;

/// The one `.wasm` in these layers (tar files, perhaps gzipped), put into the store: digest and size.
pub(crate) fn only_module(layers: &[PathBuf], limit: u64, blobs: &Blobs) -> io::Result<(String, u64)> {
    let files = layers.iter().map(|path| File::open(path).map(BufReader::new));
    find(files, limit, |module| blobs.add(module, limit).map(|(digest, size, _)| (digest, size)))
}

/// What `keep` makes of the one `.wasm` in these layers.
pub(crate) fn find<R: BufRead, T>(
    layers: impl Iterator<Item = io::Result<R>>,
    limit: u64,
    mut keep: impl FnMut(&mut dyn Read) -> io::Result<T>,
) -> io::Result<T> {
    let mut found = None;
    for layer in layers {
        let mut archive = tar::Archive::new(plain(layer?, limit)?);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let wasm = entry.path()?.extension().is_some_and(|e| e == "wasm");
            if !wasm || !entry.header().entry_type().is_file() {
                continue;
            }
            if found.is_some() {
                return Err(io::Error::other("the image holds more than one .wasm file"));
            }
            found = Some(keep(&mut entry)?);
        }
    }
    found.ok_or_else(|| io::Error::other("the image holds no .wasm file"))
}

/// The tar file. No more than `limit` bytes of content (and something for the headers) come out, however well it was
/// compressed.
fn plain<'a>(mut layer: impl BufRead + 'a, limit: u64) -> io::Result<Box<dyn Read + 'a>> {
    let most = limit.saturating_add(1 << 20);
    Ok(if layer.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
        Box::new(MultiGzDecoder::new(layer).take(most))
    } else {
        Box::new(layer.take(most))
    })
}
