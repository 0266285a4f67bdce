//! The times that a CronJob's `spec.schedule` names: five fields, or a descriptor such as `@daily` or `@every 1h30m`, as
//! the cron library that Kubernetes uses reads them, with its words for what is wrong.

use std::time::Duration;

use crate::go_duration;

/// A parsed schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// By the calendar. Each set has a bit for each value that matches.
    Calendar {
        /// 0 to 59.
        minutes: u64,
        /// 0 to 23.
        hours: u64,
        /// Days of the month, 1 to 31.
        days: u64,
        /// 1 to 12.
        months: u64,
        /// Days of the week, 0 (Sunday) to 6.
        weekdays: u64,
        /// Whether the day of the month and that of the week were both restricted: then either will do.
        either_day: bool,
    },
    /// At an interval, of whole seconds and at least one.
    Every(Duration),
}

struct Field {
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const MINUTES: Field = Field { min: 0, max: 59, names: &[] };
const HOURS: Field = Field { min: 0, max: 23, names: &[] };
const DAYS: Field = Field { min: 1, max: 31, names: &[] };
const MONTHS: Field = Field {
    min: 1,
    max: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAYS: Field = Field { min: 0, max: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

impl Schedule {
    /// Parses a schedule; a leading `TZ=` or `CRON_TZ=` is read past, since validation refuses it in words of its own.
    pub fn parse(text: &str) -> Result<Schedule, String> {
        if text.is_empty() {
            return Err("empty spec string".into());
        }
        let mut rest = text;
        if text.starts_with("TZ=") || text.starts_with("CRON_TZ=") {
            rest = text.split_once(' ').map_or("", |(_, r)| r.trim());
        }
        if let Some(name) = rest.strip_prefix('@') {
            return descriptor(name, rest);
        }
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields.as_slice() else {
            return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
        };
        let (days_set, any_day) = set(days, &DAYS)?;
        let (weekdays_set, any_weekday) = set(weekdays, &WEEKDAYS)?;
        Ok(Schedule::Calendar {
            minutes: set(minutes, &MINUTES)?.0,
            hours: set(hours, &HOURS)?.0,
            days: days_set,
            months: set(months, &MONTHS)?.0,
            weekdays: weekdays_set,
            either_day: !any_day && !any_weekday,
        })
    }
}

fn descriptor(name: &str, whole: &str) -> Result<Schedule, String> {
    let fields = match name {
        "yearly" | "annually" => "0 0 1 1 *",
        "monthly" => "0 0 1 * *",
        "weekly" => "0 0 * * 0",
        "daily" | "midnight" => "0 0 * * *",
        "hourly" => "0 * * * *",
        _ => {
            let Some(given) = name.strip_prefix("every ") else {
                return Err(format!("unrecognized descriptor: {whole}"));
            };
            let Some(nanos) = go_duration::parse(given) else {
                return Err(format!("failed to parse duration {whole}: time: invalid duration {given:?}"));
            };
            // Fractions of a second are cut off, and there is at least one.
            let seconds = u64::try_from(nanos / 1_000_000_000).unwrap_or(0).max(1);
            return Ok(Schedule::Every(Duration::from_secs(seconds)));
        }
    };
    Schedule::parse(fields)
}

/// The set of a field, and whether it was a star without a step.
fn set(text: &str, field: &Field) -> Result<(u64, bool), String> {
    let (mut bits, mut star) = (0, false);
    for part in text.split(',').filter(|p| !p.is_empty()) {
        let (b, s) = range(part, field)?;
        bits |= b;
        star |= s;
    }
    Ok((bits, star))
}

fn range(part: &str, field: &Field) -> Result<(u64, bool), String> {
    let mut slashes = part.split('/');
    let span = slashes.next().unwrap_or_default();
    let step_text = slashes.next();
    let mut hyphens = span.split('-');
    let low = hyphens.next().unwrap_or_default();
    let high = hyphens.next();
    let mut star = false;
    let (start, mut end) = if low == "*" || low == "?" {
        star = true;
        (field.min, field.max)
    } else {
        let start = value(low, field)?;
        match high {
            None => (start, start),
            Some(_) if hyphens.next().is_some() => return Err(format!("too many hyphens: {part}")),
            Some(high) => (start, value(high, field)?),
        }
    };
    let step = match step_text {
        None => 1,
        Some(_) if slashes.next().is_some() => return Err(format!("too many slashes: {part}")),
        Some(step) => {
            let step = number(step)?;
            // `N/step` means from N to the end.
            if high.is_none() && !star {
                end = field.max;
            }
            if step > 1 {
                star = false;
            }
            step
        }
    };
    if start < field.min {
        return Err(format!("beginning of range ({start}) below minimum ({}): {part}", field.min));
    }
    if end > field.max {
        return Err(format!("end of range ({end}) above maximum ({}): {part}", field.max));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {part}"));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {part}"));
    }
    let mut bits = 0;
    let mut at = start;
    while at <= end {
        bits |= 1u64 << at;
        let Some(next) = at.checked_add(step) else { break };
        at = next;
    }
    Ok((bits, star))
}

fn value(text: &str, field: &Field) -> Result<u32, String> {
    let lower = text.to_lowercase();
    match field.names.iter().position(|n| *n == lower) {
        Some(i) => Ok(field.min + i as u32),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax"));
    }
    let Ok(n) = text.parse::<i64>() else {
        return Err(format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: value out of range"));
    };
    if n < 0 {
        return Err(format!("negative number ({n}) not allowed: {text}"));
    }
    // Whatever is greater than a field's end is refused there.
    Ok(u32::try_from(n).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_become_sets() {
        let bits = |all: &[u32]| all.iter().fold(0u64, |b, n| b | 1 << n);
        let calendar = |text| match Schedule::parse(text) {
            Ok(Schedule::Calendar { minutes, hours, days, months, weekdays, either_day }) => {
                (minutes, hours, days, months, weekdays, either_day)
            }
            other => panic!("{text}: {other:?}"),
        };
        let every = |from: u32, to: u32| (from..=to).fold(0u64, |b, n| b | 1 << n);
        assert_eq!(calendar("* * * * *"), (every(0, 59), every(0, 23), every(1, 31), every(1, 12), every(0, 6), false));
        let c = calendar("*/15 1-5,20 1 JAN-mar,12 mon");
        assert_eq!((c.0, c.1), (bits(&[0, 15, 30, 45]), bits(&[1, 2, 3, 4, 5, 20])));
        assert_eq!((c.2, c.3, c.4, c.5), (bits(&[1]), bits(&[1, 2, 3, 12]), bits(&[1]), true));
        assert_eq!(calendar("50/5 ? 1 * ?").0, bits(&[50, 55]));
        assert!(!calendar("0 0 1 * ?").5);
        assert_eq!(calendar("@weekly"), calendar("0 0 * * 0"));
        assert_eq!(calendar("TZ=UTC 0 0 * * 0"), calendar("@weekly"));
        for (text, seconds) in [("@every 1h30m", 5400), ("@every 1.5s", 1), ("@every 10ms", 1), ("@every -2h", 1)] {
            assert_eq!(Schedule::parse(text), Ok(Schedule::Every(Duration::from_secs(seconds))), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_the_librarys_words() {
        for (text, want) in [
            ("", "empty spec string"),
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("* * * * * *", "expected exactly 5 fields, found 6: [* * * * * *]"),
            ("x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("*/2/3 * * * *", "too many slashes: */2/3"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("* 99999999999999999999 * * *", "failed to parse int from 99999999999999999999: strconv.Atoi: parsing"),
            ("@never", "unrecognized descriptor: @never"),
            ("@every day", "failed to parse duration @every day: time: invalid duration \"day\""),
        ] {
            assert!(Schedule::parse(text).is_err_and(|e| e.starts_with(want)), "{text}: {:?}", Schedule::parse(text));
        }
        // A step that is greater than everything leaves the start.
        assert!(Schedule::parse("1/4294967295 * * * *").is_ok());
    }
}
