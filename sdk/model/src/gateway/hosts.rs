//! Host names of listeners and routes: exact, or `*.` and a suffix, which stands for one label or more before it.

/// Whether `pattern` covers the name or the wildcard `host`. Both in lower case.
pub fn matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        // The suffix begins with a dot.
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => pattern == host,
    }
}

/// The host names of a route that a listener serves, each as narrow as the two together make it; `None` if there is none. An
/// empty list is any host.
pub fn intersection<'a>(listener: Option<&'a str>, route: &[impl AsRef<str> + 'a]) -> Option<Vec<String>> {
    let Some(own) = listener.filter(|h| !h.is_empty()) else {
        return Some(route.iter().map(|h| h.as_ref().to_string()).collect());
    };
    if route.is_empty() {
        return Some(vec![own.to_string()]);
    }
    let narrow = |host: &str| {
        if own == host || matches(own, host) {
            Some(host.to_string())
        } else {
            matches(host, own).then(|| own.to_string())
        }
    };
    let mut both: Vec<String> = Vec::new();
    for host in route.iter().filter_map(|h| narrow(h.as_ref())) {
        if !both.contains(&host) {
            both.push(host);
        }
    }
    (!both.is_empty()).then_some(both)
}
