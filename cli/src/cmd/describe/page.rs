//! A page under construction: lines of tab-separated cells, lined up when it is printed, as Go's tabwriter would.

use std::fmt;

use copepod_model::Time;
use serde_json::Value;

use super::age;

/// The lines.
#[derive(Default)]
pub struct Page(Vec<String>);

/// A plain value as text.
pub fn plain(v: &Value) -> String {
    match v {
        Value::String(s) if s.is_empty() => "<none>".into(),
        Value::String(s) => s.clone(),
        Value::Object(_) | Value::Array(_) | Value::Null => "<none>".into(),
        other => other.to_string(),
    }
}

/// The elements of a list, none if there is no list.
pub fn list(v: &Value) -> &[Value] {
    v.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// `a=1,b=2`.
pub fn pairs(v: &Value) -> String {
    let all = v.as_object().into_iter().flatten().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()));
    let all: Vec<String> = all.collect();
    if all.is_empty() { "<none>".into() } else { all.join(",") }
}

impl Page {
    /// A line.
    pub fn line(&mut self, depth: usize, text: impl AsRef<str>) {
        self.0.push(format!("{}{}", "  ".repeat(depth), text.as_ref()));
    }

    /// `Name:  value`.
    pub fn field(&mut self, depth: usize, name: &str, value: impl AsRef<str>) {
        self.line(depth, format!("{name}:\t{}", value.as_ref()));
    }

    /// The same, unless there is no value.
    pub fn some(&mut self, depth: usize, name: &str, value: &Value) {
        if !value.is_null() {
            self.field(depth, name, plain(value));
        }
    }

    /// A map, a pair on each line, beside its name.
    pub fn map(&mut self, depth: usize, name: &str, map: &Value, between: &str) {
        let mut name = format!("{name}:");
        for (k, v) in map.as_object().into_iter().flatten() {
            self.line(depth, format!("{name}\t{k}{between}{}", v.as_str().unwrap_or_default().trim_end()));
            name = String::new();
        }
        if !name.is_empty() {
            self.line(depth, format!("{name}\t<none>"));
        }
    }

    /// Name, namespace, labels and annotations.
    pub fn head(&mut self, object: &Value) {
        let meta = &object["metadata"];
        self.some(0, "Name", &meta["name"]);
        self.some(0, "Namespace", &meta["namespace"]);
        self.some(0, "CreationTimestamp", &meta["creationTimestamp"]);
        self.some(0, "DeletionTimestamp", &meta["deletionTimestamp"]);
        self.map(0, "Labels", &meta["labels"], "=");
        let mut annotations = meta["annotations"].clone();
        if let Some(a) = annotations.as_object_mut() {
            a.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
        self.map(0, "Annotations", &annotations, ": ");
    }

    /// The managing controller.
    pub fn controlled_by(&mut self, object: &Value) {
        if let Some(o) = list(&object["metadata"]["ownerReferences"]).iter().find(|o| o["controller"] == true) {
            self.field(0, "Controlled By", format!("{}/{}", plain(&o["kind"]), plain(&o["name"])));
        }
    }

    /// A table under a title.
    pub fn table(&mut self, title: &str, depth: usize, head: &[&str], rows: Vec<Vec<String>>) {
        if rows.is_empty() {
            return self.field(depth, title, "<none>");
        }
        self.line(depth, format!("{title}:"));
        self.line(depth + 1, head.join("\t"));
        self.line(depth + 1, head.iter().map(|h| "-".repeat(h.len())).collect::<Vec<_>>().join("\t"));
        for row in rows {
            self.line(depth + 1, row.join("\t"));
        }
    }

    /// Types and statuses of conditions, with the reason where there is one.
    pub fn conditions(&mut self, conditions: &Value) {
        let row = |c: &Value| {
            let text = |k: &str| c[k].as_str().unwrap_or_default().to_string();
            vec![text("type"), text("status"), text("reason"), text("message")]
        };
        let rows: Vec<Vec<String>> = list(conditions).iter().map(row).collect();
        if !rows.is_empty() {
            self.table("Conditions", 0, &["Type", "Status", "Reason", "Message"], rows);
        }
    }

    /// The events about the object.
    pub fn events(&mut self, events: &Value, now: Time) {
        let mut events = list(&events["items"]).to_vec();
        let last = |e: &Value| {
            let times = [
                &e["series"]["lastObservedTime"],
                &e["lastTimestamp"],
                &e["eventTime"],
                &e["metadata"]["creationTimestamp"],
            ];
            times.into_iter().find(|t| t.is_string()).cloned().unwrap_or_default()
        };
        events.sort_by_key(|e| last(e).as_str().and_then(Time::parse));
        let row = |e: &Value| {
            let text = |v: &Value| v.as_str().unwrap_or_default().trim_end().to_string();
            let count = e["count"].as_u64().or(e["series"]["count"].as_u64()).unwrap_or(1);
            let seen = age(&last(e), now);
            let seen =
                if count > 1 { format!("{seen} (x{count} over {})", age(&e["firstTimestamp"], now)) } else { seen };
            let from = [&e["source"]["component"], &e["reportingComponent"]].into_iter().find(|c| c.is_string());
            vec![text(&e["type"]), text(&e["reason"]), seen, text(from.unwrap_or(&Value::Null)), text(&e["message"])]
        };
        let rows = events.iter().map(row).collect();
        self.table("Events", 0, &["Type", "Reason", "Age", "From", "Message"], rows);
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines: Vec<Vec<String>> = self.0.iter().map(|l| l.split('\t').map(Into::into).collect()).collect();
        let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
        for column in 0..columns {
            // Cells line up with those of the lines right above and below that have something after them.
            let mut at = 0;
            while at < lines.len() {
                let run = lines[at..].iter().take_while(|l| l.len() > column + 1).count();
                let width = lines[at..at + run].iter().map(|l| l[column].chars().count()).max().unwrap_or(0) + 2;
                for line in &mut lines[at..at + run] {
                    line[column] = format!("{:<width$}", line[column]);
                }
                at += run.max(1);
            }
        }
        lines.iter().try_for_each(|l| writeln!(f, "{}", l.concat().trim_end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn neighbours_line_up() {
        let mut page = Page::default();
        page.field(0, "Name", "x");
        page.map(0, "Annotations", &json!({"a": "1", "b": "2"}), ": ");
        page.line(0, "Containers:");
        page.field(1, "Image", "y");
        assert_eq!(
            page.to_string(),
            "Name:         x\nAnnotations:  a: 1\n              b: 2\nContainers:\n  Image:  y\n"
        );
    }

    #[test]
    fn events_are_in_order_and_counted() {
        let mut page = Page::default();
        let event = |reason: &str, at: &str, count: u64| {
            json!({"type": "Normal", "reason": reason, "message": "m\n", "count": count, "lastTimestamp": at,
                "firstTimestamp": "2026-01-01T00:00:00Z", "source": {"component": "c"}})
        };
        let list =
            json!({"items": [event("Late", "2026-01-01T00:01:00Z", 3), event("Early", "2026-01-01T00:00:30Z", 1)]});
        page.events(&list, Time::parse("2026-01-01T00:01:30Z").unwrap());
        let want = [
            "Events:",
            "  Type    Reason  Age                From  Message",
            "  ----    ------  ---                ----  -------",
            "  Normal  Early   60s                c     m",
            "  Normal  Late    30s (x3 over 90s)  c     m",
        ];
        assert_eq!(page.to_string().lines().collect::<Vec<_>>(), want);
        let mut none = Page::default();
        none.events(&Value::Null, Time::default());
        assert_eq!(none.to_string(), "Events:  <none>\n");
    }
}
