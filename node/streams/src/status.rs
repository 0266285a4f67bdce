//! How a command ended, as the error stream tells it (apimachinery `remotecommand.NonZeroExitCodeReason`).

use serde_json::{Value, json};

/// It ended with exit code 0.
pub fn success() -> Value {
    json!({"metadata": {}, "status": "Success"})
}

/// It ended with another exit code.
pub fn exit_code(code: i32) -> Value {
    if code == 0 {
        return success();
    }
    json!({
        "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
        "message": format!("command terminated with non-zero exit code: exit code {code}"),
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

/// It could not be run, or its stream broke.
pub fn failure(why: &str) -> Value {
    json!({
        "metadata": {}, "status": "Failure", "reason": "InternalError",
        "message": format!("Internal error occurred: {why}"), "details": {"causes": [{"message": why}]}, "code": 500,
    })
}

/// What the error stream carries before version 4: nothing on success, else the text.
pub fn plain(status: &Value) -> Option<&str> {
    (status["status"] != "Success").then(|| status["message"].as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_causes() {
        assert_eq!(exit_code(0), success());
        assert_eq!(exit_code(7)["details"]["causes"][0], json!({"reason": "ExitCode", "message": "7"}));
        assert_eq!(plain(&success()), None);
        assert_eq!(plain(&exit_code(7)), Some("command terminated with non-zero exit code: exit code 7"));
    }
}
