//! How an Event names an object that its own plan creates: the server draws the name only when the create is executed.

use std::fmt::Write;

/// The text that stands for the name of what the plan's step `index` (from 0) will have created.
pub(crate) fn of_step(index: usize) -> String {
    format!("{{step {index}}}")
}

/// Replaces each `{step N}` in an Event's message by the name of the object that step N of the same plan created. The
/// runner calls this with the names it got back.
pub fn fill_names(message: &str, name_of: impl Fn(usize) -> Option<String>) -> String {
    let mut out = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(at) = rest.find("{step ") {
        out.push_str(&rest[..at]);
        let tail = &rest[at + 6..];
        let name = tail.find('}').and_then(|end| Some((end, name_of(tail[..end].parse().ok()?)?)));
        match name {
            Some((end, name)) => {
                let _ = write!(out, "{name}");
                rest = &tail[end + 1..];
            }
            None => {
                out.push_str("{step ");
                rest = tail;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filled_in() {
        let names = |i| (i == 3).then(|| "web-abcde".to_string());
        assert_eq!(fill_names(&format!("Created pod: {}", of_step(3)), names), "Created pod: web-abcde");
        assert_eq!(fill_names("{step 4} {step x} {step ", names), "{step 4} {step x} {step ");
        assert_eq!(fill_names("{step 3}{step 3}.", names), "web-abcdeweb-abcde.");
    }
}
