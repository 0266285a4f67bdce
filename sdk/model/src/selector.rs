//! Label and field selectors (apimachinery `pkg/labels`, `pkg/fields`): parsed once, matched often.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

mod query;

/// A conjunction of requirements on labels. The empty selector matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    op: Op,
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    In,
    NotIn,
    Exists,
    Absent,
    Greater,
    Less,
}

/// Text that is not a selector; the message is for the client's 400.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(pub String);

impl LabelSelector {
    /// Parses a query's `labelSelector`: `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1,m<2`.
    pub fn parse(text: &str) -> Result<LabelSelector, ParseError> {
        query::parse(text).map(LabelSelector)
    }

    /// From a `metav1.LabelSelector`; `None` (as in upstream's nil) matches nothing, so callers decide before.
    pub fn from_json(selector: &Value) -> Result<LabelSelector, ParseError> {
        let mut out = Vec::new();
        for (k, v) in selector["matchLabels"].as_object().into_iter().flatten() {
            let value = v.as_str().unwrap_or_default().to_string();
            out.push(Requirement { key: k.clone(), op: Op::In, values: vec![value] });
        }
        for e in selector["matchExpressions"].as_array().into_iter().flatten() {
            let key = e["key"].as_str().unwrap_or_default().to_string();
            let values: Vec<String> =
                e["values"].as_array().into_iter().flatten().filter_map(|v| v.as_str().map(Into::into)).collect();
            let op = match e["operator"].as_str() {
                Some("In") => Op::In,
                Some("NotIn") => Op::NotIn,
                Some("Exists") => Op::Exists,
                Some("DoesNotExist") => Op::Absent,
                other => {
                    return Err(ParseError(format!(
                        "\"{}\" is not a valid label selector operator",
                        other.unwrap_or("")
                    )));
                }
            };
            out.push(Requirement { key, op, values });
        }
        Ok(LabelSelector(out))
    }

    /// From a map in which every pair must match, such as a Service's selector.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> LabelSelector {
        let one = |(k, v): (&str, &str)| Requirement { key: k.into(), op: Op::In, values: vec![v.into()] };
        LabelSelector(pairs.into_iter().map(one).collect())
    }

    /// Whether there is no requirement.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `labels` satisfy every requirement.
    pub fn matches(&self, labels: &BTreeMap<Box<str>, Box<str>>) -> bool {
        self.matches_with(|k| labels.get(k).map(|v| &**v))
    }

    /// Whether the labels that `get` finds satisfy every requirement.
    pub fn matches_with<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|r| {
            let value = get(&r.key);
            // What is no number is neither greater nor less.
            let number = |text: &str| text.parse::<i64>().ok();
            let compared = || Some(number(value?)?.cmp(&number(r.values.first()?)?));
            match r.op {
                Op::In => value.is_some_and(|v| r.values.iter().any(|x| x == v)),
                Op::NotIn => value.is_none_or(|v| r.values.iter().all(|x| x != v)),
                Op::Exists => value.is_some(),
                Op::Absent => value.is_none(),
                Op::Greater => compared() == Some(Ordering::Greater),
                Op::Less => compared() == Some(Ordering::Less),
            }
        })
    }
}

impl std::fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, r) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            match (r.op, r.values.as_slice()) {
                (Op::In, [one]) => write!(f, "{}={one}", r.key)?,
                (Op::In, many) => write!(f, "{} in ({})", r.key, many.join(","))?,
                (Op::NotIn, [one]) => write!(f, "{}!={one}", r.key)?,
                (Op::NotIn, many) => write!(f, "{} notin ({})", r.key, many.join(","))?,
                (Op::Exists, _) => f.write_str(&r.key)?,
                (Op::Absent, _) => write!(f, "!{}", r.key)?,
                (Op::Greater, values) => write!(f, "{}>{}", r.key, values.concat())?,
                (Op::Less, values) => write!(f, "{}<{}", r.key, values.concat())?,
            }
        }
        Ok(())
    }
}

/// A conjunction of equalities and inequalities on an object's selectable fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector(Vec<(String, bool, String)>);

impl FieldSelector {
    /// Parses a query's `fieldSelector`: `a=b,c!=d`, with `\\`, `\,` and `\=` as escapes.
    pub fn parse(text: &str) -> Result<FieldSelector, ParseError> {
        let mut out = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let end = unescaped(rest, ',').unwrap_or(rest.len());
            let part = &rest[..end];
            rest = rest.get(end + 1..).unwrap_or("");
            if part.is_empty() {
                continue;
            }
            let at = part
                .find('=')
                .ok_or_else(|| ParseError(format!("invalid selector: '{text}'; can't understand '{part}'")))?;
            let (key, equal) = match part[..at].strip_suffix('!') {
                Some(key) => (key, false),
                None => (&part[..at], true),
            };
            let value = part[at + 1..].strip_prefix('=').filter(|_| equal).unwrap_or(&part[at + 1..]);
            out.push((key.to_string(), equal, unescape(value)));
        }
        Ok(FieldSelector(out))
    }

    /// Whether there is no requirement.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The fields that it names.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(k, _, _)| k.as_str())
    }

    /// The value that `field` must equal, if it must equal one.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.0.iter().find(|(k, equal, _)| *equal && k == field).map(|(_, _, v)| v.as_str())
    }

    /// Whether the fields that `get` finds (absent ones count as empty) satisfy every requirement.
    pub fn matches(&self, get: impl Fn(&str) -> String) -> bool {
        self.0.iter().all(|(k, equal, v)| (get(k) == *v) == *equal)
    }
}

impl std::fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, (key, equal, value)) in self.0.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            write!(f, "{comma}{key}{}=", if *equal { "" } else { "!" })?;
            for c in value.chars() {
                if matches!(c, '\\' | ',' | '=') {
                    f.write_char('\\')?;
                }
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

fn unescaped(text: &str, wanted: char) -> Option<usize> {
    let mut escaped = false;
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == wanted => return Some(i),
            _ => {}
        }
    }
    None
}

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(if c == '\\' { chars.next().unwrap_or('\\') } else { c });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<Box<str>, Box<str>> {
        pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
    }

    #[test]
    fn label_selectors_match() {
        let l = labels(&[("app", "web"), ("tier", "front")]);
        for (text, want) in [
            ("", true),
            ("app=web", true),
            ("app==web,tier=front", true),
            ("app!=web", false),
            ("app in (a, web)", true),
            ("app notin (web)", false),
            ("x notin (web)", true),
            ("app", true),
            ("!app", false),
            ("!x", true),
            ("x", false),
            ("app=web,x=y", false),
            ("kubernetes.io/name!=a", true),
        ] {
            assert_eq!(LabelSelector::parse(text).unwrap().matches(&l), want, "{text}");
        }
        let s = json!({"matchLabels":{"app":"web"},"matchExpressions":[{"key":"x","operator":"DoesNotExist"}]});
        let s = LabelSelector::from_json(&s).unwrap();
        assert!(s.matches(&l));
        assert_eq!(s.to_string(), "app=web,!x");
    }

    #[test]
    fn labels_are_compared_as_integers() {
        let l = labels(&[("n", "10"), ("word", "x")]);
        for (text, want) in [
            ("n>9", true),
            ("n > 10", false),
            ("n<11", true),
            ("n<10,n", false),
            ("word>1", false),
            ("word<1", false),
            ("none<1", false),
            ("n>9,n<11,word in (x)", true),
        ] {
            assert_eq!(LabelSelector::parse(text).unwrap().matches(&l), want, "{text}");
        }
        assert_eq!(LabelSelector::parse("n > 9,n<11").unwrap().to_string(), "n>9,n<11");
    }

    #[test]
    fn what_is_no_selector_is_said_in_upstreams_words() {
        for (text, want) in [
            ("p in", "unable to parse requirement: found '' expected: '('"),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("a in (=)", "unable to parse requirement: found '=', expected: ',', ')' or identifier"),
            ("a in (b,=", "unable to parse requirement: found '=', expected: ',', or identifier"),
            (
                "a in ()",
                "unable to parse requirement: values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty",
            ),
            ("=b", "found '=', expected: !, identifier, or 'end of string'"),
            (",a", "found ',', expected: !, identifier, or 'end of string'"),
            ("!", "unable to parse requirement: found '', expected: identifier"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            ("!a=b", "found '=', expected: ',' or 'end of string'"),
            ("a)", "unable to parse requirement: found ')', expected: in, notin, =, ==, !=, gt, lt"),
            ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("a=b,,c", "found ',', expected: identifier after ','"),
            ("a=b,", "found '', expected: identifier after ','"),
            ("a==>b", "unable to parse requirement: found '>', expected: identifier"),
            (
                "a>b",
                "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value must be an \
                 integer",
            ),
        ] {
            assert_eq!(LabelSelector::parse(text).map_err(|e| e.0), Err(want.to_string()), "{text}");
        }
        let key = LabelSelector::parse("-a").unwrap_err().0;
        assert!(
            key.starts_with("unable to parse requirement: <nil>: Invalid value: \"-a\": name part must consist of"),
            "{key}"
        );
        let value = LabelSelector::parse("a in (b, -c)").unwrap_err().0;
        let start =
            "unable to parse requirement: values[0][a]: Invalid value: \"-c\": a valid label must be an empty string";
        assert!(value.starts_with(start), "{value}");
        for (text, want) in [("a in (b,)", "a in (,b)"), ("a in (,)", "a="), ("in in (in,notin)", "in in (in,notin)")] {
            assert_eq!(LabelSelector::parse(text).unwrap().to_string(), want, "{text}");
        }
    }

    #[test]
    fn field_selectors_match() {
        let get = |f: &str| if f == "status.phase" { "Running".into() } else { String::new() };
        for (text, want) in [
            ("status.phase=Running", true),
            ("status.phase!=Running", false),
            ("status.phase==Running,a=", true),
            ("a!=", false),
            ("", true),
        ] {
            assert_eq!(FieldSelector::parse(text).unwrap().matches(get), want, "{text}");
        }
        assert!(FieldSelector::parse("abc").is_err());
        for (text, want) in [("a==b,,c!=d", "a=b,c!=d"), (r"a=x\,y\=z\\,b=", r"a=x\,y\=z\\,b="), ("", "")] {
            assert_eq!(FieldSelector::parse(text).unwrap().to_string(), want, "{text}");
        }
        assert_eq!(FieldSelector::parse(r"a=x\,y\=z").unwrap().exact("a"), Some("x,y=z"));
    }
}
