//! Panics as failures: what ends a run has to name its seed.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What `f` comes to, or what its panic said. Nothing that `f` was changing is used afterwards but to end the run.
pub fn caught<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|t| (*t).to_string())).unwrap_or_else(|| "a panic".into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_says_what_it_is_about() {
        assert_eq!(caught(|| 1), Ok(1));
        assert_eq!(caught::<()>(|| panic!("nothing")), Err("nothing".into()));
        assert_eq!(caught::<()>(|| panic!("{} things", 2)), Err("2 things".into()));
    }
}
