//! Kubernetes' resource quantities (apimachinery `pkg/api/resource`): parsing, canonical text, comparison.

use std::fmt;
use std::str::FromStr;

/// An exact amount of a resource, to a billionth, with the suffix family it was written in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Format {
    #[default]
    DecimalSi,
    BinarySi,
    DecimalExponent,
}

const NANO: i128 = 1_000_000_000;
/// The greatest magnitude upstream keeps: 2^63-1 units.
const MAX: i128 = i64::MAX as i128 * NANO;

impl Quantity {
    /// Whole units, such as bytes or objects.
    pub fn from_units(units: i64) -> Quantity {
        Quantity { nanos: i128::from(units) * NANO, format: Format::DecimalSi }
    }
    /// Bytes, printed with binary suffixes.
    pub fn from_bytes(bytes: i64) -> Quantity {
        Quantity { nanos: i128::from(bytes) * NANO, format: Format::BinarySi }
    }
    /// Thousandths, such as millicores.
    pub fn from_millis(millis: i64) -> Quantity {
        Quantity { nanos: i128::from(millis) * 1_000_000, format: Format::DecimalSi }
    }
    /// Billionths, such as nanocores.
    pub fn from_nanos(nanos: i64) -> Quantity {
        Quantity { nanos: i128::from(nanos), format: Format::DecimalSi }
    }
    /// In whole units, rounded up.
    pub fn value(&self) -> i64 {
        ceil_div(self.nanos, NANO)
    }
    /// In thousandths, rounded up.
    pub fn millis(&self) -> i64 {
        ceil_div(self.nanos, 1_000_000)
    }
    /// Whether it is below zero.
    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }
    /// Whether it is a whole number of units.
    pub fn is_integer(&self) -> bool {
        self.nanos % NANO == 0
    }
}

fn ceil_div(a: i128, b: i128) -> i64 {
    let q = if a > 0 { (a + b - 1) / b } else { a / b };
    i64::try_from(q).unwrap_or(if q < 0 { i64::MIN } else { i64::MAX })
}

/// What is wrong with the text of a quantity, in upstream's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
pub struct ParseError;

impl FromStr for Quantity {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Quantity, ParseError> {
        let split = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
        let (number, suffix) = text.split_at(split);
        let (negative, digits) = match number.as_bytes().first() {
            Some(b'-') => (true, &number[1..]),
            Some(b'+') => (false, &number[1..]),
            _ => (false, number),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if (whole.is_empty() && fraction.is_empty())
            || ![whole, fraction].iter().all(|p| p.bytes().all(|b| b.is_ascii_digit()))
        {
            return Err(ParseError);
        }
        let (format, numerator, denominator) = scale(suffix)?;
        // value = whole.fraction * numerator / denominator, rounded away from zero to a billionth, as upstream does.
        let fraction = fraction.trim_end_matches('0');
        let fraction = &fraction[..fraction.len().min(18)];
        let mut mantissa: i128 = 0;
        for b in whole.trim_start_matches('0').bytes().chain(fraction.bytes()) {
            mantissa = mantissa.checked_mul(10).and_then(|m| m.checked_add(i128::from(b - b'0'))).unwrap_or(i128::MAX);
        }
        let bottom = 10i128.pow(fraction.len() as u32);
        let nanos = mantissa
            .checked_mul(numerator)
            .map(|top| {
                let bottom = bottom.saturating_mul(denominator);
                // Both are positive; what is added last cannot overflow, since only a rest is rounded up.
                top / bottom + i128::from(top % bottom != 0)
            })
            .or_else(|| (mantissa / bottom).checked_mul(numerator / denominator))
            .unwrap_or(MAX)
            .min(MAX);
        Ok(Quantity { nanos: if negative { -nanos } else { nanos }, format })
    }
}

/// (family, numerator, denominator): the suffix' factor in nano-units as a fraction.
fn scale(suffix: &str) -> Result<(Format, i128, i128), ParseError> {
    let binary = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    if let Some(i) = binary.iter().position(|s| *s == suffix) {
        return Ok((Format::BinarySi, NANO << (10 * (i + 1)), 1));
    }
    let decimal = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
    if let Some(i) = decimal.iter().position(|s| *s == suffix) {
        return Ok((Format::DecimalSi, 1000i128.pow(i as u32), 1));
    }
    let exponent = suffix.strip_prefix(['e', 'E']).ok_or(ParseError)?;
    let e: i32 = exponent.parse().map_err(|_| ParseError)?;
    let power = |n: i32| 10i128.checked_pow(n.unsigned_abs()).unwrap_or(i128::MAX);
    let e = e.saturating_add(9);
    Ok(if e >= 0 {
        (Format::DecimalExponent, power(e.min(30)), 1)
    } else {
        (Format::DecimalExponent, 1, power(e.max(-30)))
    })
}

impl fmt::Display for Quantity {
    /// Canonical text: no fraction, the greatest suffix that leaves a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let units = self.nanos / NANO;
        if self.format == Format::BinarySi && self.nanos % NANO == 0 && units.abs() >= 1024 {
            let mut n = units;
            let mut at = 0;
            while n % 1024 == 0 && at < 6 {
                n /= 1024;
                at += 1;
            }
            return write!(f, "{n}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][at]);
        }
        let mut n = self.nanos;
        let mut at = 0;
        while n % 1000 == 0 && at < 9 {
            n /= 1000;
            at += 1;
        }
        match self.format {
            Format::DecimalExponent if at != 3 => write!(f, "{n}e{}", at as i32 * 3 - 9),
            Format::DecimalExponent => write!(f, "{n}"),
            _ => write!(f, "{n}{}", ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][at]),
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Quantity) -> bool {
        self.nanos == other.nanos
    }
}
impl Eq for Quantity {}
impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Quantity) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Quantity {
    fn cmp(&self, other: &Quantity) -> std::cmp::Ordering {
        self.nanos.cmp(&other.nanos)
    }
}
impl std::ops::Add for Quantity {
    type Output = Quantity;
    fn add(self, other: Quantity) -> Quantity {
        let format = if self.nanos == 0 { other.format } else { self.format };
        Quantity { nanos: (self.nanos + other.nanos).clamp(-MAX, MAX), format }
    }
}
impl std::ops::Sub for Quantity {
    type Output = Quantity;
    fn sub(self, other: Quantity) -> Quantity {
        Quantity { nanos: (self.nanos - other.nanos).clamp(-MAX, MAX), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_text() {
        for (given, want) in [
            ("0", "0"),
            ("0.5", "500m"),
            ("1500m", "1500m"),
            ("1000m", "1"),
            ("1.5Gi", "1536Mi"),
            ("1024Ki", "1Mi"),
            ("100Mi", "100Mi"),
            ("1000k", "1M"),
            ("1e3", "1e3"),
            ("1E", "1E"),
            ("12e6", "12e6"),
            ("0.1Ki", "102400m"),
            ("-1", "-1"),
            ("+2", "2"),
            (".5", "500m"),
            ("1000Ki", "1000Ki"),
            ("512", "512"),
            ("1n", "1n"),
            ("1e0", "1"),
            ("9223372036854775807", "9223372036854775807"),
            ("99999999999999999999", "9223372036854775807"),
            ("999999999999999999999999999999999999999999n", "9223372036854775807"),
            ("1e2147483647", "9223372036854775807"),
            ("1e-2147483648", "1e-9"),
        ] {
            assert_eq!(given.parse::<Quantity>().unwrap().to_string(), want, "{given}");
        }
        for bad in ["", "a", "1.2.3", "1 Mi", "Mi", "1mi", "--1", "1e", "1ee3", "+-1", "1Zi"] {
            assert!(bad.parse::<Quantity>().is_err(), "{bad}");
        }
    }

    #[test]
    fn units() {
        let q: Quantity = "250m".parse().unwrap();
        assert_eq!((q.millis(), q.value()), (250, 1));
        assert_eq!(Quantity::from_nanos(1_500_000).to_string(), "1500u");
        assert_eq!("64Mi".parse::<Quantity>().unwrap().value(), 64 << 20);
        assert_eq!("1".parse::<Quantity>().unwrap(), "1000m".parse().unwrap());
    }
}
