//! When an Indexed Job has succeeded (KEP-3998), and texts that name indexes.

use serde_json::Value;

use crate::FieldError;
use crate::kinds::fields::{Path, list, nonnegative};

const RULES: usize = 20;
/// The longest list of indexes in bytes.
const INDEXES: usize = 64 * 1024;

pub(super) fn validate(path: Path<'_>, spec: &Value, errors: &mut Vec<FieldError>) {
    let rules = list(&spec["successPolicy"], "rules");
    let path = path.child("rules");
    if rules.is_empty() {
        let why = "at least one rules must be specified when the successPolicy is specified";
        errors.push(FieldError::required(path, why));
    }
    if rules.len() > RULES {
        errors.push(FieldError::too_many(path, rules.len(), RULES));
    }
    let completions = spec["completions"].as_i64().unwrap_or(0);
    for (i, rule) in rules.iter().enumerate() {
        let path = path.index(i);
        let (count, indexes) = (&rule["succeededCount"], rule["succeededIndexes"].as_str());
        if count.is_null() && indexes.is_none() {
            let why = "at least one of succeededCount or succeededIndexes must be specified";
            errors.push(FieldError::required(path, why));
        }
        let mut total = None;
        if let Some(text) = indexes {
            let at = path.child("succeededIndexes");
            if text.len() > INDEXES {
                errors.push(FieldError::too_long(at, INDEXES));
            }
            match number_of(text, completions) {
                Ok(n) => total = Some(n),
                Err(why) => {
                    total = Some(0);
                    errors.push(FieldError::invalid(at, text, format!("error parsing succeededIndexes: {why}")));
                }
            }
        }
        let at = path.child("succeededCount");
        nonnegative(at, count, errors);
        let Some(count) = count.as_i64() else { continue };
        if count > completions {
            let why = format!("must be less than or equal to {completions} (the number of specified completions)");
            errors.push(FieldError::invalid(at, count, why));
        }
        if let Some(total) = total.filter(|t| count > *t) {
            let why = format!(
                "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
            );
            errors.push(FieldError::invalid(at, count, why));
        }
    }
}

/// How many indexes a text such as `1,3-5` names; they must rise and stay below `completions`.
pub(super) fn number_of(text: &str, completions: i64) -> Result<i64, String> {
    let (mut total, mut last): (i64, Option<i64>) = (0, None);
    if text.is_empty() {
        return Ok(0);
    }
    for part in text.split(',') {
        let (from, to) = interval(part, completions)?;
        if let Some(last) = last.filter(|l| *l >= from) {
            return Err(format!("non-increasing order, previous: {last}, current: {from}"));
        }
        total += to - from + 1;
        last = Some(to);
    }
    Ok(total)
}

/// The first index that two such texts both name. What cannot be read in them is passed over.
pub(super) fn overlap(one: &str, other: &str, completions: i64) -> Option<i64> {
    let intervals = |text: &str| -> Vec<(i64, i64)> {
        text.split(',').filter_map(|part| interval(part, completions).ok()).collect()
    };
    let (one, other) = (intervals(one), intervals(other));
    let (mut i, mut j) = (0, 0);
    while let (Some((a, b)), Some((x, y))) = (one.get(i), other.get(j)) {
        if a <= y && x <= b {
            return Some(*a.max(x));
        }
        if a <= x {
            i += 1;
        } else {
            j += 1;
        }
    }
    None
}

fn interval(part: &str, completions: i64) -> Result<(i64, i64), String> {
    let index = |text: &str| match text.parse::<i64>() {
        Err(_) => Err(format!("cannot convert string to integer for index: {text:?}")),
        Ok(n) if n >= completions => Err(format!("too large index: {text:?}")),
        Ok(n) => Ok(n),
    };
    match part.split('-').collect::<Vec<_>>().as_slice() {
        [one] => index(one).map(|n| (n, n)),
        [from, to] => {
            let (from, to) = (index(from)?, index(to)?);
            if from >= to {
                return Err(format!("non-increasing order, previous: {from}, current: {to}"));
            }
            Ok((from, to))
        }
        _ => Err(format!(
            "the fragment {part:?} violates the requirement that an index interval can have at most two parts separated by '-'"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::{number_of, overlap};

    #[test]
    fn the_first_index_of_both_is_found() {
        for (one, other, want) in [
            ("", "0-9", None),
            ("0-2,5", "3-4,6-9", None),
            ("0-2,5", "3-5", Some(5)),
            ("1,3-7", "2,4-5", Some(4)),
            ("x,3", "3", Some(3)),
            ("10", "10", None),
        ] {
            assert_eq!((overlap(one, other, 10), overlap(other, one, 10)), (want, want), "{one} and {other}");
        }
    }

    #[test]
    fn indexes_are_counted() {
        for (text, want) in [
            ("", Ok(0)),
            ("0", Ok(1)),
            ("1,3-5,9", Ok(5)),
            ("9-10", Err("too large index: \"10\"")),
            ("3,2", Err("non-increasing order, previous: 3, current: 2")),
            ("4-4", Err("non-increasing order, previous: 4, current: 4")),
            ("a", Err("cannot convert string to integer for index: \"a\"")),
            ("1-2-3", Err("the fragment \"1-2-3\" violates the requirement")),
        ] {
            let got = number_of(text, 10);
            match want {
                Ok(n) => assert_eq!(got, Ok(n), "{text}"),
                Err(why) => assert!(got.as_ref().is_err_and(|e| e.starts_with(why)), "{text}: {got:?}"),
            }
        }
    }
}
