//! Name formats (apimachinery `pkg/util/validation`), with upstream's messages.

use std::net::IpAddr;

/// RFC 1123 subdomain, at most 253 bytes.
pub fn subdomain(name: &str) -> Result<(), String> {
    at_most(name, 253)?;
    if is_subdomain(name) {
        return Ok(());
    }
    Err("a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and \
         end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
         '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        .into())
}

/// A fully qualified domain name of at least two labels, which may end in a dot.
pub fn domain(name: &str) -> Result<(), String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    subdomain(name)?;
    if !name.contains('.') {
        return Err("should be a domain with at least two segments separated by dots".into());
    }
    name.split('.').try_for_each(label)
}

/// RFC 1123 label, at most 63 bytes.
pub fn label(name: &str) -> Result<(), String> {
    at_most(name, 63)?;
    if label_chars(name) {
        return Ok(());
    }
    if is_subdomain(name) {
        return Err("must not contain dots".into());
    }
    Err("a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an \
         alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
        .into())
}

/// RFC 1035 label, at most 63 bytes: what a Service's name must be.
pub fn label_1035(name: &str) -> Result<(), String> {
    at_most(name, 63)?;
    if label_chars(name) && name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Ok(());
    }
    Err("a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and \
         end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is \
         '[a-z]([-a-z0-9]*[a-z0-9])?')"
        .into())
}

/// `*.` and an RFC 1123 subdomain.
pub fn wildcard_subdomain(name: &str) -> Result<(), String> {
    at_most(name, 253)?;
    if name.strip_prefix("*.").is_some_and(is_subdomain) {
        return Ok(());
    }
    Err("a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower \
         case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used \
         for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        .into())
}

/// A path segment: what RBAC's names must be, which may hold colons.
pub fn path_segment(name: &str) -> Result<(), String> {
    if name == "." || name == ".." {
        return Err(format!("may not be '{name}'"));
    }
    let bad: Vec<&str> = ["/", "%"].into_iter().filter(|c| name.contains(c)).collect();
    match bad.as_slice() {
        [] => Ok(()),
        [first, ..] => Err(format!("may not contain '{first}'")),
    }
}

/// A label or annotation key: an optional subdomain and `/`, and a name of at most 63 bytes.
pub fn qualified(name: &str) -> Result<(), String> {
    let mut parts = name.split('/');
    let (prefix, name) = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, _) => (None, name),
        (Some(prefix), Some(name), None) => (Some(prefix), name),
        _ => {
            return Err(format!(
                "a qualified name {QUALIFIED} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            ));
        }
    };
    if let Some(prefix) = prefix {
        if prefix.is_empty() {
            return Err("prefix part must be non-empty".into());
        }
        subdomain(prefix).map_err(|why| format!("prefix part {why}"))?;
    }
    if name.is_empty() {
        return Err("name part must be non-empty".into());
    }
    at_most(name, 63).map_err(|why| format!("name part {why}"))?;
    if qualified_chars(name) { Ok(()) } else { Err(format!("name part {QUALIFIED}")) }
}

const QUALIFIED: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric \
     character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
     '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

/// A label's value.
pub fn label_value(value: &str) -> Result<(), String> {
    at_most(value, 63)?;
    if value.is_empty() || qualified_chars(value) {
        return Ok(());
    }
    Err("a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end \
         with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
         '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
        .into())
}

/// A key of a ConfigMap's or Secret's data.
pub fn config_key(key: &str) -> Result<(), String> {
    at_most(key, 253)?;
    if key.is_empty() || !key.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_')) {
        return Err(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
                    'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
                .into(),
        );
    }
    if key == "." || key == ".." {
        return Err(format!("must not be '{key}'"));
    }
    if key.starts_with("..") {
        return Err("must not start with '..'".into());
    }
    Ok(())
}

/// The name of an environment variable, by the rules since Kubernetes 1.34.
pub fn env_var(name: &str) -> Result<(), String> {
    if name.bytes().all(|c| (b' '..=b'~').contains(&c) && c != b'=') {
        return Ok(());
    }
    Err("a valid environment variable name must consist only of printable ASCII characters other than '='".into())
}

/// The name of a port.
pub fn port_name(name: &str) -> Result<(), String> {
    at_most(name, 15)?;
    let b = name.as_bytes();
    if !b.iter().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == b'-') {
        return Err("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !b.iter().any(u8::is_ascii_lowercase) {
        return Err("must contain at least one letter (a-z)".into());
    }
    if name.contains("--") {
        return Err("must not contain consecutive hyphens".into());
    }
    if name.starts_with('-') || name.ends_with('-') {
        return Err("must not begin or end with a hyphen".into());
    }
    Ok(())
}

/// The name of an HTTP header.
pub fn header_name(name: &str) -> Result<(), String> {
    if !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-') {
        return Ok(());
    }
    Err("a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation \
         is '[-A-Za-z0-9]+')"
        .into())
}

/// The path of a URL.
pub fn http_path(path: &str) -> Result<(), String> {
    if !path.is_empty() && path.bytes().all(|c| c.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&c)) {
        return Ok(());
    }
    Err("Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')".into())
}

/// An IPv4 or IPv6 address.
pub fn ip(text: &str) -> Result<(), String> {
    match text.parse::<std::net::IpAddr>() {
        Ok(_) => Ok(()),
        Err(_) => Err("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".into()),
    }
}

/// The address of an endpoint (core `ValidateEndpointIP`): none that means each machine's own or its link's.
pub fn endpoint_ip(text: &str) -> Result<(), String> {
    ip(text)?;
    let Ok(address) = text.parse::<std::net::IpAddr>() else { return Ok(()) };
    let (link_local, link_multicast) = match address {
        std::net::IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        std::net::IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02),
    };
    Err(match () {
        () if address.is_unspecified() => format!("may not be unspecified ({text})"),
        () if address.is_loopback() => "may not be in the loopback range (127.0.0.0/8, ::1/128)".into(),
        () if link_local => "may not be in the link-local range (169.254.0.0/16, fe80::/10)".into(),
        () if link_multicast => "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".into(),
        () => return Ok(()),
    })
}

/// A network as `ADDRESS/BITS`: its address, as it was written, and the length of its prefix.
pub fn cidr(text: &str) -> Result<(IpAddr, u8), String> {
    let parse = || {
        let (ip, bits) = text.split_once('/')?;
        let ip: IpAddr = ip.parse().ok()?;
        let most = if ip.is_ipv4() { 32 } else { 128 };
        // Neither signs nor leading zeros.
        let bits = bits.parse::<u8>().ok().filter(|n| *n <= most && n.to_string() == bits)?;
        Some((ip, bits))
    };
    parse().ok_or_else(|| "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".into())
}

/// Whether an address begins with the first `bits` bits of another one of its family.
pub fn in_network(ip: IpAddr, network: IpAddr, bits: u8) -> bool {
    let bits = u32::from(bits);
    match (ip, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= bits,
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= bits,
        _ => false,
    }
}

/// A port number.
pub fn port_number(n: i64) -> Result<(), String> {
    if (1..=65_535).contains(&n) { Ok(()) } else { Err("must be between 1 and 65535, inclusive".into()) }
}

fn at_most(name: &str, max: usize) -> Result<(), String> {
    if name.len() > max { Err(format!("must be no more than {max} bytes")) } else { Ok(()) }
}

fn is_subdomain(name: &str) -> bool {
    name.split('.').all(label_chars)
}

fn label_chars(part: &str) -> bool {
    let ok = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let b = part.as_bytes();
    !b.is_empty() && b.iter().all(|c| ok(*c) || *c == b'-') && ok(b[0]) && ok(b[b.len() - 1])
}

fn qualified_chars(name: &str) -> bool {
    let b = name.as_bytes();
    let edge = |c: Option<&u8>| c.is_some_and(u8::is_ascii_alphanumeric);
    b.iter().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.')) && edge(b.first()) && edge(b.last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_and_what_does_not() {
        type Rule = fn(&str) -> Result<(), String>;
        type Case = (Rule, &'static [&'static str], &'static [(&'static str, &'static str)]);
        let cases: [Case; 7] = [
            (
                label,
                &["a", "a-1"],
                &[("a.b", "must not contain dots"), ("A", "a lowercase RFC 1123 label"), ("", "a lower")],
            ),
            (
                subdomain,
                &["a.b-c.1"],
                &[("a..b", "a lowercase RFC 1123 subdomain"), ("-a", "a lower"), ("a_b", "a lower")],
            ),
            (label_1035, &["web"], &[("1web", "a DNS-1035 label")]),
            (
                qualified,
                &["a", "A_b.c", "example.com/x"],
                &[
                    ("/x", "prefix part must"),
                    ("a/", "name part must be non"),
                    ("a/b/c", "a qualified name"),
                    ("-a", "name part"),
                ],
            ),
            (
                config_key,
                &["a.b_c-D"],
                &[("..x", "must not start with"), (".", "must not be '.'"), ("a b", "a valid config")],
            ),
            (
                port_name,
                &["http-1"],
                &[("1", "at least one"), ("a--b", "consecutive"), ("Http", "only alpha"), ("a-", "end")],
            ),
            (env_var, &["A", "a b", "1"], &[("a=b", "printable ASCII"), ("é", "printable ASCII")]),
        ];
        for (rule, good, bad) in cases {
            for name in good {
                assert_eq!(rule(name), Ok(()), "{name}");
            }
            for (name, why) in bad {
                assert!(rule(name).is_err_and(|e| e.contains(why)), "{name}: {:?}", rule(name));
            }
        }
        assert_eq!(label(&"a".repeat(64)), Err("must be no more than 63 bytes".into()));
    }
}
