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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::made;

    #[test]
    fn one_without_the_other_is_found() {
        let mut tables = Tables::default();
        let mut write = |name: &str, value: &str| {
            let twin = json!({"metadata": {"name": name, "namespace": "twins"}, "data": {"value": value}});
            made::put(&mut tables, "configmaps", &twin);
            check(&tables)
        };
        assert!(write("twin-a", "1").is_err());
        write("twin-b", "1").unwrap();
        assert!(write("twin-b", "2").is_err());
    }
}
