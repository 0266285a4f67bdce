//! The inputs that are kept in `corpus/TARGET`: those that the targets' seeds make, and `regress-WHAT` for each that ever failed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::Target;

/// What the names of inputs begin with that once failed.
pub const REGRESSION: &str = "regress-";

/// Where it is in the source.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// The inputs of a target with their names, in their order; none if it has no folder.
pub fn read(folder: &Path, target: &str) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut out = Vec::new();
    match fs::read_dir(folder.join(target)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        entries => {
            for entry in entries? {
                let entry = entry?;
                out.push((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?));
            }
        }
    }
    out.sort();
    Ok(out)
}

/// Writes a target's seeds, and removes those that it has no more.
pub fn write_seeds(folder: &Path, target: &Target) -> io::Result<usize> {
    let own = folder.join(target.name);
    fs::create_dir_all(&own)?;
    let seeds = (target.seeds)();
    for (name, _) in read(folder, target.name)? {
        if !name.starts_with(REGRESSION) && seeds.iter().all(|(n, _)| *n != name) {
            fs::remove_file(own.join(name))?;
        }
    }
    for (name, bytes) in &seeds {
        fs::write(own.join(name), bytes)?;
    }
    Ok(seeds.len())
}
