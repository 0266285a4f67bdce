//! `v1.PodLogOptions`: what of a log is wanted, as a query says it, and what is wrong with that, in upstream's words.

use std::num::IntErrorKind;

use crate::{FieldError, Time};

/// What of a container's log is wanted. The numbers are as they were given; [`PodLogOptions::errors`] says which may not be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodLogOptions {
    /// Go on with what is written later.
    pub follow: bool,
    /// The attempt before.
    pub previous: bool,
    /// Begin every line with its time.
    pub timestamps: bool,
    /// Only the last so many seconds.
    pub since_seconds: Option<i64>,
    /// Only what was said at or after this.
    pub since_time: Option<Time>,
    /// Only so many lines from the end.
    pub tail_lines: Option<i64>,
    /// Only so many bytes.
    pub limit_bytes: Option<i64>,
}

impl PodLogOptions {
    /// The parameters' names.
    pub const NAMES: [&str; 7] =
        ["follow", "previous", "timestamps", "sinceSeconds", "sinceTime", "tailLines", "limitBytes"];

    /// From the parameters that `get` finds; the error is the message of a 400.
    pub fn read<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<PodLogOptions, String> {
        let flag = |name| get(name).is_some_and(|v| v != "0" && !v.eq_ignore_ascii_case("false"));
        let number = |name| get(name).map(number).transpose();
        let time = |text: &str| Time::parse(text).ok_or_else(|| no_time(text));
        Ok(PodLogOptions {
            follow: flag("follow"),
            previous: flag("previous"),
            timestamps: flag("timestamps"),
            since_seconds: number("sinceSeconds")?,
            since_time: get("sinceTime").filter(|t| !t.is_empty()).map(time).transpose()?,
            tail_lines: number("tailLines")?,
            limit_bytes: number("limitBytes")?,
        })
    }

    /// What may not be asked for (core `ValidatePodLogOptions`).
    pub fn errors(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut least = |field: &str, given: Option<i64>, least: i64, why: &str| {
            if let Some(n) = given.filter(|n| *n < least) {
                errors.push(FieldError::invalid(field, n, why));
            }
        };
        least("tailLines", self.tail_lines, 0, "must be greater than or equal to 0");
        least("limitBytes", self.limit_bytes, 1, "must be greater than 0");
        if self.since_time.is_none() {
            least("sinceSeconds", self.since_seconds, 1, "must be greater than 0");
        } else if self.since_seconds.is_some() {
            errors.push(FieldError::forbidden("", "at most one of `sinceTime` or `sinceSeconds` may be specified"));
        }
        errors
    }
}

/// `strconv.ParseInt`.
fn number(text: &str) -> Result<i64, String> {
    text.parse::<i64>().map_err(|e| {
        let range = matches!(e.kind(), IntErrorKind::PosOverflow | IntErrorKind::NegOverflow);
        let why = if range { "value out of range" } else { "invalid syntax" };
        format!("strconv.ParseInt: parsing {text:?}: {why}")
    })
}

/// What `time.Parse` says of what is no time: the first part of its layout that is not there.
fn no_time(text: &str) -> String {
    const LAYOUT: [&str; 12] = ["2006", "-", "01", "-", "02", "T", "15", ":", "04", ":", "05", "Z07:00"];
    let mut rest = text;
    for part in LAYOUT {
        let digits = part.bytes().all(|b| b.is_ascii_digit());
        let there = rest.get(..part.len()).filter(|found| match digits {
            true => found.bytes().all(|b| b.is_ascii_digit()),
            false => *found == part,
        });
        if there.is_none() {
            return format!("parsing time {text:?} as \"{}\": cannot parse {rest:?} as {part:?}", LAYOUT.concat());
        }
        rest = &rest[part.len()..];
    }
    format!("parsing time {text:?}: out of range")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &[(&str, &str)]) -> Result<PodLogOptions, String> {
        PodLogOptions::read(|name| query.iter().find(|(n, _)| *n == name).map(|(_, v)| *v))
    }

    #[test]
    fn parameters_are_read() {
        let all = [("follow", ""), ("timestamps", "yes"), ("tailLines", "5"), ("sinceTime", "1970-01-01T00:00:05Z")];
        let want = PodLogOptions {
            follow: true,
            timestamps: true,
            tail_lines: Some(5),
            since_time: Some(Time::from_secs(5)),
            ..PodLogOptions::default()
        };
        assert_eq!(read(&all), Ok(want));
        assert_eq!(read(&[("follow", "False"), ("previous", "0")]), Ok(PodLogOptions::default()));
        for (name, value, want) in [
            ("tailLines", "abc", "strconv.ParseInt: parsing \"abc\": invalid syntax"),
            ("limitBytes", "", "strconv.ParseInt: parsing \"\": invalid syntax"),
            (
                "sinceSeconds",
                "9223372036854775808",
                "strconv.ParseInt: parsing \"9223372036854775808\": value out of range",
            ),
            (
                "sinceTime",
                "yesterday",
                "parsing time \"yesterday\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"yesterday\" as \"2006\"",
            ),
            (
                "sinceTime",
                "2026-01-02",
                "parsing time \"2026-01-02\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"\" as \"T\"",
            ),
        ] {
            assert_eq!(read(&[(name, value)]), Err(want.to_string()));
        }
    }

    #[test]
    fn what_may_not_be_asked_for_is_said() {
        let errors = |query: &[(&str, &str)]| {
            read(query).unwrap().errors().iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        for (query, want) in [
            (&[("tailLines", "0")][..], ""),
            (&[("tailLines", "-1")], "tailLines: Invalid value: -1: must be greater than or equal to 0"),
            (&[("limitBytes", "0")], "limitBytes: Invalid value: 0: must be greater than 0"),
            (&[("sinceSeconds", "-5")], "sinceSeconds: Invalid value: -5: must be greater than 0"),
            (
                &[("sinceSeconds", "5"), ("sinceTime", "2026-01-02T03:04:05Z")],
                ": Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified",
            ),
        ] {
            assert_eq!(errors(query), want);
        }
    }
}
