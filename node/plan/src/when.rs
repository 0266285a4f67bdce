//! Between [`Time`] and the API's times.

use copepod_model::Time;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time as Stamp};
use k8s_openapi::jiff::Timestamp;

/// A time as `metav1.Time`, cut to the second that its text keeps, so that equal texts compare equal.
pub fn stamp(t: Time) -> Stamp {
    Stamp(Timestamp::from_second(i64::try_from(t.secs()).unwrap_or(0)).unwrap_or_default())
}

/// A time as `metav1.MicroTime`.
pub fn micro(t: Time) -> MicroTime {
    MicroTime(Timestamp::from_microsecond(i64::try_from(t.0 / 1000).unwrap_or(0)).unwrap_or_default())
}

/// The time of a `metav1.Time`; what lies before the epoch is the epoch.
pub(crate) fn time(s: &Stamp) -> Time {
    Time(u64::try_from(s.0.as_nanosecond()).unwrap_or(0))
}
