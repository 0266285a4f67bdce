//! No transaction is half there: what is written together is seen together, wherever and whenever it is read.

use copepod_model::Key;
use copepod_state::Tables;

use super::Broken;

/// The keys that are written together, always with the same body but for the revision.
pub fn twins() -> [Key; 2] {
    ["twin-a", "twin-b"].map(|name| Key::new("configmaps", "twins", name))
}

/// Checks what a reader sees.
pub fn check(tables: &Tables) -> Result<(), Broken> {
    let [a, b] = twins().map(|key| tables.at(&key).map(|o| o.value()["data"]["value"].clone()));
    if a == b {
        return Ok(());
    }
    Err(("whole", format!("at {} one of two has {a:?} and the other {b:?}", tables.revision())))
}
