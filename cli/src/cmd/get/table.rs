//! Server tables as aligned text.

use serde_json::Value;

/// What has been printed so far, so that rows that come later line up with it.
pub struct Table {
    wide: bool,
    namespaces: bool,
    prefix: Option<String>,
    headings: bool,
    shown: Vec<usize>,
    widths: Vec<usize>,
}

impl Table {
    /// An empty table. `prefix` goes before names, as in `pod/a`.
    pub fn new(wide: bool, namespaces: bool, prefix: Option<String>, headings: bool) -> Table {
        Table { wide, namespaces, prefix, headings, shown: vec![], widths: vec![] }
    }

    /// The lines of some answers, with headings the first time; empty if there is no row.
    pub fn lines(&mut self, tables: &[Value]) -> String {
        let rows: Vec<&Value> = tables.iter().flat_map(|t| t["rows"].as_array().into_iter().flatten()).collect();
        if rows.is_empty() {
            return String::new();
        }
        let mut lines: Vec<Vec<String>> = Vec::new();
        // Only the first answer of a watch has the columns.
        let columns = tables.iter().find_map(|t| t["columnDefinitions"].as_array().filter(|c| !c.is_empty()));
        if let Some(columns) = columns.filter(|_| self.shown.is_empty()) {
            let shows = |i: &usize| self.wide || columns[*i]["priority"].as_i64().unwrap_or(0) == 0;
            self.shown = (0..columns.len()).filter(shows).collect();
            if self.headings {
                let mut head: Vec<String> = if self.namespaces { vec!["NAMESPACE".into()] } else { vec![] };
                head.extend(self.shown.iter().map(|i| columns[*i]["name"].as_str().unwrap_or_default().to_uppercase()));
                lines.push(head);
            }
        }
        lines.extend(rows.into_iter().map(|row| self.row(row)));
        for line in &lines {
            self.widths.resize(self.widths.len().max(line.len()), 0);
            for (width, cell) in self.widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut out = String::new();
        for line in &lines {
            let cells: Vec<String> = line.iter().zip(&self.widths).map(|(cell, w)| format!("{cell:<w$}")).collect();
            out.push_str(cells.join("   ").trim_end());
            out.push('\n');
        }
        out
    }

    fn row(&self, row: &Value) -> Vec<String> {
        let mut line = Vec::new();
        if self.namespaces {
            line.push(row["object"]["metadata"]["namespace"].as_str().unwrap_or_default().to_string());
        }
        for (at, i) in self.shown.iter().enumerate() {
            let cell = match &row["cells"][*i] {
                Value::String(s) => s.clone(),
                Value::Null => "<none>".into(),
                other => other.to_string(),
            };
            line.push(match &self.prefix {
                Some(prefix) if at == 0 => format!("{prefix}/{cell}"),
                _ => cell,
            });
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer(rows: Value) -> Value {
        json!({"columnDefinitions": [{"name": "Name"}, {"name": "Age", "priority": 0}, {"name": "IP", "priority": 1}],
            "rows": rows})
    }

    #[test]
    fn tables_are_aligned_and_hide_wide_columns() {
        let t = answer(json!([{"cells": ["a-long-name", "1s", "10.0.0.1"]}, {"cells": ["b", "12d", null]}]));
        let table = |wide, prefix| Table::new(wide, false, prefix, true).lines(std::slice::from_ref(&t));
        assert_eq!(table(false, None), "NAME          AGE\na-long-name   1s\nb             12d\n");
        assert!(table(true, None).contains("12d   <none>"));
        assert!(table(false, Some("pod".into())).contains("\npod/b "));
    }

    #[test]
    fn later_rows_line_up() {
        let mut t = Table::new(false, true, None, true);
        assert_eq!(t.lines(&[answer(json!([]))]), "");
        let object = json!({"metadata": {"namespace": "default"}});
        let row = |name: &str| json!([{"cells": [name, "1s", ""], "object": object}]);
        assert_eq!(t.lines(&[answer(row("web-1"))]), "NAMESPACE   NAME    AGE\ndefault     web-1   1s\n");
        assert_eq!(t.lines(&[json!({"rows": row("b")})]), "default     b       1s\n");
    }
}
