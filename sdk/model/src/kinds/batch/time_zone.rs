//! The names of time zones (IANA's tz database).

/// All zones and links, one a line.
const NAMES: &str = include_str!("time_zones.txt");

/// What is wrong with `spec.timeZone` of a CronJob, in upstream's words.
pub(super) fn problem(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("timeZone must be nil or non-empty string".into());
    }
    if name.eq_ignore_ascii_case("Local") {
        let why = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        return Some(why.into());
    }
    (!NAMES.lines().any(|n| n == name)).then(|| format!("unknown time zone {name}"))
}

#[cfg(test)]
mod tests {
    use super::problem;

    #[test]
    fn names_are_those_of_the_database() {
        for name in ["UTC", "Etc/UTC", "Europe/Vienna", "America/Argentina/Buenos_Aires", "EST5EDT"] {
            assert_eq!(problem(name), None, "{name}");
        }
        assert_eq!(problem("Mars/Base"), Some("unknown time zone Mars/Base".into()));
        assert_eq!(problem("../UTC"), Some("unknown time zone ../UTC".into()));
        assert!(problem("local").is_some_and(|why| why.contains("explicit")));
        assert!(problem("").is_some_and(|why| why.contains("non-empty")));
    }
}
