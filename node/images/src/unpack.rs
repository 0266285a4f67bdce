//! The module inside an ordinary image's layers.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::blobs::Blobs;

/// The one `.wasm` in these layers (tar files, perhaps gzipped), put into the store: digest and size.
pub(crate) fn only_module(layers: &[std::path::PathBuf], limit: u64, blobs: &Blobs) -> io::Result<(String, u64)> {
    let mut found: Option<(String, u64)> = None;
    for layer in layers {
        let mut archive = tar::Archive::new(open(layer, limit)?);
        for entry in archive.entries()? {
            let entry = entry?;
            let wasm = entry.path()?.extension().is_some_and(|e| e == "wasm");
            if !wasm || !entry.header().entry_type().is_file() {
                continue;
            }
            if found.is_some() {
                return Err(io::Error::other("the image holds more than one .wasm file"));
            }
            let (digest, size, _) = blobs.add(entry, limit)?;
            found = Some((digest, size));
        }
    }
    found.ok_or_else(|| io::Error::other("the image holds no .wasm file"))
}

/// Reads no more than `limit` bytes of content (and something for the headers), however well it was compressed.
fn open(path: &Path, limit: u64) -> io::Result<Box<dyn Read>> {
    let mut head = [0; 2];
    let n = File::open(path)?.read(&mut head)?;
    let (file, most) = (io::BufReader::new(File::open(path)?), limit.saturating_add(1 << 20));
    Ok(if n == 2 && head == [0x1f, 0x8b] {
        Box::new(MultiGzDecoder::new(file).take(most))
    } else {
        Box::new(file.take(most))
    })
}
