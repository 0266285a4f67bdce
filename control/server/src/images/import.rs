//! The repositories of a release that kept them in files, each server its own: they come into the cluster's state once.
//!
//! ```text
//! DIR/repositories/NAME/_blobs/<hex>     the repository has this blob (empty)
//! DIR/repositories/NAME/_manifests/<hex> the repository has this manifest; holds its media type
//! DIR/repositories/NAME/_tags/TAG        holds the digest of a manifest
//! ```

use std::fs;
use std::io;
use std::path::Path;

use copepod_state::{Op, Require, Txn};

use super::Images;
use super::error::OciError;
use super::files::names;
use super::index::{Kind, link, tagged};
use super::path::Digest;

impl Images {
    /// Writes down what this server has of that kind, where nobody has written anything else, and takes the files away. When it
    /// is cut off it can be done again.
    pub(super) async fn import(&self) -> Result<(), OciError> {
        let found = self.disk(|files| {
            let mut out = Vec::new();
            walk(&files.repositories(), "", &mut out)?;
            Ok(out)
        });
        for op in found.await? {
            let absent = match &op {
                Op::Put { key, .. } => vec![Require::Absent(key.clone())],
                _ => Vec::new(),
            };
            self.propose(Txn { require: absent, ops: vec![op], ..Txn::default() }).await?;
        }
        self.disk(|files| match fs::remove_dir_all(files.repositories()) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        })
        .await
    }
}

fn walk(dir: &Path, repository: &str, out: &mut Vec<Op>) -> io::Result<()> {
    for name in names(dir)? {
        let path = dir.join(&name);
        let kind = match name.as_str() {
            "_blobs" => Some(Kind::Blob),
            "_manifests" => Some(Kind::Manifest),
            "_tags" => None,
            _ => {
                let below = if repository.is_empty() { name.clone() } else { format!("{repository}/{name}") };
                walk(&path, &below, out)?;
                continue;
            }
        };
        for entry in names(&path)? {
            let value = fs::read_to_string(path.join(&entry))?;
            out.extend(match kind {
                Some(kind) => Digest::of_hex(&entry).map(|digest| link(repository, kind, &digest, value.trim())),
                None => Digest::parse(value.trim()).ok().map(|digest| tagged(repository, &entry, &digest)),
            });
        }
    }
    Ok(())
}
