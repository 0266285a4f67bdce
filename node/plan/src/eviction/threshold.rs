//! How little may be left of the node's memory and disks before pods have to go: the kubelet's hard thresholds.
//!
//! Source: Kubernetes' "Node-pressure Eviction" page and `pkg/kubelet/eviction/helpers.go`.

use std::fmt;

use copepod_model::quantity::Quantity;

/// An amount, or a share of all that there is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// In percent, more than 0 and less than 100.
    Percent(f64),
    /// Bytes or inodes.
    Exact(u64),
}

impl Amount {
    /// The amount, where there are `capacity` in all.
    pub fn of(self, capacity: u64) -> u64 {
        match self {
            Amount::Percent(percent) => (capacity as f64 * percent / 100.0) as u64,
            Amount::Exact(amount) => amount,
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Amount::Percent(percent) => write!(f, "{percent}%"),
            Amount::Exact(amount) => write!(f, "{}", bytes(*amount)),
        }
    }
}

/// As a quantity with binary suffixes.
pub(super) fn bytes(amount: u64) -> Quantity {
    Quantity::from_bytes(i64::try_from(amount).unwrap_or(i64::MAX))
}

/// With less than this the node's disks are short; `None` never are. The defaults are those of k3s: the kubelet's, a tenth
/// and 15 percent, would turn pods away on many a laptop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DiskThresholds {
    /// `nodefs.available`: bytes on the file system of volumes and logs. Pods are not promised them.
    pub nodefs_available: Option<Amount>,
    /// `nodefs.inodesFree`.
    pub nodefs_inodes_free: Option<Amount>,
    /// `imagefs.available`: bytes on the file system of images, which may be the same.
    pub imagefs_available: Option<Amount>,
    /// `imagefs.inodesFree`.
    pub imagefs_inodes_free: Option<Amount>,
}

impl Default for DiskThresholds {
    fn default() -> Self {
        DiskThresholds {
            nodefs_available: Some(Amount::Percent(5.0)),
            nodefs_inodes_free: Some(Amount::Percent(5.0)),
            imagefs_available: Some(Amount::Percent(5.0)),
            imagefs_inodes_free: Some(Amount::Percent(5.0)),
        }
    }
}

impl DiskThresholds {
    /// Signals with their thresholds.
    pub fn all(&self) -> [(&'static str, Option<Amount>); 4] {
        [
            ("nodefs.available", self.nodefs_available),
            ("nodefs.inodesFree", self.nodefs_inodes_free),
            ("imagefs.available", self.imagefs_available),
            ("imagefs.inodesFree", self.imagefs_inodes_free),
        ]
    }
}

/// The hard thresholds of a node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// `memory.available` in bytes.
    pub memory: i64,
    /// Those of the disks.
    pub disk: DiskThresholds,
}

impl Default for Thresholds {
    fn default() -> Self {
        Thresholds { memory: super::MEMORY_THRESHOLD, disk: DiskThresholds::default() }
    }
}

impl Thresholds {
    /// Reads the kubelet's `--eviction-hard`: `SIGNAL<AMOUNT` separated by commas, where `0%` and `100%` are none. What is not
    /// named keeps its default (`mergeDefaultEvictionSettings`). The error says what is wrong.
    pub fn parse(text: &str) -> Result<Thresholds, String> {
        let (mut out, mut seen) = (Thresholds::default(), Vec::new());
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let (signal, given) =
                part.split_once('<').ok_or_else(|| format!("{part:?} is not of the form SIGNAL<AMOUNT"))?;
            let (signal, given) = (signal.trim(), given.trim());
            if seen.contains(&signal) {
                return Err(format!("{signal} is given more than once"));
            }
            seen.push(signal);
            let to = match signal {
                "memory.available" => {
                    out.memory = match amount(signal, given)? {
                        None => 0,
                        Some(Amount::Exact(bytes)) => i64::try_from(bytes).unwrap_or(i64::MAX),
                        Some(Amount::Percent(_)) => return Err(format!("{signal}: {given:?} is no amount of bytes")),
                    };
                    continue;
                }
                "nodefs.available" => &mut out.disk.nodefs_available,
                "nodefs.inodesFree" => &mut out.disk.nodefs_inodes_free,
                "imagefs.available" => &mut out.disk.imagefs_available,
                "imagefs.inodesFree" => &mut out.disk.imagefs_inodes_free,
                _ => return Err(format!("unsupported eviction signal {signal}")),
            };
            *to = amount(signal, given)?;
        }
        Ok(out)
    }
}

fn amount(signal: &str, given: &str) -> Result<Option<Amount>, String> {
    let no_amount = || format!("{signal}: {given:?} is no amount");
    if let Some(percent) = given.strip_suffix('%') {
        let percent = percent.parse::<f64>().ok().filter(|p| p.is_finite()).ok_or_else(no_amount)?;
        if !(0.0..=100.0).contains(&percent) {
            return Err(format!("eviction percentage threshold {signal} must be from 0% to 100%: {given}"));
        }
        return Ok(Some(Amount::Percent(percent)).filter(|_| percent > 0.0 && percent < 100.0));
    }
    let quantity: Quantity = given.parse().map_err(|_| no_amount())?;
    match u64::try_from(quantity.value()) {
        Ok(amount) if amount > 0 => Ok(Some(Amount::Exact(amount))),
        _ => Err(format!("eviction threshold {signal} must be positive: {given}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_keeps_its_default() {
        let read = Thresholds::parse("memory.available<1Gi, nodefs.available<2.5%,imagefs.available<0%").unwrap();
        assert_eq!(read.memory, 1 << 30);
        assert_eq!(
            read.disk,
            DiskThresholds {
                nodefs_available: Some(Amount::Percent(2.5)),
                imagefs_available: None,
                ..DiskThresholds::default()
            }
        );
        assert_eq!(Thresholds::parse(""), Ok(Thresholds::default()));
        let texts = DiskThresholds::default().all().map(|(signal, t)| format!("{signal}<{}", t.unwrap()));
        let wanted = ["nodefs.available<5%", "nodefs.inodesFree<5%", "imagefs.available<5%", "imagefs.inodesFree<5%"];
        assert_eq!(texts, wanted);
        assert_eq!(Thresholds::parse(&texts.join(",")), Ok(Thresholds::default()));
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        for (text, why) in [
            ("nodefs.available", "\"nodefs.available\" is not of the form SIGNAL<AMOUNT"),
            ("pid.available<1", "unsupported eviction signal pid.available"),
            ("nodefs.available<1,nodefs.available<2", "nodefs.available is given more than once"),
            ("nodefs.available<x%", "nodefs.available: \"x%\" is no amount"),
            ("nodefs.available<1Qi", "nodefs.available: \"1Qi\" is no amount"),
            ("memory.available<5%", "memory.available: \"5%\" is no amount of bytes"),
            ("nodefs.inodesFree<0", "eviction threshold nodefs.inodesFree must be positive: 0"),
            ("imagefs.available<101%", "eviction percentage threshold imagefs.available must be from 0% to 100%: 101%"),
        ] {
            assert_eq!(Thresholds::parse(text).unwrap_err(), why);
        }
    }

    #[test]
    fn shares_are_of_all_that_there_is() {
        assert_eq!(Amount::Percent(10.0).of(1000), 100);
        assert_eq!(Amount::Exact(5).of(1000), 5);
        assert_eq!(Amount::Exact(1 << 60).to_string(), "1Ei");
    }
}
