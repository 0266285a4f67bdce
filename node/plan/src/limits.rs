//! Limits that Kubernetes has no field for: annotations of the pod.

use std::time::Duration;

use copepod_model::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::effect::Limits;

/// How long one request to a `wasi:http` component may take, such as `1.5s`.
const REQUEST_DEADLINE: &str = "copepod.dev/request-deadline";
/// How many requests an instance answers before it is replaced.
const INSTANCE_REUSE: &str = "copepod.dev/instance-reuse";
/// Bytes of log a second of each container, as a quantity; four times as much may come at once.
const LOG_RATE: &str = "copepod.dev/log-rate";
/// Sockets at once.
const MAX_SOCKETS: &str = "copepod.dev/max-sockets";
/// Files that each container has open at once.
const MAX_OPEN_FILES: &str = "copepod.dev/max-open-files";

/// The most that may be asked for, of whatever is counted.
const MOST: u32 = 1_000_000;

/// The limits of a container; `Err` says which annotation is wrong.
pub(crate) fn limits(pod: &Pod, container: &Container) -> Result<Limits, String> {
    let mut limits = Limits { cpu_request_millis: cpu_request(container), ..Limits::default() };
    let annotation = |name: &str| pod.metadata.annotations.as_ref().and_then(|a| a.get(name)).map(String::as_str);
    let wrong = |name: &str, value: &str, what: &str| format!("annotation {name}: \"{value}\" is not {what}");
    if let Some(text) = annotation(REQUEST_DEADLINE) {
        let deadline = duration(text).ok_or_else(|| wrong(REQUEST_DEADLINE, text, "a duration such as 1.5s"))?;
        limits.request_deadline = Some(deadline);
    }
    if let Some(text) = annotation(LOG_RATE) {
        let rate = text.parse::<Quantity>().ok().and_then(|q| u64::try_from(q.value()).ok()).filter(|r| *r > 0);
        limits.log_rate = rate.ok_or_else(|| wrong(LOG_RATE, text, "a positive quantity of bytes"))?;
        limits.log_burst = limits.log_rate.saturating_mul(4);
    }
    let counts = [
        (INSTANCE_REUSE, &mut limits.instance_reuse),
        (MAX_SOCKETS, &mut limits.sockets),
        (MAX_OPEN_FILES, &mut limits.files),
    ];
    for (name, limit) in counts {
        if let Some(text) = annotation(name) {
            let count = text.parse().ok().filter(|n| (1..=MOST).contains(n));
            *limit = count.ok_or_else(|| wrong(name, text, "a number from 1 to 1000000"))?;
        }
    }
    Ok(limits)
}

/// The request, or the limit where there is no request: admission's defaulting does the same.
pub(crate) fn cpu_request(container: &Container) -> u32 {
    let Some(resources) = &container.resources else { return 0 };
    let cpu = |list: &Option<std::collections::BTreeMap<String, _>>| {
        let quantity: Option<&k8s_openapi::apimachinery::pkg::api::resource::Quantity> = list.as_ref()?.get("cpu");
        u32::try_from(quantity?.0.parse::<Quantity>().ok()?.millis()).ok()
    };
    cpu(&resources.requests).or_else(|| cpu(&resources.limits)).unwrap_or(0)
}

/// A positive duration of one unit, as Go writes it: `250ms`, `1.5s`, `2m`, `1h`.
fn duration(text: &str) -> Option<Duration> {
    let at = text.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
    let seconds = match &text[at..] {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    let number: f64 = text[..at].parse().ok()?;
    Duration::try_from_secs_f64(number * seconds).ok().filter(|d| !d.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(annotations: serde_json::Value, resources: serde_json::Value) -> Result<Limits, String> {
        let pod = serde_json::from_value(json!({"metadata": {"annotations": annotations}})).unwrap();
        let container = serde_json::from_value(json!({"name": "c", "resources": resources})).unwrap();
        limits(&pod, &container)
    }

    #[test]
    fn annotations_set_what_kubernetes_has_no_field_for() {
        let found = of(
            json!({"copepod.dev/request-deadline": "250ms", "copepod.dev/instance-reuse": "100",
                "copepod.dev/log-rate": "1Ki", "copepod.dev/max-sockets": "4",
                "copepod.dev/max-open-files": "5"}),
            json!({"requests": {"cpu": "1500m"}, "limits": {"cpu": "3"}}),
        );
        let wanted = Limits {
            cpu_request_millis: 1500,
            request_deadline: Some(Duration::from_millis(250)),
            log_rate: 1024,
            log_burst: 4096,
            sockets: 4,
            files: 5,
            instance_reuse: 100,
        };
        assert_eq!(found, Ok(wanted));
        assert_eq!(of(json!({}), json!({})), Ok(Limits::default()));
        assert_eq!(of(json!({}), json!({"limits": {"cpu": "2"}})).unwrap().cpu_request_millis, 2000);
    }

    #[test]
    fn nonsense_is_named() {
        for (name, value) in [
            ("request-deadline", "10"),
            ("request-deadline", "0s"),
            ("request-deadline", "-1s"),
            ("request-deadline", "1e400h"),
            ("instance-reuse", "0"),
            ("instance-reuse", "many"),
            ("log-rate", "-1"),
            ("max-sockets", "1000001"),
            ("max-sockets", ""),
            ("max-open-files", "0"),
        ] {
            let name = format!("copepod.dev/{name}");
            let error = of(json!({ name.clone(): value }), json!({})).unwrap_err();
            assert!(error.starts_with(&format!("annotation {name}: \"{value}\" is not ")), "{error}");
        }
    }
}
