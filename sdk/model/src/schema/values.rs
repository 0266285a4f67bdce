//! Scalars with a form of their own: quantities, times, durations, base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Number, Value};

use super::Special;
use crate::quantity::Quantity;
use crate::{Time, go_duration};

/// The canonical form of a text of a special type; `None` when it means "absent". The error is upstream's.
pub(super) fn canonical(special: Special, text: &str) -> Result<Option<String>, String> {
    Ok(Some(match special {
        Special::Quantity => quantity(text)?,
        Special::Time | Special::MicroTime => {
            if text.starts_with("0001-01-01T00:00:00") {
                return Ok(None);
            }
            let micro = special == Special::MicroTime;
            let time = Time::parse(text).ok_or_else(|| {
                let layout = if micro { "2006-01-02T15:04:05.000000Z07:00" } else { "2006-01-02T15:04:05Z07:00" };
                format!("parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\"")
            })?;
            if micro { time.rfc3339_micros() } else { time.rfc3339() }
        }
        Special::Duration => {
            let nanos = go_duration::parse(text).ok_or_else(|| format!("time: invalid duration {text:?}"))?;
            go_duration::print(nanos)
        }
        _ => text.to_string(),
    }))
}

fn quantity(text: &str) -> Result<String, String> {
    // Most quantities are whole numbers with few digits, which are canonical already.
    let b = text.as_bytes();
    if matches!(b.len(), 1..=2) && b.iter().all(u8::is_ascii_digit) && (b[0] != b'0' || b.len() == 1) {
        return Ok(text.to_string());
    }
    text.parse::<Quantity>().map(|q| q.to_string()).map_err(|e| e.to_string())
}

/// Checks base64 as Go does, which skips line breaks; the result is without them.
pub(super) fn base64_text(mut text: String) -> Result<String, String> {
    if text.contains(['\n', '\r']) {
        text.retain(|c| !matches!(c, '\n' | '\r'));
    }
    match STANDARD.decode(&text) {
        Ok(_) => Ok(text),
        Err(base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _)) => {
            Err(format!("illegal base64 data at input byte {at}"))
        }
        Err(_) => Err(format!("illegal base64 data at input byte {}", text.len())),
    }
}

pub(super) fn base64_decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

pub(super) fn base64_encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A float as Go writes it: without a point when it is whole.
pub(super) fn number(n: f64) -> Option<Value> {
    if n.fract() == 0.0 && n.abs() < 9_007_199_254_740_992.0 {
        return Some(Value::from(n as i64));
    }
    Number::from_f64(n).map(Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_go_reads_it() {
        assert_eq!(base64_text("YWI=\n".into()), Ok("YWI=".into()));
        assert_eq!(base64_text("YWI*".into()), Err("illegal base64 data at input byte 3".into()));
        assert!(base64_text("YWI".into()).is_err());
    }
}
