//! Something for each host, of which the closest counts.

use std::collections::HashMap;

use crate::hosts::suffixes;

/// By host in lower case.
#[derive(Debug)]
pub(crate) struct ByHost<T> {
    exact: HashMap<Box<str>, T>,
    /// By what follows `*.`.
    wildcard: HashMap<Box<str>, T>,
    any: Option<T>,
}

impl<T> Default for ByHost<T> {
    fn default() -> Self {
        ByHost { exact: HashMap::new(), wildcard: HashMap::new(), any: None }
    }
}

impl<T> ByHost<T> {
    /// What there is for a host (`None` is any, `*.` begins a wildcard), made if there is nothing.
    pub(crate) fn or_insert_with(&mut self, host: Option<&str>, make: impl FnOnce() -> T) -> &mut T {
        match host.map(|h| (h, h.strip_prefix("*."))) {
            None => self.any.get_or_insert_with(make),
            Some((_, Some(suffix))) => self.wildcard.entry(suffix.into()).or_insert_with(make),
            Some((host, None)) => self.exact.entry(host.into()).or_insert_with(make),
        }
    }

    /// The closest one: the host itself before wildcards, the longer ones first, before any host.
    pub(crate) fn find(&self, host: &str) -> Option<&T> {
        let wildcard = || suffixes(host).find_map(|suffix| self.wildcard.get(suffix));
        self.exact.get(host).or_else(wildcard).or(self.any.as_ref())
    }

    /// Whether there is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcard.is_empty() && self.any.is_none()
    }

    /// All, in no order.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.exact.values_mut().chain(self.wildcard.values_mut()).chain(&mut self.any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_one_counts_and_the_first_one_stays() {
        let mut all = ByHost::default();
        for (i, host) in [Some("a.b.test"), Some("*.b.test"), Some("*.test"), Some("*.test"), None].iter().enumerate() {
            all.or_insert_with(*host, || i);
        }
        for (host, want) in [("a.b.test", 0), ("x.b.test", 1), ("x.y.b.test", 1), ("b.test", 2), ("test", 4), ("", 4)] {
            assert_eq!(all.find(host), Some(&want), "{host}");
        }
        assert_eq!(ByHost::<u8>::default().find("a"), None);
    }
}
