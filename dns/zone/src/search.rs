//! The resolver's side: which absolute names a pod means by a name.

/// How many dots make a name be tried as it is before the search list; what Kubernetes writes into a pod's resolv.conf.
pub const NDOTS: usize = 5;

/// The absolute names to try for `name`, in order and without final dots. A name with a final dot is meant literally;
/// one with at least `ndots` dots is tried as it is first, and any other last.
pub fn search<S: AsRef<str>>(name: &str, list: &[S], ndots: usize) -> Vec<String> {
    if let Some(absolute) = name.strip_suffix('.') {
        return vec![absolute.to_string()];
    }
    let expanded = list.iter().map(|suffix| format!("{name}.{}", suffix.as_ref().trim_end_matches('.')));
    if name.bytes().filter(|b| *b == b'.').count() >= ndots {
        std::iter::once(name.to_string()).chain(expanded).collect()
    } else {
        expanded.chain([name.to_string()]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_follow_ndots() {
        let list = ["shop.svc.cluster.local", "cluster.local."];
        for (name, ndots, want) in [
            ("web", NDOTS, vec!["web.shop.svc.cluster.local", "web.cluster.local", "web"]),
            ("web.other", NDOTS, vec!["web.other.shop.svc.cluster.local", "web.other.cluster.local", "web.other"]),
            (
                "a.b.c.d.e.f",
                NDOTS,
                vec!["a.b.c.d.e.f", "a.b.c.d.e.f.shop.svc.cluster.local", "a.b.c.d.e.f.cluster.local"],
            ),
            ("example.com.", NDOTS, vec!["example.com"]),
            ("example.com", 1, vec!["example.com", "example.com.shop.svc.cluster.local", "example.com.cluster.local"]),
        ] {
            assert_eq!(search(name, &list, ndots), want, "{name}");
        }
        assert_eq!(search("web", &[] as &[&str], NDOTS), ["web"]);
    }
}
