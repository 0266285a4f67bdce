//! Numbers of pods, or percentages of them (`intstr.IntOrString`).

use serde_json::Value;

use super::fields::{Path, nonnegative};
use crate::FieldError;

/// What a valid value comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bound {
    /// `0` or `0%`.
    Zero,
    /// A number, or up to `100%`.
    Some,
    /// More than `100%`.
    AboveWhole,
}

/// A number of pods or a percentage of them; `None` when it is neither.
pub(super) fn bound(path: Path<'_>, v: &Value, errors: &mut Vec<FieldError>) -> Option<Bound> {
    match v {
        Value::String(s) => {
            let percent = s.strip_suffix('%').filter(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()));
            let Some(percent) = percent else {
                let why = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', \
                           regex used for validation is '[0-9]+%')";
                errors.push(FieldError::invalid(path, s.as_str(), why));
                return None;
            };
            Some(match percent.parse::<u32>() {
                Ok(0) => Bound::Zero,
                Ok(1..=100) => Bound::Some,
                _ => Bound::AboveWhole,
            })
        }
        other => {
            nonnegative(path, other, errors);
            Some(if other.as_i64() == Some(0) { Bound::Zero } else { Bound::Some })
        }
    }
}

/// The same of a value that must not be more than everything.
pub(super) fn at_most_all(path: Path<'_>, v: &Value, errors: &mut Vec<FieldError>) -> Option<Bound> {
    let bound = bound(path, v, errors);
    if bound == Some(Bound::AboveWhole) {
        errors.push(FieldError::invalid(path, v.clone(), "must not be greater than 100%"));
    }
    bound
}
